//! Days on which nothing is killed.

use std::fmt;

use jiff::civil::Date;

/// The form of such days, for error messages.
pub const EXPECTED: &str = "days, such as `2026-12-24` or `2026-12-20/2027-01-03`; several joined with `;`";

/// Ranges of days. A range contains its first and its last day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days(Vec<(Date, Date)>);

impl Days {
    /// Reads a range such as `2026-12-20/2027-01-03`, or a single day. Several are joined with `;`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split(';')
            .map(|part| {
                let (first, last) = part.trim().split_once('/').unwrap_or((part.trim(), part.trim()));
                let (first, last) = (parse_day(first)?, parse_day(last)?);
                (first <= last).then_some((first, last))
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Whether `day` is in one of the ranges.
    #[must_use]
    pub fn cover(&self, day: Date) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&day))
    }

    /// `day`, if it is in no range, and otherwise the next day that is in none. `None` only at the end
    /// of the calendar.
    #[must_use]
    pub fn next_free(&self, mut day: Date) -> Option<Date> {
        while let Some((_, last)) = self.0.iter().find(|(first, last)| (*first..=*last).contains(&day)) {
            day = last.tomorrow().ok()?;
        }
        Some(day)
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<String> = self
            .0
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}/{last}") })
            .collect();
        f.write_str(&ranges.join("; "))
    }
}

/// Reads a day in exactly the form `2026-12-24`. jiff also accepts more, such as a time after the
/// day, and that part would be lost.
fn parse_day(text: &str) -> Option<Date> {
    (text.len() == "2026-12-24".len())
        .then(|| text.parse().ok())?
        .filter(|day: &Date| day.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use jiff::civil::date;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        let days = Days::parse("2026-12-20/2027-01-03; 2026-05-01").unwrap();
        assert_eq!(days.to_string(), "2026-12-20/2027-01-03; 2026-05-01");
        for (day, expected) in [
            (date(2026, 12, 19), false),
            (date(2026, 12, 20), true),
            (date(2027, 1, 3), true),
            (date(2027, 1, 4), false),
            (date(2026, 5, 1), true),
        ] {
            assert_eq!(days.cover(day), expected, "{day}");
        }
        for wrong in [
            "",
            ";",
            "2026-13-01",
            "2026-02-30",
            "2026-1-1",
            "2027-01-03/2026-12-20",
            "2026-12-24T10:00",
            "20261224",
            "tomorrow",
        ] {
            assert_eq!(Days::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_next_free_day_is_behind_ranges_that_touch() {
        let days = Days::parse("2026-12-20/2026-12-24;2026-12-25;2027-01-01").unwrap();
        assert_eq!(days.next_free(date(2026, 12, 21)), Some(date(2026, 12, 26)));
        assert_eq!(days.next_free(date(2026, 12, 19)), Some(date(2026, 12, 19)));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(ranges in prop::collection::vec((0..40_000_i32, 0..400_i32), 1..4)) {
            let day = |offset: i32| date(1970, 1, 1) + offset.days();
            let days = Days(ranges.into_iter().map(|(first, length)| (day(first), day(first + length))).collect());
            prop_assert_eq!(Days::parse(&days.to_string()), Some(days));
        }

        #[test]
        fn nothing_panics(text in "\\PC*") {
            prop_assert!(Days::parse(&text).is_none_or(|days| Days::parse(&days.to_string()) == Some(days)));
        }
    }
}
