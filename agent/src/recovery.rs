//! Measures a recovery. A recovery starts with a kill. It ends when the workload again has as many
//! Ready Pods as it had and wants, with the victim's replacement among them, or when the deadline
//! passes.
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

use confirmation::Confirmation;
pub use outcome::RecoveryOutcome;
use pending::place;

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
    /// The victim's name.
    pub victim: String,
    /// The victim's UID.
    pub victim_uid: String,
    /// The workload of the victim.
    pub workload: WorkloadReference,
    /// The number of Ready Pods or of desired Pods just before the kill, whichever is smaller.
    pub steady_state: u32,
    /// The time of the kill, by the wall clock.
    pub killed: Timestamp,
    node: Option<String>,
    template: Option<String>,
    /// UIDs of the workload's Pods besides the victim. They are known from the kill, or from the
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
    deadline: Instant,
    replacement: Option<String>,
    last_change: Option<Instant>,
    /// Whether the Pods could not be judged since their last change.
    unjudged: bool,
    /// When the Pods first were as many as before the kill, with the replacement among them, even if
    /// the namespace or the workload could not be read at that moment.
    whole: Option<Instant>,
    /// Whether a live list has confirmed what the watch shows.
    confirmation: Confirmation,
}

impl Recovery {
    /// A recovery that begins with the API server's answer to the kill. `watched` are the UIDs of
    /// all Pods that the watch has shown.
    #[must_use]
    pub fn begin(kill: &Kill, watched: &BTreeSet<String>) -> Self {
        let Kill { candidate, asked, answered, at, deadline, checks: _ } = kill;
        Self {
            victim: candidate.pod.name.clone(),
            victim_uid: candidate.pod.uid.clone(),
            workload: candidate.workload.reference.clone(),
            steady_state: candidate.steady_state,
            killed: *at,
            node: place(candidate),
            template: candidate.workload.template.clone(),
            others: candidate.others.clone(),
            origin: Origin::Kill,
            seen: candidate.others.intersection(watched).cloned().collect(),
            start: Start::Seen { asked: *asked, t0: *answered },
            is_start_known: answered.saturating_duration_since(*asked) <= PROMPT,
            interrupted: false,
            limit: *deadline,
            deadline: *answered + *deadline,
            replacement: None,
            last_change: None,
            unjudged: false,
            whole: None,
            confirmation: Confirmation::Missing,
        }
    }

    /// The watch showed that the victim is being deleted or is gone. The measurement starts at this
    /// moment if it is earlier than the API server's answer. A victim that is gone without having
    /// been seen before that may have begun to end long ago.
    pub fn victim_seen_dying(&mut self, at: Instant, is_gone: bool) {
        self.is_start_known |= !is_gone;
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
    /// that moment. `pods` may contain the victim. If `pods` is `None`, because nobody could look,
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
            self.replacement_among(pods);
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
        self.replacement_among(pods);
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

    /// Looks for the replacement, unless it is known.
    fn replacement_among(&mut self, pods: &[&TrackedPod]) {
        if self.replacement.is_none() {
            let replacement = self.find_replacement(pods);
            // If it appeared before t0, the watch has not shown the victim's end, and the start is unknown.
            self.interrupted |= replacement.is_some_and(|seen| self.is_before_t0(seen.first_seen));
            self.replacement = replacement.map(|seen| seen.pod.uid.clone());
        }
    }

    /// Whether another Pod of the workload, or the replacement, is lost.
    fn is_disturbed(&self, pods: &[&TrackedPod]) -> bool {
        let lost = |uid: &String| match pods.iter().find(|seen| seen.pod.uid == *uid) {
            Some(seen) => seen.pod.is_lost(),
            None => self.seen.contains(uid) || self.replacement.as_ref() == Some(uid),
        };
        self.others.iter().chain(&self.replacement).any(lost)
    }

    /// Whether as many Pods are Ready as before the kill, with the replacement among them.
    fn is_whole(&self, pods: &[&TrackedPod]) -> bool {
        let ready: Vec<&str> = pods
            .iter()
            .filter(|seen| seen.pod.uid != self.victim_uid && seen.pod.counts_as_ready())
            .map(|seen| seen.pod.uid.as_str())
            .collect();
        let is_replaced = match &self.replacement {
            Some(uid) => ready.contains(&uid.as_str()),
            // If there are more Ready Pods than there were without the victim, one of them is the
            // replacement.
            None => self.origin == Origin::FirstLook && !self.has_place() && !ready.is_empty(),
        };
        is_replaced && ready.len() >= self.steady_state as usize
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

    /// Whether the replacement can be recognized by its name or its node.
    fn has_place(&self) -> bool {
        self.workload.kind == "StatefulSet" || self.node.is_some()
    }

    /// Whether the Pod could be the replacement, by its name or its node.
    fn is_in_place(&self, pod: &PodView) -> bool {
        match self.workload.kind.as_str() {
            "StatefulSet" => pod.name == self.victim,
            _ => self.node.is_none() || pod.node == self.node,
        }
    }

    /// Takes the workload's other Pods from the first look after a restart. The replacement may be
    /// among them.
    fn take_stock(&mut self, pods: &[&TrackedPod]) {
        let is_other = |seen: &&&TrackedPod| {
            let is_replacement = self.has_place() && self.is_in_place(&seen.pod);
            seen.pod.uid != self.victim_uid && !seen.pod.is_lost() && !is_replacement
        };
        self.others = pods.iter().filter(is_other).map(|seen| seen.pod.uid.clone()).collect();
        self.origin = Origin::FirstLook;
    }

    fn is_before_t0(&self, at: Instant) -> bool {
        matches!(self.start, Start::Seen { t0, .. } if at < t0)
    }

    /// Finds the replacement. For a StatefulSet it has the victim's name and a new UID, and for a
    /// DaemonSet it is on the victim's node. For other workloads it is the first new Pod since the
    /// kill was requested.
    fn find_replacement<'a>(&self, pods: &[&'a TrackedPod]) -> Option<&'a TrackedPod> {
        pods.iter()
            .copied()
            .filter(|seen| seen.pod.uid != self.victim_uid && !self.others.contains(&seen.pod.uid))
            .filter(|seen| match self.start {
                Start::Seen { asked, .. } => seen.first_seen >= asked,
                Start::BeforeRestart => true,
            })
            .filter(|seen| self.is_in_place(&seen.pod))
            .min_by_key(|seen| (seen.first_seen, seen.pod.created, seen.pod.uid.clone()))
    }
}

#[cfg(test)]
mod tests;
