//! Slots over years of virtual time, in time zones that change their clocks by an hour, by half an
//! hour or around Ramadan.

use std::time::Duration;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{Schedule, Timetable};

const UID: &str = "2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f";
const ZONES: [&str; 5] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"];
const MILLISECOND: SignedDuration = SignedDuration::from_millis(1);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

fn timetable(schedule: &str, zone: TimeZone) -> Timetable {
    let schedule = Schedule::parse(schedule).unwrap_or_else(|| panic!("{schedule}"));
    Timetable { schedule, also_at: None, zone, shortest_interval: Duration::from_secs(60) }
}

/// The slots in (`from`, `until`], in order. The limit of 20,000 ends the loop even if a slot
/// follows itself.
fn slots(timetable: &Timetable, uid: &str, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let next = |slot: &Timestamp| timetable.next_after(uid, *slot);
    std::iter::successors(next(&from), next).take_while(|slot| *slot <= until).take(20_000).collect()
}

/// Checks that looking back finds the same slots as looking ahead. The agent would wait in vain for
/// a slot that is found only when looking ahead. Nobody would expect a round of a slot that is
/// found only when looking back.
fn agree(timetable: &Timetable, uid: &str, from: Timestamp, slots: &[Timestamp]) {
    let mut before = from;
    for slot in slots {
        let schedule = &timetable.schedule;
        assert!(*slot > before, "{schedule}: {slot} does not come after {before}");
        // Also check later instants, because the agent never reads the clock at the exact instant
        // of a slot.
        for late in [0, 1, 500, 1_000] {
            let now = *slot + SignedDuration::from_millis(late);
            assert_eq!(timetable.newest_in(uid, before, now), Some(*slot), "{schedule} {late} ms later");
        }
        assert_eq!(timetable.newest_in(uid, before, *slot - MILLISECOND), None, "{schedule} before {slot}");
        assert_eq!(timetable.next_after(uid, *slot - MILLISECOND), Some(*slot), "{schedule}");
        before = *slot;
    }
}

fn hash(parts: &[&[u8]]) -> i128 {
    let digest = Sha256::digest(parts.concat());
    i128::from(u64::from_be_bytes(digest[..8].try_into().unwrap()))
}

/// A cron expression with lists of minutes, hours and days of the week. An empty list means `*`.
#[derive(Debug, Clone)]
struct Fields {
    minutes: Vec<i8>,
    hours: Vec<i8>,
    days: Vec<i8>,
}

