//! Reads and writes records, RoleBindings and Events on the API server. Each change or deletion of
//! a record or RoleBinding has a precondition. This module does not decide what should exist.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Client};
use policy::eligibility::NamespaceView;
use policy::record::{OptIn, OptInSpec, Pending, Verdict};
use policy::well_known::{AGENT_BINDING, RECORD};
use runtime::client::{CallError, call, is_terminating};
use runtime::events::EventWriter;
use serde_json::{Value, json};

use crate::events::{self, News};
use crate::reconcile::binding::{Rights, Step, binding, step};

/// The field manager of all replicas, by which the API server knows what they wrote.
pub const MANAGER: &str = "webhook";

/// Name of the admission policy that allows our RoleBinding in opted-in namespaces only.
const BINDING_POLICY: &str = "binding.purechaos.dev";

/// The most pending recoveries that the Event of an opt-out names. The Event has room for only a
/// few, and `limit` allows only a few.
const MOST_PENDING: usize = 5;

/// What the calls to the API server need.
pub struct Objects {
    /// Client of the API server.
    pub client: Client,
    /// Writes the Events.
    pub events: EventWriter,
    /// The ServiceAccounts of `pure-chaos` that get the agent's rights.
    pub accounts: Vec<String>,
}

/// Why a pass over a namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// Somebody else wrote at the same time.
    #[error("failed to {0}: somebody else wrote at the same time")]
    Conflict(&'static str),
    /// The namespace is being deleted, so nothing can be created in it any more.
    #[error("the namespace is being deleted")]
    Terminating,
    /// The API server refused the call or did not answer.
    #[error("failed to {0}: {1}")]
    Call(&'static str, CallError),
}

impl LookError {
    pub(crate) fn of(what: &'static str) -> impl FnOnce(CallError) -> Self {
        move |error| match error.code() {
            Some(409) => Self::Conflict(what),
            Some(403) if is_terminating(&error) => Self::Terminating,
            // The policy and this process may see different versions of the Namespace, so read
            // again.
            Some(403) if error.to_string().contains(BINDING_POLICY) => Self::Conflict(what),
            _ => Self::Call(what, error),
        }
    }

    /// Returns why a write was refused, in the words of a quota, an admission policy or the
    /// authorizer. Returns `None` if another attempt may succeed.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let Self::Call(what, error) = self else { return None };
        let status = error.status()?;
        let is_refused =
            (400..500).contains(&status.code) && !matches!(status.code, 401 | 404 | 408 | 409 | 429);
        is_refused.then(|| format!("the webhook failed to {what}: {}", status.message))
    }
}

/// Describes pending recoveries in a few words each.
fn in_words(pending: Vec<Pending>) -> Vec<String> {
    let each = pending.into_iter().take(MOST_PENDING);
    each.map(|Pending { pod, workload, .. }| format!("Pod {pod} of {} {}", workload.kind, workload.name))
        .collect()
}

/// The existing record. The record is read as untyped JSON, so that the webhook can also correct a
/// record that somebody else or another version wrote.
pub struct Found {
    /// Metadata of the version that was read.
    pub metadata: ObjectMeta,
    raw: Value,
    /// The kills whose recovery is pending by the record's status, each described in words.
    pub pending: Vec<String>,
    /// The spec of the record; `None` if it is not a valid one.
    pub spec: Option<OptInSpec>,
}

impl Objects {
    /// Reads the record of a namespace. Returns `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the call fails.
    pub async fn find(&self, name: &str) -> Result<Option<Found>, LookError> {
        let found =
            call(self.dynamic(name).get_opt(RECORD)).await.map_err(LookError::of("read the record"))?;
        Ok(found.map(|object| {
            let raw = object.data.get("spec").cloned().unwrap_or(Value::Null);
            let pending =
                serde_json::from_value(object.data["status"]["pending"].clone()).unwrap_or_default();
            Found {
                metadata: object.metadata,
                pending: in_words(pending),
                spec: serde_json::from_value(raw.clone()).ok(),
                raw,
            }
        }))
    }

    /// Reads the RoleBinding that has our name. Returns `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the call fails.
    pub async fn find_binding(&self, name: &str) -> Result<Option<RoleBinding>, LookError> {
        call(self.bindings(name).get_opt(AGENT_BINDING)).await.map_err(LookError::of("read the RoleBinding"))
    }

