//! Component opt-in-role, tried as the owner of a namespace. It allows chaos annotations and
//! nothing else, through all three namespace resources, and whatever roles the owner makes of the
//! right.

use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, eventually, kubectl, kubectl_with, object};
use tests::repository::root;

const OLIVIA: &str = "--as=olivia";
const REFUSED: &str = "covers only its chaos annotations";

/// The component on the cluster, until this value is dropped.
struct Component;

impl Component {
    fn new() -> Self {
        Self::kubectl("apply").succeeds();
        Self
    }

    fn kubectl(verb: &str) -> Output {
        let folder = root().join("manifests/components/opt-in-role");
        let files = ["role.yaml", "policy.yaml"].map(|file| folder.join(file).display().to_string());
        kubectl(&[verb, "-f", &files[0], "-f", &files[1]])
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        Self::kubectl("delete");
    }
}

/// A namespace whose owner is Olivia. She has all rights inside it, and one right to the Namespace
/// object, by the component's role.
fn owned(name: &str) -> Namespace {
    let namespace = Namespace::new(name);
    bind(&namespace, "admin", "clusterrole=admin", "user=olivia");
    bind(&namespace, "opt-in", "clusterrole=pure-chaos-opt-in", "user=olivia");
    // The API server enforces a policy some time after it was made.
    eventually("the policy", || {
        let output = patch(&namespace, OLIVIA, &["--dry-run=server"], &labelled());
        output.stderr.contains(REFUSED).then_some(())
    });
    namespace
}

fn bind(namespace: &Namespace, name: &str, role: &str, subject: &str) {
    let (role, subject) = (format!("--{role}"), format!("--{subject}"));
    kubectl(&["-n", &namespace.name, "create", "rolebinding", name, &role, &subject]).succeeds();
}

/// Runs `kubectl annotate` as the owner.
fn annotate(namespace: &Namespace, annotations: &[&str]) -> Output {
    kubectl(&[&["annotate", OLIVIA, "--overwrite", "namespace", &namespace.name], annotations].concat())
}

fn patch(namespace: &Namespace, who: &str, flags: &[&str], patch: &Value) -> Output {
    let patch = patch.to_string();
    kubectl(&[&["patch", who, "namespace", &namespace.name, "--type=merge", "-p", &patch], flags].concat())
}

/// Sends a PUT of the whole Namespace, after `change`.
fn put(namespace: &Namespace, who: &str, subresource: &str, change: impl Fn(&mut Value)) -> Output {
    let mut whole = object(&["namespace", &namespace.name]);
    change(&mut whole);
    let path = format!("/api/v1/namespaces/{}{subresource}", namespace.name);
    kubectl_with(&["replace", who, "--raw", &path], &whole)
}

fn labelled() -> Value {
    json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}})
}

fn chaos(value: &Value) -> Value {
    json!({"metadata": {"annotations": {"chaos": value}}})
}

