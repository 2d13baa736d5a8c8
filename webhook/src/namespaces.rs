//! Namespaces as the API server has them: the watch's and the live read's metadata, turned into the rules' view.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use policy::digest::digest;
use policy::eligibility::NamespaceView;
use policy::keys::{CHAOS, SYSTEM_NAMESPACE, is_ours};

use crate::origin::{Entry, origin};

/// How long the lock waits for both Namespaces: well inside the 5 s that the API server waits for the lock.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// One version of a Namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// What the rules need; of the annotations only ours, so that the memory follows what they say about chaos.
    pub view: NamespaceView,
    /// Its resourceVersion. The API promises that these are numbers and grow; 0 for what is not one.
    pub version: u64,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// [`origin`] of its chaos annotations.
    pub set_by: String,
}

impl Stored {
    /// Reads an object's metadata.
    #[must_use]
    pub fn of(metadata: ObjectMeta) -> Self {
        let ObjectMeta {
            name,
            uid,
            annotations,
            deletion_timestamp,
            creation_timestamp,
            resource_version,
            managed_fields,
            ..
        } = metadata;
        let mut annotations = annotations.unwrap_or_default();
        let entries: Vec<Entry> = managed_fields.into_iter().flatten().map(Entry::from).collect();
        let set_by = origin(&entries);
        annotations.retain(|key, _| is_ours(key));
        Self {
            view: NamespaceView {
                name: name.unwrap_or_default(),
                uid: uid.unwrap_or_default(),
                annotations,
                terminating: deletion_timestamp.is_some(),
            },
            version: resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
            created: creation_timestamp.map(|time| time.0),
            set_by,
        }
    }

    /// [`digest`] of its chaos keys.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.view.annotations)
    }

    /// Whether the opt-in annotation is there, whatever it says.
    #[must_use]
    pub fn says_something(&self) -> bool {
        self.view.annotations.contains_key(CHAOS)
    }
}

/// Reads a Namespace from the API server, not from a cache; `None` if there is none.
///
/// # Errors
/// The client's. It has no time limit of its own: the caller sets one.
pub async fn read(client: &Client, name: &str) -> Result<Option<Stored>, kube::Error> {
    let live = Api::<Namespace>::all(client.clone()).get_metadata_opt(name).await?;
    Ok(live.map(|object| Stored::of(object.metadata)))
}

/// Reads what the kill lock asks: the namespace of the kill, and `pure-chaos`, `None` where that can't be read.
///
/// # Errors
/// In words, why the namespace of the kill can't be read within [`LOCK_TIMEOUT`].
pub async fn read_for_lock(
    client: &Client,
    name: &str,
) -> Result<(NamespaceView, Option<NamespaceView>), String> {
    let within = |name| async move {
        match tokio::time::timeout(LOCK_TIMEOUT, read(client, name)).await {
            Ok(Ok(Some(live))) => Ok(live.view),
            Ok(Ok(None)) => Err("it does not exist".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", LOCK_TIMEOUT.as_secs())),
        }
    };
    let (target, system) = tokio::join!(within(name), within(SYSTEM_NAMESPACE));
    if let Err(error) = &system {
        tracing::warn!(namespace = SYSTEM_NAMESPACE, error, "failed to read whether everything is halted");
    }
    Ok((target?, system.ok()))
}
