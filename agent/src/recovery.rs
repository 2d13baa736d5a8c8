//! Measures a recovery. A recovery starts with the first kill of a round in a workload. It ends when
//! the workload again has as many Ready Pods as it had and wants, with a replacement for each victim
//! among them, or when the deadline passes.
//!
//! A [`Recovery`] is a value without I/O. Its caller tells it what the watch showed, and it says
//! whether and how the recovery ended.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use policy::record::WorkloadReference;
use tokio::time::Instant;

use crate::cluster::snapshot::{PodView, WorkloadView};
use crate::guard::pods::Candidate;

mod confirmation;
mod outcome;
pub mod pending;
pub mod pod_store;
pub mod tracker;
mod victims;

use confirmation::Confirmation;
pub use outcome::RecoveryOutcome;
use pending::place;
pub use victims::Victim;

/// A kill that the API server accepted.
#[derive(Debug)]
pub struct Kill {
    /// The Pod that was killed, and its workload.
    pub candidate: Candidate,
    /// An instant just before the agent sent the kill.
    pub asked: Instant,
    /// The instant at which the API server answered.
    pub answered: Instant,
    /// The time of the answer, by the wall clock.
    pub at: Timestamp,
    /// How long the recovery may take.
    pub deadline: Duration,
    /// The names of the checks that are sampled until the recovery ends.
    pub checks: Vec<String>,
}

/// A Pod as the watch showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedPod {
    /// The Pod as last seen.
    pub pod: PodView,
    /// When the watch first showed the Pod.
    pub first_seen: Instant,
}

/// What the agent knows of the workload, apart from its Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkloadState {
    /// The namespace is being deleted or no longer exists.
    NamespaceDeleted,
    /// The namespace is no longer opted in.
    OptedOut,
    /// The workload no longer exists, or another workload has its name.
    WorkloadDeleted,
    /// The workload exists.
    Present(WorkloadView),
    /// The agent could not read the namespace or the workload.
    Unknown,
}

/// How long the answer to a kill may take if it alone says when the kill happened.
const PROMPT: Duration = Duration::from_secs(1);

/// When the measurement starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// The agent asked for the kill at `asked`. The measurement starts at `t0`, which the watch may
    /// later move earlier.
    Seen { asked: Instant, t0: Instant },
    /// An earlier process made the kill, or the agent found out about it later. Only its time by
    /// the wall clock is known.
    BeforeRestart,
}

/// How the agent knows the workload's other Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The agent saw them at the kill. A Pod that is not among them was created later.
    Kill,
    /// The agent does not know them yet. It takes them from the first look.
    Unknown,
    /// The agent took them from the first look after a restart. The replacement may be among them.
    FirstLook,
}

/// A recovery that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The Pods that were killed, in the order of their kills. There is at least one.
    victims: Vec<Victim>,
    /// The workload of the victims.
    pub workload: WorkloadReference,
    /// The number of Ready Pods or of desired Pods just before the first kill, whichever is smaller.
    pub steady_state: u32,
    /// The time of the first kill, by the wall clock.
    pub killed: Timestamp,
    template: Option<String>,
    /// UIDs of the workload's Pods besides the victims. They are known from the kill, or from the
    /// first look after a restart.
    others: BTreeSet<String>,
    origin: Origin,
    /// Those of `others` that the watch has shown. Only a Pod that was seen can be lost.
    seen: BTreeSet<String>,
    start: Start,
    /// Whether the kill happened at `t0`: the answer was prompt, or the watch showed the victim being
    /// deleted.
    is_start_known: bool,
    /// Whether the Pods were not watched all the time since the kill.
    interrupted: bool,
    /// How long the recovery may take, counted from the kill.
    pub limit: Duration,
    /// Whether the Pod template narrows that time.
    own_limit: bool,
    deadline: Instant,
    last_change: Option<Instant>,
    /// Whether the Pods could not be judged since their last change.
    unjudged: bool,
    /// When the Pods first were as many as before the kill, with the replacements among them, even if
    /// the namespace or the workload could not be read at that moment.
    whole: Option<Instant>,
    /// Whether a live list has confirmed what the watch shows.
    confirmation: Confirmation,
}

