//! The agent against an API in this process, with virtual time: exact calls, faults, and what must not be called.

use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::schedule::Timetable;
use policy::settings::{Key, Settings};
use serde_json::{Value, json};
use tests::api::{Answer, Api, Call};
use tests::stage::{
    FIRST_SLOT, NAMESPACE, RECORD, SYSTEM, Stage, UID, WEB, first_round, noon, pass, play, pod,
};

fn timetable(schedule: &str) -> Timetable {
    let mut settings = Settings::built_in();
    settings.set(Key::Schedule, schedule).unwrap();
    settings.timetable(Duration::from_secs(60))
}

fn summary(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| format!("{} {}", call.verb, call.path)).collect()
}

#[test]
fn a_round_reads_live_spends_the_slot_reads_again_and_evicts() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - Duration::from_millis(100)).await;
        let before = stage.api.calls().len();
        assert_eq!(stage.api.kills(), []);
        pass(Duration::from_millis(600)).await;
        let calls = stage.api.calls()[before..].to_vec();
        let eviction = calls.iter().position(|call| call.path.ends_with("/eviction")).unwrap();
        let victim = stage.victim();
        let calls_before = summary(&calls[..eviction]);
        assert_eq!(calls_before[0], format!("GET {RECORD}"));
        let spent = calls_before.iter().position(|call| *call == format!("PATCH {RECORD}/status")).unwrap();
        let lists: Vec<&String> =
            calls_before[..spent].iter().filter(|call| call.starts_with("LIST")).collect();
        assert_eq!(lists.len(), 6, "{calls_before:?}");
        let mut last_look = calls_before[spent + 1..].to_vec();
        assert_eq!(last_look.remove(0), format!("GET {}", pod(&victim)), "consent is read last");
        last_look.sort();
        assert_eq!(last_look, [format!("GET {NAMESPACE}"), format!("GET {SYSTEM}")]);

        // What will be killed is in the record before it is.
        let intent = &calls[spent].body["status"]["intent"];
        assert_eq!(intent["slot"], "2026-11-23T12:04:44.363Z");
        assert_eq!(
            (&intent["kill"]["uid"], &intent["mode"]),
            (&json!(format!("{victim}-uid")), &json!("evict"))
        );
        assert_eq!(stage.status()["intent"], Value::Null, "its result is known");

        let preconditions = &calls[eviction].body["deleteOptions"]["preconditions"];
        assert_eq!(preconditions["uid"], format!("{victim}-uid"));
        assert!(preconditions["resourceVersion"].is_string(), "{preconditions}");
        assert_eq!(calls[eviction].body["kind"], "Eviction");
        assert_eq!(stage.kills("evict"), 1.0);
        assert_eq!(stage.rounds("killed"), 1.0);
        assert_eq!(stage.status()["kills"], 1);
        assert_eq!(stage.status()["lastSlot"], "2026-11-23T12:04:44.363Z");
        assert_eq!(stage.status()["pendingCount"], 1);
    });
}

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
fn nothing_dies_because_a_process_started() {
    play(async {
        let mut stage = Stage::opted_in();
        // A second after a slot, with nothing served yet.
        pass(FIRST_SLOT + Duration::from_secs(1)).await;
        for _ in 0..20 {
            stage.start();
            pass(Duration::from_secs(20)).await;
            assert_eq!((stage.rounds("failed"), stage.rounds("refused")), (0.0, 0.0), "no round at all");
            stage.stop().await;
        }
        assert_eq!(stage.api.kills(), []);
    });
}

#[test]
fn a_slot_that_another_process_spent_is_not_spent_again() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - Duration::from_secs(1)).await;
        stage.api.change(RECORD, |record| record["status"]["lastSlot"] = json!("2026-11-23T12:04:44.363Z"));
        pass(Duration::from_secs(10)).await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
    });
}

