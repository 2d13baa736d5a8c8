use super::examples::*;
use super::*;

#[test]
fn a_pod_belongs_to_what_controls_its_replica_set() {
    let observation = deployment(vec![pod("a")], 3);
    let workload = observation.workload_of(&observation.pods[0]).unwrap();
    assert_eq!((workload.reference.kind.as_str(), workload.desired), ("Deployment", Some(3)));
}

#[test]
fn a_bare_replica_set_is_a_workload_and_a_bare_pod_has_none() {
    let mut observation = deployment(vec![pod("a")], 3);
    observation.replica_sets.get_mut("web-1-uid").unwrap().controller = None;
    assert_eq!(observation.workload_of(&pod("a")).unwrap().reference.kind, "ReplicaSet");
    assert_eq!(observation.workload_of(&PodView { controller: None, ..pod("a") }), None);
}

#[test]
fn health_is_what_is_wanted_and_ready() {
    let ill = PodView { ready: false, ..pod("b") };
    for (pods, expected) in [(vec![pod("a"), pod("b")], true), (vec![pod("a"), ill], false), (vec![], false)]
    {
        assert_eq!(deployment(pods, 2).is_healthy("web-uid"), Some(expected));
    }
    let mut rolling = deployment(vec![pod("a"), pod("b")], 2);
    rolling.workloads.get_mut("web-uid").unwrap().rolling_out = true;
    assert_eq!(rolling.is_healthy("web-uid"), Some(false));
    assert_eq!(rolling.is_healthy("another-uid"), None);
}

#[test]
fn an_unknown_kind_is_as_large_as_its_replica_sets() {
    let mut observation = deployment(vec![], 3);
    for (name, desired) in [("r-1", 2), ("r-2", 1)] {
        let set = ReplicaSetView {
            workload: workload("ReplicaSet", name, desired),
            controller: Some(controller("Rollout", "r")),
        };
        observation.replica_sets.insert(format!("{name}-uid"), set);
    }
    let of = |kind, name| {
        observation.workload_of(&PodView { controller: Some(controller(kind, name)), ..pod("a") })
    };
    let rollout = of("ReplicaSet", "r-1").unwrap();
    assert_eq!((rollout.desired, rollout.rolling_out), (Some(3), true));
    observation.replica_sets.get_mut("r-2-uid").unwrap().workload.desired = Some(0);
    let of = |kind, name| {
        observation.workload_of(&PodView { controller: Some(controller(kind, name)), ..pod("a") })
    };
    assert!(!of("ReplicaSet", "r-1").unwrap().rolling_out, "the other one has no Pods any more");
    assert_eq!(of("CloneSet", "c").unwrap().desired, None);
}

#[test]
fn a_size_that_is_unknown_is_explained() {
    let observation = deployment(vec![], 3);
    for (kind, expected) in [
        ("CloneSet", "kind CloneSet is not in `workloads` of the platform's policy"),
        ("StatefulSet", "StatefulSet x is gone or is being deleted"),
    ] {
        let pod = PodView { controller: Some(controller(kind, "x")), ..pod("a") };
        let because = observation.workload_of(&pod).unwrap().unknown_size.unwrap().because;
        assert!(because.starts_with(expected), "{because}");
    }
}

#[test]
fn only_owners_of_pods_that_no_list_shows_are_read() {
    let mut observation = deployment(vec![pod("a")], 3);
    let owned = |name: &str, kind: &str, owner: &str| PodView {
        controller: Some(controller(kind, owner)),
        ..pod(name)
    };
    observation.pods.extend([
        owned("b", "CloneSet", "c"),
        owned("c", "CloneSet", "c"),
        owned("d", "CloneSet", "d"),
        owned("e", "StatefulSet", "gone"),
        owned("f", "Job", "j"),
        owned("g", "Rollout", "r"),
    ]);
    let set = ReplicaSetView {
        workload: workload("ReplicaSet", "r-1", 3),
        controller: Some(controller("Rollout", "r")),
    };
    observation.replica_sets.insert("r-1-uid".to_owned(), set);
    let unread: Vec<String> = observation.unread().into_iter().map(|owner| owner.name).collect();
    assert_eq!(unread, ["c", "d", "gone", "j"]);
}
