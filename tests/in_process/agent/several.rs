//! Several Pods of a workload in one round, in virtual time.

use std::time::Duration;

use policy::platform::PlatformPolicy;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{NAMESPACE, RECORD, Stage, first_round, pass, play, pod};

/// A stage with these settings, under a platform that allows them.
fn with(settings: &[(&str, &str)]) -> Stage {
    let mut stage = Stage::opted_in();
    let policy = "ceilings: {mode: 'evict,delete', per-workload: 100%, below-desired: allow}";
    stage.policy = PlatformPolicy::parse(policy).unwrap();
    stage.opt_in(&[&[("chaos", "yes")], settings].concat());
    stage
}

const SEVERAL: [(&str, &str); 2] = [("purechaos.dev/limit", "3"), ("purechaos.dev/per-workload", "67%")];

/// The names of the Pods that were killed.
fn victims(stage: &Stage) -> Vec<String> {
    let name = |path: &str| path.trim_end_matches("/eviction").rsplit('/').next().unwrap().to_owned();
    stage.api.kills().iter().map(|kill| name(&kill.path)).collect()
}

#[test]
fn two_of_three_die_and_recover_as_one() {
    play(async {
        let mut stage = with(&SEVERAL);
        stage.start();
        first_round().await;
        let killed = victims(&stage);
        assert_eq!(killed.len(), 2, "{killed:?}");
        assert_eq!((stage.kills("evict"), stage.status()["kills"].clone()), (2.0, json!(2)));
        assert_eq!(stage.status()["pendingCount"], 2);
        stage.replace(&killed[0], "p4");
        pass(Duration::from_secs(2)).await;
        assert_eq!(stage.recoveries("recovered"), 0.0, "one of two is replaced");
        stage.replace(&killed[1], "p5");
        pass(Duration::from_secs(1)).await;
        assert_eq!(stage.recoveries("recovered"), 1.0);
        assert_eq!(stage.status()["outcomes"], json!({"recovered": 1}));
        let note = stage.api.notes().into_iter().find(|note| note.contains(" recovered ")).unwrap();
        let pods = format!("after Pods {}, {} were killed", killed[0], killed[1]);
        assert!(note.ends_with(&pods), "{note}");
        stage.stop().await;
    });
}

#[test]
fn the_last_ready_pod_stays_unless_somebody_allows_it() {
    for (single_replica, kills) in [("refuse", 2), ("allow", 3)] {
        play(async move {
            let all = [("purechaos.dev/limit", "5"), ("purechaos.dev/per-workload", "100%")];
            let mut stage = with(&[&all[..], &[("purechaos.dev/single-replica", single_replica)]].concat());
            stage.start();
            first_round().await;
            assert_eq!(victims(&stage).len(), kills, "single-replica {single_replica}");
            stage.stop().await;
        });
    }
}

#[test]
fn a_pod_that_somebody_else_takes_in_the_middle_saves_the_next() {
    play(async {
        let mut stage = with(&SEVERAL);
        stage.api.before("POST", "/eviction", |api| {
            // Reads after this are slow, so the round looks again.
            api.fail("GET", "/pods/", 1, Answer::After(Duration::from_secs(2)));
            for name in ["p1", "p2", "p3"] {
                api.change(&pod(name), |pod| pod["status"]["conditions"][0]["status"] = json!("False"));
            }
        });
        stage.start();
        first_round().await;
        pass(Duration::from_secs(5)).await;
        assert_eq!(victims(&stage).len(), 1);
        stage.stop().await;
    });
}

#[test]
fn a_halt_between_two_kills_is_told_as_a_halt() {
    play(async {
        let mut stage = with(&SEVERAL);
        stage.api.before("POST", "/eviction", |api| {
            api.change(NAMESPACE, |namespace| {
                namespace["metadata"]["annotations"]["purechaos.dev/halt"] = json!("stop");
            });
            // The webhook writes it into the record.
            api.change(RECORD, |record| record["spec"]["halt"] = json!("stop"));
        });
        stage.start();
        first_round().await;
        pass(Duration::from_secs(5)).await;
        assert!(stage.api.kills().len() <= 1, "{:?}", stage.api.kills());
        assert_eq!((stage.refusals("halted"), stage.refusals("changed")), (1.0, 0.0));
        stage.stop().await;
    });
}

#[test]
fn after_a_kill_without_a_clear_answer_the_workload_is_left_alone() {
    play(async {
        let mut stage = with(&SEVERAL);
        stage.api.fail("POST", "/eviction", 1, Answer::Status(500, Value::Null));
        stage.start();
        first_round().await;
        pass(Duration::from_secs(30)).await;
        assert_eq!(stage.api.kills().len(), 1, "one was tried");
        assert_eq!(stage.refusals("changed"), 1.0);
        stage.stop().await;
    });
}

#[test]
fn the_next_process_waits_for_both() {
    play(async {
        let mut stage = with(&SEVERAL);
        stage.start();
        first_round().await;
        let killed = victims(&stage);
        stage.stop().await;
        stage.start();
        pass(Duration::from_secs(5)).await;
        stage.replace(&killed[0], "p4");
        pass(Duration::from_secs(6)).await;
        assert_eq!(stage.recoveries("recovered_after_restart"), 0.0);
        stage.replace(&killed[1], "p5");
        pass(Duration::from_secs(6)).await;
        assert_eq!(stage.recoveries("recovered_after_restart"), 1.0);
        assert_eq!(
            (stage.status()["kills"].clone(), stage.status()["pending"].clone()),
            (json!(2), Value::Null)
        );
        stage.stop().await;
    });
}

#[test]
fn the_platforms_number_and_the_owners_percentage_meet_at_the_round() {
    play(async {
        let mut stage = with(&SEVERAL);
        stage.policy = PlatformPolicy::parse("ceilings: {per-workload: 1, limit: 1}").unwrap();
        stage.opt_in(&[
            ("chaos", "yes"),
            ("purechaos.dev/limit", "100%"),
            ("purechaos.dev/per-workload", "100%"),
        ]);
        stage.start();
        first_round().await;
        assert_eq!(victims(&stage).len(), 1);
        stage.stop().await;
    });
}

#[test]
fn a_workload_that_lacks_a_pod_may_be_tried() {
    for (below_desired, kills) in [("refuse", 0), ("allow", 1)] {
        play(async move {
            let mut stage = with(&[("purechaos.dev/below-desired", below_desired)]);
            stage.add_pod("p3", false);
            stage.start();
            first_round().await;
            assert_eq!(victims(&stage).len(), kills, "below-desired {below_desired}");
            assert_eq!(stage.refusals("below_desired"), f64::from(u8::from(kills == 0)));
            if kills == 1 {
                // What it had were two Ready Pods, so two are enough.
                stage.replace(&stage.victim(), "p4");
                pass(Duration::from_secs(1)).await;
                assert_eq!(stage.recoveries("recovered"), 1.0);
            }
            stage.stop().await;
        });
    }
}
