//! What nobody reviewed: annotations that were set while the API server didn't call the webhook,
//! requests that failed after their review, and objects of ours that somebody made by hand.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubectl, kubectl_with, metrics, object, total};
use tests::disruption::{Away, until_opt_ins_are_reviewed, without_webhook_configuration};
use tests::repository::root;

const RARELY: &str = "purechaos.dev/schedule=every 12h";

fn verdict(namespace: &Namespace) -> Value {
    namespace.record()["spec"]["verdict"].clone()
}

#[track_caller]
fn not_admitted(namespace: &Namespace) {
    eventually("the verdict on what nobody reviewed", || (verdict(namespace) == "NotAdmitted").then_some(()));
    let reason = namespace.record()["spec"]["reason"].clone();
    assert!(
        reason.as_str().is_some_and(|reason| reason.contains("remove the annotation and set it again")),
        "{reason}"
    );
    assert!(!namespace.has_binding());
}

/// Waits until the webhook has processed everything that came before.
fn later_is_recorded(prefix: &str) {
    let later = Namespace::new(prefix);
    later.opt_in(&[RARELY]);
}

fn rounds(namespace: &Namespace, outcome: &str) -> f64 {
    let labels = [&*format!("target_namespace=\"{}\"", namespace.name), &*format!("outcome=\"{outcome}\"")];
    total(&metrics(), "pure_chaos_rounds_total", &labels)
}

/// Another project's webhook that can't be reached, so that every change of this namespace's
/// annotations fails. The API server calls it at the same time as ours. An admission policy would
/// answer before ours.
fn failing(namespace: &Namespace) -> Away {
    let name = &namespace.name;
    let condition =
        format!("object.metadata.name == '{name}' && 'chaos' in object.metadata.?annotations.orValue({{}})");
    let away = Away::added(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("test-{name}")},
        "webhooks": [{
            "name": "failing.example.com", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": name, "name": "nobody"}},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"]}],
            "matchConditions": [{"name": "this-one", "expression": condition}]
        }]
    }));
    eventually("requests to fail", || {
        (!kubectl(&["annotate", "namespace", name, "chaos=yes", "--dry-run=server"]).ok).then_some(())
    });
    away
}

#[test]
fn annotations_set_unseen_count_only_when_they_are_removed_and_set_again() {
    let namespace = Namespace::new("unseen");
    let elsewhere = Namespace::new("seen");
    elsewhere.opt_in(&[RARELY]);
    {
        let _configuration = without_webhook_configuration();
        namespace.annotate(&["chaos=yes", RARELY]).succeeds();
        elsewhere.annotate(&["purechaos.dev/limit=2"]).succeeds();
        // The webhook also checks the ceilings and the spelling of unreviewed annotations. The
        // record says what is wrong.
        let wrong = Namespace::new("unseen-wrong");
        wrong.annotate(&["chaos=yes", "purechaos.dev/limit=9"]).succeeds();
        eventually("the verdict on what is not understood", || {
            (verdict(&wrong) == "NotUnderstood").then_some(())
        });
        assert!(!wrong.has_binding());
        not_admitted(&namespace);
        // The admitted annotations no longer hold, and the rights went with them.
        not_admitted(&elsewhere);

        // The configuration comes back as in the manifests, without the issuer of the webhook's
        // certificate.
        let file = root().join("manifests/base/webhook-configuration.yaml");
        kubectl(&["create", "-f", file.to_str().unwrap()]).succeeds();
        let begun = Instant::now();
        until_opt_ins_are_reviewed();
        println!(
            "{:.1} s until opt-ins are reviewed after the configuration was made again",
            begun.elapsed().as_secs_f64()
        );
    }
    until_opt_ins_are_reviewed();
    // Setting the same value again is no change, so it admits nothing.
    namespace.annotate(&["chaos=yes", RARELY, "--overwrite"]).succeeds();
    kubectl(&["label", "namespace", &namespace.name, "team=a"]).succeeds();
    later_is_recorded("unseen-later");
    not_admitted(&namespace);

    namespace.annotate(&["chaos-"]).succeeds();
    eventually("the end of the record", || (namespace.record() == Value::Null).then_some(()));
    namespace.opt_in(&[]);
    assert_eq!(verdict(&namespace), "Admitted");
    // The webhook reviews a change, so the change is consent as well.
    elsewhere.annotate(&["purechaos.dev/limit=1", "--overwrite"]).succeeds();
    eventually("a record of a change", || (verdict(&elsewhere) == "Admitted").then_some(()));
}

#[test]
fn the_same_again_leaves_the_record_as_it_is() {
    let namespace = Namespace::new("same");
    namespace.opt_in(&[RARELY]);
    let spec = namespace.record()["spec"].clone();
    namespace.annotate(&["chaos=yes", RARELY, "--overwrite"]).succeeds();
    later_is_recorded("same-later");
    assert_eq!(namespace.record()["spec"], spec);
}

#[test]
fn an_admitted_request_that_failed_leaves_nothing() {
    let namespace = Namespace::new("failed");
    let failing = failing(&namespace);
    namespace.annotate(&["chaos=yes", RARELY]).fails_with("failing.example.com");
    drop(failing);
    kubectl(&["label", "namespace", &namespace.name, "team=a"]).succeeds();
    later_is_recorded("failed-later");
    assert_eq!(namespace.record(), Value::Null);
    assert!(!namespace.has_binding());

    // A request on an old version also fails before it is stored.
    let mut stale = object(&["namespace", &namespace.name]);
    stale["metadata"]["annotations"] = json!({"chaos": "yes"});
    kubectl(&["label", "namespace", &namespace.name, "team=b", "--overwrite"]).succeeds();
    let path = format!("/api/v1/namespaces/{}", namespace.name);
    kubectl_with(&["replace", "--raw", &path], &stale).fails_with("the object has been modified");
    later_is_recorded("stale-later");
    assert_eq!(namespace.record(), Value::Null);
}

