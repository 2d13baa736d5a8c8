//! Settings that a Pod template narrows, on a real node: the agent obeys them, and the webhook holds
//! a deletion against the narrower mode.

use serde_json::{Value, json};
use tests::audit::Mark;
use tests::cluster::{Namespace, eventually, kubectl, metrics, total};

const OFTEN: [&str; 2] = ["purechaos.dev/schedule=every 1s", "purechaos.dev/min-age=1s"];

/// Rolls out a Deployment's Pod template with these annotations.
fn narrow(namespace: &Namespace, deployment: &str, annotations: &Value) {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}).to_string();
    let name = namespace.name.as_str();
    kubectl(&["-n", name, "patch", "deployment", deployment, "-p", &patch]).succeeds();
    kubectl(&["-n", name, "rollout", "status", "deployment", deployment, "--timeout=60s"]).succeeds();
}

fn count(namespace: &Namespace, metric: &str, label: &str) -> f64 {
    total(&metrics(), metric, &[&format!("target_namespace=\"{}\"", namespace.name), label])
}

#[test]
fn a_gentler_mode_and_a_smaller_number_hold_for_the_workload() {
    let namespace = Namespace::new("narrow");
    namespace.deployment("web", 4);
    let narrower = json!({"purechaos.dev/mode": "evict", "purechaos.dev/per-workload": "1"});
    narrow(&namespace, "web", &narrower);
    let mark = Mark::now();
    let settings = ["purechaos.dev/mode=delete", "purechaos.dev/per-workload=75%", "purechaos.dev/limit=5"];
    namespace.opt_in(&[&OFTEN[..], &settings].concat());
    eventually("three recoveries", || {
        (count(&namespace, "pure_chaos_recoveries_total", "outcome=\"recovered\"") >= 3.0).then_some(())
    });
    namespace.annotate(&["purechaos.dev/halt=counting"]).succeeds();
    let kills = eventually("the end of all recoveries", || {
        let status = namespace.record()["status"].clone();
        let is_settled = status["state"] == "halted" && status["pendingCount"].as_i64().unwrap_or(0) == 0;
        is_settled.then(|| status["kills"].as_i64().unwrap())
    });
    // One Pod at a time, and each by an eviction.
    let recoveries: f64 = count(&namespace, "pure_chaos_recoveries_total", "workload=\"web\"");
    assert_eq!(
        (kills as f64, recoveries),
        (recoveries, count(&namespace, "pure_chaos_kills_total", "mode=\"evict\""))
    );
    let requests = mark.requests();
    let of_agent = requests.iter().filter(|one| one.is_kill() && one.namespace == namespace.name);
    assert!(of_agent.clone().count() >= 3 && of_agent.clone().all(|one| one.resource == "pods/eviction"));
}

#[test]
fn what_is_wider_keeps_the_pods_alive_and_says_what_to_change() {
    let namespace = Namespace::new("wider");
    namespace.deployment("web", 2);
    narrow(&namespace, "web", &json!({"purechaos.dev/recovery-deadline": "1h"}));
    let pods = namespace.pods();
    namespace.opt_in(&OFTEN);
    eventually("three refusals", || {
        (count(&namespace, "pure_chaos_refusals_total", "reason=\"not_narrower\"") >= 3.0).then_some(())
    });
    assert_eq!(namespace.pods(), pods);
    let fields = "--field-selector=reason=ChaosRefused";
    let notes =
        kubectl(&["-n", &namespace.name, "get", "events", fields, "-o", "jsonpath={.items[*].message}"]);
    let notes = notes.succeeds();
    let sentence =
        "the Pod has purechaos.dev/recovery-deadline=1h, which is longer than the namespace's, which is `5m`";
    assert!(notes.contains(sentence), "{notes}");
}
