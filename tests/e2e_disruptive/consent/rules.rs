//! Who may opt in, what the webhook warns about, how an opt-in ends at its `expires`, and what the
//! platform may change about these rules.

use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, PATIENCE, both_webhooks, eventually, kubectl, kubectl_with, object};
use tests::disruption::without_webhook_configuration;

/// What the webhook says to a user who may not delete Pods in the namespace.
const RIGHT_NEEDED: &str = "this needs the right to delete Pods there";

/// Cluster-wide objects that a test makes. The drop removes them, whatever happens in the test.
struct Made(Vec<[String; 2]>);

impl Made {
    fn new(objects: &[Value]) -> Self {
        let mut made = Self(Vec::new());
        for object in objects {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
            made.0.push([text("/kind"), text("/metadata/name")]);
            kubectl_with(&["apply"], object).succeeds();
        }
        made
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for [kind, name] in &self.0 {
            kubectl(&["delete", kind, name, "--ignore-not-found", "--wait=false"]);
        }
    }
}

fn rbac(kind: &str, name: &str, rest: Value) -> Value {
    let mut object =
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

/// Runs `kubectl annotate` as another user.
fn annotate_as(who: &[&str], namespace: &str, annotations: &[&str]) -> Output {
    kubectl(&[who, &["annotate", "namespace", namespace], annotations].concat())
}

#[test]
fn only_who_may_delete_pods_there_may_opt_in() {
    let here = Namespace::new("may");
    let elsewhere = Namespace::new("may-not");
    let owner = format!("owners-{}", std::process::id());
    // Every user of this test may change any Namespace's annotations. That alone must not be
    // enough.
    let _editors = Made::new(&[
        rbac(
            "ClusterRole",
            &owner,
            json!({"rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch", "create"]}]}),
        ),
        rbac(
            "ClusterRoleBinding",
            &owner,
            json!({
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": owner},
                "subjects": [
                    {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "kim"},
                    {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "team-may"},
                    {"kind": "ServiceAccount", "name": "deployer", "namespace": here.name}
                ]
            }),
        ),
    ]);
    let account = format!("system:serviceaccount:{}:deployer", here.name);
    let accounts = format!("system:serviceaccounts:{}", here.name);
    let people: [(&str, Vec<&str>, Value); 3] = [
        (
            "a user",
            vec!["--as=kim"],
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "kim"}),
        ),
        (
            "a group",
            vec!["--as=jo", "--as-group=team-may"],
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "team-may"}),
        ),
        (
            "a ServiceAccount",
            vec!["--as", &account, "--as-group=system:serviceaccounts", "--as-group", &accounts],
            json!({"kind": "ServiceAccount", "name": "deployer", "namespace": here.name}),
        ),
    ];
    for (what, who, subject) in &people {
        let name = &here.name;
        annotate_as(who, name, &["chaos=yes"]).fails_with(&format!(
            "may not opt in namespace {name}: this needs the right to delete Pods there \
             (verb delete, resource pods); check with kubectl auth can-i delete pods --namespace {name}"
        ));
        annotate_as(who, name, &["chaos=yes", "--dry-run=server"]).fails_with(RIGHT_NEEDED);
        let role = rbac(
            "Role",
            "killers",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}]}),
        );
        kubectl_with(&["-n", name, "apply"], &role).succeeds();
        let binding = rbac(
            "RoleBinding",
            "killers",
            json!({
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "killers"}, "subjects": [subject]
            }),
        );
        kubectl_with(&["-n", name, "apply"], &binding).succeeds();
        eventually("the right that was just given", || {
            annotate_as(who, name, &["chaos=yes"]).ok.then_some(())
        });
        eventually("an admitted record", || {
            let spec = here.record()["spec"].clone();
            (spec["verdict"] == "Admitted" && who[0].ends_with("kim") == (spec["admission"]["user"] == "kim"))
                .then_some(())
        });
        annotate_as(who, &elsewhere.name, &["chaos=yes"]).fails_with(RIGHT_NEEDED);
        // The users may neither set what somebody else's opt-in would obey, nor opt in with an end
        // that has passed.
        annotate_as(who, &elsewhere.name, &["purechaos.dev/limit=5"]).fails_with(RIGHT_NEEDED);
        let past = ["chaos=yes", "purechaos.dev/expires=2020-01-01T00:00:00Z"];
        annotate_as(who, &elsewhere.name, &past).fails_with(RIGHT_NEEDED);
        // To opt out, a user needs only the right to change the annotation.
        kubectl(&["-n", name, "delete", "rolebinding", "killers"]).succeeds();
        eventually("the right to be gone", || {
            let answer = annotate_as(who, name, &["purechaos.dev/limit=2"]);
            kubectl(&["annotate", "namespace", name, "purechaos.dev/limit-"]).succeeds();
            (!answer.ok).then_some(())
        });
        annotate_as(who, name, &["chaos-"]).succeeds();
        assert_eq!(object(&["namespace", name])["metadata"]["annotations"]["chaos"], Value::Null, "{what}");
    }
    let created = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("{}-2", here.name), "annotations": {"chaos": "yes"}}});
    kubectl_with(&["--as=kim", "create"], &created)
        .fails_with("create the namespace first, then annotate it");
}

