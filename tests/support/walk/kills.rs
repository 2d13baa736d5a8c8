//! The invariants of each kill, when a process sends it and when the API receives it.

use std::time::Duration;

use policy::record::OptInStatus;
use policy::settings::Mode;
use policy::share::Share;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::oracle::{Oracle, STALE, Seen};
use super::verdict::{Killed, Victim};

/// How old a look may be when the next attempt begins.
const FRESH: Duration = Duration::from_millis(1_100);

/// A kill as the API receives it.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub process: usize,
    pub pod: usize,
    pub evicts: bool,
    pub grace: Option<u64>,
    pub is_dry: bool,
    /// What the process had seen when it sent the kill. A kill that is late arrives after the next
    /// looks.
    pub look: Seen,
}

impl Oracle {
    /// Notes that a process sends a kill.
    pub fn sends(&mut self, cluster: &Cluster, (process, pod): (usize, usize), look: &Seen, now: Instant) {
        self.budget_of_sent(cluster, pod, look);
        self.watch_of_sent(cluster, process, pod);
        self.look_of_sent(cluster, process, pod);
        let it = &cluster.pods[pod];
        let workload = &cluster.workloads[it.workload];
        // After the first kill of a round, the workload lacks Pods on purpose.
        let is_further = self
            .kills
            .iter()
            .any(|kill| kill.workload == it.workload && kill.process == process && kill.outcome.is_none());
        let since = workload.ill_since.filter(|since| now - *since > STALE && !is_further);
        if let Some(since) = since {
            let text = format!(
                "a kill of {} is sent although {} has been below its size for {:?}",
                it.name,
                workload.name,
                now - since
            );
            self.violate("stale", text);
        }
    }

    /// Checks that a process has looked again since the last answer. A look that is hardly a second
    /// older may do.
    fn look_of_sent(&mut self, cluster: &Cluster, process: usize, pod: usize) {
        let of = (process, cluster.workloads[cluster.pods[pod].workload].namespace);
        if let (Some(answer), Some(look)) = (self.answers.get(&of), self.looks.get(&of))
            && *look + FRESH < *answer
        {
            let (name, age) = (&cluster.pods[pod].name, *answer - *look);
            let text = format!(
                "a kill of {name} is sent after another, whose answer came {age:?} after the last look"
            );
            self.violate("look", text);
        }
    }

    /// Checks a kill that the API receives.
    pub fn tried(&mut self, cluster: &Cluster, attempt: &Attempt) {
        let it = &cluster.pods[attempt.pod];
        let name = &it.name;
        let excluded = attempt.look.pods.get(&it.uid).copied();
        let namespace = cluster.workloads[it.workload].namespace;
        let (asked, read) = (attempt.look.asked.get(&namespace), attempt.look.read.get(&namespace));
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

    /// Checks the Namespace of a kill that the API is about to accept.
    pub fn namespace_of_killed(&mut self, cluster: &Cluster, namespace: usize, attempt: &Attempt) {
        let (it, pod) = (&cluster.namespaces[namespace], &cluster.pods[attempt.pod]);
        let Some((uid, read)) = attempt.look.uids.get(&namespace) else { return };
        if it.terminating {
            self.violate("consent", format!("{} is killed in a namespace that is being deleted", pod.name));
        }
        if *uid != it.uid {
            let text = format!("{} is killed by consent to an earlier namespace of the same name", pod.name);
            self.violate("consent", text);
        }
        let decided = self.decided.get(&pod.uid).filter(|_| !pod.terminating);
        if decided.is_some_and(|decided| read < decided) {
            self.violate("consent", format!("{} is killed without a look after its intent", pod.name));
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
        let is_same_round =
            |kill: &Killed| kill.process == attempt.process && kill.record == uid && kill.slot == slot;
        let is_open = |kill: &&Killed| {
            kill.workload == it.workload
                && kill.outcome.is_none()
                && kill.recovered.is_none()
                && !is_same_round(kill)
        };
        if let Some(open) = self.kills.iter().find(is_open) {
            let text = format!("{} was killed while the kill of {} had no outcome", it.name, open.names());
            self.violate("two", text);
        }
        let (limit, per_workload, deadline) =
            match attempt.look.read.get(&cluster.workloads[it.workload].namespace) {
                Some(Ok(settings)) => {
                    (settings.limit.of(usize::MAX), settings.per_workload, settings.recovery_deadline)
                }
                _ => (usize::MAX, Share::Percent(100), Duration::MAX),
            };
        let of_round = self.kills.iter().filter(|kill| kill.record == uid && kill.slot == slot);
        let in_round: usize = of_round.map(|kill| kill.victims.len()).sum();
        if in_round >= limit {
            self.violate(
                "limit",
                format!("{} was killed as number {} of slot {slot}", it.name, in_round + 1),
            );
        }
        let first = self.kills.iter_mut().find(|kill| {
            kill.workload == it.workload
                && kill.outcome.is_none()
                && (kill.process, kill.record.as_str(), &kill.slot) == (attempt.process, uid, &slot)
        });
        if let Some(first) = first {
            first.join(Victim::new(cluster, attempt.pod));
            let sizes = cluster.workloads[it.workload].sizes.iter().map(|(_, size)| *size);
            let largest = sizes.chain([cluster.workloads[it.workload].desired]).max().unwrap_or(0);
            let number = first.victims.len();
            if number > per_workload.of(largest) {
                let text = format!("{} was killed as number {number} of its workload", it.name);
                self.violate("several", text);
            }
            return;
        }
        let decided = self.decided.get(&it.uid).copied().unwrap_or_else(|| cluster.now());
        let by = (attempt.process, decided, attempt.look.there);
        let mut kill = Killed::new(cluster, attempt.pod, by, (uid, slot), intent, deadline);
        if self.crashed.contains(&attempt.process) {
            kill.counts_from = decided;
        }
        self.kills.push(kill);
    }
}
