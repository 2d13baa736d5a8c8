//! The status of a namespace's record: what outlives this process, and what `kubectl get chaos` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use policy::keys::RECORD;
use policy::record::{Intent, OptIn, OptInStatus, Pending, Rest, WorkloadReference};
use runtime::client::{CallError, call};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::back_off;
use crate::views::Observation;

/// How long after a failed write the next one is tried.
const RETRY: Duration = Duration::from_secs(5);

/// The condition that says whether rounds kill.
pub const ACTIVE: &str = "Active";
/// The state where rounds kill.
pub const STATE_ACTIVE: &str = "active";
/// The state where rounds do everything but the effect.
pub const STATE_DRY_RUN: &str = "dry run";
/// The condition that is there while the last slot served lies in the future.
const CLOCK_SUSPECT: &str = "ClockSuspect";

/// What rounds do in a namespace at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// They kill, or will at the next slot.
    Kills,
    /// They do everything but the effect.
    DryRuns,
    /// They kill nothing.
    Nothing,
}

impl Activity {
    fn status_and_reason(self) -> (&'static str, &'static str) {
        match self {
            Self::Kills => ("True", "RoundsKill"),
            Self::DryRuns => ("False", "DryRun"),
            Self::Nothing => ("False", "NothingKilled"),
        }
    }
}

/// A namespace's status as this process knows it; the agent is its only writer.
#[derive(Debug)]
pub struct Ledger {
    records: Api<OptIn>,
    uid: Option<String>,
    retry_at: Option<Instant>,
    status: OptInStatus,
    saved: OptInStatus,
}

