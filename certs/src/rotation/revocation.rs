//! Reads annotation [`REVOKE`] of Secret `certs-ca`. This module is pure.

use runtime::text::cut;

use crate::api::secrets::CA_SECRET;

/// The annotation of Secret `certs-ca` that revokes all CAs that exist. The value must be `true` or
/// `yes`, in upper or lower case.
pub const REVOKE: &str = "purechaos.dev/revoke";

/// The longest value in a log line, in bytes.
const LONGEST_VALUE: usize = 100;

/// Returns whether a value of [`REVOKE`] revokes. No other value revokes, and `false` least of all:
/// a revocation can't be undone, so somebody must clearly want it.
#[must_use]
pub fn is_asked(value: Option<&str>) -> bool {
    value.is_some_and(|value| ["true", "yes"].contains(&value.trim().to_ascii_lowercase().as_str()))
}

/// The value that was last reported as one that revokes nothing.
#[derive(Debug, Default)]
pub struct Told(Option<String>);

impl Told {
    /// Returns what to say about a value that revokes nothing. The advice comes once, for as long
    /// as the value stays.
    pub fn advice(&mut self, namespace: &str, value: Option<&str>) -> Option<String> {
        let value = value.filter(|value| !is_asked(Some(value)));
        if self.0.as_deref() == value {
            return None;
        }
        self.0 = value.map(str::to_owned);
        value.map(|value| {
            let value = cut(value, LONGEST_VALUE);
            format!(
                "annotation {REVOKE} of Secret {CA_SECRET} is {value:?}, which revokes nothing; to revoke all CAs write `true`: \
                 kubectl -n {namespace} annotate --overwrite secret {CA_SECRET} {REVOKE}=true; else remove it: \
                 kubectl -n {namespace} annotate secret {CA_SECRET} {REVOKE}-"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_revokes() {
        for value in ["true", "yes", "True", "YES", " yes"] {
            assert!(is_asked(Some(value)), "{value}");
        }
        for value in ["false", "no", "", "y", "yes!", "leaked", "0", "1"] {
            assert!(!is_asked(Some(value)), "{value:?}");
        }
        assert!(!is_asked(None));
    }

    #[test]
    fn another_value_is_told_once_for_as_long_as_it_stands() {
        let mut told = Told::default();
        let mut advice = |value| told.advice("pure-chaos", value);
        assert_eq!(advice(None), None);
        let line = advice(Some("false")).unwrap();
        assert!(line.contains("is \"false\", which revokes nothing"), "{line}");
        assert!(line.contains("annotate --overwrite secret certs-ca purechaos.dev/revoke=true"), "{line}");
        assert_eq!(advice(Some("false")), None);
        assert!(advice(Some("leaked")).is_some(), "another value");
        assert_eq!(advice(Some("yes")), None);
        assert!(advice(Some("leaked")).is_some(), "set again");
        assert_eq!(advice(None), None);
        assert!(advice(Some(&"x".repeat(200_000))).unwrap().len() < 500);
    }
}
