//! What the webhook warns about.

use super::*;

#[test]
fn an_opt_in_tells_what_was_laid_in_wait() {
    let old = json!({"purechaos.dev/limit": "5", "purechaos.dev/single-replica": "allow", "purechaos.dev/mode": "evict"});
    let mut new = old.clone();
    (new["chaos"], new["purechaos.dev/mode"]) = (json!("yes"), json!("evict"));
    new["purechaos.dev/limit"] = json!("4");
    let (_, told) = outcome(&decided(&request("UPDATE", "a", Some(old.clone()), Some(new.clone()))));
    let line =
        |setting: &str| format!("this opt-in uses a setting that was there before: purechaos.dev/{setting}");
    assert_eq!(told, [line("mode=evict"), line("single-replica=allow")].join("|"));
    // The setting is not reported at a later change, nor if it comes together with the opt-in.
    let mut later = new.clone();
    later["purechaos.dev/limit"] = json!("3");
    for (operation, old) in [("UPDATE", Some(new)), ("CREATE", None), ("UPDATE", Some(json!({})))] {
        assert_eq!(
            outcome(&decided(&request(operation, "a", old, Some(later.clone())))),
            (200, String::new())
        );
    }
}

#[test]
fn who_sets_an_instant_that_has_passed_is_told() {
    let past = "2026-11-23T11:59:59Z";
    let with = |more: Value| {
        let mut annotations = json!({"chaos": "yes", "purechaos.dev/also-at": past});
        annotations.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        annotations
    };
    let told = |old: Value, new: Value| outcome(&decided(&request("UPDATE", "a", Some(old), Some(new)))).1;
    let line = format!("purechaos.dev/also-at has no effect: {past} has passed");
    assert_eq!(told(json!({}), with(json!({}))), line);
    assert_eq!(told(json!({"chaos": "yes"}), with(json!({}))), line);
    // The `also-at` of an earlier round is still there.
    assert_eq!(told(with(json!({})), with(json!({"purechaos.dev/limit": "2"}))), "");
    assert_eq!(told(json!({}), with(json!({"purechaos.dev/also-at": "2026-11-23T12:00:09Z"}))), "");
    assert_eq!(told(json!({"purechaos.dev/also-at": past}), with(json!({}))), line);
}

#[test]
fn an_opt_in_is_told_of_a_default_that_budgets_do_not_stop() {
    let policy = "defaults: {mode: delete}\nceilings: {mode: 'evict,delete'}\n";
    let policy = PlatformPolicy::parse(policy).unwrap();
    let told = |old: Value, new: Value| {
        outcome(&opt_in(&request("UPDATE", "a", Some(old), Some(new)), &policy, now())).1
    };
    let yes = json!({"chaos": "yes"});
    assert_eq!(
        told(json!({}), yes.clone()),
        "this opt-in uses the platform's default purechaos.dev/mode=delete, \
         which ignores PodDisruptionBudgets"
    );
    assert_eq!(told(yes.clone(), json!({"chaos": "yes", "purechaos.dev/limit": "2"})), "", "no news");
    for mode in ["evict", "delete"] {
        assert_eq!(
            told(json!({}), json!({"chaos": "yes", "purechaos.dev/mode": mode})),
            "",
            "{mode} was chosen"
        );
    }
}

#[test]
fn a_kind_that_the_platform_lists_is_known() {
    let list = "workloads: [{apiVersion: apps.kruise.io/v1alpha1, kind: CloneSet, resource: clonesets}]";
    let policy = PlatformPolicy::parse(list).unwrap();
    let told = |kinds: &str| {
        let new = json!({"chaos": "yes", "purechaos.dev/kinds": kinds});
        outcome(&opt_in(&request("UPDATE", "a", Some(json!({})), Some(new)), &policy, now())).1
    };
    assert_eq!(told("Deployment,CloneSet,Rollout"), "");
    assert_eq!(
        told("CloneSet,SandboxSet"),
        "Pure Chaos does not know kind SandboxSet: only Pods of its ReplicaSets can die, \
         unless the platform's policy lists the kind"
    );
}

#[test]
fn an_exclusion_on_a_namespace_is_told_where_it_belongs() {
    for new in
        [json!({"purechaos.dev/exclude": "true"}), json!({"chaos": "yes", "purechaos.dev/exclude": "true"})]
    {
        let (code, message) = outcome(&decided(&request("UPDATE", "a", Some(json!({})), Some(new))));
        assert_eq!(code, 422);
        assert!(
            message.contains("has no effect on a namespace: write it on a Pod or on its workload"),
            "{message}"
        );
    }
}

#[test]
fn what_is_written_as_a_label_is_told_to_be_an_annotation() {
    let labelled = |name: &str, annotations: Value, old: Value, labels: Value| {
        let mut request = request("UPDATE", name, Some(json!({})), Some(annotations));
        let read = |labels: Value| serde_json::from_value::<crate::admission::pod::Labels>(labels).unwrap();
        request.old_object.as_mut().unwrap().metadata.labels = read(old);
        request.object.as_mut().unwrap().metadata.labels = read(labels);
        outcome(&decided(&request))
    };
    let (none, yes) = (json!({}), json!({"chaos": "yes"}));
    let (code, warning) = labelled("a", none.clone(), none.clone(), yes.clone());
    assert_eq!(code, 200);
    assert!(warning.starts_with("label chaos=yes has no effect; to opt in: kubectl annotate"), "{warning}");
    for (annotations, old, labels) in [
        (none.clone(), yes.clone(), yes.clone()),
        (yes.clone(), none.clone(), yes.clone()),
        (none.clone(), none.clone(), json!({"chaos": "monkey"})),
        (none.clone(), yes.clone(), none.clone()),
    ] {
        assert_eq!(labelled("a", annotations, old, labels), (200, String::new()));
    }
    for name in ["pure-chaos", "a"] {
        let halt = json!({"purechaos.dev/halt": "4711"});
        let (code, message) = labelled(name, none.clone(), none.clone(), halt.clone());
        assert_eq!(code, 422);
        assert!(
            message.contains(&format!("kubectl annotate namespace {name} purechaos.dev/halt=")),
            "{message}"
        );
        assert_eq!(labelled(name, none.clone(), halt, none.clone()).0, 200, "it can be removed");
    }
    for key in ["pure-chaos.dev/halt", "halt", "chaos.dev/halt", "purechaos.dev/Halt"] {
        let halt = json!({key: "4711"});
        let (code, message) = labelled("pure-chaos", none.clone(), none.clone(), halt.clone());
        assert!(
            code == 422 && message.starts_with(&format!("metadata.labels[{key}]: Forbidden: a label")),
            "{message}"
        );
        assert_eq!(labelled("pure-chaos", none.clone(), halt.clone(), halt.clone()).0, 200, "it was there");
        assert_eq!(labelled("a", none.clone(), none.clone(), halt).0, 200);
    }
    for key in ["kubernetes.io/metadata.name", "helm.sh/chart", "app.kubernetes.io/part-of", "team"] {
        let outcome = labelled("pure-chaos", none.clone(), none.clone(), json!({key: "x"}));
        assert_eq!(outcome, (200, String::new()), "{key}");
    }
}
