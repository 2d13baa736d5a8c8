//! How a recovery ends, on a real node. Whatever else happens during the recovery, each kill ends
//! in exactly one outcome, the right one. A readiness gate makes Pods Ready only when the test says
//! so, so the recovery takes as long as the test needs.

use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubectl, kubectl_with, metrics, object, total, within};

/// The gate of every Pod in these tests.
const GATE: &str = "purechaos.dev/tested";

/// The mode is `delete`, because the API server refuses the eviction of a Pod that the kubelet has
/// just written, and the workload then rests for two minutes.
const OFTEN: [&str; 3] =
    ["purechaos.dev/schedule=every 1s", "purechaos.dev/min-age=1s", "purechaos.dev/mode=delete"];

/// Long enough to see a recovery that ends too early.
const TOO_EARLY: Duration = Duration::from_secs(4);

/// A namespace with a workload that has lost one Pod, and whose recovery waits for the test.
struct Stage {
    namespace: Namespace,
    kind: &'static str,
    victims: Vec<String>,
}

fn pod(labels: &Value, extra: &Value) -> Value {
    let mut spec = json!({
        "readinessGates": [{"conditionType": GATE}], "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "logger", "image": "chentex/random-logger", "imagePullPolicy": "IfNotPresent"}],
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"labels": labels}, "spec": spec})
}

fn workload(kind: &str, name: &str, replicas: u32, extra: &Value) -> Value {
    let labels = json!({"app": name});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": pod(&labels, extra)}
    });
    if kind != "DaemonSet" {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

impl Stage {
    /// Makes these workloads, opts in, waits for `kills`, and stops all further kills.
    fn set(name: &str, workloads: &[Value], settings: &[&str], kills: usize) -> Self {
        let namespace = Namespace::new(name);
        let kind = match workloads[0]["kind"].as_str().unwrap() {
            "Deployment" => "deployment",
            "StatefulSet" => "statefulset",
            "DaemonSet" => "daemonset",
            _ => "replicaset",
        };
        let mut stage = Self { namespace, kind, victims: Vec::new() };
        for workload in workloads {
            kubectl_with(&["-n", &stage.namespace.name, "create"], workload).succeeds();
        }
        let wanted: usize =
            workloads.iter().map(|one| one["spec"]["replicas"].as_u64().unwrap_or(1) as usize).sum();
        eventually("all Pods to be Ready", || {
            stage.open_all();
            (stage.ready().len() == wanted).then_some(())
        });
        let before = stage.uids();
        stage.namespace.opt_in(&[&OFTEN[..], settings].concat());
        eventually("the kills", || {
            let status = stage.status();
            (status["pendingCount"] == kills).then_some(())
        });
        // A halt stops kills and doesn't end recoveries.
        stage.namespace.annotate(&["purechaos.dev/halt=a case"]).succeeds();
        let pods = stage.pods();
        let is_alive = |uid: &String| {
            pods.iter()
                .any(|pod| pod["metadata"]["uid"] == **uid && pod["metadata"]["deletionTimestamp"].is_null())
        };
        stage.victims = before.into_iter().filter(|uid| !is_alive(uid)).collect();
        assert_eq!(stage.victims.len(), kills);
        stage
    }

    fn deployment(name: &str) -> Self {
        Self::set(name, &[workload("Deployment", "web", 2, &json!({}))], &[], 1)
    }

    fn pods(&self) -> Vec<Value> {
        let mut pods = object(&["pods", "-n", &self.namespace.name]);
        pods["items"].take().as_array().cloned().unwrap_or_default()
    }

    fn uids(&self) -> Vec<String> {
        self.pods().iter().map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
    }

    /// The names of the Pods that are neither being deleted nor Ready.
    fn waiting(&self) -> Vec<String> {
        let is_waiting = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && !is_ready(pod);
        self.pods().iter().filter(is_waiting).map(name_of).collect()
    }

    fn ready(&self) -> Vec<String> {
        let counts = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod);
        self.pods().iter().filter(counts).map(name_of).collect()
    }

    fn gate(&self, pod: &str, status: &str) {
        let patch = json!({"status": {"conditions": [{"type": GATE, "status": status}]}}).to_string();
        // A Pod that is gone by now needs no gate.
        kubectl(&["-n", &self.namespace.name, "patch", "pod", pod, "--subresource=status", "-p", &patch]);
    }

    fn open_all(&self) {
        self.waiting().iter().for_each(|pod| self.gate(pod, "True"));
    }

    fn run(&self, arguments: &[&str]) {
        kubectl(&[&["-n", &self.namespace.name], arguments].concat()).succeeds();
    }

    fn status(&self) -> Value {
        self.namespace.record()["status"].take()
    }

    fn web(&self) -> String {
        format!("{}/web", self.kind)
    }

    /// Opens the gates until the record says how the recoveries ended.
    fn ends_open(&self, expected: &str) {
        self.ends(expected, || self.open_all());
    }

    /// Waits until the record says how the recoveries ended. Each kill has one outcome, and all
    /// have this one.
    fn ends(&self, expected: &str, meanwhile: impl Fn()) {
        let kills = self.victims.len();
        let status = within(Duration::from_secs(150), "the end of the recovery", || {
            meanwhile();
            let status = self.status();
            (status["pendingCount"] == 0).then_some(status)
        });
        println!("{}: {}", self.namespace.name, status["outcomes"]);
        assert_eq!((&status["kills"], &status["outcomes"]), (&json!(kills), &json!({expected: kills})));
    }

    /// Does the same by the metrics, for cases in which the record is deleted.
    fn ends_by_metrics(&self, expected: &str) {
        let here = format!("target_namespace=\"{}\"", self.namespace.name);
        let of = |name: &str, labels: &[&str]| total(&metrics(), name, &[&[here.as_str()], labels].concat());
        let outcome = format!("outcome=\"{expected}\"");
        eventually("the outcome", || (of("pure_chaos_recoveries_total", &[&outcome]) >= 1.0).then_some(()));
        println!("{}: {expected}", self.namespace.name);
        assert_eq!((of("pure_chaos_kills_total", &[]), of("pure_chaos_recoveries_total", &[])), (1.0, 1.0));
    }
}

