//! What is wrong with a namespace's annotations.

use std::fmt;

use crate::keys::{CHAOS, HALT, PREFIX};
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
        let keys = Key::ALL.map(Key::annotation).into_iter().chain([CHAOS, HALT].map(str::to_owned));
        let distance = |key: String| {
            let known = key.strip_prefix(PREFIX).unwrap_or(&key).to_owned();
            (strsim::damerau_levenshtein(&word.to_ascii_lowercase(), &known), known.len(), key)
        };
        let advice = match keys.map(distance).min() {
            // Farther than half of the word, a guess only misleads.
            Some((distance, length, key)) if distance * 2 <= length => format!("did you mean `{key}`?"),
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
