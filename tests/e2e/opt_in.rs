//! The opt-in on a real API server, through each resource that can set a Namespace's annotations.

use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubectl, kubectl_with, object};

/// The Namespace with its annotations replaced, for a PUT.
fn with_annotations(name: &str, annotations: Value) -> Value {
    let mut namespace = object(&["namespace", name]);
    namespace["metadata"]["annotations"] = annotations;
    namespace
}

fn put(name: &str, subresource: &str, annotations: Value) -> tests::cluster::Output {
    let path = format!("/api/v1/namespaces/{name}{subresource}");
    kubectl_with(&["replace", "--raw", &path], &with_annotations(name, annotations))
}

#[test]
fn yes_is_admitted_recorded_and_gives_the_agent_its_rights_until_it_is_removed() {
    let namespace = Namespace::new("opt-in");
    namespace.annotate(&["chaos=yes", "purechaos.dev/schedule=every 1h"]).succeeds();
    let record = eventually("an admitted record", || {
        let record = namespace.record();
        (record["spec"]["verdict"] == "Admitted").then_some(record)
    });
    assert_eq!(record["spec"]["settings"]["schedule"], "every 1h");
    assert_eq!(record["spec"]["namespaceUid"], object(&["namespace", &namespace.name])["metadata"]["uid"]);
    assert!(record["spec"]["admission"]["user"].as_str().is_some_and(|user| !user.is_empty()), "{record}");
    eventually("the RoleBinding", || namespace.has_binding().then_some(()));
    eventually("the agent's next slot", || {
        namespace.record()["status"]["nextSlot"].as_str().map(str::to_owned)
    });
    let table = kubectl(&["get", "chaos", "-n", &namespace.name]).succeeds();
    assert!(table.contains("OPTED IN BY") && table.contains("every 1h"), "{table}");

    namespace.annotate(&["chaos-"]).succeeds();
    eventually("no record and no RoleBinding", || {
        (namespace.record() == Value::Null && !namespace.has_binding()).then_some(())
    });
}

#[test]
fn near_misses_are_refused_through_each_resource_with_what_to_write() {
    let namespace = Namespace::new("near-miss");
    let name = &namespace.name;
    let sentence = "metadata.annotations[chaos]: Invalid value: \"Yes\": write `yes` to opt in";
    namespace.annotate(&["chaos=Yes", "--overwrite"]).fails_with(sentence);
    for subresource in ["", "/status", "/finalize"] {
        put(name, subresource, json!({"chaos": "Yes"})).fails_with(sentence);
    }
    assert_eq!(object(&["namespace", name])["metadata"]["annotations"]["chaos"], Value::Null);
    let created = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("{name}-2"), "annotations": {"chaos": "true"}}});
    kubectl_with(&["create"], &created).fails_with("write `yes` to opt in");
}

#[test]
fn yes_is_admitted_through_each_resource() {
    for subresource in ["", "/status", "/finalize"] {
        let namespace = Namespace::new(&format!("through{}", subresource.replace('/', "-")));
        put(&namespace.name, subresource, json!({"chaos": "yes"})).succeeds();
        eventually("an admitted record", || {
            (namespace.record()["spec"]["verdict"] == "Admitted").then_some(())
        });
    }
}

#[test]
fn a_created_namespace_may_carry_the_opt_in() {
    let name = format!("created-{}", std::process::id());
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": {"chaos": "yes"}}});
    kubectl_with(&["create"], &object).succeeds();
    let namespace = Namespace { name };
    eventually("an admitted record", || (namespace.record()["spec"]["verdict"] == "Admitted").then_some(()));
}

#[test]
fn settings_are_reviewed_too() {
    let namespace = Namespace::new("settings");
    let message =
        namespace.annotate(&["chaos=yes", "purechaos.dev/dry_run=true", "purechaos.dev/limit=9"]).fails();
    assert!(message.contains("did you mean `purechaos.dev/dry-run`?"), "{message}");
    namespace
        .annotate(&["chaos=yes", "purechaos.dev/limit=9"])
        .fails_with("the platform's ceilings.limit is `5`");
    namespace.annotate(&["chaos=yes", "purechaos.dev/dry-run=true"]).succeeds();
    // Removing a setting changes what the owner consented to.
    namespace.annotate(&["purechaos.dev/dry-run-"]).succeeds();
    eventually("a record without dry run", || {
        (namespace.record()["spec"]["settings"]["dryRun"] == false).then_some(())
    });
    assert_eq!(namespace.record()["spec"]["verdict"], "Admitted");
}

#[test]
fn settings_without_the_opt_in_are_warned_about() {
    let namespace = Namespace::new("no-effect");
    let output = namespace.annotate(&["purechaos.dev/limit=2"]);
    assert!(output.ok && output.stderr.contains("no effect"), "{output:?}");
}

#[test]
fn protected_namespaces_can_never_opt_in() {
    for name in ["kube-system", "default", "pure-chaos"] {
        kubectl(&["annotate", "namespace", name, "chaos=yes"]).fails_with("protected");
    }
}

#[test]
fn a_dry_run_shows_the_answer_and_records_nothing() {
    let namespace = Namespace::new("dry");
    namespace.annotate(&["chaos=yes", "--dry-run=server"]).succeeds();
    namespace.annotate(&["chaos=maybe", "--dry-run=server"]).fails_with("write `yes`");
    assert_eq!(namespace.record(), Value::Null);
    assert_eq!(object(&["namespace", &namespace.name])["metadata"]["annotations"]["chaos"], Value::Null);
}

#[test]
fn a_record_deleted_by_hand_is_made_again() {
    let namespace = Namespace::new("by-hand");
    let name = &namespace.name;
    namespace.opt_in(&[]);
    kubectl(&["-n", name, "delete", "optin", "chaos"]).succeeds();
    eventually("the record again", || (namespace.record() != Value::Null).then_some(()));
    kubectl(&["-n", name, "delete", "rolebinding", "pure-chaos-agent", "--ignore-not-found"]).succeeds();
    // The record comes back with a verdict: `Admitted` if the replica still knows the admission,
    // otherwise `NotAdmitted`.
    eventually("the verdict on a record whose admission is lost", || {
        let verdict = namespace.record()["spec"]["verdict"].clone();
        (verdict == "NotAdmitted" || verdict == "Admitted").then_some(())
    });
}
