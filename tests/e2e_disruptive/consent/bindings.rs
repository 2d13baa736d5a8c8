//! The admission policies on what Pure Chaos's own accounts write: the webhook's RoleBindings, and
//! the records. During a test the account has every right, so that RBAC refuses nothing.

use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, eventually, kubectl, kubectl_with, object};
use tests::disruption::{Away, Held, all_rights, run_as, write_as};

const GROUP: &str = "rbac.authorization.k8s.io";

fn binding(namespace: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "pure-chaos-agent", "namespace": namespace},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "pure-chaos-agent"},
        "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "pure-chaos"}]
    })
}

fn with(namespace: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut binding = binding(namespace);
    change(&mut binding);
    binding
}

/// Tries to create a binding as the webhook. Nothing is stored, so a test can repeat an allowed try
/// with the same outcome.
fn create(binding: &Value) -> Output {
    write_as("webhook", &["create", "--dry-run=server"], binding)
}

#[track_caller]
fn refused(output: Output, words: &str) {
    let message = output.fails();
    assert!(
        message.contains("ValidatingAdmissionPolicy 'binding.purechaos.dev'") && message.contains(words),
        "expected {words:?} in: {message}"
    );
}

/// What is wrong with a binding, the text of the refusal, and the change that makes it wrong.
type Wrong = (&'static str, &'static str, fn(&mut Value));

const SUBJECTS: &str = "may only bind to these ServiceAccounts of namespace pure-chaos: agent";

const WRONG_SUBJECTS: [Wrong; 9] = [
    ("another account", SUBJECTS, |b| b["subjects"][0]["name"] = json!("webhook")),
    ("an account that is added later", SUBJECTS, |b| b["subjects"][0]["name"] = json!("default")),
    ("its name elsewhere", SUBJECTS, |b| b["subjects"][0]["namespace"] = json!("default")),
    ("a user", SUBJECTS, |b| {
        b["subjects"] =
            json!([{"kind": "User", "apiGroup": GROUP, "name": "system:serviceaccount:pure-chaos:agent"}]);
    }),
    ("a group", SUBJECTS, |b| {
        b["subjects"] =
            json!([{"kind": "Group", "apiGroup": GROUP, "name": "system:serviceaccounts:pure-chaos"}]);
    }),
    ("the right one and another", SUBJECTS, |b| {
        let mut other = b["subjects"][0].clone();
        other["name"] = json!("webhook");
        b["subjects"].as_array_mut().unwrap().push(other);
    }),
    ("the right one twice", SUBJECTS, |b| {
        let same = b["subjects"][0].clone();
        b["subjects"].as_array_mut().unwrap().push(same);
    }),
    ("none", SUBJECTS, |b| b["subjects"] = json!([])),
    ("nothing about it", SUBJECTS, |b| {
        b.as_object_mut().unwrap().remove("subjects");
    }),
];

/// Changes that the webhook may not make to an existing RoleBinding.
const WRONG_OTHERWISE: [Wrong; 5] = [
    (
        "another ClusterRole",
        "may only bind ClusterRole pure-chaos-agent, not ClusterRole cluster-admin",
        |b| {
            b["roleRef"]["name"] = json!("cluster-admin");
        },
    ),
    ("a harmless ClusterRole", "may only bind ClusterRole pure-chaos-agent, not ClusterRole view", |b| {
        b["roleRef"]["name"] = json!("view");
    }),
    ("a Role of that name", "may only bind ClusterRole pure-chaos-agent, not Role pure-chaos-agent", |b| {
        b["roleRef"]["kind"] = json!("Role");
    }),
    ("another name", "may only write RoleBinding pure-chaos-agent, not agent", |b| {
        b["metadata"]["name"] = json!("agent");
    }),
    ("a name that is made up", "may only write RoleBinding pure-chaos-agent", |b| {
        b["metadata"].as_object_mut().unwrap().remove("name");
        b["metadata"]["generateName"] = json!("pure-chaos-agent-");
    }),
];

/// A namespace that has opted in.
fn opted_in(prefix: &str) -> Namespace {
    let namespace = Namespace::new(prefix);
    namespace.opt_in(&["purechaos.dev/schedule=every 12h"]);
    namespace
}