fn name_of(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Plays all cases at once, because each one waits only for its own namespace.
fn play(cases: &[fn()]) {
    std::thread::scope(|scope| {
        let playing: Vec<_> = cases.iter().map(|case| scope.spawn(case)).collect();
        let failed = playing.into_iter().filter_map(|case| case.join().err()).next();
        if let Some(panic) = failed {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn each_kind_of_workload_recovers() {
    play(&[
        || Stage::deployment("case-deployment").ends_open("recovered"),
        || {
            let stage = Stage::set("case-stateful", &[workload("StatefulSet", "web", 2, &json!({}))], &[], 1);
            stage.ends_open("recovered");
            assert_eq!(stage.ready(), ["web-0", "web-1"], "the same name returns");
        },
        || {
            let settings = ["purechaos.dev/kinds=DaemonSet", "purechaos.dev/single-replica=allow"];
            Stage::set("case-daemon", &[workload("DaemonSet", "web", 1, &json!({}))], &settings, 1)
                .ends_open("recovered");
        },
        || {
            Stage::set("case-bare", &[workload("ReplicaSet", "web", 2, &json!({}))], &[], 1)
                .ends_open("recovered")
        },
        || {
            let two = ["web", "api"].map(|name| workload("Deployment", name, 2, &json!({})));
            Stage::set("case-two", &two, &["purechaos.dev/limit=2"], 2).ends_open("recovered");
        },
    ]);
}

#[test]
fn what_people_do_in_the_middle_is_told_apart() {
    play(&[
        || {
            let stage = Stage::deployment("case-rollout");
            let patch = r#"{"spec":{"template":{"metadata":{"annotations":{"another":"template"}}}}}"#;
            stage.run(&["patch", "deployment", "web", "-p", patch]);
            // The rollout's surge Pods become Ready.
            stage.ends_open("rolled_out");
        },
        || {
            let stage = Stage::deployment("case-up");
            stage.run(&["scale", "deployment", "web", "--replicas=4"]);
            stage.ends_open("recovered");
        },
        || {
            let stage = Stage::deployment("case-down");
            stage.run(&["scale", "deployment", "web", "--replicas=1"]);
            stage.ends("rescaled", || {});
        },
        || {
            let stage = Stage::deployment("case-workload-gone");
            stage.run(&["delete", &stage.web(), "--wait=false"]);
            stage.ends("workload_deleted", || {});
        },
        || {
            let stage = Stage::deployment("case-namespace-gone");
            kubectl(&["delete", "namespace", &stage.namespace.name, "--wait=false"]).succeeds();
            stage.ends_by_metrics("namespace_deleted");
        },
        || {
            let stage = Stage::deployment("case-opt-out");
            stage
                .namespace
                .annotate(&["chaos-", "purechaos.dev/schedule-", "purechaos.dev/min-age-"])
                .succeeds();
            stage.ends_by_metrics("opted_out");
        },
    ]);
}

#[test]
fn what_happens_to_other_pods_is_told_apart() {
    play(&[
        || {
            let stage = Stage::deployment("case-other-lost");
            let other = stage.ready().pop().expect("the Pod that was not killed");
            stage.run(&["delete", "pod", &other, "--wait=false"]);
            stage.ends("disturbed", || {});
        },
        || {
            let stage = Stage::deployment("case-other-drained");
            let other = stage.ready().pop().expect("the Pod that was not killed");
            let eviction =
                json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": other}});
            let path = format!("/api/v1/namespaces/{}/pods/{other}/eviction", stage.namespace.name);
            kubectl_with(&["create", "--raw", &path], &eviction).succeeds();
            stage.ends("disturbed", || {});
        },
        || {
            let stage = Stage::deployment("case-replacement-lost");
            let replacement = stage.waiting().pop().expect("the replacement");
            stage.run(&["delete", "pod", &replacement, "--wait=false"]);
            stage.ends("disturbed", || {});
        },
        || {
            // A Pod that stays Ready until its end and takes long to end. The agent neither counts
            // it nor waits for it.
            let slow = json!({
                "terminationGracePeriodSeconds": 40,
                "containers": [{"name": "logger", "image": "chentex/random-logger", "imagePullPolicy": "IfNotPresent",
                    "lifecycle": {"preStop": {"sleep": {"seconds": 35}}}}],
            });
            let stage = Stage::set("case-slow", &[workload("Deployment", "web", 2, &slow)], &[], 1);
            let other = stage.ready().pop().expect("the Pod that was not killed");
            stage.gate(&other, "False");
            eventually("the other Pod not to be Ready", || stage.ready().is_empty().then_some(()));
            let replacement = stage.waiting().into_iter().find(|pod| *pod != other).expect("the replacement");
            stage.gate(&replacement, "True");
            eventually("the replacement to be Ready", || {
                (stage.ready() == [replacement.clone()]).then_some(())
            });
            std::thread::sleep(TOO_EARLY);
            assert_eq!(stage.status()["pendingCount"], 1, "one Pod is Ready, and one that is going");
            let going = stage
                .pods()
                .iter()
                .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod))
                .count();
            assert_eq!(going, 1, "the victim is Ready while it goes");
            stage.ends_open("recovered");
            let going =
                stage.pods().iter().filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null()).count();
            assert_eq!(going, 1, "the victim is still there");
        },
        || {
            let stage = Stage::set(
                "case-deadline",
                &[workload("Deployment", "web", 2, &json!({}))],
                &["purechaos.dev/recovery-deadline=8s"],
                1,
            );
            stage.ends("timed_out", || {});
            assert_eq!(stage.status()["backingOff"][0]["timedOut"], 1);
        },
    ]);
}

/// A node that no kubelet runs. Its Pods have the status that the test gives them.
struct FakeNode(String);

impl FakeNode {
    fn new() -> Self {
        let name = format!("ghost-{}", std::process::id());
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"ghost": "yes"}},
            "spec": {"taints": [{"key": "ghost", "effect": "NoSchedule"}]}});
        kubectl_with(&["create"], &node).succeeds();
        let room = json!({"cpu": "4", "memory": "8Gi", "pods": "20"});
        let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}});
        kubectl(&["patch", "node", &name, "--subresource=status", "-p", &status.to_string()]).succeeds();
        Self(name)
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        kubectl(&["delete", "node", &self.0, "--ignore-not-found"]);
    }
}

