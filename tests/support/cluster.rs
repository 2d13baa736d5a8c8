//! The real cluster of `make test`, used through the `kubectl` that people use.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::repository::root;

/// How long an action may take that should take a second or two. A busy machine must not fail a
/// test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The kubeconfig of the cluster that tests may break.
pub fn kubeconfig() -> String {
    std::env::var("PURE_CHAOS_TEST_KUBECONFIG")
        .expect("PURE_CHAOS_TEST_KUBECONFIG names the test cluster: use `make test`")
}

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Output {
    /// Whether the exit code was 0.
    pub ok: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Returns the standard output of a command that must have succeeded.
    #[track_caller]
    pub fn succeeds(self) -> String {
        assert!(self.ok, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Returns the standard error of a command that must have failed.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!self.ok, "it should have been refused: {}{}", self.stdout, self.stderr);
        self.stderr
    }

    /// Asserts that the command was refused in these words.
    #[track_caller]
    pub fn fails_with(self, words: &str) {
        let message = self.fails();
        assert!(message.contains(words), "expected {words:?} in: {message}");
    }
}

/// Runs `kubectl` on the test cluster.
pub fn kubectl(arguments: &[&str]) -> Output {
    run(kubectl_command().args(arguments))
}

/// Runs `kubectl … -f -` with this object as its input.
pub fn kubectl_with(arguments: &[&str], object: &Value) -> Output {
    use std::io::Write;
    let mut child = kubectl_command()
        .args(arguments)
        .args(["-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Output {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn kubectl_command() -> Command {
    let mut command = Command::new(root().join(".cluster/bin/kubectl"));
    command.args(["--kubeconfig", &kubeconfig(), "--request-timeout=30s"]);
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Output {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Reads an object as JSON; null if there is none.
pub fn object(arguments: &[&str]) -> Value {
    let output = kubectl(&[&["get", "-o", "json", "--ignore-not-found"], arguments].concat());
    serde_json::from_str(&output.succeeds()).unwrap_or(Value::Null)
}

/// Waits until `probe` gives a value. Panics after [`PATIENCE`] and names `what`.
#[track_caller]
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// Waits until `probe` gives a value. Panics after `patience` and names `what`.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        let waited = begun.elapsed();
        assert!(waited < patience, "waited {patience:?} in vain: {what}");
        // Each kubectl costs 50 ms of processor time, which other tests need.
        std::thread::sleep((waited / 8).clamp(Duration::from_millis(100), Duration::from_millis(500)));
    }
}

/// A namespace for one test. If the test fails, the drop prints the namespace's Pods, Events and
/// record. It deletes the namespace in any case.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes a namespace whose name begins with `prefix`.
    pub fn new(prefix: &str) -> Self {
        let name = format!("{prefix}-{}", std::process::id());
        kubectl(&["create", "namespace", &name]).succeeds();
        Self { name }
    }

    /// Runs `kubectl annotate namespace NAME …`, and repeats the command if a replica asks for
    /// that: each replica waits some seconds after it has seen the webhook configuration change.
    pub fn annotate(&self, annotations: &[&str]) -> Output {
        let annotate = || kubectl(&[&["annotate", "namespace", &self.name], annotations].concat());
        eventually("an answer of a replica that knows its configuration", || {
            Some(annotate()).filter(|answer| !answer.stderr.contains("try again in a few seconds"))
        })
    }

    /// Opts the namespace in, and waits until the agent has its rights.
    pub fn opt_in(&self, settings: &[&str]) {
        self.annotate(&[&["chaos=yes"], settings].concat()).succeeds();
        eventually("the RoleBinding of an opted-in namespace", || self.has_binding().then_some(()));
    }

    /// Whether the agent has its rights in this namespace.
    pub fn has_binding(&self) -> bool {
        object(&["rolebinding", "pure-chaos-agent", "-n", &self.name]) != Value::Null
    }

    /// The record; null if there is none.
    pub fn record(&self) -> Value {
        object(&["optin", "chaos", "-n", &self.name])
    }

    /// Makes a Deployment of the stand-in image and waits until its Pods are Ready.
    pub fn deployment(&self, name: &str, replicas: u32) {
        let namespace = &self.name;
        let replicas = format!("--replicas={replicas}");
        kubectl(&["-n", namespace, "create", "deployment", name, "--image=chentex/random-logger", &replicas])
            .succeeds();
        kubectl(&["-n", namespace, "rollout", "status", "deployment", name, "--timeout=60s"]).succeeds();
    }

    /// Makes a Pod that no node accepts. The Pod costs nothing, and can be deleted and evicted like
    /// any other.
    pub fn unscheduled_pod(&self, name: &str) {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"nodeSelector": {"no": "node"}, "containers": [{"name": "a", "image": "chentex/random-logger"}]}
        });
        kubectl_with(&["create"], &pod).succeeds();
    }

    /// The names of the Pods that aren't being deleted.
    pub fn pods(&self) -> Vec<String> {
        let pods = object(&["pods", "-n", &self.name]);
        let alive = pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        alive.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for what in [&["get", "pods,optins", "-o", "wide"][..], &["get", "events"]] {
                let output = kubectl(&[&["-n", &self.name], what].concat());
                eprintln!("--- kubectl {}\n{}{}", what.join(" "), output.stdout, output.stderr);
            }
            let all = ["logs", "-l", "app.kubernetes.io/name=pure-chaos", "--tail=2000", "--prefix"];
            let logs = kubectl(&[&["-n", "pure-chaos"], &all[..]].concat());
            let about_it: Vec<&str> = logs.stdout.lines().filter(|line| line.contains(&self.name)).collect();
            let newest = &about_it[about_it.len().saturating_sub(40)..];
            eprintln!("--- logs about {}\n{}", self.name, newest.join("\n"));
        }
        let deleted = kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
        if !deleted.ok {
            eprintln!("{}", deleted.stderr);
        }
    }
}

/// The agent's metrics, as Prometheus would scrape them.
pub fn metrics() -> String {
    kubectl(&["get", "--raw", "/api/v1/namespaces/pure-chaos/services/agent:metrics/proxy/metrics"])
        .succeeds()
}

/// The sum of the series of a metric with all of these labels, such as `target_namespace="a"`.
pub fn total(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let prefix = format!("{name}{{");
    let series = metrics
        .lines()
        .filter(|line| line.starts_with(&prefix) && labels.iter().all(|label| line.contains(label)));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Whether both replicas of the webhook are ready and no other Pod of the webhook exists, not even
/// one that is ending.
pub fn both_webhooks() -> Option<()> {
    let status = object(&["deployment", "webhook", "-n", "pure-chaos"])["status"].clone();
    let pods = object(&["pods", "-n", "pure-chaos", "-l", "app.kubernetes.io/component=webhook"]);
    (status["readyReplicas"] == 2 && pods["items"].as_array()?.len() == 2).then_some(())
}