#[test]
fn the_webhook_may_create_just_the_one_binding() {
    let _rights = all_rights("webhook");
    let namespace = opted_in("bindings");
    let name = &namespace.name;
    // A dry run of a creation fails on the existing binding only after the policy has allowed it.
    let answer = create(&binding(name)).fails();
    assert!(answer.contains("already exists"), "the right one is let through: {answer}");
    for (what, words, change) in WRONG_SUBJECTS.into_iter().chain(WRONG_OTHERWISE) {
        println!("create with {what}");
        refused(create(&with(name, change)), words);
    }
    // Other accounts may bind as they like.
    let mine = with(name, |b| b["metadata"]["name"] = json!("mine"));
    kubectl_with(&["create", "--dry-run=server"], &mine).succeeds();
}

#[test]
fn the_webhook_may_change_its_binding_to_nothing_else() {
    let _rights = all_rights("webhook");
    let namespace = opted_in("rebind");
    let name = &namespace.name;
    let existing = object(&["rolebinding", "pure-chaos-agent", "-n", name]);
    for (what, words, change) in WRONG_SUBJECTS {
        println!("replace and patch with {what}");
        let mut changed = existing.clone();
        change(&mut changed);
        refused(write_as("webhook", &["replace"], &changed), words);
        let patch = json!({"subjects": changed["subjects"]}).to_string();
        let arguments =
            ["-n", name, "patch", "rolebinding", "pure-chaos-agent", "--type=merge", "-p", &patch];
        refused(run_as("webhook", &arguments), words);
    }
    let (_, words, change) = &WRONG_SUBJECTS[0];
    let applied = with(name, change);
    refused(write_as("webhook", &["apply", "--server-side", "--force-conflicts"], &applied), words);
    assert_eq!(object(&["rolebinding", "pure-chaos-agent", "-n", name])["subjects"], existing["subjects"]);

    // The webhook may not change another binding, whatever is in it.
    let mine = with(name, |b| b["metadata"]["name"] = json!("mine"));
    kubectl_with(&["create"], &mine).succeeds();
    let labelled = run_as("webhook", &["-n", name, "label", "rolebinding", "mine", "team=a"]);
    refused(labelled, "may only write RoleBinding pure-chaos-agent, not mine");

    // The right change is allowed.
    let labelled = run_as("webhook", &["-n", name, "label", "rolebinding", "pure-chaos-agent", "team=a"]);
    labelled.succeeds();
}

#[test]
fn the_webhook_may_bind_only_where_somebody_opted_in() {
    let _rights = all_rights("webhook");
    let plain = Namespace::new("bind-plain");
    refused(create(&binding(&plain.name)), "is not opted in, so nobody is given the right to kill in it");
    refused(create(&binding("default")), "namespace default is not opted in");
    for name in ["kube-system", "pure-chaos"] {
        refused(create(&binding(name)), &format!("namespace {name} is protected"));
    }

    // A change in a namespace that has opted out meanwhile. The webhook deletes the binding there,
    // so a finalizer keeps it.
    let kept = with(&plain.name, |b| b["metadata"]["finalizers"] = json!(["purechaos.dev/test"]));
    kubectl_with(&["create"], &kept).succeeds();
    let _kept = Held::new(&plain.name, "rolebinding/pure-chaos-agent");
    let label = ["-n", &plain.name, "label", "rolebinding", "pure-chaos-agent", "team=a"];
    refused(run_as("webhook", &label), "is not opted in");

    // This namespace is being deleted, and the held binding keeps it from disappearing. The API
    // server itself lets nobody create anything in such a namespace.
    let going = opted_in("bind-going");
    let _held = Held::new(&going.name, "rolebinding/pure-chaos-agent");
    kubectl(&["delete", "namespace", &going.name, "--wait=false"]).succeeds();
    let label = ["-n", &going.name, "label", "rolebinding", "pure-chaos-agent", "team=a"];
    let answer = eventually("the policy to see that the namespace is being deleted", || {
        let output = run_as("webhook", &[&label[..], &["--overwrite"]].concat());
        (!output.ok).then_some(output)
    });
    refused(answer, "is being deleted, so nobody is given the right to kill in it");
}

#[test]
fn without_the_policy_those_rights_would_do() {
    let _rights = all_rights("webhook");
    let namespace = Namespace::new("bind-open");
    let policy = Away::taken("validatingadmissionpolicybinding", "binding.purechaos.dev");
    let wrong = with(&namespace.name, WRONG_SUBJECTS[0].2);
    eventually("the end of the policy", || create(&wrong).ok.then_some(()));
    drop(policy);
    eventually("the policy again", || (!create(&wrong).ok).then_some(()));
}

const RECORD_SENTENCE: &str = "only Pure Chaos writes the spec of a record; \
    change the annotations of the Namespace instead: kubectl annotate";
