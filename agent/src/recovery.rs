//! Recovery: from the kill until the workload again has what it had and wanted, with the victim's replacement Ready; or until the
//! deadline. A value that is shown what was seen, and says when it has ended and how.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use policy::record::{Pending, WorkloadReference};
use tokio::time::Instant;

use crate::guards::Candidate;
use crate::views::{PodView, WorkloadView};

/// Seconds by which this machine's clock may differ from the API server's, whose creation times are whole seconds.
const CLOCK_SLACK: i64 = 2;

/// A kill that the API server accepted, and the moment of its answer.
#[derive(Debug)]
pub struct Kill {
    /// What was killed.
    pub candidate: Candidate,
    /// When the API server answered.
    pub answered: Instant,
    /// The same, by the wall clock.
    pub at: Timestamp,
    /// How long the recovery may take.
    pub deadline: Duration,
}

impl Kill {
    /// The form in which its pending recovery outlives this process.
    #[must_use]
    pub fn pending(&self) -> Pending {
        Recovery::begin(self, &BTreeSet::new()).pending()
    }
}

/// How a recovery ended. The order is that of precedence, if several hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The namespace was deleted.
    NamespaceDeleted,
    /// The namespace opted out.
    OptedOut,
    /// The workload was deleted.
    WorkloadDeleted,
    /// The workload's Pod template changed.
    RolledOut,
    /// The workload wants fewer Pods than it had.
    Rescaled,
    /// Another Pod of the workload, or the replacement, was lost in between.
    Disturbed,
    /// It recovered; its time is measured.
    Recovered,
    /// It recovered, but the agent was restarted in between: counted, not measured.
    RecoveredAfterRestart,
    /// It did not recover within the namespace's `recovery-deadline`.
    TimedOut,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NamespaceDeleted,
        Self::OptedOut,
        Self::WorkloadDeleted,
        Self::RolledOut,
        Self::Rescaled,
        Self::Disturbed,
        Self::Recovered,
        Self::RecoveredAfterRestart,
        Self::TimedOut,
    ];

    /// The word in metrics, logs and the record.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NamespaceDeleted => "namespace_deleted",
            Self::OptedOut => "opted_out",
            Self::WorkloadDeleted => "workload_deleted",
            Self::RolledOut => "rolled_out",
            Self::Rescaled => "rescaled",
            Self::Disturbed => "disturbed",
            Self::Recovered => "recovered",
            Self::RecoveredAfterRestart => "recovered_after_restart",
            Self::TimedOut => "timed_out",
        }
    }

    /// In a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NamespaceDeleted => "the namespace was deleted before it recovered",
            Self::OptedOut => "the namespace opted out before it recovered",
            Self::WorkloadDeleted => "the workload was deleted before it recovered",
            Self::RolledOut => "its Pod template changed before it recovered",
            Self::Rescaled => "it wants fewer Pods now than it had",
            Self::Disturbed => "another of its Pods was lost before it recovered",
            Self::Recovered => "it has as many Ready Pods as it had and wanted",
            Self::RecoveredAfterRestart => "the agent was restarted in between, so the time is not known",
            Self::TimedOut => "it did not recover within `recovery-deadline`, and rests now",
        }
    }
}

/// A Pod of the workload, and when the watch first showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The Pod as last seen.
    pub pod: PodView,
    /// When it was first seen.
    pub first_seen: Instant,
}

/// What is known of the workload beside its Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Surroundings {
    /// The namespace is being deleted or gone.
    NamespaceDeleted,
    /// The namespace is no longer opted in.
    OptedOut,
    /// The workload is gone, or another one has its name.
    WorkloadDeleted,
    /// The workload is there.
    Present(WorkloadView),
    /// It couldn't be read just now.
    Unknown,
}

/// Where the measurement starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// t0, which the watch may yet move earlier.
    Seen(Instant),
    /// Before this process started; its moment is only known by the wall clock.
    BeforeRestart,
}

/// A kill whose recovery has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The victim's name.
    pub victim: String,
    /// The victim's UID.
    pub victim_uid: String,
    /// The workload.
    pub workload: WorkloadReference,
    /// The lesser of Ready and desired Pods just before the kill.
    pub steady_state: u32,
    /// When it was killed, by the wall clock.
    pub killed: Timestamp,
    node: Option<String>,
    template: Option<String>,
    others: BTreeSet<String>,
    /// Those of `others` that the watch has shown: only what was seen can be lost.
    seen: BTreeSet<String>,
    start: Start,
    /// How long it may take.
    pub limit: Duration,
    deadline: Instant,
    replacement: Option<String>,
    last_change: Option<Instant>,
}

impl Recovery {
    /// Begins at the API server's answer to the kill. `watched` are the UIDs of all Pods that the watch has shown.
    #[must_use]
    pub fn begin(kill: &Kill, watched: &BTreeSet<String>) -> Self {
        let Kill { candidate, answered, at, deadline } = kill;
        Self {
            victim: candidate.pod.name.clone(),
            victim_uid: candidate.pod.uid.clone(),
            workload: candidate.workload.reference.clone(),
            steady_state: candidate.steady_state,
            killed: *at,
            node: candidate.pod.node.clone(),
            template: candidate.workload.template.clone(),
            others: candidate.others.clone(),
            seen: candidate.others.intersection(watched).cloned().collect(),
            start: Start::Seen(*answered),
            limit: *deadline,
            deadline: *answered + *deadline,
            replacement: None,
            last_change: None,
        }
    }

