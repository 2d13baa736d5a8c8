//! A stage for the agent: a fake API in this process, one namespace, one Deployment, and virtual
//! time.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agent::context::Context;
use agent::controller::supervisor::supervise;
use agent::telemetry::activity::{ActivityLog, Halt};
use jiff::Timestamp;
use policy::digest::digest;
use policy::platform::PlatformPolicy;
use prometheus::Registry;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use runtime::clock::{Clock, TokioClock};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fake_api::Api;

/// UID of namespace `a`.
pub const UID: &str = "2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f";
/// Path of namespace `a`.
pub const NAMESPACE: &str = "/api/v1/namespaces/a";
/// Path of the namespace that carries a halt of everything.
pub const SYSTEM: &str = "/api/v1/namespaces/pure-chaos";
/// Path of the record of `a`.
pub const RECORD: &str = "/apis/purechaos.dev/v1alpha1/namespaces/a/optins/chaos";
/// Path of Deployment `web`.
pub const WEB: &str = "/apis/apps/v1/namespaces/a/deployments/web";

/// Noon. The first slot of `every 10m` in this namespace comes 284 s later (a golden value of
/// `policy`).
pub fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// The time from [`noon`] to the first slot.
pub const FIRST_SLOT: Duration = Duration::from_millis(284_363);

/// The stage: a namespace that opted in, with Deployment `web` of three Ready Pods.
pub struct Stage {
    pub api: Api,
    pub registry: Registry,
    /// The data of the agent's page.
    pub activity_log: ActivityLog,
    pub end: CancellationToken,
    pub agent: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    pub clock: TokioClock,
    pub policy: PlatformPolicy,
    /// Until when the agent leads. At first this is longer than any test runs.
    pub leadership: watch::Sender<Option<Instant>>,
    /// The halt of everything, as the agent last read it.
    pub halt: watch::Sender<Halt>,
    /// Whether the agent may list nodes.
    pub reads_nodes: Arc<AtomicBool>,
}

