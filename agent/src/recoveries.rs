//! A namespace's pending recoveries, and what is watched to see them end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::consent::Consent;
use policy::durations;
use policy::eligibility::{Eligibility, NamespaceView};
use policy::record::{OptIn, Pending, WorkloadReference};
use runtime::client::CallError;
use tokio::time::Instant;

use crate::board::{Decision, EndedLine, What};
use crate::deps::Deps;
use crate::ledger::Ledger;
use crate::lineage::Lineage;
use crate::metrics::has_series;
use crate::observe::read_namespace;
use crate::pod_book::PodBook;
use crate::pods::{PodChange, PodEvent};
use crate::recovery::Kill;
use crate::recovery::{Outcome, Recovery, Sighting, Surroundings};
use crate::views::{Observation, WorkloadView};
use crate::workloads;

/// A recovery that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The workload.
    pub workload: WorkloadReference,
    /// The Pod that was killed.
    pub victim: String,
    /// How.
    pub outcome: Outcome,
    /// How long it took, where that was measured.
    pub duration: Option<Duration>,
}

/// The pending recoveries of one namespace, at most one per workload.
pub struct Recoveries {
    deps: Deps,
    namespace: String,
    lineage: Lineage,
    book: PodBook,
    /// By the workload's UID.
    pending: BTreeMap<String, Recovery>,
}

impl Recoveries {
    /// Carries on what an earlier process left pending in the record.
    #[must_use]
    pub fn resume(deps: &Deps, namespace: &str, record: &OptIn, ledger: &Ledger) -> Self {
        let mut recoveries = Self {
            lineage: Lineage::new(&deps.client, namespace),
            deps: deps.clone(),
            namespace: namespace.to_owned(),
            book: PodBook::default(),
            pending: BTreeMap::new(),
        };
        ledger.pending().iter().for_each(|left| recoveries.carry_on(left, record));
        recoveries.export();
        recoveries
    }

    /// Carries on the recovery from a kill that an earlier process made, or that this one knows of only by looking it up.
    pub fn carry_on(&mut self, left: &Pending, record: &OptIn) {
        let limit = record
            .spec
            .settings
            .as_ref()
            .and_then(|settings| durations::parse(settings.recovery_deadline.as_deref()?))
            .unwrap_or(self.deps.policy.defaults.recovery_deadline);
        let clock = &self.deps.clock;
        let (namespace, workload, uid) = (&self.namespace, &left.workload.name, &left.uid);
        match Recovery::resume(left, limit, clock.wall(), clock.monotonic()) {
            Some(recovery) => {
                tracing::info!(namespace, workload, uid, "carrying on a pending recovery");
                self.pending.insert(recovery.workload.uid.clone(), recovery);
            }
            None => {
                tracing::warn!(namespace, workload, uid, "a pending recovery in the record can't be read")
            }
        }
        self.export();
    }

