//! The agent's recoveries, in virtual time against a fake API in this process: what is measured,
//! how each recovery ends, and what a new process carries on.

use std::time::Duration;

use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{FIRST_SLOT, NAMESPACE, RECORD, Stage, WEB, first_round, pass, play, pod};

#[test]
fn a_recovery_is_measured_from_kill_to_ready_replacement() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        stage.add_pod("p4", false);
        pass(Duration::from_secs(2)).await;
        stage.api.remove(&pod(&victim));
        assert_eq!(stage.recoveries("recovered"), 0.0);
        stage.add_pod("p4", true);
        pass(Duration::from_secs(1)).await;
        assert_eq!(stage.recoveries("recovered"), 1.0);
        let sum = stage
            .metric("pure_chaos_recovery_seconds_sum{target_namespace=\"a\",workload_kind=\"Deployment\"}")
            .unwrap();
        assert!((2.4..2.6).contains(&sum), "{sum}");
        assert_eq!(stage.status()["outcomes"], json!({"recovered": 1}));
        assert_eq!(stage.status()["pending"], Value::Null);
        assert_eq!(stage.metric("pure_chaos_recoveries_pending{target_namespace=\"a\"}"), Some(0.0));
        let events = stage.api.events();
        for reason in ["ChaosKilled", "ChaosRecovered"] {
            assert!(events.contains(&reason.to_owned()), "{events:?}");
        }
    });
}

#[test]
fn without_a_replacement_it_times_out_and_the_next_round_is_refused() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        pass(Duration::from_secs(298)).await;
        assert_eq!(stage.recoveries("timed_out"), 0.0);
        pass(Duration::from_secs(8)).await;
        assert_eq!(stage.recoveries("timed_out"), 1.0);
        assert!(stage.api.events().contains(&"ChaosRecoveryTimedOut".to_owned()));
        pass(Duration::from_secs(400)).await;
        assert_eq!(stage.api.kills().len(), 1);
        assert_eq!(stage.refusals("below_desired"), 1.0);
    });
}

#[test]
fn a_recovery_is_measured_to_its_last_change_though_it_was_read_later() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        stage.api.remove(&pod(&victim));
        pass(Duration::from_secs(2)).await;
        stage.api.fail("GET", "/deployments/web", 1, Answer::Status(500, Value::Null));
        stage.add_pod("p4", true);
        pass(Duration::from_secs(6)).await;
        assert_eq!(stage.recoveries("recovered"), 1.0);
        let sum = "pure_chaos_recovery_seconds_sum{target_namespace=\"a\",workload_kind=\"Deployment\"}";
        let sum = stage.metric(sum).unwrap();
        assert!((2.4..2.6).contains(&sum), "{sum}");
    });
}

/// The victim's end comes after the recovery, and says nothing about its time.
#[test]
fn a_change_after_a_recovery_that_could_not_be_read_does_not_make_it_longer() {
    for unreadable in ["/namespaces/a", "/deployments/web"] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            first_round().await;
            let victim = stage.victim();
            stage.add_pod("p4", false);
            pass(Duration::from_secs(2)).await;
            stage.api.fail("GET", unreadable, 1, Answer::Status(500, Value::Null));
            stage.add_pod("p4", true);
            pass(Duration::from_secs(1)).await;
            assert_eq!(stage.recoveries("recovered"), 0.0);
            stage.api.remove(&pod(&victim));
            pass(Duration::from_secs(1)).await;
            assert_eq!(stage.recoveries("recovered"), 1.0);
            let sum = "pure_chaos_recovery_seconds_sum{target_namespace=\"a\",workload_kind=\"Deployment\"}";
            let sum = stage.metric(sum).unwrap();
            assert!((2.4..2.6).contains(&sum), "{sum}");
        });
    }
}

