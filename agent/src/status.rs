//! The status of a namespace's record. It keeps what the next process needs, and what `kubectl get
//! chaos` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Client;
use policy::record::{ACTIVE, Intent, OptIn, OptInStatus, Pending, Rest, ToldRefusal, WorkloadReference};
use tokio::time::Instant;

use crate::cluster::snapshot::NamespaceSnapshot;
use crate::guard::{backoff, rate_limit, resting};

mod activity;
pub mod foreseen;
mod hypotheses;
mod store;
mod write_refusal;

use store::{Found, Store};
use write_refusal::WriteRefusal;

pub use activity::Activity;
pub use store::StoreError;

/// How long after a failed write the agent tries the next one.
const RETRY: Duration = Duration::from_secs(5);

/// How often the agent tries the last write before it ends, and the pause between the tries. Both
/// have to fit into what is left of the Lease.
const LAST_TRIES: u32 = 3;
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// The condition that exists while the last slot served is too far in the future.
const CLOCK_SUSPECT: &str = "ClockSuspect";

/// The status of a namespace's record, as this process knows it. The agent is the only writer of
/// the status.
#[derive(Debug)]
pub struct StatusWriter {
    store: Store,
    retry_at: Option<Instant>,
    status: OptInStatus,
    /// The status as this process last wrote it or took it over.
    saved: OptInStatus,
    is_overtaken: bool,
    refusal: WriteRefusal,
}

