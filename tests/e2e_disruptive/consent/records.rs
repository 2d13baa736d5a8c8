//! Records and RoleBindings as two replicas keep them: how soon they follow, what repairs them, and
//! how they read.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace as Object;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{Patch, PatchParams};
use policy::record::{OptIn, Verdict};
use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubeconfig, kubectl, object};
use tests::disruption::{Away, Held, WithoutWebhook, until_opt_ins_are_reviewed};

const RARELY: &str = "purechaos.dev/schedule=every 12h";

/// A machine that is busy with other work must not fail this test, which prints what it saw.
const AT_MOST: Duration = Duration::from_secs(5);

/// How long record and RoleBinding take to appear, or to disappear, after the answer to the
/// annotation.
async fn follow(namespaces: &[Namespace], consent: Value, is_there: bool) -> Vec<Duration> {
    let client = runtime::client::connect(Some(kubeconfig().as_ref())).await.unwrap();
    let annotation =
        json!({"metadata": {"annotations": {"chaos": consent, "purechaos.dev/schedule": "every 12h"}}});
    let mut took = Vec::new();
    for namespace in namespaces {
        let name = &namespace.name;
        let objects: Api<Object> = Api::all(client.clone());
        objects.patch(name, &PatchParams::default(), &Patch::Merge(&annotation)).await.unwrap();
        let begun = Instant::now();
        let records: Api<OptIn> = Api::namespaced(client.clone(), name);
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), name);
        loop {
            let record = records.get_opt("chaos").await.unwrap();
            let is_admitted = record.is_some_and(|record| record.spec.verdict == Verdict::Admitted);
            let is_bound = bindings.get_opt("pure-chaos-agent").await.unwrap().is_some();
            if (is_admitted, is_bound) == (is_there, is_there) {
                break;
            }
            assert!(begun.elapsed() < AT_MOST, "{name}: admitted {is_admitted}, bound {is_bound}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        took.push(begun.elapsed());
    }
    took.sort();
    took
}

fn print(what: &str, took: &[Duration]) {
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_millis();
    println!(
        "{what}, {} times: {} ms at least, {} ms median, {} ms 95th, {} ms at most",
        took.len(),
        at(0),
        at(50),
        at(95),
        at(100)
    );
}

#[test]
fn they_follow_the_annotation_at_once() {
    let namespaces: Vec<Namespace> =
        (0..20).map(|number| Namespace::new(&format!("follow-{number}"))).collect();
    runtime::process::install_tls_provider().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let there = runtime.block_on(follow(&namespaces, json!("yes"), true));
    print("record and RoleBinding there", &there);
    let gone = runtime.block_on(follow(&namespaces, Value::Null, false));
    print("record and RoleBinding gone", &gone);
    // Half of the changes come within the promised second, however slow the machine is.
    assert!(there[10] < Duration::from_secs(1) && gone[10] < Duration::from_secs(1));
}

fn binding(namespace: &Namespace) -> Value {
    object(&["rolebinding", "pure-chaos-agent", "-n", &namespace.name])
}

fn patch(namespace: &Namespace, kind: &str, name: &str, patch: &Value) {
    let patch = patch.to_string();
    kubectl(&["-n", &namespace.name, "patch", kind, name, "--type=merge", "-p", &patch]).succeeds();
}

#[test]
fn what_a_hand_changed_is_put_right() {
    let namespace = Namespace::new("hand");
    let name = &namespace.name;
    namespace.opt_in(&[RARELY]);
    let (spec, subjects) = (namespace.record()["spec"].clone(), binding(&namespace)["subjects"].clone());

    kubectl(&["-n", name, "delete", "rolebinding", "pure-chaos-agent"]).succeeds();
    eventually("the RoleBinding again", || (binding(&namespace)["subjects"] == subjects).then_some(()));
    let other = json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]);
    patch(&namespace, "rolebinding", "pure-chaos-agent", &json!({"subjects": other}));
    eventually("its subject again", || (binding(&namespace)["subjects"] == subjects).then_some(()));

    // The running replicas remember who opted in, so the record comes back complete.
    let uid = namespace.record()["metadata"]["uid"].clone();
    kubectl(&["-n", name, "delete", "optin", "chaos"]).succeeds();
    let again = eventually("the record again", || {
        let record = namespace.record();
        (record["metadata"]["uid"] != uid && record["spec"]["verdict"] == "Admitted").then_some(record)
    });
    assert_eq!(again["spec"], spec);
    eventually("a RoleBinding that the new record owns", || {
        (binding(&namespace)["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"])
            .then_some(())
    });

    // Nobody can change a record while the policy exists. The test removes the policy.
    let policy = Away::taken("validatingadmissionpolicybinding", "record.purechaos.dev");
    let wider = json!({"spec": {"settings": {"limit": 5}}}).to_string();
    let change = ["-n", name, "patch", "optin", "chaos", "--type=merge", "-p", &wider];
    eventually("the end of the policy", || kubectl(&change).ok.then_some(()));
    eventually("the record as it was", || (namespace.record()["spec"] == spec).then_some(()));
    drop(policy);
    eventually("the policy again", || (!kubectl(&change).ok).then_some(()));
}

