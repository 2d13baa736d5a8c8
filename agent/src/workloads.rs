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
}

impl Workload for StatefulSet {
    fn desired(&self) -> Option<u32> {
        replicas(self.spec.replicas)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.template)
    }
}

impl Workload for ReplicaSet {
    fn desired(&self) -> Option<u32> {
        replicas(self.spec.replicas)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }
}

impl Workload for DaemonSet {
    fn desired(&self) -> Option<u32> {
        u32::try_from(self.status.as_ref()?.desired_number_scheduled).ok()
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.template)
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

/// Reads one workload; `None` if it is gone, or another one has its name.
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
        Ok(call(api.get_opt(name)).await?.map(|found| found.view()))
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
}
