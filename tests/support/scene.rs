//! A namespace whose Pods are Ready only when the test says so. So what happens in the middle of a
//! recovery has all the time that it needs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use policy::record::{OptIn, OptInStatus};
use policy::well_known::RECORD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::cluster::{Namespace, PATIENCE, kubeconfig, total, within};
use crate::second_api_server::client;

/// The condition that the test sets to make a Pod Ready.
const GATE: &str = "tests.purechaos.dev/gate";

/// The outcomes of recoveries, and how often each was counted.
pub type Outcomes = BTreeMap<String, f64>;

/// The namespace, and a client that costs less than one `kubectl` for each look.
pub struct Scene {
    /// The namespace, which is deleted at the end.
    pub namespace: Namespace,
    client: Client,
    runtime: Runtime,
    /// Whether the node of [`Scene::make_node`] exists.
    has_node: AtomicBool,
}

impl Scene {
    /// Makes a namespace whose name begins with `prefix`.
    pub fn new(prefix: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(client(&kubeconfig()));
        Self { namespace: Namespace::new(prefix), client, runtime, has_node: AtomicBool::new(false) }
    }

    fn of_kind(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace.name, &resource)
    }

    fn api_of_pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace.name)
    }

    /// Makes an object in the namespace.
    #[track_caller]
    pub fn create(&self, object: &Value) {
        assert!(self.try_create(object), "there is one already: {object}");
    }

    /// Makes an object in the namespace. Returns false if an object of that name exists.
    #[track_caller]
    pub fn try_create(&self, object: &Value) -> bool {
        let text = |key: &str| object[key].as_str().unwrap();
        let api = self.of_kind(text("apiVersion"), text("kind"));
        let object = serde_json::from_value(object.clone()).unwrap();
        match self.runtime.block_on(api.create(&PostParams::default(), &object)) {
            Err(kube::Error::Api(status)) if status.code == 409 => false,
            made => made.map(|_| true).unwrap(),
        }
    }

    /// Reads an object as JSON.
    #[track_caller]
    pub fn get(&self, api_version: &str, kind: &str, name: &str) -> Value {
        let api = self.of_kind(api_version, kind);
        serde_json::to_value(self.runtime.block_on(api.get(name)).unwrap()).unwrap()
    }

    /// Changes a workload.
    #[track_caller]
    pub fn patch(&self, kind: &str, name: &str, patch: &Value) {
        let api = self.of_kind("apps/v1", kind);
        self.runtime.block_on(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).unwrap();
    }

    /// Deletes a workload.
    #[track_caller]
    pub fn delete(&self, kind: &str, name: &str, how: &DeleteParams) {
        let api = self.of_kind("apps/v1", kind);
        self.runtime.block_on(api.delete(name, how)).unwrap();
    }

    /// All Pods of the namespace, including those that are being deleted.
    pub fn pods(&self) -> Vec<Pod> {
        self.runtime.block_on(self.api_of_pods().list(&ListParams::default())).unwrap().items
    }

    /// Deletes a Pod, as a person does.
    #[track_caller]
    pub fn delete_pod(&self, name: &str) {
        self.runtime.block_on(self.api_of_pods().delete(name, &DeleteParams::default())).unwrap();
    }

    /// Changes a live Pod.
    #[track_caller]
    pub fn patch_pod(&self, name: &str, patch: &Value) {
        let pods = self.api_of_pods();
        self.runtime.block_on(pods.patch(name, &PatchParams::default(), &Patch::Merge(patch))).unwrap();
    }

    /// Lets each Pod of `which` become Ready as soon as its containers are. If a Pod is on a node
    /// without a kubelet, this also makes the Pod run.
    pub fn open(&self, which: impl Fn(&Pod) -> bool) {
        let now = Timestamp::now();
        let is_true = |name: &str| json!({"type": name, "status": "True", "lastTransitionTime": now});
        for pod in self.pods().iter().filter(|pod| !is(pod, GATE) && !is_terminating(pod) && which(pod)) {
            let mut status = json!({"conditions": [is_true(GATE)]});
            match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
                None => continue,
                Some(node) if node == self.namespace.name => {
                    let all = [GATE, "Initialized", "ContainersReady", "Ready"].map(is_true);
                    status = json!({"phase": "Running", "startTime": now, "conditions": all});
                }
                Some(_) => {}
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
            let (pods, name) = (self.api_of_pods(), pod.name_any());
            let parameters = PatchParams::default();
            match self.runtime.block_on(pods.patch_status(&name, &parameters, &patch)) {
                // The Pod went meanwhile.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                patched => drop(patched.unwrap()),
            }
        }
    }

    /// Opens all Pods until `count` of them are Ready.
    #[track_caller]
    pub fn until_ready(&self, count: usize) {
        within(PATIENCE * 2, "Ready Pods", || {
            self.open(|_| true);
            let pods = self.pods();
            let ready = pods.iter().filter(|pod| is(pod, "Ready") && !is_terminating(pod)).count();
            (ready == count).then_some(())
        });
    }

    /// The record's status; empty if there is no record.
    pub fn status(&self) -> OptInStatus {
        let records: Api<OptIn> = Api::namespaced(self.client.clone(), &self.namespace.name);
        let record = self.runtime.block_on(records.get_opt(RECORD)).unwrap();
        record.and_then(|record| record.status).unwrap_or_default()
    }

    /// Opts in with a round each second, waits until `kills` recoveries are pending, and halts, so
    /// that no other Pod dies.
    #[track_caller]
    pub fn kill(&self, settings: &[&str], kills: i64) {
        self.opt_in(settings);
        // After an eviction that met a change, the workload rests for two minutes.
        within(PATIENCE * 4, "a kill", || {
            self.beat();
            (self.status().pending_count == Some(kills)).then_some(())
        });
        self.namespace.annotate(&["purechaos.dev/halt=one case"]).succeeds();
    }

    /// Opts in with a round each second.
    #[track_caller]
    pub fn opt_in(&self, settings: &[&str]) {
        let each_second = ["chaos=yes", "purechaos.dev/schedule=every 1s", "purechaos.dev/min-age=1s"];
        self.namespace.annotate(&[&each_second[..], settings].concat()).succeeds();
    }

    /// The agent's metrics.
    pub fn metrics(&self) -> String {
        let path = "/api/v1/namespaces/pure-chaos/services/agent:metrics/proxy/metrics";
        let request = Request::get(path).body(Vec::new()).unwrap();
        self.runtime.block_on(self.client.request_text(request)).unwrap()
    }

    /// The sum of a metric's series for this namespace.
    pub fn total(&self, metrics: &str, name: &str, label: &str) -> f64 {
        total(metrics, name, &[&format!("target_namespace=\"{}\"", self.namespace.name), label])
    }

    /// The recoveries that ended, by outcome.
    pub fn outcomes(&self, metrics: &str) -> Outcomes {
        let count = |outcome: &agent::recovery::RecoveryOutcome| {
            let label = format!("outcome=\"{}\"", outcome.label());
            (outcome.label().to_owned(), self.total(metrics, "pure_chaos_recoveries_total", &label))
        };
        agent::recovery::RecoveryOutcome::ALL.iter().map(count).filter(|(_, count)| *count > 0.0).collect()
    }

    /// Makes a node without a machine that has the namespace's name. Only Pods that tolerate it
    /// come to the node.
    pub fn make_node(&self) {
        let name = &self.namespace.name;
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"taints": [{"key": "purechaos.dev/hollow", "effect": "NoSchedule"}]}
        });
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = serde_json::from_value(node).unwrap();
        self.runtime.block_on(nodes.create(&PostParams::default(), &node)).unwrap();
        self.has_node.store(true, Ordering::Relaxed);
        self.beat();
    }

    /// Sends a heartbeat of the node, if there is one. After 40 s without one the node counts as
    /// lost, and its Pods as not Ready.
    fn beat(&self) {
        if !self.has_node.load(Ordering::Relaxed) {
            return;
        }
        let now = Timestamp::now();
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "Hollow", "lastHeartbeatTime": now, "lastTransitionTime": now
        });
        let room = json!({"pods": "9"});
        let status = json!({"status": {"conditions": [ready], "capacity": room, "allocatable": room}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        let (name, how) = (&self.namespace.name, PatchParams::default());
        self.runtime.block_on(nodes.patch_status(name, &how, &Patch::Strategic(&status))).unwrap();
    }

    /// Removes the node. Returns false if it was removed before.
    pub fn remove_node(&self) -> bool {
        self.has_node.store(false, Ordering::Relaxed);
        let nodes: Api<Node> = Api::all(self.client.clone());
        self.runtime.block_on(nodes.delete(&self.namespace.name, &DeleteParams::default())).is_ok()
    }
}

/// Whether a condition of the Pod is True.
pub fn is(pod: &Pod, condition: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|known| known.type_ == condition && known.status == "True")
}

/// Whether the Pod is being deleted.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// A workload with the stand-in image. Its Pods are not Ready until the test opens them.
pub fn workload(kind: &str, name: &str, replicas: u32) -> Value {
    let mut workload = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "readinessGates": [{"conditionType": GATE}],
                    "containers": [{"name": "a", "image": "chentex/random-logger", "imagePullPolicy": "IfNotPresent"}]
                }
            }
        }
    });
    match kind {
        "DaemonSet" => {}
        "StatefulSet" => {
            workload["spec"]["serviceName"] = json!(name);
            workload["spec"]["replicas"] = json!(replicas);
        }
        _ => workload["spec"]["replicas"] = json!(replicas),
    }
    workload
}
