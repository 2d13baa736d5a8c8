//! The workloads as the agent reads them. A slim type keeps only a fingerprint of the Pod template.
//! So memory depends on the number of workloads and not on their size.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use policy::custom_workloads::CustomWorkloads;
use policy::exclusion::{Exclusion, Marks};
use policy::record::WorkloadReference;
use runtime::client::{CallError, call};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::cluster::custom_workloads;
use crate::cluster::list::{ListError, list};
use crate::cluster::pods::{controller, slim_metadata};
use crate::cluster::snapshot::{ReplicaSetView, WorkloadView, above};

/// A kind of workload that says how many Pods it wants.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + 'static
{
    /// How many Pods the workload wants. If `replicas` is unset, this is one, which is the default
    /// of the API server.
    fn desired(spec: &Spec, _status: &Status) -> Option<u32> {
        u32::try_from(spec.replicas.unwrap_or(1)).ok()
    }

    /// How many Pods the workload has, and how many of them have the newest template. `None` if the
    /// kind does not replace Pods after a change of the template, or if no rollout is in progress.
    fn progress(spec: &Spec, status: &Status) -> Option<(i32, i32)>;
}

impl Kind for Deployment {
    fn progress(_spec: &Spec, status: &Status) -> Option<(i32, i32)> {
        Some((status.replicas, status.updated_replicas))
    }
}

impl Kind for StatefulSet {
    fn progress(spec: &Spec, status: &Status) -> Option<(i32, i32)> {
        if status.current_revision == status.update_revision {
            return None;
        }
        // Pods below the partition keep their template, as the setting demands.
        let partition = spec.update_strategy.rolling_update.partition;
        Some((status.replicas, status.updated_replicas.saturating_add(partition)))
    }
}

impl Kind for DaemonSet {
    fn desired(_spec: &Spec, status: &Status) -> Option<u32> {
        u32::try_from(status.desired_number_scheduled?).ok()
    }

    fn progress(_spec: &Spec, status: &Status) -> Option<(i32, i32)> {
        Some((status.current_number_scheduled, status.updated_number_scheduled))
    }
}

impl Kind for ReplicaSet {
    fn progress(_spec: &Spec, _status: &Status) -> Option<(i32, i32)> {
        None
    }
}

impl Kind for ReplicationController {
    fn progress(_spec: &Spec, _status: &Status) -> Option<(i32, i32)> {
        None
    }
}

/// A workload of kind `K` with only the fields that the agent needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound = "")]
pub struct Slim<K> {
    #[serde(deserialize_with = "slim_metadata")]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "or_default")]
    status: Status,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// The parts of a workload's spec that the agent keeps, for all kinds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    replicas: Option<i32>,
    #[serde(default, deserialize_with = "fingerprint")]
    template: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    update_strategy: UpdateStrategy,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateStrategy {
    #[serde(deserialize_with = "or_default")]
    rolling_update: RollingUpdate,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RollingUpdate {
    partition: i32,
}

/// The parts of a workload's status that the agent keeps, for all kinds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    observed_generation: Option<i64>,
    replicas: i32,
    updated_replicas: i32,
    current_revision: Option<String>,
    update_revision: Option<String>,
    desired_number_scheduled: Option<i32>,
    current_number_scheduled: i32,
    updated_number_scheduled: i32,
}

impl<K: Kind> Resource for Slim<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;
    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<K: Kind> Slim<K> {
    /// The workload as a plain value.
    #[must_use]
    pub fn view(&self) -> WorkloadView {
        let (annotations, labels) = (self.annotations(), self.labels());
        let exclusion = Exclusion::of(Marks { annotations, labels, priority_class: None, is_pod: false });
        WorkloadView {
            reference: WorkloadReference {
                kind: K::kind(&()).into_owned(),
                name: self.name_any(),
                uid: self.uid().unwrap_or_default(),
            },
            desired: K::desired(&self.spec, &self.status),
            unknown_size: None,
            template: self.spec.template.clone(),
            rolling_out: self.is_rolling_out(),
            exclusions: exclusion.into_iter().map(|exclusion| ("its workload", exclusion)).collect(),
        }
    }

    /// Whether Pods with an older template exist, or the controller has not seen the newest
    /// template yet. A missing Pod does not count as a rollout.
    fn is_rolling_out(&self) -> bool {
        // If the controller reports no generation, the agent can't tell whether it lags behind.
        let lags = self.status.observed_generation.is_some_and(|seen| Some(seen) < self.metadata.generation);
        lags || K::progress(&self.spec, &self.status).is_some_and(|(all, newest)| all > newest)
    }
}

/// The view of a ReplicaSet with its controller.
#[must_use]
pub fn replica_set(set: &Slim<ReplicaSet>) -> ReplicaSetView {
    ReplicaSetView { workload: set.view(), controller: controller(&set.metadata) }
}

/// Lists the ReplicaSets of a namespace, without those that are being deleted, because they do not
/// replace Pods.
///
/// # Errors
/// When the list can't be completed.
pub async fn replica_sets(client: &Client, namespace: &str) -> Result<Vec<ReplicaSetView>, ListError> {
    let sets = list::<Slim<ReplicaSet>>(client, namespace).await?;
    Ok(sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).map(replica_set).collect())
}

/// Reads a null value as the default.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads the Pod template and keeps only a hash of it.
fn fingerprint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(template) = Option::<PodTemplateSpec>::deserialize(deserializer)? else { return Ok(None) };
    let json = serde_json::to_vec(&template).map_err(serde::de::Error::custom)?;
    Ok(Some(hex::encode(&Sha256::digest(json)[..8])))
}

