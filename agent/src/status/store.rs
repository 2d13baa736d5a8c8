//! Reads and writes the status of a record in the API server. The status has one writer, so each
//! write replaces the whole status. A write succeeds only if the record is at the version that this
//! process knows.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use policy::record::{OptIn, OptInStatus};
use policy::well_known::RECORD;
use runtime::client::{CallError, call};
use serde_json::{Value, json};

/// How many unanswered writes are remembered. The agent writes at most once every few seconds, and
/// the API server gives up a request after a minute.
const MOST_UNANSWERED: usize = 16;

/// Why the status was not written or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API server refused, failed or gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The record has changed since it was read.
    #[error("the record has changed since it was read")]
    Changed,
    /// A new record exists under the same name.
    #[error("the record was deleted and created again")]
    Replaced,
    /// Another process wrote the status. This process has taken that status over.
    #[error("another process wrote the record's status")]
    Overtaken,
}

impl StoreError {
    /// Whether the record is gone, or a new record exists under its name.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Replaced) || matches!(self, Self::Call(error) if error.code() == Some(404))
    }
}

/// The result of a read, compared with what this process knew.
#[derive(Debug)]
pub enum Found {
    /// The status is the one that was known.
    Known,
    /// The status is one that this process sent without getting an answer.
    Own(OptInStatus),
    /// The status was written by another process.
    Foreign(OptInStatus),
}

/// The stored status, as far as this process knows it.
#[derive(Debug)]
pub struct Store {
    records: Api<OptIn>,
    uid: Option<String>,
    version: Option<String>,
    stored: OptInStatus,
    /// The statuses that were sent for this `version` without an answer. One of them may be stored.
    unanswered: Vec<OptInStatus>,
}

impl Store {
    /// A store that begins with the status of `record`.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, record: &OptIn) -> Self {
        Self {
            records: Api::namespaced(client.clone(), namespace),
            uid: record.uid(),
            version: record.resource_version(),
            stored: record.status.clone().unwrap_or_default(),
            unanswered: Vec::new(),
        }
    }

    /// Whether a write got no answer, so that the stored status is unknown.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Reads the record from the API server, and takes over its status as the known one.
    ///
    /// # Errors
    /// When the API server gives no usable answer, or the record was deleted and created again.
    pub async fn read(&mut self) -> Result<(OptIn, Found), StoreError> {
        let record = call(self.records.get(RECORD)).await?;
        if record.uid() != self.uid {
            return Err(StoreError::Replaced);
        }
        let theirs = record.status.clone().unwrap_or_default();
        let own = self.unanswered.iter().find(|sent| as_stored(sent).as_ref() == Some(&theirs)).cloned();
        let found = match own {
            Some(sent) => Found::Own(sent),
            None if theirs == self.stored => Found::Known,
            None => Found::Foreign(theirs.clone()),
        };
        self.know(&record, theirs);
        Ok((record, found))
    }

    /// Writes the whole status, once.
    ///
    /// # Errors
    /// When the status was not written, or when the result is unknown. In the second case, read the
    /// record before the next write.
    pub async fn write(&mut self, status: &OptInStatus) -> Result<(), StoreError> {
        let whole = serde_json::to_value(status).map_err(kube::Error::SerdeError).map_err(CallError::from)?;
        // The UID prevents that the counts of an old record get into a new record of the same name.
        let patch = json!({
            "metadata": {"uid": self.uid, "resourceVersion": self.version},
            "status": replaced(whole, &self.stored),
        });
        let parameters = PatchParams { field_manager: Some("agent".to_owned()), ..PatchParams::default() };
        match call(self.records.patch_status(RECORD, &parameters, &Patch::Merge(&patch))).await {
            Ok(record) => {
                let stored = record.status.clone().unwrap_or_default();
                self.know(&record, stored);
                Ok(())
            }
            Err(error) if error.code() == Some(409) => Err(StoreError::Changed),
            Err(error) => {
                if !error.code().is_some_and(|code| (400..500).contains(&code)) {
                    if self.unanswered.len() == MOST_UNANSWERED {
                        self.unanswered.remove(0);
                    }
                    self.unanswered.push(status.clone());
                }
                Err(error.into())
            }
        }
    }

    fn know(&mut self, record: &OptIn, stored: OptInStatus) {
        let version = record.resource_version();
        if version != self.version {
            // A write for an older version can't succeed any more.
            self.unanswered.clear();
        }
        self.version = version;
        self.stored = stored;
    }
}

/// The status as the API server returns it. The conversion drops the fractions of a second.
fn as_stored(status: &OptInStatus) -> Option<OptInStatus> {
    serde_json::from_value(serde_json::to_value(status).ok()?).ok()
}

/// Sets removed fields to null, because a merge patch keeps the fields that it does not name.
fn replaced(mut status: Value, stored: &OptInStatus) -> Value {
    if let (Value::Object(status), Ok(Value::Object(stored))) = (&mut status, serde_json::to_value(stored)) {
        for key in stored.keys() {
            status.entry(key.clone()).or_insert(Value::Null);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_removed_by_the_patch() {
        let stored =
            OptInStatus { next_slot: Some("soon".to_owned()), kills: Some(1), ..OptInStatus::default() };
        let status = serde_json::to_value(OptInStatus { kills: Some(2), ..OptInStatus::default() }).unwrap();
        assert_eq!(replaced(status, &stored), json!({"kills": 2, "nextSlot": null}));
    }
}
