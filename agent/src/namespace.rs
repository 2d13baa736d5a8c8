//! One namespace's life: it follows its record, serves its slots, and hands what its Pods do to its recoveries. One task, so that
//! nothing in it needs a lock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use policy::record::{OptIn, Verdict};
use policy::schedule::Timetable;
use rand::rngs::ChaCha8Rng;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::decisions::skipped;
use crate::deps::Deps;
use crate::ledger::{Activity, Ledger, STATE_ACTIVE, STATE_DRY_RUN};
use crate::permission::not_admitted;
use crate::pods::{self, PodEvent};
use crate::recoveries::{Ended, Recoveries};
use crate::recovery::Outcome;
use crate::refusal::Refusal;
use crate::report::RoundReport;
use crate::round::{Occasion, round};
use crate::slots::{Due, Floor, Serve, due};

/// How often a pending recovery's workload is read, beside at each of its Pod events.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a workload rests after a kill met a change: retries would eat its disruption budget, which the API server charges before
/// it checks preconditions.
pub const REST: Duration = Duration::from_secs(120);

/// The wall clock is asked again at least this often, so that a step of it is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Pod events that may wait while a round goes on.
const QUEUE: usize = 4_096;

mod ending;
pub mod once;
mod recording;
mod settling;

use recording::Told;

/// Lives as long as the namespace has a record.
pub struct NamespaceTask {
    deps: Deps,
    name: String,
    record: Arc<OptIn>,
    timetable: Option<Timetable>,
    /// No slot at or before this instant is served.
    floor: Floor,
    ledger: Ledger,
    watch: Option<PodWatch>,
    recoveries: Recoveries,
    told: Told,
    rng: ChaCha8Rng,
    end: CancellationToken,
}

struct PodWatch {
    events: mpsc::Receiver<PodEvent>,
    _task: AbortOnDropHandle<()>,
}

impl NamespaceTask {
    /// Begins with the record as the watch shows it. No slot that has passed will be served.
    #[must_use]
    pub fn new(
        deps: Deps,
        name: String,
        record: Arc<OptIn>,
        rng: ChaCha8Rng,
        end: CancellationToken,
    ) -> Self {
        let ledger = Ledger::new(&deps.client, &name, &record);
        let now = deps.clock.wall();
        deps.metrics.begin(&name);
        // At once: a card without what the record says would tell of an opt-in that nobody reviewed.
        deps.board.begin(&name);
        deps.board.show(&name, &record, &ledger, None);
        Self {
            floor: Floor::new(ledger.last_slot(), now),
            timetable: timetable(&record, &deps),
            recoveries: Recoveries::resume(&deps, &name, &record, &ledger),
            ledger,
            name,
            record,
            deps,
            watch: None,
            told: Told::default(),
            rng,
            end,
        }
    }

    /// Runs until the record is gone (`gone`), which ends every pending recovery, or the process ends, which leaves them pending in
    /// the record.
    pub async fn run(mut self, mut records: watch::Receiver<Arc<OptIn>>, gone: CancellationToken) {
        self.follow(self.record.clone());
        self.settle().await;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.end.clone();
        loop {
            self.plan_next();
            self.save().await;
            let sleep = self.until_next_slot();
            tokio::select! {
                // In this order: what was shown before a moment has to be known at that moment.
                biased;
                () = end.cancelled() => return,
                () = gone.cancelled() => return self.finish().await,
                Ok(()) = records.changed() => {
                    let record = records.borrow_and_update().clone();
                    self.follow(record);
                }
                Some(event) = next_event(&mut self.watch) => drop(self.enter(event).await),
                () = tokio::time::sleep(sleep) => self.serve_due_slot().await,
                _ = look.tick(), if !self.recoveries.is_empty() || self.ledger.intent().is_some() => {
                    self.settle().await;
                    self.recoveries.look(&mut self.ledger).await;
                }
            }
        }
    }

    fn leads(&self) -> bool {
        self.deps.leadership.holds(self.deps.clock.monotonic())
    }

    /// Writes the status, unless another process may be its writer by now.
    async fn save(&mut self) {
        if self.leads() {
            self.ledger.save(&self.name, self.deps.clock.monotonic()).await;
        }
    }

    /// Takes over a changed record.
    fn follow(&mut self, record: Arc<OptIn>) {
        let timetable = timetable(&record, &self.deps);
        if timetable != self.timetable {
            // A new schedule's slots begin now, not in its past.
            self.floor.raise(self.deps.clock.wall());
            self.timetable = timetable;
        }
        let now = self.deps.clock.wall();
        match record.spec.verdict {
            Verdict::Admitted => {
                if self.is_stale_state(&record) {
                    let is_dry_run = record.spec.settings.as_ref().is_some_and(|settings| settings.dry_run);
                    let (state, activity) = if is_dry_run {
                        (STATE_DRY_RUN, Activity::DryRuns)
                    } else {
                        (STATE_ACTIVE, Activity::Kills)
                    };
                    self.ledger.set_state(state, activity, "waiting for the next round".to_owned(), now);
                }
                self.watch_pods();
            }
            verdict => {
                let sentence =
                    record.spec.reason.clone().unwrap_or_else(|| not_admitted(&self.name).sentence);
                let refusal = match verdict {
                    Verdict::NotUnderstood => Refusal::UnknownSetting,
                    _ => Refusal::NotAdmitted,
                };
                self.ledger.set_state(refusal.label(), Activity::Nothing, sentence, now);
                self.stop_watching();
            }
        }
        self.record = record;
    }

