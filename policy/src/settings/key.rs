//! The settings' names.

use crate::durations;
use crate::keys::PREFIX;
use crate::{days, hours, schedule, targets};

/// The settings that this version understands; any other key of ours is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// When rounds happen.
    Schedule,
    /// One round more, at an instant.
    AlsoAt,
    /// The spans of the week outside which nothing is killed.
    ActiveHours,
    /// Days without chaos.
    Except,
    /// How a victim is killed.
    Mode,
    /// Pods killed in one round.
    Limit,
    /// The kinds of workloads whose Pods may die.
    Kinds,
    /// Which Pods may die, by their labels.
    Targets,
    /// Whether a workload with one Pod may lose it.
    SingleReplica,
    /// Instead of the Pod's own grace period.
    GracePeriod,
    /// Younger Pods are left alone.
    MinAge,
    /// After this time a recovery is `timed_out`.
    RecoveryDeadline,
    /// When the opt-in ends by itself.
    Expires,
    /// Everything but the effect.
    DryRun,
}

impl Key {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 14] = [
        Self::Schedule,
        Self::AlsoAt,
        Self::ActiveHours,
        Self::Except,
        Self::Mode,
        Self::Limit,
        Self::Kinds,
        Self::Targets,
        Self::SingleReplica,
        Self::GracePeriod,
        Self::MinAge,
        Self::RecoveryDeadline,
        Self::Expires,
        Self::DryRun,
    ];

    /// The word after the prefix; the same in the policy file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::AlsoAt => "also-at",
            Self::ActiveHours => "active-hours",
            Self::Except => "except",
            Self::Mode => "mode",
            Self::Limit => "limit",
            Self::Kinds => "kinds",
            Self::Targets => "targets",
            Self::SingleReplica => "single-replica",
            Self::GracePeriod => "grace-period",
            Self::MinAge => "min-age",
            Self::RecoveryDeadline => "recovery-deadline",
            Self::Expires => "expires",
            Self::DryRun => "dry-run",
        }
    }

    /// The whole annotation key.
    #[must_use]
    pub fn annotation(self) -> String {
        format!("{PREFIX}{}", self.word())
    }

    /// What a value must look like, with an example.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Schedule => schedule::EXPECTED,
            Self::AlsoAt | Self::Expires => "an instant, such as `2026-12-24T18:00:00Z`",
            Self::ActiveHours => hours::EXPECTED,
            Self::Except => days::EXPECTED,
            Self::Mode => "`evict`, `delete` or `force`",
            Self::Limit => "a whole number of Pods per round, at least 1, such as `1`",
            Self::Kinds => {
                "kinds of workloads joined with commas, such as `Deployment,StatefulSet`; not `Job`, whose Pods are work and no service"
            }
            Self::Targets => targets::EXPECTED,
            Self::SingleReplica => "`refuse` or `allow`",
            Self::GracePeriod => "a duration, such as `10s`; `0s` only with mode `force`",
            Self::MinAge => durations::EXPECTED,
            Self::RecoveryDeadline => "a duration, such as `5m`",
            Self::DryRun => "`true` or `false`",
        }
    }

    /// The setting of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.word() == word)
    }
}
