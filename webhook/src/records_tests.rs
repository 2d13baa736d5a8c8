use super::*;
use crate::decide::Note;
use crate::fake::{Fake, refusal, virtual_time};
use crate::metrics::Metrics;
use crate::pace::{PATIENCE, REST};
use crate::run::{Parts, Replica};
use crate::worker::work;
use axum::http::Method;
use policy::eligibility::NamespaceView;
use runtime::clock::TokioClock;
use serde_json::{Value, json};

fn parts(fake: &Fake, seed: u64) -> Parts {
    let clock = TokioClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap());
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    Parts::new(
        &fake.client(),
        PlatformPolicy::built_in(),
        &metrics,
        Arc::new(clock),
        Replica { seed, instance: "pod".to_owned(), accounts: vec!["agent".to_owned()] },
    )
}

fn uid(fake: &Fake, namespace: &str) -> String {
    fake.with(|store| store.get("namespaces", "", namespace)).unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned()
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
    parts.notes.remember(note, parts.records.clock.wall(), parts.records.clock.monotonic());
    fake.namespace(namespace, annotations);
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
        let fake = Fake::new();
        let one = parts(&fake, 1);
        admit(&fake, &one, "a", yes());
        assert_eq!(look(&one, "a").await, None);
        assert_eq!(fake.writes(), ["POST namespaces/a/optins", "POST namespaces/a/rolebindings"]);
        let record = fake.record("a").unwrap();
        assert_eq!(record["spec"]["verdict"], "Admitted");
        assert_eq!(record["spec"]["admission"]["user"], "kim");
        assert_eq!(record["spec"]["namespaceUid"], uid(&fake, "a"));
        assert_eq!(record["spec"]["settings"]["schedule"], "every 10m");
        let binding = fake.binding("a").unwrap();
        assert_eq!(binding["metadata"]["ownerReferences"][0]["uid"], record["metadata"]["uid"]);

        // Nothing differs, nothing is written.
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
        assert_eq!(fake.events("a"), ["ChaosOptedIn", "ChaosOptedOut"]);
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
        assert!(fake.binding("b").is_none() && fake.events("b").is_empty());
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
        // And back, through the other replica.
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
        let fake = Fake::new();
        let one = parts(&fake, 1);
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        fake.namespace("a", json!({}));
        // While this replica removes the record, somebody opts in again and the other replica writes that.
        let mut is_first = true;
        fake.hook(move |method, path, store| {
            if *method == Method::DELETE && path.ends_with("/optins/chaos") && std::mem::take(&mut is_first) {
                let mut namespace = store.get("namespaces", "", "a").unwrap();
                namespace["metadata"]["annotations"] = yes();
                store.put("namespaces", "", "a", namespace);
                let mut record = store.get("optins", "a", "chaos").unwrap();
                record["spec"]["admission"]["user"] = json!("sam");
                store.put("optins", "a", "chaos", record);
            }
            None
        });
        fake.writes();
        look(&one, "a").await;
        assert_eq!(fake.record("a").unwrap()["spec"]["admission"]["user"], "sam");
        assert!(fake.binding("a").is_some());
        assert_eq!(
            fake.writes().iter().filter(|write| write.starts_with("DELETE namespaces/a/optins")).count(),
            1
        );
        assert_eq!(fake.events("a"), ["ChaosOptedIn"]);
    });
}

#[test]
fn conflicts_without_end_are_left_to_the_queue() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        admit(&fake, &one, "a", yes());
        fake.hook(|method, path, _| {
            (*method == Method::POST && path.ends_with("/optins")).then(|| refusal(409, "AlreadyExists", ""))
        });
        assert!(matches!(one.records.look("a").await, Err(LookError::Conflict(_))));
        assert_eq!(fake.writes().len(), TRIES as usize);
        fake.no_hook();
        look(&one, "a").await;
        assert_eq!(fake.verdict("a"), "Admitted", "the admission is not lost meanwhile");
    });
}

