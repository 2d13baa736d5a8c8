use super::*;
use crate::admission::decide::Note;
use crate::fake::{CONFIGURATION, Fake, binding, configuration, namespace, record, replica_of, virtual_time};
use crate::metrics::Metrics;
use crate::reconcile::worker::work;
use crate::reconcile::write_throttle::{PATIENCE, REST};
use crate::run::Parts;
use fake_api::{Answer, FAULT};
use policy::eligibility::NamespaceView;
use runtime::clock::TokioClock;
use serde_json::{Value, json};

mod bindings;
mod replicas;

fn parts(fake: &Fake, seed: u64) -> Parts {
    let clock = TokioClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap());
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    if fake.get(CONFIGURATION).is_none() {
        fake.put(CONFIGURATION, configuration());
    }
    let parts =
        Parts::new(&fake.client(), PlatformPolicy::built_in(), &metrics, Arc::new(clock), replica_of(seed));
    parts.guard.configuration(Some(&serde_json::from_value(configuration()).unwrap()));
    parts
}

fn uid(fake: &Fake, name: &str) -> String {
    fake.get(&namespace(name)).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Stores annotations as if this replica had admitted them.
fn admit(fake: &Fake, parts: &Parts, namespace: &str, annotations: Value) {
    fake.namespace(namespace, json!({}));
    let digest = policy::digest::digest(&serde_json::from_value(annotations.clone()).unwrap());
    let note = Note {
        namespace: namespace.to_owned(),
        uid: Some(uid(fake, namespace)),
        user: "kim".to_owned(),
        digest,
        set_by: String::new(),
    };
    assert!(parts.pending_admissions.remember(
        note,
        parts.records.clock.wall(),
        parts.records.clock.monotonic()
    ));
    fake.namespace(namespace, annotations);
}

/// A replica that has admitted the opt-in of namespace `a`.
fn admitted() -> (Fake, Parts) {
    let fake = Fake::new();
    let one = parts(&fake, 1);
    admit(&fake, &one, "a", yes());
    (fake, one)
}

async fn look(parts: &Parts, namespace: &str) -> Option<Duration> {
    parts.records.look(namespace).await.unwrap()
}

fn yes() -> Value {
    json!({"chaos": "yes"})
}

#[test]
fn an_admitted_opt_in_becomes_record_and_binding_and_goes_again() {
    virtual_time(async {
        let (fake, one) = admitted();
        assert_eq!(look(&one, "a").await, None);
        assert_eq!(
            fake.writes(),
            [
                "POST namespaces/a/rolebindings",
                "POST namespaces/a/optins",
                "PATCH namespaces/a/rolebindings/pure-chaos-agent"
            ],
            "the agent looks at the Pods as soon as it sees the record: its rights are there before"
        );
        let record = fake.record("a").unwrap();
        assert_eq!(record["spec"]["verdict"], "Admitted");
        assert_eq!(record["spec"]["admission"]["user"], "kim");
        assert_eq!(record["spec"]["namespaceUid"], uid(&fake, "a"));
        assert_eq!(record["spec"]["settings"]["schedule"], "every 10m");
        let binding = fake.binding("a").unwrap();
        assert_eq!(binding["metadata"]["ownerReferences"][0]["uid"], record["metadata"]["uid"]);

        // If nothing differs, nothing is written.
        assert_eq!(look(&one, "a").await, None);
        assert_eq!(look(&parts(&fake, 2), "a").await, None);
        assert_eq!(fake.writes(), Vec::<String>::new());

        fake.namespace("a", json!({}));
        assert_eq!(look(&one, "a").await, None);
        assert_eq!(
            fake.writes(),
            ["DELETE namespaces/a/rolebindings/pure-chaos-agent", "DELETE namespaces/a/optins/chaos"],
            "rights go first"
        );
        one.records.objects.events.finish().await;
        assert_eq!(fake.events_in("a"), ["ChaosOptedIn", "ChaosOptedOut"]);
    });
}

#[test]
fn what_nobody_admitted_gets_a_record_that_says_so_and_no_binding() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        fake.namespace("a", yes());
        assert_eq!(look(&one, "a").await, Some(PATIENCE), "the other replica may know more");
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(look(&one, "a").await, None);
        assert_eq!(fake.verdict("a"), "NotAdmitted");
        assert!(
            fake.record("a").unwrap()["spec"]["reason"]
                .as_str()
                .unwrap()
                .contains("kubectl annotate namespace a chaos-")
        );
        assert!(fake.binding("a").is_none());
        fake.namespace("b", json!({"chaos": "Yes"}));
        assert_eq!(look(&one, "b").await, None);
        assert_eq!(fake.verdict("b"), "NotUnderstood");
        one.records.objects.events.finish().await;
        assert!(fake.binding("b").is_none());
        for namespace in ["a", "b"] {
            assert_eq!(fake.events_in(namespace), ["ChaosRefused"], "the agent has no right to tell it");
        }
    });
}

