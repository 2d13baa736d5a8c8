//! Each lock on a kill alone: while the test tries one lock, the other three are open. This file
//! tries RBAC, the webhook and the admission policies. `tests/e2e_disruptive/safeguards/look.rs` tries the agent's
//! own look.

use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, eventually, kubectl, kubectl_with, object};
use tests::disruption::{
    Away, Held, all_rights, run_as, until_opt_ins_are_reviewed, without_webhook_configuration, write_as,
};

const POD: &str = "victim";

/// A namespace with a Pod, and the beginning of the sentence that says why a kill is forbidden
/// there; empty if no sentence says so.
struct Place {
    namespace: Namespace,
    sentence: String,
    /// Keeps the Pod if a lock fails: the test then sees that the Pod is being deleted.
    _held: Held,
}

/// One closed namespace of each kind, and an open one. All but the first carry the opt-in, so that
/// nothing else can be the reason.
struct Places {
    closed: Vec<Place>,
    open: Namespace,
    _held: Held,
}

impl Places {
    fn new(test: &str) -> Self {
        let place = |kind: &str, sentence: &str| {
            let namespace = Namespace::new(&format!("{kind}{test}"));
            namespace.unscheduled_pod(POD);
            let held = Held::new(&namespace.name, &format!("pod/{POD}"));
            let sentence = format!("namespace {} {sentence}", namespace.name);
            Place { namespace, sentence, _held: held }
        };
        let closed = vec![
            place("plain-", "is not opted in"),
            place("halted-", "is halted (incident 4711)"),
            place("kube-", "is protected and can't opt in"),
            place("going-", "is being deleted"),
        ];
        let open = Namespace::new(&format!("open-{test}"));
        open.unscheduled_pod(POD);
        let held = Held::new(&open.name, &format!("pod/{POD}"));
        // A protected namespace can carry the opt-in only if nobody reviewed it.
        let unseen = without_webhook_configuration();
        closed[2].namespace.annotate(&["chaos=yes"]).succeeds();
        drop(unseen);
        until_opt_ins_are_reviewed();
        let (consent, rarely) = ("chaos=yes", "purechaos.dev/schedule=every 12h");
        closed[1].namespace.annotate(&[consent, rarely, "purechaos.dev/halt=incident 4711"]).succeeds();
        closed[3].namespace.annotate(&[consent, rarely]).succeeds();
        // With mode `delete`, no lock refuses the kill because of how it is done.
        open.opt_in(&[rarely, "purechaos.dev/mode=delete"]);
        kubectl(&["delete", "namespace", &closed[3].namespace.name, "--wait=false"]).succeeds();
        eventually("the Pod of a namespace that is being deleted to be asked to go", || {
            closed[3].namespace.pods().is_empty().then_some(())
        });
        Self { closed, open, _held: held }
    }

    fn place(&self, kind: &str) -> &Place {
        self.closed.iter().find(|place| place.namespace.name.starts_with(kind)).unwrap()
    }
}

/// A way to kill, with RBAC's verb for it.
struct Way<'a> {
    name: &'static str,
    verb: &'static str,
    act: Box<dyn Fn() -> Output + 'a>,
}

/// Every way to kill.
fn ways<'a>(account: &'a str, namespace: &'a str) -> Vec<Way<'a>> {
    let delete = |flags: &'static [&'static str]| -> Box<dyn Fn() -> Output + 'a> {
        Box::new(move || {
            run_as(account, &[&["-n", namespace, "delete", "pod", POD, "--wait=false"], flags].concat())
        })
    };
    let evict = |query: &'static str, options: Value| -> Box<dyn Fn() -> Output + 'a> {
        Box::new(move || {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{POD}/eviction{query}");
            let eviction = json!({
                "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": POD, "namespace": namespace},
                "deleteOptions": options
            });
            write_as(account, &["create", "--raw", &path], &eviction)
        })
    };
    // Through --raw this is a deletecollection. Otherwise kubectl deletes the Pods one by one.
    let all = |query: &'static str| -> Box<dyn Fn() -> Output + 'a> {
        Box::new(move || {
            run_as(account, &["delete", "--raw", &format!("/api/v1/namespaces/{namespace}/pods{query}")])
        })
    };
    let way = |name, verb, act| Way { name, verb, act };
    vec![
        way("delete", "delete", delete(&[])),
        way("delete by force", "delete", delete(&["--grace-period=0", "--force"])),
        way("delete, dry run", "delete", delete(&["--dry-run=server"])),
        way("evict", "create", evict("", json!({}))),
        way("evict, dry run", "create", evict("?dryRun=All", json!({}))),
        way("evict, dry run in its options", "create", evict("", json!({"dryRun": ["All"]}))),
        way("deletecollection", "deletecollection", all("")),
        way("deletecollection, dry run", "deletecollection", all("?dryRun=All")),
    ]
}

