//! Custom kinds that own Pods themselves and that the platform's policy lists, in virtual time.

use std::time::Duration;

use policy::platform::PlatformPolicy;
use runtime::clock::Clock;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{Stage, first_round, pass, play, pod};

const SECOND: Duration = Duration::from_secs(1);
const POLICY: &str = "
workloads:
- {apiVersion: tests.purechaos.dev/v1, kind: Flock, resource: flocks}
- {apiVersion: tests.purechaos.dev/v1, kind: Herd, resource: herds}
";
const FLOCK: &str = "/apis/tests.purechaos.dev/v1/namespaces/a/flocks/f";
const SCALE: &str = "/apis/tests.purechaos.dev/v1/namespaces/a/flocks/f/scale";
const HERD: &str = "/apis/tests.purechaos.dev/v1/namespaces/a/herds/h";

/// A stage whose three Pods belong to a custom workload of this kind, which `kinds` chooses. Flock
/// `f` and Herd `h` exist with these specs; `scale` is the subresource of the Flock.
fn stage(kind: &str, spec: Value, scale: Option<Value>) -> Stage {
    let mut stage = Stage::opted_in();
    stage.policy = PlatformPolicy::parse(POLICY).unwrap();
    stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/kinds", &format!("Deployment,{kind}"))]);
    let metadata = |name: &str| json!({"name": name, "namespace": "a", "uid": format!("{name}-uid")});
    for (path, kind, name) in [(FLOCK, "Flock", "f"), (HERD, "Herd", "h")] {
        let object = json!({
            "apiVersion": "tests.purechaos.dev/v1", "kind": kind, "metadata": metadata(name), "spec": spec
        });
        stage.api.put(path, object);
    }
    if let Some(spec) = scale {
        let scale =
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata("f"), "spec": spec});
        stage.api.put(SCALE, scale);
    }
    ["p1", "p2", "p3"].into_iter().for_each(|name| own(&stage, name, kind));
    stage
}

fn own(stage: &Stage, name: &str, kind: &str) {
    let owner = kind.to_lowercase()[..1].to_owned();
    stage.api.change(&pod(name), |pod| {
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "tests.purechaos.dev/v1", "kind": kind, "name": owner, "uid": format!("{owner}-uid"),
            "controller": true
        }]);
    });
}

/// Removes the victim, and puts a Pod of this name and UID in its place.
fn replace(stage: &Stage, victim: &str, by: &str, kind: &str) {
    stage.replace(victim, by);
    own(stage, by, kind);
}