#[test]
fn a_namespace_that_opts_in_waits_for_its_next_slot() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.remove(RECORD);
        stage.start();
        first_round().await;
        stage.opt_in(&[("chaos", "yes")]);
        pass(Duration::from_secs(500)).await;
        assert_eq!(stage.api.kills(), []);
        pass(Duration::from_secs(150)).await;
        assert_eq!(stage.api.kills().len(), 1);
    });
}

#[test]
fn each_refusal_of_a_namespace_kills_nothing_and_says_why() {
    type Prepare = fn(&Api);
    let cases: [(&'static str, Prepare); 6] = [
        ("halted", |api| {
            api.change(SYSTEM, |system| system["metadata"]["annotations"] = json!({"purechaos.dev/halt": ""}))
        }),
        ("halted", |api| api.remove(SYSTEM)),
        ("not_admitted", |api| {
            api.change(NAMESPACE, |namespace| namespace["metadata"]["annotations"] = json!({}))
        }),
        ("not_admitted", |api| {
            api.change(NAMESPACE, |namespace| {
                namespace["metadata"]["annotations"]["purechaos.dev/limit"] = json!("2")
            });
        }),
        ("namespace_terminating", |api| {
            api.change(NAMESPACE, |namespace| {
                namespace["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z")
            });
        }),
        ("no_rights", |api| api.fail("LIST", "/pods", 9, Answer::Status(403, Value::Null))),
    ];
    for (reason, prepare) in cases {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            pass(Duration::from_secs(200)).await;
            prepare(&stage.api);
            pass(Duration::from_secs(100)).await;
            assert_eq!(stage.api.kills(), [], "{reason}");
            assert_eq!(stage.refusals(reason), 1.0, "{reason}");
            assert_eq!(stage.rounds("refused"), 1.0, "{reason}");
            assert_eq!(stage.status()["state"], reason);
        });
    }
}

#[test]
fn a_namespace_without_rights_says_so_from_the_start_and_one_without_admission_says_that() {
    for (verdict, reason) in [("Admitted", "no_rights"), ("NotAdmitted", "not_admitted")] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.api.change(RECORD, |record| record["spec"]["verdict"] = json!(verdict));
            stage.api.fail("GET", "/namespaces/a", usize::MAX, Answer::Status(403, Value::Null));
            stage.api.fail("LIST", "/pods", usize::MAX, Answer::Status(403, Value::Null));
            stage.start();
            first_round().await;
            assert_eq!((stage.refusals(reason), stage.rounds("refused")), (1.0, 1.0), "{reason}");
            assert_eq!(stage.status()["state"], reason);
        });
    }
}

#[test]
fn a_slot_of_a_schedule_that_was_changed_meanwhile_is_not_served() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - Duration::from_millis(1)).await;
        // The record and the Namespace change just before the round reads them; the watch has shown neither yet.
        let changed = Stage::opted_in();
        changed.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 12h")]);
        let (record, namespace) = (changed.api.get(RECORD).unwrap(), changed.api.get(NAMESPACE).unwrap());
        stage.api.before("GET", "/optins/chaos", move |api| {
            api.put(RECORD, record);
            api.put(NAMESPACE, namespace);
        });
        pass(Duration::from_secs(10)).await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
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

#[test]
fn a_failed_look_is_no_kill() {
    for (verb, path) in
        [("GET", "/namespaces/a"), ("GET", "/optins/chaos"), ("LIST", "/replicasets"), ("PATCH", "/status")]
    {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            pass(Duration::from_secs(200)).await;
            stage.api.fail(verb, path, 1, Answer::Status(500, Value::Null));
            pass(Duration::from_secs(100)).await;
            assert_eq!(stage.api.kills(), [], "{verb} {path}");
            assert_eq!(stage.rounds("failed"), 1.0, "{verb} {path}");
        });
    }
}

