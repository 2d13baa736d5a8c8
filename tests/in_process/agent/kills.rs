//! The agent's kills, in virtual time against a fake API in this process: what the agent sends, and
//! what each answer, or a missing one, means.

use std::time::Duration;

use serde_json::{Value, json};
use tests::fake_api::{Answer, Api};
use tests::stage::{NAMESPACE, Stage, first_round, pass, play, pod};

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
        // The first read of the Namespace in the round still sees the opt-in. The second one, just
        // before the kill, must not.
        stage.api.before("LIST", "/pods", |api| {
            api.change(NAMESPACE, |namespace| namespace["metadata"]["annotations"] = json!({}));
        });
        pass(Duration::from_secs(100)).await;
        assert_eq!(stage.api.kills(), []);
        assert_eq!(stage.refusals("not_admitted"), 1.0);
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
        // The next process keeps the rest.
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
        assert_eq!(stage.rounds("failed"), 0.0, "it may yet land");
        pass(Duration::from_secs(15)).await;
        assert_eq!((stage.kills("evict"), stage.rounds("failed")), (0.0, 1.0));
        let failures = "pure_chaos_kill_failures_total{reason=\"server_error\",target_namespace=\"a\"}";
        assert_eq!(stage.metric(failures), Some(1.0));
        assert_eq!(stage.status()["pending"], Value::Null);
    });
}

#[test]
fn a_kill_that_lands_after_its_answer_failed_is_counted() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        stage.api.fail("POST", "/eviction", 1, Answer::Status(503, Value::Null));
        first_round().await;
        let victim = pod(&stage.victim());
        pass(Duration::from_secs(6)).await;
        stage.api.change(&victim, |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:04:50Z"));
        pass(Duration::from_secs(10)).await;
        assert_eq!((stage.kills("evict"), stage.rounds("killed")), (1.0, 1.0));
        assert_eq!((&stage.status()["kills"], &stage.status()["pendingCount"]), (&json!(1), &json!(1)));
    });
}

/// Another project's admission policy may answer with any code. Nothing was done then.
#[test]
fn a_refusal_by_somebody_elses_admission_is_told_and_rests_nothing() {
    for code in [400, 403, 422] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            stage.api.fail("POST", "/eviction", 1, Answer::Status(code, Value::Null));
            first_round().await;
            let failures = "pure_chaos_kill_failures_total{reason=\"forbidden\",target_namespace=\"a\"}";
            assert_eq!((stage.metric(failures), stage.rounds("failed")), (Some(1.0), 1.0), "{code}");
            let status = stage.status();
            assert_eq!(
                (&status["state"], &status["resting"], &status["intents"]),
                (&json!("forbidden"), &Value::Null, &Value::Null)
            );
            let sentence = "the fault that was asked for";
            assert!(status["conditions"][0]["message"].as_str().unwrap().contains(sentence), "{status}");
            assert_eq!(stage.api.events(), ["ChaosRefused"]);
            assert!(stage.api.notes()[0].contains(sentence), "{:?}", stage.api.notes());
        });
    }
}

#[test]
fn a_kill_that_meets_the_deletion_of_its_namespace_says_so() {
    let terminating =
        json!({"causes": [{"reason": "NamespaceTerminating", "message": "it is being deleted"}]});
    let delete = |api: &Api| {
        api.change(NAMESPACE, |namespace| {
            namespace["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z");
        });
    };
    type Prepare = Box<dyn FnOnce(&Api) + Send>;
    let cases: [(&str, Prepare); 3] = [
        ("by its cause", Box::new(|api| api.fail("POST", "/eviction", 1, Answer::Status(403, terminating)))),
        (
            "the right to kill is gone",
            Box::new(move |api| {
                api.before("POST", "/eviction", delete);
                api.fail("POST", "/eviction", 1, Answer::Status(403, Value::Null));
            }),
        ),
        (
            "the right to read the Pod is gone",
            Box::new(move |api| {
                // The agent writes the intent before it reads the Pod.
                api.before("PATCH", "/optins/chaos/status", move |api| {
                    delete(api);
                    (1..=3).for_each(|pod| {
                        api.fail("GET", &format!("/pods/p{pod}"), 1, Answer::Status(403, Value::Null));
                    });
                });
            }),
        ),
    ];
    for (what, prepare) in cases {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            pass(Duration::from_secs(200)).await;
            prepare(&stage.api);
            pass(Duration::from_secs(100)).await;
            let failures = "pure_chaos_kill_failures_total{reason=\"forbidden\",target_namespace=\"a\"}";
            assert_eq!(stage.refusals("namespace_terminating"), 1.0, "{what}");
            assert!(stage.metric(failures).is_none_or(|failures| failures == 0.0), "{what}");
            assert_eq!(stage.status()["state"], "namespace_terminating", "{what}");
        });
    }
}

/// The statuses that the agent wrote into the record since it sent the first kill.
fn written_since_the_kill(stage: &Stage) -> Vec<Value> {
    let calls = stage.api.calls();
    let calls = calls.iter().skip_while(|call| !call.path.ends_with("/eviction"));
    calls.filter(|call| call.verb == "PATCH").map(|call| call.body["status"].clone()).collect()
}