#[test]
fn a_restart_carries_on_the_recovery_and_spends_no_slot_twice() {
    play(async {
        let mut stage = Stage::opted_in();
        // A bare Pod, which doesn't belong to the workload.
        stage.add_pod("bare", true);
        stage.api.change(&pod("bare"), |bare| bare["metadata"]["ownerReferences"] = json!([]));
        stage.start();
        first_round().await;
        let victim = stage.victim();
        stage.stop().await;
        stage.api.remove(&pod(&victim));
        stage.start();
        pass(Duration::from_secs(10)).await;
        assert_eq!(stage.metric("pure_chaos_recoveries_pending{target_namespace=\"a\"}"), Some(1.0));
        stage.add_pod("p4", true);
        stage
            .api
            .change(&pod("p4"), |new| new["metadata"]["creationTimestamp"] = json!("2026-11-23T12:04:45Z"));
        pass(Duration::from_secs(6)).await;
        assert_eq!(stage.recoveries("recovered_after_restart"), 1.0);
        assert_eq!(stage.status()["outcomes"], json!({"recovered_after_restart": 1}));
        assert_eq!(stage.api.kills().len(), 1);
    });
}

/// A workload that is deleted in the foreground goes after its Pods. The end of these Pods is no
/// disturbance.
#[test]
fn a_workload_that_is_being_deleted_is_deleted() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        stage.api.change(WEB, |web| web["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:05:00Z"));
        let other = ["p1", "p2", "p3"].into_iter().find(|name| *name != victim).unwrap();
        stage.api.remove(&pod(other));
        pass(Duration::from_secs(1)).await;
        assert_eq!((stage.recoveries("workload_deleted"), stage.recoveries("disturbed")), (1.0, 0.0));
        stage.stop().await;
    });
}

#[test]
fn the_end_of_the_record_ends_the_recovery() {
    for (terminating, outcome) in [(false, "opted_out"), (true, "namespace_deleted")] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            first_round().await;
            if terminating {
                stage.api.change(NAMESPACE, |namespace| {
                    namespace["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z");
                });
            }
            stage.api.remove(RECORD);
            pass(Duration::from_secs(1)).await;
            assert_eq!(stage.recoveries(outcome), 1.0, "{outcome}");
            let next = "pure_chaos_next_slot_timestamp_seconds{target_namespace=\"a\"}";
            assert_eq!(stage.metric(next), Some(0.0));
            pass(Duration::from_secs(700)).await;
            assert_eq!(stage.metric(next), None, "series end ten minutes later");
        });
    }
}

/// The new Namespace is opted in, but the victim was in the other one.
#[test]
fn a_namespace_of_the_same_name_is_not_the_one_of_the_kill() {
    for what in ["look", "no record", "new record", "not admitted"] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            first_round().await;
            stage.api.change(NAMESPACE, |namespace| namespace["metadata"]["uid"] = json!("another"));
            let spec =
                |change: fn(&mut Value)| stage.api.change(RECORD, |record| change(&mut record["spec"]));
            match what {
                "no record" => stage.api.remove(RECORD),
                "new record" => spec(|spec| spec["namespaceUid"] = json!("another")),
                "not admitted" => spec(|spec| {
                    spec["namespaceUid"] = json!("another");
                    spec["verdict"] = json!("NotAdmitted");
                }),
                _ => {}
            }
            pass(Duration::from_secs(6)).await;
            assert_eq!(stage.recoveries("namespace_deleted"), 1.0, "{what}");
            assert_eq!(stage.recoveries("opted_out"), 0.0, "{what}");
            stage.stop().await;
        });
    }
}

/// The rights go with the record, so the agent has to look at the Pods to learn whether the
/// namespace is being deleted. That takes a while, and the rights may come back meanwhile.
#[test]
fn an_opt_out_ends_the_recovery_though_an_opt_in_follows_at_once() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        stage.api.fail("GET", "/namespaces/a", 1, Answer::Status(403, Value::Null));
        stage.api.remove(RECORD);
        pass(Duration::from_secs(1)).await;
        stage.opt_in(&[("chaos", "yes")]);
        stage.replace(&stage.victim(), "p4");
        pass(Duration::from_secs(10)).await;
        assert_eq!((stage.recoveries("opted_out"), stage.recoveries("recovered")), (1.0, 0.0));
        stage.stop().await;
    });
}