    /// Creates the record, or changes exactly the version that was read. Returns the UID of the
    /// record.
    ///
    /// # Errors
    /// Returns an error if the call fails, or if somebody else wrote since the read.
    pub async fn write(
        &self,
        namespace: &NamespaceView,
        found: Option<&Found>,
        spec: &OptInSpec,
    ) -> Result<Option<String>, LookError> {
        let api = self.dynamic(&namespace.name);
        let uid = match found {
            None => {
                let api: Api<OptIn> = Api::namespaced(self.client.clone(), &namespace.name);
                let parameters =
                    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                let made = call(api.create(&parameters, &OptIn::new(RECORD, spec.clone()))).await;
                made.map_err(LookError::of("create the record"))?.metadata.uid
            }
            Some(Found { metadata, raw, .. }) => {
                let patch = json!({
                    "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
                    "spec": difference(raw, &json!(spec)),
                });
                let changed = call(api.patch(RECORD, &parameters(), &Patch::Merge(patch))).await;
                changed.map_err(LookError::of("change the record"))?.metadata.uid
            }
        };
        let OptInSpec { verdict, reason, admission, .. } = spec;
        let user = admission.as_ref().map_or("", |admission| admission.user.as_str());
        match (verdict, reason) {
            (Verdict::Admitted, None) => {
                tracing::info!(namespace = namespace.name, user, "wrote the record: the opt-in is admitted")
            }
            (_, reason) => tracing::warn!(
                namespace = namespace.name,
                user,
                ?verdict,
                reason,
                "wrote the record: the opt-in is not in effect"
            ),
        }
        if let Some(reason) = reason {
            self.publish(namespace, &News::Refused(reason.clone()));
        }
        Ok(uid)
    }

    /// Removes exactly the version of the record that was read.
    ///
    /// # Errors
    /// Returns an error if the call fails, or if somebody else wrote since the read.
    pub async fn remove(
        &self,
        namespace: &NamespaceView,
        found: Option<&Found>,
        why: &'static str,
    ) -> Result<(), LookError> {
        let Some(Found { metadata, pending, .. }) = found else {
            return Ok(());
        };
        let api = self.dynamic(&namespace.name);
        // The resourceVersion is part of the precondition: the other replica may just have written
        // a new opt-in into the record.
        let preconditions =
            Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() };
        match call(api.delete(RECORD, &exactly(preconditions))).await {
            Ok(_) => {
                tracing::info!(namespace = namespace.name, why, "removed the record");
                self.publish(namespace, &News::OptedOut(why, pending.clone()));
                Ok(())
            }
            Err(error) if error.code() == Some(404) => Ok(()),
            Err(error) => Err(LookError::of("remove the record")(error)),
        }
    }

    /// Gives the agent these rights, or takes them away. Returns the RoleBinding that exists
    /// afterwards.
    ///
    /// # Errors
    /// Returns an error if a call fails, or if somebody else wrote since the read.
    pub async fn bind(
        &self,
        name: &str,
        existing: Option<RoleBinding>,
        rights: Rights<'_>,
    ) -> Result<Option<RoleBinding>, LookError> {
        let api = self.bindings(name);
        let record_uid = match rights {
            Rights::OwnedBy(uid) => Some(uid),
            Rights::None | Rights::Given => None,
        };
        let wanted = || binding(name, record_uid, &self.accounts);
        let create = async || {
            let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            let made = call(api.create(&parameters, &wanted())).await;
            made.map(Some).map_err(LookError::of("create the RoleBinding"))
        };
        let delete = async |uid: String| {
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            match call(api.delete(AGENT_BINDING, &exactly(preconditions))).await {
                Err(error) if error.code() != Some(404) => {
                    Err(LookError::of("remove the RoleBinding")(error))
                }
                _ => Ok(None),
            }
        };
        let step = step(existing.as_ref(), rights, &self.accounts);
        if !matches!(step, Step::Nothing | Step::Foreign) {
            tracing::info!(namespace = name, ?step, "changing the RoleBinding");
        }
        match step {
            Step::Nothing | Step::Foreign => Ok(existing),
            Step::Create => create().await,
            Step::Delete(uid) => delete(uid).await,
            Step::Replace(uid) => {
                delete(uid).await?;
                create().await
            }
            Step::PutRight => {
                let version = existing.and_then(|binding| binding.metadata.resource_version);
                let RoleBinding { metadata, subjects, .. } = wanted();
                let patch = json!({
                    "metadata": {"resourceVersion": version, "ownerReferences": metadata.owner_references},
                    "subjects": subjects,
                });
                let changed = call(api.patch(AGENT_BINDING, &parameters(), &Patch::Merge(patch))).await;
                changed.map(Some).map_err(LookError::of("change the RoleBinding"))
            }
        }
    }

    /// Publishes an Event about a namespace. This function never waits.
    pub fn publish(&self, namespace: &NamespaceView, news: &News) {
        self.events.write(events::event(namespace, news));
    }

    fn dynamic(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<OptIn>(&()))
    }

    fn bindings(&self, namespace: &str) -> Api<RoleBinding> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

fn exactly(preconditions: Preconditions) -> DeleteParams {
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// Returns a merge patch that turns `from` into `to`. A field to remove must have the value `null`
/// in the patch.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return to.clone();
    };
    let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let there =
        to.iter().map(|(key, value)| (key.clone(), difference(from.get(key).unwrap_or(&Value::Null), value)));
    gone.chain(there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_what_goes() {
        let from = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]});
        let to = json!({"b": {"c": 3}, "e": [2], "f": null});
        let patch = difference(&from, &to);
        assert_eq!(patch, json!({"a": null, "b": {"c": 3, "d": null}, "e": [2], "f": null}));
    }
}
