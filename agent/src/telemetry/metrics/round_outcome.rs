//! How a round can end.

use strum::{IntoStaticStr, VariantArray};

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RoundOutcome {
    /// The round killed at least one Pod.
    Killed,
    /// A guard refused the namespace, or the round killed nothing and at least one victim was
    /// refused at the last moment.
    Refused,
    /// There was no Pod to select: there are no Pods, the guards refused all of them, or no
    /// workload was due in a slot of an `mtbf` schedule.
    NoCandidate,
    /// The round was a dry run that would have killed at least one Pod.
    DryRun,
    /// The round could not decide, or it killed nothing although no guard refused a victim.
    Failed,
}

impl RoundOutcome {
    /// All outcomes.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}
