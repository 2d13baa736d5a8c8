//! Reads Namespaces from the API server, and turns the metadata of a watch or of a live read into
//! the form that the rules use.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use policy::consent::Consent;
use policy::digest::{digest, reviewed};
use policy::eligibility::NamespaceView;
use policy::well_known::{CHAOS, SYSTEM_NAMESPACE, is_ours};

use crate::admission::field_managers::origin;

/// How long the kill lock waits for both Namespaces. The API server waits 5 s for the lock, so this
/// limit leaves time for the answer.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// One version of a Namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// The fields that the rules use. Only our annotations are kept, so that annotations of others
    /// take no memory.
    pub view: NamespaceView,
    /// The resourceVersion. The API promises that this is a number that grows. The value is 0 if it
    /// is not a number.
    pub version: u64,
    /// When the Namespace was created.
    pub created: Option<Timestamp>,
    /// The [`origin`] of the chaos annotations.
    pub set_by: String,
}

impl Stored {
    /// Reads the metadata of a Namespace.
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
        let set_by = origin(managed_fields.into_iter().flatten());
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

    /// Returns the [`digest`] of the chaos keys.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.view.annotations)
    }

    /// Returns the digest of the annotations whose changes are certain to be reviewed.
    #[must_use]
    pub fn reviewed(&self) -> String {
        reviewed(&self.view.annotations)
    }

    /// Returns whether the annotations opt in. The opt-in counts only if it was admitted.
    #[must_use]
    pub fn opts_in(&self) -> bool {
        Consent::parse(&self.view.annotations) == Consent::Yes
    }

    /// Returns whether the Namespace has the annotation `chaos`, with any value.
    #[must_use]
    pub fn says_something(&self) -> bool {
        self.view.annotations.contains_key(CHAOS)
    }
}

/// Reads a Namespace from the API server, not from a cache. Returns `None` if the Namespace does
/// not exist.
///
/// # Errors
/// Returns the client's error. The call has no time limit of its own, so the caller must set one.
pub async fn read(client: &Client, name: &str) -> Result<Option<Stored>, kube::Error> {
    let live = Api::<Namespace>::all(client.clone()).get_metadata_opt(name).await?;
    Ok(live.map(|object| Stored::of(object.metadata)))
}

/// Reads both Namespaces that the kill lock needs: the namespace of the kill, and `pure-chaos`. The
/// second one is `None` if it can't be read.
///
/// # Errors
/// Returns the reason as text if the namespace of the kill can't be read within [`LOCK_TIMEOUT`].
pub async fn read_for_lock(
    client: &Client,
    name: &str,
) -> Result<(NamespaceView, Option<NamespaceView>), String> {
    let within = |name| async move {
        match tokio::time::timeout(LOCK_TIMEOUT, read(client, name)).await {
            Ok(Ok(Some(live))) => Ok(live.view),
            Ok(Ok(None)) => Err("the namespace does not exist".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", LOCK_TIMEOUT.as_secs())),
        }
    };
    let (target, system) = tokio::join!(within(name), within(SYSTEM_NAMESPACE));
    if let Err(error) = &system {
        tracing::warn!(namespace = SYSTEM_NAMESPACE, error, "failed to read whether all kills are halted");
    }
    Ok((target?, system.ok()))
}
