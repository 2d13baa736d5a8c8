//! A kill as it truly went, and the outcomes and measurements that contradict it.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::record::Intent;
use prometheus::Registry;
use tokio::time::Instant;

use super::cluster::{Cluster, Kind, Pod};
use super::oracle::STALE;

/// A round's look may be this old, so an event shortly before a kill may count as after it.
const BEFORE: Duration = Duration::from_secs(40);

/// By how much a measurement may differ from the truth.
const TOLERANCE: Duration = Duration::from_millis(1_500);

/// A Pod that was killed, and when.
#[derive(Debug, Clone)]
pub struct Victim {
    pub uid: String,
    pub name: String,
    node: String,
    pub at: Instant,
}

impl Victim {
    pub fn new(cluster: &Cluster, pod: usize) -> Self {
        let it = &cluster.pods[pod];
        Self { uid: it.uid.clone(), name: it.name.clone(), node: it.node.clone(), at: cluster.now() }
    }
}

/// The kills of one round in one workload that the API accepted. They share one recovery.
#[derive(Debug, Clone)]
pub struct Killed {
    /// The process that killed, and when its first intent was stored.
    pub process: usize,
    pub decided: Instant,
    pub victims: Vec<Victim>,
    pub workload: usize,
    pub record: String,
    pub slot: String,
    pub at: Instant,
    pub deadline: Duration,
    /// From when the deadline counts: from the kill, or from its intent if its process was killed
    /// before it had counted the kill. The next process knows only the intent.
    pub counts_from: Instant,
    /// How many Pods had ever existed when the kill was sent.
    before: usize,
    steady: usize,
    /// When the workload first had recovered, counting any new Pod.
    pub recovered: Option<Instant>,
    /// When the workload first had recovered, counting only the first new Pod.
    replaced: Option<Instant>,
    /// Since when the workload has been recovered without a break, counting any new Pod.
    holds: Option<Instant>,
    pub outcome: Option<String>,
    /// When the record was gone with its Namespace, if nobody had opted out before.
    pub deleted_with: Option<Instant>,
}

impl Killed {
    /// Notes a kill just before it is carried out. `intent` is its intent in the record.
    pub fn new(
        cluster: &Cluster,
        pod: usize,
        (process, decided, before): (usize, Instant, usize),
        (record, slot): (&str, String),
        intent: Option<&Intent>,
        deadline: Duration,
    ) -> Self {
        let it = &cluster.pods[pod];
        Self {
            process,
            decided,
            victims: vec![Victim::new(cluster, pod)],
            workload: it.workload,
            record: record.to_owned(),
            slot,
            at: cluster.now(),
            deadline,
            counts_from: cluster.now(),
            before,
            steady: steady(cluster, it.workload, intent),
            recovered: None,
            replaced: None,
            holds: None,
            outcome: None,
            deleted_with: None,
        }
    }

    /// Adds a further victim of the round. The workload has not recovered before that is replaced.
    pub fn join(&mut self, victim: Victim) {
        self.victims.push(victim);
        (self.recovered, self.replaced, self.holds) = (None, None, None);
    }

    /// Whether the Pod with this UID is one of the victims.
    pub fn has(&self, uid: &str) -> bool {
        self.victims.iter().any(|victim| victim.uid == uid)
    }

