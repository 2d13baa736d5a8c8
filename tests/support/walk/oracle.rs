//! The invariants that always have to hold. The oracle checks them against the truth of the
//! cluster, and not against what the agent believes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::record::{OptInStatus, ToldRefusal};
use policy::settings::{Mode, Settings};
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Cluster, Kind};
use super::verdict::Killed;

/// How long a workload may have been below its size when a process sends a kill in it. A round's
/// look may be that old.
pub const STALE: Duration = Duration::from_secs(12);

/// All invariants.
pub const INVARIANTS: [&str; 16] = [
    // Each kill follows a last look that saw consent to exactly this kill.
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
    // A round makes no more kills than `limit`.
    "limit",
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
    // If a workload has a single replica and the settings refuse that, the agent says so.
    "told",
    // When faults end, the agent serves rounds again,
    "resumed",
    // and no intent stays.
    "settled",
];

/// A kill as the API receives it.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub pod: usize,
    pub evicts: bool,
    pub grace: Option<u64>,
    pub is_dry: bool,
    /// What the process had seen when it sent the kill. A kill that is late arrives after the next
    /// looks.
    pub look: Seen,
}

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
    /// The consent when the process asked for the Namespace, and when the Namespace was read.
    asked: Option<Result<Settings, String>>,
    read: Option<Result<Settings, String>>,
    /// Whether each Pod, by UID, asks to be left alone.
    pods: BTreeMap<String, bool>,
}

#[derive(Default)]
pub struct Oracle {
    /// Invariants that are not checked.
    pub off: BTreeSet<&'static str>,
    pub violation: Option<Violation>,
    pub kills: Vec<Killed>,
    /// UIDs of Pods that had an intent, with the record's UID.
    pub intended: BTreeSet<(String, String)>,
    /// How often each UID was counted.
    pub counted: BTreeMap<String, usize>,
    seen: BTreeMap<usize, Seen>,
    record: Option<String>,
    /// When consent was last missing: no opt-in, no record, or a record that is not admitted.
    pub away: Option<Instant>,
    /// For each process and kind, how many recoveries the process measured, and the sum of their
    /// times.
    pub measured: BTreeMap<(usize, String), (u64, f64)>,
    /// The refusals that a process reported: when, about what, and the text.
    pub refusals: Vec<(Instant, String, String)>,
    /// The processes that were killed at once.
    pub crashed: BTreeSet<usize>,
    /// For each UID of a workload and each refusal that the record says was told: the process that
    /// wrote so.
    pub remembered: BTreeMap<(String, String), usize>,
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

    pub fn asked(&mut self, process: usize, consent: Result<Settings, String>) {
        self.seen.entry(process).or_default().asked = Some(consent);
    }

    pub fn read(&mut self, process: usize, consent: Result<Settings, String>) {
        self.seen.entry(process).or_default().read = Some(consent);
    }

    pub fn read_pod(&mut self, process: usize, uid: &str, excluded: bool) {
        self.seen.entry(process).or_default().pods.insert(uid.to_owned(), excluded);
    }

    pub fn told(&mut self, now: Instant, event: &Value) {
        if event["reason"] == "ChaosRefused" {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            self.refusals.push((now, word(&event["regarding"]["uid"]), word(&event["note"])));
        }
    }

    /// What a process saw at its last look.
    pub fn look_of(&self, process: usize) -> Seen {
        self.seen.get(&process).cloned().unwrap_or_default()
    }

    /// Notes that a process sends a kill.
    pub fn sends(&mut self, cluster: &Cluster, pod: usize, now: Instant) {
        let it = &cluster.pods[pod];
        let workload = &cluster.workloads[it.workload];
        if let Some(since) = workload.ill_since.filter(|since| now - *since > STALE) {
            let text = format!(
                "a kill of {} is sent although {} has been below its size for {:?}",
                it.name,
                workload.name,
                now - since
            );
            self.violate("stale", text);
        }
    }

    /// Checks a kill that the API receives.
    pub fn tried(&mut self, cluster: &Cluster, attempt: &Attempt) {
        let it = &cluster.pods[attempt.pod];
        let name = &it.name;
        let excluded = attempt.look.pods.get(&it.uid).copied();
        let (asked, read) = (attempt.look.asked.clone(), attempt.look.read.clone());
        match (asked, read) {
            (Some(Err(why)), Some(Err(_))) => {
                self.violate("consent", format!("{name} is to be killed, but its last look saw: {why}"));
            }
            (_, Some(Ok(settings))) => {
                let mode = settings.mode;
                let fits = match mode {
                    Mode::Evict => attempt.evicts,
                    Mode::Delete => !attempt.evicts && attempt.grace != Some(0),
                    Mode::Force => !attempt.evicts,
                };
                if !fits || settings.dry_run && !attempt.is_dry {
                    self.violate(
                        "consent",
                        format!("{name} is to be killed in another mode than {mode}: {attempt:?}"),
                    );
                }
                let kind = cluster.workloads[it.workload].kind.word();
                if !settings.kinds.contain(kind) {
                    self.violate("consent", format!("{name} is of a {kind}"));
                }
                if settings.targets.as_ref().is_some_and(|targets| {
                    let labels = [("app".to_owned(), cluster.workloads[it.workload].name.clone())];
                    !targets.cover(&labels.into())
                }) {
                    self.violate("consent", format!("{name} is no target"));
                }
            }
            (None, _) | (_, None) => {
                self.violate("consent", format!("{name} is to be killed without a look"))
            }
            (Some(Ok(_)), Some(Err(_))) => {}
        }
        match excluded {
            Some(false) => {}
            Some(true) => self.violate("exclude", format!("{name} asked to be left alone at the last look")),
            None => self.violate("consent", format!("{name} is to be killed without a look at it")),
        }
    }