impl Ledger {
    /// Begins with what the record says.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, record: &OptIn) -> Self {
        let status = record.status.clone().unwrap_or_default();
        Self {
            records: Api::namespaced(client.clone(), namespace),
            uid: record.uid(),
            retry_at: None,
            saved: status.clone(),
            status,
        }
    }

    /// What an earlier process left pending.
    #[must_use]
    pub fn pending(&self) -> &[Pending] {
        &self.status.pending
    }

    /// The last slot that was served.
    #[must_use]
    pub fn last_slot(&self) -> Option<Timestamp> {
        instant(self.status.last_slot.as_deref())
    }

    /// Reads the record live.
    ///
    /// # Errors
    /// When the API server gives no usable answer.
    pub async fn read(&self) -> Result<OptIn, CallError> {
        call(self.records.get(RECORD)).await
    }

    /// Spends a slot before anything is killed in it: writes `lastSlot` and the first kill's intent on top of exactly that record. False if
    /// it was spent before.
    ///
    /// # Errors
    /// When it couldn't be written, also because the record has changed since it was read: then nothing may be killed.
    pub async fn spend(
        &mut self,
        slot: Timestamp,
        record: &OptIn,
        intent: Option<Intent>,
    ) -> Result<bool, CallError> {
        let stored = record.status.as_ref().and_then(|status| instant(status.last_slot.as_deref()));
        if let Some(last) = stored.filter(|last| slot <= *last) {
            self.served(last);
            return Ok(false);
        }
        let last_slot = slot.to_string();
        let patch = json!({
            "metadata": {"resourceVersion": record.resource_version()},
            "status": {"lastSlot": last_slot, "intent": intent},
        });
        self.patch(&patch).await?;
        self.status.last_slot = Some(last_slot.clone());
        self.saved.last_slot = Some(last_slot);
        self.status.intent.clone_from(&intent);
        self.saved.intent = intent;
        Ok(true)
    }

    /// Writes the intent of a further kill in a slot that is spent, if it isn't there yet.
    ///
    /// # Errors
    /// When it couldn't be written: then the Pod may not be killed.
    pub async fn intend(&mut self, intent: Intent) -> Result<(), CallError> {
        if self.saved.intent.as_ref().is_some_and(|written| written.kill.uid == intent.kill.uid) {
            return Ok(());
        }
        self.patch(&json!({"metadata": {"uid": self.uid}, "status": {"intent": intent}})).await?;
        self.status.intent = Some(intent.clone());
        self.saved.intent = Some(intent);
        Ok(())
    }

    /// The kill that was decided, and whose result isn't known.
    #[must_use]
    pub fn intent(&self) -> Option<&Intent> {
        self.status.intent.as_ref()
    }

    /// Takes over an intent that another process wrote, which may have led until just now.
    pub fn adopt(&mut self, record: &OptIn) {
        let Some(status) = &record.status else { return };
        // With the slot that this process spent itself it is its own, and at most not yet written as settled.
        if status.last_slot != self.saved.last_slot && status.intent.is_some() {
            self.status.intent.clone_from(&status.intent);
            self.saved.intent.clone_from(&status.intent);
        }
    }

    /// Notes that the result of the decided kill is known.
    pub fn settled(&mut self) {
        self.status.intent = None;
    }

    /// Notes a slot that was served; never an earlier one than is noted.
    pub fn served(&mut self, slot: Timestamp) {
        if self.last_slot().is_none_or(|last| last < slot) {
            self.status.last_slot = Some(slot.to_string());
        }
    }

    /// Notes when the next round is due.
    pub fn set_next_slot(&mut self, slot: Option<Timestamp>) {
        self.status.next_slot = slot.map(|slot| slot.round(jiff::Unit::Second).unwrap_or(slot).to_string());
    }

    /// Notes a kill, whose recovery is pending from here on.
    pub fn killed(&mut self, pending: Pending) {
        self.status.kills = Some(self.status.kills.unwrap_or(0).saturating_add(1));
        self.status.pending.push(pending);
        self.status.pending_count = i64::try_from(self.status.pending.len()).ok();
    }

    /// What the record's column says.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.status.state.as_deref()
    }

    /// The state in full, as it was last noted.
    #[must_use]
    pub fn sentence(&self) -> Option<&str> {
        let active = self.status.conditions.iter().find(|condition| condition.type_ == ACTIVE)?;
        Some(&active.message)
    }

    /// Kills since the record was made.
    #[must_use]
    pub fn kills(&self) -> i64 {
        self.status.kills.unwrap_or(0)
    }

    /// How the recoveries ended since the record was made: how many in each way.
    #[must_use]
    pub fn outcomes(&self) -> &BTreeMap<String, i64> {
        &self.status.outcomes
    }

    /// Notes the end of a recovery.
    pub fn ended(&mut self, outcome: &str) {
        let count = self.status.outcomes.entry(outcome.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    /// Notes that a workload's recovery timed out: it rests.
    pub fn timed_out(&mut self, workload: &WorkloadReference, now: Timestamp) {
        let before = self.status.backing_off.iter().position(|known| known.workload.uid == workload.uid);
        let before = before.map(|at| self.status.backing_off.remove(at));
        self.status.backing_off.push(back_off::timed_out(before.as_ref(), workload, now));
    }

    /// Notes that a workload recovered in time.
    pub fn recovered(&mut self, workload_uid: &str) {
        self.status.backing_off.retain(|known| known.workload.uid != workload_uid);
    }

    /// Notes what a look found of the workloads that rest; one that is gone is forgotten.
    pub fn looked_at(&mut self, observation: &Observation, now: Timestamp) {
        let known = std::mem::take(&mut self.status.backing_off);
        self.status.backing_off = known
            .iter()
            .filter_map(|known| {
                let is_healthy = observation.is_healthy(&known.workload.uid)?;
                back_off::looked_at(known, is_healthy, now)
            })
            .collect();
    }

    /// UIDs of the workloads that rest at `now` because recoveries timed out.
    #[must_use]
    pub fn backing_off(&self, now: Timestamp) -> BTreeSet<String> {
        let resting = self.status.backing_off.iter().filter(|known| back_off::refuses(known, now));
        resting.map(|known| known.workload.uid.clone()).collect()
    }

    /// Notes that a workload rests until then, because a kill in it met a change, and forgets the rests that are over.
    pub fn rest(&mut self, workload_uid: &str, until: Timestamp, now: Timestamp) {
        self.status.resting.retain(|known| known.workload != workload_uid && rests(known, now));
        self.status.resting.push(Rest { workload: workload_uid.to_owned(), until: until.to_string() });
    }

    /// UIDs of the workloads that rest at `now` because a kill met a change.
    #[must_use]
    pub fn resting(&self, now: Timestamp) -> BTreeSet<String> {
        resting(&self.status, now)
    }

    /// Notes the recoveries that are pending.
    pub fn set_pending(&mut self, pending: Vec<Pending>) {
        self.status.pending_count = i64::try_from(pending.len()).ok();
        self.status.pending = pending;
    }

    /// Notes whether rounds kill, and if not why: `state` in few words, `sentence` in full.
    pub fn set_state(&mut self, state: &str, activity: Activity, sentence: String, now: Timestamp) {
        let (status, reason) = activity.status_and_reason();
        self.set_condition(ACTIVE, status, reason, sentence, now);
        self.status.state = Some(state.to_owned());
    }

    /// Notes that the last slot served is too far in the future for this machine's clock, or that it no longer is.
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

    /// Writes what changed since it was last written. A failure is logged, and made good by a call 5 s or more after it.
    pub async fn save(&mut self, namespace: &str, now: Instant) {
        if self.status == self.saved || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        let Ok(status) = serde_json::to_value(&self.status) else {
            return;
        };
        // The UID keeps an old record's counts out of a new one of the same name.
        let patch = json!({"metadata": {"uid": self.uid}, "status": replaced(status, &self.saved)});
        match self.patch(&patch).await {
            Ok(()) => self.saved = self.status.clone(),
            // The namespace opted out meanwhile, and in again.
            Err(error) if matches!(error.code(), Some(404 | 409)) => {}
            Err(error) => {
                self.retry_at = Some(now + RETRY);
                tracing::warn!(namespace, error = %error, "failed to write the record's status");
            }
        }
    }

    async fn patch(&self, patch: &Value) -> Result<(), CallError> {
        let parameters = PatchParams { field_manager: Some("agent".to_owned()), ..PatchParams::default() };
        call(self.records.patch_status(RECORD, &parameters, &Patch::Merge(patch))).await.map(|_| ())
    }
}

/// UIDs of the workloads that rest at `now` because a kill met a change, by a record's status.
#[must_use]
pub fn resting(status: &OptInStatus, now: Timestamp) -> BTreeSet<String> {
    status.resting.iter().filter(|known| rests(known, now)).map(|known| known.workload.clone()).collect()
}

/// Also where its end can't be read.
fn rests(rest: &Rest, now: Timestamp) -> bool {
    rest.until.parse().map_or(true, |until: Timestamp| until > now)
}

/// A merge patch leaves out what isn't named, so fields that are gone are named with null.
fn replaced(mut status: Value, saved: &OptInStatus) -> Value {
    if let (Value::Object(status), Ok(Value::Object(saved))) = (&mut status, serde_json::to_value(saved)) {
        for key in saved.keys() {
            status.entry(key.clone()).or_insert(Value::Null);
        }
    }
    status
}

fn instant(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_ends_by_the_clock_and_one_that_cannot_be_read_does_not() {
        let rest =
            |workload: &str, until: &str| Rest { workload: workload.to_owned(), until: until.to_owned() };
        let status = OptInStatus {
            resting: vec![
                rest("a", "2026-11-23T12:00:00Z"),
                rest("b", "soon"),
                rest("c", "2026-11-23T12:00:01Z"),
            ],
            ..OptInStatus::default()
        };
        let noon = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(resting(&status, noon), BTreeSet::from(["b".to_owned(), "c".to_owned()]));
    }

    #[test]
    fn what_is_gone_is_removed_by_the_patch() {
        let saved =
            OptInStatus { next_slot: Some("soon".to_owned()), kills: Some(1), ..OptInStatus::default() };
        let status = serde_json::to_value(OptInStatus { kills: Some(2), ..OptInStatus::default() }).unwrap();
        assert_eq!(replaced(status, &saved), json!({"kills": 2, "nextSlot": null}));
    }
}
