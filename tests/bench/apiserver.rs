//! What the webhook costs an API server and its callers: the same annotate with and without a chaos
//! key, so with and without a call to the webhook. Needs `PURE_CHAOS_TEST_KUBECONFIG`.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace as Object;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tests::cluster::{Namespace, kubeconfig, kubectl};

const ANNOTATES: usize = 500;

/// Measures, and prints the table.
pub async fn run() {
    let namespace = Namespace::new("bench");
    let kubeconfig = Kubeconfig::read_from(kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let api: Api<Object> = Api::all(kube::Client::try_from(config).unwrap());
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let before = admission();
    // The two alternate, so that other work on the machine affects both.
    for _ in 0..ANNOTATES {
        without.push(annotate(&api, &namespace.name, "team").await);
        with.push(annotate(&api, &namespace.name, "chaos").await);
    }
    let after = admission();
    let (count, seconds) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(count, ANNOTATES as f64, "each of them was reviewed, and only they");
    let [a, b] = [&mut without, &mut with].map(|times| {
        times.sort_unstable();
        [times[ANNOTATES / 2], times[ANNOTATES * 99 / 100]].map(|time| time.as_secs_f64() * 1e3)
    });
    println!();
    println!("annotate through the API server, {ANNOTATES} each     p50 ms     p99 ms");
    println!("  another key, the webhook is not asked     {:>10.2} {:>10.2}", a[0], a[1]);
    println!("  chaos=yes, the webhook is asked           {:>10.2} {:>10.2}", b[0], b[1]);
    println!("  ratio                                     {:>10.2} {:>10.2}", b[0] / a[0], b[1] / a[1]);
    println!("  of which the API server waited for the webhook, mean {:.2} ms", seconds / count * 1e3);
    println!(
        "It includes the webhook's own question to the API server, whether the user may delete Pods there."
    );
}

async fn annotate(api: &Api<Object>, name: &str, key: &str) -> Duration {
    let patch = json!({"metadata": {"annotations": {key: "yes"}}});
    let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
    let begun = Instant::now();
    api.patch(name, &parameters, &Patch::Merge(patch)).await.unwrap();
    begun.elapsed()
}

/// How often and how long the API server has waited for the opt-in rule.
fn admission() -> (f64, f64) {
    let metrics = kubectl(&["get", "--raw", "/metrics"]).succeeds();
    let of = |what: &str| {
        let prefix = format!("apiserver_admission_webhook_admission_duration_seconds_{what}{{");
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with(&prefix) && line.contains("\"opt-in.purechaos.dev\""));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    (of("count"), of("sum"))
}
