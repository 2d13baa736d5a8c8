//! What was refused was told: each refusal of a kill that a process gets as an answer has its
//! Event.

use std::collections::BTreeSet;
use std::time::Duration;

use policy::record::OptInStatus;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Cluster, Workload};
use super::oracle::Oracle;

/// How long after the answer the Event may come: the rest of the round takes this long.
const SOON: Duration = Duration::from_secs(10);

/// The same if calls of the process have met faults since.
const LATE: Duration = Duration::from_secs(240);

/// A refusal that a process has to tell.
#[derive(Debug)]
pub struct Owed {
    process: usize,
    /// The UID and the name of the workload.
    workload: (String, String),
    label: &'static str,
    since: Instant,
}

/// The reason that the agent gives for an answer to a kill. `None` if it need not tell the answer.
fn label(code: u16, message: &str, details: &Value) -> Option<&'static str> {
    let has_cause = |cause: &str| {
        details["causes"].as_array().is_some_and(|causes| causes.iter().any(|it| it["reason"] == cause))
    };
    match code {
        429 if has_cause("DisruptionBudget") => Some("blocked_by_pdb"),
        500 if message.contains("more than one PodDisruptionBudget") => Some("pdb_misconfigured"),
        409 => Some("changed"),
        404 | 408 | 429 => None,
        403 if has_cause("NamespaceTerminating") => None,
        400..500 => Some("forbidden"),
        _ => None,
    }
}

impl Oracle {
    /// Notes that a process got an answer to a kill of a Pod of this workload. `status` is that of
    /// the record.
    pub fn answered(
        &mut self,
        process: usize,
        workload: (&str, &str),
        (code, message, details): (u16, &str, &Value),
        status: &OptInStatus,
        now: Instant,
    ) {
        let Some(label) = label(code, message, details) else { return };
        let (uid, name) = workload;
        // A refusal is told once for as long as it stays the same.
        let is_remembered = status.refused.iter().any(|told| {
            let is_about = told.workload.as_ref().is_some_and(|workload| workload.uid == uid);
            is_about && told.reason.starts_with(label)
        });
        let was_told = self.refusals.iter().any(|(_, by, note)| by == uid && note.contains(label));
        if !is_remembered && !was_told {
            let workload = (uid.to_owned(), name.to_owned());
            self.owed.push(Owed { process, workload, label, since: now });
        }
    }

    /// Notes that a call of a process met a fault.
    pub fn hindered(&mut self, process: usize, now: Instant) {
        self.hindered.insert(process, now);
    }

    fn is_overdue(&self, owed: &Owed, now: Instant) -> bool {
        let is_hindered = self.hindered.get(&owed.process).is_some_and(|at| *at >= owed.since);
        now - owed.since > if is_hindered { LATE } else { SOON }
    }

    /// Notes an Event about an object. An Event that comes too late is checked like one that never
    /// comes.
    pub fn told(&mut self, now: Instant, event: &Value) {
        if event["reason"] == "ChaosRefused" {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (uid, note) = (word(&event["regarding"]["uid"]), word(&event["note"]));
            self.overdue(now);
            self.owed.retain(|owed| owed.workload.0 != uid || !note.contains(owed.label));
            self.refusals.push((now, uid, note));
        }
    }

    /// Checks the Events that have not come. A process that ends tells nothing more, and nobody can
    /// write an Event in a namespace that is being deleted.
    pub fn check_told(&mut self, cluster: &Cluster, over: &BTreeSet<usize>, now: Instant) {
        let is_going = |owed: &Owed| {
            let is_it = |workload: &&Workload| workload.uid == owed.workload.0;
            let workload = cluster.workloads.iter().find(is_it);
            let it = workload.map(|workload| &cluster.namespaces[workload.namespace]);
            it.is_some_and(|it| it.terminating || !it.exists || it.deleted.is_some_and(|at| at >= owed.since))
        };
        self.owed.retain(|owed| !over.contains(&owed.process) && !is_going(owed));
        self.overdue(now);
    }

    fn overdue(&mut self, now: Instant) {
        let late = self.owed.iter().find(|owed| self.is_overdue(owed, now));
        let text = late.map(|owed| {
            let Owed { process, workload: (_, name), label, since } = owed;
            format!("process {process} knew for {:?} that a kill in {name} was refused as {label}, and did not tell", now - *since)
        });
        if let Some(text) = text {
            self.violate("told", text);
        }
    }

    /// A refusal that nobody has told yet.
    pub fn untold(&self) -> Option<(&'static str, String)> {
        let Owed { workload: (_, name), label, .. } = self.owed.first()?;
        Some(("told", format!("{name} is never told of {label}")))
    }
}