#[test]
fn owners_change_chaos_annotations_and_nothing_else() {
    let other = Namespace::new("another");
    // Why the component is needed: an admin of a namespace may do everything inside it, and nothing
    // to the Namespace object.
    bind(&other, "admin", "clusterrole=admin", "user=olivia");
    annotate(&other, &["chaos=yes"]).fails_with("cannot patch resource \"namespaces\"");

    let component = Component::new();
    let namespace = owned("owned");
    let name = namespace.name.as_str();
    annotate(&namespace, &["chaos=yes", "purechaos.dev/schedule=every 12h"]).succeeds();
    eventually("the record", || namespace.has_binding().then_some(()));
    annotate(&namespace, &["purechaos.dev/halt=lunch"]).succeeds();
    annotate(&namespace, &["purechaos.dev/halt-", "purechaos.dev/schedule-"]).succeeds();
    annotate(&namespace, &["chaos=Yes"]).fails_with("write `yes` to opt in");

    for (subject, change, words) in [
        ("a label", labelled(), "not its other fields"),
        (
            "another annotation",
            json!({"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/node-selector": "a=b"}}}),
            "annotations, not scheduler.alpha.kubernetes.io/node-selector",
        ),
        (
            "both at once",
            json!({"metadata": {"annotations": {"chaos": null, "team": "mine"}}}),
            "annotations, not team",
        ),
        (
            "an owner",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}]}}),
            "not its other fields",
        ),
        ("a finalizer", json!({"metadata": {"finalizers": ["example.com/mine"]}}), "not its other fields"),
    ] {
        let output = patch(&namespace, OLIVIA, &[], &change);
        assert!(!output.ok && output.stderr.contains(words), "{subject}: {output:?}");
    }
    let applied = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": {"chaos": "yes"}},
    });
    kubectl_with(&["apply", OLIVIA], &applied)
        .fails_with("annotations, not kubectl.kubernetes.io/last-applied-configuration");
    kubectl_with(&["apply", OLIVIA, "--server-side", "--force-conflicts"], &applied).succeeds();

    // The role gives no other right.
    patch(&namespace, OLIVIA, &["--subresource=status"], &chaos(&json!("yes")))
        .fails_with("cannot patch resource \"namespaces/status\"");
    put(&namespace, OLIVIA, "/finalize", |_| ()).fails_with("cannot update resource \"namespaces/finalize\"");
    put(&namespace, OLIVIA, "", |_| ()).fails_with("cannot update resource \"namespaces\"");
    annotate(&other, &["chaos=yes"]).fails_with("cannot patch resource \"namespaces\"");
    kubectl(&["delete", OLIVIA, "namespace", name]).fails_with("cannot delete resource \"namespaces\"");

    drop(component);
    eventually("the end of the right", || {
        annotate(&namespace, &["chaos-", "--dry-run=server"])
            .stderr
            .contains("cannot patch resource \"namespaces\"")
            .then_some(())
    });
}

#[test]
fn the_other_resources_of_a_namespace_lead_nowhere_else() {
    let _component = Component::new();
    let namespace = owned("subresources");
    // Somebody might make this role and think that it gives the same right.
    let role =
        ["create", "role", "more", "--verb=patch,update", "--resource=namespaces/status,namespaces/finalize"];
    kubectl(&[&["-n", &namespace.name], &role[..]].concat()).succeeds();
    bind(&namespace, "more", "role=more", "user=olivia");

    let status = ["--subresource=status"];
    eventually("the right to the status", || {
        patch(&namespace, OLIVIA, &status, &chaos(&json!("yes"))).ok.then_some(())
    });
    patch(&namespace, OLIVIA, &status, &labelled()).fails_with(REFUSED);
    let condition = json!({"status": {"conditions": [{"type": "Mine", "status": "True"}]}});
    patch(&namespace, OLIVIA, &status, &condition).fails_with(REFUSED);
    put(&namespace, OLIVIA, "/status", |whole| whole["metadata"]["labels"]["team"] = json!("mine"))
        .fails_with(REFUSED);

    put(&namespace, OLIVIA, "/finalize", |whole| {
        whole["metadata"]["annotations"].as_object_mut().unwrap().remove("chaos");
    })
    .succeeds();
    put(&namespace, OLIVIA, "/finalize", |whole| whole["metadata"]["labels"]["team"] = json!("mine"))
        .fails_with(REFUSED);
    put(&namespace, OLIVIA, "/finalize", |whole| whole["spec"]["finalizers"] = json!([])).fails_with(REFUSED);
}

