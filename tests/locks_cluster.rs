//! The locks on a kill, each alone: the agent's account is given every right for the test, so that RBAC does not answer first.

use serde_json::Value;
use tests::cluster::{Namespace, Output, eventually, kubectl, kubectl_with, object};

const AGENT: [&str; 4] = [
    "--as=system:serviceaccount:pure-chaos:agent",
    "--as-group=system:serviceaccounts",
    "--as-group=system:serviceaccounts:pure-chaos",
    "--as-group=system:authenticated",
];

fn as_agent(arguments: &[&str]) -> Output {
    kubectl(&[&AGENT[..], arguments].concat())
}

fn evict(namespace: &str, pod: &str, dry_run: &str) -> Output {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction{dry_run}");
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}
    });
    kubectl_with(&[&AGENT[..], &["create", "--raw", &path]].concat(), &eviction)
}

/// Every way to kill, each refused in these words.
#[track_caller]
fn all_refused(namespace: &Namespace, words: &str) {
    let name = &namespace.name;
    let pods = namespace.pods();
    let pod = pods.first().expect("a Pod");
    as_agent(&["-n", name, "delete", "pod", pod]).fails_with(words);
    as_agent(&["-n", name, "delete", "pod", pod, "--dry-run=server"]).fails_with(words);
    as_agent(&["-n", name, "delete", "pod", pod, "--grace-period=0", "--force"]).fails_with(words);
    evict(name, pod, "").fails_with(words);
    evict(name, pod, "?dryRun=All").fails_with(words);
    // Without a selector kubectl deletes one by one; through --raw it is a deletecollection.
    as_agent(&["delete", "--raw", &format!("/api/v1/namespaces/{name}/pods")]).fails_with(words);
    assert_eq!(namespace.pods(), pods, "something died");
}

/// Takes an object away while `during` runs, and puts it back whatever happens.
fn without(kind: &str, name: &str, during: impl FnOnce() + std::panic::UnwindSafe) {
    let mut saved = object(&[kind, name]);
    assert_ne!(saved, Value::Null, "{kind} {name}");
    for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"] {
        saved["metadata"].as_object_mut().unwrap().remove(field);
    }
    kubectl(&["delete", kind, name]).succeeds();
    let outcome = std::panic::catch_unwind(during);
    kubectl_with(&["create"], &saved).succeeds();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn each_lock_alone_stops_every_kill() {
    let namespace = Namespace::new("locks");
    let name = namespace.name.clone();
    namespace.deployment("web", 2);
    kubectl(&[
        "-n",
        &name,
        "create",
        "rolebinding",
        "all",
        "--clusterrole=cluster-admin",
        "--serviceaccount=pure-chaos:agent",
    ])
    .succeeds();
    let not_opted_in = format!("namespace {name} is not opted in");

    // The admission policy answers first, so the webhook is heard only without it.
    all_refused(&namespace, &format!("denied request: {not_opted_in}"));
    let (subject, sentence) = (&namespace, &not_opted_in);
    without(
        "validatingadmissionpolicybinding",
        "kill.purechaos.dev",
        std::panic::AssertUnwindSafe(|| {
            eventually("the end of the admission policy", || {
                let refusal =
                    as_agent(&["-n", &subject.name, "delete", "pod", &subject.pods()[0], "--dry-run=server"])
                        .fails();
                refusal.contains("admission webhook").then_some(())
            });
            all_refused(
                subject,
                &format!("admission webhook \"kill.purechaos.dev\" denied the request: {sentence}"),
            );
        }),
    );
    eventually("the admission policy again", || {
        let refusal =
            as_agent(&["-n", &name, "delete", "pod", &namespace.pods()[0], "--dry-run=server"]).fails();
        refusal.contains("ValidatingAdmissionPolicy").then_some(())
    });
    without(
        "validatingwebhookconfiguration",
        "pure-chaos",
        std::panic::AssertUnwindSafe(|| {
            all_refused(subject, &format!("denied request: {sentence}"));
        }),
    );

    // Nobody else is held up, and consent opens both.
    kubectl(&["-n", &name, "delete", "pod", &namespace.pods()[0]]).succeeds();
    eventually("the webhook's certificate in its configuration again", || {
        namespace.annotate(&["chaos=yes", "purechaos.dev/schedule=every 12h", "--overwrite"]).ok.then_some(())
    });
    eventually("a Pod to delete", || (namespace.pods().len() == 2).then_some(()));
    let pod = &namespace.pods()[0];
    eventually("consent to open the locks", || {
        as_agent(&["-n", &name, "delete", "pod", pod, "--dry-run=server"]).ok.then_some(())
    });
    evict(&name, pod, "?dryRun=All").succeeds();

    // A halt closes them again, here and everywhere.
    kubectl(&["annotate", "namespace", &name, "purechaos.dev/halt=incident 4711"]).succeeds();
    eventually("the halt", || {
        (!as_agent(&["-n", &name, "delete", "pod", pod, "--dry-run=server"]).ok).then_some(())
    });
    all_refused(&namespace, "halt");
    kubectl(&["annotate", "namespace", &name, "purechaos.dev/halt-"]).succeeds();
    kubectl(&["annotate", "namespace", "pure-chaos", "purechaos.dev/halt=incident 4711"]).succeeds();
    let halted = eventually("the halt everywhere", || {
        let output = as_agent(&["-n", &name, "delete", "pod", pod, "--dry-run=server"]);
        (!output.ok).then_some(output.stderr)
    });
    kubectl(&["annotate", "namespace", "pure-chaos", "purechaos.dev/halt-"]).succeeds();
    assert!(halted.contains("halt"), "{halted}");
}