    /// Notes a kill that the API accepts.
    pub fn killed(&mut self, cluster: &Cluster, attempt: &Attempt, record: &Value) {
        let it = &cluster.pods[attempt.pod];
        if it.terminating && self.counted.contains_key(&it.uid) {
            // The answer was lost, and somebody else ended the Pod. The agent found the Pod ending
            // and counted it. This late kill changes nothing any more.
            return;
        }
        let status: OptInStatus = serde_json::from_value(record["status"].clone()).unwrap_or_default();
        let intent = status.intents.iter().find(|intent| intent.kill.uid == it.uid);
        if intent.is_none() {
            self.violate("intent", format!("{} was killed without an intent of it in the record", it.name));
        }
        let uid = record["metadata"]["uid"].as_str().unwrap_or_default();
        let slot = status.last_slot.unwrap_or_default();
        let is_open = |kill: &&Killed| {
            kill.workload == it.workload && kill.outcome.is_none() && kill.recovered.is_none()
        };
        if let Some(open) = self.kills.iter().find(is_open) {
            let text = format!("{} was killed while the kill of {} had no outcome", it.name, open.name);
            self.violate("two", text);
        }
        let (limit, deadline) = match &attempt.look.read {
            Some(Ok(settings)) => (settings.limit as usize, settings.recovery_deadline),
            _ => (usize::MAX, Duration::MAX),
        };
        let in_round = self.kills.iter().filter(|kill| kill.record == uid && kill.slot == slot).count();
        if in_round >= limit {
            self.violate(
                "limit",
                format!("{} was killed as number {} of slot {slot}", it.name, in_round + 1),
            );
        }
        self.kills.push(Killed::new(cluster, attempt.pod, (uid, slot), intent, deadline));
    }

    /// Checks what is true now.
    pub fn look(&mut self, cluster: &mut Cluster, record: Option<&Value>, now: Instant) {
        let uid = record.and_then(|record| record["metadata"]["uid"].as_str()).map(str::to_owned);
        let admitted = record.is_some_and(|record| record["spec"]["verdict"] == "Admitted");
        if uid != self.record {
            // Nobody will ever read what an old record had pending.
            let gone = self.record.take();
            let of_gone = self.kills.iter_mut().filter(|kill| Some(&kill.record) == gone.as_ref());
            of_gone
                .filter(|kill| kill.outcome.is_none())
                .for_each(|kill| kill.outcome = Some("gone".to_owned()));
            self.record = uid;
            self.away = Some(now);
        }
        if !admitted || cluster.annotations.get("chaos").is_none_or(|chaos| chaos != "yes") {
            self.away = Some(now);
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

    /// What is still wrong with the record after a long time without faults.
    pub fn unsettled(
        &self,
        cluster: &Cluster,
        record: &Value,
        now: Instant,
    ) -> Option<(&'static str, String)> {
        let status: OptInStatus = serde_json::from_value(record["status"].clone()).unwrap_or_default();
        let uid = record["metadata"]["uid"].as_str().unwrap_or_default();
        let (kills, accepted) = (status.kills.unwrap_or(0), self.accepted(uid));
        let ended: i64 = status.outcomes.values().sum();
        if let Some(intent) = status.intents.first() {
            return Some(("settled", format!("the intent of {} stays", intent.kill.pod)));
        }
        if kills < accepted {
            return Some(("counted", format!("{accepted} kills were accepted, and {kills} are counted")));
        }
        let single = (0..cluster.workloads.len()).filter(|workload| {
            let it = &cluster.workloads[*workload];
            it.exists
                && it.desired == 1
                && it.sizes.last().is_some_and(|(at, _)| now - *at > Duration::from_secs(120))
        });
        let refuses = record["spec"]["settings"]["singleReplica"] == "refuse";
        let forces = record["spec"]["settings"]["mode"] == "force";
        for workload in single.filter(|_| refuses) {
            let it = &cluster.workloads[workload];
            if forces && it.kind == Kind::StatefulSet {
                // Another guard comes first.
                continue;
            }
            let is_told = |(_, uid, note): &(Instant, String, String)| {
                *uid == it.uid && note.contains("single_replica")
            };
            // Both come from the same moment, but a process that is killed at once can write the
            // record and lose the Event.
            let is_lost = |refused: &ToldRefusal| {
                let about = refused.workload.as_ref().map(|workload| workload.uid.clone());
                let by = self.remembered.get(&(about.unwrap_or_default(), refused.reason.clone()));
                refused.workload.as_ref().is_some_and(|workload| workload.uid == it.uid)
                    && refused.reason.starts_with("single_replica")
                    && by.is_some_and(|process| self.crashed.contains(process))
            };
            if !self.refusals.iter().any(is_told) && !status.refused.iter().any(is_lost) {
                return Some(("told", format!("{} is never told that it has a single replica", it.name)));
            }
        }
        (ended != kills)
            .then(|| ("outcomes", format!("{kills} kills, and {ended} outcomes: {:?}", status.pending)))
            .or_else(|| cluster.pods.is_empty().then(|| ("settled", "no Pods".to_owned())))
    }
}