/// The part of a Pod that would change if it were killed.
fn life_of(namespace: &Namespace) -> Value {
    let pod = object(&["pod", POD, "-n", &namespace.name]);
    json!([pod["metadata"]["uid"], pod["metadata"]["deletionTimestamp"]])
}

/// Asserts that this lock refuses every way to kill, in these words.
#[track_caller]
fn all_refused(namespace: &Namespace, lock: &str, sentence: &str) {
    let before = life_of(namespace);
    assert_ne!(before[0], Value::Null);
    for Way { name: way, act, .. } in ways("agent", &namespace.name) {
        let message = act().fails();
        // The API server creates nothing in a namespace that is being deleted, not even an
        // eviction. It says so before it asks any lock.
        if way.starts_with("evict") && message.contains("because it is being terminated") {
            continue;
        }
        assert!(
            message.contains(lock) && message.contains(sentence),
            "{way}: expected {lock:?} and {sentence:?} in: {message}"
        );
    }
    assert_eq!(life_of(namespace), before, "something died in {}", namespace.name);
}

/// Tries one lock of admission alone, in every namespace and under a halt of everything.
fn admission_alone(places: &Places, lock: &str, lock_on_everything: &str) {
    for place in &places.closed {
        println!("{lock}: {}", place.sentence);
        all_refused(&place.namespace, lock, &place.sentence);
    }
    let dry_run = || run_as("agent", &["-n", &places.open.name, "delete", "pod", POD, "--dry-run=server"]);
    dry_run().succeeds();

    let _halt = Away::changed("namespace", "pure-chaos", |system| {
        system["metadata"]["annotations"]["purechaos.dev/halt"] = json!("incident 4712");
    });
    eventually("the halt of everything", || (!dry_run().ok).then_some(()));
    all_refused(&places.open, lock_on_everything, "Pure Chaos is halted (incident 4712)");
}

/// The API server doesn't ask the webhook about kills until the result is dropped. It still asks
/// about opt-ins.
fn without_the_webhooks_lock() -> Away {
    Away::changed("validatingwebhookconfiguration", "pure-chaos", |configuration| {
        let webhooks = configuration["webhooks"].as_array_mut().unwrap();
        webhooks.retain(|webhook| webhook["name"] != "kill.purechaos.dev");
        assert_eq!(webhooks.len(), 1);
    })
}

/// Removes the admission policies on kills until the result is dropped.
fn without_policies() -> [Away; 2] {
    ["kill.purechaos.dev", "halt.purechaos.dev"]
        .map(|name| Away::taken("validatingadmissionpolicybinding", name))
}

/// The refusal of an account that has every right, which shows which locks are open. The account is
/// not the agent, because the agent's rights may be the lock.
fn refusal(namespace: &Namespace) -> String {
    run_as("default", &["-n", &namespace.name, "delete", "pod", POD, "--dry-run=server"]).stderr
}

/// Waits until both locks of admission are back.
fn until_locked(namespace: &Namespace) {
    eventually("the admission policy again", || {
        refusal(namespace).contains("ValidatingAdmissionPolicy 'kill.purechaos.dev'").then_some(())
    });
}