#[test]
fn an_opt_in_that_could_never_kill_is_warned_of_and_several_faults_are_told_together() {
    let namespace = Namespace::new("warned");
    for (settings, warning) in [
        (&["purechaos.dev/kinds=Deployment,CloneSet"][..], "does not know kind CloneSet"),
        (&["purechaos.dev/active-hours=Mon 09:00-09:00 UTC"], "active-hours and except leave no time"),
        (&["purechaos.dev/expires=2020-01-01T00:00:00Z"], "it expired at 2020-01-01T00:00:00Z"),
    ] {
        let output = namespace.annotate(&[&["chaos=yes", "--dry-run=server"], settings].concat());
        assert!(output.ok && output.stderr.contains(warning), "{output:?}");
    }
    let denial = namespace
        .annotate(&[
            "chaos=yes",
            "--dry-run=server",
            "purechaos.dev/kinds=Job",
            "purechaos.dev/activehours=x",
            "purechaos.dev/expires=soon",
            "purechaos.dev/schedule=cron 0 0 31 2 *",
        ])
        .fails();
    for words in [
        "metadata.annotations[purechaos.dev/kinds]: Invalid value: \"Job\": expected kinds",
        "did you mean `purechaos.dev/active-hours`?",
        "this schedule never fires: its months have no such day",
        "metadata.annotations[purechaos.dev/expires]: Invalid value: \"soon\": expected an instant, such as `2026-12-24T18:00:00Z`",
    ] {
        assert!(denial.contains(words), "{denial}");
    }
    assert_eq!(object(&["namespace", &namespace.name])["metadata"]["annotations"]["chaos"], Value::Null);
    assert_eq!(namespace.record(), Value::Null);
}

#[test]
fn what_was_set_before_an_opt_in_is_named_at_it() {
    let namespace = Namespace::new("waiting");
    namespace.annotate(&["purechaos.dev/limit=5", "purechaos.dev/single-replica=allow"]).succeeds();
    let output = namespace.annotate(&["chaos=yes", "purechaos.dev/schedule=every 12h"]);
    let line =
        |setting: &str| format!("this opt-in uses a setting that was there before: purechaos.dev/{setting}");
    for setting in ["limit=5", "single-replica=allow"] {
        assert!(output.ok && output.stderr.contains(&line(setting)), "{output:?}");
    }
    assert!(!output.stderr.contains("every 12h"), "{output:?}");
}

#[test]
fn a_mistyped_halt_is_no_halt_and_says_so() {
    let annotate =
        |arguments: &[&str]| kubectl(&[&["annotate", "namespace", "pure-chaos"], arguments].concat());
    for slip in [
        "purechaos.dev/halted=x",
        "purechaos.dev/Halt=x",
        "pure-chaos.dev/halt=x",
        "purechaos.io/halt=x",
        "purechaos/halt=x",
    ] {
        annotate(&[slip])
            .fails_with("to halt all kills: kubectl annotate namespace pure-chaos purechaos.dev/halt");
    }
    kubectl(&["label", "namespace", "pure-chaos", "purechaos.dev/halt=x"])
        .fails_with("a label does not halt kills");
    // The webhook accepts keys of other projects, and our own key spelled correctly.
    for others in ["chaos-mesh.org/inject", "litmuschaos.io/chaos"] {
        annotate(&[&format!("{others}=x")]).succeeds();
        annotate(&[&format!("{others}-")]).succeeds();
    }
    let elsewhere = Namespace::new("halted");
    for slip in ["pure-chaos.dev", "urechaos.dev", "ourechaos.dev", "pure.chaos.dev", "xpurechaos.dev"] {
        elsewhere.annotate(&[&format!("{slip}/halt=x")]).fails_with("did you mean `purechaos.dev/halt`?");
    }
    // The API server does not ask about this one alone.
    elsewhere
        .annotate(&["chaos=yes", "purecaos.dev/dry-run=true"])
        .fails_with("did you mean `purechaos.dev/dry-run`?");
    elsewhere.annotate(&["purechaos.dev/halt=x"]).succeeds();
    let labelled = kubectl(&["label", "namespace", &elsewhere.name, "chaos=yes"]);
    assert!(labelled.ok && labelled.stderr.contains("label chaos=yes has no effect"), "{labelled:?}");
}