#[test]
fn a_widened_consent_that_nobody_admitted_loses_the_rights() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        admit(&fake, &one, "a", json!({"chaos": "yes", "purechaos.dev/dry-run": "true"}));
        look(&one, "a").await;
        fake.namespace("a", yes());
        assert_eq!(look(&one, "a").await, Some(PATIENCE));
        tokio::time::sleep(PATIENCE).await;
        look(&one, "a").await;
        assert_eq!(fake.verdict("a"), "NotAdmitted");
        assert!(fake.binding("a").is_none());
        assert!(fake.record("a").unwrap()["spec"].get("admission").is_none(), "the patch must take it out");
        // The consent is widened again, and the other replica admits it.
        let two = parts(&fake, 2);
        admit(&fake, &two, "a", yes());
        look(&two, "a").await;
        assert_eq!(fake.verdict("a"), "Admitted");
        assert!(fake.record("a").unwrap()["spec"].get("reason").is_none());
        assert!(fake.binding("a").is_some());
    });
}

#[test]
fn a_conflict_is_read_again_and_the_newer_opt_in_wins() {
    virtual_time(async {
        let (fake, one) = admitted();
        look(&one, "a").await;
        fake.namespace("a", json!({}));
        // While this replica removes the record, somebody opts in again, and the other replica
        // writes that opt-in.
        fake.before("DELETE", "/optins/chaos", |api| {
            api.change(&namespace("a"), |namespace| namespace["metadata"]["annotations"] = yes());
            api.change(&record("a"), |record| record["spec"]["admission"]["user"] = json!("sam"));
        });
        fake.writes();
        look(&one, "a").await;
        assert_eq!(fake.record("a").unwrap()["spec"]["admission"]["user"], "sam");
        assert!(fake.binding("a").is_some());
        assert_eq!(
            fake.writes().iter().filter(|write| write.starts_with("DELETE namespaces/a/optins")).count(),
            1
        );
        one.records.objects.events.finish().await;
        assert_eq!(fake.events_in("a"), ["ChaosOptedIn", "ChaosOptedIn"], "by kim, then by sam");
    });
}

#[test]
fn conflicts_without_end_are_left_to_the_queue() {
    virtual_time(async {
        let (fake, one) = admitted();
        fake.fail("POST", "/optins", usize::MAX, Answer::Status(409, Value::Null));
        assert!(matches!(one.records.look("a").await, Err(LookError::Conflict(_))));
        let tries = fake.writes().into_iter().filter(|write| write.ends_with("/optins"));
        assert_eq!(tries.count(), TRIES as usize);
        fake.heal();
        look(&one, "a").await;
        assert_eq!(fake.verdict("a"), "Admitted", "the admission is not lost meanwhile");
    });
}

