//! The locks on a kill, each alone: the other three are open while it is tried. Rights alone, the webhook alone, the admission policies
//! alone; the agent's own look alone is in `look_cluster.rs`.

use serde_json::{Value, json};
use tests::away::{
    Away, Held, all_rights, run_as, until_opt_ins_are_reviewed, without_webhook_configuration, write_as,
};
use tests::cluster::{Namespace, Output, eventually, kubectl, object};

const POD: &str = "victim";

/// A namespace with a Pod, and how the sentence on it begins: what of it forbids a kill, or nothing.
struct Place {
    namespace: Namespace,
    sentence: String,
    /// Against a lock that fails: the test sees that the Pod is on its way, and it still is there.
    _held: Held,
}

/// One of each kind, and an open one. All but the first carry the opt-in, so that nothing else can be the reason.
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
        // A protected namespace carries the opt-in only if nobody looked.
        let unseen = without_webhook_configuration();
        closed[2].namespace.annotate(&["chaos=yes"]).succeeds();
        drop(unseen);
        until_opt_ins_are_reviewed();
        let (consent, rarely) = ("chaos=yes", "purechaos.dev/schedule=every 12h");
        closed[1].namespace.annotate(&[consent, rarely, "purechaos.dev/halt=incident 4711"]).succeeds();
        closed[3].namespace.annotate(&[consent, rarely]).succeeds();
        open.opt_in(&[rarely]);
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

/// Every way to kill, with the verb that RBAC names it by.
fn ways(account: &str, namespace: &str) -> Vec<(&'static str, &'static str, Output)> {
    let delete = |flags: &[&str]| {
        run_as(account, &[&["-n", namespace, "delete", "pod", POD, "--wait=false"], flags].concat())
    };
    let evict = |query: &str, options: Value| {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{POD}/eviction{query}");
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": POD, "namespace": namespace},
            "deleteOptions": options
        });
        write_as(account, &["create", "--raw", &path], &eviction)
    };
    // Through --raw it is a deletecollection; otherwise kubectl deletes one by one.
    let all = |query: &str| {
        run_as(account, &["delete", "--raw", &format!("/api/v1/namespaces/{namespace}/pods{query}")])
    };
    vec![
        ("delete", "delete", delete(&[])),
        ("delete by force", "delete", delete(&["--grace-period=0", "--force"])),
        ("delete, dry run", "delete", delete(&["--dry-run=server"])),
        ("evict", "create", evict("", json!({}))),
        ("evict, dry run", "create", evict("?dryRun=All", json!({}))),
        ("evict, dry run in its options", "create", evict("", json!({"dryRun": ["All"]}))),
        ("deletecollection", "deletecollection", all("")),
        ("deletecollection, dry run", "deletecollection", all("?dryRun=All")),
    ]
}

/// What of a Pod would change if it were killed.
fn life_of(namespace: &Namespace) -> Value {
    let pod = object(&["pod", POD, "-n", &namespace.name]);
    json!([pod["metadata"]["uid"], pod["metadata"]["deletionTimestamp"]])
}

/// Every way to kill is refused by this lock in these words.
#[track_caller]
fn all_refused(namespace: &Namespace, lock: &str, sentence: &str) {
    let before = life_of(namespace);
    assert_ne!(before[0], Value::Null);
    for (way, _, output) in ways("agent", &namespace.name) {
        let message = output.fails();
        // Nothing is created in a namespace that is being deleted, an eviction neither: so says the API server before it asks any lock.
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

/// One lock of admission, in every place and under a halt of everything.
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

/// The webhook is not asked about kills until this is dropped; about opt-ins it is.
fn without_the_webhooks_lock() -> Away {
    Away::changed("validatingwebhookconfiguration", "pure-chaos", |configuration| {
        let webhooks = configuration["webhooks"].as_array_mut().unwrap();
        webhooks.retain(|webhook| webhook["name"] != "kill.purechaos.dev");
        assert_eq!(webhooks.len(), 1);
    })
}

/// The admission policies on kills are off until this is dropped.
fn without_policies() -> [Away; 2] {
    ["kill.purechaos.dev", "halt.purechaos.dev"]
        .map(|name| Away::taken("validatingadmissionpolicybinding", name))
}

/// What refuses an account that has every right, as the probe of which locks are open. Not the agent: its rights may be the lock.
fn refusal(namespace: &Namespace) -> String {
    run_as("default", &["-n", &namespace.name, "delete", "pod", POD, "--dry-run=server"]).stderr
}

/// Both locks of admission are there again.
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
        // Not in the one that is being deleted: its RoleBinding outlives its Pods.
        for kind in ["plain", "kube"] {
            let namespace = &places.place(kind).namespace;
            let before = life_of(namespace);
            for (way, verb, output) in ways("agent", &namespace.name) {
                println!("{}: {way}", namespace.name);
                output.fails_with(&format!("account:pure-chaos:agent\" cannot {verb} resource \"pods"));
            }
            assert_eq!(life_of(namespace), before);
        }
        // Where somebody did, it may kill one by one, and never all at once.
        for (way, verb, output) in ways("agent", &places.open.name) {
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

#[test]
fn nobody_else_is_held_up() {
    let namespace = Namespace::new("free");
    namespace.deployment("web", 1);
    kubectl(&["-n", &namespace.name, "delete", "pod", &namespace.pods()[0]]).succeeds();
}
