//! Component opt-in-role, tried as the owner whom it is for: chaos annotations and nothing else, through all three namespace resources.

use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, eventually, kubectl, kubectl_with, object};
use tests::repository::root;

const OWNER: &str = "--as=olivia";

fn component(verb: &[&str]) {
    let folder = root().join("manifests/components/opt-in-role");
    for file in ["role.yaml", "policy.yaml"] {
        kubectl(&[verb, &["-f", folder.join(file).to_str().unwrap()]].concat()).succeeds();
    }
}

/// As `kubectl annotate`, by the owner.
fn annotate(namespace: &Namespace, annotations: &[&str]) -> Output {
    kubectl(&[&["annotate", OWNER, "--overwrite", "namespace", &namespace.name], annotations].concat())
}

fn patch(namespace: &Namespace, flag: Option<&str>, patch: &Value) -> Output {
    let patch = patch.to_string();
    let mut arguments = vec!["patch", OWNER, "namespace", &namespace.name, "--type=merge", "-p", &patch];
    arguments.extend(flag);
    kubectl(&arguments)
}

#[test]
fn owners_change_chaos_annotations_and_nothing_else() {
    let (namespace, other) = (Namespace::new("owned"), Namespace::new("another"));
    let name = namespace.name.as_str();
    let bind = |role: &str| {
        let clusterrole = format!("--clusterrole={role}");
        kubectl(&["-n", name, "create", "rolebinding", role, &clusterrole, "--user=olivia"]).succeeds();
    };
    // Why it is needed: an admin of a namespace may do everything in it, and nothing to it.
    bind("admin");
    annotate(&namespace, &["chaos=yes"]).fails_with("cannot patch resource \"namespaces\"");

    component(&["apply"]);
    bind("pure-chaos-opt-in");
    // A policy is enforced some time after it was made.
    let labelled = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    eventually("the policy", || {
        let output = patch(&namespace, Some("--dry-run=server"), &labelled);
        output.stderr.contains("is for its chaos annotations").then_some(())
    });
    annotate(&namespace, &["chaos=yes", "purechaos.dev/schedule=every 12h"]).succeeds();
    eventually("the record", || namespace.has_binding().then_some(()));
    annotate(&namespace, &["purechaos.dev/halt=lunch"]).succeeds();
    annotate(&namespace, &["purechaos.dev/halt-", "purechaos.dev/schedule-"]).succeeds();
    annotate(&namespace, &["chaos=Yes"]).fails_with("write `yes` to opt in");

    for (subject, change, words) in [
        ("a label", labelled.clone(), "and for nothing else of it"),
        (
            "another annotation",
            json!({"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/node-selector": "a=b"}}}),
            "not for scheduler.alpha.kubernetes.io/node-selector",
        ),
        (
            "both at once",
            json!({"metadata": {"annotations": {"chaos": null, "team": "mine"}}}),
            "not for team",
        ),
        (
            "an owner",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}]}}),
            "and for nothing else of it",
        ),
        (
            "a finalizer",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            "and for nothing else of it",
        ),
    ] {
        let output = patch(&namespace, None, &change);
        assert!(!output.ok && output.stderr.contains(words), "{subject}: {output:?}");
    }
    // What the role doesn't give it doesn't give.
    let through = json!({"metadata": {"annotations": {"chaos": "yes"}}});
    patch(&namespace, Some("--subresource=status"), &through)
        .fails_with("cannot patch resource \"namespaces/status\"");
    let mut whole = object(&["namespace", name]);
    whole["spec"]["finalizers"] = json!([]);
    let path = format!("/api/v1/namespaces/{name}/finalize");
    kubectl_with(&["replace", OWNER, "--raw", &path], &whole).fails_with("namespaces/finalize");
    annotate(&other, &["chaos=yes"]).fails_with("cannot get resource \"namespaces\"");
    kubectl(&["delete", OWNER, "namespace", name]).fails_with("cannot delete resource \"namespaces\"");

    // Nobody else is held by it: who may update a Namespace has the right from elsewhere.
    kubectl(&["label", "namespace", name, "team=theirs"]).succeeds();
    annotate(&namespace, &["chaos-"]).succeeds();
    component(&["delete"]);
    annotate(&namespace, &["chaos=yes"]).fails_with("cannot patch resource \"namespaces\"");
}
