//! The task of one namespace. It follows the record, serves the slots, and passes Pod events on to
//! the pending recoveries. Only this task uses its state, so the state needs no lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use policy::record::{OptIn, STATE_ACTIVE, STATE_DRY_RUN, Verdict};
use policy::schedule::Timetable;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::cluster::pod_watch::PodEvent;
use crate::context::Context;
use crate::recovery::RecoveryOutcome;
use crate::recovery::tracker::{Ended, RecoveryTracker};
use crate::refusal::Refusal;
use crate::round::due::{Due, DueSlot, SlotWatermark, due};
use crate::round::report::RoundReport;
use crate::round::{RoundInput, round};
use crate::status::foreseen::foreseeable;
use crate::status::{Activity, StatusWriter};
use crate::telemetry::fact::Fact;

/// How often the agent checks pending recoveries, in addition to each Pod event.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How often the agent looks for workloads that no longer exist.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// How long a workload rests after a Pod changed during its kill, or after a kill had no clear
/// answer. Retries would use up its PodDisruptionBudget, which the API server charges before it
/// checks preconditions.
pub const REST: Duration = Duration::from_secs(120);

/// The longest sleep. After it, the agent reads the wall clock again and notices if somebody set
/// it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The state of a namespace whose last slot is too far in the future.
const CLOCK_SUSPECT: &str = "clock_suspect";

/// The sentence for a namespace in which nothing refuses a round.
const WAITING: &str = "waiting for the next round";

/// The shortest pause before a slot that waits for the platform's budget is tried again. The
/// longest pause is twice as long.
const BUDGET_PAUSE: Duration = Duration::from_secs(3);

mod ending;
mod record_round;
mod refreshing;
mod settle_intent;
mod upcoming;
pub mod visit;

use upcoming::{Next, Upcoming};

/// The task of a namespace. It lives as long as the namespace has a record.
pub struct NamespaceTask {
    context: Context,
    name: String,
    record: Arc<OptIn>,
    timetable: Option<Timetable>,
    /// The agent serves no slot at or before this instant.
    watermark: SlotWatermark,
    upcoming: Upcoming,
    status_writer: StatusWriter,
    recoveries: RecoveryTracker,
    /// The refusal that the state shows although no round has looked, if there is one.
    foreseen: Option<Refusal>,
    /// For each kill without a known result: when this process first saw its intent, by the UID of
    /// the Pod.
    undecided: BTreeMap<String, Instant>,
    /// The slot that waits for the platform's budget.
    deferred: Option<Timestamp>,
    /// UIDs of workloads that are owed a turn of the `mtbf` schedule. A new schedule clears this
    /// set.
    owed: BTreeSet<String>,
    rng: ChaCha8Rng,
    end: CancellationToken,
}

impl NamespaceTask {
    /// A task that begins with `record`. It serves no slot that has passed already.
    #[must_use]
    pub fn new(
        context: Context,
        name: String,
        record: Arc<OptIn>,
        rng: ChaCha8Rng,
        end: CancellationToken,
    ) -> Self {
        let status_writer = StatusWriter::new(&context.client, &name, &record);
        let now = context.clock.wall();
        let left = status_writer.state().and_then(foreseeable);
        context.metrics.begin(&name);
        // Shows the record on the status page at once. A card without the record's data would look
        // like an opt-in that nobody reviewed.
        context.activity_log.begin(&name);
        context.activity_log.show(&name, &record, &status_writer, None);
        Self {
            watermark: SlotWatermark::new(status_writer.last_slot(), now),
            upcoming: Upcoming::default(),
            timetable: timetable(&record, &context),
            recoveries: RecoveryTracker::resume(&context, &name, &record, &status_writer),
            status_writer,
            name,
            record,
            context,
            foreseen: left,
            undecided: BTreeMap::new(),
            deferred: None,
            owed: BTreeSet::new(),
            rng,
            end,
        }
    }

    /// Runs until the record is gone (`gone`) or the process ends. If the record is gone, all
    /// pending recoveries end. If the process ends, they stay pending in the record.
    ///
    /// The futures of rare work are boxed. Otherwise each idle namespace would reserve 45 KB for
    /// them.
    pub async fn run(mut self, mut records: watch::Receiver<Arc<OptIn>>, gone: CancellationToken) {
        self.follow(self.record.clone());
        Box::pin(self.settle()).await;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tidy = tokio::time::interval(TIDY_INTERVAL);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.end.clone();
        let mut halt = self.context.halt.subscribe();
        let broke = self.recoveries.sampler().broke();
        loop {
            self.plan_next();
            Box::pin(self.save()).await;
            let sleep = self.until_next_slot();
            tokio::select! {
                // The branches are checked in this order, because events from before a moment must
                // be known at that moment.
                biased;
                () = end.cancelled() => return Box::pin(self.leave()).await,
                () = gone.cancelled() => return Box::pin(self.finish()).await,
                Ok(()) = records.changed() => {
                    let record = records.borrow_and_update().clone();
                    self.follow(record);
                }
                Ok(()) = halt.changed() => {}
                () = broke.notified() => self.note_samples(),
                Some(event) = self.recoveries.next_event() => drop(Box::pin(self.enter(event)).await),
                () = tokio::time::sleep(sleep) => Box::pin(self.serve_due_slot()).await,
                _ = look.tick(), if !self.recoveries.is_empty() || !self.status_writer.intents().is_empty() => {
                    Box::pin(self.settle()).await;
                    Box::pin(self.recoveries.look(&mut self.status_writer)).await;
                }
                _ = tidy.tick() => Box::pin(self.recoveries.tidy()).await,
            }
        }
    }

