//! Outages of a node or a zone, and rounds that take several Pods of a workload. The scheduler, the
//! controllers and the API server are real; the outages happen on nodes without a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tests::audit::{Mark, Request};
use tests::cluster::{Namespace, PATIENCE, kubeconfig, kubectl, metrics, object, run, total, within};
use tests::site::{HOSTNAME, Site, ZONE};

const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-chaos-process");

/// The notes of a namespace's Events with this reason.
fn notes(namespace: &str, reason: &str) -> Vec<String> {
    let events = object(&["events.events.k8s.io", "-n", namespace]);
    let of_reason =
        events["items"].as_array().into_iter().flatten().filter(|event| event["reason"] == reason);
    of_reason.map(|event| event["note"].as_str().unwrap().to_owned()).collect()
}

/// Waits for an Event that contains these words.
fn tells(site: &Site, reason: &str, words: &str) {
    let note =
        within(PATIENCE, words, || notes(&site.name, reason).into_iter().find(|note| note.contains(words)));
    println!("{reason}: {note}");
}

fn explain(site: &Site) -> String {
    let text = run(Command::new(PLUGIN).args(["explain", &site.name]).env("KUBECONFIG", kubeconfig()));
    text.succeeds()
}

fn app(pod: &Pod) -> &str {
    &pod.labels()["app"]
}

fn node(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap()
}

/// The one place of all victims, and how many victims each workload has. They must be all Pods of
/// these workloads in that place.
fn place_of(
    victims: &BTreeSet<String>,
    before: &BTreeMap<String, Pod>,
    workloads: &[&str],
    place: impl Fn(&Pod) -> String,
) -> (String, BTreeMap<String, usize>) {
    let places: BTreeSet<String> = victims.iter().map(|victim| place(&before[victim])).collect();
    assert_eq!(places.len(), 1, "{victims:?} were in {places:?}");
    let here = places.into_iter().next().unwrap();
    let there = before.iter().filter(|(_, pod)| workloads.contains(&app(pod)) && place(pod) == here);
    assert_eq!(*victims, there.map(|(name, _)| name.clone()).collect(), "in {here}");
    let mut counts = BTreeMap::new();
    for victim in victims {
        *counts.entry(app(&before[victim]).to_owned()).or_default() += 1;
    }
    (here, counts)
}

/// What the agent did to Pods of a namespace, and the API server accepted.
fn accepted(mark: &Mark, namespace: &str) -> BTreeSet<(String, String)> {
    let is_kill = |request: &Request| {
        request.is_kill()
            && request.is_accepted()
            && request.account == "agent"
            && request.namespace == namespace
    };
    let kills = mark.requests().into_iter().filter(is_kill);
    kills.map(|request| (request.resource, request.name)).collect()
}

fn each(resource: &str, names: &BTreeSet<String>) -> BTreeSet<(String, String)> {
    names.iter().map(|name| (resource.to_owned(), name.clone())).collect()
}

const EVERYWHERE: [(&str, &str); 0] = [];