const STATUS_SENTENCE: &str = "only the agent of Pure Chaos writes the status of a record";

/// A forged record. Everything in it is right except for its writer.
fn forged(namespace: &Namespace) -> Value {
    let annotations = [("chaos".to_owned(), "yes".to_owned())].into();
    json!({
        "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn",
        "metadata": {"name": "chaos", "namespace": namespace.name},
        "spec": {
            "namespaceUid": object(&["namespace", &namespace.name])["metadata"]["uid"], "verdict": "Admitted",
            "admission": {"user": "mallory", "time": "2026-11-23T11:00:00Z", "digest": policy::digest::digest(&annotations)}
        }
    })
}

#[test]
fn only_the_webhook_writes_a_record() {
    let _rights = (all_rights("webhook"), all_rights("agent"));
    let namespace = Namespace::new("forged");
    let name = &namespace.name;
    let record = forged(&namespace);
    for how in [&["create"][..], &["apply"], &["apply", "--server-side"], &["create", "--dry-run=server"]] {
        kubectl_with(how, &record).fails_with(RECORD_SENTENCE);
        write_as("agent", how, &record).fails_with(RECORD_SENTENCE);
        write_as("default", how, &record).fails();
    }
    assert_eq!(namespace.record(), Value::Null);
    // The webhook may write the record, and then removes it because nobody opted in.
    write_as("webhook", &["create"], &record).succeeds();
    eventually("the end of a record without an opt-in", || (namespace.record() == Value::Null).then_some(()));

    namespace.opt_in(&["purechaos.dev/schedule=every 12h"]);
    let spec = namespace.record()["spec"].clone();
    let patch = r#"{"spec":{"verdict":"NotAdmitted"}}"#;
    for manner in ["--type=merge", "--type=json"] {
        let json = r#"[{"op":"replace","path":"/spec/verdict","value":"NotAdmitted"}]"#;
        let patch = if manner == "--type=json" { json } else { patch };
        let arguments = ["-n", name, "patch", "optin", "chaos", manner, "-p", patch];
        kubectl(&arguments).fails_with(RECORD_SENTENCE);
        run_as("agent", &arguments).fails_with(RECORD_SENTENCE);
    }
    for how in [&["replace"][..], &["apply"], &["apply", "--server-side", "--force-conflicts"]] {
        kubectl_with(how, &record).fails_with(RECORD_SENTENCE);
    }
    assert_eq!(namespace.record()["spec"], spec);
}

#[test]
fn only_the_agent_writes_a_status() {
    let _rights = (all_rights("webhook"), all_rights("agent"));
    let namespace = opted_in("status");
    let through_status =
        ["-n", &namespace.name, "patch", "optin", "chaos", "--subresource=status", "--type=merge", "-p"];
    let arguments = [&through_status[..], &[r#"{"status":{"kills":4711}}"#]].concat();
    kubectl(&arguments).fails_with(STATUS_SENTENCE);
    run_as("webhook", &arguments).fails_with(STATUS_SENTENCE);
    // The API server ignores a spec or a status that the request can't change, so naming it has no
    // effect.
    kubectl(&[&through_status[..], &[r#"{"spec":{"verdict":"NotAdmitted"}}"#]].concat()).succeeds();
    assert_eq!(namespace.record()["spec"]["verdict"], "Admitted");
    let elsewhere = [
        "-n",
        &namespace.name,
        "patch",
        "optin",
        "chaos",
        "--type=merge",
        "-p",
        r#"{"status":{"kills":4711}}"#,
    ];
    kubectl(&elsewhere).succeeds();
    assert_ne!(namespace.record()["status"]["kills"], 4711);
    run_as("agent", &arguments).succeeds();
    assert_eq!(namespace.record()["status"]["kills"], 4711);
}

#[test]
fn whoever_may_labels_and_deletes_a_record() {
    let namespace = opted_in("labels");
    let name = &namespace.name;
    kubectl(&["-n", name, "label", "optin", "chaos", "team=a"]).succeeds();
    kubectl(&["-n", name, "annotate", "optin", "chaos", "colour=green"]).succeeds();
    for finalizers in [json!(["purechaos.dev/test"]), json!([])] {
        let patch = json!({"metadata": {"finalizers": finalizers}}).to_string();
        kubectl(&["-n", name, "patch", "optin", "chaos", "--type=merge", "-p", &patch]).succeeds();
    }
    kubectl(&["-n", name, "delete", "optin", "chaos"]).succeeds();
    kubectl(&["delete", "namespace", name, "--timeout=60s"]).succeeds();
}
