//! How a victim is killed.

use std::fmt;

/// How a victim is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Through the eviction API, which respects PodDisruptionBudgets.
    Evict,
    /// By a DELETE, which does not.
    Delete,
    /// By a DELETE with grace 0; never a StatefulSet's Pod.
    Force,
}

impl Mode {
    /// All of them, from gentle to rough.
    pub const ALL: [Self; 3] = [Self::Evict, Self::Delete, Self::Force];

    /// The word of the grammar, and the metric label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Evict => "evict",
            Self::Delete => "delete",
            Self::Force => "force",
        }
    }

    /// Reads one word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == text)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