#[test]
fn a_slot_that_was_spent_without_an_answer_is_no_kill() {
    for answer in [Answer::Done(500), Answer::Status(500, Value::Null)] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            pass(Duration::from_secs(200)).await;
            stage.api.fail("PATCH", "/status", 1, answer);
            pass(Duration::from_secs(90)).await;
            let calls = stage.api.calls();
            let spent = calls.iter().find(|call| call.body["status"]["intents"].is_array()).unwrap();
            let pod = spent.body["status"]["intents"][0]["kill"]["pod"].as_str().unwrap().to_owned();
            // The Pod goes for another reason, and the next round comes.
            stage.replace(&pod, "p4");
            pass(Duration::from_secs(660)).await;
            let status = stage.status();
            assert_eq!((stage.api.kills().len(), &status["kills"]), (1, &json!(1)), "{status}");
            assert_eq!((&status["intents"], stage.kills("evict")), (&Value::Null, 1.0));
        });
    }
}

#[test]
fn a_process_that_ends_between_decision_and_kill_leaves_no_intent() {
    // The last write succeeds at once in the first case, and only later in the second.
    for failures in [0, 2] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            pass(Duration::from_secs(200)).await;
            let end = stage.end.clone();
            stage.api.before("PATCH", "/status", move |api| {
                end.cancel();
                api.fail("PATCH", "/status", failures + 1, Answer::Status(500, Value::Null));
            });
            // The API stores the write that spends the slot.
            stage.api.fail("PATCH", "/status", 1, Answer::Done(200));
            pass(Duration::from_secs(100)).await;
            stage.stop().await;
            assert_eq!((stage.api.kills().len(), &stage.status()["intents"]), (0, &Value::Null));
            assert_eq!(stage.status()["lastSlot"], "2026-11-23T12:04:44.363Z");
        });
    }
}

#[test]
fn no_write_leaves_out_a_kill_that_was_done_before() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/limit", "2")]);
        stage.add_workload("db", &["d1", "d2", "d3"]);
        stage.start();
        pass(Duration::from_secs(200)).await;
        stage.api.before("POST", "/eviction", |api| {
            api.fail("PATCH", "/status", 1, Answer::Status(500, Value::Null));
        });
        pass(Duration::from_secs(90)).await;
        assert_eq!((stage.api.kills().len(), &stage.status()["kills"]), (2, &json!(2)));
        let first = stage.api.kills()[0].body["deleteOptions"]["preconditions"]["uid"].clone();
        let written = written_since_the_kill(&stage);
        assert!(written.len() > 2, "{written:?}");
        for status in written {
            assert!(status["pending"].to_string().contains(first.as_str().unwrap()), "{status}");
        }
    });
}

#[test]
fn the_last_look_asks_the_guards_again() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 4] = [
        ("excluded", |pod| pod["metadata"]["annotations"] = json!({"purechaos.dev/exclude": "true"})),
        ("not_targeted", |pod| pod["metadata"]["labels"] = json!({"app": "db"})),
        ("not_ready", |pod| pod["status"]["conditions"][0]["status"] = json!("False")),
        ("no_controller", |pod| pod["metadata"]["ownerReferences"] = json!([])),
    ];
    for (reason, change) in cases {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/targets", "app=web")]);
            for name in ["p1", "p2", "p3"] {
                stage.api.before("GET", &pod(name), move |api| api.change(&pod(name), change));
            }
            stage.start();
            first_round().await;
            assert_eq!((stage.api.kills(), stage.refusals(reason)), (Vec::new(), 1.0), "{reason}");
            assert_eq!(
                (&stage.status()["intents"], stage.rounds("refused")),
                (&Value::Null, 1.0),
                "{reason}"
            );
        });
    }
}

#[test]
fn a_look_that_is_old_by_the_time_of_a_further_kill_is_taken_again() {
    for (takes, kills) in [(14, 1), (1, 2)] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/limit", "2"), ("purechaos.dev/mode", "delete")]);
            stage.add_workload("db", &["d1", "d2", "d3"]);
            stage.api.fail("DELETE", "", 1, Answer::After(Duration::from_secs(takes)));
            stage.api.before("DELETE", "", |api| {
                // The other workload wants more Pods than it has.
                let other = if api.kills()[0].path.contains("/pods/d") { "web" } else { "db" };
                let path = format!("/apis/apps/v1/namespaces/a/deployments/{other}");
                api.change(&path, |workload| workload["spec"]["replicas"] = json!(4));
            });
            stage.start();
            first_round().await;
            pass(Duration::from_secs(takes)).await;
            assert_eq!(stage.api.kills().len(), kills, "{takes} s");
            assert_eq!(stage.refusals("below_desired"), if kills == 1 { 1.0 } else { 0.0 });
        });
    }
}

#[test]
fn a_look_that_takes_too_long_decides_nothing() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(Duration::from_secs(200)).await;
        // Each page arrives within its own limit, but all pages together do not.
        for number in 0..250 {
            stage.add_pod(&format!("q{number}"), true);
        }
        stage.api.fail("LIST", "/pods", usize::MAX, Answer::After(Duration::from_secs(10)));
        pass(Duration::from_secs(120)).await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
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