#[test]
fn annotations_that_nobody_admitted_end_the_recovery_and_the_kills() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        stage.api.change(RECORD, |record| record["spec"]["verdict"] = json!("NotAdmitted"));
        pass(Duration::from_secs(1)).await;
        assert_eq!(stage.recoveries("opted_out"), 1.0);
        assert_eq!(stage.status()["state"], "not_admitted");
        pass(Duration::from_secs(1_200)).await;
        assert_eq!(stage.api.kills().len(), 1);
    });
}

#[test]
fn a_recovery_ends_once_though_the_agent_was_away_when_consent_went() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        stage.stop().await;
        stage.api.change(RECORD, |record| record["spec"]["verdict"] = json!("NotAdmitted"));
        stage.start();
        pass(Duration::from_secs(400)).await;
        assert_eq!((stage.recoveries("opted_out"), stage.recoveries("timed_out")), (1.0, 0.0));
        assert_eq!(stage.status()["outcomes"], json!({"opted_out": 1}));
        stage.api.change(RECORD, |record| record["spec"]["verdict"] = json!("Admitted"));
        pass(Duration::from_secs(1)).await;
        assert_eq!(stage.status()["state"], "active");
    });
}

#[test]
fn a_restart_of_a_container_is_counted_and_a_replaced_pod_is_none() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(Duration::from_secs(5)).await;
        stage.api.change(&pod("p1"), |pod| pod["status"]["containerStatuses"][0]["restartCount"] = json!(2));
        stage.add_pod("p9", true);
        pass(Duration::from_secs(5)).await;
        let labels = "target_namespace=\"a\",workload=\"web\",workload_kind=\"Deployment\"";
        assert_eq!(stage.metric(&format!("pure_chaos_container_restarts_total{{{labels}}}")), Some(2.0));
    });
}

/// The intent that a process leaves if it ends between its decision and the API server's answer.
fn intent(pod: &str, uid: &str, time: &str) -> Value {
    json!({
        "lastSlot": "2026-11-23T11:54:44Z", "intents": [{"slot": "2026-11-23T11:54:44Z", "mode": "evict", "kill": {
            "pod": pod, "uid": uid, "time": time, "steadyState": 3,
            "workload": {"kind": "Deployment", "name": "web", "uid": "web-uid"}}}]
    })
}

#[test]
fn a_decided_kill_is_looked_up_by_whoever_finds_it() {
    for (pod, uid, expected) in [("p1", "p1-uid", 0.0), ("p1", "an-earlier-uid", 1.0), ("p0", "p0-uid", 1.0)]
    {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.api.change(RECORD, |record| record["status"] = intent(pod, uid, "2026-11-23T11:58:50Z"));
            // One Pod is missing, so the workload has not recovered.
            stage.add_pod("p3", false);
            stage.start();
            pass(Duration::from_secs(2)).await;
            let pending = stage.metric("pure_chaos_recoveries_pending{target_namespace=\"a\"}");
            assert_eq!(pending, Some(expected), "{uid}");
            assert_eq!(stage.status()["intents"], Value::Null);
            assert_eq!(stage.status()["kills"].as_f64().unwrap_or(0.0), expected);
            assert_eq!(stage.kills("evict"), expected);
            assert_eq!(
                stage.status()["pending"][0]["uid"],
                if expected > 0.0 { json!(uid) } else { Value::Null }
            );
            assert_eq!(stage.api.kills(), []);
        });
    }
}