#[test]
fn what_happened_while_no_replica_ran_is_caught_up_with() {
    let prefixes = ["off-out", "off-binding", "off-subject", "off-again", "off-stays"];
    let namespaces = prefixes.map(Namespace::new);
    for namespace in &namespaces {
        namespace.opt_in(&[RARELY]);
    }
    let [out, unbound, rebound, again, stays] = &namespaces;
    let stayed = stays.record()["spec"].clone();
    {
        let _webhook = WithoutWebhook::new();
        out.annotate(&["chaos-"]).succeeds();
        kubectl(&["-n", &unbound.name, "delete", "rolebinding", "pure-chaos-agent"]).succeeds();
        let other = json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]);
        patch(rebound, "rolebinding", "pure-chaos-agent", &json!({"subjects": other}));
        kubectl(&["delete", "namespace", &again.name, "--timeout=60s"]).succeeds();
        kubectl(&["create", "namespace", &again.name]).succeeds();
    }
    let begun = Instant::now();
    eventually("everything to be caught up with", || {
        let caught_up = out.record() == Value::Null
            && binding(out) == Value::Null
            && unbound.has_binding()
            && binding(rebound)["subjects"][0]["name"] == "agent";
        caught_up.then_some(())
    });
    println!("caught up {:.1} s after the replicas were there again", begun.elapsed().as_secs_f64());
    assert_eq!((again.record(), again.has_binding()), (Value::Null, false));
    // Both replicas are new, and the record itself names the user who opted in.
    assert_eq!(stays.record()["spec"], stayed);
    until_opt_ins_are_reviewed();
    again.opt_in(&[RARELY]);
    let uid = object(&["namespace", &again.name])["metadata"]["uid"].clone();
    assert_eq!(again.record()["spec"]["namespaceUid"], uid);
}

#[test]
fn one_replica_is_enough_and_a_restart_goes_unnoticed() {
    let namespaces = [0, 1, 2, 3].map(|number| Namespace::new(&format!("restart-{number}")));
    let of_the_webhook = ["-n", "pure-chaos", "-l", "app.kubernetes.io/component=webhook"];
    for namespace in &namespaces {
        let pods = object(&[&["pods"], &of_the_webhook[..]].concat());
        let first = pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
        kubectl(&["-n", "pure-chaos", "delete", "pod", &first, "--wait=false"]).succeeds();
        namespace.opt_in(&[RARELY]);
        assert_eq!(namespace.record()["spec"]["verdict"], "Admitted");
        kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment", "webhook", "--timeout=60s"])
            .succeeds();
    }
}

#[test]
fn nothing_is_written_in_a_namespace_that_is_being_deleted() {
    let namespace = Namespace::new("going");
    let name = &namespace.name;
    namespace.unscheduled_pod("held");
    let held = Held::new(name, "pod/held");
    namespace.opt_in(&[RARELY]);
    kubectl(&["delete", "namespace", name, "--wait=false"]).succeeds();
    eventually("the namespace to be on its way", || namespace.pods().is_empty().then_some(()));
    kubectl(&["-n", name, "delete", "optin", "chaos", "--ignore-not-found"]).succeeds();
    let later = Namespace::new("going-later");
    later.opt_in(&[RARELY]);
    assert_eq!(namespace.record(), Value::Null);
    drop(held);
    kubectl(&["wait", "--for=delete", "namespace", name, "--timeout=60s"]).succeeds();
    // A namespace that was made again under its name inherits nothing.
    kubectl(&["create", "namespace", name]).succeeds();
    later.annotate(&["chaos-"]).succeeds();
    eventually("what came later", || (later.record() == Value::Null).then_some(()));
    assert_eq!((namespace.record(), namespace.has_binding()), (Value::Null, false));
}

#[test]
fn they_read_well() {
    let namespace = Namespace::new("read");
    let name = &namespace.name;
    namespace.opt_in(&[
        "purechaos.dev/schedule=every 1h",
        "purechaos.dev/dry-run=true",
        "purechaos.dev/limit=2",
    ]);
    eventually("the agent's next slot", || {
        namespace.record()["status"]["nextSlot"].as_str().map(str::to_owned)
    });
    let user = format!("--as=system:serviceaccount:{name}:viewer");
    let account = format!("--serviceaccount={name}:viewer");
    kubectl(&["-n", name, "create", "rolebinding", "viewer", "--clusterrole=view", &account]).succeeds();
    let columns = |table: &str| {
        table
            .lines()
            .next()
            .unwrap()
            .split("  ")
            .filter(|word| !word.is_empty())
            .map(|word| word.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let narrow = ["NAME", "OPTED IN BY", "SCHEDULE", "NEXT", "KILLS", "STATE", "AGE"];
    let wide = ["MODE", "LIMIT", "DRY RUN", "LAST", "PENDING", "RECOVERED"];

    let mine = ["get", "chaos", "-n", name];
    let seen = eventually("the viewer's rights", || {
        let output = kubectl(&[&mine[..], &[&user]].concat());
        output.ok.then_some(output.stdout)
    });
    println!("{seen}");
    assert_eq!(columns(&seen), narrow);
    let seen = kubectl(&[&mine[..], &["-o", "wide", &user]].concat()).succeeds();
    println!("{seen}");
    assert_eq!(columns(&seen), [&narrow[..], &wide[..]].concat());
    for word in ["every 1h", "dry run", "evict", "true"] {
        assert!(seen.contains(word), "{word}: {seen}");
    }
    let seen = kubectl(&["get", "chaos", "-A"]).succeeds();
    assert_eq!(columns(&seen), [&["NAMESPACE"], &narrow[..]].concat());
    assert!(seen.lines().any(|line| line.starts_with(name.as_str())), "{seen}");

    // A viewer may only read the record, and only in the own namespace.
    kubectl(&["get", "chaos", "-n", "default", &user]).fails_with("cannot list resource \"optins\"");
    kubectl(&["-n", name, "delete", "optin", "chaos", &user]).fails_with("cannot delete resource \"optins\"");
    kubectl(&["annotate", "namespace", name, "chaos-", &user])
        .fails_with("cannot patch resource \"namespaces\"");
}
