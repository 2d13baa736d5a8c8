//! The invariants that always have to hold. The oracle checks them against the truth of the
//! cluster, and not against what the agent believes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use policy::settings::Settings;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::objects::record_path;
use super::told::Owed;
use super::verdict::Killed;
use super::watches::Watches;

/// How long a workload may have been below its size when a process sends a kill in it. A round's
/// look may be that old.
pub const STALE: Duration = Duration::from_secs(12);

/// All invariants.
pub const INVARIANTS: [&str; 21] = [
    // Each kill follows a last look, after its intent was stored, that saw consent to exactly this
    // kill. No kill hits a namespace that is being deleted, nor a new one by consent to the old one.
    "consent",
    // No kill hits a Pod that asked to be left alone at the last look.
    "exclude",
    // Each kill has its intent in the record.
    "intent",
    // No kill hits a workload that has not recovered from its last kill, unless that kill has an
    // outcome.
    "two",
    // No kill hits a workload that has been below its size for longer than a round takes.
    "stale",
    // In mode `evict`, no kill is accepted against a PodDisruptionBudget, and none is sent long
    // after a budget began to allow nothing.
    "budget",
    // No kill is sent long after the watch of the Pods broke.
    "watch",
    // All namespaces together have no more kills in a minute than `killsPerMinute`.
    "rate",
    // After the answer to a kill, the next kill of the round follows a new look at the workloads.
    "look",
    // A round makes no more kills than `limit`,
    "limit",
    // and no more in one workload than `per-workload`.
    "several",
    // The record counts each kill once, and nothing else.
    "counted",
    // Each counted kill is pending or has exactly one outcome.
    "outcomes",
    // No recovery times out that truly recovered in time, and none times out before its deadline.
    "timed_out",
    // No recovery ends in `workload_deleted` while the workload exists.
    "workload_deleted",
    // No other outcome contradicts the truth.
    "outcome",
    // A measured time is the true time.
    "measured",
    // The same holds if the watch had a gap or was silent meanwhile.
    "measured_in_gap",
    // What was refused was told: each refusal that a process got as the answer to a kill, a single
    // replica, and a budget that allows nothing.
    "told",
    // When faults end, the agent serves rounds again,
    "resumed",
    // and no intent stays.
    "settled",
];

/// A broken invariant.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    pub text: String,
}

/// What a process saw at its last look.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The consent of each namespace when the process asked for the Namespace, and when the
    /// Namespace was read.
    pub asked: BTreeMap<usize, Result<Settings, String>>,
    pub read: BTreeMap<usize, Result<Settings, String>>,
    /// The UID of each Namespace, and when it was read.
    pub uids: BTreeMap<usize, (String, Instant)>,
    /// Whether each Pod, by UID, asks to be left alone.
    pub pods: BTreeMap<String, bool>,
    /// How many Pods had ever existed.
    pub there: usize,
}

#[derive(Default)]
pub struct Oracle {
    /// Invariants that are not checked.
    pub off: BTreeSet<&'static str>,
    pub violation: Option<Violation>,
    pub kills: Vec<Killed>,
    /// For each UID of a Pod: when its intent was stored.
    pub decided: BTreeMap<String, Instant>,
    /// When a read of a Namespace failed.
    pub unread: Vec<Instant>,
    /// UIDs of Pods that had an intent, with the record's UID.
    pub intended: BTreeSet<(String, String)>,
    /// How often each UID was counted.
    pub counted: BTreeMap<String, usize>,
    seen: BTreeMap<usize, Seen>,
    /// The UID of each namespace's record.
    records: BTreeMap<usize, String>,
    /// When consent was last missing in each namespace: no opt-in, no record, or a record that is
    /// not admitted.
    pub away: BTreeMap<usize, Instant>,
    /// For each process, namespace and kind, how many recoveries the process measured, and the sum of
    /// their times.
    pub measured: BTreeMap<(usize, String, String), (u64, f64)>,
    /// The refusals that a process reported: when, about what, and the text.
    pub refusals: Vec<(Instant, String, String)>,
    /// The processes that were killed at once.
    pub crashed: BTreeSet<usize>,
    /// The processes that were asked to end.
    pub leaving: BTreeSet<usize>,
    /// For each UID of a workload and each refusal that the record says was told: the process that
    /// wrote so.
    pub remembered: BTreeMap<(String, String), usize>,
    /// When each process last got the answer to a kill in each namespace, and when it last listed the
    /// workloads there.
    pub answers: BTreeMap<(usize, usize), Instant>,
    pub looks: BTreeMap<(usize, usize), Instant>,
    /// When each process first listed the records, and when each record was gone.
    pub listed: BTreeMap<usize, Instant>,
    pub gone: BTreeMap<String, Instant>,
    pub watches: Watches,
    /// The refusals that a process has to tell, and when a call of each process last met a fault.
    pub owed: Vec<Owed>,
    pub hindered: BTreeMap<usize, Instant>,
    /// The largest error that a clock ever had.
    pub clocks: Duration,
}