#[test]
fn an_opt_in_ends_by_itself() {
    let namespace = Namespace::new("expires");
    namespace.deployment("web", 2);
    let end = Timestamp::now().checked_add(12.seconds()).unwrap();
    let end = Timestamp::from_second(end.as_second()).unwrap();
    namespace.opt_in(&[&format!("purechaos.dev/expires={end}"), "purechaos.dev/schedule=every 12h"]);
    let pod = namespace.pods().remove(0);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace.name}});
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction?dryRun=All", namespace.name);
    let agent =
        ["--as=system:serviceaccount:pure-chaos:agent", "--as-group=system:serviceaccounts:pure-chaos"];
    let evict = || kubectl_with(&[&agent[..], &["create", "--raw", &path]].concat(), &eviction);
    assert!(evict().ok, "until then it may");
    let begun = Instant::now();
    while Timestamp::now() < end {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    // The locks refuse at once. The record and the rights go a moment later.
    let refusal = evict().fails();
    assert!(refusal.contains("expired at") || refusal.contains("cannot create resource"), "{refusal}");
    let gone = eventually("the end of the record and the rights", || {
        (namespace.record() == Value::Null && !namespace.has_binding())
            .then(|| Timestamp::now().duration_since(end))
    });
    println!("record and rights were gone {} ms after the opt-in expired", gone.as_millis());
    namespace.annotate(&["purechaos.dev/expires-"]).succeeds();
    eventually("the opt-in again, without an end", || namespace.has_binding().then_some(()));
}

/// Runs a function when it goes out of scope, also if the test fails.
struct Undo<F: FnMut()>(F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn the_platform_may_adopt_what_the_webhook_did_not_see() {
    let namespace = Namespace::new("adopted");
    let uses = |map: &str| {
        let patch = json!({"spec": {"template": {"spec": {"volumes": [{"name": "policy", "configMap": {"name": map}}]}}}});
        kubectl(&["-n", "pure-chaos", "patch", "deployment", "webhook", "--patch", &patch.to_string()])
            .succeeds();
        kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment", "webhook", "--timeout=90s"])
            .succeeds();
        // A replica that is still ending would write its own verdict.
        eventually("replicas of that policy and no other", both_webhooks);
    };
    let deployment = object(&["deployment", "webhook", "-n", "pure-chaos"]);
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let usual = volumes.iter().find_map(|volume| volume["configMap"]["name"].as_str()).unwrap().to_owned();

    // The annotation is set while nobody reviews: without a configuration, the API server doesn't
    // call the webhook.
    {
        let _restored = without_webhook_configuration();
        namespace.annotate(&["chaos=yes"]).succeeds();
    }
    eventually("the verdict on what nobody saw", || {
        (namespace.record()["spec"]["verdict"] == "NotAdmitted").then_some(())
    });
    assert!(!namespace.has_binding());
    let reason = namespace.record()["spec"]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("remove the annotation and set it again"), "{reason}");

    let policy = "ceilings: {schedule: every 1s}\nadoptExisting: true\n";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "adopting", "namespace": "pure-chaos"}, "data": {"policy.yaml": policy}});
    kubectl_with(&["apply"], &map).succeeds();
    {
        let _usual = Undo(|| {
            uses(&usual);
            kubectl(&["-n", "pure-chaos", "delete", "configmap", "adopting"]);
        });
        uses("adopting");
        eventually("the adopted opt-in and its rights", || {
            let user = namespace.record()["spec"]["admission"]["user"].clone();
            (user == "unknown (adoptExisting)" && namespace.has_binding()).then_some(())
        });
    }
    // The platform withdraws the adoption.
    eventually("the end of the adoption", || {
        (namespace.record()["spec"]["verdict"] == "NotAdmitted" && !namespace.has_binding()).then_some(())
    });
    namespace.annotate(&["chaos-"]).succeeds();
    namespace.opt_in(&[]);
    assert_eq!(namespace.record()["spec"]["verdict"], "Admitted");
}