impl StatusWriter {
    /// A status writer that begins with the status of `record`.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, record: &OptIn) -> Self {
        let status = record.status.clone().unwrap_or_default();
        Self {
            store: Store::new(client, namespace, record),
            retry_at: None,
            saved: status.clone(),
            status,
            is_overtaken: false,
            refusal: WriteRefusal::default(),
        }
    }

    /// The pending recoveries in the status.
    #[must_use]
    pub fn pending(&self) -> &[Pending] {
        &self.status.pending
    }

    /// The last slot that was served.
    #[must_use]
    pub fn last_slot(&self) -> Option<Timestamp> {
        instant(self.status.last_slot.as_deref())
    }

    /// Reads the record from the API server. If another process has written the status, this
    /// process takes that status over: the other process found what this one had written, and
    /// accounts for it.
    ///
    /// # Errors
    /// When the API server gives no usable answer, or the record was deleted and created again.
    pub async fn read(&mut self) -> Result<OptIn, StoreError> {
        Ok(self.look().await?.0)
    }

    /// Does the same as [`Self::read`], and also says whether another process has written the
    /// status.
    async fn look(&mut self) -> Result<(OptIn, bool), StoreError> {
        let (record, found) = self.store.read().await?;
        let is_foreign = matches!(found, Found::Foreign(_));
        match found {
            Found::Known => {}
            Found::Own(status) => self.saved = status,
            Found::Foreign(status) => {
                self.saved = status.clone();
                self.status = status;
                self.is_overtaken = true;
            }
        }
        Ok((record, is_foreign))
    }

    /// Whether another process has written the status since the last call.
    pub fn take_overtaken(&mut self) -> bool {
        std::mem::take(&mut self.is_overtaken)
    }

    /// Why the API server refuses to write the status. Returns the message once, and the next one
    /// only after a write has succeeded.
    pub fn take_write_refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    /// Spends a slot before anything is killed in it. This writes `lastSlot` and the intent of the
    /// first kill in one request, for exactly the version of the record that this process knows.
    /// Returns false if the slot was already spent.
    ///
    /// # Errors
    /// When the write failed, for example because the record has changed since it was read. Then
    /// nothing may be killed.
    pub async fn spend(&mut self, slot: Timestamp, intent: Option<Intent>) -> Result<bool, StoreError> {
        if self.last_slot().is_some_and(|last| slot <= last) {
            return Ok(false);
        }
        self.served(slot);
        match intent {
            Some(intent) => self.intend(intent).await?,
            None => self.write().await?,
        }
        Ok(true)
    }

    /// Writes the intent of a kill, unless the record already contains it.
    ///
    /// # Errors
    /// When the write failed. Then the Pod may not be killed, and the intent is dropped.
    pub async fn intend(&mut self, intent: Intent) -> Result<(), StoreError> {
        if self.saved.intents.contains(&intent) && self.status.intents.contains(&intent) {
            return Ok(());
        }
        self.status.intents.push(intent.clone());
        let written = self.write().await;
        if written.is_err() {
            // No kill was sent, whether or not the intent is stored. The next write removes the
            // intent. An intent of another process for the same Pod stays.
            self.status.intents.retain(|known| *known != intent);
        }
        written
    }

    /// The intents of kills whose result is unknown.
    #[must_use]
    pub fn intents(&self) -> &[Intent] {
        &self.status.intents
    }

    /// UIDs of the workloads with a kill whose result or recovery is not known yet, according to
    /// the record.
    #[must_use]
    pub fn open(&self) -> BTreeSet<String> {
        let decided = self.status.intents.iter().map(|intent| &intent.kill);
        decided.chain(&self.status.pending).map(|kill| kill.workload.uid.clone()).collect()
    }

    /// Removes the intent for the Pod with this UID, because the result of the kill is known.
    pub fn settled(&mut self, pod_uid: &str) {
        self.status.intents.retain(|known| known.kill.uid != pod_uid);
    }

    /// Notes a slot that was served. The last slot never moves back.
    pub fn served(&mut self, slot: Timestamp) {
        if self.last_slot().is_none_or(|last| last < slot) {
            self.status.last_slot = Some(slot.to_string());
        }
    }

    /// Notes when the next round is due.
    pub fn set_next_slot(&mut self, slot: Option<Timestamp>) {
        self.status.next_slot = slot.map(|slot| slot.round(jiff::Unit::Second).unwrap_or(slot).to_string());
    }

    /// Notes a kill. Its recovery is pending from now on, and its intent is removed.
    pub fn killed(&mut self, pending: Pending, now: Timestamp) {
        self.settled(&pending.uid);
        self.status.kills = Some(self.status.kills.unwrap_or(0).saturating_add(1));
        self.status.recent_kills.retain(|known| rate_limit::counts(known, now));
        self.status.recent_kills.push(pending.time.clone());
        self.status.pending.push(pending);
        self.status.pending_count = i64::try_from(self.status.pending.len()).ok();
    }

    /// The text of the `State` column.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.status.state.as_deref()
    }

    /// The sentence that explains the state.
    #[must_use]
    pub fn sentence(&self) -> Option<&str> {
        let active = self.status.conditions.iter().find(|condition| condition.type_ == ACTIVE)?;
        Some(&active.message)
    }

    /// The number of kills since the record was created.
    #[must_use]
    pub fn kills(&self) -> i64 {
        self.status.kills.unwrap_or(0)
    }

    /// How many recoveries ended with each outcome since the record was created.
    #[must_use]
    pub fn outcomes(&self) -> &BTreeMap<String, i64> {
        &self.status.outcomes
    }

    /// Counts the end of a recovery with this outcome.
    pub fn ended(&mut self, outcome: &str) {
        let count = self.status.outcomes.entry(outcome.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    /// Notes that the recovery of a workload timed out, or that a check broke during it. The
    /// workload rests from now on.
    pub fn back_off(&mut self, workload: &WorkloadReference, because: &str, now: Timestamp) {
        let before = self.status.backing_off.iter().position(|known| known.workload.uid == workload.uid);
        let before = before.map(|at| self.status.backing_off.remove(at));
        self.status.backing_off.push(backoff::timed_out(before.as_ref(), workload, because, now));
    }

    /// Notes that a workload recovered in time, which ends its rest.
    pub fn recovered(&mut self, workload_uid: &str) {
        self.status.backing_off.retain(|known| known.workload.uid != workload_uid);
    }

    /// Updates the rests of workloads from what a round saw. A workload that is gone is forgotten.
    pub fn looked_at(&mut self, observation: &NamespaceSnapshot, now: Timestamp) {
        let known = std::mem::take(&mut self.status.backing_off);
        self.status.backing_off = known
            .iter()
            .filter_map(|known| {
                let is_healthy = observation.is_healthy(&known.workload.uid)?;
                backoff::looked_at(known, is_healthy, now)
            })
            .collect();
    }

    /// The workloads that rest at `now` because a recovery timed out or a check broke, by their UIDs,
    /// each with a sentence.
    #[must_use]
    pub fn backing_off(&self, now: Timestamp) -> BTreeMap<String, String> {
        backoff::resting(&self.status, now)
    }

    /// Notes that a workload rests until `until`, because a Pod changed during its kill or the kill
    /// had no clear answer. Forgets rests that are over.
    pub fn rest(&mut self, workload_uid: &str, until: Timestamp, now: Timestamp) {
        self.status.resting.retain(|known| known.workload != workload_uid && resting::goes_on(known, now));
        self.status.resting.push(Rest { workload: workload_uid.to_owned(), until: until.to_string() });
    }

    /// UIDs of the workloads that rest at `now` because a Pod changed during its kill or the kill
    /// had no clear answer.
    #[must_use]
    pub fn resting(&self, now: Timestamp) -> BTreeSet<String> {
        resting::resting(&self.status, now)
    }

    /// The refusals that Events have already told.
    #[must_use]
    pub fn refused(&self) -> &[ToldRefusal] {
        &self.status.refused
    }

    /// Notes the refusals that Events have told.
    pub fn set_refused(&mut self, refused: Vec<ToldRefusal>) {
        self.status.refused = refused;
    }

    /// Notes the pending recoveries.
    pub fn set_pending(&mut self, pending: Vec<Pending>) {
        self.status.pending_count = i64::try_from(pending.len()).ok();
        self.status.pending = pending;
    }

    /// Notes whether rounds kill. `state` says in few words why not, and `sentence` explains it.
    pub fn set_state(&mut self, state: &str, activity: Activity, sentence: String, now: Timestamp) {
        let (status, reason) = activity.status_and_reason();
        self.set_condition(ACTIVE, status, reason, sentence, now);
        self.status.state = Some(state.to_owned());
    }

    /// Notes that the last slot served is too far in the future, or with `None` that it no longer
    /// is.
    pub fn set_clock_suspect(&mut self, sentence: Option<String>, now: Timestamp) {
        match sentence {
            Some(sentence) => self.set_condition(CLOCK_SUSPECT, "True", "LastSlotInTheFuture", sentence, now),
            None => self.status.conditions.retain(|condition| condition.type_ != CLOCK_SUSPECT),
        }
    }

    fn set_condition(&mut self, type_: &str, status: &str, reason: &str, sentence: String, now: Timestamp) {
        let mut condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: sentence,
            last_transition_time: Time(now),
            observed_generation: None,
        };
        match self.status.conditions.iter_mut().find(|known| known.type_ == type_) {
            Some(known) => {
                if known.status == status {
                    condition.last_transition_time = known.last_transition_time.clone();
                }
                *known = condition;
            }
            None => self.status.conditions.push(condition),
        }
    }

    /// Whether the status differs from the one that was written last.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.status != self.saved
    }

    /// Writes the status if it has changed. Logs a failure. Calls in the 5 s after a failure write
    /// nothing.
    pub async fn save(&mut self, namespace: &str, now: Instant) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        if let Err(error) = self.try_save().await {
            self.retry_at = Some(now + RETRY);
            tracing::warn!(namespace, error = %error, "failed to write the record's status");
        }
    }

    /// Writes the status before this process ends. Tries several times, because no later call
    /// follows.
    pub async fn save_at_end(&mut self, namespace: &str) {
        for attempt in 1..=LAST_TRIES {
            match self.try_save().await {
                Ok(()) => return,
                Err(error) if attempt == LAST_TRIES => {
                    tracing::error!(namespace, error = %error, "failed to write the record's status before this process ends");
                }
                Err(_) => tokio::time::sleep(LAST_PAUSE).await,
            }
        }
    }

    async fn try_save(&mut self) -> Result<(), StoreError> {
        if !self.has_news() {
            return Ok(());
        }
        let mut written = self.write().await;
        if matches!(written, Err(StoreError::Changed)) {
            // The webhook may have changed the record, or an earlier write of this process may have
            // been stored late.
            written = self.write().await;
        }
        match written {
            // The namespace opted out in the meantime, and perhaps in again. Or another process
            // wrote the status and accounts for it.
            Err(StoreError::Overtaken) => Ok(()),
            Err(error) if error.is_gone() => Ok(()),
            written => written,
        }
    }

    /// Writes the whole status, for exactly the version of the record that this process knows. All
    /// writes go through this function.
    async fn write(&mut self) -> Result<(), StoreError> {
        if self.store.is_in_doubt() && self.look().await?.1 {
            return Err(StoreError::Overtaken);
        }
        let written = self.store.write(&self.status).await;
        self.refusal.note(&written);
        match written {
            Ok(()) => {
                self.saved = self.status.clone();
                Ok(())
            }
            Err(StoreError::Changed) if self.look().await?.1 => Err(StoreError::Overtaken),
            Err(error) => Err(error),
        }
    }
}

fn instant(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}
