//! Cron expressions with five fields, as a CronJob of Kubernetes has them.

use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Weekday};
use jiff::civil::{Date, date};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{RoundMode, Timestamp, TimestampRound, ToSpan, Unit};

/// The most gaps between instants that [`CronExpression::is_denser_than`] measures. The minutes and
/// hours are the same on each matching day, so the shortest gap of nearly every expression is among
/// them.
const GAPS: usize = 1_000;

/// Names that stand for five fields.
const NAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// The last value of each field. A step without an end, such as `0/15`, ends there.
const LAST: [&str; 5] = ["59", "23", "31", "12", "6"];

/// A cron expression with the text that it was read from. Two expressions are equal if their texts
/// are equal.
#[derive(Debug, Clone)]
pub struct CronExpression {
    text: String,
    parsed: Box<Cron>,
    zone: Option<TimeZone>,
}

/// Why a text is not a cron expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCron {
    /// The text does not have the right form.
    Form,
    /// A time zone stands in front of the expression, as `CRON_TZ=` or `TZ=`.
    ZoneInFront,
    /// The text has the right form, but no date in the calendar matches.
    Never,
}

impl CronExpression {
    /// Reads five fields: minute, hour, day of the month, month and day of the week. A name such as
    /// `@daily` can stand for the five fields. The IANA name of a time zone can follow them.
    ///
    /// # Errors
    /// Returns [`NoCron`] if the text is not a cron expression.
    pub fn read(text: &str) -> Result<Self, NoCron> {
        let mut words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.first().is_some_and(|first| first.starts_with("CRON_TZ=") || first.starts_with("TZ=")) {
            return Err(NoCron::ZoneInFront);
        }
        let text = words.join(" ");
        let is_named = words.first().is_some_and(|first| first.starts_with('@'));
        let zone = if words.len() == if is_named { 2 } else { 6 } { words.pop() } else { None };
        let zone =
            zone.map(|name| TimeZoneDatabase::bundled().get(name)).transpose().map_err(|_| NoCron::Form)?;
        let fields: Vec<&str> = match words.as_slice() {
            [name] if is_named => {
                let (_, fields) = NAMES.iter().find(|(known, _)| known == name).ok_or(NoCron::Form)?;
                fields.split(' ').collect()
            }
            _ => words,
        };
        let fields = <[&str; 5]>::try_from(fields).map_err(|_| NoCron::Form)?;
        let ended: Vec<String> =
            fields.iter().zip(LAST).map(|(field, last)| with_ended_steps(field, last)).collect();
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = Box::new(parser.parse(&ended.join(" ")).map_err(|_| NoCron::Form)?);
        if !ever_fires(&parsed) {
            return Err(NoCron::Never);
        }
        Ok(Self { text, parsed, zone })
    }

    /// Like [`CronExpression::read`], but without the reason of a failure.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text).ok()
    }

    /// The text that the expression was read from, with single spaces.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The time zone that the expression names. `None` if it names none.
    #[must_use]
    pub fn zone(&self) -> Option<&TimeZone> {
        self.zone.as_ref()
    }

    /// The first matching instant after `instant`, in the time zone `zone`. `None` if there is
    /// none.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = whole_second(instant)?.to_zoned(zone.clone());
        self.parsed.find_next_occurrence(&start, false).ok().map(|next| next.timestamp())
    }

    /// The last matching instant at or before `instant`, in the time zone `zone`. `None` if there
    /// is none.
    #[must_use]
    pub fn newest_until(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = whole_second(instant)?.to_zoned(zone.clone());
        self.parsed.find_previous_occurrence(&start, true).ok().map(|last| last.timestamp())
    }

    /// Whether two matching instants lie closer together than `shortest`. The check uses UTC,
    /// because a clock change must not decide the answer.
    #[must_use]
    pub fn is_denser_than(&self, shortest: Duration) -> bool {
        if shortest <= Duration::from_secs(60) {
            return false;
        }
        let mut last = None;
        let mut instant = Timestamp::UNIX_EPOCH;
        let end = instant + (4 * 366 * 24).hours();
        for _ in 0..GAPS {
            let Some(next) = self.next_after(instant, &TimeZone::UTC).filter(|next| *next < end) else {
                return false;
            };
            let gap = last.map(|last| next.duration_since(last));
            if gap.and_then(|gap| Duration::try_from(gap).ok()).is_some_and(|gap| gap < shortest) {
                return true;
            }
            last = Some(next);
            instant = next;
        }
        false
    }
}

/// Adds the last value of a field to a step without an end, such as `0/15`. A CronJob accepts such
/// a step, and the croner library does not.
fn with_ended_steps(field: &str, last: &str) -> String {
    let ended = |element: &str| match element.split_once('/') {
        Some((start, step)) if !start.is_empty() && !start.contains(['-', '*', '?']) => {
            format!("{start}-{last}/{step}")
        }
        _ => element.to_owned(),
    };
    field.split(',').map(ended).collect::<Vec<_>>().join(",")
}

