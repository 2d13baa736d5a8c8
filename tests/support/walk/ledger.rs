//! Compares the record's counts, intents and outcomes with the kills that truly happened.

use std::collections::BTreeSet;
use std::time::Duration;

use policy::record::OptInStatus;
use prometheus::Registry;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::oracle::Oracle;
use super::verdict::{self, Killed};

impl Oracle {
    /// Checks a write of the record's status: the process that wrote it, and the status before and
    /// after. Returns a line for the log.
    pub fn recorded(
        &mut self,
        cluster: &Cluster,
        (process, registry): (usize, &Registry),
        (before, after): (&Value, &Value),
        (slack, gaps): (Duration, &[(Instant, Instant)]),
        now: Instant,
    ) -> Vec<String> {
        let record = after["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let status = |record: &Value| -> OptInStatus {
            serde_json::from_value(record["status"].clone()).unwrap_or_default()
        };
        let (was, is) = (status(before), status(after));
        let mut log = Vec::new();
        let uids = |status: &OptInStatus| -> Vec<String> {
            status.intents.iter().map(|intent| intent.kill.uid.clone()).collect()
        };
        for uid in uids(&is).into_iter().filter(|uid| !uids(&was).contains(uid)) {
            self.decided.insert(uid, now);
        }
        self.intended.extend(uids(&is).into_iter().map(|intended| (record.clone(), intended)));
        for told in is.refused.iter().filter(|told| !was.refused.contains(told)) {
            let about = told.workload.as_ref().map(|workload| workload.uid.clone()).unwrap_or_default();
            self.remembered.insert((about, told.reason.clone()), process);
        }
        let (kills, kills_before) = (is.kills.unwrap_or(0), was.kills.unwrap_or(0));
        if (kills, &is.outcomes, uids(&is)) != (kills_before, &was.outcomes, uids(&was)) {
            log.push(format!(
                "process {process} writes: kills {kills}, {:?}, intents {:?}",
                is.outcomes,
                uids(&is)
            ));
        }
        let most = self.accepted(&record) + self.ambiguous(cluster, &record);
        if kills > most {
            self.violate("counted", format!("{kills} kills are counted, but there were {most} at most"));
        }
        if kills < kills_before || was.last_slot > is.last_slot {
            self.violate(
                "counted",
                format!("the record forgot: kills {kills_before} to {kills}, or its last slot"),
            );
        }
        let ended: i64 = is.outcomes.values().sum();
        let workloads: BTreeSet<&str> =
            is.pending.iter().map(|pending| pending.workload.uid.as_str()).collect();
        let pending = i64::try_from(workloads.len()).unwrap();
        let joined = self.joined(&record);
        if !(kills - joined..=kills).contains(&(ended + pending)) {
            let text = format!(
                "{kills} kills, {joined} of them further ones of a round, but {ended} outcomes and {pending} pending"
            );
            self.violate("outcomes", text);
        }
        let holds = |status: &OptInStatus, uid: &str| status.pending.iter().any(|pending| pending.uid == uid);
        for entered in is.pending.iter().filter(|pending| !holds(&was, &pending.uid)) {
            let times = self.counted.entry(entered.uid.clone()).or_default();
            *times += 1;
            if *times > 1 {
                self.violate("counted", format!("the kill of {} is counted twice", entered.pod));
            }
        }
        for settled in uids(&was).into_iter().filter(|before| !uids(&is).contains(before)) {
            let forgotten = self.kills.iter().any(|kill| kill.has(&settled) && kill.record == record)
                && !self.counted.contains_key(&settled)
                && kills == kills_before;
            if forgotten {
                self.violate(
                    "counted",
                    format!("the kill of {settled} was accepted, and its intent goes uncounted"),
                );
            }
        }
        let entered = is.pending.iter().filter(|pending| !holds(&was, &pending.uid)).count();
        let mut left: Vec<String> = was
            .pending
            .iter()
            .filter(|pending| !holds(&is, &pending.uid))
            .map(|pending| pending.uid.clone())
            .collect();
        // One write counted these kills and ended them.
        let hidden = usize::try_from(kills - kills_before).unwrap_or(0).saturating_sub(entered);
        let open = self.kills.iter().filter(|kill| kill.record == record && kill.outcome.is_none());
        let uids = open.flat_map(|kill| kill.victims.iter().map(|victim| &victim.uid));
        let is_hidden =
            |uid: &&String| !holds(&is, uid) && !holds(&was, uid) && !self.counted.contains_key(*uid);
        let unseen: Vec<String> = uids.filter(is_hidden).cloned().collect();
        if unseen.len() == hidden {
            for uid in unseen {
                self.counted.insert(uid.clone(), 1);
                left.push(uid);
            }
        }
        let outcomes: Vec<String> = is
            .outcomes
            .iter()
            .flat_map(|(outcome, count)| {
                let new = count - was.outcomes.get(outcome).copied().unwrap_or(0);
                vec![outcome.clone(); usize::try_from(new).unwrap_or(0)]
            })
            .collect();
        self.ended(cluster, &left, &outcomes, now);
        self.measured(cluster, (process, registry), &left, (slack, gaps));
        log
    }

