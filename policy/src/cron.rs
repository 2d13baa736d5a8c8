//! Cron expressions of five fields, as `crontab` has them.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, TimestampRound, ToSpan, Unit};

/// Gaps that are looked at for the shortest one. An expression that fires more often than daily repeats itself within these.
const GAPS: usize = 1_000;

/// An expression, with the text that it was read from; it is the same as another if the text is.
#[derive(Debug, Clone)]
pub struct CronExpression {
    text: String,
    parsed: Box<Cron>,
}

impl CronExpression {
    /// Reads five fields: minute, hour, day of the month, month, day of the week.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        if fields.len() != 5 {
            return None;
        }
        let text = fields.join(" ");
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        Some(Self { parsed: Box::new(parser.parse(&text).ok()?), text })
    }

    /// The five fields.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first instant after `instant`, by the clocks of `zone`; `None` if it never fires again.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = whole_second(instant)?.to_zoned(zone.clone());
        self.parsed.find_next_occurrence(&start, false).ok().map(|next| next.timestamp())
    }

    /// The last instant at or before `instant`, by the clocks of `zone`.
    #[must_use]
    pub fn newest_until(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = whole_second(instant)?.to_zoned(zone.clone());
        self.parsed.find_previous_occurrence(&start, true).ok().map(|last| last.timestamp())
    }

    /// Whether two instants lie closer together than `shortest`. Asked of UTC, because a change of the clocks must not decide it.
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

/// `instant` without its fraction of a second: with one croner looks up to a second too far where a clock goes back.
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
        for wrong in
            ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "a b c d e", "@daily", "0 0 32 * *"]
        {
            assert_eq!(CronExpression::parse(wrong), None, "{wrong:?}");
        }
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
        assert_eq!(cron("0 0 31 2 *").next_after(noon, &berlin), None);
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
            ("0 0 31 2 *", false),
        ] {
            assert_eq!(cron(text).is_denser_than(hour), denser, "{text}");
        }
        assert!(!cron("* * * * *").is_denser_than(Duration::from_secs(60)));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9*/,A-Za-z# LW?-]{0,24}") {
            if let Some(cron) = CronExpression::parse(&text) {
                prop_assert_eq!(CronExpression::parse(cron.text()), Some(cron));
            }
        }
    }
}
