//! Durations in the form in which people write them: `10s`, `5m`, `1h30m`, `7d`.

use std::time::Duration;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// The form of a duration, for error messages.
pub const EXPECTED: &str = "a duration, such as `1m`";

/// The longest duration that [`parse`] accepts: 366 days. No setting needs a longer one, and no
/// computation overflows with it.
pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Reads whole numbers with the units `d`, `h`, `m` and `s`. Each unit occurs at most once, and
/// larger units come first. Returns `None` for zero and for more than [`LONGEST`].
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut seconds: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next()?;
        let (_, size) = units.find(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*size)?)?;
        rest = &tail[unit.len_utf8()..];
    }
    let duration = Duration::from_secs(seconds);
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

/// Prints a duration in the form that [`parse`] reads, without its fraction of a second. A duration
/// below one second is `0s`, which [`parse`] does not accept.
#[must_use]
pub fn print(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, size) in UNITS {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        for (text, seconds) in [("10s", 10), ("5m", 300), ("1h30m", 5_400), ("7d", 604_800), ("90m", 5_400)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "0s",
            "10",
            "s",
            "5 m",
            "1m1h",
            "1m1m",
            "-1s",
            "+1s",
            "1.5h",
            "10ms",
            "1H",
            "999999999999d",
            "400d",
            "١s",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(seconds in 1..=LONGEST.as_secs()) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&print(duration)), Some(duration));
        }

        #[test]
        fn nothing_panics(text in "\\PC*") {
            prop_assert!(parse(&text).is_none_or(|duration| duration <= LONGEST));
        }
    }
}