#[test]
fn the_note_of_a_request_that_failed_is_no_consent() {
    let namespace = Namespace::new("note");
    let failing = failing(&namespace);
    namespace.annotate(&["chaos=yes", RARELY]).fails_with("failing.example.com");
    let failed = Instant::now();
    drop(failing);
    {
        let _configuration = without_webhook_configuration();
        // The times of managed fields are whole seconds.
        std::thread::sleep(Duration::from_millis(1_100).saturating_sub(failed.elapsed()));
        namespace.annotate(&["chaos=yes", RARELY]).succeeds();
        assert!(failed.elapsed() < Duration::from_secs(60), "the note would have ended by itself");
        eventually("a record", || (namespace.record() != Value::Null).then_some(()));
        not_admitted(&namespace);
    }
    until_opt_ins_are_reviewed();
}

#[test]
fn a_binding_of_our_name_that_is_not_ours_stays_and_is_said() {
    let namespace = Namespace::new("foreign");
    let name = &namespace.name;
    let hand = ["-n", name, "create", "rolebinding", "pure-chaos-agent"];
    kubectl(&[&hand[..], &["--clusterrole=view", "--serviceaccount=default:default"]].concat()).succeeds();
    let made = object(&["rolebinding", "pure-chaos-agent", "-n", name]);
    namespace.annotate(&["chaos=yes", RARELY]).succeeds();
    let record = eventually("a record that says so", || {
        let record = namespace.record();
        let reason = record["spec"]["reason"].as_str().unwrap_or_default().to_owned();
        reason.contains("Pure Chaos did not create RoleBinding pure-chaos-agent").then_some(record)
    });
    // This is longer than the webhook waits before it writes the same again.
    std::thread::sleep(Duration::from_secs(6));
    let generation = |record: &Value| record["metadata"]["generation"].clone();
    assert_eq!(generation(&namespace.record()), generation(&record), "it is written again and again");
    assert_eq!(object(&["rolebinding", "pure-chaos-agent", "-n", name]), made);

    kubectl(&["-n", name, "delete", "rolebinding", "pure-chaos-agent"]).succeeds();
    eventually("a binding of ours, and nothing to say", || {
        let binding = object(&["rolebinding", "pure-chaos-agent", "-n", name]);
        (binding["roleRef"]["name"] == "pure-chaos-agent" && namespace.record()["spec"]["reason"].is_null())
            .then_some(())
    });
}

/// The same rights that the webhook would give, in a namespace that nobody opted in.
#[test]
fn rights_given_by_hand_let_nobody_be_killed() {
    let namespace = Namespace::new("by-hand");
    let name = &namespace.name;
    namespace.deployment("web", 2);
    let pods = namespace.pods();
    let rights = ["--clusterrole=pure-chaos-agent", "--serviceaccount=pure-chaos:agent"];
    let give = |binding: &str| {
        kubectl(&[&["-n", name, "create", "rolebinding", binding][..], &rights].concat()).succeeds();
    };
    give("by-hand");
    let delete = ["-n", name, "delete", "pod", &pods[0], "--wait=false"];
    eventually("the rights", || {
        let answer = tests::disruption::run_as("agent", &delete).fails();
        answer.contains(&format!("namespace {name} is not opted in")).then_some(())
    });
    // A binding of another name is none of the webhook's. One of its own name that gives its role
    // to the agent is, whoever made it, and goes.
    give("pure-chaos-agent");
    eventually("the end of the binding", || (!namespace.has_binding()).then_some(()));
    assert!(!object(&["rolebinding", "by-hand", "-n", name]).is_null());
    assert_eq!(namespace.pods(), pods);
}

/// The new namespace has the annotations of the earlier one, but nobody reviewed them for the new
/// one.
#[test]
fn a_namespace_made_again_under_its_name_is_another() {
    const OFTEN: [&str; 4] = [
        "chaos=yes",
        "purechaos.dev/schedule=every 1s",
        "purechaos.dev/min-age=1s",
        "purechaos.dev/mode=delete",
    ];
    let namespace = Namespace::new("again");
    let name = &namespace.name;
    namespace.deployment("web", 2);
    namespace.annotate(&OFTEN).succeeds();
    eventually("a kill", || (rounds(&namespace, "killed") >= 1.0).then_some(()));
    {
        let _configuration = without_webhook_configuration();
        let before = namespace.record()["spec"]["namespaceUid"].clone();
        kubectl(&["delete", "namespace", name, "--timeout=60s"]).succeeds();
        kubectl(&["create", "namespace", name]).succeeds();
        namespace.annotate(&OFTEN).succeeds();
        let (killed, refused) = (rounds(&namespace, "killed"), rounds(&namespace, "refused"));
        namespace.deployment("web", 2);
        let pods = namespace.pods();
        eventually("some refused rounds", || (rounds(&namespace, "refused") >= refused + 3.0).then_some(()));
        not_admitted(&namespace);
        assert_ne!(namespace.record()["spec"]["namespaceUid"], before);
        assert_eq!((namespace.pods(), rounds(&namespace, "killed")), (pods, killed));
    }
    until_opt_ins_are_reviewed();
}
