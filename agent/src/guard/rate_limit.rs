//! The platform's budget: how many kills may happen in the whole cluster in any minute.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use policy::record::OptInStatus;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// The budget, shared by all namespaces. The records tell what earlier processes spent.
#[derive(Debug, Clone)]
pub struct KillRateLimit {
    kills_per_minute: usize,
    spent: Arc<Mutex<Spent>>,
}

#[derive(Debug, Default)]
struct Spent {
    /// When each kill ended.
    kills: Vec<Instant>,
    /// Kills that are under way. They count until they end.
    reserved: usize,
}

/// A reservation of one kill. Dropping it without [`Reserved::spend`] gives the kill back.
#[derive(Debug)]
#[must_use]
pub struct Reserved(KillRateLimit);

impl Reserved {
    /// Counts the kill at `now`. Call this when the kill was done, and also when nobody knows
    /// whether it was.
    pub fn spend(self, now: Instant) {
        self.0.spent.lock().kills.push(now);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut spent = self.0.spent.lock();
        spent.reserved = spent.reserved.saturating_sub(1);
    }
}

impl KillRateLimit {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(kills_per_minute: u32) -> Self {
        let kills_per_minute = usize::try_from(kills_per_minute).unwrap_or(usize::MAX);
        Self { kills_per_minute, spent: Arc::default() }
    }

    /// Takes over the kills that earlier processes made in the minute before `now`, as a record
    /// tells them. Kills that were only decided count, too, because they may have been done. The
    /// record has their time by the wall clock only. A kill with a time in the future counts as if
    /// it happened at `now`.
    pub fn carry_over(&self, status: &OptInStatus, wall: Timestamp, now: Instant) {
        let decided = status.intents.iter().map(|intent| &intent.kill.time);
        for time in status.recent_kills.iter().chain(decided).filter(|time| counts(time, wall)) {
            let age =
                time.parse().ok().and_then(|at: Timestamp| Duration::try_from(wall.duration_since(at)).ok());
            let at = age.and_then(|age| now.checked_sub(age)).unwrap_or(now);
            self.spent.lock().kills.push(at);
        }
    }

    /// Whether the budget allows a kill in the minute before `now`.
    #[must_use]
    pub fn is_left(&self, now: Instant) -> bool {
        self.spent.lock().after(now) < self.kills_per_minute
    }

    /// Reserves a kill, if the budget allows one in the minute before `now`.
    pub fn reserve(&self, now: Instant) -> Option<Reserved> {
        self.reserve_all(1, now)?.pop()
    }

    /// Reserves so many kills, if the budget allows all of them in the minute before `now`.
    pub fn reserve_all(&self, kills: usize, now: Instant) -> Option<Vec<Reserved>> {
        let mut spent = self.spent.lock();
        if spent.after(now).saturating_add(kills) > self.kills_per_minute {
            return None;
        }
        spent.reserved += kills;
        drop(spent);
        Some((0..kills).map(|_| Reserved(self.clone())).collect())
    }
}

impl Spent {
    /// The number of kills that count at `now`.
    fn after(&mut self, now: Instant) -> usize {
        self.kills.retain(|at| now.saturating_duration_since(*at) < MINUTE);
        self.kills.len() + self.reserved
    }
}

/// Whether a kill at `time` happened in the minute before `now`, or after `now`. A time that can't
/// be parsed does not count.
#[must_use]
pub fn counts(time: &str, now: Timestamp) -> bool {
    time.parse().is_ok_and(|at: Timestamp| {
        Duration::try_from(now.duration_since(at)).map_or(true, |age| age < MINUTE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use runtime::clock::{Clock, TokioClock};

    fn start() -> Instant {
        // One hour after the clock's beginning, so that earlier instants exist.
        TokioClock::starting_at(Timestamp::UNIX_EPOCH).monotonic() + 60 * MINUTE
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_holds_more_kills() {
        let budget = KillRateLimit::new(2);
        let at = |seconds| start() + Duration::from_secs(seconds);
        let spend =
            |seconds| budget.reserve(at(seconds)).map(|reserved| reserved.spend(at(seconds))).is_some();
        let spent: Vec<bool> = [0, 30, 59, 60, 61, 90, 91].map(spend).to_vec();
        assert_eq!(spent, [true, true, false, true, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn several_are_reserved_together_or_not_at_all() {
        let budget = KillRateLimit::new(3);
        let now = start();
        assert!(budget.reserve_all(4, now).is_none(), "more than ever");
        let two = budget.reserve_all(2, now).unwrap();
        assert_eq!(two.len(), 2);
        assert!(budget.reserve_all(2, now).is_none(), "one is left");
        drop(two);
        assert_eq!(budget.reserve_all(3, now).map(|reserved| reserved.len()), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_tried_counts_until_its_end_and_what_came_to_nothing_is_given_back() {
        let budget = KillRateLimit::new(1);
        let at = |seconds| start() + Duration::from_secs(seconds);
        let slow = budget.reserve(at(0)).unwrap();
        assert!(!budget.is_left(at(0)) && !budget.is_left(at(61)), "it isn't done yet");
        slow.spend(at(30));
        assert!(!budget.is_left(at(89)) && budget.is_left(at(90)), "a minute from when it was done");
        drop(budget.reserve(at(90)).unwrap());
        assert!(budget.is_left(at(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_process_spent_counts() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let recent = |times: &[&str]| OptInStatus {
            recent_kills: times.iter().map(|time| (*time).to_owned()).collect(),
            ..OptInStatus::default()
        };
        for (times, left_after) in [
            (&["2026-11-23T11:59:00Z"][..], 0),
            (&["2026-11-23T11:58:00Z", "2026-11-23T11:59:10Z"], 10),
            (&["2026-11-23T11:59:59.5Z"], 60),
            // The record was written by a clock that is ahead.
            (&["2026-11-23T12:07:00Z"], 60),
            (&["soon"], 0),
        ] {
            let budget = KillRateLimit::new(1);
            budget.carry_over(&recent(times), now, start());
            let left = (0..100).find(|seconds| budget.is_left(start() + Duration::from_secs(*seconds)));
            assert_eq!(left, Some(left_after), "{times:?}");
        }
    }

    proptest! {
        #[test]
        fn no_minute_holds_more_kills_whenever_they_are_tried(
            most in 1..12_u32,
            // For each attempt: the milliseconds since the previous one, and whether it leads to a
            // kill. Rounds of many namespaces come at once, with quiet times between them.
            tries in prop::collection::vec((prop_oneof![Just(0), Just(60_000), 0..200_u64, 0..8_000_u64, 55_000..65_000_u64], prop::bool::weighted(0.8)), 1..200),
        ) {
            let budget = KillRateLimit::new(most);
            let (start, mut now, mut spent) = (start(), 0, Vec::new());
            for (gap, is_done) in tries {
                now += gap;
                let at = start + Duration::from_millis(now);
                let of_this_minute = spent.iter().filter(|at| now - **at < 60_000).count();
                let reserved = budget.reserve(at);
                prop_assert_eq!(reserved.is_some(), of_this_minute < most as usize, "{} of {} at {}", of_this_minute, most, now);
                if let Some(reserved) = reserved.filter(|_| is_done) {
                    reserved.spend(at);
                    spent.push(now);
                }
            }
            // It is enough to check the minutes that end just after a kill: no other minute holds
            // more kills.
            for end in &spent {
                let within = spent.iter().filter(|at| **at <= *end && *end - **at < 60_000).count();
                prop_assert!(within <= most as usize, "{} kills in the minute up to {}", within, end);
            }
        }
    }
}
