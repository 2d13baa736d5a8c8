use super::*;
use crate::cluster::snapshot::examples::{controller, pod, workload};

#[test]
fn a_workload_starts_at_zero_and_a_forgotten_namespace_leaves_nothing() {
    let registry = Registry::new();
    let policy = "steadyState:\n  web-answers: {http: {service: web, port: http}}";
    let metrics = Metrics::new(&registry, &PlatformPolicy::parse(policy).unwrap()).unwrap();
    let web = workload("Deployment", "web", 3).reference;
    metrics.begin("a");
    metrics.see("a", &web);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(text.contains(
        "pure_chaos_kills_total{mode=\"evict\",target_namespace=\"a\",workload=\"web\",workload_kind=\"Deployment\"} 0"
    ));
    assert!(text.contains("outcome=\"recovered_after_restart\",target_namespace=\"a\",workload=\"web\""));
    metrics.kill("a", &web, Mode::Delete);
    metrics.recovery("a", &web, RecoveryOutcome::Recovered, Some(Duration::from_secs(2)));
    metrics.begin_hypothesis("a", &web, "web-answers");
    metrics.hypothesis("a", &web, "web-answers", HypothesisOutcome::Broken);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for (outcome, count) in [("held", 0), ("broken", 1), ("unknown", 0)] {
        let series = format!(
            "{{check=\"web-answers\",outcome=\"{outcome}\",target_namespace=\"a\",workload=\"web\",workload_kind=\"Deployment\"}} {count}"
        );
        assert!(text.contains(&series), "{text}");
    }
    metrics.set_next_slot("a", Some(Timestamp::UNIX_EPOCH));
    metrics.forget("a");
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(!text.contains("target_namespace=\"a\""), "{text}");
}

#[test]
fn only_recovered_enters_the_histogram() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry, &PlatformPolicy::built_in()).unwrap();
    let web = workload("Deployment", "web", 3).reference;
    for &outcome in RecoveryOutcome::ALL {
        metrics.recovery("a", &web, outcome, Some(Duration::from_secs(2)));
    }
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(text.contains(
        "pure_chaos_recovery_seconds_count{target_namespace=\"a\",workload_kind=\"Deployment\"} 1"
    ));
}

#[test]
fn every_allowed_mode_and_kind_begins_at_zero_and_is_forgotten() {
    let registry = Registry::new();
    let policy = "ceilings: {mode: \"evict,delete\"}";
    let metrics = Metrics::new(&registry, &PlatformPolicy::parse(policy).unwrap()).unwrap();
    let rollout = workload("Rollout", "web", 3).reference;
    let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    metrics.see("a", &rollout);
    for mode in ["evict", "delete"] {
        let series = format!(
            "pure_chaos_kills_total{{mode=\"{mode}\",target_namespace=\"a\",workload=\"web\",workload_kind=\"Rollout\"}} 0"
        );
        assert!(text().contains(&series), "{mode}: {}", text());
    }
    assert!(!text().contains("mode=\"force\""), "the platform does not allow it");
    metrics.kill("a", &rollout, Mode::Delete);
    // The metrics know this workload only by its kill, as after a restart.
    metrics.kill("a", &workload("Rollout", "api", 3).reference, Mode::Evict);
    metrics.recovery("a", &rollout, RecoveryOutcome::Recovered, Some(Duration::from_secs(2)));
    metrics.container_restarts("a", &rollout, 1);
    metrics.forget("a");
    assert!(!text().contains("target_namespace=\"a\""), "{}", text());
}

#[test]
fn jobs_make_no_series() {
    let list = "workloads: [{apiVersion: apps.kruise.io/v1alpha1, kind: CloneSet, resource: clonesets}]";
    let custom = policy::platform::PlatformPolicy::parse(list).unwrap().workloads;
    let owned = |kind: &str| PodView { controller: Some(controller(kind, "owner")), ..pod("p") };
    let of = |kind: &str| has_series(&owned(kind), &custom);
    // The Pods of a Rollout belong to a ReplicaSet.
    assert!(["ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"].into_iter().all(of));
    assert!(!["Job", "TaskRun"].into_iter().any(of));
    // The platform lists this kind.
    assert!(of("CloneSet") && !has_series(&owned("CloneSet"), &CustomWorkloads::default()));
}
