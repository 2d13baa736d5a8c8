//! Compares active hours with a wall clock that the tests read every minute.

use jiff::tz::TimeZoneDatabase;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{ActiveHours, MIDNIGHT, Span};

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    // The clock changes by half an hour.
    "Australia/Lord_Howe",
    // The clock goes back for Ramadan, until 2026.
    "Africa/Casablanca",
    "Asia/Kathmandu",
    // The clock changes at midnight.
    "Asia/Beirut",
];
const MINUTES_OF_A_YEAR: i64 = 366 * 24 * 60;

fn hours(spans: &[(u8, u16, u16)], zone: &str) -> ActiveHours {
    let spans = spans.iter().map(|(days, from, to)| Span { days: *days, from: *from, to: *to }).collect();
    ActiveHours { spans, zone: TimeZoneDatabase::bundled().get(zone).unwrap() }
}

/// The minutes of a week, from Monday on. A minute is `true` if it is in a span.
struct Week(Vec<bool>);

impl Week {
    fn of(spans: &[(u8, u16, u16)]) -> Self {
        let minutes_of_day = usize::from(MIDNIGHT);
        let mut week = vec![false; 7 * minutes_of_day];
        for (days, from, to) in spans {
            for day in (0..7).filter(|day| days & (1 << day) != 0) {
                let length = if from <= to { to - from } else { to + MIDNIGHT - from };
                let begin = day * minutes_of_day + usize::from(*from);
                for minute in begin..begin + usize::from(length) {
                    week[minute % (7 * minutes_of_day)] = true;
                }
            }
        }
        Self(week)
    }

    fn contains(&self, hours: &ActiveHours, now: Timestamp) -> bool {
        let civil = hours.zone.to_datetime(now);
        let day = usize::try_from(civil.weekday().to_monday_zero_offset()).unwrap();
        let hour = day * 24 + usize::try_from(civil.hour()).unwrap();
        self.0[hour * 60 + usize::try_from(civil.minute()).unwrap()]
    }
}

fn spans() -> impl Strategy<Value = Vec<(u8, u16, u16)>> {
    // Short spans early in the day are likely, because clocks change there.
    let time = || prop_oneof![0..MIDNIGHT, 0..240_u16];
    prop::collection::vec((1..128_u8, time(), prop_oneof![4 => time(), 1 => Just(MIDNIGHT)]), 1..4)
}

fn minutes_from(start: Timestamp, count: i64) -> impl Iterator<Item = Timestamp> {
    (0..count).map(move |minute| start + SignedDuration::from_mins(minute))
}

/// The first four clock changes of the time zone from 2021 on, or fewer if the time zone has no
/// more.
fn changes(hours: &ActiveHours) -> Vec<Timestamp> {
    let begin = "2021-01-01T00:00:00Z".parse().unwrap();
    hours.zone.following(begin).map(|change| change.timestamp()).take(4).collect()
}

#[test]
fn a_whole_year_is_as_the_clock_on_the_wall_says() {
    // Office hours, a night that begins on a Saturday and ends after the clock change, and one
    // minute on Sunday. The clock of this time zone changes by half an hour.
    let spans = [(0b001_1111, 540, 1_020), (0b010_0000, 1_320, 105), (0b100_0000, 110, 111)];
    let hours = hours(&spans, "Australia/Lord_Howe");
    assert_eq!(ActiveHours::parse(&hours.to_string()).as_ref(), Some(&hours));
    let week = Week::of(&spans);
    let mut active = 0;
    for now in minutes_from("2026-01-01T00:00:00Z".parse().unwrap(), MINUTES_OF_A_YEAR) {
        let expected = week.contains(&hours, now);
        assert_eq!(hours.contains(now), expected, "{now}");
        active += u32::from(expected);
    }
    // There are 262 working days of eight hours, the first one from 11:00 on. There are 52 nights
    // of 225 minutes, and 52 Sundays with one minute. 16 of these minutes come twice, when the
    // clock goes back from 02:00 to 01:30.
    assert_eq!(active, 262 * 480 - 120 + 52 * 226 + 16);
}

#[test]
fn a_change_of_the_clocks_opens_too() {
    // On 2026-03-29 the clock skips 02:00 to 03:00. On 2026-10-25 it shows that hour twice, from
    // 00:00Z and from 01:00Z.
    for (from, to, start, opening) in [
        (150, 240, "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"),
        (150, 165, "2026-10-25T00:45:00Z", "2026-10-25T01:30:00Z"),
        (90, 150, "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z"),
    ] {
        let hours = hours(&[(0b100_0000, from, to)], "Europe/Berlin");
        let found = hours.next_opening(start.parse().unwrap()).unwrap();
        assert_eq!(found.to_string(), opening, "{hours}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn random_spans_are_as_the_clock_on_the_wall_says(
        spans in spans(), zone in prop::sample::select(&ZONES[..]), start in 0..4_000_000_000_i64,
    ) {
        let (hours, week) = (hours(&spans, zone), Week::of(&spans));
        let two_days = 2 * 24 * 60;
        let around = changes(&hours).into_iter().flat_map(|change| {
            minutes_from(change - SignedDuration::from_hours(24), two_days)
        });
        let start = Timestamp::from_second(start / 60 * 60).unwrap();
        for now in around.chain(minutes_from(start, two_days)) {
            let expected = week.contains(&hours, now);
            prop_assert_eq!(hours.contains(now), expected, "{} at {}", hours, now);
            // A span contains the whole minute, up to its last nanosecond.
            let last = now + SignedDuration::new(59, 999_999_999);
            prop_assert_eq!(hours.contains(last), expected, "{} at {}", hours, last);
        }
    }

    #[test]
    fn no_opening_is_missed_where_clocks_change(
        spans in spans(), zone in prop::sample::select(&ZONES[1..]), which in 0..4_usize, before in 0..600_i64,
    ) {
        let (hours, week) = (hours(&spans, zone), Week::of(&spans));
        let changes = changes(&hours);
        let change = changes.get(which).copied().unwrap_or_else(|| "2021-03-28T01:00:00Z".parse().unwrap());
        let start = change - SignedDuration::from_mins(before);
        let opening = minutes_from(start, 9 * 24 * 60).find(|now| week.contains(&hours, *now));
        prop_assert_eq!(hours.next_opening(start), opening, "{} from {}", hours, start);
    }
}
