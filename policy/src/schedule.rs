//! When rounds are due. Slots are computed, not stored: a slot's identity is its instant, a pure function of the schedule and the
//! namespace's UID, so that neither a restart nor a lost record can make one come twice.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::cron::CronExpression;
use crate::durations;

/// When rounds of a namespace happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Once in each interval of this length, at a moment that differs from namespace to namespace, with jitter of up to a tenth.
    Every(Duration),
    /// At the instants of a cron expression, without jitter.
    Cron(CronExpression),
    /// Each workload at random, so that on average this time passes between two of its kills.
    Mtbf(Duration),
}

/// What a schedule looks like, for messages.
pub const EXPECTED: &str = "`every 10m`, `cron 0 9-17 * * Mon-Fri` (five fields) or `mtbf 8h`";

impl Schedule {
    /// Reads `every 10m`, `cron 0 9-17 * * Mon-Fri` or `mtbf 8h`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        match word {
            "every" => durations::parse(rest).map(Self::Every),
            "cron" => CronExpression::parse(rest).map(Self::Cron),
            "mtbf" => durations::parse(rest).map(Self::Mtbf),
            _ => None,
        }
    }

    /// Whether rounds, or with `mtbf` kills of one workload, come closer together than `shortest`.
    #[must_use]
    pub fn is_denser_than(&self, shortest: Duration) -> bool {
        match self {
            Self::Every(interval) | Self::Mtbf(interval) => *interval < shortest,
            Self::Cron(cron) => cron.is_denser_than(shortest),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {}", durations::print(*interval)),
            Self::Cron(cron) => write!(f, "cron {}", cron.text()),
            Self::Mtbf(mean) => write!(f, "mtbf {}", durations::print(*mean)),
        }
    }
}

/// A schedule with what its slots depend on beside the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// When rounds happen.
    pub schedule: Schedule,
    /// One slot more, in which every workload takes part.
    pub also_at: Option<Timestamp>,
    /// Whose clocks `cron` reads.
    pub zone: TimeZone,
    /// The platform's shortest interval: how often `mtbf` throws its dice.
    pub shortest_interval: Duration,
}

impl Timetable {
    /// The first slot after `instant`; `None` at the end of representable time, or if there is none any more.
    #[must_use]
    pub fn next_after(&self, uid: &str, instant: Timestamp) -> Option<Timestamp> {
        let extra = self.also_at.filter(|extra| *extra > instant);
        self.scheduled_after(uid, instant).into_iter().chain(extra).min()
    }

    fn scheduled_after(&self, uid: &str, instant: Timestamp) -> Option<Timestamp> {
        if let Schedule::Cron(cron) = &self.schedule {
            return cron.next_after(instant, &self.zone);
        }
        let around = self.index_around(uid, instant);
        (around - 1..=around + 1).filter_map(|n| self.slot(uid, n)).find(|slot| *slot > instant)
    }

    /// The newest slot in (`after`, `until`]: the only one of them that is still worth a round.
    #[must_use]
    pub fn newest_in(&self, uid: &str, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let extra = self.also_at.filter(|extra| *extra > after && *extra <= until);
        self.newest_scheduled_in(uid, after, until).into_iter().chain(extra).max()
    }

    fn newest_scheduled_in(&self, uid: &str, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        if let Schedule::Cron(cron) = &self.schedule {
            return cron.newest_until(until, &self.zone).filter(|slot| *slot > after);
        }
        let around = self.index_around(uid, until);
        (around - 1..=around + 1)
            .rev()
            .filter_map(|n| self.slot(uid, n))
            .find(|slot| *slot <= until)
            .filter(|slot| *slot > after)
    }

    /// Whether a workload may lose a Pod in this slot. With `mtbf` M and slots D apart it may iff U < 1 − exp(−D/M), where U in [0, 1) is
    /// made of the UIDs and the slot; so the rate of each workload depends neither on its Pods nor on other workloads.
    #[must_use]
    pub fn is_due(&self, uid: &str, workload_uid: &str, slot: Timestamp) -> bool {
        let Schedule::Mtbf(mean) = self.schedule else {
            return true;
        };
        if self.also_at == Some(slot) {
            return true;
        }
        let n = self.index_around(uid, slot);
        let drawn = hash(&[uid.as_bytes(), workload_uid.as_bytes(), &n.to_be_bytes()]);
        // The 53 bits that a double holds exactly.
        let uniform = (drawn >> 11) as f64 / (1_u64 << 53) as f64;
        uniform < -(-self.interval().as_secs_f64() / mean.as_secs_f64()).exp_m1()
    }

