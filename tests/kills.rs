//! Kills, by the agent against an API in this process and in virtual time: what is sent, and what each answer, or none, means.

use std::time::Duration;

use serde_json::{Value, json};
use tests::api::Answer;
use tests::stage::{NAMESPACE, Stage, first_round, pass, play};

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
