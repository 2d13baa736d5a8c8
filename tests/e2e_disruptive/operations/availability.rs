//! The webhook's replicas come and go, and every opt-in still succeeds.

use std::time::Duration;

use tests::cluster::{Namespace, both_webhooks, eventually, kubectl, object};
use tests::load::Load;

const RATE: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_and_a_drained_replica_lose_no_opt_in() {
    let namespaces: Vec<Namespace> = (0..4).map(|n| Namespace::new(&format!("load-{n}"))).collect();
    eventually("both replicas", both_webhooks);
    let load = Load::start(namespaces.iter().map(|namespace| namespace.name.clone()).collect(), RATE).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let changes = tokio::task::spawn_blocking(|| {
        kubectl(&["-n", "pure-chaos", "rollout", "restart", "deployment/webhook"]).succeeds();
        kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment/webhook", "--timeout=120s"])
            .succeeds();
        eventually("the end of the old replicas", both_webhooks);
        let pods = object(&["pods", "-n", "pure-chaos", "-l", "app.kubernetes.io/component=webhook"]);
        let name = pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
        kubectl(&["-n", "pure-chaos", "delete", "pod", &name]).succeeds();
        eventually("the replica that replaces it", both_webhooks);
    });
    changes.await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = load.stop().await;
    println!("rolling restart and a deleted replica under {RATE} opt-ins a second: {}", report.line());
    assert!(report.admitted > 1_000, "{}", report.line());
    assert_eq!(report.failures(), 0, "{:#?}", report.failed);
}
