//! Problems with settings, in a namespace's annotations or in the platform's policy file.

use std::fmt;

use crate::settings::Key;
use crate::well_known::{CHAOS, HALT, PREFIX};

/// One problem with a setting, worded like Kubernetes' own validation errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field with the problem, such as `metadata.annotations[purechaos.dev/limit]`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Problem {
    /// The value at `path` is not allowed.
    #[must_use]
    pub fn invalid(path: String, value: &str, why: String) -> Self {
        Self { path, message: format!("Invalid value: {value:?}: {why}") }
    }

    /// The value at `path` is missing.
    #[must_use]
    pub fn required(path: String, why: String) -> Self {
        Self { path, message: format!("Required value: {why}") }
    }

    /// The key at `path` belongs to no setting. The message suggests the nearest known key, or
    /// lists the settings if no key is near.
    #[must_use]
    pub fn unknown(path: String, word: &str) -> Self {
        let keys = Key::ALL.iter().map(|key| key.annotation()).chain([CHAOS, HALT].map(str::to_owned));
        let distance = |key: String| {
            let known = key.strip_prefix(PREFIX).unwrap_or(&key).to_owned();
            (strsim::damerau_levenshtein(&word.to_ascii_lowercase(), &known), known.len(), key)
        };
        let advice = match keys.map(distance).min() {
            // A suggestion that differs in more than half of its letters only misleads.
            Some((distance, length, key)) if distance * 2 <= length => format!("did you mean `{key}`?"),
            _ => {
                let known: Vec<_> = Key::ALL.iter().map(|key| format!("`{}`", key.word())).collect();
                format!("this version knows {}", known.join(", "))
            }
        };
        Self { path, message: format!("Unknown setting: {advice}") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
