//! A node without a machine. Its Pods are Ready as soon as they are bound to it, and end as soon as
//! they are deleted. No container runs, so hundreds of Pods can come and go on a small machine. The
//! API server, its admission and its controllers are real.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cluster::PATIENCE;

/// The node's name.
pub const NODE: &str = "hollow";

/// How often the node sends a heartbeat. After 40 s without one the node counts as lost, and its
/// Pods as not Ready.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A function that is told when a Pod comes or goes. The flag says whether the Pod went.
pub type Witness = Arc<dyn Fn(&Pod, bool) + Send + Sync>;

/// The node. It exists until [`FakeNode::remove`] is called.
pub struct FakeNode {
    client: Client,
    tasks: JoinSet<()>,
}

impl FakeNode {
    /// Makes the node, and serves its Pods. It tells `witness` of each change of a Pod, and of the
    /// Pod's end.
    pub async fn start(client: &Client, witness: Witness) -> Self {
        let nodes: Api<Node> = Api::all(client.clone());
        // A test run that was cut off may have left the node behind.
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
            "spec": {"taints": [{"key": "purechaos.dev/hollow", "effect": "NoSchedule"}]}
        });
        nodes.patch(NODE, &PatchParams::apply("tests").force(), &Patch::Apply(&node)).await.unwrap();
        beat(&nodes).await;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                beat(&nodes).await;
            }
        });
        let pods = client.clone();
        tasks.spawn(async move { serve(pods, witness).await });
        Self { client: client.clone(), tasks }
    }

    /// Removes the node. Delete its Pods before, because nothing ends them afterwards.
    pub async fn remove(mut self) {
        self.tasks.shutdown().await;
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.delete(NODE, &DeleteParams::default()).await.unwrap();
    }
}

async fn beat(nodes: &Api<Node>) {
    let now = jiff::Timestamp::now();
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Hollow", "lastHeartbeatTime": now, "lastTransitionTime": now
    });
    let status = json!({"status": {"conditions": [condition]}});
    if let Err(error) = nodes.patch_status(NODE, &PatchParams::default(), &Patch::Strategic(&status)).await {
        eprintln!("the hollow node's heartbeat failed, it will be tried again: {error}");
    }
}

async fn serve(client: Client, witness: Witness) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
    let mut events = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().boxed();
    let mut acts = JoinSet::new();
    while let Some(event) = events.next().await {
        while acts.try_join_next().is_some() {}
        match event {
            Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod)) => {
                witness(&pod, false);
                if pod.metadata.deletion_timestamp.is_some() {
                    acts.spawn(end(client.clone(), pod));
                } else if pod.status.as_ref().and_then(|status| status.start_time.as_ref()).is_none() {
                    acts.spawn(run(client.clone(), pod));
                }
            }
            Ok(watcher::Event::Delete(pod)) => witness(&pod, true),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => eprintln!("the hollow node's watch failed, it will be tried again: {error}"),
        }
    }
}

async fn run(client: Client, pod: Pod) {
    let now = jiff::Timestamp::now();
    let condition = |name: &str| json!({"type": name, "status": "True", "lastTransitionTime": now});
    let status = json!({"metadata": {"uid": pod.uid()}, "status": {
        "phase": "Running", "startTime": now, "conditions": [condition("Initialized"), condition("ContainersReady"), condition("Ready")]
    }});
    tell(
        pods(&client, &pod)
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&status))
            .await,
    );
}

async fn end(client: Client, pod: Pod) {
    tell(pods(&client, &pod).delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await);
}

fn pods(client: &Client, pod: &Pod) -> Api<Pod> {
    Api::namespaced(client.clone(), &pod.namespace().unwrap())
}

/// Ignores the errors for a Pod that went or was replaced meanwhile.
fn tell<T>(outcome: Result<T, kube::Error>) {
    match outcome {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => eprintln!("the hollow node failed to change a Pod: {error}"),
        Ok(_) => {}
    }
}

/// Makes a Deployment whose Pods are on the hollow node.
pub async fn deployment(client: &Client, namespace: &str, replicas: u32) {
    let deployment: Value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "nodeName": NODE,
                    "automountServiceAccountToken": false,
                    // The Pod is gone at once, as if it had ended gracefully.
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "none", "image": "none"}]
                }
            }
        }
    });
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
}

/// Makes namespaces, each with a Deployment on the hollow node. Returns their UIDs by name.
pub async fn namespaces(
    client: &Client,
    prefix: &str,
    count: usize,
    replicas: u32,
) -> BTreeMap<String, String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut uids = BTreeMap::new();
    for number in 0..count {
        let name = format!("{prefix}-{}-{number}", std::process::id());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let namespace = serde_json::from_value(namespace).unwrap();
        let made = namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        deployment(client, &name, replicas).await;
        uids.insert(name, made.uid().unwrap());
    }
    uids
}

/// Deletes namespaces, and returns when they and their Pods are gone.
pub async fn remove_namespaces(client: &Client, names: impl Iterator<Item = &String> + Clone) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in names.clone() {
        namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in names {
        let begun = std::time::Instant::now();
        while namespaces.get_opt(name).await.unwrap().is_some() {
            assert!(begun.elapsed() < PATIENCE, "namespace {name} does not go");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
