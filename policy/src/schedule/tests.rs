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
        assert!((0..100).all(|workload| timetable.is_due("u", &workload.to_string(), asked)), "{schedule}");
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
        // One interval after the last slot, a slot is no longer too soon.
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
    // A clock change makes the time from midnight to six in the morning five hours.
    let last = at("2027-03-27T23:00:00Z");
    let next = cron.next_after(UID, last).unwrap();
    assert_eq!(next, at("2027-03-28T04:00:00Z"));
    assert!(!cron.is_too_soon(next, Some(last)));
    // A last slot that only `also-at` asked for is not on the schedule, so the distance counts.
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
    let seen: Vec<String> =
        slots(&timetable("every 10m"), "2026-11-23T12:00:00Z", 3).iter().map(ToString::to_string).collect();
    assert_eq!(seen, ["2026-11-23T12:04:44.363Z", "2026-11-23T12:14:27.015Z", "2026-11-23T12:24:35.815Z"]);
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
    assert_eq!(timetable.newest_in(UID, at("2026-11-23T07:59:59Z"), at("2026-11-23T08:00:10Z")), Some(slot));
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
        // Slots are a minute apart, and a workload is due in 1/60 of them: 330 of 20,000 are
        // expected, with a standard deviation of 18.
        assert!((240..420).contains(&due), "{workload}: {due}");
    }
    assert!(self::timetable("every 1m").is_due(UID, "web", slots[0]));
    let golden: Vec<usize> = (0..2_000).filter(|n| timetable.is_due(UID, "web", slots[*n])).take(3).collect();
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

/// The slots of `every 10m` in which a workload with its own schedule takes part, of a thousand.
fn turns(own: &str, workload: &str) -> Vec<usize> {
    let timetable = timetable("every 10m");
    let own = Schedule::parse(own).unwrap();
    let all = slots(&timetable, "2026-11-23T12:00:00Z", 1_000);
    let due = |slot: &Timestamp| timetable.is_due_by(&own, UID, workload, *slot);
    all.iter().enumerate().filter(|(_, slot)| due(slot)).map(|(number, _)| number).collect()
}

#[test]
fn a_narrowed_workload_takes_part_as_often_as_its_own_schedule_says() {
    for workload in ["a", "b", "c"] {
        assert_eq!(turns("every 10m", workload).len(), 1_000, "the same schedule");
        let hourly = turns("every 1h", workload);
        assert!((165..=168).contains(&hourly.len()), "{}", hourly.len());
        assert!(hourly.windows(2).all(|two| (5..=7).contains(&(two[1] - two[0]))), "{hourly:?}");
    }
    assert_ne!(turns("every 1d", "a"), turns("every 1d", "b"), "each at its own time");
    assert_eq!(turns("mtbf 1h", "a").len(), 0, "another kind takes no part");
}

#[test]
fn a_narrowed_workload_is_due_more_rarely_by_mtbf() {
    let timetable = timetable("mtbf 1h");
    let all = slots(&timetable, "2026-11-23T12:00:00Z", 20_000);
    let due = |own: &str| {
        let own = Schedule::parse(own).unwrap();
        all.iter().filter(|slot| timetable.is_due_by(&own, UID, "w", **slot)).count()
    };
    let (same, rarer) = (due("mtbf 1h"), due("mtbf 5h"));
    assert_eq!(same, all.iter().filter(|slot| timetable.is_due(UID, "w", **slot)).count());
    assert!((270..390).contains(&same) && (40..95).contains(&rarer), "{same} {rarer}");
}
