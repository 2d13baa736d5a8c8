//! A node without a machine. Its Pods are Ready as soon as they are bound to it, and end as soon as
//! they are deleted, unless their container has a readiness probe with an initial delay or sleeps
//! before it stops. No container runs, so hundreds of Pods can come and go on a small machine. The API
//! server, its admission and its controllers are real.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Namespace, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::PATIENCE;

/// The name of the node that [`FakeNode::start`] makes.
pub const NODE: &str = "hollow";

/// How often the node sends a heartbeat. After 40 s without one the node counts as lost, and its
/// Pods as not Ready.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A function that is told when a Pod comes or goes. The flag says whether the Pod went.
pub type Witness = Arc<dyn Fn(&Pod, bool) + Send + Sync>;

/// The node. It exists until [`FakeNode::remove`] or [`FakeNode::end`] is called.
pub struct FakeNode {
    client: Client,
    name: String,
    tasks: JoinSet<()>,
}

impl FakeNode {
    /// Makes the node, and serves its Pods. It tells `witness` of each change of a Pod, and of the
    /// Pod's end.
    pub async fn start(client: &Client, witness: Witness) -> Self {
        Self::start_as(client, NODE, &json!({}), watch::channel(true).1, witness).await
    }

    /// Makes a node with this name and these labels, and serves its Pods. Pods begin to run only
    /// while `runs` is true.
    pub async fn start_as(
        client: &Client,
        name: &str,
        labels: &Value,
        runs: watch::Receiver<bool>,
        witness: Witness,
    ) -> Self {
        let nodes: Api<Node> = Api::all(client.clone());
        // A test run that was cut off may have left the node behind.
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
            "spec": {"taints": [{"key": "purechaos.dev/hollow", "effect": "NoSchedule"}]}
        });
        nodes.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(&node)).await.unwrap();
        beat(&nodes, name).await;
        let mut tasks = JoinSet::new();
        let heart = name.to_owned();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                beat(&nodes, &heart).await;
            }
        });
        let (pods, host) = (client.clone(), name.to_owned());
        tasks.spawn(async move { serve(pods, &host, runs, witness).await });
        Self { client: client.clone(), name: name.to_owned(), tasks }
    }

    /// Removes the node. Delete its Pods before, because nothing ends them afterwards.
    pub async fn remove(mut self) {
        self.end().await.unwrap();
    }

    /// Removes the node like [`FakeNode::remove`], and returns the error if that fails.
    ///
    /// # Errors
    /// When the node can't be deleted.
    pub async fn end(&mut self) -> kube::Result<()> {
        self.tasks.shutdown().await;
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.delete(&self.name, &DeleteParams::default()).await.map(drop)
    }
}

async fn beat(nodes: &Api<Node>, name: &str) {
    let now = jiff::Timestamp::now();
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Hollow", "lastHeartbeatTime": now, "lastTransitionTime": now
    });
    // The scheduler looks for room.
    let room = json!({"pods": "110"});
    let status = json!({"status": {"conditions": [condition], "capacity": room, "allocatable": room}});
    if let Err(error) = nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(&status)).await {
        eprintln!("the heartbeat of node {name} failed, it will be tried again: {error}");
    }
}

async fn serve(client: Client, node: &str, runs: watch::Receiver<bool>, witness: Witness) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().boxed();
    let mut acts = JoinSet::new();
    // A second start would change a Pod that is Ready already.
    let mut started = BTreeSet::new();
    while let Some(event) = events.next().await {
        while acts.try_join_next().is_some() {}
        match event {
            Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod)) => {
                witness(&pod, false);
                if pod.metadata.deletion_timestamp.is_some() {
                    acts.spawn(end(client.clone(), pod));
                } else if pod.status.as_ref().and_then(|status| status.start_time.as_ref()).is_none()
                    && started.insert(pod.uid())
                {
                    let (client, mut runs) = (client.clone(), runs.clone());
                    acts.spawn(async move {
                        // Pods also run if nobody is left who could change that.
                        runs.wait_for(|runs| *runs).await.ok();
                        run(client, pod).await;
                    });
                }
            }
            Ok(watcher::Event::Delete(pod)) => witness(&pod, true),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => eprintln!("the watch of node {node} failed, it will be tried again: {error}"),
        }
    }
}

/// The seconds that the Pod's only container names somewhere.
fn wait(pod: &Pod, named: impl Fn(&Container) -> Option<u64>) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.containers.first()).and_then(named);
    Duration::from_secs(seconds.unwrap_or(0))
}

async fn run(client: Client, pod: Pod) {
    let delay =
        wait(&pod, |container| container.readiness_probe.as_ref()?.initial_delay_seconds?.try_into().ok());
    tokio::time::sleep(delay).await;
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
    let sleep = wait(&pod, |container| {
        container.lifecycle.as_ref()?.pre_stop.as_ref()?.sleep.as_ref()?.seconds.try_into().ok()
    });
    tokio::time::sleep(sleep).await;
    // A StatefulSet may have made another Pod of this name.
    let of_pod = Preconditions { uid: pod.uid(), resource_version: None };
    let at_once = DeleteParams { preconditions: Some(of_pod), ..DeleteParams::default().grace_period(0) };
    tell(pods(&client, &pod).delete(&pod.name_any(), &at_once).await);
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
