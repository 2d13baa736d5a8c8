//! The Events of the agent, in virtual time against a fake API in this process. The agent writes
//! each Event once, in its own words, and few at a time.

use std::time::Duration;

use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{NAMESPACE, RECORD, Stage, WEB, first_round, pass, play, pod};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";
const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/a/replicasets";

/// Adds Deployments of one Pod each, which a round refuses as `single_replica`.
fn add_single_replicas(stage: &Stage, number: usize) {
    for n in 0..number {
        let (name, uid) = (format!("single-{n:04}"), format!("single-{n:04}-uid"));
        let owner = |kind: &str, name: &str, uid: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
        let spec = json!({"replicas": 1, "selector": {}, "template": {}});
        let metadata = json!({"name": name, "namespace": "a", "uid": uid});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec
        });
        stage.api.put(&format!("{DEPLOYMENTS}/{name}"), deployment);
        let mut metadata = metadata;
        metadata["uid"] = json!(format!("{name}-rs-uid"));
        metadata["ownerReferences"] = owner("Deployment", &name, &uid);
        let replica_set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec
        });
        stage.api.put(&format!("{REPLICA_SETS}/{name}"), replica_set);
        stage.add_pod(&format!("{name}-p"), true);
        stage.api.change(&pod(&format!("{name}-p")), |pod| {
            pod["metadata"]["ownerReferences"] = owner("ReplicaSet", &name, &format!("{name}-rs-uid"));
        });
    }
}

#[test]
fn an_event_is_tried_again_while_the_api_server_is_busy_or_fails_and_given_up_in_the_end() {
    for (code, times, written, dropped) in [(429, 3, 2, 0.0), (500, 3, 2, 0.0), (503, usize::MAX, 0, 2.0)] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.api.fail("POST", "/events", times, Answer::Status(code, Value::Null));
            stage.start();
            first_round().await;
            pass(Duration::from_secs(200)).await;
            let killed = stage.api.events().iter().filter(|reason| *reason == "ChaosKilled").count();
            assert_eq!(killed, written, "{code}: on the Pod and on its workload");
            assert_eq!(stage.metric("pure_chaos_events_dropped_total"), Some(dropped), "{code}");
        });
    }
}

#[test]
fn an_event_that_was_written_without_an_answer_is_there_once() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.fail("POST", "/events", 1, Answer::Done(504));
        stage.start();
        first_round().await;
        pass(Duration::from_secs(60)).await;
        assert_eq!(stage.api.tries_of_events(), 3, "one of two was tried twice");
        assert_eq!(stage.api.events(), ["ChaosKilled", "ChaosKilled"]);
        assert_eq!(stage.metric("pure_chaos_events_dropped_total"), Some(0.0));
    });
}

#[test]
fn an_event_has_a_name_that_the_api_server_takes_however_long_its_objects_is() {
    play(async {
        let mut stage = Stage::opted_in();
        let long = "a".repeat(253);
        for name in ["p1", "p2", "p3"] {
            stage.api.remove(&pod(name));
        }
        stage.add_pod(&long, true);
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/single-replica", "allow")]);
        stage.api.change(WEB, |web| web["spec"]["replicas"] = json!(1));
        stage.start();
        first_round().await;
        pass(Duration::from_secs(60)).await;
        let events = stage.api.stored_events();
        let of_pod = events.iter().find(|event| event["regarding"]["kind"] == "Pod").expect("a kill");
        assert_eq!(of_pod["regarding"]["name"], json!(long));
        for event in &events {
            let name = event["metadata"]["name"].as_str().unwrap();
            assert!(name.len() <= 253, "{} {name}", name.len());
        }
    });
}

#[test]
fn events_are_sent_few_at_a_time_and_delay_no_kill() {
    play(async {
        let mut stage = Stage::opted_in();
        add_single_replicas(&stage, 100);
        // Each write takes a second.
        stage.api.fail("POST", "/events", usize::MAX, Answer::After(Duration::from_secs(1)));
        stage.start();
        first_round().await;
        assert_eq!(stage.kills("evict"), 1.0);
        let tried = stage.api.tries_of_events();
        assert!(tried <= 2, "{tried} Events at once");
    });
}
#[test]
fn a_refusal_for_another_reason_is_told_in_its_own_words() {
    play(async {
        let mut stage = Stage::opted_in();
        let halt = |text: &str| {
            let text = json!(text);
            stage.api.change(NAMESPACE, |namespace| {
                namespace["metadata"]["annotations"]["purechaos.dev/halt"] = text;
            });
        };
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 1m")]);
        halt("incident 4711");
        stage.start();
        pass(Duration::from_secs(150)).await;
        stage.api.change(NAMESPACE, |namespace| {
            namespace["metadata"]["annotations"]["purechaos.dev/halt"] = json!("incident 4712");
        });
        pass(Duration::from_secs(150)).await;
        let notes = stage.api.notes();
        let of = |text: &str| notes.iter().filter(|note| note.contains(text)).count();
        assert_eq!((of("4711"), of("4712")), (1, 1), "{notes:?}");
    });
}

