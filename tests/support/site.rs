//! A namespace with nodes of its own. The nodes have no machine. The scheduler spreads the Pods over
//! them, and their replacements run only when the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::cluster::{PATIENCE, kubeconfig, within};
use crate::fake_node::FakeNode;
use crate::scene::{Outcomes, Scene, is, is_terminating, workload};
use crate::second_api_server::client;

/// The label with a node's name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label with a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The label with the name of the namespace that the node is for.
const POOL: &str = "tests.purechaos.dev/pool";

/// Nodes without a machine, which only the Pods of one test come to.
struct Nodes {
    runtime: Runtime,
    client: Client,
    nodes: Vec<FakeNode>,
    /// Whether new Pods begin to run.
    runs: watch::Sender<bool>,
}

impl Nodes {
    fn none() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(client(&kubeconfig()));
        Self { runtime, client, nodes: Vec::new(), runs: watch::Sender::new(true) }
    }

    /// Makes a node for the Pods of this namespace.
    fn add(&mut self, pool: &str, zone: &str) {
        let name = format!("{pool}-{}", self.nodes.len());
        let labels = json!({HOSTNAME: name, POOL: pool, ZONE: zone});
        let start =
            FakeNode::start_as(&self.client, &name, &labels, self.runs.subscribe(), Arc::new(|_, _| {}));
        let node = self.runtime.block_on(start);
        self.nodes.push(node);
    }

    fn are_empty(&self, pool: &str) -> bool {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), pool);
        let listed = self.runtime.block_on(pods.list(&ListParams::default()));
        listed.is_ok_and(|pods| pods.items.is_empty())
    }
}

/// A namespace, and nodes of its own. They are removed at the end, the namespace first.
pub struct Site {
    scene: Option<Scene>,
    nodes: Nodes,
    /// The name of the namespace, and the beginning of the names of the nodes.
    pub name: String,
}

impl Site {
    /// Makes a namespace whose name begins with `prefix`, and a node in each of these zones. The
    /// name of the first node ends with `-0`.
    pub fn make(prefix: &str, zones: &[&str]) -> Self {
        let scene = Scene::new(prefix);
        let name = scene.namespace.name.clone();
        let mut site = Self { scene: Some(scene), nodes: Nodes::none(), name };
        for zone in zones {
            site.nodes.add(&site.name, zone);
        }
        site
    }

    /// The namespace.
    pub fn scene(&self) -> &Scene {
        self.scene.as_ref().unwrap()
    }

    /// Lets Pods with this specification come to the nodes of the test, and to no other.
    pub fn place(&self, pod: &mut Value) {
        pod["tolerations"] = json!([{"key": "purechaos.dev/hollow", "operator": "Exists"}]);
        pod["nodeSelector"] = json!({POOL: self.name});
    }

    /// Makes a workload whose Pods the scheduler spreads over those nodes of the test that have
    /// these labels.
    pub fn spread(&self, kind: &str, name: &str, replicas: u32, labels: &[(&str, &str)]) {
        let mut object = workload(kind, name, replicas);
        let pod = &mut object["spec"]["template"]["spec"];
        pod["readinessGates"] = json!([]);
        self.place(pod);
        for (label, value) in labels {
            pod["nodeSelector"][label] = json!(value);
        }
        pod["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": name}}
        }]);
        self.scene().create(&object);
    }

    /// Waits until `count` Pods are Ready and old enough to die.
    pub fn until_old(&self, count: usize) -> BTreeMap<String, Pod> {
        within(PATIENCE * 2, "Ready Pods on the nodes", || {
            let pods = self.scene().pods();
            let is_old = |pod: &Pod| {
                let age = Timestamp::now().duration_since(pod.creation_timestamp().unwrap().0);
                age.as_secs_f64() > 2.5
            };
            let are_all = pods.iter().all(|pod| is(pod, "Ready") && !is_terminating(pod) && is_old(pod));
            (are_all && pods.len() == count)
                .then(|| pods.into_iter().map(|pod| (pod.name_any(), pod)).collect())
        })
    }

    /// Opts in, holds what replaces the victims, and halts after the one round that kills
    /// something. Returns the names of the Pods that it killed.
    pub fn one_round(&self, settings: &[&str]) -> BTreeSet<String> {
        let scene = self.scene();
        let before: BTreeMap<String, String> =
            scene.pods().iter().map(|pod| (pod.uid().unwrap(), pod.name_any())).collect();
        self.nodes.runs.send_replace(false);
        let rounds = |metrics: &str| scene.total(metrics, "pure_chaos_rounds_total", "outcome=\"killed\"");
        let rounds_before = rounds(&scene.metrics());
        scene.opt_in(&[settings, &["purechaos.dev/halt-"]].concat());
        // After an eviction that met a change, the workload rests for two minutes.
        within(PATIENCE * 4, "a round that kills", || {
            (rounds(&scene.metrics()) > rounds_before).then_some(())
        });
        scene.namespace.annotate(&["purechaos.dev/halt=one round"]).succeeds();
        // The fake kubelets end the victims.
        let left = within(PATIENCE, "the end of the victims", || {
            let pods = scene.pods();
            pods.iter()
                .all(|pod| !is_terminating(pod))
                .then(|| pods.iter().map(|pod| pod.uid().unwrap()).collect::<BTreeSet<_>>())
        });
        assert_eq!(rounds(&scene.metrics()), rounds_before + 1.0);
        before.into_iter().filter(|(uid, _)| !left.contains(uid)).map(|(_, name)| name).collect()
    }

    /// Lets the replacements run, and waits until their recoveries have ended. `before` and
    /// `recoveries` are the numbers of all recoveries before and after it.
    pub fn recovers(&self, before: f64, recoveries: f64) {
        let scene = self.scene();
        let ended: f64 = scene.outcomes(&scene.metrics()).values().sum();
        assert_eq!(ended, before, "no replacement runs");
        self.nodes.runs.send_replace(true);
        let outcomes = within(PATIENCE * 2, "the recoveries", || {
            let outcomes = scene.outcomes(&scene.metrics());
            (outcomes.values().sum::<f64>() >= recoveries).then_some(outcomes)
        });
        assert_eq!(outcomes, Outcomes::from([("recovered".to_owned(), recoveries)]));
        within(PATIENCE, "no pending recovery", || {
            (scene.status().pending_count.unwrap_or(0) == 0).then_some(())
        });
    }

    /// How many Pods were killed.
    pub fn kills(&self) -> f64 {
        self.scene().total(&self.scene().metrics(), "pure_chaos_kills_total", "")
    }

    /// How many refusals with this reason were counted.
    pub fn refusals(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.scene().total(&self.scene().metrics(), "pure_chaos_refusals_total", &label)
    }

    /// How many recoveries of a workload have ended.
    pub fn recoveries_of(&self, workload: &str) -> f64 {
        let label = format!("workload=\"{workload}\"");
        self.scene().total(&self.scene().metrics(), "pure_chaos_recoveries_total", &label)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Its end deletes the namespace. The nodes end the Pods.
        self.nodes.runs.send_replace(true);
        drop(self.scene.take());
        let begun = Instant::now();
        while !self.nodes.are_empty(&self.name) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(200));
        }
        for node in &mut self.nodes.nodes {
            if let Err(error) = self.nodes.runtime.block_on(node.end()) {
                eprintln!("a node of {} is left: {error}", self.name);
            }
        }
    }
}