#[test]
fn rights_alone_stop_every_kill_where_nobody_opted_in() {
    let places = Places::new("rights");
    let plain = &places.place("plain").namespace;
    let _probe = all_rights("default");
    {
        let _locks = (without_the_webhooks_lock(), without_policies());
        eventually("the other locks to be open", || refusal(plain).is_empty().then_some(()));
        // This leaves out the namespace that is being deleted, because its RoleBinding outlives its
        // Pods.
        for kind in ["plain", "kube"] {
            let namespace = &places.place(kind).namespace;
            let before = life_of(namespace);
            for Way { name: way, verb, act } in ways("agent", &namespace.name) {
                println!("{}: {way}", namespace.name);
                act().fails_with(&format!("account:pure-chaos:agent\" cannot {verb} resource \"pods"));
            }
            assert_eq!(life_of(namespace), before);
        }
        // In a namespace that opted in, the agent may kill Pods one by one, and never all at once.
        for Way { name: way, verb, act } in ways("agent", &places.open.name) {
            let output = act();
            match verb {
                "deletecollection" => output.fails_with("cannot deletecollection resource \"pods"),
                _ if way.contains("dry run") => drop(output.succeeds()),
                _ => {}
            }
        }
    }
    until_locked(plain);
}

#[test]
fn the_policies_alone_stop_every_kill() {
    let places = Places::new("policy");
    let _rights = all_rights("agent");
    let _webhook = without_the_webhooks_lock();
    admission_alone(
        &places,
        "ValidatingAdmissionPolicy 'kill.purechaos.dev'",
        "ValidatingAdmissionPolicy 'halt.purechaos.dev'",
    );
}

#[test]
fn the_webhook_alone_stops_every_kill() {
    let places = Places::new("webhook");
    let _rights = (all_rights("agent"), all_rights("default"));
    let plain = &places.place("plain").namespace;
    {
        let _policies = without_policies();
        let lock = "admission webhook \"kill.purechaos.dev\" denied the request";
        eventually("the end of the admission policies", || refusal(plain).contains(lock).then_some(()));
        admission_alone(&places, lock, lock);
    }
    until_locked(plain);
}

/// Namespaces that have opted in, and consent to less than an account tries there.
struct Consented {
    dry: Namespace,
    evict: Namespace,
    excepted: Namespace,
    /// Its Pod asks to be left alone.
    spared: Namespace,
    /// Its Pod has a node, so that its grace period counts.
    graceful: Namespace,
    /// All restrictions at once, and a PodDisruptionBudget that allows no disruption.
    all: Namespace,
}

impl Consented {
    fn new(test: &str) -> Self {
        // The tests before may have changed the webhook configuration.
        until_opt_ins_are_reviewed();
        let opted_in = |kind: &str, settings: &[&str], pod: Value| {
            let namespace = Namespace::new(&format!("{kind}-{test}"));
            let mut pod = pod;
            pod["metadata"]["name"] = json!(POD);
            pod["metadata"]["namespace"] = json!(namespace.name);
            kubectl_with(&["create"], &pod).succeeds();
            namespace.opt_in(&[&["purechaos.dev/schedule=every 12h"], settings].concat());
            namespace
        };
        let containers = json!([{"name": "a", "image": "chentex/random-logger"}]);
        let nowhere = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"app": "web"}},
            "spec": {"nodeSelector": {"no": "node"}, "containers": containers}});
        let node = object(&["nodes"])["items"][0]["metadata"]["name"].clone();
        let mut on_a_node = nowhere.clone();
        on_a_node["spec"] = json!({"nodeName": node, "containers": containers});
        let mut asking = nowhere.clone();
        asking["metadata"]["annotations"] = json!({"purechaos.dev/exclude": "true"});
        let (delete, never) = ("purechaos.dev/mode=delete", "purechaos.dev/except=2020-01-01/2099-12-31");
        let all = opted_in("all", &["purechaos.dev/dry-run=true", never], {
            let mut pod = on_a_node.clone();
            pod["metadata"]["annotations"] = asking["metadata"]["annotations"].clone();
            pod
        });
        let budget = ["create", "poddisruptionbudget", "none", "--selector=app=web", "--max-unavailable=0"];
        kubectl(&[&["-n", &all.name], &budget[..]].concat()).succeeds();
        Self {
            dry: opted_in("dry", &[delete, "purechaos.dev/dry-run=true"], nowhere.clone()),
            evict: opted_in("evict", &[], nowhere.clone()),
            excepted: opted_in("excepted", &[delete, never], nowhere),
            spared: opted_in("spared", &[delete], asking),
            graceful: opted_in("graceful", &[delete], on_a_node),
            all,
        }
    }

    /// Attacks with the agent's token, in every way. Each way in `refused` has to be refused by a
    /// lock of this name.
    fn held(&self, lock: &str, refused: &[(&Namespace, &[&str], &str)]) {
        for (namespace, kinds, sentence) in refused {
            let before = life_of(namespace);
            for Way { name: way, act, .. } in ways("agent", &namespace.name) {
                if kinds.contains(&way) {
                    let message = act().fails();
                    let expected = message.contains(lock) && message.contains(sentence);
                    assert!(expected, "{way}: expected {lock:?} and {sentence:?} in: {message}");
                } else if way.contains("dry run") {
                    act().succeeds();
                }
            }
            assert_eq!(life_of(namespace), before, "something died in {}", namespace.name);
        }
        let before = life_of(&self.all);
        let force = ["delete", "pod", POD, "--grace-period=0", "--force"];
        run_as("agent", &[&["-n", &self.all.name], &force[..]].concat()).fails_with(lock);
        assert_eq!(life_of(&self.all), before);
    }
}

