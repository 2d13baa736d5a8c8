//! The Pods as the agent reads them. A slim type leaves out what the agent does not need, such as
//! `managedFields` and most of the spec. So memory depends on the number of Pods and not on their
//! size.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use runtime::client::CallError;
use serde::{Deserialize, Deserializer};

use policy::exclusion::{self, Exclusion, Marks};
use policy::narrowing;

use crate::cluster::snapshot::{Controller, PodView};

/// How many objects a page of a list has. Larger pages would only cost memory, because slim Pods
/// are small.
pub const PAGE: u32 = 100;

/// A Pod with only the fields that the agent needs.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = Pod)]
pub struct SlimPod {
    #[serde(deserialize_with = "slim_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    node_name: Option<String>,
    priority_class_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimStatus {
    phase: Option<String>,
    #[serde(default)]
    conditions: Vec<SlimCondition>,
    #[serde(default)]
    container_statuses: Vec<SlimContainer>,
    #[serde(default)]
    init_container_statuses: Vec<SlimContainer>,
}

#[derive(Debug, Clone, Deserialize)]
struct SlimCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimContainer {
    #[serde(default)]
    restart_count: u64,
}

/// Deserializes the metadata of an object without `managedFields`, and with only those annotations
/// that matter to a guard.
///
/// # Errors
/// When the metadata does not have the expected form.
pub fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let Slim {
        name,
        namespace,
        uid,
        resource_version,
        generation,
        creation_timestamp,
        deletion_timestamp,
        labels,
        mut annotations,
        owner_references,
    } = Slim::deserialize(deserializer)?;
    if let Some(annotations) = &mut annotations {
        annotations.retain(|key, _| exclusion::matters(key));
    }
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        generation,
        creation_timestamp,
        deletion_timestamp,
        labels,
        annotations,
        owner_references,
        ..ObjectMeta::default()
    })
}

/// The longest name and the longest kind that an object can have. An ownerReference can contain any
/// text.
const LONGEST_NAMES: (usize, usize) = (253, 63);

/// The controller among the owners of an object. `None` if its name or kind is too long to be real.
#[must_use]
pub fn controller(metadata: &ObjectMeta) -> Option<Controller> {
    let owners = metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let (name, kind) = LONGEST_NAMES;
    if owner.name.len() > name || owner.kind.len() > kind {
        return None;
    }
    Some(Controller { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() })
}

impl From<SlimPod> for PodView {
    fn from(pod: SlimPod) -> Self {
        let priority_class = pod.spec.priority_class_name.as_deref();
        let marks =
            Marks { annotations: pod.annotations(), labels: pod.labels(), priority_class, is_pod: true };
        let exclusion = Exclusion::of(marks);
        let narrows = pod.annotations().iter().filter(|(key, _)| narrowing::key(key).is_some());
        let narrows: BTreeMap<String, String> =
            narrows.map(|(key, value)| (key.clone(), value.clone())).collect();
        let SlimPod { metadata, spec, status } = pod;
        let containers = status.container_statuses.iter().chain(&status.init_container_statuses);
        Self {
            // A Deployment controls Pods only through ReplicaSets. A Pod that names a Deployment as
            // its controller would be neither counted nor replaced.
            controller: controller(&metadata).filter(|owner| owner.kind != "Deployment"),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
            labels: metadata.labels.unwrap_or_default(),
            exclusion,
            narrows: (!narrows.is_empty()).then(|| Box::new(narrows)),
            node: spec.node_name,
            ready: status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            terminating: metadata.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            // A Pod without a creation time counts as young.
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            restarts: containers.map(|container| container.restart_count).sum(),
        }
    }
}

/// The error of a watch, with the message of the API server if there is one.
#[must_use]
pub fn words(error: watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => CallError::from(error).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_what_the_rules_need() {
        let pod: SlimPod = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-1-a", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "2026-11-23T11:00:00Z",
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "o"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs", "controller": true}
                ]
            },
            "spec": {"nodeName": "node", "containers": [{"name": "c"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "c", "restartCount": 2}],
                "initContainerStatuses": [{"name": "i", "restartCount": 1}]
            }
        }))
        .unwrap();
        let view = PodView::from(pod.clone());
        assert_eq!(view.controller.map(|controller| controller.name), Some("web-1".to_owned()));
        assert!(view.ready && !view.terminating && !view.finished);
        assert_eq!((view.node.as_deref(), view.restarts), (Some("node"), 3));
        assert!(pod.metadata.managed_fields.is_none());
    }

    #[test]
    fn what_asks_to_be_left_alone_is_kept_and_the_rest_is_not() {
        let pod: SlimPod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "annotations": {"karpenter.sh/do-not-disrupt": "4h", "team": "a"}},
            "spec": {"priorityClassName": "system-node-critical"}
        }))
        .unwrap();
        assert_eq!(pod.annotations().len(), 1);
        let asked = Exclusion::Asked("karpenter.sh/do-not-disrupt".to_owned(), "4h".to_owned());
        assert_eq!(PodView::from(pod.clone()).exclusion, Some(asked));
        for metadata in [
            serde_json::json!({"labels": {"purechaos.dev/exclude": "true"}}),
            serde_json::json!({"annotations": {"purechaos.dev/exlude": "true"}}),
        ] {
            let pod: SlimPod = serde_json::from_value(serde_json::json!({"metadata": metadata})).unwrap();
            assert!(PodView::from(pod.clone()).exclusion.is_some(), "{metadata}");
        }
        let spec = serde_json::json!({"priorityClassName": "system-node-critical"});
        let pod: SlimPod = serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).unwrap();
        assert_eq!(
            PodView::from(pod.clone()).exclusion,
            Some(Exclusion::Critical("system-node-critical".to_owned()))
        );
    }

    #[test]
    fn an_owner_that_can_be_no_controller_of_a_pod_is_none() {
        let of = |kind: &str, name: &str| {
            let owner = serde_json::json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": true});
            let pod = serde_json::json!({"metadata": {"name": "p", "ownerReferences": [owner]}});
            PodView::from(serde_json::from_value::<SlimPod>(pod).unwrap()).controller
        };
        assert!(of("ReplicaSet", &"n".repeat(253)).is_some() && of("CloneSet", "web").is_some());
        assert_eq!(of("Deployment", "web"), None, "nothing would replace it");
        assert_eq!(of("ReplicaSet", &"n".repeat(254)), None);
        assert_eq!(of(&"K".repeat(64), "web"), None);
    }

    #[test]
    fn a_bare_pod_without_status_is_neither_ready_nor_old() {
        let pod: SlimPod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}})).unwrap();
        let view = PodView::from(pod);
        assert!(!view.ready && view.created == Timestamp::MAX && view.controller.is_none());
    }
}