#[test]
fn all_pods_of_one_node_die_and_what_is_all_there_is_a_finding() {
    let site = Site::make("drain", &["east", "east", "west"]);
    let first = format!("{}-0", site.name);
    site.spread("Deployment", "web", 4, &EVERYWHERE);
    site.spread("StatefulSet", "db", 3, &EVERYWHERE);
    site.spread("Deployment", "pinned", 2, &[(HOSTNAME, &first)]);
    let before = site.until_old(9);
    let mark = Mark::now();
    let victims = site.one_round(&["purechaos.dev/faults=node-outage"]);
    let (here, counts) = place_of(&victims, &before, &["web", "db"], node);
    println!("node {here}: {victims:?}");
    assert!(counts["db"] == 1 && (1..=2).contains(&counts["web"]), "{counts:?}");
    assert_eq!(accepted(&mark, &site.name), each("pods/eviction", &victims));

    for victim in &victims {
        tells(&site, "ChaosKilled", &format!("Killed Pod {victim} (evict, node-outage of node {here})"));
    }
    let found = format!("all 2 Ready Pods of Deployment pinned are on node {first}");
    tells(&site, "ChaosRefused", "No Pod of Deployment pinned was killed: all_in_one_place: ");
    tells(&site, "ChaosRefused", &found);
    assert!(site.refusals("all_in_one_place") >= 1.0);
    let text = explain(&site);
    print!("{text}");
    let finding =
        format!("What an outage would find:\n  node-outage: Deployment/pinned: all_in_one_place: {found}\n");
    assert!(text.contains(&finding), "{text}");

    site.recovers(0.0, 2.0);
    assert_eq!(
        (site.recoveries_of("web"), site.recoveries_of("db"), site.recoveries_of("pinned")),
        (1.0, 1.0, 0.0)
    );
    assert_eq!(site.kills(), victims.len() as f64);
    let status = site.scene().status();
    assert_eq!(
        (status.kills, status.outcomes),
        (Some(victims.len() as i64), [("recovered".to_owned(), 2)].into())
    );
}

#[test]
fn a_budget_limits_a_drain_and_does_not_limit_an_outage() {
    let site = Site::make("drain-budget", &["east", "west"]);
    site.spread("Deployment", "web", 4, &EVERYWHERE);
    let name = &site.name;
    kubectl(&[
        "-n",
        name,
        "create",
        "poddisruptionbudget",
        "most",
        "--selector=app=web",
        "--max-unavailable=1",
    ])
    .succeeds();
    let before = site.until_old(4);
    within(PATIENCE, "the budget's status", || {
        let budget = object(&["poddisruptionbudget", "most", "-n", name]);
        (budget["status"]["disruptionsAllowed"] == 1 && budget["status"]["expectedPods"] == 4).then_some(())
    });
    let mark = Mark::now();
    let faults = "purechaos.dev/faults=node-outage";
    let victims = site.one_round(&[faults]);
    println!("a drain: {victims:?}");
    assert_eq!((victims.len(), accepted(&mark, name)), (1, each("pods/eviction", &victims)));
    assert_eq!(site.kills(), 1.0);
    assert!(site.refusals("blocked_by_pdb") >= 1.0);
    tells(&site, "ChaosRefused", " of Deployment web was killed: blocked_by_pdb: ");
    let here = node(&before[victims.first().unwrap()]);
    tells(&site, "ChaosKilled", &format!("(evict, node-outage of node {here})"));
    site.recovers(0.0, 1.0);

    let before = site.until_old(4);
    let mark = Mark::now();
    let victims = site.one_round(&[faults, "purechaos.dev/mode=delete"]);
    let (here, counts) = place_of(&victims, &before, &["web"], node);
    println!("an outage of node {here}: {victims:?}");
    assert!(counts["web"] >= 1, "{counts:?}");
    assert_eq!(accepted(&mark, name), each("pods", &victims));
    tells(&site, "ChaosKilled", &format!("(delete, node-outage of node {here})"));
    site.recovers(1.0, 2.0);
    assert_eq!((site.kills(), site.recoveries_of("web")), (1.0 + victims.len() as f64, 2.0));
}

