//! A number of Pods: fixed, or as a percentage of a total.

use std::fmt;

/// A number of Pods, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many Pods.
    Number(u32),
    /// So many percent of a total, from 1 to 100.
    Percent(u32),
}

impl Share {
    /// Reads a whole number such as `2`, or a percentage such as `25%`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| -> Option<u32> {
            // `parse` alone accepts `+1`.
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse().ok()).flatten().filter(|number| *number > 0)
        };
        match text.strip_suffix('%') {
            Some(percent) => number(percent).filter(|percent| *percent <= 100).map(Self::Percent),
            None => number(text).map(Self::Number),
        }
    }

    /// How many of `total` Pods this is. A percentage is rounded down, but is at least one.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Number(number) => number as usize,
            Self::Percent(percent) => (total.saturating_mul(percent as usize) / 100).max(1),
        }
    }

    /// Whether this is more than `most`, whatever the total is. A number and a percentage are only
    /// comparable when the total is known.
    #[must_use]
    pub fn exceeds(self, most: Self) -> bool {
        match (self, most) {
            (Self::Number(this), Self::Number(most)) | (Self::Percent(this), Self::Percent(most)) => {
                this > most
            }
            _ => false,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_a_number_or_a_percentage() {
        for (text, share) in [
            ("1", Share::Number(1)),
            ("12", Share::Number(12)),
            ("1%", Share::Percent(1)),
            ("100%", Share::Percent(100)),
        ] {
            assert_eq!(Share::parse(text), Some(share));
            assert_eq!(share.to_string(), text);
        }
        for text in ["", "0", "0%", "101%", "+1", "-1", "1.5", "%", "1 %", "5%%", "all", "99999999999", "٣"]
        {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_percentage_is_rounded_down_but_never_to_nothing() {
        let of = |total| Share::Percent(25).of(total);
        assert_eq!([0, 1, 3, 4, 7, 8, 100].map(of), [1, 1, 1, 1, 1, 2, 25]);
        assert_eq!(Share::Number(3).of(1), 3);
        assert_eq!(Share::Percent(100).of(usize::MAX / 2), usize::MAX / 100);
    }

    #[test]
    fn like_is_compared_with_like() {
        assert!(Share::Number(6).exceeds(Share::Number(5)) && !Share::Number(5).exceeds(Share::Number(5)));
        assert!(Share::Percent(51).exceeds(Share::Percent(50)));
        assert!(!Share::Percent(100).exceeds(Share::Number(1)), "nobody knows the total yet");
        assert!(!Share::Number(100).exceeds(Share::Percent(1)));
    }

    proptest! {
        #[test]
        fn a_percentage_is_never_more_than_the_whole(percent in 1..=100_u32, total in 1..100_000_usize) {
            let taken = Share::Percent(percent).of(total);
            prop_assert!((1..=total).contains(&taken));
            prop_assert!(taken == 1 || taken * 100 <= total * percent as usize);
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,12}", total in any::<usize>()) {
            if let Some(share) = Share::parse(&text) {
                prop_assert!(share.of(total) >= 1);
                prop_assert_eq!(Share::parse(&share.to_string()), Some(share));
            }
        }
    }
}