    pub fn accepted(&self, record: &str) -> i64 {
        let of_record = self.kills.iter().filter(|kill| kill.record == record);
        i64::try_from(of_record.map(|kill| kill.victims.len()).sum::<usize>()).unwrap()
    }

    /// How many kills of a record were further ones of a round in the same workload. They share the
    /// recovery of the first.
    pub fn joined(&self, record: &str) -> i64 {
        let of_record = self.kills.iter().filter(|kill| kill.record == record);
        i64::try_from(of_record.map(|kill| kill.victims.len() - 1).sum::<usize>()).unwrap()
    }

    /// Counts the Pods that have an intent and that somebody else ended. Nobody can tell who ended
    /// these.
    fn ambiguous(&self, cluster: &Cluster, record: &str) -> i64 {
        let of_record = self.intended.iter().filter(|(of, uid)| {
            let is_lost = cluster.pods.iter().any(|pod| pod.uid == *uid && pod.lost.is_some());
            of == record && is_lost && self.kills.iter().all(|kill| !kill.has(uid))
        });
        i64::try_from(of_record.count()).unwrap()
    }

    /// Ends the kills with these UIDs in these outcomes, one outcome for all kills of a round in a
    /// workload. The record does not say which outcome belongs to which kill, so it is wrong only if
    /// no assignment fits.
    fn ended(&mut self, cluster: &Cluster, left: &[String], outcomes: &[String], now: Instant) {
        let kill = |uid: &String| self.kills.iter().position(|kill| kill.has(uid));
        let mut kills: Vec<Option<usize>> = left.iter().map(kill).collect();
        let mut known = BTreeSet::new();
        kills.retain(|kill| kill.is_none_or(|kill| known.insert(kill)));
        if kills.len() != outcomes.len() {
            return;
        }
        let judge = |kill: usize, outcome: &str| {
            let kill = &self.kills[kill];
            let away = self.away.get(&cluster.workloads[kill.workload].namespace).copied();
            verdict::contradiction(kill, outcome, cluster, away, self.clocks, now)
        };
        // Somebody else may have ended the Pod of a kill that the test doesn't know.
        let fits =
            |kill: Option<usize>, outcome: &str| kill.is_none_or(|kill| judge(kill, outcome).is_none());
        let fitting = verdict::assignment(&kills, outcomes, &fits).unwrap_or_else(|| outcomes.to_vec());
        let wrong = kills.iter().zip(&fitting).find_map(|(kill, outcome)| {
            let name = self.kills[(*kill)?].names();
            let (invariant, text) = judge((*kill)?, outcome)?;
            Some((invariant, format!("the kill of {name} ended as {outcome}, but {text}")))
        });
        if let Some((invariant, text)) = wrong {
            self.violate(invariant, text);
        }
        for (kill, outcome) in kills.into_iter().zip(fitting) {
            if let Some(kill) = kill {
                self.kills[kill].outcome = Some(outcome);
            }
        }
    }

    /// Compares what a process measured with the truth.
    fn measured(
        &mut self,
        cluster: &Cluster,
        (process, registry): (usize, &Registry),
        left: &[String],
        (slack, gaps): (Duration, &[(Instant, Instant)]),
    ) {
        if left.is_empty() {
            return;
        }
        for ((namespace, kind), count, sum) in verdict::histogram(registry) {
            let of = (process, namespace.clone(), kind.clone());
            let known = self.measured.entry(of).or_default();
            let (new, seconds) = (count - known.0, sum - known.1);
            *known = (count, sum);
            let is_of_kind = |kill: &&Killed| {
                left.iter().any(|uid| kill.has(uid))
                    && cluster.place(kill.workload) == namespace
                    && cluster.workloads[kill.workload].kind.word() == kind
            };
            let of_kind: Vec<&Killed> = self.kills.iter().filter(is_of_kind).collect();
            if let ([kill], 1) = (of_kind.as_slice(), new)
                && let Some((invariant, text)) = verdict::mismeasured(kill, seconds, slack, gaps)
            {
                self.violate(invariant, text);
            }
        }
    }
}
