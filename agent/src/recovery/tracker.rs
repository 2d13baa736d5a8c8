//! The pending recoveries of a namespace, and the watch of its Pods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::durations;
use policy::record::{OptIn, Pending, WorkloadReference};
use rand::rngs::ChaCha8Rng;
use tokio::time::Instant;

use crate::cluster::conditions::complaint;
use crate::cluster::owners::OwnerCache;
use crate::cluster::pod_watch::{PodChange, PodEvent, PodWatch};
use crate::cluster::snapshot::NamespaceSnapshot;
use crate::cluster::workloads;
use crate::context::Context;
use crate::recovery::Kill;
use crate::recovery::pod_store::PodStore;
use crate::recovery::{Recovery, RecoveryOutcome};
use crate::status::StatusWriter;
use crate::steady_state::hypothesis::{EndedHypothesis, HypothesisOutcome};
use crate::steady_state::sampler::Sampler;
use crate::telemetry::fact::Fact;
use crate::telemetry::metrics::has_series;

mod judging;

use judging::Listed;

/// A recovery that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The workload.
    pub workload: WorkloadReference,
    /// The names of the Pods that were killed, joined with commas.
    pub victims: String,
    /// How the recovery ended.
    pub outcome: RecoveryOutcome,
    /// How long the recovery took. `None` if the time was not measured.
    pub duration: Option<Duration>,
    /// Whether the checks of the steady state held in the meantime, one sentence for each.
    pub checks: Vec<String>,
}

/// The pending recoveries of one namespace. Each workload has at most one, for all kills of a round.
pub struct RecoveryTracker {
    context: Context,
    namespace: String,
    /// The UID of the Namespace in which the kills happened.
    namespace_uid: String,
    owner_cache: OwnerCache,
    watch: Option<PodWatch>,
    pod_store: PodStore,
    /// The pending recoveries, by the UID of the workload.
    pending: BTreeMap<String, Recovery>,
    sampler: Sampler,
    /// The newest version that a live list showed, and when. The watch has to show this version
    /// soon.
    expected: Option<(u64, Instant)>,
    /// The last live list, until the watch has caught up with it.
    listed: Option<Listed>,
    /// The number of live looks that failed in a row. The field below says when the next look may
    /// happen.
    failed_looks: u32,
    next_live_look: Option<Instant>,
}

impl RecoveryTracker {
    /// Continues the recoveries that an earlier process left pending in the record.
    #[must_use]
    pub fn resume(context: &Context, namespace: &str, record: &OptIn, status_writer: &StatusWriter) -> Self {
        let mut recoveries = Self {
            owner_cache: OwnerCache::new(&context.client, namespace),
            context: context.clone(),
            namespace: namespace.to_owned(),
            namespace_uid: record.spec.namespace_uid.clone(),
            watch: None,
            pod_store: PodStore::default(),
            pending: BTreeMap::new(),
            sampler: Sampler::new(context, namespace),
            expected: None,
            listed: None,
            failed_looks: 0,
            next_live_look: None,
        };
        status_writer.pending().iter().for_each(|left| recoveries.carry_on(left, record));
        recoveries.export();
        recoveries
    }

    /// Continues the recovery from a kill of an earlier process, or from a kill that this process
    /// found out about later.
    pub fn carry_on(&mut self, left: &Pending, record: &OptIn) {
        let limit = record
            .spec
            .settings
            .as_ref()
            .and_then(|settings| durations::parse(settings.recovery_deadline.as_deref()?))
            .unwrap_or(self.context.policy.defaults.recovery_deadline);
        let clock = &self.context.clock;
        let (namespace, workload, uid) = (&self.namespace, &left.workload.name, &left.uid);
        if let Some(recovery) = self.pending.get_mut(&left.workload.uid)
            && (recovery.is_victim(uid) || recovery.rejoin(left))
        {
            tracing::info!(namespace, workload, uid, "another kill joins a pending recovery");
            return;
        }
        match Recovery::resume(left, limit, clock.wall(), clock.monotonic()) {
            Some(recovery) => {
                tracing::info!(namespace, workload, uid, "resumed a pending recovery from the record");
                self.sampler.resume(left, recovery.killed);
                self.pending.insert(recovery.workload.uid.clone(), recovery);
            }
            None => {
                tracing::warn!(namespace, workload, uid, "failed to read a pending recovery from the record")
            }
        }
        self.export();
    }

    /// Takes over which Namespace the record is about. If it is another one than before, the earlier
    /// one was deleted, and its recoveries end.
    pub fn follow(&mut self, record: &OptIn, status_writer: &mut StatusWriter) {
        if record.spec.namespace_uid != self.namespace_uid {
            self.conclude_all(RecoveryOutcome::NamespaceDeleted, status_writer);
            self.namespace_uid.clone_from(&record.spec.namespace_uid);
        }
    }