#[test]
fn a_foreign_binding_stays_and_is_shown() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        fake.with(|store| {
            store.put(
                "rolebindings",
                "a",
                "pure-chaos-agent",
                json!({"metadata": {}, "roleRef": {"apiGroup": "x", "kind": "Role", "name": "other"}}),
            )
        });
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        assert_eq!(fake.verdict("a"), "Admitted");
        assert!(
            fake.record("a").unwrap()["spec"]["reason"]
                .as_str()
                .unwrap()
                .contains("delete rolebinding pure-chaos-agent")
        );
        assert_eq!(fake.binding("a").unwrap()["roleRef"]["name"], "other");
        fake.writes();
        tokio::time::sleep(REST * 2).await;
        assert_eq!(look(&one, "a").await, None);
        assert_eq!(fake.writes(), Vec::<String>::new(), "no loop");
        fake.with(|store| store.remove("rolebindings", "a", "pure-chaos-agent"));
        look(&one, "a").await;
        assert!(fake.record("a").unwrap()["spec"].get("reason").is_none());
        assert_eq!(fake.binding("a").unwrap()["roleRef"]["name"], "pure-chaos-agent");
        // Opting out leaves a foreign one as well.
        fake.with(|store| {
            let mut foreign = store.get("rolebindings", "a", "pure-chaos-agent").unwrap();
            foreign["metadata"]["ownerReferences"] = json!([]);
            store.put("rolebindings", "a", "pure-chaos-agent", foreign);
        });
        fake.namespace("a", json!({}));
        look(&one, "a").await;
        assert!(fake.binding("a").is_some() && fake.record("a").is_none());
    });
}

#[test]
fn what_hands_edit_is_put_right() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        let good = fake.record("a").unwrap()["spec"].clone();
        let edits: [fn(&mut crate::fake::Store); 6] = [
            |store| drop(store.remove("rolebindings", "a", "pure-chaos-agent")),
            |store| drop(store.remove("optins", "a", "chaos")),
            |store| {
                let mut binding = store.get("rolebindings", "a", "pure-chaos-agent").unwrap();
                binding["subjects"] = json!([{"kind": "User", "name": "eve"}]);
                store.put("rolebindings", "a", "pure-chaos-agent", binding);
            },
            |store| {
                let mut binding = store.remove("rolebindings", "a", "pure-chaos-agent").unwrap();
                binding["roleRef"]["name"] = json!("cluster-admin");
                store.put("rolebindings", "a", "pure-chaos-agent", binding);
            },
            |store| {
                let mut record = store.get("optins", "a", "chaos").unwrap();
                record["spec"]["settings"]["limit"] = json!(50);
                record["spec"]["admission"]["digest"] = json!("0");
                store.put("optins", "a", "chaos", record);
            },
            |store| {
                let mut record = store.get("optins", "a", "chaos").unwrap();
                record["spec"] = json!({"nonsense": true});
                store.put("optins", "a", "chaos", record);
            },
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            tokio::time::sleep(REST).await;
            fake.with(edit);
            assert_eq!(look(&one, "a").await, None, "{number}");
            assert_eq!(fake.record("a").unwrap()["spec"], good, "{number}");
            let binding = fake.binding("a").unwrap();
            assert_eq!(binding["subjects"][0]["name"], "agent", "{number}");
            assert_eq!(binding["roleRef"]["name"], "pure-chaos-agent", "{number}");
            assert_eq!(
                binding["metadata"]["ownerReferences"][0]["uid"],
                fake.record("a").unwrap()["metadata"]["uid"],
                "{number}"
            );
        }
        // Whoever does it again and again is answered at most once in a while.
        fake.with(edits[0]);
        assert_eq!(look(&one, "a").await, Some(REST));
    });
}

#[test]
fn a_terminating_namespace_is_left_alone() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        fake.with(|store| {
            let mut namespace = store.get("namespaces", "", "a").unwrap();
            namespace["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z");
            store.put("namespaces", "", "a", namespace);
            store.remove("rolebindings", "a", "pure-chaos-agent");
        });
        fake.writes();
        assert_eq!(look(&one, "a").await, None);
        // Or it is only seen in the refusal of a write.
        admit(&fake, &one, "b", yes());
        fake.hook(|method, _, _| {
            (*method == Method::POST).then(|| refusal(403, "Forbidden", "NamespaceTerminating"))
        });
        assert_eq!(look(&one, "b").await, None);
        assert_eq!(fake.writes(), ["POST namespaces/b/optins"], "final, not tried again");
        fake.no_hook();
        fake.hook(|method, _, _| (*method == Method::POST).then(|| refusal(403, "Forbidden", "")));
        assert!(matches!(one.records.look("b").await, Err(LookError::Call(..))), "missing rights are no end");
    });
}

