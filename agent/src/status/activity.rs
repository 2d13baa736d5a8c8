//! Whether rounds kill in a namespace, as the record shows it.

/// What rounds currently do in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Rounds kill, or will do so at the next slot.
    Kills,
    /// Rounds are dry runs.
    DryRuns,
    /// Rounds kill nothing.
    Nothing,
}

impl Activity {
    /// The status and the reason of the condition `Active`.
    pub(super) fn status_and_reason(self) -> (&'static str, &'static str) {
        match self {
            Self::Kills => ("True", "RoundsKill"),
            Self::DryRuns => ("False", "DryRun"),
            Self::Nothing => ("False", "NothingKilled"),
        }
    }
}
