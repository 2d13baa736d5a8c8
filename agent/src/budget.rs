//! The platform's budget: how many kills there may be in the whole cluster in any minute.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// Shared by all namespaces. What an earlier process spent isn't known, but a process serves no slot that came before it.
#[derive(Debug)]
pub struct Budget {
    kills_per_minute: usize,
    spent: Mutex<VecDeque<Instant>>,
}

impl Budget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(kills_per_minute: u32) -> Self {
        let kills_per_minute = usize::try_from(kills_per_minute).unwrap_or(usize::MAX);
        Self { kills_per_minute, spent: Mutex::default() }
    }

    /// Spends one kill, if there is one left in the minute before `now`. A kill that is tried counts, however it ends.
    #[must_use]
    pub fn spend(&self, now: Instant) -> bool {
        // Each change is whole before anything can panic.
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        while spent.front().is_some_and(|first| now.saturating_duration_since(*first) >= MINUTE) {
            spent.pop_front();
        }
        let is_left = spent.len() < self.kills_per_minute;
        if is_left {
            spent.push_back(now);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use runtime::clock::{Clock, TokioClock};

    #[tokio::test(start_paused = true)]
    async fn no_minute_holds_more_kills() {
        let budget = Budget::new(2);
        let start = TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH).monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let spent: Vec<bool> = [0, 30, 59, 60, 61, 90, 91].map(|seconds| budget.spend(at(seconds))).to_vec();
        assert_eq!(spent, [true, true, false, true, false, true, false]);
    }

    proptest! {
        #[test]
        fn no_minute_holds_more_kills_whenever_they_are_tried(
            most in 1..12_u32,
            // Milliseconds from one try to the next: rounds of many namespaces at once, and quiet between them.
            gaps in prop::collection::vec(prop_oneof![Just(0), Just(60_000), 0..200_u64, 0..8_000_u64, 55_000..65_000_u64], 1..200),
        ) {
            let budget = Budget::new(most);
            let start = TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH).monotonic();
            let (mut now, mut spent) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                let of_this_minute = spent.iter().filter(|at| now - **at < 60_000).count();
                let is_left = budget.spend(start + Duration::from_millis(now));
                prop_assert_eq!(is_left, of_this_minute < most as usize, "{} of {} at {}", of_this_minute, most, now);
                if is_left {
                    spent.push(now);
                }
            }
            // Any minute is one that ends just after a kill, or holds no more than such a one.
            for end in &spent {
                let within = spent.iter().filter(|at| **at <= *end && *end - **at < 60_000).count();
                prop_assert!(within <= most as usize, "{} kills in the minute up to {}", within, end);
            }
        }
    }
}