    /// Carries on what an earlier process left pending; `None` if the record can't be read. Which other Pods the workload had is not
    /// known any more, so only the loss of the replacement counts as disturbance.
    #[must_use]
    pub fn resume(pending: &Pending, limit: Duration, now: Timestamp, monotonic: Instant) -> Option<Self> {
        let killed: Timestamp = pending.time.parse().ok()?;
        let elapsed = Duration::try_from(now.duration_since(killed)).unwrap_or(Duration::ZERO);
        Some(Self {
            victim: pending.pod.clone(),
            victim_uid: pending.uid.clone(),
            workload: pending.workload.clone(),
            steady_state: u32::try_from(pending.steady_state).ok()?,
            killed,
            node: None,
            template: None,
            others: BTreeSet::new(),
            seen: BTreeSet::new(),
            start: Start::BeforeRestart,
            limit,
            deadline: monotonic + limit.saturating_sub(elapsed),
            replacement: None,
            last_change: None,
        })
    }

    /// The form in which it outlives this process.
    #[must_use]
    pub fn pending(&self) -> Pending {
        Pending {
            pod: self.victim.clone(),
            uid: self.victim_uid.clone(),
            workload: self.workload.clone(),
            time: self.killed.to_string(),
            steady_state: i64::from(self.steady_state),
        }
    }

    /// The watch showed that the victim is being deleted, or gone: t0 is the earlier of that and the API server's answer.
    pub fn victim_seen_dying(&mut self, at: Instant) {
        if let Start::Seen(t0) = &mut self.start {
            *t0 = at.min(*t0);
        }
    }

    /// The watch showed something of the workload's Pods. Until it does again they are as they were at this moment.
    pub fn pods_changed(&mut self, at: Instant) {
        self.last_change = Some(at);
    }

    /// Whether it ended by `at`, given the workload's Pods and surroundings at that moment. The victim may be among the Pods.
    pub fn judge(&mut self, pods: &[&Sighting], surroundings: &Surroundings, at: Instant) -> Option<Outcome> {
        let timed_out = (at >= self.deadline).then_some(Outcome::TimedOut);
        let workload = match surroundings {
            Surroundings::NamespaceDeleted => return Some(Outcome::NamespaceDeleted),
            Surroundings::OptedOut => return Some(Outcome::OptedOut),
            Surroundings::WorkloadDeleted => return Some(Outcome::WorkloadDeleted),
            Surroundings::Unknown => return timed_out,
            Surroundings::Present(workload) => workload,
        };
        if self.template.is_some() && workload.template != self.template {
            return Some(Outcome::RolledOut);
        }
        let Some(desired) = workload.desired else {
            return timed_out;
        };
        if desired < self.steady_state {
            return Some(Outcome::Rescaled);
        }
        if self.replacement.is_none() {
            self.replacement = self.find_replacement(pods);
        }
        let lost = |uid: &String| match pods.iter().find(|seen| seen.pod.uid == *uid) {
            Some(seen) => seen.pod.is_lost(),
            None => self.seen.contains(uid) || self.replacement.as_ref() == Some(uid),
        };
        if self.others.iter().chain(&self.replacement).any(lost) {
            return Some(Outcome::Disturbed);
        }
        let others = &self.others;
        self.seen.extend(pods.iter().map(|seen| &seen.pod.uid).filter(|uid| others.contains(*uid)).cloned());
        let ready: Vec<&str> = pods
            .iter()
            .filter(|seen| seen.pod.uid != self.victim_uid && seen.pod.counts_as_ready())
            .map(|seen| seen.pod.uid.as_str())
            .collect();
        let is_replaced = self.replacement.as_deref().is_some_and(|uid| ready.contains(&uid));
        if is_replaced && ready.len() >= self.steady_state.min(desired) as usize {
            return Some(match self.start {
                Start::Seen(_) => Outcome::Recovered,
                Start::BeforeRestart => Outcome::RecoveredAfterRestart,
            });
        }
        timed_out
    }

    /// How long the recovery took: from t0 to the last change of the workload's Pods, also when it was looked at only later.
    /// `None` if its beginning wasn't seen.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match self.start {
            Start::Seen(t0) => Some(self.last_change?.saturating_duration_since(t0)),
            Start::BeforeRestart => None,
        }
    }

    /// Same name and new UID for a StatefulSet, same node for a DaemonSet, else the first Pod first seen after t0.
    fn find_replacement(&self, pods: &[&Sighting]) -> Option<String> {
        pods.iter()
            .filter(|seen| seen.pod.uid != self.victim_uid && !self.others.contains(&seen.pod.uid))
            .filter(|seen| match self.start {
                Start::Seen(t0) => seen.first_seen >= t0,
                Start::BeforeRestart => seen.pod.created.as_second() >= self.killed.as_second() - CLOCK_SLACK,
            })
            .filter(|seen| match self.workload.kind.as_str() {
                "StatefulSet" => seen.pod.name == self.victim,
                "DaemonSet" => self.node.is_none() || seen.pod.node == self.node,
                _ => true,
            })
            .min_by_key(|seen| (seen.first_seen, seen.pod.uid.clone()))
            .map(|seen| seen.pod.uid.clone())
    }
}

#[cfg(test)]
mod tests;
