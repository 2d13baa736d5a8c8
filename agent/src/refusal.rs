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
    /// The kills in the whole cluster have reached the platform's `killsPerMinute`.
    BudgetSpent,
    /// No controller would replace the Pod.
    NoController,
    /// The Pod is a static Pod. The API server can't kill it.
    MirrorPod,
    /// The Pod belongs to a Job. Such a Pod is work, not a service.
    Job,
    /// The setting `kinds` does not include the workload's kind, or mode `force` must not touch it
    /// because it is a StatefulSet.
    KindNotSelected,
    /// The Pod or its workload asks to be left alone, or the Pod is critical.
    Excluded,
    /// The setting `targets` does not select the Pod.
    NotTargeted,
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
    /// The workload rests because its last recovery timed out.
    BackingOff,
    /// A PodDisruptionBudget allows no eviction of the Pod.
    BlockedByPdb,
    /// The Pod changed during its kill. This reason also holds for two minutes after a kill in the
    /// workload met such a change or had no clear answer.
    Changed,
}

impl Refusal {
    /// All reasons, in the order of the guards.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// What the reason means, for people. The table in `docs/safeguards.md` has the same texts.
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
            Self::Excluded => "it or its workload asks to be left alone, or it is critical",
            Self::NotTargeted => "its labels are not those of `targets`",
            Self::TooYoung => "younger than `min-age`",
            Self::Terminating => "being deleted already",
            Self::NotReady => "not Ready",
            Self::NodeCordoned => "its node is cordoned: somebody is at work there",
            Self::SingleReplica => "the workload has one Pod, and would be gone without it",
            Self::RollingOut => "the workload is being changed to another Pod template",
            Self::SizeUnknown => {
                "nothing says how many Pods the workload wants: it is of another kind, and has no ReplicaSets"
            }
            Self::BelowDesired => "the workload has fewer Ready Pods than it wants",
            Self::RecoveryPending => "the last kill in the workload has not ended in an outcome",
            Self::BackingOff => {
                "its recovery timed out: it rests, twice as long each time, and in the end until it is healthy"
            }
            Self::BlockedByPdb => "a PodDisruptionBudget allows no eviction; that also blocks a node's drain",
            Self::Changed => {
                "the Pod changed while it was being killed, or a kill in the workload met that or had no clear answer less than two minutes ago"
            }
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