#[test]
fn a_record_deleted_while_its_namespace_opted_out_unseen_is_not_restored() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        // Out and in again while the webhook did not see it; the other replica removed the record in between.
        fake.namespace("a", json!({}));
        fake.with(|store| store.remove("optins", "a", "chaos"));
        fake.namespace("a", yes());
        look(&one, "a").await;
        tokio::time::sleep(PATIENCE).await;
        look(&one, "a").await;
        assert_eq!(fake.verdict("a"), "NotAdmitted");
    });
}

#[test]
fn a_replica_that_was_started_later_heals_as_well() {
    virtual_time(async {
        let fake = Fake::new();
        let (one, late) = (parts(&fake, 1), parts(&fake, 2));
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        look(&late, "a").await;
        fake.with(|store| store.remove("optins", "a", "chaos"));
        look(&late, "a").await;
        assert_eq!(fake.verdict("a"), "Admitted");
        assert_eq!(fake.record("a").unwrap()["spec"]["admission"]["user"], "kim");
    });
}

async fn replica(parts: &Parts, fake: &Fake) {
    let client = fake.client();
    tokio::join!(parts.watches.run(&client), work(&parts.records, &parts.queue));
}

/// Two replicas with their watches, of which one admitted, in virtual time.
#[test]
fn two_replicas_converge_within_a_second_and_heal() {
    virtual_time(async {
        let fake = Fake::new();
        let (one, two) = (parts(&fake, 1), parts(&fake, 2));
        fake.namespace("old", yes());
        let test = async {
            let wait = |time| tokio::time::sleep(time);
            wait(Duration::from_secs(2)).await;
            assert!(one.watches.is_synced() && two.watches.is_synced());
            assert_eq!(fake.verdict("old"), "NotAdmitted");
            for number in 0..20 {
                let name = format!("n{number}");
                admit(&fake, if number % 2 == 0 { &one } else { &two }, &name, yes());
            }
            wait(Duration::from_millis(400)).await;
            for number in 0..20 {
                let name = format!("n{number}");
                assert_eq!(fake.verdict(&name), "Admitted", "{name}");
                assert!(fake.binding(&name).is_some(), "{name}");
            }
            wait(Duration::from_secs(120)).await;
            assert_eq!(fake.events("n3"), ["ChaosOptedIn"], "once, by whoever wrote it");
            fake.writes();
            wait(Duration::from_secs(300)).await;
            assert_eq!(fake.writes(), Vec::<String>::new(), "nothing is written when nothing differs");

            // What the agent writes into the status costs nothing here.
            fake.reads();
            fake.with(|store| {
                let mut record = store.get("optins", "n3", "chaos").unwrap();
                record["status"] = json!({"state": "active"});
                store.put("optins", "n3", "chaos", record);
            });
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.reads(), 0);
            // Neither do namespaces that have nothing to do with chaos.
            fake.namespace("bystander", json!({"team": "a"}));
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.reads(), 0);

            fake.with(|store| store.remove("optins", "n3", "chaos"));
            fake.with(|store| store.remove("rolebindings", "n4", "pure-chaos-agent"));
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.verdict("n3"), "Admitted");
            assert!(fake.binding("n4").is_some());

            fake.namespace("n3", json!({}));
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.verdict("n3"), "none");
            assert!(fake.binding("n3").is_none());
            // The label of somebody else's tool.
            fake.namespace("n5", json!({"chaos": "yes", "team": "a"}));
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.verdict("n5"), "Admitted");
        };
        tokio::select! {
            () = test => {}
            () = replica(&one, &fake) => {}
            () = replica(&two, &fake) => {}
        }
    });
}

