//! Reads why a workload did not recover: from the conditions of the workload, and from the status
//! of its Pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use policy::record::WorkloadReference;
use runtime::client::call;
use runtime::text::cut;
use serde_json::Value;

/// How long all reads together may take. The recovery has ended, and only its report waits.
const LONGEST: Duration = Duration::from_secs(5);
/// The most Pods that are read.
const PODS: usize = 3;
/// The most bytes of the quoted text.
const LONGEST_QUOTE: usize = 500;

/// What keeps the Pods of a workload from being Ready, in the words of Kubernetes. `pods` are the
/// names of its Pods that are not Ready. `None` if the objects say nothing or can't be read.
pub async fn complaint(
    client: &Client,
    namespace: &str,
    workload: &WorkloadReference,
    pods: &[String],
) -> Option<String> {
    let reads = async {
        if let Some(said) = of_workload(client, namespace, workload).await {
            return Some(said);
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        for name in pods.iter().take(PODS) {
            let Ok(Some(pod)) = call(api.get_opt(name)).await else { continue };
            if let Some(said) = of_pod(&pod) {
                return Some(format!("Pod {name}: {said}"));
            }
        }
        None
    };
    let said = tokio::time::timeout(LONGEST, reads).await.ok().flatten()?;
    Some(cut(said, LONGEST_QUOTE))
}

async fn of_workload(client: &Client, namespace: &str, workload: &WorkloadReference) -> Option<String> {
    // The agent may not read workloads of other kinds.
    if !["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"].contains(&workload.kind.as_str()) {
        return None;
    }
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", &workload.kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let found = call(api.get_opt(&workload.name)).await.ok().flatten()?;
    failed_condition(&found.data["status"]["conditions"])
}

/// The message of a condition that says why Pods are missing.
fn failed_condition(conditions: &Value) -> Option<String> {
    let conditions = conditions.as_array()?;
    let message = |kind: &str, status: &str| {
        let found = conditions.iter().find(|known| known["type"] == kind && known["status"] == status)?;
        found["message"].as_str().filter(|message| !message.is_empty()).map(str::to_owned)
    };
    message("ReplicaFailure", "True").or_else(|| message("Progressing", "False"))
}

/// The reason why a Pod is not Ready.
fn of_pod(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(message) = unscheduled.and_then(|condition| condition.message.clone()) {
        return Some(message);
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.into_iter().find_map(waiting)
}

/// The reason why a container waits, unless it is just starting.
fn waiting(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting
        .reason
        .as_deref()
        .filter(|reason| !["ContainerCreating", "PodInitializing"].contains(reason))?;
    Some(match &waiting.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_workload_says_is_what_keeps_its_pods_away() {
        let quota = json!({"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"});
        let late = json!({"type": "Progressing", "status": "False", "message": "has timed out progressing"});
        let well = json!({"type": "Progressing", "status": "True", "message": "has successfully progressed"});
        for (conditions, expected) in [
            (json!([late.clone(), quota]), Some("exceeded quota: q")),
            (json!([late]), Some("has timed out progressing")),
            (json!([well]), None),
            (Value::Null, None),
        ] {
            assert_eq!(failed_condition(&conditions).as_deref(), expected, "{conditions}");
        }
    }

    #[test]
    fn what_a_pod_says_is_why_it_waits() {
        let pod =
            |status: Value| serde_json::from_value::<Pod>(json!({"metadata": {}, "status": status})).unwrap();
        let container = |reason: &str| {
            json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": "no such image"}}}]})
        };
        let unscheduled = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]});
        for (status, expected) in [
            (unscheduled, Some("0/3 nodes are available")),
            (container("ImagePullBackOff"), Some("ImagePullBackOff: no such image")),
            (container("ContainerCreating"), None),
            (json!({}), None),
        ] {
            assert_eq!(of_pod(&pod(status.clone())).as_deref(), expected, "{status}");
        }
    }
}