impl Recovery {
    /// A recovery that begins with the API server's answer to the kill. `watched` are the UIDs of
    /// all Pods that the watch has shown. [`Recovery::join`] adds further kills of the same round.
    #[must_use]
    pub fn begin(kill: &Kill, watched: &BTreeSet<String>) -> Self {
        let Kill { candidate, asked, answered, at, deadline, checks: _ } = kill;
        Self {
            victims: vec![Victim::new(&candidate.pod.name, &candidate.pod.uid, *at, place(candidate))],
            workload: candidate.workload.reference.clone(),
            steady_state: candidate.steady_state,
            killed: *at,
            template: candidate.workload.template.clone(),
            others: candidate.others.clone(),
            origin: Origin::Kill,
            seen: candidate.others.intersection(watched).cloned().collect(),
            start: Start::Seen { asked: *asked, t0: *answered },
            is_start_known: answered.saturating_duration_since(*asked) <= PROMPT,
            interrupted: false,
            limit: *deadline,
            own_limit: candidate.narrowing.as_ref().is_some_and(|own| own.recovery_deadline.is_some()),
            deadline: *answered + *deadline,
            last_change: None,
            unjudged: false,
            whole: None,
            confirmation: Confirmation::Missing,
        }
    }

    /// The watch showed that a victim is being deleted or is gone. The measurement starts at this
    /// moment if it is earlier than the API server's answer. A victim that is gone without having
    /// been seen before that may have begun to end long ago.
    pub fn victim_seen_dying(&mut self, uid: &str, at: Instant, is_gone: bool) {
        // A later victim says nothing about when the first one was killed.
        self.is_start_known |= !is_gone && self.victims.first().is_some_and(|first| first.uid == uid);
        if let Start::Seen { t0, .. } = &mut self.start {
            *t0 = at.min(*t0);
        }
    }

    /// The watch showed nothing for a while, until this moment. The time of the recovery can then
    /// no longer be measured.
    pub fn interrupt(&mut self, until: Instant) {
        // The answer can come long after the kill, so only the question counts.
        self.interrupted |= match self.start {
            Start::Seen { asked, .. } => asked <= until,
            Start::BeforeRestart => true,
        };
    }

    /// Whether the time of the recovery is still measured.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        !self.interrupted
    }

    /// The watch showed a change of the workload's Pods at this moment.
    pub fn pods_changed(&mut self, at: Instant) {
        // If nobody could judge the Pods since their last change, they may have been whole since then.
        self.interrupted |= self.unjudged;
        self.last_change = Some(at);
    }

    /// Says whether and how the recovery has ended by `at`, from the workload's Pods and its state at
    /// that moment. `pods` may contain the victims. If `pods` is `None`, because nobody could look,
    /// only the state of the workload or the deadline can end the recovery.
    pub fn judge(
        &mut self,
        pods: Option<&[&TrackedPod]>,
        workload_state: &WorkloadState,
        at: Instant,
    ) -> Option<RecoveryOutcome> {
        let timed_out = (at >= self.deadline).then_some(RecoveryOutcome::TimedOut);
        self.unjudged = pods.is_none();
        if let Some(pods) = pods.filter(|_| self.is_measured()) {
            // Also while the workload can't be read: a later change says nothing about the recovery.
            self.find_replacements(pods);
            if self.is_whole(pods) && !self.is_disturbed(pods) {
                self.whole = self.whole.or(self.last_change);
            }
        }
        let workload = match workload_state {
            WorkloadState::NamespaceDeleted => return Some(RecoveryOutcome::NamespaceDeleted),
            WorkloadState::OptedOut => return Some(RecoveryOutcome::OptedOut),
            WorkloadState::WorkloadDeleted => return Some(RecoveryOutcome::WorkloadDeleted),
            WorkloadState::Unknown => return timed_out,
            WorkloadState::Present(workload) => workload,
        };
        // A workload of a kind that the agent does not read has no template while it wants no Pods.
        if self.template.is_some() && workload.template.is_some() && workload.template != self.template {
            return Some(RecoveryOutcome::RolledOut);
        }
        let Some(desired) = workload.desired else {
            return timed_out;
        };
        if desired < self.steady_state {
            return Some(RecoveryOutcome::Rescaled);
        }
        let Some(pods) = pods else {
            return timed_out;
        };
        if self.origin == Origin::Unknown {
            self.take_stock(pods);
        }
        self.find_replacements(pods);
        // What was whole has recovered, whatever happened to the Pods while the workload could not
        // be read.
        if self.whole.is_none() && self.is_disturbed(pods) {
            return Some(RecoveryOutcome::Disturbed);
        }
        let others = &self.others;
        self.seen.extend(pods.iter().map(|seen| &seen.pod.uid).filter(|uid| others.contains(*uid)).cloned());
        if self.whole.is_some() || self.is_whole(pods) {
            return Some(if self.interrupted || !self.is_start_known {
                RecoveryOutcome::RecoveredAfterRestart
            } else {
                RecoveryOutcome::Recovered
            });
        }
        timed_out
    }

    /// How long the recovery took: from t0 to the change that made the workload's Pods whole, even
    /// if the agent looked later. `None` if the Pods were not watched all the time.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match self.start {
            Start::Seen { t0, .. } if !self.interrupted && self.is_start_known => {
                Some(self.whole.or(self.last_change)?.saturating_duration_since(t0))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
