//! Reads workloads of the custom kinds that the platform's policy lists. The size comes from the
//! subresource `scale`. If the kind has no such subresource, it comes from `.spec.replicas`, or is the
//! length of the list `.spec.pods`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind};
use kube::{Api, Client, Resource, ResourceExt};
use policy::custom_workloads::{CustomWorkload, CustomWorkloads};
use policy::exclusion::{Exclusion, Marks};
use policy::record::WorkloadReference;
use runtime::client::{CallError, call};
use runtime::text::cut;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::pods::slim_metadata;
use crate::cluster::snapshot::{Controller, UnknownSize, WorkloadView};
use crate::cluster::workloads::or_default;

/// How many custom workloads of a namespace are read at once.
const AT_ONCE: usize = 8;

/// How long all custom workloads of one look may take together. One that takes longer has no known
/// size, and holds up no other.
const LONGEST: Duration = Duration::from_secs(5);

/// The most bytes that a sentence quotes of an object's field.
const LONGEST_QUOTE: usize = 60;

/// A custom object, or its subresource `scale`, with only the fields that the agent needs.
#[derive(Debug, Clone, Deserialize)]
struct SlimObject {
    #[serde(deserialize_with = "slim_metadata")]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    spec: Value,
}

impl Resource for SlimObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;
    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The API server gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("failed to get {resource} {name}: {error}")]
pub struct NotRead {
    /// The resource, with its group and subresource, such as `clonesets.apps.kruise.io/scale`.
    resource: String,
    /// The name of the object.
    name: String,
    /// The error of the client.
    error: CallError,
}