/// From Kubernetes 1.35 on, the API server copies the label of the zone to a Pod when the Pod is
/// bound. Before that, nobody tells the agent, which may not read nodes here.
#[test]
fn all_pods_of_a_zone_die_if_the_pods_have_its_label() {
    let site = Site::make("zone", &["east", "east", "west"]);
    site.spread("Deployment", "web", 4, &EVERYWHERE);
    // On two nodes, but in one zone.
    site.spread("Deployment", "pair", 2, &[(ZONE, "east")]);
    let before = site.until_old(6);
    let zones: BTreeSet<Option<&String>> = before.values().map(|pod| pod.labels().get(ZONE)).collect();
    println!("the zones of the Pods, by their labels: {zones:?}");
    if zones == [None].into() {
        site.scene().opt_in(&["purechaos.dev/faults=zone-outage"]);
        within(PATIENCE, "three refused rounds", || (site.refusals("place_unknown") >= 3.0).then_some(()));
        assert_eq!(site.scene().status().state.as_deref(), Some("place_unknown"));
        assert_eq!(site.scene().pods().len(), before.len());
        assert_eq!(site.kills(), 0.0);
        tells(&site, "ChaosRefused", "No Pod of Deployment web was killed: place_unknown: ");
        let text = explain(&site);
        // The person may read the nodes, and so sees more than the agent.
        assert!(text.contains("\nState in the record: place_unknown: "), "{text}");
        return;
    }
    let zone = |pod: &Pod| pod.labels()[ZONE].clone();
    for pod in before.values() {
        let is_west = node(pod) == format!("{}-2", site.name);
        assert_eq!(zone(pod), if is_west { "west" } else { "east" }, "{}", pod.name_any());
    }
    let nodes_of_pair: BTreeSet<String> =
        before.values().filter(|pod| app(pod) == "pair").map(node).collect();
    assert_eq!(nodes_of_pair.len(), 2);
    let victims = site.one_round(&["purechaos.dev/faults=zone-outage"]);
    let (here, counts) = place_of(&victims, &before, &["web"], zone);
    println!("zone {here}: {victims:?}");
    tells(&site, "ChaosKilled", &format!("(evict, zone-outage of zone {here})"));
    tells(&site, "ChaosRefused", "No Pod of Deployment pair was killed: all_in_one_place: ");
    let text = explain(&site);
    let found = "zone-outage: Deployment/pair: all_in_one_place: all 2 Ready Pods of Deployment pair are in zone east";
    assert!(text.contains(found), "{text}");
    site.recovers(0.0, 1.0);
    assert_eq!((site.kills(), site.recoveries_of("web")), (counts["web"] as f64, 1.0));
}

#[test]
fn half_of_a_workload_dies_in_one_round_and_recovers_as_one() {
    let namespace = Namespace::new("half");
    namespace.deployment("web", 4);
    let before: BTreeSet<String> = namespace.pods().into_iter().collect();
    let soon = Timestamp::now() + Duration::from_secs(12);
    namespace.opt_in(&[
        "purechaos.dev/schedule=every 12h",
        &format!("purechaos.dev/also-at={}", soon.strftime("%FT%TZ")),
        "purechaos.dev/min-age=1s",
        "purechaos.dev/limit=4",
        "purechaos.dev/per-workload=50%",
    ]);
    let label = format!("target_namespace=\"{}\"", namespace.name);
    let counted = |metrics: &str, name: &str| total(metrics, name, &[&label]);
    let metrics = within(PATIENCE * 2, "a recovery", || {
        let metrics = metrics();
        (counted(&metrics, "pure_chaos_recoveries_total") >= 1.0).then_some(metrics)
    });
    let recovered = total(&metrics, "pure_chaos_recoveries_total", &[&label, "outcome=\"recovered\""]);
    assert_eq!((counted(&metrics, "pure_chaos_kills_total"), recovered), (2.0, 1.0));
    assert_eq!(counted(&metrics, "pure_chaos_recovery_seconds_count"), 1.0);
    let after: BTreeSet<String> = namespace.pods().into_iter().collect();
    let killed: Vec<&String> = before.difference(&after).collect();
    assert_eq!((killed.len(), after.len()), (2, 4), "{before:?} {after:?}");
    let note =
        within(PATIENCE, "the Event of the recovery", || notes(&namespace.name, "ChaosRecovered").pop());
    println!("{note}");
    assert!(killed.iter().all(|pod| note.contains(pod.as_str())), "{note}");
    let status = namespace.record()["status"].clone();
    assert_eq!((&status["kills"], &status["outcomes"]), (&json!(2), &json!({"recovered": 1})));
}
