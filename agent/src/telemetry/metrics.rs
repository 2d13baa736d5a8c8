//! The metrics of the agent. No metric contains the name of a Pod. All series of a namespace can be
//! removed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use policy::custom_workloads::CustomWorkloads;
use policy::platform::PlatformPolicy;
use policy::record::WorkloadReference;
use policy::settings::Mode;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use tokio::time::Instant;

use crate::cluster::snapshot::PodView;
use crate::recovery::RecoveryOutcome;
use crate::refusal::Refusal;
use crate::round::kill::Failure;
use crate::steady_state::hypothesis::HypothesisOutcome;

mod by_namespace;
mod hypotheses;
mod round_outcome;

use by_namespace::ByNamespace;
use hypotheses::Hypotheses;
pub use round_outcome::RoundOutcome;

/// The bucket edges answer common questions: did the workload recover within 5 s (the usual
/// objective for the start of a Pod), within the usual grace period of 30 s, or within the default
/// deadline of 300 s?
const RECOVERY_BUCKETS: [f64; 12] =
    [1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

/// The kinds of controllers whose Pods' workloads have metric series, beside the custom kinds that
/// the platform's policy lists. The workload is the controller, or a Deployment or another kind above
/// the ReplicaSet. No other Pods can be killed. Others, such as the Pods of Jobs, may belong to a
/// controller with a new name for each run, so their series would grow without end.
const LASTING_CONTROLLERS: [&str; 4] = ["ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"];

/// How long the series of a workload or a namespace stay after it is gone, so that Prometheus
/// scrapes their last values.
pub const LINGER: Duration = Duration::from_secs(600);

/// Whether the workload of the Pod has metric series.
#[must_use]
pub fn has_series(pod: &PodView, custom: &CustomWorkloads) -> bool {
    pod.controller.as_ref().is_some_and(|controller| {
        let kind = controller.kind.as_str();
        LASTING_CONTROLLERS.contains(&kind) || custom.get(kind).is_some()
    })
}

/// Registers `pure_chaos_leader`. A standby exports this metric, too.
///
/// # Errors
/// When the registry already has a metric of this name. This never happens with a new registry.
pub fn leader(registry: &Registry) -> prometheus::Result<IntGauge> {
    let leader = IntGauge::new(
        "pure_chaos_leader",
        "1 if this process holds the Lease and serves the slots, else 0.",
    )?;
    registry.register(Box::new(leader.clone()))?;
    Ok(leader)
}

/// For each namespace: the kinds and names of the workloads that have series, and since when each
/// has been gone.
type Workloads = BTreeMap<String, BTreeMap<(String, String), Option<Instant>>>;

/// The metrics of the agent.
#[derive(Clone)]
pub struct Metrics {
    rounds: ByNamespace,
    refusals: ByNamespace,
    kills: IntCounterVec,
    kill_failures: ByNamespace,
    recovery_seconds: HistogramVec,
    recoveries: IntCounterVec,
    hypotheses: Hypotheses,
    pending: IntGaugeVec,
    oldest_pending: GaugeVec,
    container_restarts: IntCounterVec,
    next_slot: GaugeVec,
    opt_ins: IntGauge,
    halted: IntGauge,
    events_dropped: IntCounter,
    /// The modes that the platform allows. Each workload has a series for each of them, because an
    /// owner can change the mode between two scrapes.
    modes: Vec<Mode>,
    /// The workloads that have series. A series can only be removed with all its labels.
    known: Arc<Mutex<Workloads>>,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry already has a metric of one of these names. This never happens with a new
    /// registry.
    pub fn new(registry: &Registry, policy: &PlatformPolicy) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let by_namespace = |name: &str, help: &str, label: &'static str| {
            let family = ByNamespace::new(name, help, label)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = GaugeVec::new(Opts::new(name, help), &["target_namespace"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let single = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let recovery_seconds = HistogramVec::new(
            HistogramOpts::new(
                "pure_chaos_recovery_seconds",
                "Time from a kill until its workload recovered; only outcome `recovered`, to the resolution of the watch.",
            )
            .buckets(RECOVERY_BUCKETS.to_vec()),
            &["target_namespace", "workload_kind"],
        )?;
        registry.register(Box::new(recovery_seconds.clone()))?;
        let pending = IntGaugeVec::new(
            Opts::new("pure_chaos_recoveries_pending", "Recoveries that have not ended in an outcome."),
            &["target_namespace"],
        )?;
        registry.register(Box::new(pending.clone()))?;
        let policy_info = IntGaugeVec::new(
            Opts::new(
                "pure_chaos_policy_info",
                "The hash of the platform's policy that this process obeys; always 1.",
            ),
            &["hash"],
        )?;
        policy_info.with_label_values(&[&policy.hash]).set(1);
        registry.register(Box::new(policy_info))?;

        let per_workload = ["target_namespace", "workload_kind", "workload"];
        Ok(Self {
            rounds: by_namespace("pure_chaos_rounds_total", "Rounds by outcome.", "outcome")?,
            refusals: by_namespace(
                "pure_chaos_refusals_total",
                "Reasons for which Pods were not killed, each counted once a round.",
                "reason",
            )?,
            kills: counter(
                "pure_chaos_kills_total",
                "Evictions and deletions that the API server accepted.",
                &["target_namespace", "workload_kind", "workload", "mode"],
            )?,
            kill_failures: by_namespace(
                "pure_chaos_kill_failures_total",
                "Kills that failed, the last look before them included.",
                "reason",
            )?,
            recovery_seconds,
            recoveries: counter(
                "pure_chaos_recoveries_total",
                "Recoveries by outcome: one for all kills of a round in a workload.",
                &["target_namespace", "workload_kind", "workload", "outcome"],
            )?,
            hypotheses: Hypotheses::new(registry, policy.steady_state.names())?,
            pending,
            oldest_pending: gauge(
                "pure_chaos_oldest_pending_timestamp_seconds",
                "When the oldest kill whose recovery has not ended was made; 0 if there is none.",
            )?,
            container_restarts: counter(
                "pure_chaos_container_restarts_total",
                "Container restarts seen by the agent's watch. A killed Pod is replaced, which is no restart: these are collateral.",
                &per_workload,
            )?,
            next_slot: gauge(
                "pure_chaos_next_slot_timestamp_seconds",
                "When the next round is due; 0 if none is.",
            )?,
            opt_ins: single("pure_chaos_opt_ins", "Namespaces with a record.")?,
            halted: single(
                "pure_chaos_halted",
                "1 if every kill is halted or the halt can't be read, else 0.",
            )?,
            events_dropped: runtime::events::dropped(registry)?,
            modes: policy.ceilings.modes.clone(),
            known: Arc::default(),
        })
    }

    /// The counter of Events that could not be written.
    #[must_use]
    pub fn events_dropped(&self) -> IntCounter {
        self.events_dropped.clone()
    }

    /// Starts the series of a namespace at 0.
    pub fn begin(&self, namespace: &str) {
        self.known.lock().entry(namespace.to_owned()).or_default();
        self.rounds.begin(namespace, RoundOutcome::ALL.iter().map(|outcome| outcome.label()));
        self.refusals.begin(namespace, Refusal::ALL.iter().map(|refusal| refusal.label()));
        self.kill_failures.begin(namespace, Failure::ALL.iter().map(|failure| failure.label()));
        self.set_pending(namespace, 0, None);
    }

    /// Starts the series of a workload at 0 when it is first seen, so that `increase()` misses
    /// nothing. Call this only for workloads of Pods for which [`has_series`] is true.
    pub fn see(&self, namespace: &str, workload: &WorkloadReference) {
        let WorkloadReference { kind, name, uid: _ } = workload;
        let named = (kind.clone(), name.clone());
        if self.known.lock().entry(namespace.to_owned()).or_default().insert(named, None).is_some() {
            return;
        }
        for mode in &self.modes {
            self.kills.with_label_values(&[namespace, kind, name, mode.word()]);
        }
        self.container_restarts.with_label_values(&[namespace, kind, name]);
        for outcome in RecoveryOutcome::ALL {
            self.recoveries.with_label_values(&[namespace, kind, name, outcome.label()]);
        }
        self.recovery_seconds.with_label_values(&[namespace, kind]);
    }

    /// Counts a round.
    pub fn round(&self, namespace: &str, outcome: RoundOutcome) {
        self.rounds.inc(namespace, outcome.label());
    }

    /// Counts one reason of a refusal.
    pub fn refusal(&self, namespace: &str, refusal: Refusal) {
        self.refusals.inc(namespace, refusal.label());
    }

    /// Counts a kill.
    pub fn kill(&self, namespace: &str, workload: &WorkloadReference, mode: Mode) {
        self.see(namespace, workload);
        self.kills.with_label_values(&[namespace, &workload.kind, &workload.name, mode.word()]).inc();
    }

    /// Counts a kill that failed.
    pub fn kill_failure(&self, namespace: &str, failure: Failure) {
        self.kill_failures.inc(namespace, failure.label());
    }

    /// Counts the end of a recovery. Observes its duration if the workload recovered and the time
    /// was measured.
    pub fn recovery(
        &self,
        namespace: &str,
        workload: &WorkloadReference,
        outcome: RecoveryOutcome,
        duration: Option<Duration>,
    ) {
        let WorkloadReference { kind, name, uid: _ } = workload;
        self.see(namespace, workload);
        self.recoveries.with_label_values(&[namespace, kind, name, outcome.label()]).inc();
        if let (RecoveryOutcome::Recovered, Some(duration)) = (outcome, duration) {
            self.recovery_seconds.with_label_values(&[namespace, kind]).observe(duration.as_secs_f64());
        }
    }

    /// Starts the series of a workload and a check of the steady state at 0.
    pub fn begin_hypothesis(&self, namespace: &str, workload: &WorkloadReference, check: &str) {
        self.see(namespace, workload);
        self.hypotheses.begin(namespace, workload, check);
    }

    /// Counts what became of the hypothesis that a check holds during a recovery.
    pub fn hypothesis(
        &self,
        namespace: &str,
        workload: &WorkloadReference,
        check: &str,
        outcome: HypothesisOutcome,
    ) {
        self.see(namespace, workload);
        self.hypotheses.ended(namespace, workload, check, outcome);
    }

    /// Sets the number of pending recoveries, and when the oldest of their kills happened.
    pub fn set_pending(&self, namespace: &str, pending: usize, oldest: Option<Timestamp>) {
        self.pending.with_label_values(&[namespace]).set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.oldest_pending.with_label_values(&[namespace]).set(oldest.map_or(0.0, seconds));
    }

    /// Counts restarts of a workload's containers.
    pub fn container_restarts(&self, namespace: &str, workload: &WorkloadReference, restarts: u64) {
        self.see(namespace, workload);
        self.container_restarts
            .with_label_values(&[namespace, &workload.kind, &workload.name])
            .inc_by(restarts);
    }

    /// Sets when the next round is due.
    pub fn set_next_slot(&self, namespace: &str, slot: Option<Timestamp>) {
        self.next_slot.with_label_values(&[namespace]).set(slot.map_or(0.0, seconds));
    }

    /// Sets the number of records.
    pub fn set_opt_ins(&self, records: usize) {
        self.opt_ins.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// Sets whether the whole cluster is halted.
    pub fn set_halted(&self, halted: bool) {
        self.halted.set(i64::from(halted));
    }

    /// Notes which workloads, by kind and name, exist at `now`. Returns the workloads whose series
    /// can be removed, because they have been gone for [`LINGER`].
    #[must_use]
    pub fn gone(
        &self,
        namespace: &str,
        present: &BTreeSet<(String, String)>,
        now: Instant,
    ) -> Vec<(String, String)> {
        let mut known = self.known.lock();
        let workloads = known.entry(namespace.to_owned()).or_default();
        let mut gone = Vec::new();
        for (named, gone_since) in workloads {
            if present.contains(named) {
                *gone_since = None;
            } else if now.saturating_duration_since(*gone_since.get_or_insert(now)) >= LINGER {
                gone.push(named.clone());
            }
        }
        gone
    }

    /// Notes that a workload still exists, although it has no Pods.
    pub fn stays(&self, namespace: &str, workload: &WorkloadReference) {
        let named = (workload.kind.clone(), workload.name.clone());
        self.known.lock().entry(namespace.to_owned()).or_default().insert(named, None);
    }

    /// Removes the series of a workload.
    pub fn forget_workload(&self, namespace: &str, kind: &str, name: &str) {
        let is_last_of_kind = {
            let mut known = self.known.lock();
            let workloads = known.entry(namespace.to_owned()).or_default();
            workloads.remove(&(kind.to_owned(), name.to_owned()));
            workloads.keys().all(|(other, _)| other != kind)
        };
        // Removing a series that does not exist gives an error, which can be ignored.
        for mode in Mode::ALL {
            drop(self.kills.remove_label_values(&[namespace, kind, name, mode.word()]));
        }
        for outcome in RecoveryOutcome::ALL {
            drop(self.recoveries.remove_label_values(&[namespace, kind, name, outcome.label()]));
        }
        drop(self.container_restarts.remove_label_values(&[namespace, kind, name]));
        self.hypotheses.forget(namespace, kind, name);
        if is_last_of_kind {
            drop(self.recovery_seconds.remove_label_values(&[namespace, kind]));
        }
    }

    /// Removes all series of a namespace.
    pub fn forget(&self, namespace: &str) {
        let workloads: Vec<_> =
            self.known.lock().get(namespace).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for (kind, name) in &workloads {
            self.forget_workload(namespace, kind, name);
        }
        self.known.lock().remove(namespace);
        self.rounds.forget(namespace);
        self.refusals.forget(namespace);
        self.kill_failures.forget(namespace);
        drop(self.pending.remove_label_values(&[namespace]));
        drop(self.oldest_pending.remove_label_values(&[namespace]));
        drop(self.next_slot.remove_label_values(&[namespace]));
    }
}

fn seconds(instant: Timestamp) -> f64 {
    instant.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests;
