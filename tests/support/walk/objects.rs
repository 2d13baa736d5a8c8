//! The objects of a walk as the API shows them, and the record as the webhook writes it.

use jiff::Timestamp;
use policy::consent::Consent;
use policy::digest::digest;
use policy::platform::PlatformPolicy;
use policy::record::RecordedSettings;
use policy::well_known::HALT;
use serde_json::{Value, json};

use crate::fake_api::Api;

use super::cluster::{Kind, Pod, Workload};
use super::namespaces::Namespace;

pub const SYSTEM: &str = "/api/v1/namespaces/pure-chaos";
pub const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/pure-chaos/leases/agent";

pub fn policy(kills_per_minute: u32) -> PlatformPolicy {
    let ceilings = "ceilings: {mode: 'evict,delete,force', schedule: every 1s, per-workload: 100%}";
    PlatformPolicy::parse(&format!("{ceilings}\nkillsPerMinute: {kills_per_minute}")).unwrap()
}

pub fn namespace_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}")
}

pub fn record_path(namespace: &str) -> String {
    format!("/apis/purechaos.dev/v1alpha1/namespaces/{namespace}/optins/chaos")
}

pub fn pod_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => "deployments",
        Kind::StatefulSet => "statefulsets",
        Kind::DaemonSet => "daemonsets",
        Kind::ReplicaSet => "replicasets",
        Kind::Rollout => "rollouts",
    }
}

fn group(kind: Kind) -> &'static str {
    if kind == Kind::Rollout { "argoproj.io/v1alpha1" } else { "apps/v1" }
}

fn workload_path(namespace: &str, kind: Kind, name: &str) -> String {
    format!("/apis/{}/namespaces/{namespace}/{}/{name}", group(kind), plural(kind))
}

fn set_name(workload: &Workload, template: u32) -> String {
    format!("{}-t{template}", workload.name)
}

fn set_uid(workload: &Workload, template: u32) -> String {
    format!("{}-t{template}", workload.uid)
}

fn owner(kind: Kind, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": group(kind), "kind": kind.word(), "name": name, "uid": uid, "controller": true}])
}

pub fn pod(namespace: &str, pod: &Pod, workload: &Workload) -> Value {
    let owners = if workload.kind.has_sets() {
        owner(Kind::ReplicaSet, &set_name(workload, pod.template), &set_uid(workload, pod.template))
    } else {
        owner(workload.kind, &workload.name, &workload.uid)
    };
    let status = if pod.ready { "True" } else { "False" };
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": namespace, "uid": pod.uid, "creationTimestamp": seconds(pod.created),
            "labels": {"app": workload.name}, "ownerReferences": owners},
        "spec": {"nodeName": pod.node},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}],
            "containerStatuses": [{"name": "c", "restartCount": 0}]}
    });
    if pod.excluded.is_some() {
        object["metadata"]["annotations"] = json!({"purechaos.dev/exclude": "true"});
    }
    if pod.terminating {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-23T13:00:00Z");
    }
    object
}

fn seconds(at: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_second()).unwrap().to_string()
}

/// Puts a workload with its ReplicaSets. `all` is the number of its Pods, and `newest` the number
/// of those with the newest template.
pub fn show(api: &Api, namespace: &str, workload: &Workload, (all, newest): (usize, usize)) {
    let Workload { kind, name, uid, desired, template, generation, .. } = workload;
    let rendered = json!({"metadata": {"annotations": {"template": template.to_string()}}});
    let mut object = json!({
        "apiVersion": group(*kind), "kind": kind.word(),
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "generation": generation},
        "spec": {"replicas": desired, "selector": {}, "template": rendered},
    });
    let revision = |template: u32| format!("{name}-{template}");
    let before = if newest < all { template.saturating_sub(1) } else { *template };
    object["status"] = match kind {
        Kind::DaemonSet => json!({"observedGeneration": generation, "currentNumberScheduled": all,
            "desiredNumberScheduled": desired, "numberMisscheduled": 0, "numberReady": all, "updatedNumberScheduled": newest}),
        _ => json!({"observedGeneration": generation, "replicas": all, "updatedReplicas": newest,
            "currentRevision": revision(before), "updateRevision": revision(*template)}),
    };
    if *kind == Kind::StatefulSet {
        object["spec"]["serviceName"] = json!(name);
    }
    if kind.has_sets() {
        for number in 1..=*template {
            let replicas = if number == *template { *desired } else { 0 };
            let path = workload_path(namespace, Kind::ReplicaSet, &set_name(workload, number));
            let set = json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {"name": set_name(workload, number), "namespace": namespace, "uid": set_uid(workload, number),
                    "ownerReferences": owner(*kind, name, uid)},
                "spec": {"replicas": replicas, "selector": {}, "template": rendered}
            });
            if number == *template
                || api.get(&path).is_none_or(|old| old["spec"]["replicas"] != set["spec"]["replicas"])
            {
                api.put(&path, set);
            }
        }
    }
    api.put(&workload_path(namespace, *kind, name), object);
}

/// Removes a workload with its ReplicaSets.
pub fn hide(api: &Api, namespace: &str, workload: &Workload) {
    api.remove(&workload_path(namespace, workload.kind, &workload.name));
    if workload.kind.has_sets() {
        for number in 1..=workload.template {
            api.remove(&workload_path(namespace, Kind::ReplicaSet, &set_name(workload, number)));
        }
    }
}

pub fn namespace(namespace: &Namespace) -> Value {
    let Namespace { name, uid, annotations, .. } = namespace;
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "uid": uid, "annotations": annotations}});
    if namespace.terminating {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z");
    }
    object
}

pub fn system(halt: bool) -> Value {
    let annotations = if halt { json!({HALT: "a walk"}) } else { json!({}) };
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "pure-chaos", "uid": "system", "annotations": annotations}})
}

/// Whether a record says that the opt-in was admitted.
pub fn is_admitted(api: &Api, namespace: &str) -> bool {
    api.get(&record_path(namespace)).is_some_and(|record| record["spec"]["verdict"] == "Admitted")
}

/// Writes or removes the record, as the webhook does.
pub fn review(api: &Api, namespace: &Namespace, serial: &mut u64, now: Timestamp) {
    let Namespace { name, uid, annotations, reviewed, .. } = namespace;
    let path = record_path(name);
    let before = api.get(&path);
    if Consent::parse(annotations) != Consent::Yes || namespace.expires().is_some_and(|end| end <= now) {
        if before.is_some() {
            api.remove(&path);
        }
        return;
    }
    let settings = policy(60).settings(annotations).unwrap();
    let digest = digest(annotations);
    let known =
        before.as_ref().is_some_and(|record| record["spec"]["admission"]["digest"] == digest.as_str());
    let mut record = before.unwrap_or_else(|| {
        *serial += 1;
        json!({
            "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn",
            "metadata": {"name": "chaos", "namespace": name, "uid": format!("record-{serial}")},
        })
    });
    record["spec"] = if *reviewed || known {
        json!({
            "namespaceUid": uid, "verdict": "Admitted",
            "admission": {"user": "mara", "time": "2026-11-23T11:00:00Z", "digest": digest},
            "settings": serde_json::to_value(RecordedSettings::from(&settings)).unwrap(),
        })
    } else {
        json!({"namespaceUid": uid, "verdict": "NotAdmitted", "reason": "set while nobody looked"})
    };
    if let Some(halt) = annotations.get(HALT) {
        record["spec"]["halt"] = json!(halt);
    }
    api.put(&path, record);
}
