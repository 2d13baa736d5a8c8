//! Pending recoveries in the record: how a process stores them, and how the next process continues
//! them.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use policy::durations;
use policy::record::{Pending, SampledCheck};
use tokio::time::Instant;

use super::{Confirmation, Kill, Origin, Recovery, Start, Victim};
use crate::guard::pods::Candidate;

impl Kill {
    /// The pending recovery in the form in which the record stores it.
    #[must_use]
    pub fn pending(&self) -> Pending {
        pending(&self.candidate, self.at, &self.checks)
    }
}

impl Recovery {
    /// Continues a recovery that an earlier process left pending. `None` if the record can't be
    /// parsed. [`Recovery::rejoin`] adds further kills of the same workload.
    ///
    /// If the record does not name the workload's other Pods, the Pods of the first look take their
    /// place. The recovery then does not need to know which of them is the replacement.
    #[must_use]
    pub fn resume(pending: &Pending, limit: Duration, now: Timestamp, monotonic: Instant) -> Option<Self> {
        let killed: Timestamp = pending.time.parse().ok()?;
        let limit = pending.deadline.as_deref().and_then(durations::parse).unwrap_or(limit);
        let elapsed = Duration::try_from(now.duration_since(killed)).unwrap_or(Duration::ZERO);
        Some(Self {
            victims: vec![Victim::new(&pending.pod, &pending.uid, killed, pending.node.clone())],
            workload: pending.workload.clone(),
            steady_state: u32::try_from(pending.steady_state).ok()?,
            killed,
            template: None,
            others: pending.others.iter().cloned().collect(),
            origin: if pending.others.is_empty() { Origin::Unknown } else { Origin::Kill },
            seen: BTreeSet::new(),
            start: Start::BeforeRestart,
            is_start_known: false,
            interrupted: true,
            limit,
            own_limit: pending.deadline.is_some(),
            deadline: monotonic + limit.saturating_sub(elapsed),
            last_change: None,
            unjudged: false,
            whole: None,
            confirmation: Confirmation::Missing,
        })
    }

    /// Adds a further kill of the same workload that an earlier process left pending, or that this
    /// process found out about later. The time of the recovery is then not measured. Returns false
    /// if the record can't be parsed.
    pub fn rejoin(&mut self, pending: &Pending) -> bool {
        let Ok(killed) = pending.time.parse() else { return false };
        self.add_victim(Victim::new(&pending.pod, &pending.uid, killed, pending.node.clone()));
        self.interrupted = true;
        // A later kill of a round finds fewer Ready Pods than the first one.
        self.steady_state = self.steady_state.max(u32::try_from(pending.steady_state).unwrap_or(0));
        true
    }

    /// The kills of the recovery in the form in which the record stores them, with the checks that
    /// are sampled.
    #[must_use]
    pub fn pending(&self, checks: &[SampledCheck]) -> Vec<Pending> {
        let of = |victim: &Victim| Pending {
            pod: victim.name.clone(),
            uid: victim.uid.clone(),
            workload: self.workload.clone(),
            time: victim.killed.to_string(),
            steady_state: i64::from(self.steady_state),
            others: match self.origin {
                Origin::Kill => told_others(&self.others, self.steady_state),
                Origin::Unknown | Origin::FirstLook => Vec::new(),
            },
            node: victim.node.clone(),
            deadline: self.own_limit.then(|| durations::print(self.limit)),
            checks: checks.to_vec(),
        };
        self.victims.iter().map(of).collect()
    }
}

/// The node on which the replacement will run, if the victim belongs to a DaemonSet.
pub(super) fn place(victim: &Candidate) -> Option<String> {
    let is_of_node = victim.workload.reference.kind == "DaemonSet";
    victim.pod.node.clone().filter(|_| is_of_node)
}

/// The deadline of the recovery, if the Pod template narrows it.
fn narrowed_deadline(victim: &Candidate) -> Option<String> {
    victim.narrowing.as_ref()?.recovery_deadline.map(durations::print)
}

/// The most other Pods that the record names for each kill. The agent writes the whole status each
/// time, and an object can have at most 1.5 MB.
const MOST_OTHERS: usize = 200;

/// The other Pods that the record names. The list is empty if they are fewer than the steady state,
/// or too many to be named.
fn told_others(others: &BTreeSet<String>, steady_state: u32) -> Vec<String> {
    let tells = (steady_state as usize..=MOST_OTHERS).contains(&others.len());
    if tells { others.iter().cloned().collect() } else { Vec::new() }
}

/// A kill at `time`, in the form in which the record stores it.
#[must_use]
pub fn pending(victim: &Candidate, time: Timestamp, checks: &[String]) -> Pending {
    let sampled = |check: &String| SampledCheck { check: check.clone(), broken: None };
    Pending {
        pod: victim.pod.name.clone(),
        uid: victim.pod.uid.clone(),
        workload: victim.workload.reference.clone(),
        time: time.to_string(),
        steady_state: i64::from(victim.steady_state),
        others: told_others(&victim.others, victim.steady_state),
        node: place(victim),
        deadline: narrowed_deadline(victim),
        checks: checks.iter().map(sampled).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_names_no_more_pods_than_it_can_hold() {
        let others = |count: usize| (0..count).map(|number| number.to_string()).collect();
        assert_eq!(told_others(&others(MOST_OTHERS), 3).len(), MOST_OTHERS);
        assert!(told_others(&others(MOST_OTHERS + 1), 3).is_empty());
        assert!(told_others(&others(2), 3).is_empty(), "they tell nothing");
    }
}
