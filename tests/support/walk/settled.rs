//! What has to be in order a long time after all faults have ended.

use std::time::Duration;

use policy::record::{OptInStatus, ToldRefusal};
use prometheus::Registry;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Cluster, Kind};
use super::oracle::Oracle;
use super::verdict::{self, Killed};

/// How long around the end of a record a failed read of its Namespace may decide how a process
/// explains that end.
const AROUND: Duration = Duration::from_secs(200);

impl Oracle {
    /// The recoveries that processes ended as opted out although only the namespace was deleted.
    /// The record can't say that, because it is gone too.
    pub fn misjudged(&self, cluster: &Cluster, registries: &[&Registry]) -> Option<(&'static str, String)> {
        let is_of = |kill: &Killed, (namespace, workload): &(String, String)| {
            cluster.place(kill.workload) == namespace && cluster.workloads[kill.workload].name == *workload
        };
        let is_sure = |kill: &Killed| {
            kill.deleted_with.is_some_and(|at| {
                let is_near = |read: &Instant| *read + AROUND >= at && *read <= at + AROUND;
                !self.unread.iter().any(is_near)
            })
        };
        let ended = registries.iter().flat_map(|registry| verdict::opted_out(registry));
        for (of, _) in ended.filter(|(_, count)| *count > 0) {
            if self.kills.iter().filter(|kill| is_of(kill, &of)).all(|kill| {
                is_sure(kill)
                    || kill
                        .outcome
                        .as_ref()
                        .is_some_and(|outcome| outcome != "opted_out" && outcome != "gone")
            }) {
                let (namespace, workload) = of;
                let text = format!(
                    "a recovery of {workload} in {namespace} ended as opted_out, but the namespace was deleted"
                );
                return Some(("outcome", text));
            }
        }
        None
    }

    /// What is still wrong with the record after a long time without faults.
    pub fn unsettled(
        &self,
        cluster: &Cluster,
        namespace: usize,
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
                && it.namespace == namespace
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
        let evicts = record["spec"]["settings"]["mode"] == "evict";
        for workload in (0..cluster.workloads.len()).filter(|_| evicts) {
            let it = &cluster.workloads[workload];
            let is_long = |since: Instant| now - since > Duration::from_secs(120);
            let is_steady = it.exists
                && it.namespace == namespace
                && (it.desired > 1 || !refuses)
                && it.ill_since.is_none()
                && it.readies.last().is_some_and(|(at, _)| is_long(*at))
                && it.template_changed.is_none_or(is_long);
            // Another guard comes first.
            let rests = status.backing_off.iter().any(|rest| rest.workload.uid == it.uid)
                || status.resting.iter().any(|rest| rest.workload == it.uid)
                || status.pending.iter().any(|pending| pending.workload.uid == it.uid);
            let is_blocked = cluster.blocked_workload(workload).is_some_and(is_long);
            let is_told = |(_, uid, note): &(Instant, String, String)| {
                *uid == it.uid && note.contains("blocked_by_pdb")
            };
            if is_steady && is_blocked && !rests && !self.refusals.iter().any(is_told) {
                return Some(("told", format!("{} is never told that a budget allows no kill", it.name)));
            }
        }
        (!(kills - self.joined(uid)..=kills).contains(&ended))
            .then(|| ("outcomes", format!("{kills} kills, and {ended} outcomes: {:?}", status.pending)))
            .or_else(|| cluster.pods.is_empty().then(|| ("settled", "no Pods".to_owned())))
    }
}
