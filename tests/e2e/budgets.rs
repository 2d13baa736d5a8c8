//! PodDisruptionBudgets on a real API server. The agent reports what they refuse, and refusals cost
//! a team next to nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::audit::{Mark, Request};
use tests::cluster::{Namespace, PATIENCE, eventually, kubeconfig, kubectl, metrics, object, total, within};

const OFTEN: [&str; 2] = ["purechaos.dev/schedule=every 1s", "purechaos.dev/min-age=1s"];

/// How long the test watches the charges in a PodDisruptionBudget. The API server keeps a charge
/// for two minutes.
const WINDOW: Duration = Duration::from_secs(60);

fn budget(namespace: &Namespace, name: &str, rule: &str) {
    let selector = "--selector=app=web";
    kubectl(&["-n", &namespace.name, "create", "poddisruptionbudget", name, selector, rule]).succeeds();
    eventually("the budget's status", || {
        let budget = object(&["poddisruptionbudget", name, "-n", &namespace.name]);
        (budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
            && budget["status"]["expectedPods"] != 0)
            .then_some(())
    });
}

fn rounds(namespace: &Namespace, metric: &str, label: &str) -> f64 {
    total(&metrics(), metric, &[&format!("target_namespace=\"{}\"", namespace.name), label])
}

fn sentence(namespace: &Namespace) -> String {
    let record = namespace.record();
    let conditions = record["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let active = conditions.iter().find(|condition| condition["type"] == "Active");
    active.and_then(|condition| condition["message"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn a_budget_that_allows_nothing_refuses_and_is_not_charged() {
    let namespace = Namespace::new("blocked");
    namespace.deployment("web", 3);
    budget(&namespace, "all", "--min-available=3");
    let pods = namespace.pods();
    let mark = Mark::now();
    namespace.opt_in(&OFTEN);
    eventually("several refusals", || {
        (rounds(&namespace, "pure_chaos_refusals_total", "reason=\"blocked_by_pdb\"") >= 3.0).then_some(())
    });
    assert_eq!(namespace.record()["status"]["state"], "blocked_by_pdb");
    let budget = object(&["poddisruptionbudget", "all", "-n", &namespace.name]);
    assert_eq!((&budget["status"]["disruptedPods"], namespace.pods()), (&Value::Null, pods));
    // The status of the PodDisruptionBudget says that it allows nothing, so the agent doesn't send
    // an eviction.
    assert_eq!(
        mark.requests().iter().filter(|one| one.is_kill() && one.namespace == namespace.name).count(),
        0
    );
}

#[test]
fn two_budgets_on_one_pod_have_a_sentence_of_their_own() {
    let namespace = Namespace::new("twice");
    namespace.deployment("web", 3);
    budget(&namespace, "one", "--min-available=1");
    budget(&namespace, "two", "--min-available=1");
    let pods = namespace.pods();
    namespace.opt_in(&OFTEN);
    // The first try may meet a change. Then its workload rests for two minutes.
    within(PATIENCE * 4, "a failure", || {
        let failures = rounds(&namespace, "pure_chaos_kill_failures_total", "reason=\"pdb_misconfigured\"");
        (failures >= 1.0).then_some(())
    });
    let sentence = eventually("the sentence", || {
        Some(sentence(&namespace)).filter(|text| text.contains("PodDisruptionBudget"))
    });
    println!("{sentence}");
    assert!(sentence.contains("more than one PodDisruptionBudget"), "{sentence}");
    assert!(
        sentence.ends_with("Remove all but one: until then, nobody can evict the Pod or drain its node."),
        "{sentence}"
    );
    assert_eq!(namespace.pods(), pods);
}

/// Changes each Pod as fast as the API server allows, until told to stop. Counts the changes.
fn flap(namespace: &str, pods: &[String], stop: &AtomicBool, changes: &AtomicUsize) {
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::{Patch, PatchParams};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        runtime::process::install_tls_provider().ok();
        let client = runtime::client::connect(Some(kubeconfig().as_ref())).await.unwrap();
        let api: Api<Pod> = Api::namespaced(client, namespace);
        let flapping = pods.iter().map(async |pod| {
            while !stop.load(Ordering::Relaxed) {
                let count = changes.fetch_add(1, Ordering::Relaxed);
                let patch = json!({"metadata": {"annotations": {"flap": count.to_string()}}});
                // If the agent killed the Pod after all, the Pod can't be changed.
                if api.patch(pod, &PatchParams::default(), &Patch::Merge(&patch)).await.is_err() {
                    break;
                }
            }
        });
        futures::future::join_all(flapping).await;
    });
}

#[test]
fn however_its_pods_flap_a_budget_is_charged_once_in_two_minutes() {
    let namespace = Namespace::new("flapping");
    namespace.deployment("web", 4);
    budget(&namespace, "most", "--max-unavailable=3");
    let pods = namespace.pods();
    let (stop, changes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mark = Mark::now();
    let charged = std::thread::scope(|scope| {
        scope.spawn(|| flap(&namespace.name, &pods, &stop, &changes));
        namespace.opt_in(&OFTEN);
        let refused = within(Duration::from_secs(120), "an eviction that met a change", || {
            let refused = rounds(&namespace, "pure_chaos_refusals_total", "reason=\"changed\"");
            // If the eviction was faster than the change, a recovery follows, and then another try.
            (refused >= 1.0).then_some(Instant::now())
        });
        // The charges now, before the disruption controller finds that no Pod went.
        let mut most = 0;
        while refused.elapsed() < WINDOW {
            let budget = object(&["poddisruptionbudget", "most", "-n", &namespace.name]);
            most = most.max(budget["status"]["disruptedPods"].as_object().map_or(0, |pods| pods.len()));
            std::thread::sleep(Duration::from_millis(200));
        }
        stop.store(true, Ordering::Relaxed);
        most
    });
    let is_ours = |request: &Request| request.is_kill() && request.namespace == namespace.name;
    let kills: Vec<Request> = mark.requests().into_iter().filter(is_ours).collect();
    let refused: Vec<_> = kills.iter().filter(|kill| kill.code == 409).collect();
    let rounds = rounds(&namespace, "pure_chaos_rounds_total", "outcome=\"refused\"");
    println!(
        "{} changes, {} evictions, {} of them met a change; the budget was charged with {charged} at once; {rounds} rounds refused",
        changes.load(Ordering::Relaxed),
        kills.len(),
        refused.len()
    );
    assert_eq!(refused.len(), 1, "one try, and then two minutes' rest: {refused:?}");
    assert!(charged <= 1, "{charged}");
    let last = refused[0].received;
    assert!(kills.iter().all(|kill| kill.received <= last), "nothing after it: {kills:?}");
}
