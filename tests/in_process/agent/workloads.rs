//! Kinds of workloads other than Deployments, in virtual time against a fake API in this process:
//! kinds above a ReplicaSet, and ReplicationControllers. Also, how long the series of a workload
//! stay after it is gone.

use std::time::Duration;

use serde_json::{Value, json};
use tests::stage::{Stage, WEB, first_round, pass, play, pod};

const SECOND: Duration = Duration::from_secs(1);
const SETS: &str = "/apis/apps/v1/namespaces/a/replicasets";

/// A stage whose Pods belong to a workload of a kind that the agent knows only from its ReplicaSet.
fn rollout() -> Stage {
    let stage = Stage::opted_in();
    stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/kinds", "Rollout")]);
    stage.api.remove(WEB);
    stage.api.change(&format!("{SETS}/web-1"), |set| {
        set["metadata"]["ownerReferences"] = rollout_as_owner();
        set["spec"]["template"] = json!({"metadata": {"labels": {"version": "1"}}});
    });
    stage
}

fn rollout_as_owner() -> Value {
    json!([{
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": "rollout-uid", "controller": true
    }])
}

#[test]
fn a_kind_above_a_replica_set_recovers() {
    play(async {
        let mut stage = rollout();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        pass(2 * SECOND).await;
        stage.replace(&victim, "p4");
        pass(SECOND).await;
        assert_eq!(stage.status()["outcomes"], json!({"recovered": 1}));
        let series = "pure_chaos_recovery_seconds_count{target_namespace=\"a\",workload_kind=\"Rollout\"}";
        assert_eq!(stage.metric(series), Some(1.0));
        stage.stop().await;
    });
}

#[test]
fn what_happens_to_a_kind_above_a_replica_set_is_seen_in_its_replica_sets() {
    type Happens = fn(&Stage);
    let cases: [(&str, Happens); 4] = [
        ("workload_deleted", |stage| stage.api.remove(&format!("{SETS}/web-1"))),
        ("rescaled", |stage| {
            stage.api.change(&format!("{SETS}/web-1"), |set| set["spec"]["replicas"] = json!(2));
        }),
        ("rescaled", |stage| {
            stage.api.change(&format!("{SETS}/web-1"), |set| set["spec"]["replicas"] = json!(0));
        }),
        ("rolled_out", |stage| {
            let mut newer = stage.api.get(&format!("{SETS}/web-1")).unwrap();
            newer["metadata"]["name"] = json!("web-2");
            newer["metadata"]["uid"] = json!("web-2-uid");
            newer["spec"]["replicas"] = json!(1);
            newer["spec"]["template"] = json!({"metadata": {"labels": {"version": "2"}}});
            stage.api.put(&format!("{SETS}/web-2"), newer);
        }),
    ];
    for (outcome, happens) in cases {
        play(async move {
            let mut stage = rollout();
            stage.start();
            first_round().await;
            happens(&stage);
            pass(6 * SECOND).await;
            assert_eq!(stage.status()["outcomes"], json!({outcome: 1}));
            stage.stop().await;
        });
    }
}

#[test]
fn a_replication_controller_is_a_workload() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/kinds", "ReplicationController")]);
        stage.api.put(
            "/api/v1/namespaces/a/replicationcontrollers/old",
            json!({
                "apiVersion": "v1", "kind": "ReplicationController",
                "metadata": {"name": "old", "namespace": "a", "uid": "old-uid"},
                "spec": {"replicas": 3, "selector": {"app": "old"}, "template": {}}
            }),
        );
        let own = |stage: &Stage, name: &str| {
            stage.api.change(&pod(name), |pod| {
                pod["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": "v1", "kind": "ReplicationController", "name": "old", "uid": "old-uid", "controller": true
                }]);
            });
        };
        ["p1", "p2", "p3"].into_iter().for_each(|name| own(&stage, name));
        stage.start();
        first_round().await;
        let victim = stage.victim();
        stage.add_pod("p4", false);
        own(&stage, "p4");
        stage.api.remove(&pod(&victim));
        pass(SECOND).await;
        stage.api.change(&pod("p4"), |pod| pod["status"]["conditions"][0]["status"] = json!("True"));
        pass(SECOND).await;
        assert_eq!(stage.status()["outcomes"], json!({"recovered": 1}));
        stage.stop().await;
    });
}

#[test]
fn where_no_size_is_known_the_reason_says_that() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/kinds", "CloneSet")]);
        for name in ["p1", "p2", "p3"] {
            stage.api.change(&pod(name), |pod| {
                pod["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet", "name": "c", "uid": "c-uid", "controller": true
                }]);
            });
        }
        stage.start();
        first_round().await;
        assert_eq!((stage.refusals("size_unknown"), stage.refusals("below_desired")), (1.0, 0.0));
        assert_eq!(stage.status()["state"], "size_unknown");
        assert_eq!(stage.api.kills(), []);
        stage.stop().await;
    });
}

/// The restarts of a workload's containers that the agent counted.
fn restarts(stage: &Stage, workload: &str) -> Option<f64> {
    let labels = format!("target_namespace=\"a\",workload=\"{workload}\",workload_kind=\"Deployment\"");
    stage.metric(&format!("pure_chaos_container_restarts_total{{{labels}}}"))
}

fn restart(stage: &Stage, name: &str, restarts: u64) {
    stage
        .api
        .change(&pod(name), |pod| pod["status"]["containerStatuses"][0]["restartCount"] = json!(restarts));
}

/// Removes Deployment `web` with everything below it.
fn remove_web(stage: &Stage) {
    for path in [pod("p1"), pod("p2"), pod("p3"), format!("{SETS}/web-1"), WEB.to_owned()] {
        stage.api.remove(&path);
    }
}

#[test]
fn the_series_of_a_workload_that_is_gone_end_ten_minutes_later() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 12h")]);
        stage.start();
        pass(5 * SECOND).await;
        restart(&stage, "p1", 2);
        pass(SECOND).await;
        assert_eq!(restarts(&stage, "web"), Some(2.0));
        remove_web(&stage);
        pass(580 * SECOND).await;
        assert_eq!(restarts(&stage, "web"), Some(2.0), "the last scrape gets them");
        pass(140 * SECOND).await;
        assert_eq!(restarts(&stage, "web"), None);
        assert!(stage.metric("pure_chaos_recoveries_pending{target_namespace=\"a\"}").is_some());
        stage.stop().await;
    });
}

#[test]
fn a_workload_that_is_back_or_only_scaled_down_keeps_its_series() {
    // The workload is gone for a while, or has no Pods for hours.
    for (is_gone, time) in [(true, 400), (false, 7_200)] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 12h")]);
            stage.start();
            pass(5 * SECOND).await;
            restart(&stage, "p1", 2);
            pass(SECOND).await;
            let before = Stage::opted_in();
            if is_gone {
                remove_web(&stage);
            } else {
                ["p1", "p2", "p3"].into_iter().for_each(|name| stage.api.remove(&pod(name)));
            }
            pass(time * SECOND).await;
            for path in [WEB, &format!("{SETS}/web-1")] {
                stage.api.put(path, before.api.get(path).unwrap());
            }
            stage.add_pod("p4", true);
            pass(SECOND).await;
            restart(&stage, "p4", 1);
            pass(700 * SECOND).await;
            assert_eq!(restarts(&stage, "web"), Some(3.0));
            stage.stop().await;
        });
    }
}
