//! What the agent exports. Never a Pod's name; every series of a namespace can be removed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use policy::record::WorkloadReference;
use policy::settings::Mode;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::kill::Failure;
use crate::recovery::Outcome;
use crate::refusal::Refusal;
use crate::views::PodView;

/// The edges answer: within the 5 s that Kubernetes promises for a Pod's start, within the usual grace period of 30 s, within the
/// default deadline of 300 s.
const RECOVERY_BUCKETS: [f64; 12] =
    [1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

/// Controllers of Pods whose workloads have series, a Deployment or another kind above a ReplicaSet included. Nothing else can be killed,
/// and others, such as Jobs, may have a new name for each run: those have no end.
const LASTING_CONTROLLERS: [&str; 3] = ["ReplicaSet", "StatefulSet", "DaemonSet"];

/// Whether the Pod's workload is one that has series.
#[must_use]
pub fn has_series(pod: &PodView) -> bool {
    pod.controller.as_ref().is_some_and(|controller| LASTING_CONTROLLERS.contains(&controller.kind.as_str()))
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundOutcome {
    /// At least one kill.
    Killed,
    /// A guard refused the namespace or, at the last moment, each victim.
    Refused,
    /// No Pod that no guard refused.
    NoCandidate,
    /// Everything but the effect.
    DryRun,
    /// It couldn't be decided, or each kill failed.
    Failed,
}

impl RoundOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Killed, Self::Refused, Self::NoCandidate, Self::DryRun, Self::Failed];

    /// The word in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Refused => "refused",
            Self::NoCandidate => "no_candidate",
            Self::DryRun => "dry_run",
            Self::Failed => "failed",
        }
    }
}

/// Registers `pure_chaos_leader`, which a standby exports, too.
///
/// # Errors
/// When the name is taken: never with a new registry.
pub fn leader(registry: &Registry) -> prometheus::Result<IntGauge> {
    let leader = IntGauge::new(
        "pure_chaos_leader",
        "1 if this process holds the Lease and serves the slots, else 0.",
    )?;
    registry.register(Box::new(leader.clone()))?;
    Ok(leader)
}

/// Kinds and names of workloads, by namespace.
type Workloads = BTreeMap<String, BTreeSet<(String, String)>>;

/// The metric families.
#[derive(Clone)]
pub struct Metrics {
    rounds: IntCounterVec,
    refusals: IntCounterVec,
    kills: IntCounterVec,
    kill_failures: IntCounterVec,
    recovery_seconds: HistogramVec,
    recoveries: IntCounterVec,
    pending: IntGaugeVec,
    oldest_pending: GaugeVec,
    container_restarts: IntCounterVec,
    next_slot: GaugeVec,
    opt_ins: IntGauge,
    halted: IntGauge,
    /// The modes that the platform allows: an owner may change to any of them between two scrapes.
    modes: Vec<Mode>,
    /// The workloads that have series: removal needs complete label sets.
    known: Arc<Mutex<Workloads>>,
}

impl Metrics {
    /// Makes the families and registers them.
    ///
    /// # Errors
    /// When a name is taken: never with a new registry.
    pub fn new(registry: &Registry, policy_hash: &str, modes: &[Mode]) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
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
            Opts::new("pure_chaos_recoveries_pending", "Kills whose recovery has not ended in an outcome."),
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
        policy_info.with_label_values(&[policy_hash]).set(1);
        registry.register(Box::new(policy_info))?;