#[test]
fn an_opt_out_during_the_round_stops_the_kill() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(Duration::from_secs(200)).await;
        // The first read of the Namespace in the round still sees the opt-in; the second, just before the kill, must not.
        stage.api.before("LIST", "/pods", |api| {
            api.change(NAMESPACE, |namespace| namespace["metadata"]["annotations"] = json!({}));
        });
        pass(Duration::from_secs(100)).await;
        assert_eq!(stage.api.kills(), []);
        assert_eq!(stage.refusals("not_admitted"), 1.0);
    });
}

#[test]
fn a_slot_that_goes_by_while_something_else_is_done_is_served_at_once() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - Duration::from_millis(10)).await;
        // A Pod of a ReplicaSet that has to be asked for, and an API server that takes its time.
        stage.api.fail("GET", "/replicasets/new", 1, Answer::After(Duration::from_secs(1)));
        stage.add_pod("p9", true);
        stage.api.change(&pod("p9"), |new| {
            let owner = &mut new["metadata"]["ownerReferences"][0];
            owner["name"] = json!("new");
            owner["uid"] = json!("new-uid");
        });
        pass(Duration::from_secs(2)).await;
        assert_eq!(stage.api.kills().len(), 1);
    });
}

#[test]
fn without_a_watch_of_the_pods_nothing_is_killed() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.fail("LIST", "/pods", usize::MAX, Answer::Status(500, Value::Null));
        stage.start();
        pass(FIRST_SLOT - Duration::from_millis(1)).await;
        stage.api.heal();
        pass(Duration::from_millis(100)).await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
    });
}

#[test]
fn a_changed_schedule_begins_now() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 12h")]);
        stage.start();
        // A schedule whose last slot was less than 20 s ago, had it been in force then.
        let now = noon().checked_add(Duration::from_secs(60)).unwrap();
        let recent = now.checked_sub(Duration::from_secs(20)).unwrap();
        let seconds = (1_800..7_200)
            .find(|seconds| timetable(&format!("every {seconds}s")).newest_in(UID, recent, now).is_some());
        pass(Duration::from_secs(60)).await;
        let schedule = format!("every {}s", seconds.expect("one of so many schedules"));
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", &schedule)]);
        pass(Duration::from_secs(1_200)).await;
        assert_eq!(stage.api.kills(), []);
        assert!(stage.status()["nextSlot"].is_string());
    });
}

#[test]
fn a_workload_rests_two_minutes_after_a_conflict() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 1m")]);
        stage.start();
        stage.api.fail("POST", "/eviction", 1, Answer::Status(409, Value::Null));
        while stage.api.kills().is_empty() {
            pass(Duration::from_secs(1)).await;
        }
        // The next process keeps it.
        stage.stop().await;
        stage.start();
        pass(Duration::from_secs(110)).await;
        assert_eq!(stage.api.kills().len(), 1);
        assert_eq!(stage.refusals("changed"), 1.0);
        pass(Duration::from_secs(90)).await;
        assert_eq!(stage.api.kills().len(), 2);
    });
}

#[test]
fn a_budgets_refusal_is_not_retried_and_a_conflict_rests_the_workload() {
    let budget = json!({"causes": [{"reason": "DisruptionBudget", "message": "needs 3"}]});
    for (code, details, reason) in [(429, budget, "blocked_by_pdb"), (409, Value::Null, "changed")] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            stage.api.fail("POST", "/eviction", 1, Answer::Status(code, details));
            first_round().await;
            assert_eq!(stage.api.kills().len(), 1);
            assert_eq!(stage.refusals(reason), 1.0);
            assert_eq!(stage.rounds("refused"), 1.0);
            assert_eq!(stage.kills("evict"), 0.0);
            assert!(stage.api.events().contains(&"ChaosRefused".to_owned()));
            pass(Duration::from_secs(60)).await;
            assert_eq!(stage.api.kills().len(), 1, "no second try in the slot");
        });
    }
}