/// Reads the custom workload of this name, whatever its UID. `None` if it is gone or being deleted.
///
/// # Errors
/// When the API server gives no usable answer for the object or for its `scale`.
pub async fn read(
    client: &Client,
    namespace: &str,
    listed: &CustomWorkload,
    name: &str,
) -> Result<Option<WorkloadView>, NotRead> {
    let CustomWorkload { group, version, kind, resource } = listed;
    let kind = GroupVersionKind::gvk(group, version, kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, resource);
    let api: Api<SlimObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let (object, scale) = tokio::join!(call(api.get_opt(name)), call(api.get_subresource("scale", name)));
    let not_read = |resource: String, error| NotRead { resource, name: name.to_owned(), error };
    let object = object.map_err(|error| not_read(listed.full_name(), error))?;
    let Some(object) = object.filter(|object| object.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let scale = match scale {
        Ok(scale) => Some(scale),
        Err(error) if error.code() == Some(404) => None,
        Err(error) => return Err(not_read(format!("{}/scale", listed.full_name()), error)),
    };
    Ok(Some(view(&listed.kind, &object, scale.as_ref())))
}

/// Reads those owners of Pods whose kinds are listed. Each of them gets a view, whatever the API
/// server answers. The views are by UID.
pub async fn read_owners(
    client: &Client,
    namespace: &str,
    custom: &CustomWorkloads,
    owners: Vec<Controller>,
) -> BTreeMap<String, WorkloadView> {
    let listed = owners.into_iter().filter_map(|owner| Some((custom.get(&owner.kind)?, owner)));
    let listed: Vec<(&CustomWorkload, Controller)> = listed.collect();
    let reads = listed.clone().into_iter().map(|(listed, owner)| async move {
        let answer = read(client, namespace, listed, &owner.name).await;
        (owner.uid.clone(), of_owner(listed, owner, answer))
    });
    let reads: Vec<_> = reads.collect();
    let reads = futures::stream::iter(reads).buffer_unordered(AT_ONCE);
    let mut views: BTreeMap<String, WorkloadView> =
        reads.take_until(tokio::time::sleep(LONGEST)).collect().await;
    for (listed, owner) in listed {
        views.entry(owner.uid.clone()).or_insert_with(|| {
            let (resource, name) = (listed.full_name(), owner.name.clone());
            let error = CallError::TimedOut(LONGEST);
            of_owner(listed, owner, Err(NotRead { resource, name, error }))
        });
    }
    views
}

/// The view of the owner of a Pod, from the answer to a read of its name.
fn of_owner(
    listed: &CustomWorkload,
    owner: Controller,
    answer: Result<Option<WorkloadView>, NotRead>,
) -> WorkloadView {
    let unknown = match answer {
        Ok(Some(view)) if view.reference.uid == owner.uid => return view,
        Ok(_) => UnknownSize::because(format!(
            "{} {} with the UID that the Pod names is not there: it is gone, is being deleted, or has \
             another group than the {} in `workloads` of the platform's policy",
            owner.kind,
            owner.name,
            listed.full_name()
        )),
        Err(not_read) => unknown(not_read),
    };
    WorkloadView::of_unknown_size(owner, unknown)
}

/// The view of a custom workload, from the object and its `scale`. `None` stands for a kind without
/// that subresource.
fn view(kind: &str, object: &SlimObject, scale: Option<&SlimObject>) -> WorkloadView {
    let name = object.name_any();
    let size = match scale.map(|scale| &scale.spec["replicas"]) {
        // The API server leaves a 0 out.
        Some(Value::Null) => Ok(0),
        Some(replicas) => count(replicas)
            .ok_or_else(|| odd(&format!("the subresource `scale` of {kind} {name} says"), replicas)),
        None => size_in(&object.spec).map_err(|replicas| match replicas {
            None => format!(
                "{kind} {name} has no subresource `scale`, no `.spec.replicas` and no list `.spec.pods`"
            ),
            Some(replicas) => odd(&format!("`.spec.replicas` of {kind} {name} is"), replicas),
        }),
    };
    let marks = Marks {
        annotations: object.annotations(),
        labels: object.labels(),
        priority_class: None,
        is_pod: false,
    };
    let exclusion = Exclusion::of(marks);
    WorkloadView {
        desired: size.as_ref().ok().copied(),
        unknown_size: size.err().map(UnknownSize::because),
        reference: WorkloadReference { kind: kind.to_owned(), uid: object.uid().unwrap_or_default(), name },
        // Nobody knows where a custom kind keeps its Pod template, and how it rolls one out.
        template: None,
        rolling_out: false,
        exclusions: exclusion.into_iter().map(|exclusion| ("its workload", exclusion)).collect(),
    }
}

/// How many Pods the spec of a custom object asks for.
///
/// # Errors
/// What stands in place of a number. `None` if the spec has no field for a size.
fn size_in(spec: &Value) -> Result<u32, Option<&Value>> {
    match (&spec["replicas"], &spec["pods"]) {
        // A StrimziPodSet contains its Pods.
        (Value::Null, Value::Array(pods)) => u32::try_from(pods.len()).map_err(|_| None),
        (Value::Null, _) => Err(None),
        (replicas, _) => count(replicas).ok_or(Some(replicas)),
    }
}

fn odd(what: &str, replicas: &Value) -> String {
    format!("{what} {}, which is no number of Pods", cut(replicas, LONGEST_QUOTE))
}

/// A number of Pods, as far as Kubernetes counts them.
fn count(replicas: &Value) -> Option<u32> {
    u32::try_from(replicas.as_u64()?).ok().filter(|count| i32::try_from(*count).is_ok())
}

/// Why the size of a workload is unknown that could not be read.
fn unknown(not_read: NotRead) -> UnknownSize {
    let NotRead { resource, error, .. } = &not_read;
    if error.code() != Some(403) {
        return UnknownSize::because(not_read.to_string());
    }
    let because = format!(
        "the agent may not get {resource}: {error}; the platform can grant what `agent print-role` prints"
    );
    UnknownSize { because, forbidden: Some(not_read.resource) }
}

#[cfg(test)]
mod tests;
