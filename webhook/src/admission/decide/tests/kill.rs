//! Tests of the kill rule.

use super::*;
use crate::admission::decide::kill::{decide, is_locked, not_locked, place_of_kill, unreadable};

fn kill_request(operation: &str, sub: &str, namespace: &str, user: &str, groups: &[&str]) -> Request {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": operation, "subResource": sub, "namespace": namespace, "name": "web-1",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "userInfo": {"username": user, "groups": groups}}});
    parse(review.to_string().as_bytes()).unwrap()
}

#[test]
fn every_account_of_the_system_namespace_is_locked_and_nobody_else() {
    let cases = [
        ("system:serviceaccount:pure-chaos:agent", &["system:serviceaccounts:pure-chaos"][..], true),
        ("system:serviceaccount:pure-chaos:default", &["system:serviceaccounts:pure-chaos"], true),
        ("system:serviceaccount:pure-chaos:agent", &[], true),
        ("impersonator", &["system:serviceaccounts:pure-chaos"], true),
        ("system:serviceaccount:pure-chaos-2:agent", &["system:serviceaccounts:pure-chaos-2"], false),
        ("system:serviceaccount:a:pure-chaos", &["system:serviceaccounts"], false),
        ("system:node:n", &["system:nodes"], false),
        ("", &[], false),
    ];
    for (user, groups, locked) in cases {
        assert_eq!(is_locked(&kill_request("DELETE", "", "a", user, groups)), locked, "{user}");
    }
    assert_eq!(outcome(&not_locked()).0, 200);
}

#[test]
fn only_kills_have_a_place() {
    let place = |operation: &str, sub: &str, namespace: &str| {
        place_of_kill(&kill_request(operation, sub, namespace, "x", &[]))
            .map(str::to_owned)
            .map_err(|denial| outcome(&denial).0)
    };
    assert_eq!(place("DELETE", "", "a"), Ok("a".to_owned()));
    assert_eq!(place("CREATE", "eviction", "a"), Ok("a".to_owned()));
    for (operation, sub, namespace) in [
        ("DELETE", "", ""),
        ("CREATE", "", "a"),
        ("UPDATE", "", "a"),
        ("DELETE", "status", "a"),
        ("CONNECT", "exec", "a"),
    ] {
        assert_eq!(place(operation, sub, namespace), Err(403), "{operation} {sub}");
    }
}

fn namespace(name: &str, pairs: &[(&str, &str)]) -> NamespaceView {
    NamespaceView {
        name: name.to_owned(),
        annotations: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..NamespaceView::default()
    }
}