#[test]
fn a_kill_without_an_answer_is_looked_up_before_it_is_counted() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        stage.api.fail("POST", "/eviction", 1, Answer::Done(500));
        first_round().await;
        assert_eq!((stage.kills("evict"), stage.rounds("killed")), (1.0, 1.0));
    });
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        stage.api.fail("POST", "/eviction", 1, Answer::Status(500, Value::Null));
        first_round().await;
        assert_eq!((stage.kills("evict"), stage.rounds("failed")), (0.0, 1.0));
        let failures = "pure_chaos_kill_failures_total{reason=\"server_error\",target_namespace=\"a\"}";
        assert_eq!(stage.metric(failures), Some(1.0));
        assert_eq!(stage.status()["pending"], Value::Null);
    });
}

#[test]
fn a_deletion_is_of_exactly_the_chosen_pod() {
    for (mode, grace) in [("delete", Value::Null), ("force", json!(0))] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/mode", mode)]);
            stage.start();
            first_round().await;
            let kills = stage.api.kills();
            assert_eq!((kills.len(), kills[0].verb.as_str()), (1, "DELETE"));
            assert_eq!(kills[0].body["preconditions"]["uid"], format!("{}-uid", stage.victim()));
            assert_eq!(kills[0].body["gracePeriodSeconds"], grace);
            assert_eq!(stage.kills(mode), 1.0);
        });
    }
}

#[test]
fn a_dry_run_asks_the_api_server_and_changes_nothing() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/dry-run", "true")]);
        stage.start();
        first_round().await;
        let kills = stage.api.kills();
        assert_eq!(kills.len(), 1);
        assert_eq!(kills[0].query.get("dryRun").map(String::as_str), Some("All"));
        assert_eq!(kills[0].body["deleteOptions"]["dryRun"], json!(["All"]));
        assert_eq!((stage.rounds("dry_run"), stage.kills("evict")), (1.0, 0.0));
        assert_eq!(stage.status()["state"], "dry run");
    });
}

#[test]
fn a_restart_carries_on_the_recovery_and_spends_no_slot_twice() {
    play(async {
        let mut stage = Stage::opted_in();
        // Not of the workload: a bare Pod.
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

/// Deleted in the foreground a workload goes after its Pods: their going is no disturbance.
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

/// The rights go with the record, so that the Pods have to tell whether the namespace is being deleted. That takes a while, in which the
/// rights may come back.
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

#[test]
fn the_first_slot_is_where_policy_says() {
    let next = timetable("every 10m").next_after(UID, noon()).unwrap();
    assert_eq!(Duration::try_from(next.duration_since(noon())).unwrap(), FIRST_SLOT);
}

/// What a process leaves that ends between its decision and the API server's answer.
fn intent(pod: &str, uid: &str) -> Value {
    json!({
        "lastSlot": "2026-11-23T11:54:44Z", "intent": {"slot": "2026-11-23T11:54:44Z", "mode": "evict", "kill": {
            "pod": pod, "uid": uid, "time": "2026-11-23T11:59:50Z", "steadyState": 3,
            "workload": {"kind": "Deployment", "name": "web", "uid": "web-uid"}}}
    })
}

#[test]
fn a_decided_kill_is_looked_up_by_whoever_finds_it() {
    for (pod, uid, expected) in [("p1", "p1-uid", 0.0), ("p1", "an-earlier-uid", 1.0), ("p0", "p0-uid", 1.0)]
    {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.api.change(RECORD, |record| record["status"] = intent(pod, uid));
            stage.start();
            pass(Duration::from_secs(2)).await;
            let pending = stage.metric("pure_chaos_recoveries_pending{target_namespace=\"a\"}");
            assert_eq!(pending, Some(expected), "{uid}");
            assert_eq!(stage.status()["intent"], Value::Null);
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

#[test]
fn while_a_kills_result_is_not_known_there_is_no_other() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.change(RECORD, |record| record["status"] = intent("p0", "p0-uid"));
        stage.api.fail("GET", "/pods/p0", 10_000, Answer::Status(500, Value::Null));
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
        assert_eq!(stage.status()["intent"]["kill"]["uid"], "p0-uid");
        stage.api.heal();
        pass(Duration::from_secs(10)).await;
        assert_eq!(
            (stage.status()["kills"].clone(), stage.status()["intent"].clone()),
            (json!(1), Value::Null)
        );
    });
}

#[test]
fn who_does_not_lead_kills_nothing_and_writes_nothing() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.leadership.send_replace(None);
        stage.start();
        pass(FIRST_SLOT + Duration::from_secs(60)).await;
        assert_eq!(stage.api.kills(), []);
        assert!(stage.api.calls().iter().all(|call| call.verb != "PATCH"), "{:?}", stage.api.calls());
    });
    // Lost at the last moment: after the slot was spent, before the kill was sent.
    play(async {
        let mut stage = Stage::opted_in();
        for name in ["p1", "p2", "p3"] {
            let leadership = stage.leadership.clone();
            stage.api.before("GET", &format!("/pods/{name}"), move |_| {
                leadership.send_replace(None);
            });
        }
        stage.start();
        first_round().await;
        assert_eq!(stage.status()["lastSlot"], "2026-11-23T12:04:44.363Z");
        assert_eq!(stage.api.kills(), []);
        assert_eq!(stage.kills("evict"), 0.0);
    });
}