#[test]
fn an_outage_loses_no_admission() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        let test = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // Writes fail for two minutes, longer than a note lives.
            fake.hook(|method, _, _| (*method != Method::GET).then(|| refusal(500, "InternalError", "")));
            admit(&fake, &one, "a", yes());
            tokio::time::sleep(Duration::from_secs(120)).await;
            assert_eq!(fake.verdict("a"), "none");
            // Somebody else's tool meanwhile.
            fake.namespace("a", json!({"chaos": "yes", "team": "a"}));
            let tries = fake.writes().len();
            assert!((3..=12).contains(&tries), "{tries} tries: with a back-off");
            fake.no_hook();
            tokio::time::sleep(Duration::from_secs(100)).await;
            assert_eq!(fake.verdict("a"), "Admitted");
        };
        tokio::select! {
            () = test => {}
            () = replica(&one, &fake) => {}
        }
    });
}

#[test]
fn an_outdated_namespace_never_overwrites_a_newer_opt_in() {
    virtual_time(async {
        let fake = Fake::new();
        let (one, two) = (parts(&fake, 1), parts(&fake, 2));
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        let admitted = admit_later(&fake, &two);
        // In the middle of this replica's look, after its read of the Namespace, somebody narrows the consent, which the other replica
        // admits and writes.
        fake.with(|store| store.remove("rolebindings", "a", "pure-chaos-agent"));
        fake.with(|store| {
            let mut record = store.get("optins", "a", "chaos").unwrap();
            record["spec"]["settings"]["limit"] = json!(9);
            store.put("optins", "a", "chaos", record);
        });
        tokio::time::sleep(REST).await;
        let mut is_first = true;
        fake.hook(move |method, _, store| {
            if *method == Method::PATCH && std::mem::take(&mut is_first) {
                let mut namespace = store.get("namespaces", "", "a").unwrap();
                namespace["metadata"]["annotations"] =
                    json!({"chaos": "yes", "purechaos.dev/dry-run": "true"});
                store.put("namespaces", "", "a", namespace);
                let mut record = store.get("optins", "a", "chaos").unwrap();
                record["spec"] = admitted.clone();
                store.put("optins", "a", "chaos", record);
            }
            None
        });
        look(&one, "a").await;
        assert_eq!(fake.record("a").unwrap()["spec"]["settings"]["dryRun"], true);
        assert_eq!(fake.verdict("a"), "Admitted");
        assert!(fake.binding("a").is_some());
    });
}

/// The spec that a replica would write for a dry run in namespace `a`.
fn admit_later(fake: &Fake, parts: &Parts) -> Value {
    let annotations = std::collections::BTreeMap::from([
        ("chaos".to_owned(), "yes".to_owned()),
        ("purechaos.dev/dry-run".to_owned(), "true".to_owned()),
    ]);
    let admission = policy::record::Admission {
        user: "sam".to_owned(),
        time: "2026-11-23T12:00:00Z".to_owned(),
        digest: policy::digest::digest(&annotations),
        set_by: String::new(),
    };
    let view = NamespaceView { name: "a".to_owned(), uid: uid(fake, "a"), annotations, terminating: false };
    let stored = Stored { view, ..Stored::default() };
    match desired(&stored, None, Some(admission), &parts.records.policy, parts.records.clock.wall()) {
        Desired::Record(spec) => json!(spec),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_opt_in_ends_by_timer() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        admit(&fake, &one, "a", json!({"chaos": "yes", "purechaos.dev/expires": "2026-11-23T12:15:00Z"}));
        // Asked again every ten minutes, should the clock be set.
        assert_eq!(look(&one, "a").await, Some(Duration::from_secs(600)));
        assert!(fake.binding("a").is_some());
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(look(&one, "a").await, Some(Duration::from_secs(300)));
        tokio::time::sleep(Duration::from_secs(300)).await;
        fake.writes();
        assert_eq!(look(&one, "a").await, None);
        assert_eq!(
            fake.writes(),
            ["DELETE namespaces/a/rolebindings/pure-chaos-agent", "DELETE namespaces/a/optins/chaos"]
        );
    });
}
