//! Custom kinds that own Pods themselves, on a real node. The platform's policy of overlay `test`
//! lists them. No controller of theirs runs: the test makes and replaces their Pods.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, kubectl, kubectl_with, metrics, total, within};
use tests::manifests::established;
use tests::scene::{Scene, is_terminating, workload};

const API_VERSION: &str = "tests.purechaos.dev/v1";

/// A kind with the subresource `scale`, whose size is not in `.spec.replicas`, and a kind without
/// that subresource.
struct Definitions;

impl Definitions {
    fn make() -> Self {
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let scale = json!({"scale": {
            "specReplicasPath": ".spec.birds", "statusReplicasPath": ".status.birds"
        }});
        for (kind, plural, subresources) in [("Flock", "flocks", scale), ("Herd", "herds", json!({}))] {
            let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}});
            let definition = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.tests.purechaos.dev")},
                "spec": {
                    "group": "tests.purechaos.dev", "scope": "Namespaced",
                    "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                    "versions": [{
                        "name": "v1", "served": true, "storage": true, "schema": schema, "subresources": subresources
                    }]
                }
            });
            kubectl_with(&["apply"], &definition).succeeds();
        }
        established(&["crd/flocks.tests.purechaos.dev", "crd/herds.tests.purechaos.dev"]);
        Self
    }
}

impl Drop for Definitions {
    fn drop(&mut self) {
        // Their group counts as ours where a later test looks for what is left of Pure Chaos.
        for plural in ["flocks", "herds"] {
            kubectl(&["delete", "crd", &format!("{plural}.tests.purechaos.dev"), "--timeout=60s"]);
        }
    }
}

/// Makes a custom object, and Ready Pods of it with these names.
fn herd(scene: &Scene, kind: &str, spec: &Value, pods: &[&str]) {
    scene.create(&json!({
        "apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "mine"}, "spec": spec
    }));
    pods.iter().for_each(|name| make_pod(scene, kind, name));
    scene.until_ready(pods.len());
}

fn make_pod(scene: &Scene, kind: &str, name: &str) {
    let uid = scene.get(API_VERSION, kind, "mine")["metadata"]["uid"].clone();
    let mut pod = workload("ReplicaSet", "mine", 1)["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": API_VERSION, "kind": kind, "name": "mine", "uid": uid, "controller": true
    }]);
    scene.create(&pod);
}

fn victim(scene: &Scene) -> String {
    scene.status().pending[0].pod.clone()
}

/// Waits until the last round was refused for this reason, with these words.
fn is_refused(scene: &Scene, reason: &str, words: &str) {
    let sentence = within(PATIENCE, reason, || {
        let status = scene.status();
        let active = status.conditions.into_iter().find(|condition| condition.type_ == "Active")?;
        (status.state.as_deref() == Some(reason) && active.message.contains(words)).then_some(active.message)
    });
    println!("{reason}: {sentence}");
    assert_eq!(scene.status().kills.unwrap_or(0), 0);
}

#[test]
fn a_pod_of_either_kind_dies_and_its_workload_recovers() {
    let _definitions = Definitions::make();
    std::thread::scope(|scope| {
        for (kind, spec, comes_back) in
            [("Flock", json!({"birds": 2, "replicas": 9}), true), ("Herd", json!({"replicas": 2}), false)]
        {
            scope.spawn(move || {
                let scene = Scene::new(&kind.to_lowercase());
                herd(&scene, kind, &spec, &["mine-0", "mine-1"]);
                scene.kill(&[&format!("purechaos.dev/kinds={kind}")], 1);
                let victim = victim(&scene);
                let by = if comes_back { victim.clone() } else { "mine-x7k2p".to_owned() };
                within(PATIENCE, "the victim is gone", || {
                    scene.pods().iter().all(|pod| pod.name_any() != victim).then_some(())
                });
                make_pod(&scene, kind, &by);
                let outcomes = within(PATIENCE * 2, "an outcome", || {
                    scene.open(|_| true);
                    let outcomes = scene.status().outcomes;
                    (!outcomes.is_empty()).then_some(outcomes)
                });
                assert_eq!(outcomes, [("recovered".to_owned(), 1)].into(), "{kind}");
                let live: Vec<Pod> = scene.pods().into_iter().filter(|pod| !is_terminating(pod)).collect();
                assert_eq!(live.len(), 2, "{live:?}");
                let namespace = format!("target_namespace=\"{}\"", scene.namespace.name);
                let kind = format!("workload_kind=\"{kind}\"");
                let labels =
                    [namespace.as_str(), kind.as_str(), "workload=\"mine\"", "outcome=\"recovered\""];
                assert_eq!(total(&metrics(), "pure_chaos_recoveries_total", &labels), 1.0);
            });
        }
    });
}

#[test]
fn a_workload_without_a_size_or_with_an_exclusion_keeps_its_pods() {
    let _definitions = Definitions::make();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let scene = Scene::new("flock-none");
            herd(&scene, "Flock", &json!({"replicas": 2}), &["mine-0", "mine-1"]);
            scene.opt_in(&["purechaos.dev/kinds=Flock"]);
            is_refused(&scene, "size_unknown", "failed to get flocks.tests.purechaos.dev/scale mine: ");
        });
        scope.spawn(|| {
            let scene = Scene::new("herd-none");
            herd(&scene, "Herd", &json!({"replicas": "two"}), &["mine-0", "mine-1"]);
            scene.opt_in(&["purechaos.dev/kinds=Herd"]);
            is_refused(&scene, "size_unknown", "`.spec.replicas` of Herd mine is \"two\"");
            let namespace = &scene.namespace.name;
            let patch = r#"{"metadata": {"annotations": {"purechaos.dev/exclude": "true"}}, "spec": {"replicas": 2}}"#;
            kubectl(&["-n", namespace, "patch", "herd", "mine", "--type=merge", "-p", patch]).succeeds();
            is_refused(&scene, "excluded", "its workload");
        });
    });
}
