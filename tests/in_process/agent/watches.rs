//! The agent while its watch of the Pods is interrupted, silent or missing: it kills nothing,
//! invents no outcome, and measures no time. In virtual time, against a fake API in this process.

use std::time::Duration;

use jiff::Timestamp;
use runtime::clock::Clock;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{FIRST_SLOT, Stage, first_round, pass, play, pod};

const SECOND: Duration = Duration::from_secs(1);

/// The recoveries whose time was measured.
fn measured(stage: &Stage) -> f64 {
    let series = "pure_chaos_recovery_seconds_count{target_namespace=\"a\",workload_kind=\"Deployment\"}";
    stage.metric(series).unwrap_or(0.0)
}

/// How the one recovery of the play ended, and whether its time was measured.
fn ended(stage: &Stage) -> (Value, f64) {
    (stage.status()["outcomes"].clone(), measured(stage))
}

fn counted_not_measured() -> (Value, f64) {
    (json!({"recovered_after_restart": 1}), 0.0)
}

/// Ends all open watches of the Pods, and lets no new one begin.
fn lose_the_watch(stage: &Stage) {
    stage.api.fail("WATCH", "/pods", usize::MAX, Answer::Status(500, Value::Null));
    stage.api.hang_up("/pods");
}

#[test]
fn what_recovered_while_the_agent_was_away_did_not_time_out() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        stage.stop().await;
        pass(SECOND).await;
        stage.replace(&victim, "p4");
        pass(330 * SECOND).await;
        stage.start();
        pass(10 * SECOND).await;
        assert_eq!(ended(&stage), counted_not_measured());
    });
}

#[test]
fn a_failed_list_of_replica_sets_at_a_start_makes_no_time_out() {
    for failures in [1, 3] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            first_round().await;
            let victim = stage.victim();
            stage.stop().await;
            stage.replace(&victim, "p4");
            stage.api.fail("LIST", "/replicasets", failures, Answer::Status(500, Value::Null));
            stage.start();
            pass(400 * SECOND).await;
            assert_eq!(ended(&stage), counted_not_measured());
        });
    }
}

#[test]
fn clocks_that_differ_make_no_time_out() {
    for ahead in [5_000, -5_000, 200_000] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.clock.step(ahead);
            stage.start();
            // With a clock that is ahead, the first slot comes earlier. The replacement comes at
            // once, so that the clocks differ by more than the time until the replacement.
            while stage.api.kills().is_empty() {
                pass(SECOND).await;
            }
            let victim = stage.victim();
            stage.stop().await;
            stage.replace(&victim, "p4");
            stage.api.change(&pod("p4"), |new| {
                // A moment after the kill, by the API server's clock.
                let created = stage.clock.wall().as_millisecond() - ahead;
                let created = Timestamp::from_second(created / 1_000).unwrap();
                new["metadata"]["creationTimestamp"] = json!(created.to_string());
            });
            stage.start();
            pass(400 * SECOND).await;
            assert_eq!(ended(&stage), counted_not_measured(), "{ahead}");
        });
    }
}

#[test]
fn what_overlaps_a_gap_of_the_watch_is_counted_and_not_measured() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        lose_the_watch(&stage);
        pass(2 * SECOND).await;
        stage.replace(&victim, "p4");
        pass(28 * SECOND).await;
        stage.api.heal();
        pass(60 * SECOND).await;
        assert_eq!(ended(&stage), counted_not_measured());
    });
}

#[test]
fn a_watch_that_ends_in_time_and_begins_again_is_no_gap() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        let watches = stage.api.watches("/namespaces/a/pods");
        pass(130 * SECOND).await;
        stage.replace(&victim, "p4");
        pass(SECOND).await;
        assert!(stage.api.watches("/namespaces/a/pods") >= watches + 2, "two watches have ended meanwhile");
        assert_eq!(ended(&stage), (json!({"recovered": 1}), 1.0));
    });
}

#[test]
fn a_watch_that_fails_is_none_and_kills_nothing() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(4 * SECOND).await;
        lose_the_watch(&stage);
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
        stage.api.heal();
        pass(660 * SECOND).await;
        assert_eq!(stage.api.kills().len(), 1, "once it is there again");
    });
}