/// The process that wrote the intent may have sent the kill a moment before its Lease ended.
#[test]
fn a_kill_that_was_decided_just_now_has_time_to_land() {
    for lands in [true, false] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage
                .api
                .change(RECORD, |record| record["status"] = intent("p1", "p1-uid", "2026-11-23T11:59:50Z"));
            stage.start();
            pass(Duration::from_secs(12)).await;
            assert_eq!(stage.status()["intents"][0]["kill"]["uid"], "p1-uid");
            if lands {
                stage.api.change(&pod("p1"), |pod| {
                    pod["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:12Z")
                });
            }
            pass(Duration::from_secs(10)).await;
            assert_eq!(stage.status()["intents"], Value::Null);
            assert_eq!(stage.kills("evict"), if lands { 1.0 } else { 0.0 });
        });
    }
}

#[test]
fn while_a_kills_result_is_not_known_there_is_no_other_in_its_workload() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.change(RECORD, |record| record["status"] = intent("p0", "p0-uid", "2026-11-23T11:59:50Z"));
        stage.api.fail("GET", "/pods/p0", 10_000, Answer::Status(500, Value::Null));
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("recovery_pending")), (0, 1.0));
        assert_eq!(stage.status()["intents"][0]["kill"]["uid"], "p0-uid");
        // The intent doesn't affect another workload.
        stage.add_workload("db", &["d1", "d2"]);
        pass(Duration::from_secs(660)).await;
        assert!(stage.victim().starts_with('d'));
        assert_eq!(stage.status()["intents"][0]["kill"]["uid"], "p0-uid");
        assert_eq!(stage.status()["kills"], 1);
        stage.api.heal();
        pass(Duration::from_secs(10)).await;
        assert_eq!((&stage.status()["kills"], &stage.status()["intents"]), (&json!(2), &Value::Null));
        let found = "mode evict (found out later)";
        assert!(stage.activity_log.snapshot().decisions.iter().any(|line| line.last.sentence == found));
    });
}

#[test]
fn a_workload_whose_recovery_timed_out_rests_and_is_released_by_a_recovery() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        // The workload is healthy again, but only after the deadline of five minutes.
        pass(Duration::from_secs(310)).await;
        assert_eq!(stage.recoveries("timed_out"), 1.0);
        assert_eq!(stage.status()["backingOff"][0]["timedOut"], 1);
        stage.api.remove(&pod(&victim));
        stage.add_pod("p4", true);
        pass(Duration::from_secs(560)).await;
        assert_eq!(stage.status()["state"], "backing_off");
        assert_eq!(stage.api.kills().len(), 1, "it rests for ten minutes from the time-out on");
        pass(Duration::from_secs(600)).await;
        assert_eq!(stage.api.kills().len(), 2);
        let second = stage.victim();
        stage.api.remove(&pod(&second));
        stage.add_pod("p5", true);
        pass(Duration::from_secs(10)).await;
        assert_eq!(stage.recoveries("recovered"), 1.0);
        assert_eq!(stage.status()["backingOff"], Value::Null, "released");
    });
}

/// A Pod that appears while the agent reads the victim and the Namespaces once more.
#[test]
fn a_pod_that_appears_before_the_request_is_no_replacement() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT.saturating_sub(Duration::from_secs(1))).await;
        for name in ["p1", "p2", "p3"] {
            stage.api.fail("GET", &format!("/pods/{name}"), 1, Answer::After(Duration::from_secs(10)));
        }
        pass(Duration::from_secs(5)).await;
        stage.add_pod("p4", true);
        pass(Duration::from_secs(8)).await;
        let victim = stage.victim();
        stage.api.remove(&pod(&victim));
        pass(Duration::from_secs(6)).await;
        assert_eq!(stage.metric("pure_chaos_recoveries_pending{target_namespace=\"a\"}"), Some(1.0));
        stage.add_pod("p5", true);
        pass(Duration::from_secs(1)).await;
        assert_eq!(stage.recoveries("recovered"), 1.0);
    });
}