    fn leads(&self) -> bool {
        self.context.leadership.holds(self.context.clock.monotonic())
    }

    /// Writes the status, if this process still leads. Otherwise another process may write it.
    async fn save(&mut self) {
        if self.leads() && self.status_writer.has_news() {
            // Without a turn, the status is late already.
            let _turn = self.context.background_turn().await;
            self.status_writer.save(&self.name, self.context.clock.monotonic()).await;
        }
        self.keep_up();
    }

    /// Writes the status before the process ends. Otherwise an intent without a kill would stay in
    /// the record, and would count as a kill if the Pod disappeared in the meantime.
    pub(super) async fn leave(&mut self) {
        self.note_samples();
        if self.leads() {
            self.status_writer.save_at_end(&self.name).await;
        }
        self.keep_up();
    }

    /// Reports if the API server refuses to write the status. If another process wrote the status,
    /// takes over the pending recoveries from it.
    fn keep_up(&mut self) {
        if let Some(sentence) = self.status_writer.take_write_refusal() {
            let namespace_uid = &self.record.spec.namespace_uid;
            self.context.tell(&self.name, &Fact::RecordRefused { sentence: &sentence, namespace_uid });
        }
        if self.status_writer.take_overtaken() {
            self.recoveries.agree_with(self.status_writer.pending(), &self.record);
        }
    }

    /// Takes over a changed record.
    fn follow(&mut self, record: Arc<OptIn>) {
        let timetable = timetable(&record, &self.context);
        if timetable != self.timetable || record.spec.namespace_uid != self.record.spec.namespace_uid {
            self.upcoming.forget();
        }
        if timetable != self.timetable {
            // The slots of a new schedule begin now. Its earlier slots are not served.
            self.watermark.raise(self.context.clock.wall());
            self.timetable = timetable;
            self.owed.clear();
        }
        self.record = record;
        self.recoveries.follow(&self.record, &mut self.status_writer);
        if self.record.spec.verdict == Verdict::Admitted {
            self.recoveries.begin_watch(&mut self.rng);
        } else {
            self.stop_watching();
        }
        self.refresh(true);
    }

    fn stop_watching(&mut self) {
        // The opt-in is no longer admitted, so the agent loses the right to see the Pods.
        self.recoveries.conclude_all(RecoveryOutcome::OptedOut, &mut self.status_writer);
        self.recoveries.stop_watching();
    }

    fn plan_next(&mut self) {
        self.refresh(false);
        self.suspect_clock();
        let next = self.next().round;
        self.status_writer.set_next_slot(next);
        self.context.metrics.set_next_slot(&self.name, next);
        self.context.activity_log.show(&self.name, &self.record, &self.status_writer, next);
    }

    /// The next slot and the next round.
    fn next(&mut self) -> Next {
        let Some(timetable) = &self.timetable else { return Next::default() };
        let (uid, now) = (&self.record.spec.namespace_uid, self.context.clock.wall());
        self.upcoming.at(timetable, uid, self.watermark, self.status_writer.last_slot(), now)
    }

    /// Reports a last slot that is more than two rounds in the future. This means that a clock is
    /// or was wrong. The agent serves no slot at or before the last slot in any case; the state
    /// only says so.
    fn suspect_clock(&mut self) {
        let now = self.context.clock.wall();
        // Only a last slot in the future can be too far ahead. In all other cases there is no need
        // to search the schedule.
        let ahead =
            self.status_writer.last_slot().filter(|last| *last > now && self.is_beyond_the_next(*last, now));
        let sentence = ahead.map(|last| {
            format!(
                "the last slot that was served, {last}, is more than two rounds ahead of the agent's clock, \
                 so nothing is killed until then: if the clock is right, opt out and opt in again"
            )
        });
        if let Some(sentence) = &sentence {
            self.status_writer.set_state(CLOCK_SUSPECT, Activity::Nothing, sentence.clone(), now);
        } else if self.status_writer.state() == Some(CLOCK_SUSPECT) {
            let (state, activity) = waiting(&self.record);
            self.status_writer.set_state(state, activity, WAITING.to_owned(), now);
        }
        self.status_writer.set_clock_suspect(sentence, now);
    }