    /// Whether the record's state still tells of a verdict or of a mode of rounds that no longer holds, or of nothing. What refuses is not told from
    /// the settings, and stays until a round has looked.
    fn is_stale_state(&self, record: &Arc<OptIn>) -> bool {
        let is_dry_run = record.spec.settings.as_ref().is_some_and(|settings| settings.dry_run);
        let contradicts = |state| state == if is_dry_run { STATE_ACTIVE } else { STATE_DRY_RUN };
        let is_of_verdict = if Arc::ptr_eq(&self.record, record) {
            // What an earlier process left.
            let verdicts = [Refusal::NotAdmitted.label(), Refusal::UnknownSetting.label()];
            self.ledger.state().is_none_or(|state| verdicts.contains(&state))
        } else {
            self.record.spec.verdict != Verdict::Admitted
        };
        is_of_verdict || self.ledger.state().is_some_and(contradicts)
    }

    fn watch_pods(&mut self) {
        if self.watch.is_none() {
            let (changes, events) = mpsc::channel(QUEUE);
            let pods = Api::namespaced(self.deps.client.clone(), &self.name);
            let task = tokio::spawn(pods::watch(pods, self.deps.clock.clone(), changes));
            self.watch = Some(PodWatch { events, _task: AbortOnDropHandle::new(task) });
        }
    }

    fn stop_watching(&mut self) {
        // Consent as it was admitted is gone, and with it the right to see how the Pods fare.
        self.recoveries.conclude_all(Outcome::OptedOut, &mut self.ledger);
        self.recoveries.stop_watching();
        self.watch = None;
    }

    fn slot_after(&self, instant: Timestamp) -> Option<Timestamp> {
        self.timetable.as_ref()?.next_after(&self.record.spec.namespace_uid, instant)
    }

    fn plan_next(&mut self) {
        self.suspect_clock();
        let next = self.next_round();
        self.ledger.set_next_slot(next);
        self.deps.metrics.set_next_slot(&self.name, next);
        self.deps.board.show(&self.name, &self.record, &self.ledger, next);
    }

    /// The next slot that won't be skipped for coming too soon.
    fn next_round(&self) -> Option<Timestamp> {
        let timetable = self.timetable.as_ref()?;
        let served = self.ledger.last_slot().unwrap_or(Timestamp::MIN);
        let mut next = self.slot_after(self.floor.instant().max(self.deps.clock.wall()).max(served))?;
        // Ends: no slot is too soon that is the shortest interval away.
        while timetable.is_too_soon(next, self.ledger.last_slot()) {
            next = self.slot_after(next)?;
        }
        Some(next)
    }

    /// A last slot more than two rounds ahead means that a clock was or is wrong. Nothing at or before it is served in any case; this says so.
    fn suspect_clock(&mut self) {
        let now = self.deps.clock.wall();
        let second = self.slot_after(now).and_then(|first| self.slot_after(first));
        let ahead = self.ledger.last_slot().zip(second).filter(|(last, second)| last > second);
        let sentence = ahead.map(|(last, _)| {
            format!(
                "the last slot served, {last}, is more than two rounds ahead of this machine's clock: nothing is killed before it; where \
                 the clock is right, opt out and in again"
            )
        });
        if let Some(sentence) = &sentence {
            self.ledger.set_state("clock_suspect", Activity::Nothing, sentence.clone(), now);
        }
        self.ledger.set_clock_suspect(sentence, now);
    }

    /// From the floor, not from now: a slot that went by while something else was done is due at once.
    fn until_next_slot(&self) -> Duration {
        let now = self.deps.clock.wall();
        self.slot_after(self.floor.instant()).map_or(LONGEST_SLEEP, |slot| {
            Duration::try_from(slot.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
        })
    }

    async fn serve_due_slot(&mut self) {
        if !self.leads() {
            // The process is about to end; until then its slots are another's.
            self.floor.raise(self.deps.clock.wall());
            return;
        }
        let Some(timetable) = self.timetable.clone() else { return };
        let now = self.deps.clock.wall();
        let slot = match due(
            &timetable,
            &self.record.spec.namespace_uid,
            self.floor,
            self.ledger.last_slot(),
            now,
        ) {
            Due::Nothing => return,
            Due::Missed(slot) => {
                self.floor.raise(slot);
                return self.skip(slot, "it would have been more than 30 s late");
            }
            Due::TooSoon(slot) => {
                self.floor.raise(slot);
                return self.skip(
                    slot,
                    "it was less than the platform's shortest interval after the last one, for one was asked for or the schedule changed",
                );
            }
            Due::Round(slot) => slot,
        };
        self.floor.raise(slot);
        let report = self.serve(Serve { slot, timetable: Some(&timetable), dry_run: false }).await;
        self.record_round(slot, &report);
    }

    /// Says why there is no round.
    fn skip(&self, slot: Timestamp, reason: &'static str) {
        tracing::warn!(namespace = self.name, slot = %slot, reason, "skipped a slot");
        self.deps.board.decide(skipped(&self.name, slot, reason, self.deps.clock.wall()));
    }

    async fn serve(&mut self, serve: Serve<'_>) -> RoundReport {
        let occasion = Occasion {
            namespace: &self.name,
            serve,
            is_watched: self.recoveries.is_watched(),
            pending: &self.recoveries.workloads(),
            end: &self.end,
        };
        round(&self.deps, &occasion, &mut self.ledger, &mut self.rng).await
    }

    async fn enter(&mut self, event: PodEvent) -> Vec<Ended> {
        self.recoveries.enter(event, &mut self.ledger).await
    }
}

async fn next_event(watch: &mut Option<PodWatch>) -> Option<PodEvent> {
    match watch {
        Some(watch) => watch.events.recv().await,
        None => std::future::pending().await,
    }
}

fn timetable(record: &OptIn, deps: &Deps) -> Option<Timetable> {
    record.spec.settings.as_ref()?.timetable(deps.policy.ceilings.shortest_interval)
}