/// Whether any date matches. Checks 28 years, because the calendar repeats itself after that.
fn ever_fires(cron: &Cron) -> bool {
    const WEEK: [Weekday; 7] = [
        Weekday::Sunday,
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
    ];
    let fires = |day: Date| {
        let unsigned = |number: i8| u32::try_from(number).unwrap_or(0);
        let (month, number) = (unsigned(day.month()), unsigned(day.day()));
        let weekday =
            usize::try_from(day.weekday().to_sunday_zero_offset()).ok().and_then(|of_week| WEEK.get(of_week));
        cron.pattern.month_match(month).unwrap_or(false)
            && weekday.is_some_and(|weekday| {
                cron.pattern.day_match(day.year().into(), month, number, *weekday).unwrap_or(false)
            })
    };
    let end = date(2028, 1, 1);
    date(2000, 1, 1).series(1.day()).take_while(|day| *day < end).any(fires)
}

/// `instant` without its fraction of a second. With a fraction, croner searches up to a second too
/// far where a clock goes back.
fn whole_second(instant: Timestamp) -> Option<Timestamp> {
    instant.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Floor)).ok()
}

impl PartialEq for CronExpression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for CronExpression {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cron(text: &str) -> CronExpression {
        CronExpression::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn forms() {
        assert_eq!(cron("0  9-17 * *\tMon-Fri").text(), "0 9-17 * * Mon-Fri");
        for wrong in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "a b c d e",
            "0 0 32 * *",
            "@often",
            "@daily 0",
            "0 9 * * * Nowhere",
        ] {
            assert_eq!(CronExpression::read(wrong), Err(NoCron::Form), "{wrong:?}");
        }
        for zoned in ["CRON_TZ=Europe/Berlin 0 9 * * *", "TZ=UTC 0 9 * * *"] {
            assert_eq!(CronExpression::read(zoned), Err(NoCron::ZoneInFront), "{zoned}");
        }
    }

    #[test]
    fn what_a_cron_job_takes_is_taken_and_means_the_same() {
        let start: Timestamp = "2026-11-23T12:01:00Z".parse().unwrap();
        let fires = |text: &str, count| {
            let next = |instant: &Timestamp| cron(text).next_after(*instant, &TimeZone::UTC);
            std::iter::successors(next(&start), next).take(count).map(|at| at.to_string()).collect::<Vec<_>>()
        };
        for (text, same) in [
            ("@hourly", "0 * * * *"),
            ("@daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@weekly", "0 0 * * Sun"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
            ("0/15 * * * *", "0,15,30,45 * * * *"),
            ("5/20,7 8/8 * * *", "5,7,25,45 8,16 * * *"),
            ("0 0 10/7 Jan/4 *", "0 0 10,17,24,31 1,5,9 *"),
            ("0 0 * * Thu/1", "0 0 * * 4,5,6"),
        ] {
            assert_eq!(fires(text, 9), fires(same, 9), "{text}");
            assert_eq!(cron(text).text(), text, "as it was written");
        }
    }

    #[test]
    fn what_never_fires_is_no_expression() {
        for never in ["0 0 31 4,6,9,11 *", "0 0 30 2 *", "0 0 31 2 *", "* * 30,31 2 *"] {
            assert_eq!(CronExpression::read(never), Err(NoCron::Never), "{never}");
        }
        for seldom in ["0 0 29 2 *", "0 0 31 4,5 *", "0 0 30 2 Mon", "0 0 L 2 *", "0 0 29 2 +Mon"] {
            assert!(CronExpression::read(seldom).is_ok(), "{seldom}");
        }
    }

    #[test]
    fn it_may_have_a_zone_of_its_own() {
        let berlin = cron("0 9 * * *  Europe/Berlin");
        assert_eq!(berlin.text(), "0 9 * * * Europe/Berlin");
        assert_eq!(berlin.zone(), TimeZoneDatabase::bundled().get("Europe/Berlin").ok().as_ref());
        assert_eq!(cron("@daily America/New_York").text(), "@daily America/New_York");
        assert_eq!(cron("0 9 * * *").zone(), None);
    }

    #[test]
    fn instants_follow_the_zone() {
        let berlin = jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
        let noon: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let nine = cron("0 9 * * *");
        assert_eq!(nine.next_after(noon, &berlin).unwrap().to_string(), "2026-11-24T08:00:00Z");
        assert_eq!(nine.newest_until(noon, &berlin).unwrap().to_string(), "2026-11-23T08:00:00Z");
        let slot = nine.next_after(noon, &TimeZone::UTC).unwrap();
        assert_eq!(slot.to_string(), "2026-11-24T09:00:00Z");
        assert_eq!(nine.newest_until(slot, &TimeZone::UTC), Some(slot));
    }

    #[test]
    fn density() {
        let hour = Duration::from_secs(3_600);
        for (text, denser) in [
            ("* * * * *", true),
            ("*/5 * * * *", true),
            ("0 * * * *", false),
            ("59,0 12 * * *", true),
            ("30 23 * * *", false),
            ("0,30 0 1 1 *", true),
        ] {
            assert_eq!(cron(text).is_denser_than(hour), denser, "{text}");
        }
        assert!(!cron("* * * * *").is_denser_than(Duration::from_secs(60)));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9*/,A-Za-z#@ LW?-]{0,24}") {
            if let Some(cron) = CronExpression::parse(&text) {
                prop_assert_eq!(CronExpression::parse(cron.text()), Some(cron));
            }
        }
    }
}