    /// Whether the slot comes too soon after the last one that was served, which would be a way around the platform's ceiling: less than the shortest
    /// interval after it where one of the two was asked for, and less than nine tenths of that else, which is as close as jitter brings slots. What `cron`
    /// says itself is never too soon: where the clocks change an hour is missing, and that must not decide it.
    #[must_use]
    pub fn is_too_soon(&self, slot: Timestamp, last: Option<Timestamp>) -> bool {
        // Of a last slot that is neither on the schedule nor asked for any more only the instant is left: what was asked for can be replaced or removed.
        let is_asked_for = |slot: Timestamp| self.also_at == Some(slot);
        last.is_some_and(|last| {
            let least = match &self.schedule {
                _ if is_asked_for(slot) || is_asked_for(last) => self.shortest_interval,
                Schedule::Cron(cron) if cron.newest_until(last, &self.zone) == Some(last) => Duration::ZERO,
                _ => self.shortest_interval * 9 / 10,
            };
            // One that is not after the last is none that could be served.
            slot > last && Duration::try_from(slot.duration_since(last)).is_ok_and(|since| since < least)
        })
    }

    /// Between two slots, jitter left out; of no meaning for `cron`.
    fn interval(&self) -> Duration {
        match self.schedule {
            Schedule::Every(interval) => interval,
            Schedule::Mtbf(_) | Schedule::Cron(_) => self.shortest_interval,
        }
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
#[path = "schedule_years.rs"]
mod years;

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use proptest::prelude::*;

    const UID: &str = "2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn timetable(schedule: &str) -> Timetable {
        let schedule = Schedule::parse(schedule).unwrap_or_else(|| panic!("{schedule}"));
        Timetable { schedule, also_at: None, zone: TimeZone::UTC, shortest_interval: Duration::from_secs(60) }
    }

    fn slots(timetable: &Timetable, from: &str, count: usize) -> Vec<Timestamp> {
        let next = |slot: &Timestamp| timetable.next_after(UID, *slot);
        std::iter::successors(next(&at(from)), next).take(count).collect()
    }

    #[test]
    fn a_round_that_was_asked_for_is_one_slot_more() {
        for schedule in ["every 10m", "cron 0 9 * * *", "mtbf 8h"] {
            let usual = timetable(schedule);
            let asked: Timestamp = "2026-11-23T12:00:10Z".parse().unwrap();
            let timetable = Timetable { also_at: Some(asked), ..usual.clone() };
            let (before, after) = (asked - 1_i64.millisecond(), asked + 1_i64.millisecond());
            assert_eq!(timetable.next_after("u", before), Some(asked), "{schedule}");
            assert_eq!(timetable.next_after("u", asked), usual.next_after("u", asked), "{schedule}");
            assert_eq!(timetable.newest_in("u", before, after), Some(asked), "{schedule}");
            assert_eq!(timetable.newest_in("u", asked, after), None, "{schedule}");
            assert!(
                (0..100).all(|workload| timetable.is_due("u", &workload.to_string(), asked)),
                "{schedule}"
            );
        }
    }

    #[test]
    fn what_was_asked_for_keeps_its_distance_though_it_was_replaced_or_removed() {
        let usual = timetable("every 10m");
        let last = Some(at("2026-11-23T12:00:10Z"));
        let replaced = Timetable { also_at: Some(at("2026-11-23T12:00:40Z")), ..usual.clone() };
        for timetable in [&usual, &replaced] {
            let is_too_soon = |slot| timetable.is_too_soon(at(slot), last);
            assert!(is_too_soon("2026-11-23T12:00:40Z") && is_too_soon("2026-11-23T12:00:50Z"));
            // Nor does it stand in the way for longer.
            assert!(!is_too_soon("2026-11-23T12:01:10Z"));
        }
    }

    #[test]
    fn a_change_of_the_clocks_makes_no_slot_of_cron_too_soon() {
        let cron = Timetable {
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            shortest_interval: Duration::from_secs(6 * 3_600),
            ..timetable("cron 0 */6 * * *")
        };
        // From midnight to six in the morning it is five hours.
        let last = at("2027-03-27T23:00:00Z");
        let next = cron.next_after(UID, last).unwrap();
        assert_eq!(next, at("2027-03-28T04:00:00Z"));
        assert!(!cron.is_too_soon(next, Some(last)));
        // What was asked for is no slot of it.
        assert!(cron.is_too_soon(next, Some(at("2027-03-27T23:00:01Z"))));
    }