#[test]
fn the_kill_rule() {
    let policy = PlatformPolicy::built_in();
    let system = namespace("pure-chaos", &[]);
    let ask = |target: &NamespaceView, system: Option<&NamespaceView>| {
        let eviction = kill_request("CREATE", "eviction", &target.name, "agent", &[]);
        outcome(&decide(&eviction, target, system, &policy, now()))
    };
    let opted_in = namespace("a", &[("chaos", "yes")]);
    assert_eq!(ask(&opted_in, Some(&system)).0, 200);
    let denials = [
        (namespace("a", &[]), Some(system.clone()), "kubectl annotate namespace a chaos=yes"),
        (namespace("a", &[("chaos", "no")]), Some(system.clone()), "not opted in"),
        (namespace("kube-system", &[("chaos", "yes")]), Some(system.clone()), "protected"),
        (namespace("a", &[("chaos", "yes"), (HALT, "x")]), Some(system.clone()), "namespace a is halted (x)"),
        (
            opted_in.clone(),
            Some(namespace("pure-chaos", &[(HALT, "incident")])),
            "Pure Chaos is halted (incident)",
        ),
        (opted_in.clone(), None, "namespace pure-chaos can't be read"),
        (namespace("a", &[("chaos", "yes"), ("purechaos.dev/limit", "99")]), Some(system), "ceilings.limit"),
        (
            NamespaceView { terminating: true, ..opted_in },
            Some(namespace("pure-chaos", &[])),
            "being deleted",
        ),
    ];
    for (target, system, words) in denials {
        let (code, message) = ask(&target, system.as_ref());
        assert_eq!(code, 403, "{words}");
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(outcome(&unreadable("a", "no answer within 3 s")).0, 403);
}

/// Returns what the lock answers to a request with these options, for a Pod with this metadata. The
/// review of an eviction does not contain the Pod.
fn asked(settings: &[(&str, &str)], way: &str, options: Value, metadata: Value) -> (u16, String) {
    let policy = PlatformPolicy::parse("ceilings: {mode: 'evict,delete,force'}\nexcept: 2026-12-24").unwrap();
    let mut annotations = vec![("chaos".to_owned(), "yes".to_owned())];
    annotations
        .extend(settings.iter().map(|(key, value)| (format!("purechaos.dev/{key}"), (*value).to_owned())));
    let target = NamespaceView { annotations: annotations.into_iter().collect(), ..namespace("a", &[]) };
    let mut request = json!({"uid": "u", "namespace": "a", "name": "web-1", "dryRun": options["dryRun"] == json!(["All"]),
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "userInfo": {"username": "agent"}});
    match way {
        "evict" => {
            request["operation"] = json!("CREATE");
            request["subResource"] = json!("eviction");
            // If the eviction itself asks for a dry run, the flag of the request is false.
            request["dryRun"] = json!(false);
            request["object"] = json!({"metadata": {"name": "web-1"}, "deleteOptions": options});
            request["options"] = json!({"kind": "CreateOptions"});
        }
        _ => {
            request["operation"] = json!("DELETE");
            request["options"] = options;
            request["oldObject"] = json!({"metadata": metadata,
                "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        }
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let request = parse(review.to_string().as_bytes()).unwrap();
    outcome(&decide(&request, &target, Some(&namespace("pure-chaos", &[])), &policy, now()))
}

#[test]
fn the_lock_holds_what_was_consented_to() {
    let delete = [("mode", "delete")];
    let force = [("mode", "force")];
    let (own, none) = (json!({"gracePeriodSeconds": 30}), json!({"gracePeriodSeconds": 0}));
    let dry = json!({"gracePeriodSeconds": 30, "dryRun": ["All"]});
    let web = json!({"name": "web-1", "labels": {"app": "web"}});
    let excluded = json!({"name": "web-1", "annotations": {"purechaos.dev/exclude": "yes please"}});
    let member = json!({"name": "db-0", "ownerReferences": [{"kind": "StatefulSet", "controller": true}]});
    // Settings, way of the kill, options, the Pod, part of the denial.
    let cases = [
        (&[][..], "evict", json!(null), &web, ""),
        (&[], "evict", none.clone(), &web, "the Pod's own grace period, and this kill has"),
        (&[], "delete", own.clone(), &web, "consents to evictions only, and this is a DELETE"),
        (&[], "delete", dry.clone(), &web, "consents to evictions only"),
        (&[("dry-run", "true")], "evict", json!({}), &web, "consents to dry runs only"),
        (&[("dry-run", "true")], "evict", json!({"dryRun": ["All"]}), &web, ""),
        (
            &[("dry-run", "true"), ("mode", "delete")],
            "delete",
            own.clone(),
            &web,
            "consents to dry runs only",
        ),
        (&[("dry-run", "true"), ("mode", "delete")], "delete", dry, &web, ""),
        (&delete, "delete", own.clone(), &web, ""),
        (&delete, "delete", none.clone(), &web, "purechaos.dev/mode=force for none"),
        (&delete, "evict", json!({}), &web, ""),
        (&force, "delete", none.clone(), &web, ""),
        (&force, "delete", none, &member, "never kills the Pods of a StatefulSet"),
        (&delete, "delete", own.clone(), &member, ""),
        (&delete, "delete", own.clone(), &excluded, "does not consent to a kill of this Pod"),
        (
            &[("mode", "delete"), ("targets", "app=db")],
            "delete",
            own.clone(),
            &web,
            "the Pod does not match purechaos.dev/targets",
        ),
        (&[("mode", "delete"), ("targets", "app=web")], "delete", own.clone(), &web, ""),
        (&[("active-hours", "Mon 12:00-12:01 UTC")], "evict", json!({}), &web, ""),
        (&[("active-hours", "Mon 13:00-17:00 UTC")], "evict", json!({}), &web, "outside its active hours"),
        (&[("except", "2026-11-23")], "evict", json!({}), &web, "a day without chaos"),
        (&[("mode", "delete"), ("except", "2026-11-23")], "delete", own, &web, "a day without chaos"),
    ];
    for (settings, way, options, pod, words) in cases {
        let (code, message) = asked(settings, way, options.clone(), pod.clone());
        assert_eq!(code, if words.is_empty() { 200 } else { 403 }, "{settings:?} {way} {options}: {message}");
        assert!(message.contains(words), "{settings:?} {way} {options}: {message}");
    }
}

#[test]
fn the_platforms_days_without_chaos_lock_and_a_pod_unseen_is_not_deleted() {
    let policy = PlatformPolicy::parse("ceilings: {mode: 'evict,delete'}\nexcept: 2026-11-23").unwrap();
    let system = namespace("pure-chaos", &[]);
    let target = namespace("a", &[("chaos", "yes"), ("purechaos.dev/mode", "delete")]);
    let eviction = kill_request("CREATE", "eviction", "a", "agent", &[]);
    let (code, message) = outcome(&decide(&eviction, &target, Some(&system), &policy, now()));
    assert!(code == 403 && message.contains("the platform's"), "{message}");
    let policy = PlatformPolicy::parse("ceilings: {mode: 'evict,delete'}").unwrap();
    let blind = kill_request("DELETE", "", "a", "agent", &[]);
    let (code, message) = outcome(&decide(&blind, &target, Some(&system), &policy, now()));
    assert!(code == 403 && message.contains("does not show the Pod"), "{message}");
}