    /// The names of the victims.
    pub fn names(&self) -> String {
        self.victims.iter().map(|victim| victim.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Notes whether the workload has recovered by now.
    pub fn look(&mut self, cluster: &Cluster, now: Instant) {
        let workload = &cluster.workloads[self.workload];
        let is_placed = matches!(workload.kind, Kind::StatefulSet | Kind::DaemonSet);
        let is_in_place = |pod: &Pod, victim: &Victim| match workload.kind {
            Kind::StatefulSet => pod.name == victim.name,
            Kind::DaemonSet => pod.node == victim.node,
            _ => true,
        };
        let replaces = |pod: &&Pod| {
            pod.workload == self.workload
                && !self.has(&pod.uid)
                && self.victims.iter().any(|victim| is_in_place(pod, victim))
        };
        let new: Vec<&Pod> = cluster.pods[self.before..].iter().filter(replaces).collect();
        // Whether each victim has a replacement among these Pods that is Ready.
        let all_replaced = |new: &[&Pod]| {
            let ready: Vec<&Pod> = new.iter().copied().filter(|pod| pod.is_ready()).collect();
            ready.len() >= self.victims.len()
                && self.victims.iter().all(|victim| ready.iter().any(|pod| is_in_place(pod, victim)))
        };
        let first_of = |victim: &Victim| new.iter().copied().find(|pod| is_in_place(pod, victim));
        let first_new: Vec<&Pod> = if is_placed {
            self.victims.iter().filter_map(first_of).collect()
        } else {
            new.iter().copied().take(self.victims.len()).collect()
        };
        let others = cluster
            .pods
            .iter()
            .filter(|pod| pod.workload == self.workload && !self.has(&pod.uid) && pod.is_ready());
        let is_enough = others.count() >= self.steady.min(workload.desired);
        let first = |known: Option<Instant>, is_so: bool| known.or(is_so.then_some(now));
        self.recovered = first(self.recovered, is_enough && all_replaced(&new));
        self.replaced = first(self.replaced, is_enough && all_replaced(&first_new));
        // If there are several new Pods, the replacement is the one that the agent saw first. The
        // test doesn't know which one that is, so all of them have to be Ready.
        let is_whole = is_enough && all_replaced(&new) && new.iter().all(|pod| pod.gone || pod.is_ready());
        self.holds = if is_whole { first(self.holds, true) } else { None };
    }
}

/// How many Ready Pods the workload has to have again. A look is older than its kill, so the number
/// in the intent counts if it was true at some moment of the time that a look may be old.
fn steady(cluster: &Cluster, workload: usize, intent: Option<&Intent>) -> usize {
    let (now, ready) = (cluster.now(), cluster.ready(workload));
    let workload = &cluster.workloads[workload];
    let claimed = intent.and_then(|intent| usize::try_from(intent.kill.steady_state).ok());
    let since = now.checked_sub(STALE).unwrap_or(now);
    let before = workload.readies.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
    let of_late = workload.readies[before..].iter().map(|(_, ready)| *ready);
    let was_true =
        |claimed: &usize| of_late.chain([ready]).any(|ready| ready.min(workload.desired) == *claimed);
    claimed.filter(was_true).unwrap_or(ready.min(workload.desired))
}

/// Why a kill can't have ended in an outcome, given the truth at `now`.
pub fn contradiction(
    kill: &Killed,
    outcome: &str,
    cluster: &Cluster,
    away: Option<Instant>,
    clocks: Duration,
    now: Instant,
) -> Option<(&'static str, String)> {
    let since = kill.at.checked_sub(BEFORE).unwrap_or(kill.at);
    let workload = &cluster.workloads[kill.workload];
    let happened = |at: Option<Instant>| at.is_some_and(|at| at >= since);
    let deadline = kill.counts_from + kill.deadline;
    let text = match outcome {
        "timed_out" => {
            let early =
                deadline.checked_sub(Duration::from_secs(2) + clocks).is_some_and(|deadline| now < deadline);
            let in_time = kill.holds.filter(|at| *at + Duration::from_secs(3) < deadline);
            if let Some(at) = in_time {
                format!("it recovered after {:?}, and that held", at - kill.at)
            } else if early {
                format!("that is after {:?} only", now - kill.at)
            } else {
                return None;
            }
        }
        "recovered" | "recovered_after_restart" if kill.recovered.is_none() => {
            "it did not recover".to_owned()
        }
        "disturbed" => {
            let lost = cluster
                .pods
                .iter()
                .any(|pod| pod.workload == kill.workload && !kill.has(&pod.uid) && happened(pod.lost));
            if lost {
                return None;
            }
            "no other Pod was lost".to_owned()
        }
        "rescaled" if !workload.sizes.iter().any(|(at, _)| *at >= since) => {
            "its size did not change".to_owned()
        }
        "rolled_out" if !happened(workload.template_changed) => "its template did not change".to_owned(),
        "workload_deleted" if workload.deleted.is_none() => "its workload was never deleted".to_owned(),
        "opted_out" if !happened(away) => "the opt-in was never away".to_owned(),
        "namespace_deleted" if !happened(cluster.namespaces[workload.namespace].deleted) => {
            "no namespace was deleted".to_owned()
        }
        _ => return None,
    };
    let invariant = match outcome {
        "timed_out" => "timed_out",
        "workload_deleted" => "workload_deleted",
        _ => "outcome",
    };
    Some((invariant, text))
}

/// Gives each kill one of the outcomes, so that all fit. `None` if that is impossible.
pub fn assignment(
    kills: &[Option<usize>],
    outcomes: &[String],
    fits: &dyn Fn(Option<usize>, &str) -> bool,
) -> Option<Vec<String>> {
    let Some((first, others)) = kills.split_first() else { return Some(Vec::new()) };
    (0..outcomes.len()).filter(|number| fits(*first, &outcomes[*number])).find_map(|number| {
        let mut rest = outcomes.to_vec();
        let outcome = rest.remove(number);
        let mut assigned = assignment(others, &rest, fits)?;
        assigned.insert(0, outcome);
        Some(assigned)
    })
}

/// How a measurement differs from the truth; `None` if it doesn't.
pub fn mismeasured(
    kill: &Killed,
    seconds: f64,
    slack: Duration,
    gaps: &[(Instant, Instant)],
) -> Option<(&'static str, String)> {
    let recovered = kill.recovered?;
    let truth = recovered - kill.at;
    let is_near =
        |truth: Duration| (truth.as_secs_f64() - seconds).abs() <= (TOLERANCE + slack).as_secs_f64();
    if is_near(truth) || kill.replaced.is_some_and(|at| is_near(at - kill.at)) {
        return None;
    }
    let in_gap = gaps.iter().any(|(from, to)| *from <= recovered && kill.at <= *to);
    let invariant = if in_gap { "measured_in_gap" } else { "measured" };
    Some((
        invariant,
        format!(
            "the recovery from the kill of {} took {truth:?}, but {seconds:.3} s were measured",
            kill.names()
        ),
    ))
}

/// For each namespace and kind of workload, how many recoveries were measured, and the sum of their
/// seconds.
pub fn histogram(registry: &Registry) -> Vec<((String, String), u64, f64)> {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "pure_chaos_recovery_seconds");
    let metrics = family.into_iter().flat_map(|family| family.get_metric());
    metrics
        .filter_map(|metric| {
            let label = |name: &str| metric.get_label().iter().find(|label| label.name() == name);
            let word = |name: &str| label(name).map(|label| label.value().to_owned());
            let of = (word("target_namespace")?, word("workload_kind")?);
            let histogram = metric.get_histogram();
            Some((of, histogram.get_sample_count(), histogram.get_sample_sum()))
        })
        .collect()
}

/// For each namespace and workload, by their names, how many recoveries ended as opted out.
pub fn opted_out(registry: &Registry) -> BTreeMap<(String, String), u64> {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "pure_chaos_recoveries_total");
    let mut counts = BTreeMap::new();
    for metric in family.into_iter().flat_map(|family| family.get_metric()) {
        let label = |name: &str| metric.get_label().iter().find(|label| label.name() == name);
        let word = |name: &str| label(name).map(|label| label.value().to_owned()).unwrap_or_default();
        if word("outcome") == "opted_out" {
            let count = metric.get_counter().get_value() as u64;
            *counts.entry((word("target_namespace"), word("workload"))).or_default() += count;
        }
    }
    counts
}

/// How many rounds of a process had an outcome other than `failed`.
pub fn rounds(registry: &Registry) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "pure_chaos_rounds_total");
    let metrics = family.into_iter().flat_map(|family| family.get_metric());
    let counts = metrics
        .filter(|metric| metric.get_label().iter().all(|label| label.value() != "failed"))
        .map(|metric| metric.get_counter().get_value());
    counts.sum::<f64>() as u64
}