#[test]
fn no_role_of_the_owners_making_frees_anybody() {
    let _component = Component::new();
    let namespace = owned("escapes");
    let name = namespace.name.as_str();
    // The API server lets Olivia hand on what she has, as a role without our name.
    let olivia = |arguments: &[&str]| kubectl(&[&["-n", name, OLIVIA], arguments].concat());
    olivia(&["create", "role", "mine", "--verb=get,patch", "--resource=namespaces"]).succeeds();
    olivia(&["create", "role", "more", "--verb=update", "--resource=namespaces"])
        .fails_with("attempting to grant RBAC permissions not currently held");
    let account = format!("--serviceaccount={name}:default");
    olivia(&["create", "rolebinding", "account", "--role=mine", &account]).succeeds();
    olivia(&["auth", "can-i", "impersonate", "serviceaccount/default"]).succeeds();
    let account = format!("--as=system:serviceaccount:{name}:default");
    eventually("the account's right", || {
        patch(
            &namespace,
            &account,
            &[],
            &json!({"metadata": {"annotations": {"purechaos.dev/halt": "lunch"}}}),
        )
        .ok
        .then_some(())
    });
    patch(&namespace, &account, &[], &labelled()).fails_with(REFUSED);

    olivia(&["create", "rolebinding", "mine", "--role=mine", "--user=olivia"]).succeeds();
    olivia(&["delete", "rolebinding", "opt-in"]).succeeds();
    patch(&namespace, OLIVIA, &[], &labelled()).fails_with(REFUSED);
    annotate(&namespace, &["purechaos.dev/halt-"]).succeeds();
}

#[test]
fn whoever_has_the_right_from_outside_is_left_alone() {
    let _component = Component::new();
    let namespace = owned("outside");
    let name = namespace.name.as_str();
    let label = json!({"metadata": {"labels": {"team": "ours"}}});
    kubectl(&["label", "namespace", name, "team=theirs"]).succeeds();

    // Patch in the whole cluster, and no other right.
    let everywhere = format!("opt-in-role-{}", std::process::id());
    let role = "--clusterrole=pure-chaos-opt-in";
    bind(&namespace, "vera", "clusterrole=pure-chaos-opt-in", "user=vera");
    kubectl(&["create", "clusterrolebinding", &everywhere, role, "--user=vera"]).succeeds();
    let patched = std::panic::catch_unwind(|| {
        eventually("the right from outside", || patch(&namespace, "--as=vera", &[], &label).ok.then_some(()));
    });
    kubectl(&["delete", "clusterrolebinding", &everywhere]).succeeds();
    patched.unwrap();

    // Update, by a role that the owner could not have made.
    kubectl(&["-n", name, "create", "role", "all", "--verb=get,patch,update", "--resource=namespaces"])
        .succeeds();
    bind(&namespace, "walter", "role=all", "user=walter");
    eventually("the right to update", || patch(&namespace, "--as=walter", &[], &label).ok.then_some(()));

    // The request of the controller that ends a namespace that is being deleted.
    let controller = "--as=system:serviceaccount:kube-system:namespace-controller";
    put(&namespace, controller, "/finalize", |whole| whole["metadata"]["labels"]["team"] = json!("none"))
        .succeeds();
}

#[test]
fn a_large_namespace_is_refused_without_a_walk_over_its_annotations() {
    let _component = Component::new();
    let namespace = owned("walk");
    let mut whole = object(&["namespace", &namespace.name]);
    for number in 0..20_000 {
        whole["metadata"]["annotations"][format!("a{number}")] = json!("");
    }
    kubectl_with(&["replace"], &whole).succeeds();
    let timed = |whose: &str, flags: &[&str]| {
        let begun = std::time::Instant::now();
        let flags = [flags, &["--dry-run=server"]].concat();
        let output = patch(
            &namespace,
            whose,
            &flags,
            &json!({"metadata": {"annotations": {"purechaos.dev/halt": "lunch"}}}),
        );
        (begun.elapsed(), output)
    };
    let (usual, output) = timed("--as=vera", &["--as-group=system:masters"]);
    output.succeeds();
    let (held, output) = timed(OLIVIA, &[]);
    output.fails_with("has more than 2000 annotations");
    println!("{usual:?} by who is left alone, {held:?} by who is held");
    assert!(held < usual * 5, "{held:?} against {usual:?}");
}
