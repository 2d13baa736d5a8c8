//! Upgrades from the first version to this one, as people do it, and then removes everything.

use std::process::Command;
use std::time::Duration;

use tests::cluster::{Namespace, both_webhooks, eventually, kubectl, object, run, within};
use tests::load::Load;
use tests::manifests::{eventually_nothing_is_ours, registry, script};
use tests::repository::root;

const RATE: u32 = 20;

fn install_the_first_version() {
    let mut build = Command::new(root().join("tests/first-version.sh"));
    run(build.env("REGISTRY", registry())).succeeds();
    let manifests = root().join("target/first-version/manifests");
    kubectl(&["apply", "-k", manifests.to_str().unwrap()]).succeeds();
    for part in ["certs", "webhook", "agent"] {
        let deployment = format!("deployment/{part}");
        kubectl(&["-n", "pure-chaos", "rollout", "status", "--timeout=120s", &deployment]).succeeds();
    }
    eventually("the first version's webhook", || {
        let asked = kubectl(&["annotate", "namespace", "pure-chaos", "chaos=yes", "--dry-run=server"]);
        asked.stderr.contains("admission webhook \"opt-in.purechaos.dev\" denied the request").then_some(())
    });
}

fn kills(namespace: &Namespace) -> i64 {
    namespace.record()["status"]["kills"].as_i64().unwrap_or(0)
}

/// Whether this clone has the history that the test builds the first version from.
fn has_history() -> bool {
    run(Command::new(root().join("tests/first-version.sh")).arg("--check")).ok
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_first_version_to_this_one_and_away() {
    if !has_history() {
        println!(
            "SKIPPED: this clone lacks the history with the first version; git fetch --unshallow brings it"
        );
        return;
    }
    let (namespace, other, before) = tokio::task::spawn_blocking(|| {
        script("manifests/undeploy.sh");
        install_the_first_version();
        let namespace = Namespace::new("upgrade");
        namespace.deployment("web", 2);
        namespace.opt_in(&[
            "purechaos.dev/schedule=every 3s",
            "purechaos.dev/min-age=1s",
            "purechaos.dev/mode=delete",
        ]);
        eventually("a kill by the first version", || (kills(&namespace) > 0).then_some(()));
        let before = object(&["namespace", &namespace.name])["metadata"].clone();
        (namespace, Namespace::new("meanwhile"), before)
    })
    .await
    .unwrap();

    let load = Load::start(vec![other.name.clone()], RATE).await;
    tokio::task::spawn_blocking(|| script("manifests/deploy.sh")).await.unwrap();
    let report = load.stop().await;
    println!("upgrade under {RATE} opt-ins a second: {}", report.line());
    // The first version's webhook knows no path. Opt-ins fail until this version's webhook has
    // taken over, and none passes without a review.
    let is_failed_call = |why: &String| why.contains("failed calling webhook");
    assert!(report.admitted > 0 && report.failed.keys().all(is_failed_call), "{:#?}", report.failed);

    tokio::task::spawn_blocking(move || {
        // This version also ignores what the old replicas admit in their last seconds.
        eventually("the end of the first version's replicas", both_webhooks);
        // The first version did not note which request set the annotations, and the webhook doesn't
        // guess consent.
        let reason = eventually("the verdict on an opt-in of the first version", || {
            let spec = namespace.record()["spec"].clone();
            (spec["verdict"] == "NotAdmitted").then(|| spec["reason"].as_str().unwrap_or_default().to_owned())
        });
        assert!(reason.contains("remove the annotation and set it again"), "{reason}");
        let known = kills(&namespace);
        assert!(known > 0, "the record has kept what it counted");
        namespace.annotate(&["chaos-"]).succeeds();
        namespace.opt_in(&[]);
        let known = kills(&namespace);
        within(Duration::from_secs(120), "a kill by this version", || {
            (kills(&namespace) > known).then_some(())
        });

        script("manifests/undeploy.sh");
        eventually_nothing_is_ours();
        let after = object(&["namespace", &namespace.name])["metadata"].clone();
        for key in ["uid", "annotations", "labels", "finalizers"] {
            assert_eq!(after[key], before[key], "{key}");
        }
        script("manifests/deploy.sh");
    })
    .await
    .unwrap();
}
