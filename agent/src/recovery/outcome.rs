//! How a recovery can end.

use strum::{IntoStaticStr, VariantArray};

/// How a recovery ended. The order of the variants is their precedence, if several apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RecoveryOutcome {
    /// The namespace was deleted.
    NamespaceDeleted,
    /// The namespace opted out.
    OptedOut,
    /// The workload was deleted.
    WorkloadDeleted,
    /// The workload's Pod template changed.
    RolledOut,
    /// The workload wants fewer Pods than it had before the kill.
    Rescaled,
    /// Another Pod of the workload, or the replacement, was lost during the recovery.
    Disturbed,
    /// The workload recovered, and the time is measured.
    Recovered,
    /// The workload recovered, but the agent did not watch its Pods all the time. The recovery is
    /// counted, but its time is not measured.
    RecoveredAfterRestart,
    /// The workload did not recover within the namespace's `recovery-deadline`.
    TimedOut,
}

impl RecoveryOutcome {
    /// All outcomes.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label in metrics, logs and the record.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// What the outcome means, for people.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NamespaceDeleted => "the namespace was deleted before the workload recovered",
            Self::OptedOut => "the namespace opted out before the workload recovered",
            Self::WorkloadDeleted => "the workload was deleted before it recovered",
            Self::RolledOut => "the workload's Pod template changed before it recovered",
            Self::Rescaled => "the workload wants fewer Pods than it had",
            Self::Disturbed => "the workload lost another Pod before it recovered",
            Self::Recovered => "the workload again has as many Ready Pods as it had and wanted",
            Self::RecoveredAfterRestart => {
                "the agent or its watch of the Pods restarted before the recovery, so the time is not known"
            }
            Self::TimedOut => "the workload did not recover within `recovery-deadline`, and rests now",
        }
    }
}
