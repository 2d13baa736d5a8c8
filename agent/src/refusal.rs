//! Why something was not killed: one label each, in the guards' order, and what it means for people.

/// A guard's answer. The order is that of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A halt, here or everywhere; also when it can't be read.
    Halted,
    /// The webhook did not admit the namespace's annotations as they are now.
    NotAdmitted,
    /// The opt-in has ended.
    Expired,
    /// It is outside the namespace's active hours.
    OutsideActiveHours,
    /// It is a day without chaos, the namespace's or the platform's.
    Excepted,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The agent lacks a right in the namespace.
    NoRights,
    /// A setting isn't understood, or past a ceiling.
    UnknownSetting,
    /// The whole cluster has had its kills of this minute.
    BudgetSpent,
    /// Nothing would bring the Pod back.
    NoController,
    /// A static Pod: the API can't kill it.
    MirrorPod,
    /// A Job's Pod is work, not a service.
    Job,
    /// The workload is of a kind that isn't selected, or that the mode may not touch.
    KindNotSelected,
    /// The Pod's own annotations exclude it.
    Excluded,
    /// The Pod isn't one of the `targets`.
    NotTargeted,
    /// The Pod is younger than `min-age`.
    TooYoung,
    /// The Pod is being deleted already.
    Terminating,
    /// The Pod isn't Ready.
    NotReady,
    /// The Pod's node is cordoned; known only where nodes may be read.
    NodeCordoned,
    /// The workload has one Pod, and would be gone without it.
    SingleReplica,
    /// The workload is being changed to another Pod template.
    RollingOut,
    /// The workload has fewer Ready Pods than it wants, or it can't be told how many it wants.
    BelowDesired,
    /// The last kill in the workload has not ended in an outcome.
    RecoveryPending,
    /// The workload's last recoveries timed out.
    BackingOff,
    /// A PodDisruptionBudget allows no eviction.
    BlockedByPdb,
    /// The Pod changed while it was being killed, or did so less than two minutes ago.
    Changed,
}

impl Refusal {
    /// All of them, in the guards' order.
    pub const ALL: [Self; 26] = [
        Self::Halted,
        Self::NotAdmitted,
        Self::Expired,
        Self::OutsideActiveHours,
        Self::Excepted,
        Self::NamespaceTerminating,
        Self::NoRights,
        Self::UnknownSetting,
        Self::BudgetSpent,
        Self::NoController,
        Self::MirrorPod,
        Self::Job,
        Self::KindNotSelected,
        Self::Excluded,
        Self::NotTargeted,
        Self::TooYoung,
        Self::Terminating,
        Self::NotReady,
        Self::NodeCordoned,
        Self::SingleReplica,
        Self::RollingOut,
        Self::BelowDesired,
        Self::RecoveryPending,
        Self::BackingOff,
        Self::BlockedByPdb,
        Self::Changed,
    ];

    /// What it means, for people: the words of README's table.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Halted => "a halt, here or everywhere; also while it can't be read",
            Self::NotAdmitted => {
                "the webhook did not admit the annotations as they are now: remove `chaos` and set it again"
            }
            Self::Expired => "the opt-in has ended by its `expires`",
            Self::OutsideActiveHours => "it is outside `active-hours`",
            Self::Excepted => "it is one of the days of `except`, the namespace's or the platform's",
            Self::NamespaceTerminating => "the namespace is being deleted",
            Self::NoRights => "the agent lacks a right in the namespace",
            Self::UnknownSetting => "a setting isn't understood, or past a ceiling",
            Self::BudgetSpent => {
                "the whole cluster has had its kills of this minute, the platform's `killsPerMinute`"
            }
            Self::NoController => "nothing would bring the Pod back",
            Self::MirrorPod => "a static Pod",
            Self::Job => "a Job's Pod",
            Self::KindNotSelected => {
                "the workload is of another kind, or a StatefulSet that mode `force` may not touch"
            }
            Self::Excluded => "an annotation of the Pod asks to leave it alone",
            Self::NotTargeted => "its labels are not those of `targets`",
            Self::TooYoung => "younger than `min-age`",
            Self::Terminating => "being deleted already",
            Self::NotReady => "not Ready",
            Self::NodeCordoned => "its node is cordoned: somebody is at work there",
            Self::SingleReplica => "the workload has one Pod, and would be gone without it",
            Self::RollingOut => "the workload is being changed to another Pod template",
            Self::BelowDesired => "the workload has fewer Ready Pods than it wants",
            Self::RecoveryPending => "the last kill in the workload has not ended in an outcome",
            Self::BackingOff => {
                "its recovery timed out: it rests, twice as long each time, and in the end until it is healthy"
            }
            Self::BlockedByPdb => "a PodDisruptionBudget allows no eviction; that also blocks a node's drain",
            Self::Changed => "the Pod changed while it was being killed, or did so less than two minutes ago",
        }
    }

    /// The word in metrics, logs, Events and the record.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::NotAdmitted => "not_admitted",
            Self::Expired => "expired",
            Self::OutsideActiveHours => "outside_active_hours",
            Self::Excepted => "excepted",
            Self::NamespaceTerminating => "namespace_terminating",
            Self::NoRights => "no_rights",
            Self::UnknownSetting => "unknown_setting",
            Self::BudgetSpent => "budget_spent",
            Self::NoController => "no_controller",
            Self::MirrorPod => "mirror_pod",
            Self::Job => "job",
            Self::KindNotSelected => "kind_not_selected",
            Self::Excluded => "excluded",
            Self::NotTargeted => "not_targeted",
            Self::TooYoung => "too_young",
            Self::Terminating => "terminating",
            Self::NotReady => "not_ready",
            Self::NodeCordoned => "node_cordoned",
            Self::SingleReplica => "single_replica",
            Self::RollingOut => "rolling_out",
            Self::BelowDesired => "below_desired",
            Self::RecoveryPending => "recovery_pending",
            Self::BackingOff => "backing_off",
            Self::BlockedByPdb => "blocked_by_pdb",
            Self::Changed => "changed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_are_distinct_and_in_order() {
        let labels: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.is_sorted());
    }
}
