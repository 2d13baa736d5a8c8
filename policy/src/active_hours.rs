//! Active hours: the spans of the week in which Pods may be killed, in one time zone.

use std::fmt;

use jiff::civil::{Date, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

/// The form of active hours, for error messages.
pub const EXPECTED: &str = "days, hours and a time zone, such as `Mon-Fri 09:00-17:00 Europe/Berlin`; several joined with `;`, all in one zone";

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];
/// The end of a day, in minutes since its start: one past the last minute.
const MIDNIGHT: u16 = 24 * 60;

/// Spans of the week, in one time zone.
///
/// The start of a span belongs to the span, and its end does not. Both are times on the wall clock
/// of the time zone. So an hour that a clock change skips is never active, and an hour that it
/// repeats is active twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveHours {
    spans: Vec<Span>,
    zone: TimeZone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    /// One bit for each day. Bit 0 is Monday.
    days: u8,
    /// The start, in minutes since midnight.
    from: u16,
    /// The end, in minutes since midnight. An end before `from` is on the next day.
    to: u16,
}

impl ActiveHours {
    /// Reads spans such as `Mon-Fri 09:00-17:00 Europe/Berlin`. Several spans are joined with `;`
    /// and have the same time zone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut spans = Vec::new();
        let mut zone = None;
        for part in text.split(';') {
            let [days, times, name] =
                <[&str; 3]>::try_from(part.split_whitespace().collect::<Vec<_>>()).ok()?;
            let (from, to) = times.split_once('-')?;
            spans.push(Span { days: parse_days(days)?, from: parse_time(from)?, to: parse_time(to)? });
            // Use the bundled database and not the machine's, because the webhook and the agent
            // must read the same time zone.
            let named = TimeZoneDatabase::bundled().get(name).ok()?;
            if *zone.get_or_insert_with(|| named.clone()) != named {
                return None;
            }
        }
        Some(Self { spans, zone: zone? }).filter(|hours| hours.spans.iter().all(|span| span.from < MIDNIGHT))
    }

    /// The time zone of all spans.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Whether `instant` is in one of the spans.
    #[must_use]
    pub fn contains(&self, instant: Timestamp) -> bool {
        let local = instant.to_zoned(self.zone.clone());
        let minute = minutes(local.hour(), local.minute());
        let (today, yesterday) = (local.weekday(), local.weekday().previous());
        self.spans.iter().any(|span| span.contains(today, yesterday, minute))
    }

    /// `instant`, if it is in a span, and otherwise the next instant at which a span opens. `None` if
    /// no span opens today or on the next eight days. Then all spans are empty, or a clock change
    /// skips the only span of that week.
    #[must_use]
    pub fn next_opening(&self, instant: Timestamp) -> Option<Timestamp> {
        if self.contains(instant) {
            return Some(instant);
        }
        let today = self.zone.to_datetime(instant).date();
        let days = (0..=8).filter_map(|ahead| today.checked_add(ahead.days()).ok());
        let starts = days.flat_map(|day| self.spans.iter().flat_map(move |span| self.starts_on(span, day)));
        // A clock change can also open a span: it can skip the span's start, or go back into the
        // span.
        let end = instant.checked_add((9 * 24).hours()).unwrap_or(Timestamp::MAX);
        let changes = self.zone.following(instant).map(|change| change.timestamp());
        starts
            .chain(changes.take_while(|change| *change < end))
            .filter(|start| *start >= instant && self.contains(*start))
            .min()
    }

    /// The one or two instants of a day at which the wall clock shows the start of the span. If a
    /// clock change skips that time, returns an instant before and one after it.
    fn starts_on(&self, span: &Span, day: Date) -> Vec<Timestamp> {
        let time = i8::try_from(span.from / 60).ok().zip(i8::try_from(span.from % 60).ok());
        let Some((hour, minute)) = time.filter(|_| span.days & bit(day.weekday()) != 0) else {
            return Vec::new();
        };
        let start = self.zone.to_ambiguous_timestamp(day.at(hour, minute, 0, 0));
        [start.earlier(), start.later()].into_iter().filter_map(Result::ok).collect()
    }
}