/// How many of the Events so far contain these words.
fn told(stage: &Stage, words: &str) -> usize {
    stage.api.notes().iter().filter(|note| note.contains(words)).count()
}

#[test]
fn a_refusal_beside_a_kill_is_told_also_where_the_state_stays_as_it_was() {
    play(async {
        let mut stage = Stage::opted_in();
        add_single_replicas(&stage, 1);
        // The state that an earlier process left.
        stage.api.change(RECORD, |record| record["status"] = json!({"state": "active"}));
        stage.start();
        first_round().await;
        assert_eq!(stage.kills("evict"), 1.0);
        assert_eq!(told(&stage, "No Pod of Deployment single-0000 was killed: single_replica"), 1);
    });
}

#[test]
fn a_refusal_is_told_once_by_however_many_processes() {
    play(async {
        let mut stage = Stage::opted_in();
        add_single_replicas(&stage, 1);
        for _ in 0..3 {
            stage.start();
            pass(Duration::from_secs(600)).await;
            stage.stop().await;
        }
        assert_eq!(stage.status()["refused"][0]["workload"]["name"], "single-0000");
        assert_eq!(told(&stage, "single_replica"), 1, "{:?}", stage.api.notes());
    });
}

#[test]
fn of_many_refused_workloads_few_have_an_event_and_one_sums_up_the_others() {
    play(async {
        let mut stage = Stage::opted_in();
        add_single_replicas(&stage, 100);
        stage.start();
        first_round().await;
        pass(Duration::from_secs(60)).await;
        let refused =
            |stage: &Stage| stage.api.events().iter().filter(|reason| *reason == "ChaosRefused").count();
        assert_eq!(refused(&stage), 21);
        assert_eq!(told(&stage, "No Pod was killed in 80 more workloads: 80 single_replica"), 1);
        pass(Duration::from_secs(30)).await;
        assert_eq!(refused(&stage), 21);
    });
}

#[test]
fn a_workload_whose_turn_has_not_come_is_not_told_to_be_refused() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "mtbf 7d")]);
        // One of its Pods is younger than `min-age`.
        stage
            .api
            .change(&pod("p1"), |pod| pod["metadata"]["creationTimestamp"] = json!("2026-11-23T13:00:00Z"));
        stage.start();
        pass(Duration::from_secs(600)).await;
        assert_eq!(stage.api.kills(), []);
        assert_eq!(stage.api.events(), Vec::<String>::new(), "{:?}", stage.api.notes());
        assert_eq!(stage.status()["state"], "active");
    });
}

#[test]
fn every_end_of_a_recovery_is_told() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        stage.api.change(WEB, |web| web["spec"]["replicas"] = json!(1));
        pass(Duration::from_secs(10)).await;
        assert_eq!(stage.recoveries("rescaled"), 1.0);
        let note = stage.api.notes().pop().unwrap();
        assert!(
            note.starts_with("The recovery of Deployment web after Pod p") && note.contains("rescaled"),
            "{note}"
        );
        assert_eq!(stage.api.events().last().map(String::as_str), Some("ChaosRecoveryEnded"));
    });
}

#[test]
fn a_recovery_that_timed_out_is_told_with_what_the_workload_says() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        stage.api.change(WEB, |web| {
            web["status"] = json!({"conditions": [
                {"type": "ReplicaFailure", "status": "True", "message": "pods \"web-1-x\" is forbidden: exceeded quota: q"}]});
        });
        pass(Duration::from_secs(310)).await;
        assert_eq!(stage.recoveries("timed_out"), 1.0);
        assert_eq!(told(&stage, "did not recover within 300 s"), 1);
        assert_eq!(told(&stage, "exceeded quota: q"), 1, "{:?}", stage.api.notes());
    });
}

#[test]
fn that_the_record_can_not_be_written_is_told_once_until_it_can() {
    let refused = "Nothing can be killed in namespace a, because the API server refuses to write the status of its record: ";
    for (code, expected) in [(422, 1), (403, 1), (413, 1), (429, 0), (500, 0)] {
        play(async move {
            let mut stage = Stage::opted_in();
            let fail = |stage: &Stage| {
                stage.api.fail("PATCH", "/status", usize::MAX, Answer::Status(code, Value::Null))
            };
            fail(&stage);
            stage.start();
            pass(Duration::from_secs(60)).await;
            assert_eq!(told(&stage, refused), expected, "{code}: {:?}", stage.api.notes());
            if expected == 1 {
                let event = stage.api.stored_events().pop().unwrap();
                assert_eq!((&event["reason"], &event["type"]), (&json!("ChaosRefused"), &json!("Warning")));
                assert_eq!(event["regarding"]["kind"], "Namespace");
            }
            // The status is written, and the API server refuses it again in the round.
            stage.api.heal();
            pass(Duration::from_secs(30)).await;
            assert_eq!(stage.status()["state"], "active", "{code}");
            fail(&stage);
            first_round().await;
            assert_eq!(stage.kills("evict"), 0.0, "{code}");
            assert_eq!(told(&stage, refused), 2 * expected, "{code}: {:?}", stage.api.notes());
        });
    }
}
