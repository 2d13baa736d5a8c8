//! Records, RoleBindings and Events on the API server: what is read and written, each write with a precondition. Nothing here decides.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Client};
use policy::eligibility::NamespaceView;
use policy::keys::{AGENT_BINDING, RECORD};
use policy::record::{OptIn, OptInSpec, Verdict};
use runtime::client::{CallError, call};
use runtime::clock::Clock;
use serde_json::{Value, json};

use crate::binding::{Step, binding, step};
use crate::events::{self, News};

const MANAGER: &str = "webhook";

/// What the calls need.
pub struct Objects {
    /// The API server.
    pub client: Client,
    /// For the time of Events.
    pub clock: Arc<dyn Clock>,
    /// Names this Pod in Events.
    pub instance: String,
    /// The ServiceAccounts of `pure-chaos` that get the agent's rights.
    pub accounts: Vec<String>,
}

/// Why a look did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// Somebody else wrote in between.
    #[error("failed to {0}: somebody else wrote at the same time")]
    Conflict(&'static str),
    /// The namespace is being deleted: nothing can be made there any more.
    #[error("the namespace is being deleted")]
    Terminating,
    /// The API server refused or did not answer.
    #[error("failed to {0}: {1}")]
    Call(&'static str, CallError),
}

impl LookError {
    pub(crate) fn of(what: &'static str) -> impl FnOnce(CallError) -> Self {
        move |error| match error.code() {
            Some(409) => Self::Conflict(what),
            Some(403) if is_terminating(&error) => Self::Terminating,
            _ => Self::Call(what, error),
        }
    }
}

fn is_terminating(error: &CallError) -> bool {
    error
        .status()
        .and_then(|status| status.details.as_ref())
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// The record there is. Read without its type, so that one that somebody wrote by hand or another version can be put right.
pub struct Found {
    /// Names the version that was read.
    pub metadata: ObjectMeta,
    raw: Value,
    /// Its spec, if it is one.
    pub spec: Option<OptInSpec>,
}

impl Objects {
    /// Reads the record of a namespace.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn find(&self, name: &str) -> Result<Option<Found>, LookError> {
        let found =
            call(self.dynamic(name).get_opt(RECORD)).await.map_err(LookError::of("read the record"))?;
        Ok(found.map(|object| {
            let raw = object.data.get("spec").cloned().unwrap_or(Value::Null);
            Found { metadata: object.metadata, spec: serde_json::from_value(raw.clone()).ok(), raw }
        }))
    }

    /// Reads the RoleBinding of our name.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn find_binding(&self, name: &str) -> Result<Option<RoleBinding>, LookError> {
        call(self.bindings(name).get_opt(AGENT_BINDING)).await.map_err(LookError::of("read the RoleBinding"))
    }

    /// Creates the record, or changes just the one that was read. Returns its UID.
    ///
    /// # Errors
    /// When the call fails, or somebody else wrote in between.
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
                tracing::info!(namespace = namespace.name, user, "record written: admitted")
            }
            (_, reason) => tracing::warn!(
                namespace = namespace.name,
                user,
                ?verdict,
                reason,
                "record written: something is wrong"
            ),
        }
        let was_admitted = found
            .and_then(|found| found.spec.as_ref())
            .is_some_and(|known| known.verdict == Verdict::Admitted);
        if *verdict == Verdict::Admitted && !was_admitted {
            self.publish(namespace, News::OptedIn(user.to_owned())).await;
        }
        Ok(uid)
    }

    /// Removes just the record that was read.
    ///
    /// # Errors
    /// When the call fails, or somebody else wrote in between.
    pub async fn remove(
        &self,
        namespace: &NamespaceView,
        found: Option<&Found>,
        why: &'static str,
    ) -> Result<(), LookError> {
        let Some(Found { metadata, .. }) = found else {
            return Ok(());
        };
        let api = self.dynamic(&namespace.name);
        // The version as well: the other replica may just have written a new opt-in into it.
        let preconditions =
            Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() };
        match call(api.delete(RECORD, &exactly(preconditions))).await {
            Ok(_) => {
                tracing::info!(namespace = namespace.name, why, "record removed");
                self.publish(namespace, News::OptedOut(why)).await;
                Ok(())
            }
            Err(error) if error.code() == Some(404) => Ok(()),
            Err(error) => Err(LookError::of("remove the record")(error)),
        }
    }

    /// Makes the binding there is what it should be: owned by this record, or gone.
    ///
    /// # Errors
    /// When a call fails, or somebody else wrote in between.
    pub async fn bind(
        &self,
        name: &str,
        existing: Option<&RoleBinding>,
        record_uid: Option<&str>,
    ) -> Result<(), LookError> {
        let api = self.bindings(name);
        let wanted = || binding(name, record_uid.unwrap_or_default(), &self.accounts);
        let create = async || {
            let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            call(api.create(&parameters, &wanted()))
                .await
                .map(drop)
                .map_err(LookError::of("create the RoleBinding"))
        };
        let delete = async |uid: String| {
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            match call(api.delete(AGENT_BINDING, &exactly(preconditions))).await {
                Err(error) if error.code() != Some(404) => {
                    Err(LookError::of("remove the RoleBinding")(error))
                }
                _ => Ok(()),
            }
        };
        let step = step(existing, record_uid, &self.accounts);
        if !matches!(step, Step::Nothing | Step::Foreign) {
            tracing::info!(namespace = name, ?step, "RoleBinding differs");
        }
        match step {
            Step::Nothing | Step::Foreign => Ok(()),
            Step::Create => create().await,
            Step::Delete(uid) => delete(uid).await,
            Step::Replace(uid) => {
                delete(uid).await?;
                create().await
            }
            Step::PutRight => {
                let version = existing.and_then(|binding| binding.metadata.resource_version.clone());
                let RoleBinding { metadata, subjects, .. } = wanted();
                let patch = json!({
                    "metadata": {"resourceVersion": version, "ownerReferences": metadata.owner_references},
                    "subjects": subjects,
                });
                let changed = call(api.patch(AGENT_BINDING, &parameters(), &Patch::Merge(patch))).await;
                changed.map(drop).map_err(LookError::of("change the RoleBinding"))
            }
        }
    }

    async fn publish(&self, namespace: &NamespaceView, news: News) {
        events::publish(&self.client, namespace, &news, self.clock.wall(), &self.instance).await;
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

/// A merge patch that makes `to` of `from`: a member that is to go must be named with `null`.
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