        let per_workload = ["target_namespace", "workload_kind", "workload"];
        Ok(Self {
            rounds: counter(
                "pure_chaos_rounds_total",
                "Rounds by outcome.",
                &["target_namespace", "outcome"],
            )?,
            refusals: counter(
                "pure_chaos_refusals_total",
                "Reasons for which Pods were not killed, each counted once a round.",
                &["target_namespace", "reason"],
            )?,
            kills: counter(
                "pure_chaos_kills_total",
                "Evictions and deletions that the API server accepted.",
                &["target_namespace", "workload_kind", "workload", "mode"],
            )?,
            kill_failures: counter(
                "pure_chaos_kill_failures_total",
                "Kills that failed, the last look before them included.",
                &["target_namespace", "reason"],
            )?,
            recovery_seconds,
            recoveries: counter(
                "pure_chaos_recoveries_total",
                "Recoveries by outcome; every kill ends in exactly one.",
                &["target_namespace", "workload_kind", "workload", "outcome"],
            )?,
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
            modes: modes.to_vec(),
            known: Arc::default(),
        })
    }

    /// Starts a namespace's series at 0.
    pub fn begin(&self, namespace: &str) {
        self.known().entry(namespace.to_owned()).or_default();
        for outcome in RoundOutcome::ALL {
            self.rounds.with_label_values(&[namespace, outcome.label()]);
        }
        for refusal in Refusal::ALL {
            self.refusals.with_label_values(&[namespace, refusal.label()]);
        }
        for failure in Failure::ALL {
            self.kill_failures.with_label_values(&[namespace, failure.label()]);
        }
        self.set_pending(namespace, 0, None);
    }

    /// Starts a workload's series at 0 when it is first seen, so that `increase()` misses nothing. It has to be one that [`has_series`].
    pub fn see(&self, namespace: &str, workload: &WorkloadReference) {
        let WorkloadReference { kind, name, uid: _ } = workload;
        if !self.known().entry(namespace.to_owned()).or_default().insert((kind.clone(), name.clone())) {
            return;
        }
        for mode in &self.modes {
            self.kills.with_label_values(&[namespace, kind, name, mode.word()]);
        }
        self.container_restarts.with_label_values(&[namespace, kind, name]);
        for outcome in Outcome::ALL {
            self.recoveries.with_label_values(&[namespace, kind, name, outcome.label()]);
        }
        self.recovery_seconds.with_label_values(&[namespace, kind]);
    }

    /// Counts a round.
    pub fn round(&self, namespace: &str, outcome: RoundOutcome) {
        self.rounds.with_label_values(&[namespace, outcome.label()]).inc();
    }

    /// Counts a reason once.
    pub fn refusal(&self, namespace: &str, refusal: Refusal) {
        self.refusals.with_label_values(&[namespace, refusal.label()]).inc();
    }

    /// Counts a kill.
    pub fn kill(&self, namespace: &str, workload: &WorkloadReference, mode: Mode) {
        self.see(namespace, workload);
        self.kills.with_label_values(&[namespace, &workload.kind, &workload.name, mode.word()]).inc();
    }

    /// Counts a kill that failed.
    pub fn kill_failure(&self, namespace: &str, failure: Failure) {
        self.kill_failures.with_label_values(&[namespace, failure.label()]).inc();
    }

    /// Counts the end of a recovery, with its duration if it recovered and was measured.
    pub fn recovery(
        &self,
        namespace: &str,
        workload: &WorkloadReference,
        outcome: Outcome,
        duration: Option<Duration>,
    ) {
        let WorkloadReference { kind, name, uid: _ } = workload;
        self.see(namespace, workload);
        self.recoveries.with_label_values(&[namespace, kind, name, outcome.label()]).inc();
        if let (Outcome::Recovered, Some(duration)) = (outcome, duration) {
            self.recovery_seconds.with_label_values(&[namespace, kind]).observe(duration.as_secs_f64());
        }
    }

    /// Sets how many recoveries are pending, and since when the oldest is.
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

    /// Sets whether everything is halted.
    pub fn set_halted(&self, halted: bool) {
        self.halted.set(i64::from(halted));
    }

    /// Ends all series of a namespace.
    pub fn forget(&self, namespace: &str) {
        let workloads = self.known().remove(namespace).unwrap_or_default();
        // A series that was never made can't be removed, which is as good.
        for (kind, name) in &workloads {
            for mode in Mode::ALL {
                drop(self.kills.remove_label_values(&[namespace, kind, name, mode.word()]));
            }
            for outcome in Outcome::ALL {
                drop(self.recoveries.remove_label_values(&[namespace, kind, name, outcome.label()]));
            }
            drop(self.container_restarts.remove_label_values(&[namespace, kind, name]));
            drop(self.recovery_seconds.remove_label_values(&[namespace, kind]));
        }
        for outcome in RoundOutcome::ALL {
            drop(self.rounds.remove_label_values(&[namespace, outcome.label()]));
        }
        for refusal in Refusal::ALL {
            drop(self.refusals.remove_label_values(&[namespace, refusal.label()]));
        }
        for failure in Failure::ALL {
            drop(self.kill_failures.remove_label_values(&[namespace, failure.label()]));
        }
        drop(self.pending.remove_label_values(&[namespace]));
        drop(self.oldest_pending.remove_label_values(&[namespace]));
        drop(self.next_slot.remove_label_values(&[namespace]));
    }

    fn known(&self) -> MutexGuard<'_, Workloads> {
        // The map is whole after every statement, so a panic elsewhere can't have spoilt it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(instant: Timestamp) -> f64 {
    instant.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests;
