//! Checks of the steady state on a real node: a Service that answers through the API server, and a
//! real Prometheus. The platform's policy of overlay `test` defines the checks.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use policy::well_known::SYSTEM_NAMESPACE;
use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubectl, kubectl_with, metrics, object, run, total};
use tests::process::folder;

/// The namespace of the Prometheus that the policy names.
const MONITORING: &str = "steady-prometheus";

const OFTEN: [&str; 2] = ["purechaos.dev/schedule=every 1s", "purechaos.dev/min-age=1s"];

/// What the record says about the last round.
fn state(namespace: &Namespace) -> (String, String) {
    let status = namespace.record()["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let active = conditions.iter().find(|condition| condition["type"] == "Active");
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    (text(Some(&status["state"])), text(active.and_then(|active| active.get("message"))))
}

fn kills(namespace: &Namespace) -> f64 {
    total(&metrics(), "pure_chaos_kills_total", &[&format!("target_namespace=\"{}\"", namespace.name)])
}

/// Waits until rounds are refused for this reason, with these words, and nothing dies any more.
fn is_refused(namespace: &Namespace, reason: &str, words: &str) {
    let sentence = eventually(reason, || {
        let (state, sentence) = state(namespace);
        (state == reason && sentence.contains(words)).then_some(sentence)
    });
    println!("{reason}: {sentence}");
    let (before, pods) = (kills(namespace), namespace.pods());
    let refusals = || {
        let labels = [&format!("target_namespace=\"{}\"", namespace.name), &format!("reason=\"{reason}\"")];
        total(&metrics(), "pure_chaos_refusals_total", &labels.map(String::as_str))
    };
    let first = refusals();
    eventually("three more refused rounds", || (refusals() >= first + 3.0).then_some(()));
    assert_eq!((kills(namespace), namespace.pods()), (before, pods));
}

/// The number of hypotheses with this outcome.
fn hypotheses(namespace: &Namespace, outcome: &str) -> f64 {
    let labels = [
        &format!("target_namespace=\"{}\"", namespace.name),
        "check=\"web-answers\"",
        &format!("outcome=\"{outcome}\""),
    ];
    total(&metrics(), "pure_chaos_hypotheses_total", &labels)
}

/// Waits for one more kill.
fn kills_again(namespace: &Namespace) {
    let before = kills(namespace);
    eventually("another kill", || (kills(namespace) > before).then_some(()));
}

/// Changes something while no recovery is pending. A check that breaks during a recovery would make
/// the workload rest.
fn between_recoveries(namespace: &Namespace, change: impl FnOnce()) {
    namespace.annotate(&["purechaos.dev/halt=a change of the checks"]).succeeds();
    eventually("no pending recovery", || {
        let status = namespace.record()["status"].clone();
        (status["state"] == "halted" && status["pendingCount"].as_i64().unwrap_or(0) == 0).then_some(())
    });
    change();
    namespace.annotate(&["purechaos.dev/halt-"]).succeeds();
}

/// A Deployment whose Pod runs a command of busybox that listens on a port. Only the checks may end
/// the Pod.
fn deployment(namespace: &str, name: &str, command: &[&str], port: u16) -> Value {
    let labels = json!({"app": name});
    let command = [&["/busybox"], command].concat();
    let container = json!({
        "name": "a", "image": "chentex/random-logger",
        "command": command,
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1}
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"purechaos.dev/exclude": "true"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}
            }
        }
    })
}

/// A Service before the Pods of a Deployment.
fn service(namespace: &str, name: &str, deployment: &str, port: u16, target: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": deployment}, "ports": [{"port": port, "targetPort": target}]}
    })
}

fn is_rolled_out(namespace: &str, deployment: &str) {
    kubectl(&["-n", namespace, "rollout", "status", "deployment", deployment, "--timeout=60s"]).succeeds();
}

#[test]
fn a_service_that_does_not_answer_keeps_everything_alive() {
    let namespace = Namespace::new("steady-http");
    namespace.deployment("web", 3);
    let name = &namespace.name;
    let command = ["httpd", "-f", "-p", "8080", "-h", "/"];
    kubectl_with(&["create"], &deployment(name, "server", &command, 8080)).succeeds();
    kubectl_with(&["create"], &service(name, "web", "server", 80, 8080)).succeeds();
    is_rolled_out(name, "server");
    let checks = ["purechaos.dev/steady-state=web-answers"];
    namespace.opt_in(&[&OFTEN[..], &checks].concat());
    kills_again(&namespace);
    eventually("a hypothesis that held", || (hypotheses(&namespace, "held") >= 1.0).then_some(()));
    let scale = |replicas: u32| {
        let replicas = format!("--replicas={replicas}");
        kubectl(&["-n", &namespace.name, "scale", "deployment", "server", &replicas]).succeeds();
    };
    between_recoveries(&namespace, || scale(0));
    is_refused(
        &namespace,
        "not_steady",
        "check `web-answers` does not hold: no endpoints available for service",
    );
    scale(1);
    kills_again(&namespace);
}