/// The watch is open but dead: neither an event nor an end ever comes.
#[test]
fn a_watch_that_does_not_show_what_the_list_shows_kills_nothing_and_begins_anew() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - 20 * SECOND).await;
        stage.api.deafen("/pods");
        pass(10 * SECOND).await;
        stage.replace("p1", "p4");
        stage.api.change(&pod("p4"), |new| {
            new["metadata"]["creationTimestamp"] = json!("2026-11-23T11:00:00Z");
        });
        pass(15 * SECOND).await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
        pass(660 * SECOND).await;
        assert_eq!(stage.api.kills().len(), 1, "the new watch hears");
    });
}

#[test]
fn a_watch_that_goes_deaf_during_a_recovery_is_noticed_and_nothing_is_measured() {
    for after in [0, 1] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            first_round().await;
            let victim = stage.victim();
            pass(after * SECOND).await;
            stage.api.deafen("/pods");
            pass(2 * SECOND).await;
            stage.replace(&victim, "p4");
            // This is before the API server would have ended the watch.
            pass(12 * SECOND).await;
            assert_eq!(ended(&stage), counted_not_measured());
        });
    }
}

/// The watch stalls, and the list fails as well. Then nobody knows the state of the Pods, and the
/// agent waits until it can look.
#[test]
fn nothing_times_out_while_nobody_can_look() {
    for recovers in [true, false] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            first_round().await;
            let victim = stage.victim();
            stage.api.stall("/pods");
            stage.api.fail("LIST", "/pods", usize::MAX, Answer::Status(500, Value::Null));
            if recovers {
                stage.replace(&victim, "p4");
            }
            pass(400 * SECOND).await;
            assert_eq!(ended(&stage), (Value::Null, 0.0));
            let pending = stage.metric("pure_chaos_recoveries_pending{target_namespace=\"a\"}");
            assert_eq!(pending, Some(1.0));
            stage.api.heal();
            pass(120 * SECOND).await;
            let expected = if recovers { counted_not_measured() } else { (json!({"timed_out": 1}), 0.0) };
            assert_eq!(ended(&stage), expected);
        });
    }
}

/// The record comes before the RoleBinding.
#[test]
fn rights_that_come_a_moment_later_delay_the_watch_by_no_more_than_that() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.fail("LIST", "/pods", usize::MAX, Answer::Status(403, Value::Null));
        stage.start();
        pass(Duration::from_millis(500)).await;
        stage.api.heal();
        pass(Duration::from_millis(500)).await;
        assert_eq!(stage.api.watches("/namespaces/a/pods"), 1);
    });
}

/// The watch shows later changes of other Pods, so its version says nothing.
#[test]
fn a_change_that_the_watch_lost_is_found_and_the_recovery_is_not_measured() {
    play(async {
        let mut stage = Stage::opted_in();
        for name in ["p2", "p3"] {
            stage.add_pod(name, false);
        }
        stage.start();
        pass(Duration::from_secs(60)).await;
        for name in ["p2", "p3"] {
            let mut ready = stage.api.get(&pod(name)).unwrap();
            ready["status"]["conditions"][0]["status"] = json!("True");
            stage.api.put_unseen(&pod(name), ready);
        }
        stage.add_pod("p1", true);
        pass(FIRST_SLOT.saturating_sub(Duration::from_secs(60))).await;
        pass(Duration::from_millis(500)).await;
        let victim = stage.victim();
        stage.replace(&victim, "p4");
        pass(Duration::from_secs(15)).await;
        let recovered = (stage.recoveries("recovered_after_restart"), stage.recoveries("recovered"));
        assert_eq!(recovered, (1.0, 0.0));
    });
}

/// Another Pod is lost during the recovery, but the watch still shows it as Ready.
#[test]
fn a_loss_that_the_watch_did_not_show_is_found_before_the_recovery_ends() {
    for is_gone in [false, true] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            first_round().await;
            let victim = stage.victim();
            let other = pod(["p1", "p2", "p3"].into_iter().find(|name| *name != victim).unwrap());
            let mut unready = stage.api.get(&other).unwrap();
            unready["status"]["conditions"][0]["status"] = json!("False");
            if is_gone {
                stage.api.remove_unseen(&other);
            } else {
                stage.api.put_unseen(&other, unready);
            }
            stage.replace(&victim, "p4");
            pass(Duration::from_secs(20)).await;
            let ended = |outcome: &str| stage.recoveries(outcome);
            assert_eq!((ended("recovered"), ended("recovered_after_restart")), (0.0, 0.0), "{is_gone}");
            // If the Pod is gone, the agent sees that now.
            assert_eq!(ended("disturbed"), f64::from(u8::from(is_gone)));
            stage.stop().await;
        });
    }
}