impl Stage {
    /// A stage whose namespace opted in, with no settings.
    pub fn opted_in() -> Self {
        let clock = TokioClock::starting_at(noon());
        let stage = Self {
            api: Api::default(),
            registry: Registry::new(),
            activity_log: ActivityLog::default(),
            end: CancellationToken::new(),
            agent: None,
            leadership: watch::Sender::new(Some(clock.monotonic() + Duration::from_secs(100 * 86_400))),
            halt: watch::Sender::new(Halt::Unknown),
            reads_nodes: Arc::default(),
            clock,
            policy: PlatformPolicy::parse("ceilings: {mode: 'evict,delete,force', schedule: every 1s}")
                .unwrap(),
        };
        stage.api.put(SYSTEM, json!({"metadata": {"name": "pure-chaos", "uid": "system"}}));
        stage.opt_in(&[("chaos", "yes")]);
        stage.api.put(
            WEB,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a", "uid": "web-uid"},
                "spec": {"replicas": 3, "selector": {}, "template": {}}
            }),
        );
        stage.api.put(
            "/apis/apps/v1/namespaces/a/replicasets/web-1",
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {"name": "web-1", "namespace": "a", "uid": "web-1-uid", "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web-uid", "controller": true}]},
                "spec": {"replicas": 3, "selector": {}, "template": {}}
            }),
        );
        for name in ["p1", "p2", "p3"] {
            stage.add_pod(name, true);
        }
        stage
    }

    /// Puts the Namespace with these annotations, and the record that the webhook would write.
    pub fn opt_in(&self, annotations: &[(&str, &str)]) {
        let annotations =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let settings = self.policy.settings(&annotations).unwrap();
        self.api.put(NAMESPACE, json!({"metadata": {"name": "a", "uid": UID, "annotations": annotations}}));
        // The status belongs to the agent, so it stays.
        let status = self.api.get(RECORD).map_or(Value::Null, |record| record["status"].clone());
        let mut record = json!({
                "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn",
                "metadata": {"name": "chaos", "namespace": "a", "uid": "record"},
                "spec": {
                    "namespaceUid": UID, "verdict": "Admitted",
                    "admission": {"user": "mara", "time": "2026-11-23T11:00:00Z", "digest": digest(&annotations)},
                    "settings": serde_json::to_value(policy::record::RecordedSettings::from(&settings)).unwrap(),
                }
        });
        if !status.is_null() {
            record["status"] = status;
        }
        self.api.put(RECORD, record);
    }

    pub fn add_pod(&self, name: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        self.api.put(
            &pod(name),
            json!({
                "metadata": {"name": name, "namespace": "a", "uid": format!("{name}-uid"),
                    "creationTimestamp": "2026-11-23T11:00:00Z", "labels": {"app": "web"}, "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "web-1-uid", "controller": true}]},
                "spec": {"nodeName": "node"},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}],
                    "containerStatuses": [{"name": "c", "restartCount": 0}]}
            }),
        );
    }

    /// Adds another Deployment like `web`, with these Ready Pods.
    pub fn add_workload(&self, name: &str, pods: &[&str]) {
        let set = format!("{name}-1");
        for (kind, of, is) in [("deployments", "web", name), ("replicasets", "web-1", set.as_str())] {
            let mut copy = self.api.get(&format!("/apis/apps/v1/namespaces/a/{kind}/{of}")).unwrap();
            copy["metadata"]["name"] = json!(is);
            copy["metadata"]["uid"] = json!(format!("{is}-uid"));
            copy["spec"]["replicas"] = json!(pods.len());
            if kind == "replicasets" {
                let owner = &mut copy["metadata"]["ownerReferences"][0];
                (owner["name"], owner["uid"]) = (json!(name), json!(format!("{name}-uid")));
            }
            self.api.put(&format!("/apis/apps/v1/namespaces/a/{kind}/{is}"), copy);
        }
        for member in pods {
            self.add_pod(member, true);
            self.api.change(&pod(member), |pod| {
                let owner = &mut pod["metadata"]["ownerReferences"][0];
                (owner["name"], owner["uid"]) = (json!(set), json!(format!("{set}-uid")));
            });
        }
    }

    /// Adds other namespaces like `a`: `PREFIX1` and so on. The UIDs are the same, so their slots are
    /// the same.
    pub fn copy_namespaces(&self, prefix: &str, count: usize) {
        let objects = self.api.objects();
        for name in (1..=count).map(|number| format!("{prefix}{number}")) {
            for (path, object) in &objects {
                let mut object = object.clone();
                if path == NAMESPACE {
                    object["metadata"]["name"] = json!(name);
                    self.api.put(&format!("/api/v1/namespaces/{name}"), object);
                } else if path.contains("/namespaces/a/") {
                    object["metadata"]["namespace"] = json!(name);
                    self.api.put(&path.replace("/namespaces/a/", &format!("/namespaces/{name}/")), object);
                }
            }
        }
    }

    /// The context that a process gets.
    pub fn context(&self, registry: &Registry) -> Context {
        let (client, clock) = (self.api.client(), Arc::new(self.clock.clone()));
        let leadership = self.leadership.subscribe().into();
        let reads_nodes = Arc::clone(&self.reads_nodes);
        let context =
            Context::new(client, clock, self.policy.clone(), registry, None, leadership, reads_nodes)
                .unwrap();
        Context { activity_log: self.activity_log.clone(), halt: self.halt.clone(), ..context }
    }

    /// Removes the victim, and puts a Ready Pod in its place.
    pub fn replace(&self, victim: &str, by: &str) {
        self.api.remove(&pod(victim));
        self.add_pod(by, true);
        let now = self.clock.wall().round(jiff::Unit::Second).unwrap();
        self.api.change(&pod(by), |pod| pod["metadata"]["creationTimestamp"] = json!(now.to_string()));
    }

    pub fn start(&mut self) {
        self.registry = Registry::new();
        self.activity_log = ActivityLog::default();
        let context = self.context(&self.registry);
        self.end = CancellationToken::new();
        let agent = supervise(
            context,
            ChaCha8Rng::seed_from_u64(1),
            Arc::new(AtomicBool::new(false)),
            self.end.clone(),
        );
        self.agent = Some(tokio::spawn(agent));
    }

    pub async fn stop(&mut self) {
        self.end.cancel();
        self.agent.take().unwrap().await.unwrap().unwrap();
    }

    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    pub fn rounds(&self, outcome: &str) -> f64 {
        self.metric(&format!("pure_chaos_rounds_total{{outcome=\"{outcome}\",target_namespace=\"a\"}}"))
            .unwrap()
    }

    pub fn refusals(&self, reason: &str) -> f64 {
        self.metric(&format!("pure_chaos_refusals_total{{reason=\"{reason}\",target_namespace=\"a\"}}"))
            .unwrap()
    }

    pub fn kills(&self, mode: &str) -> f64 {
        let labels =
            format!("mode=\"{mode}\",target_namespace=\"a\",workload=\"web\",workload_kind=\"Deployment\"");
        self.metric(&format!("pure_chaos_kills_total{{{labels}}}")).unwrap_or(0.0)
    }

    pub fn recoveries(&self, outcome: &str) -> f64 {
        let labels = format!(
            "outcome=\"{outcome}\",target_namespace=\"a\",workload=\"web\",workload_kind=\"Deployment\""
        );
        self.metric(&format!("pure_chaos_recoveries_total{{{labels}}}")).unwrap_or(0.0)
    }

    pub fn status(&self) -> Value {
        self.api.get(RECORD).unwrap()["status"].clone()
    }

    /// The name of the Pod that was evicted or deleted last.
    pub fn victim(&self) -> String {
        let kills = self.api.kills();
        kills
            .last()
            .expect("a kill")
            .path
            .trim_end_matches("/eviction")
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    }
}

/// Path of a Pod.
pub fn pod(name: &str) -> String {
    format!("/api/v1/namespaces/a/pods/{name}")
}

pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Passes time until just after the first slot, with time for the round.
pub async fn first_round() {
    pass(FIRST_SLOT + Duration::from_millis(500)).await;
}

/// Runs a play in virtual time, for at most 3 minutes of real time, so that a play that hangs fails.
pub fn play(play: impl Future<Output = ()> + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play);
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(180)).expect("the play failed or hung");
}
