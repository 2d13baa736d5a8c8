//! The rarer ways in which a recovery can end, on the real node, beside those of
//! `tests/e2e/recovery.rs`. A case is a workload, what happens between a kill and its recovery,
//! and the one outcome. `PURE_CHAOS_CASE=gate` plays only the cases with that text in their names.

use std::sync::Mutex;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tests::case::Case;
use tests::case::How::{Background, Foreground};
use tests::case::Special::{self, Deaf, FakeNode, ImageGone, Nothing};
use tests::case::Step::{
    self, Autoscale, DeleteOther, DeleteWorkload, Expire, FailOther, Hold, MakeAnew, Open, OpenReplacement,
    OptIn, OptOut, RemoveNode, Rollout, Scale,
};
use tests::cluster::{PATIENCE, kubectl, kubectl_with, within};
use tests::manifests::established;
use tests::scene::{Scene, is_terminating, workload};

/// How many cases are played at the same time, because the node is small.
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

/// The slow cases come first. None of them is among those of `tests/e2e/recovery.rs`.
const CASES: [Case; 17] = [
    case("daemon-sets-node", "DaemonSet", FakeNode, &[RemoveNode], "rescaled"),
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

/// During a rollout there is one Pod more than wanted, and nothing is killed. After the rollout
/// Pods are killed again.
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
    // The Deployment's counts don't tell, because they leave the victim out.
    let is_new = |pod: &Pod| pod.annotations().get("version").is_some_and(|version| version == "2");
    let pods = scene.pods();
    assert!(pods.iter().filter(|pod| !is_terminating(pod)).all(is_new), "the rollout had ended: {pods:?}");
}

/// A kind above a ReplicaSet, which the agent has no right to read, and a ReplicationController.
#[test]
fn kinds_that_are_rare_recover_too() {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "kites.tests.purechaos.dev"},
        "spec": {
            "group": "tests.purechaos.dev", "scope": "Namespaced", "names": {"plural": "kites", "singular": "kite", "kind": "Kite"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]
        }
    });
    kubectl_with(&["apply"], &definition).succeeds();
    established(&["crd/kites.tests.purechaos.dev"]);
    std::thread::scope(|scope| {
        for kind in ["Kite", "ReplicationController"] {
            scope.spawn(move || {
                let scene = Scene::new(&kind.to_lowercase());
                let mut web = workload("ReplicaSet", "web", 2);
                if kind == "Kite" {
                    let kite =
                        json!({"apiVersion": "tests.purechaos.dev/v1", "kind": "Kite", "metadata": {"name": "web"}});
                    scene.create(&kite);
                    let uid = scene.get("tests.purechaos.dev/v1", "Kite", "web")["metadata"]["uid"].clone();
                    web["metadata"]["ownerReferences"] = json!([{
                        "apiVersion": "tests.purechaos.dev/v1", "kind": "Kite", "name": "web", "uid": uid, "controller": true
                    }]);
                } else {
                    web["apiVersion"] = json!("v1");
                    web["kind"] = json!(kind);
                    web["spec"]["selector"] = json!({"app": "web"});
                }
                scene.create(&web);
                scene.until_ready(2);
                scene.kill(&[&format!("purechaos.dev/kinds={kind}")], 1);
                let recovered = within(PATIENCE * 2, "an outcome", || {
                    scene.open(|_| true);
                    let outcomes = scene.status().outcomes;
                    (!outcomes.is_empty()).then_some(outcomes)
                });
                assert_eq!(recovered, [("recovered".to_owned(), 1)].into(), "{kind}");
            });
        }
    });
    // Its group counts as ours where a later test looks for what is left of Pure Chaos.
    kubectl(&["delete", "crd", "kites.tests.purechaos.dev", "--timeout=60s"]).succeeds();
}
