//! Outages of a node or a zone, in virtual time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::platform::PlatformPolicy;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{Stage, first_round, pass, play, pod};

const ZONE: &str = "topology.kubernetes.io/zone";

/// A stage with two workloads of three Pods, each with two Pods on node `n1` and one on node `n2`.
fn with(settings: &[(&str, &str)], kills_per_minute: u32) -> Stage {
    let mut stage = Stage::opted_in();
    let policy = format!(
        "ceilings: {{mode: 'evict,delete', faults: 'pod-kill,node-outage,zone-outage'}}\nkillsPerMinute: {kills_per_minute}"
    );
    stage.policy = PlatformPolicy::parse(&policy).unwrap();
    stage.opt_in(&[&[("chaos", "yes")], settings].concat());
    stage.add_workload("api", &["q1", "q2", "q3"]);
    for (name, node) in [("p1", "n1"), ("p2", "n1"), ("p3", "n2"), ("q1", "n1"), ("q2", "n2"), ("q3", "n1")] {
        stage.api.change(&pod(name), |pod| pod["spec"]["nodeName"] = json!(node));
    }
    stage
}

/// The names of the Pods that were killed, in order.
fn victims(stage: &Stage) -> Vec<String> {
    let name = |path: &str| path.trim_end_matches("/eviction").rsplit('/').next().unwrap().to_owned();
    let mut names: Vec<String> = stage.api.kills().iter().map(|kill| name(&kill.path)).collect();
    names.sort();
    names
}

fn is_one_node(names: &[String]) -> bool {
    [&["p1", "p2", "q1", "q3"][..], &["p3", "q2"]].iter().any(|node| names == *node)
}

#[test]
fn all_pods_of_one_node_die_and_each_workload_recovers_once() {
    play(async {
        let mut stage = with(&[("purechaos.dev/faults", "node-outage")], 60);
        stage.start();
        first_round().await;
        let killed = victims(&stage);
        assert!(is_one_node(&killed), "{killed:?}");
        assert_eq!(stage.status()["kills"], json!(killed.len()));
        let note = stage.api.notes().into_iter().find(|note| note.starts_with("Killed Pod ")).unwrap();
        assert!(note.contains("(evict, node-outage of node n"), "{note}");
        for (number, victim) in killed.iter().enumerate() {
            let set = if victim.starts_with('p') { "web-1" } else { "api-1" };
            let name = format!("new-{number}");
            stage.replace(victim, &name);
            stage.api.change(&pod(&name), |pod| {
                let owner = &mut pod["metadata"]["ownerReferences"][0];
                (owner["name"], owner["uid"]) = (json!(set), json!(format!("{set}-uid")));
            });
        }
        pass(Duration::from_secs(6)).await;
        assert_eq!(stage.status()["outcomes"], json!({"recovered": 2}));
        stage.stop().await;
    });
}

#[test]
fn a_zone_is_known_by_the_pods_label_or_by_the_nodes() {
    for by_label in [true, false] {
        play(async move {
            let mut stage = with(&[("purechaos.dev/faults", "zone-outage")], 60);
            for (name, zone) in [
                ("p1", "east"),
                ("p2", "east"),
                ("p3", "west"),
                ("q1", "east"),
                ("q2", "west"),
                ("q3", "east"),
            ] {
                if by_label {
                    stage.api.change(&pod(name), |pod| pod["metadata"]["labels"][ZONE] = json!(zone));
                }
            }
            for (node, zone) in [("n1", "east"), ("n2", "west")] {
                let labels = json!({ZONE: zone});
                let node_object =
                    json!({"metadata": {"name": node, "uid": node, "labels": labels}, "spec": {}});
                stage.api.put(&format!("/api/v1/nodes/{node}"), node_object);
            }
            // None of them is cordoned.
            let none = json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": []});
            stage.api.intercept(move |call| {
                let asks = call.path == "/api/v1/nodes" && call.query.contains_key("fieldSelector");
                asks.then(|| Answer::Object(none.clone()))
            });
            stage.reads_nodes.store(!by_label, Ordering::Relaxed);
            stage.start();
            first_round().await;
            let killed = victims(&stage);
            assert!(is_one_node(&killed), "{killed:?}, by label {by_label}");
            stage.stop().await;
        });
    }
}