    #[test]
    fn forms() {
        for (text, schedule) in [
            ("every 10m", Schedule::Every(Duration::from_secs(600))),
            ("mtbf 8h", Schedule::Mtbf(Duration::from_secs(28_800))),
            ("cron 0 9-17 * * Mon-Fri", Schedule::Cron(CronExpression::parse("0 9-17 * * Mon-Fri").unwrap())),
        ] {
            assert_eq!(Schedule::parse(text), Some(schedule.clone()));
            assert_eq!(schedule.to_string(), text);
        }
        for wrong in [
            "",
            "10m",
            "every",
            "every ",
            "every 0s",
            "Every 10m",
            "every  10m",
            "every 10m ",
            "hourly",
            "mtbf",
            "mtbf x",
            "cron",
            "cron * * * *",
            "at 10:00",
        ] {
            assert_eq!(Schedule::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn golden_slots() {
        let seen: Vec<String> = slots(&timetable("every 10m"), "2026-11-23T12:00:00Z", 3)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            seen,
            ["2026-11-23T12:04:44.363Z", "2026-11-23T12:14:27.015Z", "2026-11-23T12:24:35.815Z"]
        );
    }

    #[test]
    fn cron_has_its_own_instants_in_its_zone() {
        let berlin = jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
        let timetable = Timetable { zone: berlin, ..timetable("cron 0 9 * * Mon-Fri") };
        assert_eq!(
            slots(&timetable, "2026-11-20T12:00:00Z", 2),
            [at("2026-11-23T08:00:00Z"), at("2026-11-24T08:00:00Z")]
        );
        let slot = at("2026-11-23T08:00:00Z");
        assert_eq!(
            timetable.newest_in(UID, at("2026-11-23T07:59:59Z"), at("2026-11-23T08:00:10Z")),
            Some(slot)
        );
        assert_eq!(timetable.newest_in(UID, slot, at("2026-11-23T08:00:10Z")), None);
    }

    #[test]
    fn two_namespaces_have_different_slots() {
        let timetable = timetable("every 1h");
        let now = at("2026-11-23T12:00:00Z");
        assert_ne!(timetable.next_after(UID, now), timetable.next_after("another", now));
    }

    #[test]
    fn mtbf_is_a_rate_per_workload() {
        let timetable = timetable("mtbf 1h");
        let slots = slots(&timetable, "2026-01-01T00:00:00Z", 20_000);
        for workload in ["web", "db", "queue"] {
            let due = slots.iter().filter(|slot| timetable.is_due(UID, workload, **slot)).count();
            // Slots a minute apart and 1/60 of them due: 330 of 20,000 expected, with a standard deviation of 18.
            assert!((240..420).contains(&due), "{workload}: {due}");
        }
        assert!(self::timetable("every 1m").is_due(UID, "web", slots[0]));
        let golden: Vec<usize> =
            (0..2_000).filter(|n| timetable.is_due(UID, "web", slots[*n])).take(3).collect();
        assert_eq!(golden, [30, 69, 165]);
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(seconds in 1..=durations::LONGEST.as_secs()) {
            for schedule in [Schedule::Every(Duration::from_secs(seconds)), Schedule::Mtbf(Duration::from_secs(seconds))] {
                prop_assert_eq!(Schedule::parse(&schedule.to_string()), Some(schedule));
            }
        }

        #[test]
        fn slots_follow_each_other_at_the_interval(seconds in 1..200_000u64, uid in "[a-f0-9]{8}", start in 0..4_000_000_000i64) {
            let timetable = timetable(&format!("every {}", durations::print(Duration::from_secs(seconds))));
            let start = Timestamp::from_second(start).unwrap();
            let first = timetable.next_after(&uid, start).unwrap();
            let second = timetable.next_after(&uid, first).unwrap();
            let gap = second.duration_since(first).as_millis();
            let interval = i128::from(seconds) * 1_000;
            prop_assert!(first > start);
            prop_assert!(first.duration_since(start).as_millis() <= interval + interval / 10);
            prop_assert!(gap >= interval - interval / 10 && gap <= interval + interval / 10, "{}", gap);
            let densest = Timetable { shortest_interval: Duration::from_secs(seconds), ..timetable };
            prop_assert!(!densest.is_too_soon(second, Some(first)), "jitter is no way around a ceiling");
        }

        #[test]
        fn the_newest_slot_is_the_one_that_comes_next(
            schedule in prop::sample::select(vec!["every 7s", "every 10m", "mtbf 3h", "cron */7 3 * * *"]),
            uid in "[a-f0-9]{8}",
            start in 0..4_000_000_000i64,
        ) {
            let timetable = timetable(schedule);
            let start = Timestamp::from_second(start).unwrap();
            let next = timetable.next_after(&uid, start).unwrap();
            let before = next.checked_sub(Duration::from_millis(1)).unwrap();
            prop_assert_eq!(timetable.newest_in(&uid, start, next), Some(next));
            prop_assert_eq!(timetable.newest_in(&uid, start, before), None);
            prop_assert_eq!(timetable.newest_in(&uid, next, next), None);
        }
    }
}
