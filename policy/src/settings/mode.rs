//! The modes in which a Pod can be killed.

use std::fmt;

/// How a Pod is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Through the eviction API, which respects PodDisruptionBudgets.
    Evict,
    /// By a DELETE request, which ignores PodDisruptionBudgets.
    Delete,
    /// By a DELETE request with grace period 0. A Pod of a StatefulSet is never killed this way.
    Force,
}

impl Mode {
    /// All modes, from gentle to rough.
    pub const ALL: [Self; 3] = [Self::Evict, Self::Delete, Self::Force];

    /// The name of the mode in annotations, in the policy file and in metric labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Evict => "evict",
            Self::Delete => "delete",
            Self::Force => "force",
        }
    }

    /// Reads the name of a mode.
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