/// The Service has one Pod. Its kill breaks the check until the replacement is Ready.
#[test]
fn a_check_that_a_kill_breaks_is_told_with_its_time() {
    let namespace = Namespace::new("steady-broken");
    let name = &namespace.name;
    let command = ["httpd", "-f", "-p", "8080", "-h", "/"];
    let mut server = deployment(name, "server", &command, 8080);
    server["spec"]["template"]["metadata"]["annotations"] = json!({});
    server["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["initialDelaySeconds"] = json!(3);
    kubectl_with(&["create"], &server).succeeds();
    kubectl_with(&["create"], &service(name, "web", "server", 80, 8080)).succeeds();
    is_rolled_out(name, "server");
    let checks = ["purechaos.dev/steady-state=web-answers", "purechaos.dev/single-replica=allow"];
    namespace.opt_in(&[&OFTEN[..], &checks].concat());
    eventually("a broken hypothesis", || (hypotheses(&namespace, "broken") >= 1.0).then_some(()));
    let fields = "--field-selector=reason=ChaosHypothesisBroken";
    let note = eventually("its Event", || {
        let events = kubectl(&["-n", name, "get", "events", fields, "-o", "jsonpath={.items[*].message}"]);
        Some(events.succeeds()).filter(|note| !note.is_empty())
    });
    println!("{note}");
    let (before, after) = note.split_once(" s after the kill of Pod server-").unwrap();
    let seconds: f64 = before.strip_prefix("Check `web-answers` broke ").unwrap().parse().unwrap();
    assert!((0.0..4.0).contains(&seconds), "{note}");
    assert!(after.contains(" of Deployment server: no endpoints available for service"), "{note}");
    let counts = namespace.record()["status"]["hypotheses"][0].clone();
    assert_eq!((&counts["check"], &counts["broken"]), (&json!("web-answers"), &json!(1)));
    assert_eq!(counts["lastBroken"]["workload"]["name"], "server");
    eventually("a workload that rests", || (state(&namespace).0.contains("backing_off")).then_some(()));
    assert_eq!(kills(&namespace), 1.0);
}

/// A Prometheus on the host. The API server's proxy only reaches Pods, so a Pod forwards to it.
struct Prometheus {
    child: Child,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts it, and grants the agent the right to ask it.
    fn start() -> Self {
        let server = kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]);
        let server = server.succeeds();
        let node = server.trim_start_matches("https://").rsplit_once(':').unwrap().0;
        let host = format!("{}.1", node.rsplit_once('.').unwrap().0);
        let port = std::net::TcpListener::bind((host.as_str(), 0)).unwrap().local_addr().unwrap().port();
        let folder = folder("steady-prometheus");
        let config = json!({"global": {"evaluation_interval": "1s"}, "rule_files": ["rules.json"]});
        fs::write(folder.join("prometheus.yml"), config.to_string()).unwrap();
        fs::write(folder.join("rules.json"), json!({"groups": []}).to_string()).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={host}:{port}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        kubectl(&["create", "namespace", MONITORING]).succeeds();
        let metadata = |name: &str| json!({"name": name, "namespace": MONITORING});
        for object in [
            deployment(
                MONITORING,
                "prometheus",
                &["nc", "-ll", "-p", "9090", "-e", "/busybox", "nc", &host, &port.to_string()],
                9090,
            ),
            service(MONITORING, "prometheus", "prometheus", 9090, 9090),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata("steady-state"),
                "rules": [{
                    "apiGroups": [""], "resources": ["services/proxy"], "resourceNames": ["prometheus:9090"],
                    "verbs": ["get"]
                }]
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": metadata("steady-state"),
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "steady-state"},
                "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": SYSTEM_NAMESPACE}]
            }),
        ] {
            kubectl_with(&["create"], &object).succeeds();
        }
        is_rolled_out(MONITORING, "prometheus");
        Self { child, folder }
    }

    /// Whether an alert fires.
    fn fires(&self) -> bool {
        let query =
            "/api/v1/namespaces/steady-prometheus/services/prometheus:9090/proxy/api/v1/query?query=ALERTS";
        kubectl(&["get", "--raw", query]).stdout.contains("firing")
    }

    /// Lets an alert with label `namespace` fire, or none.
    fn alert(&self, namespace: Option<&str>) {
        let rule =
            |namespace| json!({"alert": "Mine", "expr": "vector(1)", "labels": {"namespace": namespace}});
        let rules: Vec<Value> = namespace.map(rule).into_iter().collect();
        let groups: Vec<Value> =
            if rules.is_empty() { Vec::new() } else { vec![json!({"name": "mine", "rules": rules})] };
        fs::write(self.folder.join("rules.json"), json!({"groups": groups}).to_string()).unwrap();
        let id = self.child.id().to_string();
        assert!(run(Command::new("kill").args(["-HUP", &id])).ok);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        kubectl(&["delete", "namespace", MONITORING, "--wait=false"]);
        fs::remove_dir_all(&self.folder).ok();
    }
}

#[test]
fn an_alert_that_fires_and_a_dead_prometheus_keep_everything_alive() {
    let namespace = Namespace::new("steady-query");
    namespace.deployment("web", 3);
    let checks = ["purechaos.dev/steady-state=no-alert"];
    let mut prometheus = Prometheus::start();
    namespace.opt_in(&[&OFTEN[..], &checks].concat());
    kills_again(&namespace);
    prometheus.alert(Some("another"));
    kills_again(&namespace);
    between_recoveries(&namespace, || {
        prometheus.alert(Some(&namespace.name));
        // Until the rule has been evaluated.
        eventually("the alert", || prometheus.fires().then_some(()));
    });
    is_refused(
        &namespace,
        "not_steady",
        "check `no-alert` does not hold: the result of its expression is empty",
    );
    prometheus.alert(None);
    kills_again(&namespace);
    prometheus.child.kill().unwrap();
    is_refused(&namespace, "steady_state_unknown", "check `no-alert` has no answer");
}

#[test]
fn a_check_that_nobody_defined_is_refused() {
    let namespace = Namespace::new("steady-unknown");
    namespace.annotate(&["chaos=yes", "purechaos.dev/steady-state=no-alerts"]).fails_with(
        "the platform's policy defines no check `no-alerts`; it defines `no-alert`, `web-answers`",
    );
    assert_eq!(object(&["optin", "chaos", "-n", &namespace.name]), Value::Null);
}