/// Reads one workload. `None` if it is gone or being deleted, or if another workload has its name.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn read(
    client: &Client,
    namespace: &str,
    custom: &CustomWorkloads,
    workload: &WorkloadReference,
) -> Result<Option<WorkloadView>, ReadError> {
    let found = find(client, namespace, custom, workload).await?;
    Ok(found.filter(|found| found.reference.uid == workload.uid))
}

/// Reads the workload of this kind and name, whatever its UID. `None` if it is gone or being
/// deleted. A workload of a custom kind is looked up among the controllers of ReplicaSets, first by
/// its UID, and then read if the platform's policy lists the kind.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn find(
    client: &Client,
    namespace: &str,
    custom: &CustomWorkloads,
    workload: &WorkloadReference,
) -> Result<Option<WorkloadView>, ReadError> {
    async fn one<K: Kind>(
        client: &Client,
        namespace: &str,
        name: &str,
    ) -> Result<Option<WorkloadView>, ReadError> {
        let api: Api<Slim<K>> = Api::namespaced(client.clone(), namespace);
        // A workload that is deleted in the foreground exists until its Pods are gone, but does not
        // replace them.
        let found =
            call(api.get_opt(name)).await?.filter(|found| found.metadata.deletion_timestamp.is_none());
        Ok(found.map(|found| found.view()))
    }
    let WorkloadReference { kind, name, uid } = workload;
    match kind.as_str() {
        "Deployment" => one::<Deployment>(client, namespace, name).await,
        "StatefulSet" => one::<StatefulSet>(client, namespace, name).await,
        "DaemonSet" => one::<DaemonSet>(client, namespace, name).await,
        "ReplicaSet" => one::<ReplicaSet>(client, namespace, name).await,
        "ReplicationController" => one::<ReplicationController>(client, namespace, name).await,
        _ => {
            let sets = replica_sets(client, namespace).await?;
            let controllers = || sets.iter().filter_map(|set| set.controller.as_ref());
            let controller = controllers()
                .find(|above| above.uid == *uid)
                .or_else(|| controllers().find(|above| above.kind == *kind && above.name == *name));
            match (controller.and_then(|controller| above(controller, &sets)), custom.get(kind)) {
                (None, Some(listed)) => Ok(custom_workloads::read(client, namespace, listed, name).await?),
                (above, _) => Ok(above),
            }
        }
    }
}

/// Why a workload could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The read of the workload itself failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The read of a custom workload failed.
    #[error(transparent)]
    Custom(#[from] custom_workloads::NotRead),
    /// The list of the ReplicaSets below the workload failed.
    #[error(transparent)]
    List(#[from] ListError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(json: serde_json::Value) -> WorkloadView {
        serde_json::from_value::<Slim<Deployment>>(json).unwrap().view()
    }

    #[test]
    fn replicas_default_to_one_and_the_template_is_told_apart() {
        let of = |replicas: serde_json::Value, image: &str| {
            deployment(serde_json::json!({
                "metadata": {"name": "web", "uid": "u"},
                "spec": {"replicas": replicas, "selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}
            }))
        };
        assert_eq!(of(serde_json::json!(null), "a").desired, Some(1));
        assert_eq!(of(serde_json::json!(3), "a").desired, Some(3));
        assert_eq!(of(serde_json::json!(3), "a").reference.kind, "Deployment");
        assert_eq!(of(serde_json::json!(3), "a").template, of(serde_json::json!(2), "a").template);
        assert_ne!(of(serde_json::json!(3), "a").template, of(serde_json::json!(3), "b").template);
    }

    #[test]
    fn a_rollout_lasts_while_older_pods_are_left() {
        use serde_json::json;
        let deployment = |generation: i64, status: serde_json::Value| {
            let spec = json!({"replicas": 3, "selector": {}, "template": {}});
            let metadata = json!({"name": "web", "generation": generation});
            let object = json!({"metadata": metadata, "spec": spec, "status": status});
            serde_json::from_value::<Slim<Deployment>>(object).unwrap().view().rolling_out
        };
        let status = |replicas, updated| json!({"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated});
        assert!(!deployment(2, status(3, 3)));
        assert!(!deployment(2, status(2, 2)), "a Pod that is missing is no rollout");
        assert!(deployment(2, status(4, 1)), "a surge");
        assert!(deployment(2, status(3, 0)));
        assert!(deployment(3, status(3, 3)), "the controller has not seen the newest template");
        assert!(!deployment(2, json!(null)));

        let stateful_set = |revision: &str, partition: i64, updated: i64| {
            let spec = json!({"replicas": 3, "serviceName": "db", "selector": {}, "template": {},
                "updateStrategy": {"rollingUpdate": {"partition": partition}}});
            let status = json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": updated,
                "currentRevision": "db-1", "updateRevision": revision});
            let object = json!({"metadata": {"name": "db", "generation": 1}, "spec": spec, "status": status});
            serde_json::from_value::<Slim<StatefulSet>>(object).unwrap().view().rolling_out
        };
        assert!(!stateful_set("db-1", 0, 0));
        assert!(stateful_set("db-2", 0, 1));
        assert!(!stateful_set("db-2", 2, 1), "as far as its partition lets it");
        assert!(stateful_set("db-2", 1, 1));
        let daemon_set = |current: i64, updated: i64| {
            let status = json!({"observedGeneration": 1, "currentNumberScheduled": current, "desiredNumberScheduled": current,
                "numberMisscheduled": 0, "numberReady": current, "updatedNumberScheduled": updated});
            let object = json!({"metadata": {"name": "d", "generation": 1}, "spec": {"selector": {}, "template": {}}, "status": status});
            serde_json::from_value::<Slim<DaemonSet>>(object).unwrap().view().rolling_out
        };
        assert!(daemon_set(3, 2) && !daemon_set(3, 3));
    }
}