#[test]
fn a_workload_whose_recovery_timed_out_rests_and_is_released_by_a_recovery() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        // Healthy again, but only after the deadline of five minutes.
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

#[test]
fn a_refusal_of_the_whole_namespace_is_told_once() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.change(NAMESPACE, |namespace| {
            namespace["metadata"]["annotations"]["purechaos.dev/halt"] = json!("incident 4711");
        });
        stage.start();
        first_round().await;
        assert_eq!(stage.api.events(), ["ChaosRefused"]);
        pass(Duration::from_secs(1_300)).await;
        assert_eq!(stage.refusals("halted"), 3.0);
        assert_eq!(stage.api.events(), ["ChaosRefused"], "told once, refused three times");
    });
}

#[test]
fn a_last_slot_far_in_the_future_is_a_suspect_clock() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.change(RECORD, |record| record["status"] = json!({"lastSlot": "2026-11-23T13:00:00Z"}));
        stage.start();
        first_round().await;
        assert_eq!(stage.api.kills(), []);
        let conditions = stage.status()["conditions"].clone();
        let suspect = conditions.as_array().unwrap().iter().find(|known| known["type"] == "ClockSuspect");
        let suspect = suspect.unwrap_or_else(|| panic!("{conditions}"));
        assert_eq!(
            (&suspect["status"], &suspect["lastTransitionTime"]),
            (&json!("True"), &json!("2026-11-23T12:00:00Z"))
        );
        assert_eq!(stage.status()["state"], "clock_suspect");
        pass(Duration::from_secs(4_000)).await;
        assert_eq!(stage.api.kills().len(), 1, "once the slot has passed it goes on");
        let conditions = stage.status()["conditions"].to_string();
        assert!(!conditions.contains("ClockSuspect"), "{conditions}");
    });
}

#[test]
fn where_nodes_may_be_read_pods_of_cordoned_ones_are_left_alone() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.reads_nodes.store(true, Ordering::Relaxed);
        stage.api.put(
            "/api/v1/nodes/node",
            json!({"metadata": {"name": "node"}, "spec": {"unschedulable": true}}),
        );
        stage.start();
        first_round().await;
        assert_eq!((stage.refusals("node_cordoned"), stage.api.kills().len()), (1.0, 0));
        let asked = stage.api.calls();
        let asked = asked.iter().find(|call| call.path == "/api/v1/nodes").expect("a list of the nodes");
        assert_eq!(asked.query.get("fieldSelector").map(String::as_str), Some("spec.unschedulable=true"));

        stage.api.remove("/api/v1/nodes/node");
        pass(Duration::from_secs(660)).await;
        assert_eq!(stage.api.kills().len(), 1);
        stage.stop().await;
    });
}