#[test]
fn without_zones_nothing_dies_and_the_reason_is_told() {
    play(async {
        let mut stage = with(&[("purechaos.dev/faults", "zone-outage")], 60);
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("place_unknown")), (0, 1.0));
        stage.stop().await;
    });
}

#[test]
fn a_workload_that_is_all_there_stays_and_the_others_die() {
    play(async {
        let mut stage = with(&[("purechaos.dev/faults", "node-outage")], 60);
        stage.api.change(&pod("q2"), |pod| pod["spec"]["nodeName"] = json!("n1"));
        stage.start();
        first_round().await;
        let killed = victims(&stage);
        assert!(killed.iter().all(|name| name.starts_with('p')), "{killed:?}");
        assert_eq!(stage.refusals("all_in_one_place"), 1.0);
        let notes = stage.api.notes();
        let told = "No Pod of Deployment api was killed: all_in_one_place: ";
        let note = notes.iter().find(|note| note.starts_with(told)).unwrap_or_else(|| panic!("{notes:?}"));
        assert!(note.contains("all 3 Ready Pods of Deployment api are on node n1"), "{note}");
        stage.stop().await;
    });
}

#[test]
fn an_outage_that_exceeds_the_platforms_budget_is_refused_whole() {
    play(async {
        let mut stage = with(&[("purechaos.dev/faults", "node-outage")], 1);
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("budget_spent")), (0, 1.0));
        let message = stage.status()["conditions"][0]["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("would kill") && message.contains("killsPerMinute, which is 1"),
            "{message}"
        );
        stage.stop().await;
    });
}

#[test]
fn a_budget_stops_a_drain_in_the_middle() {
    play(async {
        // Only the Pods on one of the two nodes are targets.
        let settings = [("purechaos.dev/faults", "node-outage"), ("purechaos.dev/targets", "node=n1")];
        let mut stage = with(&settings, 60);
        for name in ["p1", "p2", "q1", "q3"] {
            stage.api.change(&pod(name), |pod| pod["metadata"]["labels"]["node"] = json!("n1"));
        }
        let budget = json!({"causes": [{"reason": "DisruptionBudget", "message": "needs 2"}]});
        stage.api.before("POST", "/eviction", move |api| {
            api.fail("POST", "/eviction", usize::MAX, Answer::Status(429, budget));
        });
        stage.start();
        first_round().await;
        assert_eq!(stage.status()["kills"].as_i64().unwrap_or(0), 1, "the first one was evicted");
        assert_eq!(stage.refusals("blocked_by_pdb"), 1.0);
        // The workload that lost one Pod is told apart from the one that lost none.
        let notes = stage.api.notes();
        let told = |start: &str| notes.iter().filter(|note| note.starts_with(start)).count();
        assert_eq!(
            (told("No further Pod of Deployment "), told("No Pod of Deployment ")),
            (1, 1),
            "{notes:?}"
        );
        stage.stop().await;
    });
}

#[test]
fn the_platform_has_to_allow_outages() {
    let policy = PlatformPolicy::built_in();
    let annotations = [("purechaos.dev/faults".to_owned(), "pod-kill,node-outage".to_owned())].into();
    let problems = policy.settings(&annotations).unwrap_err();
    let text = problems[0].to_string();
    assert!(text.contains("the platform's ceilings.faults is `pod-kill`"), "{text}");
}

#[test]
fn a_dry_run_names_the_outage() {
    play(async {
        let settings = [("purechaos.dev/faults", "node-outage"), ("purechaos.dev/dry-run", "true")];
        let mut stage = with(&settings, 60);
        stage.start();
        first_round().await;
        assert_eq!((stage.rounds("dry_run"), stage.status()["kills"].clone()), (1.0, Value::Null));
        stage.stop().await;
    });
}
