//! Pods as the agent fetches them: a slim type that leaves out what is never looked at (`managedFields`, the specification, volumes),
//! so that memory follows the number of Pods and not their size.

use std::borrow::Cow;
use std::collections::BTreeMap;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use runtime::client::CallError;
use runtime::clock::Clock;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

use policy::keys::EXCLUDE;

use crate::views::{Controller, PodView};

/// Pods per page: with slim Pods, larger pages only cost memory.
pub const PAGE: u32 = 100;

/// After this many seconds the API server ends a watch, so that a silently dead connection is noticed soon after.
const WATCH_SECONDS: u32 = 60;

/// Annotations by which a Pod asks to be left alone: ours, and those of others that its owner will expect to hold here, too. The value that
/// asks for it; `None` is any.
const EXCLUSIONS: [(&str, Option<&str>); 4] = [
    (EXCLUDE, Some("true")),
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", Some("false")),
    ("karpenter.sh/do-not-disrupt", Some("true")),
    ("descheduler.alpha.kubernetes.io/prefer-no-eviction", None),
];

fn is_exclusion(key: &str, value: &str) -> bool {
    EXCLUSIONS.iter().any(|(known, wanted)| *known == key && wanted.is_none_or(|wanted| wanted == value))
}

/// A Pod, less most of it.
#[derive(Debug, Clone, Deserialize)]
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

fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
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
        creation_timestamp,
        deletion_timestamp,
        labels,
        mut annotations,
        owner_references,
    } = Slim::deserialize(deserializer)?;
    if let Some(annotations) = &mut annotations {
        annotations.retain(|key, _| EXCLUSIONS.iter().any(|(known, _)| known == key));
    }
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        creation_timestamp,
        deletion_timestamp,
        labels,
        annotations,
        owner_references,
        ..ObjectMeta::default()
    })
}

impl Resource for SlimPod {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;
    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The controller among an object's owners.
#[must_use]
pub fn controller(metadata: &ObjectMeta) -> Option<Controller> {
    let owners = metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(Controller { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() })
}

impl From<&SlimPod> for PodView {
    fn from(pod: &SlimPod) -> Self {
        let SlimPod { metadata, spec, status } = pod;
        let containers = status.container_statuses.iter().chain(&status.init_container_statuses);
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            excluded: metadata.annotations.iter().flatten().any(|(key, value)| is_exclusion(key, value)),
            controller: controller(metadata),
            node: spec.node_name.clone(),
            ready: status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            terminating: metadata.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            // Without a creation time a Pod counts as young.
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            restarts: containers.map(|container| container.restart_count).sum(),
        }
    }
}

/// What the watch showed.
#[derive(Debug)]
pub enum PodChange {
    /// All Pods there are, after a new list.
    Listed(Vec<PodView>),
    /// A Pod was made or changed.
    Applied(PodView),
    /// A Pod is gone.
    Gone(PodView),
}

/// A change, and when it was received.
#[derive(Debug)]
pub struct PodEvent {
    /// The moment of receipt.
    pub at: Instant,
    /// What was received.
    pub change: PodChange,
}

/// Watches the Pods of one namespace until the receiver is dropped, stamping each change as it is received: rounds take their
/// time, and must not falsify what is measured.
pub async fn watch(pods: Api<SlimPod>, clock: Arc<dyn Clock>, changes: mpsc::Sender<PodEvent>) {
    let config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    let mut events = watcher(pods, config).default_backoff().boxed();
    let mut listed = Vec::new();
    loop {
        let event = tokio::select! {
            () = changes.closed() => return,
            event = events.next() => event,
        };
        let change = match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(error = words(error), "the Pod watch failed, it will be tried again");
                continue;
            }
            Some(Ok(watcher::Event::Init)) => {
                listed.clear();
                continue;
            }
            Some(Ok(watcher::Event::InitApply(pod))) => {
                listed.push(PodView::from(&pod));
                continue;
            }
            Some(Ok(watcher::Event::InitDone)) => PodChange::Listed(std::mem::take(&mut listed)),
            Some(Ok(watcher::Event::Apply(pod))) => PodChange::Applied(PodView::from(&pod)),
            Some(Ok(watcher::Event::Delete(pod))) => PodChange::Gone(PodView::from(&pod)),
        };
        if changes.send(PodEvent { at: clock.monotonic(), change }).await.is_err() {
            return;
        }
    }
}

/// A watch's failure as the API server put it, where it did.
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
        let view = PodView::from(&pod);
        assert_eq!(view.controller.map(|controller| controller.name), Some("web-1".to_owned()));
        assert!(view.ready && !view.terminating && !view.finished);
        assert_eq!((view.node.as_deref(), view.restarts), (Some("node"), 3));
        assert!(pod.metadata.managed_fields.is_none());
    }

    #[test]
    fn a_pod_can_ask_to_be_left_alone() {
        for (key, value, expected) in [
            ("purechaos.dev/exclude", "true", true),
            ("purechaos.dev/exclude", "false", false),
            ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false", true),
            ("cluster-autoscaler.kubernetes.io/safe-to-evict", "true", false),
            ("karpenter.sh/do-not-disrupt", "true", true),
            ("descheduler.alpha.kubernetes.io/prefer-no-eviction", "", true),
            ("team", "true", false),
        ] {
            let pod = serde_json::json!({"metadata": {"name": "p", "annotations": {key: value}}});
            let pod: SlimPod = serde_json::from_value(pod).unwrap();
            assert_eq!(PodView::from(&pod).excluded, expected, "{key}={value}");
        }
    }

    #[test]
    fn a_bare_pod_without_status_is_neither_ready_nor_old() {
        let pod: SlimPod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}})).unwrap();
        let view = PodView::from(&pod);
        assert!(!view.ready && view.created == Timestamp::MAX && view.controller.is_none());
    }
}
