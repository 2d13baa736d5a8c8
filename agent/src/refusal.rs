//! The reasons why the agent does not kill something. Each has a label and a meaning for people.
//! They are listed in the order of the guards.

use strum::{IntoStaticStr, VariantArray};

/// The reason of a refusal. The variants are in the order of the guards: if several apply to a
/// workload, the agent reports the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// The namespace or the whole cluster is halted, or the agent can't read whether the cluster
    /// is.
    Halted,
    /// The webhook did not admit the namespace's annotations as they are now.
    NotAdmitted,
    /// The opt-in has expired.
    Expired,
    /// The time is outside the namespace's active hours.
    OutsideActiveHours,
    /// Today is an excepted day of the namespace or of the platform.
    Excepted,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The agent lacks a right in the namespace.
    NoRights,
    /// A setting can't be parsed, or exceeds a ceiling of the platform.
    UnknownSetting,
    /// A check of the steady state doesn't hold.
    NotSteady,
    /// A check of the steady state has no answer.
    SteadyStateUnknown,
    /// The kills in the whole cluster have reached the platform's `killsPerMinute`.
    BudgetSpent,
    /// No controller would replace the Pod.
    NoController,
    /// The Pod is a static Pod. The API server can't kill it.
    MirrorPod,
    /// The Pod belongs to a Job. Such a Pod is work, not a service.
    Job,
    /// The setting `kinds` does not include the workload's kind, or mode `force` must not touch it
    /// because it is a StatefulSet or a custom workload.
    KindNotSelected,
    /// The Pod or its workload asks to be left alone, or the Pod is critical.
    Excluded,
    /// The setting `targets` does not select the Pod.
    NotTargeted,
    /// A setting on the Pod template is wider than the namespace's, or not understood.
    NotNarrower,
    /// The Pod is younger than `min-age`.
    TooYoung,
    /// The Pod is already being deleted.
    Terminating,
    /// The Pod isn't Ready.
    NotReady,
    /// The Pod's node is cordoned. The agent knows this only if it may list nodes.
    NodeCordoned,
    /// The workload wants only one Pod, so a kill would leave none.
    SingleReplica,
    /// The workload is rolling out another Pod template.
    RollingOut,
    /// The agent can't find out how many Pods the workload wants.
    SizeUnknown,
    /// The workload has fewer Ready Pods than it wants.
    BelowDesired,
    /// The recovery from the last kill in the workload has not ended.
    RecoveryPending,
    /// The workload rests because its last recovery timed out, or a check broke during it.
    BackingOff,
    /// A PodDisruptionBudget allows no eviction of the Pod.
    BlockedByPdb,
    /// The Pod changed during its kill. This reason also holds for two minutes after a kill in the
    /// workload met such a change or had no clear answer.
    Changed,
    /// An outage would leave the workload without a Ready Pod.
    AllInOnePlace,
    /// Nobody can tell on which node or in which zone the Pod is.
    PlaceUnknown,
}

impl Refusal {
    /// All reasons, in the order of the guards.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// What the reason means, for people. The table in `docs/safeguards.md` has the same texts.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Halted => {
                "the namespace or the whole cluster is halted, or the agent can't read whether it is"
            }
            Self::NotAdmitted => {
                "the webhook did not admit the annotations as they are now: remove `chaos` and set it again"
            }
            Self::Expired => "the opt-in expired at the time that `expires` says",
            Self::OutsideActiveHours => "the time is outside `active-hours`",
            Self::Excepted => "today is one of the days in `except` of the namespace or of the platform",
            Self::NamespaceTerminating => "the namespace is being deleted",
            Self::NoRights => "the agent lacks a right in the namespace",
            Self::UnknownSetting => "a setting isn't understood, or it exceeds a ceiling",
            Self::NotSteady => "a check in `steady-state` does not hold",
            Self::SteadyStateUnknown => "a check in `steady-state` has no answer",
            Self::BudgetSpent => {
                "the kills in the whole cluster have reached the platform's `killsPerMinute`"
            }
            Self::NoController => "no controller would replace the Pod",
            Self::MirrorPod => "the Pod is a static Pod",
            Self::Job => "the Pod belongs to a Job",
            Self::KindNotSelected => {
                "`kinds` does not include the workload's kind, or mode `force` must not touch a \
                 StatefulSet or a custom workload"
            }
            Self::Excluded => "the Pod or its workload asks to be left alone, or the Pod is critical",
            Self::NotTargeted => "`targets` does not select the Pod",
            Self::NotNarrower => {
                "a setting on the Pod template is wider than the namespace's, or isn't understood"
            }
            Self::TooYoung => "the Pod is younger than `min-age`",
            Self::Terminating => "the Pod is already being deleted",
            Self::NotReady => "the Pod is not Ready",
            Self::NodeCordoned => "the Pod's node is cordoned",
            Self::SingleReplica => "the workload wants only one Pod, so a kill would leave none",
            Self::RollingOut => "the workload is rolling out another Pod template",
            Self::SizeUnknown => "the agent can't find out how many Pods the workload wants",
            Self::BelowDesired => "the workload has fewer Ready Pods than it wants",
            Self::RecoveryPending => "the recovery from the last kill in the workload has not ended",
            Self::BackingOff => {
                "the workload rests because its recovery timed out or a check broke during it: each rest is twice as long as the \
                 one before, and from the fifth on the workload rests until it is healthy"
            }
            Self::BlockedByPdb => {
                "a PodDisruptionBudget allows no eviction of the Pod; this also blocks a drain of the node"
            }
            Self::Changed => {
                "the Pod changed during its kill, or less than two minutes ago a kill in the workload met \
                 such a change or had no clear answer"
            }
            Self::AllInOnePlace => {
                "the workload's Ready Pods are all on one node or in one zone, so an outage there would \
                 leave none"
            }
            Self::PlaceUnknown => "nobody can tell on which node or in which zone the Pod is",
        }
    }

    /// The label in metrics, logs, Events and the record.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
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
