//! When rounds are due. Slots are computed, not stored: a slot's identity is its instant, a pure function of the schedule and the
//! namespace's UID, so that neither a restart nor a lost record can make one come twice.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::durations;

/// When rounds of a namespace happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Once in each interval of this length, at a moment that differs from namespace to namespace, with jitter of up to a tenth.
    Every(Duration),
}

/// What a schedule looks like, for messages.
pub const EXPECTED: &str = "`every` and a duration, such as `every 10m`";

impl Schedule {
    /// Reads `every 10m`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("every ").and_then(durations::parse).map(Self::Every)
    }

    /// The shortest time between two slots, jitter left out.
    #[must_use]
    pub fn interval(&self) -> Duration {
        let Self::Every(interval) = self;
        *interval
    }

    /// The first slot after `instant`; `None` only at the end of representable time.
    #[must_use]
    pub fn next_after(&self, uid: &str, instant: Timestamp) -> Option<Timestamp> {
        let around = self.index_around(uid, instant);
        (around - 1..=around + 1).filter_map(|n| self.slot(uid, n)).find(|slot| *slot > instant)
    }

    /// The newest slot in (`after`, `until`]: the only one of them that is still worth a round.
    #[must_use]
    pub fn newest_in(&self, uid: &str, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let around = self.index_around(uid, until);
        (around - 1..=around + 1)
            .rev()
            .filter_map(|n| self.slot(uid, n))
            .find(|slot| *slot <= until)
            .filter(|slot| *slot > after)
    }

    /// Slot n in milliseconds of the Unix epoch: n·D + H(uid) mod D + H(uid, n) mod D/10, where H is the first 8 bytes of SHA-256.
    fn slot(&self, uid: &str, n: i64) -> Option<Timestamp> {
        let length = self.milliseconds();
        let jitter = hash(&[uid.as_bytes(), &n.to_be_bytes()]) % (length / 10).max(1);
        let start = i64::try_from(length).ok()?.checked_mul(n)?;
        let offset = i64::try_from(phase(uid, length) + jitter).ok()?;
        Timestamp::from_millisecond(start.checked_add(offset)?).ok()
    }

    /// The index whose interval holds `instant`; jitter never moves a slot by a whole interval, so its neighbours suffice.
    fn index_around(&self, uid: &str, instant: Timestamp) -> i64 {
        let length = self.milliseconds();
        let phase = i64::try_from(phase(uid, length)).unwrap_or(0);
        (instant.as_millisecond() - phase).div_euclid(i64::try_from(length).unwrap_or(i64::MAX))
    }

    fn milliseconds(&self) -> u64 {
        self.interval().as_secs().saturating_mul(1_000).max(1)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Every(interval) = self;
        write!(f, "every {}", durations::print(*interval))
    }
}

fn phase(uid: &str, length: u64) -> u64 {
    hash(&[uid.as_bytes()]) % length
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn forms() {
        assert_eq!(Schedule::parse("every 10m"), Some(Schedule::Every(Duration::from_secs(600))));
        for wrong in
            ["", "10m", "every", "every ", "every 0s", "Every 10m", "every  10m", "every 10m ", "hourly"]
        {
            assert_eq!(Schedule::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn golden_slots() {
        let schedule = Schedule::parse("every 10m").unwrap();
        let mut slot = at("2026-11-23T12:00:00Z");
        let mut seen = Vec::new();
        for _ in 0..3 {
            slot = schedule.next_after(UID, slot).unwrap();
            seen.push(slot.to_string());
        }
        assert_eq!(
            seen,
            ["2026-11-23T12:04:44.363Z", "2026-11-23T12:14:27.015Z", "2026-11-23T12:24:35.815Z"]
        );
    }

    #[test]
    fn two_namespaces_have_different_slots() {
        let schedule = Schedule::parse("every 1h").unwrap();
        let now = at("2026-11-23T12:00:00Z");
        assert_ne!(schedule.next_after(UID, now), schedule.next_after("another", now));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(seconds in 1..=durations::LONGEST.as_secs()) {
            let schedule = Schedule::Every(Duration::from_secs(seconds));
            prop_assert_eq!(Schedule::parse(&schedule.to_string()), Some(schedule));
        }

        #[test]
        fn slots_follow_each_other_at_the_interval(seconds in 1..200_000u64, uid in "[a-f0-9]{8}", start in 0..4_000_000_000i64) {
            let schedule = Schedule::Every(Duration::from_secs(seconds));
            let start = Timestamp::from_second(start).unwrap();
            let first = schedule.next_after(&uid, start).unwrap();
            let second = schedule.next_after(&uid, first).unwrap();
            let gap = second.duration_since(first).as_millis();
            let interval = i128::from(seconds) * 1_000;
            prop_assert!(first > start);
            prop_assert!(first.duration_since(start).as_millis() <= interval + interval / 10);
            prop_assert!(gap >= interval - interval / 10 && gap <= interval + interval / 10, "{}", gap);
        }

        #[test]
        fn the_newest_slot_is_the_one_that_comes_next(seconds in 1..200_000u64, uid in "[a-f0-9]{8}", start in 0..4_000_000_000i64) {
            let schedule = Schedule::Every(Duration::from_secs(seconds));
            let start = Timestamp::from_second(start).unwrap();
            let next = schedule.next_after(&uid, start).unwrap();
            let before = next.checked_sub(Duration::from_millis(1)).unwrap();
            prop_assert_eq!(schedule.newest_in(&uid, start, next), Some(next));
            prop_assert_eq!(schedule.newest_in(&uid, start, before), None);
            prop_assert_eq!(schedule.newest_in(&uid, next, next), None);
        }
    }
}