    /// Takes over the pending recoveries from a record that another process wrote. That process
    /// ended and counted the recoveries that are missing there.
    pub fn agree_with(&mut self, recorded: &[Pending], record: &OptIn) {
        let is_recorded = |uid: &str| recorded.iter().any(|left| left.uid == uid);
        self.pending.retain(|_, recovery| recovery.victims().iter().all(|victim| is_recorded(&victim.uid)));
        self.sampler.retain(|uid| self.pending.contains_key(uid));
        for left in recorded {
            self.carry_on(left, record);
        }
        self.export();
    }

    /// Whether no recovery is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    async fn list_owners(&mut self) {
        // The next look tries again.
        let Some(_turn) = self.context.background_turn().await else { return };
        let pods = self.pod_store.sightings().map(|seen| &seen.pod);
        self.owner_cache.list(&self.context.client, &self.namespace, pods).await;
    }

    /// Begins to watch the Pods, if no watch exists.
    pub fn begin_watch(&mut self, rng: &mut ChaCha8Rng) {
        if self.watch.is_none() {
            let client = self.context.watches.take();
            let shared = (self.context.clock.clone(), self.context.background.clone());
            self.watch = Some(PodWatch::begin(client, &self.namespace, shared, rng));
        }
    }

    /// Stops the watch and forgets the Pods.
    pub fn stop_watching(&mut self) {
        self.watch = None;
        self.pod_store = PodStore::default();
    }

    /// Whether a watch exists. This needs consent, and does not say whether the watch works.
    #[must_use]
    pub fn has_watch(&self) -> bool {
        self.watch.is_some()
    }

    /// The watch, once it has listed all Pods.
    #[must_use]
    pub fn watch(&self) -> Option<&PodWatch> {
        self.watch.as_ref().filter(|_| self.pod_store.is_listed())
    }

    /// Samples the checks of the steady state while recoveries are pending.
    #[must_use]
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// The pending recoveries in the form in which the record stores them.
    fn recorded(&self) -> Vec<Pending> {
        let of = |(uid, recovery): (&String, &Recovery)| recovery.pending(&self.sampler.recorded(uid));
        self.pending.iter().flat_map(of).collect()
    }

    /// The next event of the watch. Waits forever if there is no watch.
    pub async fn next_event(&mut self) -> Option<PodEvent> {
        match &mut self.watch {
            Some(watch) => watch.next().await,
            None => std::future::pending().await,
        }
    }

    /// UIDs of the workloads with a pending recovery.
    #[must_use]
    pub fn workloads(&self) -> BTreeSet<String> {
        self.pending.keys().cloned().collect()
    }

    /// Whether every known Pod is being deleted or has finished.
    #[must_use]
    pub fn all_pods_lost(&self) -> bool {
        self.pod_store.sightings().all(|seen| seen.pod.is_lost())
    }

    /// Takes over the ReplicaSets that a round listed, and remembers the Pods.
    pub fn learn(&mut self, observation: &NamespaceSnapshot) {
        self.remember(&observation.pods);
        self.owner_cache
            .learn(observation.replica_sets.values(), self.pod_store.sightings().map(|seen| &seen.pod));
    }

    /// Begins to measure the recovery from a kill, or adds the kill to the recovery of its round. The
    /// status must already contain the kill.
    pub fn begin(&mut self, kill: &Kill) {
        if let Some(recovery) = self.pending.get_mut(&kill.candidate.workload.reference.uid) {
            return recovery.join(kill);
        }
        let watched = self.pod_store.sightings().map(|seen| seen.pod.uid.clone()).collect();
        let recovery = Recovery::begin(kill, &watched);
        self.pending.insert(recovery.workload.uid.clone(), recovery);
        self.export();
    }

    /// Stores an event of the Pod watch, and checks the recoveries that it affects.
    pub async fn enter(&mut self, event: PodEvent, status_writer: &mut StatusWriter) -> Vec<Ended> {
        let PodEvent { at, change } = event;
        if matches!(change, PodChange::Gap) {
            self.pending.values_mut().for_each(|recovery| recovery.interrupt(at));
            return Vec::new();
        }
        let is_list = matches!(change, PodChange::Listed(_));
        let noticed = self.pod_store.enter(at, change);
        for recovery in self.pending.values_mut() {
            for uid in noticed.dying.iter().filter(|uid| recovery.is_victim(uid)).cloned().collect::<Vec<_>>()
            {
                let is_gone = self.pod_store.first_seen(&uid).is_none();
                recovery.victim_seen_dying(&uid, at, is_gone);
            }
        }
        if is_list && noticed.touched.iter().any(|pod| self.owner_cache.known(pod).is_none()) {
            self.list_owners().await;
        }
        let custom = &self.context.policy.workloads;
        let mut concerned = BTreeSet::new();
        for pod in &noticed.touched {
            let workload =
                if is_list { self.owner_cache.known(pod) } else { self.owner_cache.workload_of(pod).await };
            if let Some(workload) = workload {
                if has_series(pod, custom) {
                    self.context.metrics.see(&self.namespace, &workload);
                }
                concerned.insert(workload.uid);
            }
        }
        for (pod, restarts) in &noticed.restarted {
            if let Some(workload) = self.owner_cache.known(pod).filter(|_| has_series(pod, custom)) {
                self.context.metrics.container_restarts(&self.namespace, &workload, *restarts);
            }
        }
        concerned.retain(|uid| self.pending.contains_key(uid));
        for uid in &concerned {
            if let Some(recovery) = self.pending.get_mut(uid) {
                recovery.pods_changed(at);
            }
        }
        self.judge(&concerned, at, status_writer).await
    }

    /// Removes the metric series of workloads that have been gone for
    /// [`LINGER`](crate::telemetry::metrics::LINGER). A workload without Pods may only be scaled
    /// down to zero, so this function first looks whether it still exists.
    pub async fn tidy(&mut self) {
        if !self.knows_all_pods() {
            return;
        }
        let of_pods = self.pod_store.sightings().filter_map(|seen| self.owner_cache.known(&seen.pod));
        let pending = self.pending.values().map(|recovery| recovery.workload.clone());
        let present = of_pods.chain(pending).map(|workload| (workload.kind, workload.name)).collect();
        let now = self.context.clock.monotonic();
        for (kind, name) in self.context.metrics.gone(&self.namespace, &present, now) {
            let workload = WorkloadReference { kind, name, uid: String::new() };
            let custom = &self.context.policy.workloads;
            match workloads::find(&self.context.client, &self.namespace, custom, &workload).await {
                Ok(Some(_)) => self.context.metrics.stays(&self.namespace, &workload),
                Ok(None) => {
                    self.context.metrics.forget_workload(&self.namespace, &workload.kind, &workload.name)
                }
                Err(error) => {
                    let (namespace, workload) = (&self.namespace, workload.name);
                    tracing::debug!(namespace, workload, error = %error, "failed to check whether a workload still exists, its metric series stay");
                }
            }
        }
    }

    /// Whether all Pods have been listed and their workloads are known.
    fn knows_all_pods(&self) -> bool {
        self.pod_store.is_listed()
            && !self.pod_store.sightings().any(|seen| self.owner_cache.is_unknown(&seen.pod))
    }

    /// Stores an event of the Pod watch without checking any recovery.
    pub fn note(&mut self, event: PodEvent) {
        self.pod_store.enter(event.at, event.change);
    }

    /// Ends all pending recoveries with this outcome.
    pub fn conclude_all(&mut self, outcome: RecoveryOutcome, status_writer: &mut StatusWriter) -> Vec<Ended> {
        self.workloads().iter().filter_map(|uid| self.conclude(uid, outcome, None, status_writer)).collect()
    }

    /// What the conditions of the workload and of its Pods say about why it did not recover.
    async fn complaint_of(&self, workload_uid: &str) -> Option<String> {
        let workload = &self.pending.get(workload_uid)?.workload;
        let of_it = self.pod_store.sightings().filter(|seen| {
            self.owner_cache.known(&seen.pod).is_some_and(|workload| workload.uid == workload_uid)
        });
        let unready = of_it.filter(|seen| !seen.pod.counts_as_ready());
        let unready: Vec<String> = unready.map(|seen| seen.pod.name.clone()).collect();
        complaint(&self.context.client, &self.namespace, workload, &unready).await
    }

    /// Ends one recovery. `says` is what the workload's conditions say.
    fn conclude(
        &mut self,
        workload_uid: &str,
        outcome: RecoveryOutcome,
        says: Option<&str>,
        status_writer: &mut StatusWriter,
    ) -> Option<Ended> {
        let recovery = self.pending.remove(workload_uid)?;
        let duration = recovery.duration().filter(|_| outcome == RecoveryOutcome::Recovered);
        let hypotheses = self.sampler.end(workload_uid);
        let workload = &recovery.workload;
        let fact =
            Fact::RecoveryEnded { recovery: &recovery, outcome, duration, says, hypotheses: &hypotheses };
        self.context.tell(&self.namespace, &fact);
        status_writer.ended(outcome.label());
        for hypothesis in &hypotheses {
            status_writer.hypothesis_ended(workload, hypothesis);
        }
        let is_broken = |ended: &&EndedHypothesis| ended.outcome == HypothesisOutcome::Broken;
        let broken = hypotheses.iter().find(is_broken).map(|ended| ended.sentence(recovery.killed));
        let now = self.context.clock.wall();
        match (outcome, broken) {
            (RecoveryOutcome::TimedOut, _) => status_writer.back_off(workload, "its recovery timed out", now),
            (_, Some(broken)) => {
                status_writer.back_off(workload, &format!("{broken}, of its Pod {}", recovery.pods()), now)
            }
            (RecoveryOutcome::Recovered | RecoveryOutcome::RecoveredAfterRestart, None) => {
                status_writer.recovered(&workload.uid)
            }
            _ => {}
        }
        status_writer.set_pending(self.recorded());
        self.export();
        let checks = hypotheses.iter().map(|ended| ended.sentence(recovery.killed)).collect();
        Some(Ended { workload: workload.clone(), victims: recovery.pods(), outcome, duration, checks })
    }

    fn export(&self) {
        let oldest = self.pending.values().map(|recovery| recovery.killed).min();
        self.context.metrics.set_pending(&self.namespace, self.pending.len(), oldest);
        self.context.activity_log.set_pending(&self.namespace, self.pending.values());
    }
}
