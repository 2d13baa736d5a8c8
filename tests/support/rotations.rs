//! Certificates that live for seconds and change under load.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Namespace, eventually, kubectl, object};
use crate::load::{Load, Report};

/// How many changes the test waits for, and how often the CA changes.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// The number of changes of the serving certificate.
    pub serving: usize,
    /// The number of changes of the CA.
    pub cas: usize,
    /// How long a CA lives.
    pub ca_lifetime: &'static str,
    /// When the test gives up.
    pub deadline: Duration,
}

/// The changes that the test saw.
#[derive(Debug)]
pub struct Rotations {
    /// The number of changes of the serving certificate.
    pub serving: usize,
    /// The number of changes of the CA.
    pub cas: usize,
    /// The opt-ins during the changes.
    pub opt_ins: Report,
}

/// The usual arguments of Deployment `certs`. The drop puts them back, whatever happens in the
/// test.
struct UsualArguments(Value);

impl Drop for UsualArguments {
    fn drop(&mut self) {
        set_arguments(&self.0);
    }
}

fn set_arguments(arguments: &Value) {
    let patch =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments}]);
    kubectl(&[
        "-n",
        "pure-chaos",
        "patch",
        "deployment",
        "certs",
        "--type=json",
        "--patch",
        &patch.to_string(),
    ])
    .succeeds();
    kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment", "certs", "--timeout=120s"]).succeeds();
    // A Pod that is still ending would issue certificates by its own arguments.
    eventually("the end of the certs that was replaced", || {
        let pods = object(&["pods", "-n", "pure-chaos", "-l", "app.kubernetes.io/component=certs"]);
        (pods["items"].as_array()?.len() == 1).then_some(())
    });
}

/// Lets certificates live for 20 s (the CA a little longer), so that one is renewed about every 6
/// s. Opts in `rate` times a second until the goal is reached.
pub async fn rotate_under_load(goal: Goal, rate: u32) -> Rotations {
    let namespaces: Vec<Namespace> = (0..4).map(|n| Namespace::new(&format!("rotation-{n}"))).collect();
    let deployment = object(&["deployment", "certs", "-n", "pure-chaos"]);
    let usual = deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    let mut arguments = usual.as_array().cloned().unwrap_or_default();
    let lives =
        ["--serving-lifetime=20s", "--lookahead=14s", "--settle=3s", "--interval=1s"].map(str::to_owned);
    arguments
        .extend(lives.into_iter().chain([format!("--ca-lifetime={}", goal.ca_lifetime)]).map(Value::from));

    let load = Load::start(namespaces.iter().map(|namespace| namespace.name.clone()).collect(), rate).await;
    let (serving, cas) = tokio::task::spawn_blocking(move || {
        let _usual = UsualArguments(usual);
        set_arguments(&Value::from(arguments));
        // The existing certificates live for months. The loss of them must not be noticed either.
        kubectl(&["-n", "pure-chaos", "delete", "secret", "certs-ca", "webhook-tls"]).succeeds();
        count(goal)
    })
    .await
    .unwrap();
    // The test goes back to certificates that live for days, which is one more change.
    tokio::time::sleep(Duration::from_secs(5)).await;
    Rotations { serving, cas, opt_ins: load.stop().await }
}

/// Looks until the goal is reached. A change between two looks is missed, so no change is counted
/// twice.
fn count(goal: Goal) -> (usize, usize) {
    let (mut serving, mut cas) = (BTreeSet::new(), BTreeSet::new());
    let begun = Instant::now();
    let mut told = 0;
    loop {
        serving.extend(certificate_of("webhook-tls", "tls.crt"));
        cas.extend(certificate_of("certs-ca", "ca.crt"));
        let changes = (serving.len().saturating_sub(1), cas.len().saturating_sub(1));
        if changes.0 >= told + 10 {
            told = changes.0;
            println!(
                "{:4} s: {} rotations, {} of them with a new CA",
                begun.elapsed().as_secs(),
                changes.0,
                changes.1
            );
        }
        if (changes.0 >= goal.serving && changes.1 >= goal.cas) || begun.elapsed() > goal.deadline {
            return changes;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn certificate_of(secret: &str, key: &str) -> Option<String> {
    object(&["secret", secret, "-n", "pure-chaos"])["data"][key].as_str().map(str::to_owned)
}
