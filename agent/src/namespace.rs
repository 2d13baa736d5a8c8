//! One namespace's life: its slots, its Pods, its pending recoveries. One task, so that nothing in it needs a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use policy::consent::Consent;
use policy::eligibility::NamespaceView;
use policy::record::{OptIn, Verdict, WorkloadReference};
use policy::schedule::Schedule;
use policy::settings::Mode;
use rand::rngs::ChaCha8Rng;
use runtime::client::CallError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::guards::Refusal;
use crate::ledger::Ledger;
use crate::lineage::Lineage;
use crate::metrics::RoundOutcome;
use crate::observe::read_namespace;
use crate::permission::not_admitted;
use crate::pod_book::PodBook;
use crate::pods::{self, PodEvent};
use crate::recovery::{Outcome, Recovery, Sighting, Surroundings};
use crate::round::{Deps, Memory, RoundReport, round};
use crate::slots::{Due, due};
use crate::views::WorkloadView;
use crate::workloads;

/// How often a pending recovery's workload is read, beside at each of its Pod events.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a workload rests after a kill met a change: retries would eat its disruption budget, which the API server charges before
/// it checks preconditions.
const REST: Duration = Duration::from_secs(120);

/// The wall clock is asked again at least this often, so that a step of it is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Pod events that may wait while a round goes on.
const QUEUE: usize = 4_096;

/// Lives as long as the namespace has a record.
pub struct NamespaceTask {
    deps: Deps,
    name: String,
    record: Arc<OptIn>,
    schedule: Option<Schedule>,
    /// No slot at or before this instant is served.
    floor: Timestamp,
    ledger: Ledger,
    lineage: Lineage,
    book: PodBook,
    watch: Option<PodWatch>,
    resumed: bool,
    pending: BTreeMap<String, Recovery>,
    resting: BTreeMap<String, Instant>,
    told: BTreeMap<WorkloadReference, Refusal>,
    rng: ChaCha8Rng,
}

struct PodWatch {
    events: mpsc::Receiver<PodEvent>,
    _task: AbortOnDropHandle<()>,
}

impl NamespaceTask {
    /// Begins with the record as the watch shows it. No slot that has passed will be served.
    #[must_use]
    pub fn new(deps: Deps, name: String, record: Arc<OptIn>, rng: ChaCha8Rng) -> Self {
        let ledger = Ledger::new(&deps.client, &name, &record);
        let now = deps.clock.wall();
        Self {
            floor: ledger.last_slot().map_or(now, |last| last.max(now)),
            schedule: schedule(&record),
            lineage: Lineage::new(&deps.client, &name),
            ledger,
            name,
            record,
            deps,
            book: PodBook::default(),
            watch: None,
            resumed: false,
            pending: BTreeMap::new(),
            resting: BTreeMap::new(),
            told: BTreeMap::new(),
            rng,
        }
    }