impl Oracle {
    pub fn violate(&mut self, invariant: &'static str, text: String) {
        assert!(INVARIANTS.contains(&invariant), "{invariant}");
        if self.violation.is_none() && !self.off.contains(invariant) {
            self.violation = Some(Violation { invariant, text });
        }
    }

    pub fn asked(&mut self, process: usize, namespace: usize, consent: Result<Settings, String>) {
        self.seen.entry(process).or_default().asked.insert(namespace, consent);
    }

    pub fn read(
        &mut self,
        process: usize,
        namespace: usize,
        consent: Result<Settings, String>,
        (uid, now): (&str, Instant),
    ) {
        let seen = self.seen.entry(process).or_default();
        seen.read.insert(namespace, consent);
        seen.uids.insert(namespace, (uid.to_owned(), now));
    }

    pub fn read_pod(&mut self, process: usize, uid: &str, excluded: bool) {
        self.seen.entry(process).or_default().pods.insert(uid.to_owned(), excluded);
    }

    /// Notes that a process is killed at once.
    pub fn crashes(&mut self, process: usize) {
        self.crashed.insert(process);
        let is_open =
            |kill: &&mut Killed| kill.process == process && !self.counted.contains_key(&kill.victims[0].uid);
        self.kills.iter_mut().filter(is_open).for_each(|kill| kill.counts_from = kill.decided);
    }

    /// What a process saw at its last look.
    pub fn look_of(&self, cluster: &Cluster, process: usize) -> Seen {
        let seen = self.seen.get(&process).cloned().unwrap_or_default();
        Seen { there: cluster.pods.len(), ..seen }
    }

    /// Checks what is true now.
    ///
    /// `latest` is the time of the clock that is most ahead. An opt-in may end for a process at that
    /// time.
    pub fn look(&mut self, cluster: &mut Cluster, latest: Timestamp, now: Instant) {
        for (number, namespace) in cluster.namespaces.iter().enumerate() {
            let record = cluster.api.get(&record_path(namespace.name));
            let uid = record.as_ref().and_then(|record| record["metadata"]["uid"].as_str());
            let admitted = record.as_ref().is_some_and(|record| record["spec"]["verdict"] == "Admitted");
            if uid != self.records.get(&number).map(String::as_str) {
                // Nobody will ever read what an old record had pending.
                let gone = self.records.remove(&number);
                self.gone.extend(gone.iter().map(|gone| (gone.clone(), now)));
                let away = self.away.get(&number).copied();
                let of_gone = self.kills.iter_mut().filter(|kill| Some(&kill.record) == gone.as_ref());
                for kill in of_gone.filter(|kill| kill.outcome.is_none()) {
                    kill.outcome = Some("gone".to_owned());
                    // Nobody opted out since the kill.
                    let is_deleted = namespace.terminating && away.is_some_and(|away| away < kill.at);
                    kill.deleted_with = is_deleted.then_some(now);
                }
                self.records.extend(uid.map(|uid| (number, uid.to_owned())));
                self.away.insert(number, now);
            }
            let is_expired = namespace.expires().is_some_and(|end| end <= latest);
            if !admitted
                || is_expired
                || namespace.annotations.get("chaos").is_none_or(|chaos| chaos != "yes")
            {
                self.away.insert(number, now);
            }
        }
        for workload in 0..cluster.workloads.len() {
            let ready = cluster.ready(workload);
            let it = &mut cluster.workloads[workload];
            it.ill_since = if ready < it.desired { it.ill_since.or(Some(now)) } else { None };
            if it.readies.last().is_none_or(|(_, known)| *known != ready) {
                it.readies.push((now, ready));
            }
        }
        self.kills.iter_mut().for_each(|kill| kill.look(cluster, now));
    }
}