fn message(stage: &Stage) -> String {
    stage.status()["conditions"][0]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_workload_of_either_form_loses_a_pod_and_recovers() {
    for (kind, scale, comes_back) in [
        ("Flock", Some(json!({"replicas": 3})), false),
        ("Flock", Some(json!({"replicas": 3})), true),
        ("Herd", None, false),
        ("Herd", None, true),
    ] {
        play(async move {
            // The number in the spec of a Flock means something else.
            let replicas = if kind == "Flock" { 7 } else { 3 };
            let mut stage = stage(kind, json!({"replicas": replicas}), scale);
            stage.start();
            first_round().await;
            let victim = stage.victim();
            pass(2 * SECOND).await;
            let by = if comes_back { victim.as_str() } else { "p4" };
            stage.api.remove(&pod(&victim));
            pass(SECOND).await;
            stage.add_pod(by, true);
            let now = stage.clock.wall().to_string();
            stage.api.change(&pod(by), |pod| {
                pod["metadata"]["uid"] = json!("replacement");
                pod["metadata"]["creationTimestamp"] = json!(now);
            });
            own(&stage, by, kind);
            pass(SECOND).await;
            assert_eq!(stage.status()["outcomes"], json!({"recovered": 1}), "{kind} {comes_back}");
            let series = format!(
                "pure_chaos_recovery_seconds_count{{target_namespace=\"a\",workload_kind=\"{kind}\"}}"
            );
            assert_eq!(stage.metric(&series), Some(1.0));
            // It goes on.
            pass(Duration::from_secs(600)).await;
            assert_eq!(stage.api.kills().len(), 2);
            stage.stop().await;
        });
    }
}

#[test]
fn a_size_that_stays_unknown_refuses_and_says_why() {
    let three = || json!({"replicas": 3});
    let refused = Answer::Status(403, Value::Null);
    for (kind, spec, scale, fault, expected) in [
        (
            "Herd",
            json!({}),
            None,
            None,
            "Herd h has no subresource `scale`, no `.spec.replicas` and no list `.spec.pods`",
        ),
        (
            "Herd",
            json!("three"),
            None,
            None,
            "Herd h has no subresource `scale`, no `.spec.replicas` and no list `.spec.pods`",
        ),
        ("Herd", json!({"replicas": -3}), None, None, "`.spec.replicas` of Herd h is -3"),
        ("Herd", json!({"replicas": "3"}), None, None, "`.spec.replicas` of Herd h is \"3\""),
        ("Herd", json!({"replicas": 1_u64 << 40}), None, None, "`.spec.replicas` of Herd h is 1099511627776"),
        ("Flock", three(), Some(json!({"replicas": -3})), None, "the subresource `scale` of Flock f says -3"),
        (
            "Flock",
            three(),
            Some(three()),
            Some(("/flocks/f/scale", refused.clone())),
            "the agent may not get flocks.tests.purechaos.dev/scale: the fault that was asked for (403)",
        ),
        (
            "Flock",
            three(),
            Some(three()),
            Some(("/flocks/f", refused)),
            "the agent may not get flocks.tests.purechaos.dev: the fault that was asked for (403)",
        ),
        (
            "Flock",
            three(),
            Some(three()),
            Some(("/flocks/f/scale", Answer::Status(500, Value::Null))),
            "failed to get flocks.tests.purechaos.dev/scale f: the fault that was asked for (500)",
        ),
        (
            "Flock",
            three(),
            Some(three()),
            Some(("/flocks/f", Answer::Status(404, Value::Null))),
            "Flock f with the UID that the Pod names is not there",
        ),
        (
            "CloneSet",
            three(),
            None,
            None,
            "kind CloneSet is not in `workloads` of the platform's policy, and CloneSet c has no ReplicaSets",
        ),
    ] {
        play(async move {
            let mut stage = stage(kind, spec, scale);
            if let Some((path, answer)) = fault {
                stage.api.fail("GET", path, usize::MAX, answer);
            }
            stage.start();
            first_round().await;
            assert_eq!((stage.refusals("size_unknown"), stage.api.kills().len()), (1.0, 0), "{expected}");
            assert_eq!(stage.status()["state"], "size_unknown");
            assert!(message(&stage).contains(expected), "{expected}: {}", message(&stage));
            stage.stop().await;
        });
    }
}

#[test]
fn a_workload_that_is_deleted_replaced_or_excluded_keeps_its_pods() {
    type Happens = fn(&Stage);
    let cases: [(&str, Happens); 4] = [
        ("size_unknown", |stage| {
            stage.api.change(HERD, |herd| {
                herd["metadata"]["deletionTimestamp"] = json!("2026-11-23T11:59:00Z");
            });
        }),
        ("size_unknown", |stage| stage.api.change(HERD, |herd| herd["metadata"]["uid"] = json!("another"))),
        ("excluded", |stage| {
            stage.api.change(HERD, |herd| {
                herd["metadata"]["annotations"] = json!({"purechaos.dev/exclude": "true"});
            });
        }),
        ("below_desired", |stage| stage.api.change(HERD, |herd| herd["spec"]["replicas"] = json!(4))),
    ];
    for (reason, happens) in cases {
        play(async move {
            let mut stage = stage("Herd", json!({"replicas": 3}), None);
            happens(&stage);
            stage.start();
            first_round().await;
            assert_eq!((stage.refusals(reason), stage.api.kills().len()), (1.0, 0), "{reason}");
            stage.stop().await;
        });
    }
}

#[test]
fn what_happens_to_the_workload_ends_its_recovery() {
    type Happens = fn(&Stage);
    let cases: [(&str, Happens); 4] = [
        ("workload_deleted", |stage| stage.api.remove(HERD)),
        ("workload_deleted", |stage| {
            stage.api.change(HERD, |herd| {
                herd["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:05:00Z");
            });
        }),
        ("workload_deleted", |stage| {
            stage.api.change(HERD, |herd| herd["metadata"]["uid"] = json!("another"));
        }),
        ("rescaled", |stage| stage.api.change(HERD, |herd| herd["spec"]["replicas"] = json!(2))),
    ];
    for (outcome, happens) in cases {
        play(async move {
            let mut stage = stage("Herd", json!({"replicas": 3}), None);
            stage.start();
            first_round().await;
            assert_eq!(stage.api.kills().len(), 1);
            happens(&stage);
            pass(6 * SECOND).await;
            assert_eq!(stage.status()["outcomes"], json!({outcome: 1}));
            stage.stop().await;
        });
    }
}

#[test]
fn a_recovery_waits_while_the_workload_cannot_be_read() {
    play(async {
        let mut stage = stage("Flock", json!({}), Some(json!({"replicas": 3})));
        stage.start();
        first_round().await;
        let victim = stage.victim();
        stage.api.fail("GET", "/flocks/f/scale", usize::MAX, Answer::Status(403, Value::Null));
        replace(&stage, &victim, "p4", "Flock");
        // Its deadline passes.
        pass(400 * SECOND).await;
        assert_eq!(stage.status()["outcomes"], Value::Null);
        stage.api.heal();
        pass(70 * SECOND).await;
        assert_eq!(stage.status()["outcomes"], json!({"recovered": 1}));
        stage.stop().await;
    });
}

#[test]
fn a_kind_that_nobody_chose_is_spared() {
    play(async {
        let mut stage = stage("Herd", json!({"replicas": 3}), None);
        stage.opt_in(&[("chaos", "yes")]);
        stage.start();
        first_round().await;
        assert_eq!((stage.refusals("kind_not_selected"), stage.api.kills().len()), (1.0, 0));
        stage.stop().await;
    });
}

#[test]
fn a_workload_that_does_not_answer_holds_up_no_other() {
    play(async {
        let mut stage = stage("Flock", json!({}), Some(json!({"replicas": 3})));
        stage.add_workload("other", &["q1", "q2", "q3"]);
        stage.api.fail("GET", "/flocks/f/scale", usize::MAX, Answer::After(Duration::from_secs(3_600)));
        stage.start();
        first_round().await;
        pass(5 * SECOND).await;
        assert_eq!(stage.api.kills().len(), 1);
        assert!(stage.victim().starts_with('q'), "{}", stage.victim());
        assert_eq!(stage.refusals("size_unknown"), 1.0);
        stage.stop().await;
    });
}

#[test]
fn a_look_reads_each_custom_workload_once() {
    play(async {
        let mut stage = stage("Flock", json!({}), Some(json!({"replicas": 30})));
        for number in 4..30 {
            let name = format!("p{number}");
            stage.add_pod(&name, true);
            own(&stage, &name, "Flock");
        }
        stage.start();
        first_round().await;
        let calls = stage.api.calls();
        let reads = |path: &str| calls.iter().filter(|call| call.path == path).count();
        assert_eq!((reads(FLOCK), reads(SCALE), reads(HERD)), (1, 1, 0));
        assert_eq!(stage.refusals("below_desired"), 1.0);
        stage.stop().await;
    });
}