impl Fields {
    fn text(&self) -> String {
        let field = |values: &[i8]| match values {
            [] => "*".to_owned(),
            values => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        format!("cron {} {} * * {}", field(&self.minutes), field(&self.hours), field(&self.days))
    }

    fn match_day(&self, civil: DateTime) -> bool {
        self.days.is_empty() || self.days.contains(&civil.weekday().to_sunday_zero_offset())
    }

    /// Finds the instants in (`from`, `until`] the slow way: reads the wall clock every minute.
    fn reference(&self, zone: &TimeZone, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let within = |list: &[i8], value: i8| list.is_empty() || list.contains(&value);
        let is_one_time = self.minutes.len() == 1 && self.hours.len() == 1;
        let minutes =
            (1..).map(|minute| from + SignedDuration::from_mins(minute)).take_while(|now| *now <= until);
        let mut found = Vec::new();
        for now in minutes {
            let (before, civil) =
                (zone.to_datetime(now - SignedDuration::from_mins(1)), zone.to_datetime(now));
            let is_match = |civil: DateTime| {
                within(&self.minutes, civil.minute())
                    && within(&self.hours, civil.hour())
                    && self.match_day(civil)
            };
            if is_one_time {
                // A single time of the day comes once a day. If a clock change repeats that time,
                // the first one counts. If a clock change skips it, it comes late.
                let skipped =
                    std::iter::successors(Some(before + 1.minute()), |civil| Some(*civil + 1.minute()))
                        .take_while(|skipped| *skipped < civil)
                        .any(is_match);
                let is_again = zone.to_ambiguous_timestamp(civil).earlier().unwrap() != now;
                if skipped && self.match_day(civil) || is_match(civil) && !is_again {
                    found.push(now);
                }
            } else if is_match(civil) {
                found.push(now);
            }
        }
        found
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let values = |range: std::ops::Range<i8>, most: usize| {
        prop_oneof![
            2 => prop::collection::btree_set(range.clone(), 1..=1),
            2 => prop::collection::btree_set(range, 1..most),
            1 => Just(std::collections::BTreeSet::new())
        ]
        .prop_map(|values| values.into_iter().collect::<Vec<_>>())
    };
    // Clocks change early in the day.
    let hours = prop_oneof![2 => values(0..4, 4), 1 => values(0..24, 6)];
    (values(0..60, 5), hours, values(0..7, 4)).prop_map(|(minutes, hours, days)| Fields {
        minutes,
        hours,
        days,
    })
}

/// The clock changes of a time zone in one year.
fn changes(zone: &TimeZone, year: i16) -> Vec<Timestamp> {
    let begin = DateTime::new(year, 1, 1, 0, 0, 0, 0).unwrap();
    let begin = Offset::UTC.to_timestamp(begin).unwrap();
    zone.following(begin)
        .map(|change| change.timestamp())
        .take_while(|change| *change < begin + SignedDuration::from_hours(366 * 24))
        .collect()
}

#[test]
fn each_zone_changes_its_clocks_or_the_tests_here_are_worth_little() {
    let counts = ZONES.map(|name| changes(&zone(name), 2026).len());
    // The last clock change of Morocco is in September 2026.
    assert_eq!(counts, [2, 2, 2, 3, 0]);
}

#[test]
fn a_time_that_is_skipped_comes_late_and_one_that_is_repeated_comes_once() {
    let berlin = zone("Europe/Berlin");
    let of = |schedule: &str, day: &str| {
        let from = at(&format!("{day}T00:00:00Z")) - SignedDuration::from_hours(2);
        slots(&timetable(schedule, berlin.clone()), UID, from, from + SignedDuration::from_hours(6))
    };
    assert_eq!(of("cron 30 2 * * *", "2027-03-28"), [at("2027-03-28T01:00:00Z")], "02:30 is skipped");
    assert_eq!(of("cron 30 2 * * *", "2027-10-31"), [at("2027-10-31T00:30:00Z")], "02:30 comes twice");
    let hourly = "cron 30 2-3 * * *";
    assert_eq!(of(hourly, "2027-03-28"), [at("2027-03-28T01:30:00Z")]);
    let repeated = ["2027-10-31T00:30:00Z", "2027-10-31T01:30:00Z", "2027-10-31T02:30:00Z"].map(at);
    assert_eq!(of(hourly, "2027-10-31"), repeated);
}

#[test]
fn cron_looks_back_on_what_it_looked_ahead_to_for_years() {
    for name in ZONES {
        for schedule in ["cron 30 2 * * *", "cron 0 0 * * Sun", "cron 15 */6 * * *", "cron 0 3 29 2 *"] {
            let timetable = timetable(schedule, zone(name));
            let (from, until) = (at("2023-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
            let slots = slots(&timetable, UID, from, until);
            let expected = match schedule {
                "cron 30 2 * * *" => 1_461..=1_461,
                "cron 0 0 * * Sun" => 208..=209,
                "cron 15 */6 * * *" => 4 * 1_461 - 4..=4 * 1_461 + 4,
                _ => 1..=1,
            };
            assert!(expected.contains(&slots.len()), "{name} {schedule}: {}", slots.len());
            agree(&timetable, UID, from, &slots);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn cron_is_what_the_clock_on_the_wall_says(
        fields in fields(), name in prop::sample::select(&ZONES[..4]), year in 2019..2027_i16, which in 0..3usize,
    ) {
        let zone = zone(name);
        let changes = changes(&zone, year);
        let change = changes[which.min(changes.len() - 1)];
        let from = change - SignedDuration::from_hours(30);
        let until = change + SignedDuration::from_hours(54);
        let timetable = timetable(&fields.text(), zone.clone());
        let found = slots(&timetable, UID, from, until);
        prop_assert_eq!(&found, &fields.reference(&zone, from, until), "{} in {}, {}", fields.text(), name, change);
        agree(&timetable, UID, from, &found);
    }

    #[test]
    fn every_slot_is_where_the_formula_says(
        word in prop::sample::select(vec!["every", "mtbf"]),
        seconds in 60..2_000_000_i64,
        uid in "[a-f0-9]{8}-[a-f0-9]{4}",
        start in 0..4_000_000_000_i64,
    ) {
        let mut timetable = timetable(&format!("{word} 1m"), TimeZone::UTC);
        let length = Duration::from_secs(seconds.unsigned_abs());
        match &mut timetable.schedule {
            Schedule::Every(interval) => *interval = length,
            // The mean has no influence on the instants of the slots.
            _ => timetable.shortest_interval = length,
        }
        let (length, from) = (i128::from(seconds) * 1_000, Timestamp::from_second(start).unwrap());
        let until = from + 60 * SignedDuration::from_secs(seconds);
        let found = slots(&timetable, &uid, from, until);
        let phase = hash(&[uid.as_bytes()]) % length;
        let first = (i128::from(from.as_millisecond()) - phase).div_euclid(length);
        let expected: Vec<i128> = (first - 2..first + 64)
            .map(|n| {
                let jitter = hash(&[uid.as_bytes(), &i64::try_from(n).unwrap().to_be_bytes()]) % (length / 10);
                n * length + phase + jitter
            })
            .filter(|slot| (i128::from(from.as_millisecond()) + 1..=i128::from(until.as_millisecond())).contains(slot))
            .collect();
        let milliseconds: Vec<i128> = found.iter().map(|slot| i128::from(slot.as_millisecond())).collect();
        prop_assert_eq!(&milliseconds, &expected);
        prop_assert!(milliseconds.windows(2).all(|pair| (pair[1] - pair[0]) * 10 >= length * 9));
        agree(&timetable, &uid, from, &found);
    }

    #[test]
    fn wherever_one_looks_from_the_neighbours_are_the_same(
        schedule in prop::sample::select(vec!["every 1m", "every 7h", "mtbf 8h", "cron 30 2 * * *", "cron */20 1-3 * * *"]),
        name in prop::sample::select(&ZONES[..]),
        start in 1_700_000_000_000..2_000_000_000_000_i64,
        width in 0..400_000_000_i64,
    ) {
        let timetable = timetable(schedule, zone(name));
        let from = Timestamp::from_millisecond(start).unwrap();
        let until = from + SignedDuration::from_millis(width);
        let newest = timetable.newest_in(UID, from, until);
        let next = timetable.next_after(UID, from).unwrap();
        prop_assert_eq!(newest.is_some(), next <= until, "{:?} {}", newest, next);
        if let Some(newest) = newest {
            prop_assert!(next <= newest && newest <= until);
            prop_assert!(timetable.next_after(UID, newest).unwrap() > until);
        }
    }
}

#[test]
fn nothing_comes_a_moment_before_it_is_due() {
    // The clock goes back from 02:00 to 01:30, and 01:30 is a slot. One millisecond earlier the
    // slot is not due yet.
    let timetable = timetable("cron 30 0,1 * * *", zone("Australia/Lord_Howe"));
    let (slot, first) = (at("2019-04-06T15:00:00Z"), at("2019-04-06T14:30:00Z"));
    assert_eq!(timetable.newest_in(UID, first - MILLISECOND, slot - MILLISECOND), Some(first));
    assert_eq!(timetable.newest_in(UID, first, slot), Some(slot));
}

#[test]
fn a_weekday_is_the_zones_and_not_utcs() {
    let auckland = zone("Pacific/Auckland");
    let monday = timetable("cron 30 8 * * Mon", auckland.clone());
    let from = at("2026-01-01T00:00:00Z");
    let slots = slots(&monday, UID, from, from + SignedDuration::from_hours(24 * 366));
    assert_eq!(slots.len(), 52);
    for slot in slots {
        assert_eq!(auckland.to_datetime(slot).weekday(), Weekday::Monday);
        assert_eq!(Offset::UTC.to_datetime(slot).weekday(), Weekday::Sunday);
    }
}
