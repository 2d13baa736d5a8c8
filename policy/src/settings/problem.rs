//! What is wrong with a namespace's annotations.

use std::fmt;

use crate::keys::PREFIX;
use crate::settings::Key;

/// One thing wrong with a namespace's annotations, in the words of Kubernetes' own validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `metadata.annotations[purechaos.dev/limit]`.
    pub path: String,
    /// What, and what to write instead.
    pub message: String,
}

impl Problem {
    /// A value that isn't allowed at `path`.
    #[must_use]
    pub fn invalid(path: String, value: &str, why: String) -> Self {
        Self { path, message: format!("Invalid value: {value:?}: {why}") }
    }

    /// A value that is missing at `path`.
    #[must_use]
    pub fn required(path: String, why: String) -> Self {
        Self { path, message: format!("Required value: {why}") }
    }

    /// A key that no setting has, with the nearest one that has.
    #[must_use]
    pub fn unknown(path: String, word: &str) -> Self {
        let known = Key::ALL.map(Key::word);
        let nearest = known.into_iter().map(|key| (strsim::damerau_levenshtein(word, key), key)).min();
        let advice = match nearest {
            // Farther than half of the word, a guess only misleads.
            Some((distance, key)) if distance * 2 <= key.len() => format!("did you mean `{PREFIX}{key}`?"),
            _ => format!("this version knows {}", known.map(|key| format!("`{key}`")).join(", ")),
        };
        Self { path, message: format!("Unknown setting: {advice}") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