    /// Runs until the record is gone (`gone`), which ends every pending recovery, or the process ends (`end`), which leaves them
    /// pending in the record.
    pub async fn run(
        mut self,
        mut records: watch::Receiver<Arc<OptIn>>,
        gone: CancellationToken,
        end: CancellationToken,
    ) {
        self.deps.metrics.begin(&self.name);
        self.follow(self.record.clone());
        self.plan_next();
        self.ledger.save(&self.name).await;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let sleep = self.until_next_slot();
            tokio::select! {
                () = end.cancelled() => {
                    self.ledger.save(&self.name).await;
                    return;
                }
                () = gone.cancelled() => return self.finish().await,
                Ok(()) = records.changed() => {
                    let record = records.borrow_and_update().clone();
                    self.follow(record);
                }
                Some(event) = next_event(&mut self.watch) => self.enter(event).await,
                () = tokio::time::sleep(sleep) => self.serve_due_slot().await,
                _ = look.tick(), if !self.pending.is_empty() => {
                    let now = self.deps.clock.monotonic();
                    self.judge(now, None).await;
                }
            }
            self.plan_next();
            self.ledger.save(&self.name).await;
        }
    }

    /// Takes over a changed record.
    fn follow(&mut self, record: Arc<OptIn>) {
        let schedule = schedule(&record);
        if schedule != self.schedule {
            // A new schedule's slots begin now, not in its past.
            self.floor = self.floor.max(self.deps.clock.wall());
            self.schedule = schedule;
        }
        let is_admitted = record.spec.verdict == Verdict::Admitted;
        match (is_admitted, &self.watch) {
            (true, None) => {
                let (changes, events) = mpsc::channel(QUEUE);
                let pods = Api::namespaced(self.deps.client.clone(), &self.name);
                let task = tokio::spawn(pods::watch(pods, self.deps.clock.clone(), changes));
                self.watch = Some(PodWatch { events, _task: AbortOnDropHandle::new(task) });
            }
            (false, Some(_)) => {
                self.watch = None;
                self.book = PodBook::default();
            }
            _ => {}
        }
        if !is_admitted {
            let sentence = record.spec.reason.clone().unwrap_or_else(|| not_admitted(&self.name).sentence);
            let state = if record.spec.verdict == Verdict::NotUnderstood {
                Refusal::UnknownSetting
            } else {
                Refusal::NotAdmitted
            };
            self.ledger.set_state(state.label().to_owned(), false, sentence, self.deps.clock.wall());
        } else if self.record.spec.verdict != Verdict::Admitted || self.record.status.is_none() {
            self.ledger.set_state(
                "active".to_owned(),
                true,
                "waiting for the next slot".to_owned(),
                self.deps.clock.wall(),
            );
        }
        self.record = record;
    }

    fn slot_after(&self, instant: Timestamp) -> Option<Timestamp> {
        self.schedule?.next_after(&self.record.spec.namespace_uid, instant)
    }

    fn plan_next(&mut self) {
        let next = self.slot_after(self.floor.max(self.deps.clock.wall()));
        self.ledger.set_next_slot(next);
        self.deps.metrics.set_next_slot(&self.name, next);
    }

    /// From the floor, not from now: a slot that went by while something else was done is due at once.
    fn until_next_slot(&self) -> Duration {
        let now = self.deps.clock.wall();
        self.slot_after(self.floor).map_or(LONGEST_SLEEP, |slot| {
            Duration::try_from(slot.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
        })
    }

    async fn serve_due_slot(&mut self) {
        let Some(schedule) = self.schedule else { return };
        let now = self.deps.clock.wall();
        let slot = match due(schedule, &self.record.spec.namespace_uid, self.floor, now) {
            Due::Nothing => return,
            Due::Missed(slot) => {
                self.floor = slot;
                tracing::warn!(namespace = self.name, slot = %slot, "skipped a slot that is too late");
                return;
            }
            Due::Round(slot) => slot,
        };
        self.floor = slot;
        if !self.book.is_listed() && self.record.spec.verdict == Verdict::Admitted {
            // Without the watch a recovery couldn't be measured, and other Pods' troubles not be seen.
            tracing::warn!(namespace = self.name, slot = %slot, outcome = "failed", "round skipped: the Pod watch isn't ready");
            self.deps.metrics.round(&self.name, RoundOutcome::Failed);
            let sentence = "the Pods could not be watched yet".to_owned();
            self.ledger.set_state("failed".to_owned(), false, sentence, now);
            self.ledger.served(slot);
            return;
        }
        let monotonic = self.deps.clock.monotonic();
        self.resting.retain(|_, until| *until > monotonic);
        let resting: BTreeSet<String> = self.resting.keys().cloned().collect();
        let pending: BTreeSet<String> = self.pending.keys().cloned().collect();
        let memory = Memory { pending: &pending, resting: &resting };
        let report = round(&self.deps, &self.name, slot, &memory, &mut self.ledger, &mut self.rng).await;
        self.record_round(slot, report);
    }

    /// Counts, tells and remembers what a round did.
    fn record_round(&mut self, slot: Timestamp, report: RoundReport) {
        let Deps { metrics, events, clock, .. } = &self.deps;
        let state = report.state();
        let RoundReport { outcome, kills, reasons, refused, changed, sentence, observation } = report;
        metrics.round(&self.name, outcome);
        for reason in &reasons {
            metrics.refusal(&self.name, *reason);
        }
        tracing::info!(
            namespace = self.name,
            slot = %slot,
            outcome = outcome.label(),
            kills = kills.len(),
            reasons = reasons.iter().map(|reason| reason.label()).collect::<Vec<_>>().join(","),
            sentence,
            "round"
        );
        for (workload, refusal) in &refused {
            if self.told.get(workload) != Some(refusal) {
                events.refused(&self.name, workload, *refusal);
            }
        }
        self.told = refused;
        if let Some(observation) = &observation {
            self.lineage.learn(observation);
        }
        let rested = clock.monotonic() + REST;
        self.resting.extend(changed.into_iter().map(|uid| (uid, rested)));
        let is_active = matches!(outcome, RoundOutcome::Killed | RoundOutcome::DryRun);
        self.ledger.set_state(state, is_active, sentence, clock.wall());
        self.ledger.served(slot);
        for kill in kills {
            self.ledger.killed();
            let recovery = Recovery::begin(&kill.candidate, kill.answered, kill.at);
            self.pending.insert(recovery.workload.uid.clone(), recovery);
        }
        self.note_pending();
    }

    /// Enters what the Pod watch showed, and looks at the recoveries that it concerns.
    async fn enter(&mut self, event: PodEvent) {
        let PodEvent { at, change } = event;
        let noticed = self.book.enter(at, change);
        for recovery in self.pending.values_mut() {
            if noticed.dying.contains(&recovery.victim_uid) {
                recovery.victim_seen_dying(at);
            }
        }
        if self.book.is_listed() && !self.resumed {
            self.resume();
        }
        let mut concerned = BTreeSet::new();
        for pod in &noticed.touched {
            if let Some(workload) = self.lineage.workload_of(pod).await {
                self.deps.metrics.see(&self.name, &workload, self.mode());
                concerned.insert(workload.uid);
            }
        }
        for (pod, restarts) in &noticed.restarted {
            if let Some(workload) = self.lineage.known(pod) {
                self.deps.metrics.container_restarts(&self.name, &workload, *restarts);
            }
        }
        if self.pending.keys().any(|uid| concerned.contains(uid)) {
            self.judge(at, Some(&concerned)).await;
        }
    }

    fn mode(&self) -> Option<Mode> {
        Mode::parse(&self.record.spec.settings.as_ref()?.mode)
    }

    /// Carries on what an earlier process left pending.
    fn resume(&mut self) {
        self.resumed = true;
        let pods: Vec<_> = self.book.sightings().map(|seen| seen.pod.clone()).collect();
        let (now, monotonic) = (self.deps.clock.wall(), self.deps.clock.monotonic());
        for pending in self.ledger.pending() {
            match Recovery::resume(pending, &pods, now, monotonic) {
                Some(recovery) => {
                    tracing::info!(
                        namespace = self.name,
                        workload = pending.workload.name,
                        pod = pending.pod,
                        uid = pending.uid,
                        "carrying on a pending recovery"
                    );
                    self.pending.insert(recovery.workload.uid.clone(), recovery);
                }
                None => tracing::warn!(
                    namespace = self.name,
                    uid = pending.uid,
                    time = pending.time,
                    "a pending recovery in the record can't be read"
                ),
            }
        }
        self.note_pending();
    }

    /// Looks at the pending recoveries of these workloads, or of all, as of `at`.
    async fn judge(&mut self, at: Instant, concerned: Option<&BTreeSet<String>>) {
        let subjects: Vec<String> = self
            .pending
            .keys()
            .filter(|uid| concerned.is_none_or(|concerned| concerned.contains(*uid)))
            .cloned()
            .collect();
        for uid in subjects {
            let Some(recovery) = self.pending.get_mut(&uid) else {
                continue;
            };
            let (namespace, workload) = tokio::join!(
                read_namespace(&self.deps.client, &self.name),
                workloads::read(&self.deps.client, &self.name, &recovery.workload),
            );
            let pods: Vec<&Sighting> = self
                .book
                .sightings()
                .filter(|seen| self.lineage.known(&seen.pod).is_some_and(|workload| workload.uid == uid))
                .collect();
            if let Some(outcome) = recovery.judge(&pods, &surroundings(namespace, workload), at) {
                self.conclude(&uid, outcome, at);
            }
        }
    }

    fn conclude(&mut self, workload_uid: &str, outcome: Outcome, at: Instant) {
        let Some(recovery) = self.pending.remove(workload_uid) else {
            return;
        };
        let duration = recovery.duration_until(at);
        let Recovery { workload, victim, victim_uid, .. } = &recovery;
        self.deps.metrics.recovery(&self.name, workload, outcome, duration);
        self.ledger.ended(outcome.label());
        match outcome {
            Outcome::Recovered | Outcome::RecoveredAfterRestart => {
                self.deps.events.recovered(&self.name, &recovery, duration);
            }
            Outcome::TimedOut => self.deps.events.timed_out(&self.name, &recovery),
            _ => {}
        }
        tracing::info!(
            namespace = self.name,
            workload_kind = workload.kind,
            workload = workload.name,
            pod = victim,
            uid = victim_uid,
            outcome = outcome.label(),
            seconds = duration.map(|duration| duration.as_secs_f64()),
            "recovery ended"
        );
        self.note_pending();
    }

    fn note_pending(&mut self) {
        let oldest = self.pending.values().map(|recovery| recovery.killed).min();
        self.deps.metrics.set_pending(&self.name, self.pending.len(), oldest);
        self.ledger.set_pending(self.pending.values().map(Recovery::pending).collect());
    }

    /// The record is gone: its pending recoveries end with the namespace or with the opt-out.
    async fn finish(mut self) {
        let outcome = match read_namespace(&self.deps.client, &self.name).await {
            Ok(namespace) if namespace.terminating => Outcome::NamespaceDeleted,
            Ok(_) => Outcome::OptedOut,
            Err(error) if error.code() == Some(404) => Outcome::NamespaceDeleted,
            // The rights went with the record. A namespace that is being deleted loses all its Pods, one that opted out none.
            Err(_) if self.book.sightings().all(|seen| seen.pod.is_lost()) => Outcome::NamespaceDeleted,
            Err(_) => Outcome::OptedOut,
        };
        let now = self.deps.clock.monotonic();
        for uid in self.pending.keys().cloned().collect::<Vec<_>>() {
            self.conclude(&uid, outcome, now);
        }
        self.deps.metrics.set_next_slot(&self.name, None);
    }
}

async fn next_event(watch: &mut Option<PodWatch>) -> Option<PodEvent> {
    match watch {
        Some(watch) => watch.events.recv().await,
        None => std::future::pending().await,
    }
}

fn schedule(record: &OptIn) -> Option<Schedule> {
    Schedule::parse(&record.spec.settings.as_ref()?.schedule)
}

/// What two reads say together. A namespace that can't be read, for want of rights or otherwise, says nothing.
fn surroundings(
    namespace: Result<NamespaceView, CallError>,
    workload: Result<Option<WorkloadView>, CallError>,
) -> Surroundings {
    match (namespace, workload) {
        (Ok(namespace), _) if namespace.terminating => Surroundings::NamespaceDeleted,
        (Err(error), _) if error.code() == Some(404) => Surroundings::NamespaceDeleted,
        (Ok(namespace), _) if Consent::parse(&namespace.annotations) != Consent::Yes => {
            Surroundings::OptedOut
        }
        (Ok(_), Ok(None)) => Surroundings::WorkloadDeleted,
        (Ok(_), Ok(Some(workload))) => Surroundings::Present(workload),
        _ => Surroundings::Unknown,
    }
}
