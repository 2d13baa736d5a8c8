//! What still works while the webhook doesn't.

use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubectl, kubectl_with, object};

#[test]
fn with_the_webhook_dead_only_opting_in_and_killing_stop() {
    let opted_in = Namespace::new("outage-in");
    opted_in.deployment("web", 2);
    opted_in.opt_in(&["purechaos.dev/schedule=every 12h"]);
    let other = Namespace::new("outage-out");

    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        kubectl(&["-n", "pure-chaos", "scale", "deployment", "webhook", "--replicas=0"]).succeeds();
        kubectl(&[
            "-n",
            "pure-chaos",
            "wait",
            "--for=delete",
            "pod",
            "-l",
            "app.kubernetes.io/component=webhook",
            "--timeout=60s",
        ])
        .succeeds();
        eventually("the API server to notice", || {
            (!other.annotate(&["chaos=yes", "--dry-run=server"]).ok).then_some(())
        });

        other.annotate(&["chaos=yes"]).fails_with("failed calling webhook \"opt-in.purechaos.dev\"");
        opted_in.annotate(&["purechaos.dev/limit=2"]).fails_with("failed calling webhook");
        let pod = &opted_in.pods()[0];
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", opted_in.name);
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": opted_in.name}});
        let agent =
            ["--as=system:serviceaccount:pure-chaos:agent", "--as-group=system:serviceaccounts:pure-chaos"];
        // The agent has its rights, but its kill fails.
        kubectl_with(&[&agent[..], &["create", "--raw", &path]].concat(), &eviction)
            .fails_with("failed calling webhook \"kill.purechaos.dev\"");

        kubectl(&["label", "namespace", &opted_in.name, "team=a"]).succeeds();
        other.annotate(&["colour=green"]).succeeds();
        for others in ["chaos-mesh.org/inject", "litmuschaos.io/chaos", "purestorage.com/backend"] {
            other.annotate(&[&format!("{others}=x")]).succeeds();
        }
        kubectl(&["-n", &opted_in.name, "delete", "pod", pod, "--wait=false"]).succeeds();
        opted_in.annotate(&["purechaos.dev/halt=now"]).succeeds();
        opted_in.annotate(&["chaos-", "purechaos.dev/schedule-"]).succeeds();
        kubectl(&["delete", "namespace", &other.name, "--timeout=60s"]).succeeds();
    }));
    kubectl(&["-n", "pure-chaos", "scale", "deployment", "webhook", "--replicas=2"]).succeeds();
    kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment", "webhook", "--timeout=120s"]).succeeds();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    eventually("the record to heal once the webhook is back", || {
        (opted_in.record() == Value::Null).then_some(())
    });
    assert_eq!(object(&["rolebinding", "pure-chaos-agent", "-n", &opted_in.name]), Value::Null);
}
