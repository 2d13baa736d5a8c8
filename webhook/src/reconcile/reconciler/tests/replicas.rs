//! Tests of two replicas side by side, and of late events.

use super::*;

#[test]
fn a_record_deleted_while_its_namespace_opted_out_unseen_is_not_restored() {
    virtual_time(async {
        let (fake, one) = admitted();
        look(&one, "a").await;
        // The namespace opts out and in again while the webhook does not see it, and the other
        // replica removes the record in between.
        fake.namespace("a", json!({}));
        fake.remove(&record("a"));
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
        fake.remove(&record("a"));
        look(&late, "a").await;
        assert_eq!(fake.verdict("a"), "Admitted");
        assert_eq!(fake.record("a").unwrap()["spec"]["admission"]["user"], "kim");
    });
}

async fn replica(parts: &Parts, fake: &Fake) {
    let client = fake.client();
    tokio::join!(parts.watches.run(&client), work(&parts.records, &parts.queue));
}

/// Two replicas with their watches run in virtual time, and each opt-in is admitted by one of them.
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
            fake.reads();
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
            let first = fake.reads();
            wait(Duration::from_secs(3)).await;
            let later = fake.reads();
            assert!(first <= 20 * 7, "three reads, three writes and an Event each, by one replica: {first}");
            assert!(later <= 20 * 9, "then each replica looks once or twice that all is done: {later}");
            wait(Duration::from_secs(120)).await;
            assert_eq!(fake.events_in("n3"), ["ChaosOptedIn"], "once, by whoever wrote it");
            fake.writes();
            wait(Duration::from_secs(300)).await;
            assert_eq!(fake.writes(), Vec::<String>::new(), "nothing is written when nothing differs");

            // A write of the agent into the status causes no request here.
            fake.reads();
            fake.change(&record("n3"), |record| record["status"] = json!({"state": "active"}));
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.reads(), 0);
            // A namespace that has nothing to do with chaos causes no request either.
            fake.namespace("bystander", json!({"team": "a"}));
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.reads(), 0);

            fake.remove(&record("n3"));
            fake.remove(&binding("n4"));
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.verdict("n3"), "Admitted");
            assert!(fake.binding("n4").is_some());

            fake.namespace("n3", json!({}));
            wait(Duration::from_secs(1)).await;
            assert_eq!(fake.verdict("n3"), "none");
            assert!(fake.binding("n3").is_none());
            // Another tool adds an annotation of its own.
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
            // Writes fail for two minutes, which is longer than a note lives.
            for verb in ["POST", "PATCH", "DELETE"] {
                fake.fail(verb, "", usize::MAX, Answer::Status(500, Value::Null));
            }
            admit(&fake, &one, "a", yes());
            tokio::time::sleep(Duration::from_secs(120)).await;
            assert_eq!(fake.verdict("a"), "none");
            // Another tool adds an annotation meanwhile.
            fake.namespace("a", json!({"chaos": "yes", "team": "a"}));
            let tries = fake.writes().len();
            assert!((3..=12).contains(&tries), "{tries} tries: with a back-off");
            fake.heal();
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
        // After this replica has read the Namespace, somebody narrows the consent. The other
        // replica admits that and writes it.
        fake.remove(&binding("a"));
        fake.change(&record("a"), |record| record["spec"]["settings"]["limit"] = json!(9));
        tokio::time::sleep(REST).await;
        fake.before("PATCH", "", move |api| {
            let dry = json!({"chaos": "yes", "purechaos.dev/dry-run": "true"});
            api.change(&namespace("a"), |namespace| namespace["metadata"]["annotations"] = dry);
            api.change(&record("a"), |record| record["spec"] = admitted);
        });
        look(&one, "a").await;
        assert_eq!(fake.record("a").unwrap()["spec"]["settings"]["dryRun"], true);
        assert_eq!(fake.verdict("a"), "Admitted");
        assert!(fake.binding("a").is_some());
    });
}

/// Returns the spec that a replica would write for a dry run in namespace `a`.
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
        // The webhook asks again every ten minutes, in case somebody sets the clock.
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