impl Span {
    fn contains(&self, today: Weekday, yesterday: Weekday, minute: u16) -> bool {
        let begun_today = self.days & bit(today) != 0;
        if self.from <= self.to {
            return begun_today && (self.from..self.to).contains(&minute);
        }
        (begun_today && minute >= self.from) || (self.days & bit(yesterday) != 0 && minute < self.to)
    }
}

impl fmt::Display for ActiveHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.iana_name().unwrap_or("UTC");
        for (index, Span { days, from, to }) in self.spans.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let (from_hour, from_minute, to_hour, to_minute) = (from / 60, from % 60, to / 60, to % 60);
            write!(
                f,
                "{separator}{} {from_hour:02}:{from_minute:02}-{to_hour:02}:{to_minute:02} {zone}",
                print_days(*days)
            )?;
        }
        Ok(())
    }
}

fn bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset()
}

fn minutes(hour: i8, minute: i8) -> u16 {
    u16::from(hour.unsigned_abs()) * 60 + u16::from(minute.unsigned_abs())
}

/// Reads days such as `Mon`, `Mon-Fri` or `Sat-Mon`, joined with commas.
fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|(known, _)| *known == name);
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let length = (last + DAYS.len() - first) % DAYS.len();
        days |= (first..=first + length).fold(0, |days, index| days | bit(DAYS[index % DAYS.len()].1));
    }
    Some(days)
}

fn print_days(days: u8) -> String {
    let mut words = Vec::new();
    let mut index = 0;
    while index < DAYS.len() {
        let length = DAYS[index..].iter().take_while(|(_, day)| days & bit(*day) != 0).count();
        let run = &DAYS[index..index + length];
        match run {
            [] => {}
            [(first, _), .., (last, _)] if length > 2 => words.push(format!("{first}-{last}")),
            run => words.extend(run.iter().map(|(name, _)| (*name).to_owned())),
        }
        index += length.max(1);
    }
    words.join(",")
}

/// Reads a time such as `09:00`, in minutes since midnight. `24:00` is the end of the day.
fn parse_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u16>().ok())?
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (minute < 60).then_some(hour * 60 + minute).filter(|time| *time <= MIDNIGHT)
}