/// The owner reads why a quota or another admission policy refuses what the webhook writes.
#[test]
fn what_is_refused_is_told_in_the_refusers_words_until_it_is_done() {
    virtual_time(async {
        for plural in ["/rolebindings", "/optins"] {
            let (fake, one) = admitted();
            fake.fail("POST", plural, usize::MAX, Answer::Status(403, Value::Null));
            for _ in 0..3 {
                assert!(one.records.look("a").await.is_err(), "{plural}: it is tried again");
                tokio::time::sleep(REST).await;
            }
            let reason = |fake: &Fake| fake.record("a").map(|record| record["spec"]["reason"].clone());
            if plural == "/rolebindings" {
                let reason = reason(&fake).unwrap();
                assert!(reason.as_str().unwrap().contains(FAULT), "{reason}");
            }
            assert_eq!(
                fake.events_in("a"),
                ["ChaosRefused"],
                "{plural}: once, and nobody is told that Pods may be killed"
            );
            let note = fake.notes_in("a").remove(0);
            assert!(note.contains(FAULT), "{note}");

            fake.heal();
            look(&one, "a").await;
            assert!(fake.binding("a").is_some());
            assert_eq!(reason(&fake), Some(Value::Null), "{plural}");
            one.records.objects.events.finish().await;
            assert_eq!(fake.events_in("a"), ["ChaosRefused", "ChaosOptedIn"], "{plural}");
        }
    });
}

#[test]
fn a_halt_of_a_namespace_is_in_its_record_and_goes_with_it() {
    virtual_time(async {
        let (fake, one) = admitted();
        look(&one, "a").await;
        let halt = |fake: &Fake| fake.record("a").unwrap()["spec"]["halt"].clone();
        assert_eq!(halt(&fake), Value::Null);
        fake.namespace("a", json!({"chaos": "yes", "purechaos.dev/halt": "incident 4711"}));
        look(&one, "a").await;
        assert_eq!((halt(&fake), fake.verdict("a")), (json!("incident 4711"), "Admitted".to_owned()));
        fake.namespace("a", yes());
        tokio::time::sleep(REST).await;
        look(&one, "a").await;
        assert_eq!(halt(&fake), Value::Null);
    });
}

#[test]
fn an_opt_out_names_the_recoveries_that_nobody_watches_any_more() {
    virtual_time(async {
        let (fake, one) = admitted();
        look(&one, "a").await;
        fake.change(&record("a"), |record| {
            record["status"]["pending"] = json!([{"pod": "web-1", "uid": "u", "time": "2026-11-23T12:00:00Z",
                "steadyState": 3, "workload": {"kind": "Deployment", "name": "web", "uid": "w"}}]);
        });
        fake.namespace("a", json!({}));
        look(&one, "a").await;
        one.records.objects.events.finish().await;
        let notes = fake.notes_in("a");
        assert!(
            notes[1].contains("opted out") && notes[1].contains("Pod web-1 of Deployment web"),
            "{notes:?}"
        );
    });
}

#[test]
fn a_terminating_namespace_is_left_alone() {
    virtual_time(async {
        let (fake, one) = admitted();
        look(&one, "a").await;
        fake.change(&namespace("a"), |namespace| {
            namespace["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z");
        });
        fake.remove(&binding("a"));
        fake.writes();
        assert_eq!(look(&one, "a").await, None);
        // The deletion may also show only in the refusal of a write.
        admit(&fake, &one, "b", yes());
        let terminating = json!({"causes": [{"reason": "NamespaceTerminating", "message": ""}]});
        fake.fail("POST", "", usize::MAX, Answer::Status(403, terminating));
        assert_eq!(look(&one, "b").await, None);
        assert_eq!(fake.writes(), ["POST namespaces/b/rolebindings"], "final, not tried again");
        fake.heal();
        fake.fail("POST", "", usize::MAX, Answer::Status(403, Value::Null));
        assert!(matches!(one.records.look("b").await, Err(LookError::Call(..))), "missing rights are no end");
    });
}

#[test]
fn who_read_that_nothing_is_killed_reads_when_that_ends() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        let dry = json!({"chaos": "yes", "purechaos.dev/dry-run": "true"});
        let also = json!({"chaos": "yes", "purechaos.dev/dry-run": "true", "purechaos.dev/limit": "2"});
        for annotations in [dry, also, yes(), json!({"chaos": "yes", "purechaos.dev/limit": "2"})] {
            admit(&fake, &one, "a", annotations);
            look(&one, "a").await;
        }
        one.records.objects.events.finish().await;
        assert_eq!(
            fake.notes_in("a"),
            [
                "kim opted this namespace in to chaos: its rounds are dry runs, which kill no Pod",
                "kim opted this namespace in to chaos: its Pods may be killed from now on",
            ]
        );
    });
}