    /// Whether two rounds are due between `now` and `slot`.
    fn is_beyond_the_next(&self, slot: Timestamp, now: Timestamp) -> bool {
        let next = |instant| self.timetable.as_ref()?.next_after(&self.record.spec.namespace_uid, instant);
        next(now).and_then(next).is_some_and(|second| slot > second)
    }

    /// How long to sleep until the next slot. It counts from the watermark instead of from now, so
    /// that a slot that passed during other work is due at once.
    fn until_next_slot(&mut self) -> Duration {
        if self.deferred.is_some() {
            // A random pause, so that the namespaces do not all try again at the same moment.
            return BUDGET_PAUSE.mul_f64(self.rng.random_range(1.0..2.0));
        }
        let now = self.context.clock.wall();
        self.next().slot.map_or(LONGEST_SLEEP, |slot| {
            Duration::try_from(slot.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
        })
    }

    async fn serve_due_slot(&mut self) {
        if !self.leads() {
            // This process is about to end. Another process may serve these slots.
            self.watermark.raise(self.context.clock.wall());
            self.deferred = None;
            return;
        }
        let Some(slot) = self.due_slot() else { return };
        if self.deferred == Some(slot) && !self.context.budget.is_left(self.context.clock.monotonic()) {
            return;
        }
        // Namespaces get their turn in the order in which they asked. The semaphore is never
        // closed.
        let rounds = Arc::clone(&self.context.rounds);
        let _turn = tokio::select! {
            biased;
            () = self.end.cancelled() => return,
            turn = rounds.acquire_owned() => turn,
        };
        // Checks again, because the slot may have become too late during the wait.
        let (Some(slot), Some(timetable)) = (self.due_slot(), self.timetable.clone()) else { return };
        let report = self.serve(DueSlot { slot, timetable: Some(&timetable), dry_run: false }).await;
        if !report.is_deferred {
            self.watermark.raise(slot);
            self.deferred = None;
        } else if self.deferred.replace(slot) == Some(slot) {
            // The agent has already reported that this slot waits.
            return;
        }
        self.record_round(slot, &report);
    }

    /// The slot to serve now. If a slot is skipped, this function reports it.
    fn due_slot(&mut self) -> Option<Timestamp> {
        let timetable = self.timetable.as_ref()?;
        let (uid, now) = (&self.record.spec.namespace_uid, self.context.clock.wall());
        let (slot, reason) = match due(
            timetable,
            uid,
            self.watermark,
            self.status_writer.last_slot(),
            self.deferred,
            now,
        ) {
            Due::Nothing => {
                self.deferred = None;
                return None;
            }
            Due::Round(slot) => {
                self.deferred = self.deferred.filter(|deferred| *deferred == slot);
                return Some(slot);
            }
            Due::Missed(slot) if self.deferred == Some(slot) => (
                slot,
                "the kills in the whole cluster reached the platform's killsPerMinute, until the round was \
                 too late",
            ),
            Due::Missed(slot) => (slot, "the round would have been more than 30 s late"),
            Due::TooSoon(slot) => (
                slot,
                "the round came less than the platform's shortest interval after the last one, because \
                 somebody asked for a round or the schedule changed",
            ),
        };
        self.watermark.raise(slot);
        self.deferred = None;
        self.skip(slot, reason);
        None
    }

    /// Reports a slot that is skipped, and why.
    fn skip(&self, slot: Timestamp, reason: &'static str) {
        self.context.tell(&self.name, &Fact::Skipped { slot, reason });
    }

    async fn serve(&mut self, serve: DueSlot<'_>) -> RoundReport {
        let round_input = RoundInput {
            namespace: &self.name,
            serve,
            watch: self.recoveries.watch(),
            sampler: self.recoveries.sampler(),
            pending: &self.recoveries.workloads(),
            owed: &self.owed,
            end: &self.end,
        };
        let report = round(&self.context, &round_input, &mut self.status_writer, &mut self.rng).await;
        self.keep_up();
        report
    }

    async fn enter(&mut self, event: PodEvent) -> Vec<Ended> {
        self.recoveries.enter(event, &mut self.status_writer).await
    }
}

/// The state of a namespace in which nothing refuses a round.
fn waiting(record: &OptIn) -> (&'static str, Activity) {
    if record.spec.settings.as_ref().is_some_and(|settings| settings.dry_run) {
        (STATE_DRY_RUN, Activity::DryRuns)
    } else {
        (STATE_ACTIVE, Activity::Kills)
    }
}

fn timetable(record: &OptIn, context: &Context) -> Option<Timetable> {
    record.spec.settings.as_ref()?.timetable(context.policy.ceilings.shortest_interval)
}
