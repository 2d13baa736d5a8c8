//! Reads the installed platform's policy from the ConfigMap that the agent's Deployment mounts.
//! This is for processes that mount no file, such as a Pod of a CronJob that `kubectl create
//! cronjob` made.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use policy::platform::PlatformPolicy;
use policy::well_known::SYSTEM_NAMESPACE;
use runtime::client::call;

/// The name of the agent's Deployment.
const DEPLOYMENT: &str = "agent";
/// The name of the volume with the policy. The volume names the ConfigMap.
const VOLUME: &str = "policy";
/// The name of the file in the ConfigMap.
const FILE: &str = "policy.yaml";

/// Reads the policy.
///
/// # Errors
/// A sentence that says which right or object is missing, or what can't be parsed.
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