    /// Whether none is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether all Pods have been seen at least once.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.book.is_listed()
    }

    /// UIDs of the workloads with a pending recovery.
    #[must_use]
    pub fn workloads(&self) -> BTreeSet<String> {
        self.pending.keys().cloned().collect()
    }

    /// Whether no Pod is left that isn't being deleted.
    #[must_use]
    pub fn all_pods_lost(&self) -> bool {
        self.book.sightings().all(|seen| seen.pod.is_lost())
    }

    /// Takes over what a round saw.
    pub fn learn(&mut self, observation: &Observation) {
        self.lineage.learn(observation.replica_sets.values());
    }

    /// Begins the recovery from a kill that the ledger has noted.
    pub fn begin(&mut self, kill: &Kill) {
        let watched = self.book.sightings().map(|seen| seen.pod.uid.clone()).collect();
        let recovery = Recovery::begin(kill, &watched);
        self.pending.insert(recovery.workload.uid.clone(), recovery);
        self.export();
    }

    /// Enters what the Pod watch showed, and looks at the recoveries that it concerns.
    pub async fn enter(&mut self, event: PodEvent, ledger: &mut Ledger) -> Vec<Ended> {
        let PodEvent { at, change } = event;
        let is_list = matches!(change, PodChange::Listed(_));
        let noticed = self.book.enter(at, change);
        for recovery in self.pending.values_mut() {
            if noticed.dying.contains(&recovery.victim_uid) {
                recovery.victim_seen_dying(at);
            }
        }
        if is_list && noticed.touched.iter().any(|pod| self.lineage.known(pod).is_none()) {
            self.lineage.list(&self.deps.client, &self.namespace).await;
        }
        let mut concerned = BTreeSet::new();
        for pod in &noticed.touched {
            let workload =
                if is_list { self.lineage.known(pod) } else { self.lineage.workload_of(pod).await };
            if let Some(workload) = workload {
                if has_series(pod) {
                    self.deps.metrics.see(&self.namespace, &workload);
                }
                concerned.insert(workload.uid);
            }
        }
        for (pod, restarts) in &noticed.restarted {
            if let Some(workload) = self.lineage.known(pod).filter(|_| has_series(pod)) {
                self.deps.metrics.container_restarts(&self.namespace, &workload, *restarts);
            }
        }
        concerned.retain(|uid| self.pending.contains_key(uid));
        for uid in &concerned {
            if let Some(recovery) = self.pending.get_mut(uid) {
                recovery.pods_changed(at);
            }
        }
        self.judge(&concerned, at, ledger).await
    }

    /// Notes what the Pod watch showed, and looks at nothing.
    pub fn note(&mut self, event: PodEvent) {
        self.book.enter(event.at, event.change);
    }

    /// Looks at all of them, whether or not anything was shown.
    pub async fn look(&mut self, ledger: &mut Ledger) -> Vec<Ended> {
        let now = self.deps.clock.monotonic();
        self.judge(&self.workloads(), now, ledger).await
    }

    async fn judge(&mut self, workloads: &BTreeSet<String>, at: Instant, ledger: &mut Ledger) -> Vec<Ended> {
        let mut ended = Vec::new();
        for uid in workloads {
            let Some(recovery) = self.pending.get_mut(uid) else { continue };
            let (namespace, workload) = tokio::join!(
                read_namespace(&self.deps.client, &self.namespace),
                workloads::read(&self.deps.client, &self.namespace, &recovery.workload),
            );
            let is_of_workload =
                |seen: &&Sighting| self.lineage.known(&seen.pod).is_some_and(|workload| workload.uid == *uid);
            let pods: Vec<&Sighting> = self.book.sightings().filter(is_of_workload).collect();
            let is_over = |namespace: &NamespaceView| {
                let eligibility = Eligibility::of(namespace, &self.deps.policy, self.deps.clock.wall());
                Consent::parse(&namespace.annotations) != Consent::Yes
                    || matches!(eligibility, Eligibility::Expired(_))
            };
            if let Some(outcome) = recovery.judge(&pods, &surroundings(namespace, workload, is_over), at) {
                ended.extend(self.conclude(uid, outcome, ledger));
            }
        }
        ended
    }

    /// Ends all of them with this outcome.
    pub fn conclude_all(&mut self, outcome: Outcome, ledger: &mut Ledger) -> Vec<Ended> {
        self.workloads().iter().filter_map(|uid| self.conclude(uid, outcome, ledger)).collect()
    }

    /// Forgets the Pods: they can't be watched any more.
    pub fn stop_watching(&mut self) {
        self.book = PodBook::default();
    }

    fn conclude(&mut self, workload_uid: &str, outcome: Outcome, ledger: &mut Ledger) -> Option<Ended> {
        let recovery = self.pending.remove(workload_uid)?;
        let duration = recovery.duration().filter(|_| outcome == Outcome::Recovered);
        let Recovery { workload, victim, victim_uid, .. } = &recovery;
        self.deps.metrics.recovery(&self.namespace, workload, outcome, duration);
        ledger.ended(outcome.label());
        match outcome {
            Outcome::TimedOut => ledger.timed_out(workload, self.deps.clock.wall()),
            Outcome::Recovered | Outcome::RecoveredAfterRestart => ledger.recovered(&workload.uid),
            _ => {}
        }
        ledger.set_pending(self.pending.values().map(Recovery::pending).collect());
        match outcome {
            Outcome::Recovered | Outcome::RecoveredAfterRestart => {
                self.deps.events.recovered(&self.namespace, &recovery, duration);
            }
            Outcome::TimedOut => self.deps.events.timed_out(&self.namespace, &recovery),
            _ => {}
        }
        tracing::info!(
            namespace = self.namespace,
            workload_kind = workload.kind,
            workload = workload.name,
            pod = victim,
            uid = victim_uid,
            outcome = outcome.label(),
            seconds = duration.map(|duration| duration.as_secs_f64()),
            "recovery ended"
        );
        self.deps.board.ended(&self.namespace, EndedLine { outcome, duration });
        self.deps.board.decide(Decision {
            at: self.deps.clock.wall(),
            namespace: self.namespace.clone(),
            workload: format!("{} {}", workload.kind, workload.name),
            pod: victim.clone(),
            what: What::Ended(outcome),
            sentence: match duration {
                Some(duration) => format!("{:.1} s after the kill", duration.as_secs_f64()),
                None => outcome.meaning().to_owned(),
            },
        });
        self.export();
        Some(Ended { workload: workload.clone(), victim: victim.clone(), outcome, duration })
    }

    fn export(&self) {
        let oldest = self.pending.values().map(|recovery| recovery.killed).min();
        self.deps.metrics.set_pending(&self.namespace, self.pending.len(), oldest);
        self.deps.board.set_pending(&self.namespace, self.pending.values());
    }
}

/// What two reads say together. A namespace that can't be read, for want of rights or otherwise, says nothing.
fn surroundings(
    namespace: Result<NamespaceView, CallError>,
    workload: Result<Option<WorkloadView>, CallError>,
    is_over: impl Fn(&NamespaceView) -> bool,
) -> Surroundings {
    match (namespace, workload) {
        (Ok(namespace), _) if namespace.terminating => Surroundings::NamespaceDeleted,
        (Err(error), _) if error.code() == Some(404) => Surroundings::NamespaceDeleted,
        (Ok(namespace), _) if is_over(&namespace) => Surroundings::OptedOut,
        (Ok(_), Ok(None)) => Surroundings::WorkloadDeleted,
        (Ok(_), Ok(Some(workload))) => Surroundings::Present(workload),
        _ => Surroundings::Unknown,
    }
}
