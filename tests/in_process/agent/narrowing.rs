//! Settings that a Pod template narrows for its own Pods, in virtual time.

use std::time::Duration;

use policy::platform::PlatformPolicy;
use serde_json::json;
use tests::stage::{Stage, first_round, pass, play, pod};

/// A stage with these settings, whose Pods have this annotation from their template.
fn with(settings: &[(&str, &str)], (key, value): (&str, &str)) -> Stage {
    let mut stage = Stage::opted_in();
    let policy = "ceilings: {mode: 'evict,delete', per-workload: 100%}";
    stage.policy = PlatformPolicy::parse(policy).unwrap();
    stage.opt_in(&[&[("chaos", "yes")], settings].concat());
    for name in ["p1", "p2", "p3"] {
        annotate(&stage, name, key, value);
    }
    stage
}

fn annotate(stage: &Stage, name: &str, key: &str, value: &str) {
    let annotation = format!("purechaos.dev/{key}");
    stage.api.change(&pod(name), |pod| pod["metadata"]["annotations"] = json!({annotation: value}));
}

#[test]
fn a_workload_is_hit_as_rarely_as_it_asks() {
    play(async {
        let mut stage = with(&[], ("schedule", "every 1h"));
        stage.start();
        first_round().await;
        for number in 0..216 {
            pass(Duration::from_secs(100)).await;
            if stage.status()["pendingCount"].as_i64().unwrap_or(0) > 0 {
                let name = format!("new-{number}");
                stage.replace(&stage.victim(), &name);
                annotate(&stage, &name, "schedule", "every 1h");
            }
        }
        // Six hours with a round every ten minutes.
        let kills = stage.api.kills().len();
        assert!((5..=7).contains(&kills), "{kills}");
        assert!(stage.rounds("no_candidate") > 25.0);
        stage.stop().await;
    });
}

#[test]
fn a_gentler_mode_is_used_and_told() {
    play(async {
        let mut stage = with(&[("purechaos.dev/mode", "delete")], ("mode", "evict"));
        stage.start();
        first_round().await;
        let kills = stage.api.kills();
        assert!(kills.len() == 1 && kills[0].path.ends_with("/eviction"), "{kills:?}");
        assert_eq!((stage.kills("evict"), stage.kills("delete")), (1.0, 0.0));
        stage.stop().await;
    });
}

#[test]
fn what_is_wider_keeps_the_pods_alive_and_is_told() {
    for (key, value, why) in [
        ("mode", "delete", "which is rougher than the namespace's, which is `evict`"),
        ("schedule", "every 1m", "which is denser than the namespace's, which is `every 10m`"),
        ("per-workload", "3", "which is more than the namespace's, which is `1`"),
        ("recovery-deadline", "1h", "which is longer than the namespace's, which is `5m`"),
        ("schedule", "now and then", "which is not understood"),
    ] {
        play(async move {
            let mut stage = with(&[], (key, value));
            stage.start();
            first_round().await;
            assert_eq!((stage.api.kills().len(), stage.refusals("not_narrower")), (0, 1.0), "{key}");
            let notes = stage.api.notes();
            assert!(
                notes.iter().any(|note| note.contains("not_narrower") && note.contains(why)),
                "{notes:?}"
            );
            stage.stop().await;
        });
    }
}

#[test]
fn a_workload_loses_no_more_pods_at_once_than_it_asks() {
    play(async {
        let several = [("purechaos.dev/limit", "3"), ("purechaos.dev/per-workload", "67%")];
        let mut stage = with(&several, ("per-workload", "1"));
        // Also if only one of its Pods asks for it, whichever that is.
        for name in ["p1", "p3"] {
            stage.api.change(&pod(name), |pod| pod["metadata"]["annotations"] = json!({}));
        }
        stage.start();
        first_round().await;
        assert_eq!(stage.api.kills().len(), 1);
        stage.stop().await;
    });
}

#[test]
fn a_shorter_deadline_holds_and_survives_the_process() {
    for restarts in [false, true] {
        play(async move {
            let mut stage = with(&[], ("recovery-deadline", "30s"));
            stage.start();
            first_round().await;
            if restarts {
                stage.stop().await;
                stage.start();
            }
            assert_eq!(stage.status()["pending"][0]["deadline"], "30s");
            pass(Duration::from_secs(25)).await;
            assert_eq!(stage.recoveries("timed_out"), 0.0);
            pass(Duration::from_secs(15)).await;
            assert_eq!(stage.recoveries("timed_out"), 1.0, "restarts {restarts}");
            stage.stop().await;
        });
    }
}
