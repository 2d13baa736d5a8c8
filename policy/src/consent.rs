//! The opt-in annotation of a namespace.

use std::collections::BTreeMap;

use crate::well_known::{CHAOS, YES};

/// What the opt-in annotation of a namespace says. A wrong value is not the same as no annotation,
/// because the person who mistyped it must hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consent {
    /// The namespace has no opt-in annotation.
    Absent,
    /// The annotation has this value, which is not `yes`.
    Invalid(String),
    /// The annotation is `yes`, so the namespace opted in.
    Yes,
}

impl Consent {
    /// Reads the opt-in annotation from a namespace's annotations.
    #[must_use]
    pub fn parse(annotations: &BTreeMap<String, String>) -> Self {
        match annotations.get(CHAOS).map(String::as_str) {
            None => Self::Absent,
            Some(YES) => Self::Yes,
            Some(other) => Self::Invalid(other.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(CHAOS.to_owned(), value.to_owned())])
    }

    #[test]
    fn only_the_exact_word_opts_in() {
        assert_eq!(Consent::parse(&BTreeMap::new()), Consent::Absent);
        assert_eq!(Consent::parse(&annotated("yes")), Consent::Yes);
        for near in ["Yes", "YES", "true", "y", "no", "yes ", " yes", "", "1", "yes\n"] {
            assert_eq!(Consent::parse(&annotated(near)), Consent::Invalid(near.to_owned()), "{near:?}");
        }
    }

    #[test]
    fn a_key_of_another_case_is_another_key() {
        let annotations = BTreeMap::from([("Chaos".to_owned(), "yes".to_owned())]);
        assert_eq!(Consent::parse(&annotations), Consent::Absent);
    }
}
