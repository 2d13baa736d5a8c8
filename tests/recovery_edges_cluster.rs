//! The rarer ways in which a recovery can end, on the real node, beside those of `recovery_cluster.rs`. A case is a workload, what happens
//! to it after a kill and before its recovery, and the one outcome. `PURE_CHAOS_CASE=gate` plays only those with that in their names.

use std::sync::Mutex;
use std::time::Instant;

use serde_json::json;
use tests::case::Case;
use tests::case::How::{Background, Foreground};
use tests::case::Special::{self, Deaf, HollowNode, ImageGone, Nothing};
use tests::case::Step::{
    self, Autoscale, DeleteOther, DeleteWorkload, Expire, FailOther, Hold, MakeAnew, Open, OpenReplacement,
    OptIn, OptOut, RemoveNode, Rollout, Scale,
};
use tests::cluster::{PATIENCE, within};
use tests::scene::{Scene, workload};

/// Cases that are played at the same time: the node is small.
const AT_ONCE: usize = 6;

const fn case(
    name: &'static str,
    kind: &'static str,
    special: Special,
    middle: &'static [Step],
    outcome: &'static str,
) -> Case {
    Case { name, kind, special, middle, outcome }
}

/// The slow ones first. None of them is among those of `recovery_cluster.rs`.
const CASES: [Case; 17] = [
    case("daemon-sets-node", "DaemonSet", HollowNode, &[RemoveNode], "rescaled"),
    case("autoscaled-up", "Deployment", Nothing, &[Autoscale(4, 5), OpenReplacement], "recovered"),
    case("autoscaled-down", "Deployment", Nothing, &[Autoscale(1, 1)], "rescaled"),
    case("image-gone", "Deployment", ImageGone, &[Open], "timed_out"),
    case("gate", "Deployment", Nothing, &[Hold, Open], "recovered"),
    case("deaf-victim", "Deployment", Deaf, &[Hold, Open], "recovered"),
    case("expired", "Deployment", Nothing, &[Expire], "opted_out"),
    case("scaled-up", "StatefulSet", Nothing, &[Scale(4), OpenReplacement], "recovered"),
    case("scaled-to-zero", "StatefulSet", Nothing, &[Scale(0)], "rescaled"),
    case("deleted-foreground", "Deployment", Nothing, &[DeleteWorkload(Foreground)], "workload_deleted"),
    case("set-deleted", "StatefulSet", Nothing, &[DeleteWorkload(Background)], "workload_deleted"),
    case("made-anew", "ReplicaSet", Nothing, &[MakeAnew], "workload_deleted"),
    case("set-rolled-out", "StatefulSet", Nothing, &[Rollout], "rolled_out"),
    case("daemon-rolled-out", "DaemonSet", Nothing, &[Rollout], "rolled_out"),
    case("other-failed", "ReplicaSet", Nothing, &[FailOther, Open], "disturbed"),
    case("other-deleted", "StatefulSet", Nothing, &[DeleteOther, Open], "disturbed"),
    case("opted-out-and-in", "Deployment", Nothing, &[OptOut, OptIn, Open], "opted_out"),
];

#[test]
fn each_recovery_ends_in_its_one_outcome() {
    let chosen = std::env::var("PURE_CHAOS_CASE").unwrap_or_default();
    let left = Mutex::new(CASES.iter().filter(|case| case.name.contains(&chosen)));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = { left.lock().unwrap().next() } {
                    let begun = Instant::now();
                    let played = std::panic::catch_unwind(|| case.play());
                    let verdict = if played.is_ok() { "as expected" } else { "FAILED" };
                    println!("{:20} {:18} {verdict}, {:.0?}", case.name, case.outcome, begun.elapsed());
                    if played.is_err() {
                        failed.lock().unwrap().push(case.name);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner().unwrap(), Vec::<&str>::new());
}

/// While a rollout is under way, with a Pod more than wanted, nothing is killed; afterwards it is.
#[test]
fn surge_pods_are_no_spare_ones() {
    let scene = Scene::new("surge");
    let mut web = workload("Deployment", "web", 2);
    web["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    scene.create(&web);
    scene.until_ready(2);
    let template = json!({"metadata": {"annotations": {"version": "2"}}});
    scene.patch("Deployment", "web", &json!({"spec": {"template": template}}));
    within(PATIENCE, "the surge Pod", || (scene.pods().len() == 3).then_some(()));
    scene.opt_in(&[]);
    let refused = || {
        Some(scene.status())
            .filter(|status| status.state.as_deref().is_some_and(|state| state.contains("rolling_out")))
    };
    let status = within(PATIENCE, "a round that refuses", refused);
    assert_eq!((status.kills.unwrap_or(0), status.outcomes.len()), (0, 0));
    let killed = || {
        scene.open(|_| true);
        (scene.status().kills >= Some(1)).then_some(())
    };
    within(PATIENCE, "a kill after the rollout", killed);
    let refusals = scene.total(&scene.metrics(), "pure_chaos_refusals_total", "reason=\"rolling_out\"");
    assert!(refusals > 0.0);
    let newest = scene.get("apps/v1", "Deployment", "web")["status"]["updatedReplicas"].clone();
    assert_eq!(newest, 2, "the rollout had ended");
}
