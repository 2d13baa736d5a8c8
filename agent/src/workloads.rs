//! Workloads as the API server has them.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{Api, Client, ResourceExt};
use policy::record::WorkloadReference;
use runtime::client::{CallError, call};
use sha2::{Digest, Sha256};

use crate::pods::controller;
use crate::views::{ReplicaSetView, WorkloadView};

/// A kind of workload that says how many Pods it wants.
pub trait Workload: ResourceExt<DynamicType = ()> {
    /// How many Pods it wants.
    fn desired(&self) -> Option<u32>;
    /// What its Pods are made from.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The generation that its controller has seen, how many Pods it has, and how many of them are of the newest template.
    fn progress(&self) -> (Option<i64>, i32, i32);

    /// Whether Pods of an older template are left, or the newest one has not been seen yet. A Pod that is missing is no rollout.
    fn is_rolling_out(&self) -> bool {
        let (seen, all, newest) = self.progress();
        // Of a controller that reports nothing, nothing is known.
        seen.is_some_and(|seen| Some(seen) < self.meta().generation) || all > newest
    }

    /// The plain value.
    fn view(&self) -> WorkloadView {
        WorkloadView {
            reference: WorkloadReference {
                kind: Self::kind(&()).into_owned(),
                name: self.name_any(),
                uid: self.uid().unwrap_or_default(),
            },
            desired: self.desired(),
            template: self.template().and_then(fingerprint),
            rolling_out: self.is_rolling_out(),
        }
    }
}

/// An unset number of replicas means one: the API server's default.
fn replicas(number: Option<i32>) -> Option<u32> {
    u32::try_from(number.unwrap_or(1)).ok()
}

impl Workload for Deployment {
    fn desired(&self) -> Option<u32> {
        replicas(self.spec.replicas)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.template)
    }
    fn progress(&self) -> (Option<i64>, i32, i32) {
        let Some(status) = &self.status else { return (None, 0, 0) };
        let (all, newest) = (status.replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0));
        (status.observed_generation, all, newest)
    }
}

impl Workload for StatefulSet {
    fn desired(&self) -> Option<u32> {
        replicas(self.spec.replicas)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.template)
    }
    fn progress(&self) -> (Option<i64>, i32, i32) {
        let Some(status) = &self.status else { return (None, 0, 0) };
        if status.current_revision == status.update_revision {
            return (status.observed_generation, 0, 0);
        }
        // Members below the partition stay as they are: that is what was asked for.
        let update = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = update.and_then(|update| update.partition).unwrap_or(0);
        let newest = status.updated_replicas.unwrap_or(0).saturating_add(partition);
        (status.observed_generation, status.replicas, newest)
    }
}

impl Workload for ReplicaSet {
    fn desired(&self) -> Option<u32> {
        replicas(self.spec.replicas)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }
    /// It never replaces Pods for a new template.
    fn progress(&self) -> (Option<i64>, i32, i32) {
        (self.status.as_ref().and_then(|status| status.observed_generation), 0, 0)
    }
}

impl Workload for DaemonSet {
    fn desired(&self) -> Option<u32> {
        u32::try_from(self.status.as_ref()?.desired_number_scheduled).ok()
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.template)
    }
    fn progress(&self) -> (Option<i64>, i32, i32) {
        let Some(status) = &self.status else { return (None, 0, 0) };
        let newest = status.updated_number_scheduled.unwrap_or(0);
        (status.observed_generation, status.current_number_scheduled, newest)
    }
}

/// A ReplicaSet with what controls it.
#[must_use]
pub fn replica_set(set: &ReplicaSet) -> ReplicaSetView {
    ReplicaSetView { workload: set.view(), controller: controller(&set.metadata) }
}

fn fingerprint(template: &PodTemplateSpec) -> Option<String> {
    let json = serde_json::to_vec(template).ok()?;
    Some(Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Reads one workload; `None` if it is gone or going, or another one has its name.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn read(
    client: &Client,
    namespace: &str,
    workload: &WorkloadReference,
) -> Result<Option<WorkloadView>, CallError> {
    async fn one<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<WorkloadView>, CallError>
    where
        K: Workload + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        // Deleted in the foreground it is there until its Pods are gone, but it will not replace them.
        let found = call(api.get_opt(name)).await?.filter(|found| found.meta().deletion_timestamp.is_none());
        Ok(found.map(|found| found.view()))
    }
    let name = &workload.name;
    let found = match workload.kind.as_str() {
        "Deployment" => one::<Deployment>(client, namespace, name).await?,
        "StatefulSet" => one::<StatefulSet>(client, namespace, name).await?,
        "DaemonSet" => one::<DaemonSet>(client, namespace, name).await?,
        _ => one::<ReplicaSet>(client, namespace, name).await?,
    };
    Ok(found.filter(|found| found.reference.uid == workload.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(json: serde_json::Value) -> WorkloadView {
        serde_json::from_value::<Deployment>(json).unwrap().view()
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
            serde_json::from_value::<Deployment>(object).unwrap().view().rolling_out
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
            serde_json::from_value::<StatefulSet>(object).unwrap().view().rolling_out
        };
        assert!(!stateful_set("db-1", 0, 0));
        assert!(stateful_set("db-2", 0, 1));
        assert!(!stateful_set("db-2", 2, 1), "as far as its partition lets it");
        assert!(stateful_set("db-2", 1, 1));
        let daemon_set = |current: i64, updated: i64| {
            let status = json!({"observedGeneration": 1, "currentNumberScheduled": current, "desiredNumberScheduled": current,
                "numberMisscheduled": 0, "numberReady": current, "updatedNumberScheduled": updated});
            let object = json!({"metadata": {"name": "d", "generation": 1}, "spec": {"selector": {}, "template": {}}, "status": status});
            serde_json::from_value::<DaemonSet>(object).unwrap().view().rolling_out
        };
        assert!(daemon_set(3, 2) && !daemon_set(3, 3));
    }
}