/// All ways except dry runs, and all ways by DELETE.
const FOR_REAL: [&str; 4] = ["delete", "delete by force", "evict", "deletecollection"];
const DELETIONS: [&str; 5] =
    ["delete", "delete by force", "delete, dry run", "deletecollection", "deletecollection, dry run"];

/// Removes the agent's right to delete Pods until the result is dropped, as without component
/// `delete`.
fn without_component_delete() -> Away {
    Away::changed("clusterrole", "pure-chaos-agent", |role| {
        let rules = role["rules"].as_array_mut().unwrap();
        let before = rules.len();
        rules.retain(|rule| rule["verbs"] != json!(["delete"]));
        assert_eq!(rules.len() + 1, before);
    })
}

#[test]
fn how_a_kill_may_be_done_is_held_by_rights_alone() {
    let places = Consented::new("rights");
    let _locks = (without_component_delete(), without_the_webhooks_lock(), without_policies());
    let attack = || run_as("agent", &["-n", &places.evict.name, "delete", "pod", POD, "--dry-run=server"]);
    eventually("the end of the right", || attack().stderr.contains("cannot delete resource").then_some(()));
    // RBAC refuses a deletecollection under that name.
    places.held("cannot delete", &[(&places.evict, &DELETIONS, "resource \"pods\"")]);
}

#[test]
fn how_a_kill_may_be_done_is_held_by_the_policies_alone() {
    let places = Consented::new("policy");
    let (_rights, _webhook) = (all_rights("agent"), without_the_webhooks_lock());
    let evict = || run_as("agent", &["-n", &places.spared.name, "delete", "pod", POD, "--dry-run=server"]);
    eventually("the end of the webhook's lock", || evict().ok.then_some(()));
    places.held(
        "ValidatingAdmissionPolicy 'kill.purechaos.dev'",
        &[
            (&places.dry, &FOR_REAL, "consents to dry runs only"),
            (&places.evict, &DELETIONS, "consents to evictions only, and this is a DELETE"),
            (&places.graceful, &["delete by force"], "does not consent to a kill without a grace period"),
        ],
    );
}

#[test]
fn how_a_kill_may_be_done_is_held_by_the_webhook_alone() {
    let places = Consented::new("webhook");
    let _rights = (all_rights("agent"), all_rights("default"));
    {
        let _policies = without_policies();
        let lock = "admission webhook \"kill.purechaos.dev\" denied the request";
        eventually("the end of the admission policies", || {
            refusal(&places.evict).contains(lock).then_some(())
        });
        let everything = ways("agent", &places.excepted.name);
        let everything: Vec<&str> = everything.iter().map(|way| way.name).collect();
        places.held(
            lock,
            &[
                (&places.dry, &FOR_REAL, "consents to dry runs only"),
                (&places.evict, &DELETIONS, "consents to evictions only, and this is a DELETE"),
                (&places.excepted, &everything, "has a day without chaos"),
                (&places.spared, &DELETIONS, "asks to be left alone"),
                (&places.graceful, &["delete by force"], "consents to kills with the Pod's own grace period"),
            ],
        );
    }
    until_locked(&places.evict);
}

#[test]
fn nobody_else_is_held_up() {
    let namespace = Namespace::new("free");
    namespace.deployment("web", 1);
    kubectl(&["-n", &namespace.name, "delete", "pod", &namespace.pods()[0]]).succeeds();
}