#[cfg(test)]
mod years;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hours(text: &str) -> ActiveHours {
        ActiveHours::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn forms() {
        for (text, printed) in [
            ("Mon-Fri 09:00-17:00 Europe/Berlin", "Mon-Fri 09:00-17:00 Europe/Berlin"),
            ("Mon-Fri  09:00-17:00  europe/berlin", "Mon-Fri 09:00-17:00 Europe/Berlin"),
            ("Sat-Mon 22:00-06:00 UTC", "Mon,Sat,Sun 22:00-06:00 UTC"),
            ("Tue,Mon 00:00-24:00 Asia/Kathmandu", "Mon,Tue 00:00-24:00 Asia/Kathmandu"),
            ("Mon 09:00-12:00 UTC;Fri 13:00-14:30 UTC", "Mon 09:00-12:00 UTC; Fri 13:00-14:30 UTC"),
            ("Mon 09:00-09:00 UTC", "Mon 09:00-09:00 UTC"),
        ] {
            assert_eq!(hours(text).to_string(), printed);
        }
        for wrong in [
            "",
            ";",
            "Mon-Fri 09:00-17:00",
            "Mon-Fri 9:00-17:00 UTC",
            "Mon-Fri 09:00-25:00 UTC",
            "Mon-Fri 09:60-17:00 UTC",
            "Mon-Fri 24:00-08:00 UTC",
            "mon 09:00-17:00 UTC",
            "Mon- 09:00-17:00 UTC",
            "Mon-Fri 09:00-17:00 Europe/Atlantis",
            "Mon 09:00-12:00 UTC; Fri 13:00-14:30 Europe/Berlin",
            "Mon 09:00-12:00 UTC;",
            "09:00-17:00 UTC",
        ] {
            assert_eq!(ActiveHours::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_start_is_in_and_the_end_is_not() {
        let office = hours("Mon-Fri 09:00-17:00 Europe/Berlin");
        // 2026-11-23 is a Monday. In winter, Berlin is one hour ahead of UTC.
        for (instant, expected) in [
            ("2026-11-23T07:59:59Z", false),
            ("2026-11-23T08:00:00Z", true),
            ("2026-11-23T15:59:59Z", true),
            ("2026-11-23T16:00:00Z", false),
            ("2026-11-22T12:00:00Z", false),
            // In summer, Berlin is two hours ahead of UTC.
            ("2026-07-20T07:00:00Z", true),
            ("2026-07-20T15:00:00Z", false),
        ] {
            assert_eq!(office.contains(at(instant)), expected, "{instant}");
        }
    }

    #[test]
    fn a_span_over_midnight_belongs_to_the_day_it_begins_on() {
        let night = hours("Fri 22:00-06:00 UTC");
        for (instant, expected) in [
            ("2026-11-20T21:59:00Z", false),
            ("2026-11-20T22:00:00Z", true),
            ("2026-11-21T05:59:00Z", true),
            ("2026-11-21T06:00:00Z", false),
            ("2026-11-21T23:00:00Z", false),
            ("2026-11-20T03:00:00Z", false),
        ] {
            assert_eq!(night.contains(at(instant)), expected, "{instant}");
        }
    }

    #[test]
    fn a_skipped_hour_is_never_active_and_a_repeated_one_twice() {
        let early = hours("Sun 02:00-03:00 Europe/Berlin");
        // On 2026-03-29 the clock skips 02:00 to 03:00. On 2026-10-25 it shows that hour twice.
        let count = |day: &str| {
            let midnight = at(&format!("{day}T00:00:00Z"));
            (-120..240_i64).filter(|minute| early.contains(midnight + (*minute).minutes())).count()
        };
        assert_eq!((count("2026-03-29"), count("2026-10-25"), count("2026-11-01")), (0, 120, 60));
    }

    #[test]
    fn the_next_opening() {
        let office = hours("Mon-Fri 09:00-17:00 Europe/Berlin");
        let opening = |instant: &str| office.next_opening(at(instant)).map(|opening| opening.to_string());
        assert_eq!(opening("2026-11-23T10:00:00Z").unwrap(), "2026-11-23T10:00:00Z");
        assert_eq!(opening("2026-11-20T16:00:00Z").unwrap(), "2026-11-23T08:00:00Z");
        assert_eq!(hours("Mon 09:00-09:00 UTC").next_opening(at("2026-11-20T16:00:00Z")), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(
            spans in prop::collection::vec((1..128_u8, 0..MIDNIGHT, 0..=MIDNIGHT), 1..4),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns"]),
        ) {
            let spans = spans.into_iter().map(|(days, from, to)| Span { days, from, to }).collect();
            let hours = ActiveHours { spans, zone: TimeZoneDatabase::bundled().get(zone).unwrap() };
            prop_assert_eq!(ActiveHours::parse(&hours.to_string()), Some(hours));
        }

        #[test]
        fn nothing_panics(text in "\\PC*") {
            prop_assert!(ActiveHours::parse(&text).is_none_or(|hours| ActiveHours::parse(&hours.to_string()) == Some(hours)));
        }

        #[test]
        fn an_opening_is_open_and_nothing_before_it_is(start in 0..4_000_000_000_i64, from in 0..MIDNIGHT, to in 0..=MIDNIGHT) {
            let span = Span { days: 0b001_0010, from, to };
            let zone = TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
            let hours = ActiveHours { spans: vec![span], zone };
            let start = Timestamp::from_second(start).unwrap();
            if let Some(opening) = hours.next_opening(start) {
                prop_assert!(hours.contains(opening));
                let minutes = opening.duration_since(start).as_mins();
                prop_assert!((0..minutes.min(3_000)).all(|minute| !hours.contains(start + minute.minutes())));
            } else {
                prop_assert_eq!(from, to);
            }
        }
    }
}
