use policy::platform::PlatformPolicy;
use serde_json::json;

use super::*;
use crate::cluster::snapshot::examples::controller;

fn listed() -> CustomWorkload {
    let list = "workloads: [{apiVersion: apps.kruise.io/v1alpha1, kind: CloneSet, resource: clonesets}]";
    PlatformPolicy::parse(list).unwrap().workloads.get("CloneSet").unwrap().clone()
}

fn object(spec: Value) -> SlimObject {
    serde_json::from_value(json!({"metadata": {"name": "c", "uid": "c-uid"}, "spec": spec})).unwrap()
}

fn error(code: u16, message: &str) -> CallError {
    let status = json!({"kind": "Status", "status": "Failure", "message": message, "code": code});
    CallError::Kube(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
}

fn not_read(code: u16, message: &str) -> Result<Option<WorkloadView>, NotRead> {
    let resource = "clonesets.apps.kruise.io/scale".to_owned();
    Err(NotRead { resource, name: "c".to_owned(), error: error(code, message) })
}

fn told(object: &SlimObject, scale: Option<&SlimObject>) -> (Option<u32>, String) {
    let WorkloadView { desired, unknown_size, .. } = view("CloneSet", object, scale);
    assert_ne!(desired.is_some(), unknown_size.is_some());
    (desired, unknown_size.map_or_else(String::new, |unknown| unknown.because))
}

#[test]
fn the_size_is_what_scale_says_or_else_what_the_object_says() {
    let known = |size| (Some(size), String::new());
    let five = object(json!({"replicas": 5}));
    assert_eq!(told(&five, Some(&object(json!({"replicas": 3})))), known(3));
    assert_eq!(told(&five, Some(&object(json!({})))), known(0), "a 0 is left out");
    assert_eq!(told(&five, None), known(5));
    assert_eq!(told(&object(json!({"replicas": 0})), None), known(0));
    let pods = json!([{"kind": "Pod"}, {"kind": "Pod"}]);
    assert_eq!(told(&object(json!({"pods": pods})), None), known(2), "as in a StrimziPodSet");
    assert_eq!(told(&object(json!({"replicas": 5, "pods": pods})), None), known(5));
    assert_eq!(told(&object(json!({"pods": pods})), Some(&object(json!({"replicas": 3})))), known(3));
}

#[test]
fn a_size_that_is_none_is_unknown_and_said() {
    let neither = "CloneSet c has no subresource `scale`, no `.spec.replicas` and no list `.spec.pods`";
    for spec in [json!({}), json!(null), json!("three"), json!([1]), json!({"replicas": null, "pods": 3})] {
        assert_eq!(told(&object(spec.clone()), None), (None, neither.to_owned()), "{spec}");
    }
    for odd in [json!(-1), json!("3"), json!(1.5), json!(2_147_483_648_u64), json!(u64::MAX), json!({"a": 1})]
    {
        let (desired, because) = told(&object(json!({"replicas": odd})), None);
        assert_eq!(desired, None, "{odd}");
        assert_eq!(because, format!("`.spec.replicas` of CloneSet c is {odd}, which is no number of Pods"));
        let scale = object(json!({"replicas": odd}));
        let (desired, because) = told(&object(json!({"replicas": 3})), Some(&scale));
        assert_eq!(desired, None, "scale has the word");
        assert!(because.starts_with("the subresource `scale` of CloneSet c says "), "{because}");
    }
    let (_, long) = told(&object(json!({"replicas": "x".repeat(1_000)})), None);
    assert!(long.len() < 200, "{long}");
}

#[test]
fn a_missing_right_is_named_with_what_to_do() {
    let told = |answer| of_owner(&listed(), controller("CloneSet", "c"), answer).unknown_size.unwrap();
    let unknown = told(not_read(403, "no way"));
    assert_eq!(unknown.forbidden.as_deref(), Some("clonesets.apps.kruise.io/scale"));
    assert_eq!(
        unknown.because,
        "the agent may not get clonesets.apps.kruise.io/scale: no way (403); \
         the platform can grant what `agent print-role` prints"
    );
    let unknown = told(not_read(500, "does not exist"));
    assert_eq!(unknown.because, "failed to get clonesets.apps.kruise.io/scale c: does not exist (500)");
    assert_eq!(unknown.forbidden, None);
}

#[test]
fn what_is_gone_or_is_another_has_no_size() {
    let found = |uid: &str| {
        let object = json!({"metadata": {"name": "c", "uid": uid}, "spec": {"replicas": 3}});
        Some(view("CloneSet", &serde_json::from_value(object).unwrap(), None))
    };
    let of = |answer| of_owner(&listed(), controller("CloneSet", "c"), Ok(answer));
    assert_eq!(of(found("c-uid")).desired, Some(3));
    for answer in [found("another"), None] {
        let view = of(answer);
        assert_eq!((view.desired, view.reference.uid.as_str()), (None, "c-uid"));
        let because = view.unknown_size.unwrap().because;
        assert!(because.starts_with("CloneSet c with the UID that the Pod names is not there"), "{because}");
    }
}

#[test]
fn what_the_object_asks_for_is_heard() {
    let of = |annotations: Value| {
        let metadata = json!({"name": "c", "uid": "c-uid", "annotations": annotations});
        let object = serde_json::from_value(json!({"metadata": metadata, "spec": {"replicas": 3}})).unwrap();
        view("CloneSet", &object, None).exclusions
    };
    assert_eq!(of(json!({"purechaos.dev/exclude": "true"})).len(), 1);
    assert_eq!(of(json!({"team": "a"})).len(), 0);
}