#[test]
fn a_node_that_vanishes_with_another_pod_disturbs() {
    let node = FakeNode::new();
    let there = json!({"nodeSelector": {"ghost": "yes"}, "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 0});
    let namespace = Namespace::new("case-node");
    kubectl_with(&["-n", &namespace.name, "create"], &workload("Deployment", "web", 2, &there)).succeeds();
    let stage = Stage { namespace, kind: "deployment", victims: vec!["one".to_owned()] };
    // The status that a kubelet would write.
    let running = |pod: &str| {
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": GATE, "status": "True"}, {"type": "Ready", "status": "True"}]}});
        kubectl(&[
            "-n",
            &stage.namespace.name,
            "patch",
            "pod",
            pod,
            "--subresource=status",
            "-p",
            &status.to_string(),
        ]);
    };
    eventually("two Pods on the node", || {
        stage.waiting().iter().for_each(|pod| running(pod));
        let placed = stage.pods().iter().filter(|pod| pod["spec"]["nodeName"] == *node.0).count();
        (placed == 2 && stage.ready().len() == 2).then_some(())
    });
    stage.namespace.opt_in(&OFTEN);
    eventually("the kill", || (stage.status()["pendingCount"] == 1).then_some(()));
    stage.namespace.annotate(&["purechaos.dev/halt=a case"]).succeeds();
    kubectl(&["delete", "node", &node.0]).succeeds();
    stage.ends("disturbed", || {});
}
