//! The platform's policy as it is installed: the ConfigMap that the agent's Deployment mounts. For a process that mounts nothing, such as one
//! made by `kubectl create cronjob`.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use policy::keys::SYSTEM_NAMESPACE;
use policy::platform::PlatformPolicy;
use runtime::client::call;

/// The agent's Deployment.
const DEPLOYMENT: &str = "agent";
/// The volume that it mounts the policy by, and before its hash the ConfigMap's name.
const VOLUME: &str = "policy";
/// The file in it.
const FILE: &str = "policy.yaml";

/// Reads it.
///
/// # Errors
/// In a sentence: which right or object is missing, or what isn't understood.
pub async fn read(client: &Client) -> Result<PlatformPolicy, String> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let deployment = call(deployments.get(DEPLOYMENT)).await.map_err(|error| {
        format!("failed to read deployment {DEPLOYMENT} in namespace {SYSTEM_NAMESPACE}: {error}")
    })?;
    let pod = deployment.spec.template.spec.unwrap_or_default();
    let volume = pod.volumes.into_iter().flatten().find(|volume| volume.name == VOLUME);
    let name = volume.and_then(|volume| volume.config_map).map(|map| map.name).ok_or_else(|| {
        format!("deployment {DEPLOYMENT} in namespace {SYSTEM_NAMESPACE} mounts no ConfigMap as `{VOLUME}`")
    })?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let map = call(maps.get(&name)).await.map_err(|error| {
        format!("failed to read configmap {name} in namespace {SYSTEM_NAMESPACE}: {error}")
    })?;
    let yaml = map
        .data
        .and_then(|mut files| files.remove(FILE))
        .ok_or_else(|| format!("configmap {name} in namespace {SYSTEM_NAMESPACE} has no {FILE}"))?;
    PlatformPolicy::parse(&yaml)
        .map_err(|error| format!("configmap {name} in namespace {SYSTEM_NAMESPACE}: {error}"))
}
