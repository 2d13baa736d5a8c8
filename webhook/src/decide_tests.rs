use super::*;
use crate::review::parse;
use policy::keys::HALT;
use serde_json::{Value, json};

fn request(operation: &str, name: &str, old: Option<Value>, new: Option<Value>) -> Request {
    let object = |annotations: Value| {
        json!({"metadata": {"name": name, "uid": "n-1", "annotations": annotations, "managedFields": [
            {"manager": "kubectl-annotate", "operation": "Update", "time": "2026-11-23T12:00:00Z",
                "fieldsV1": {"f:metadata": {"f:annotations": {"f:chaos": {}}}}}]}})
    };
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": operation, "name": name, "namespace": name,
        "resource": {"group": "", "version": "v1", "resource": "namespaces"},
        "userInfo": {"username": "kim"}, "object": new.map(object), "oldObject": old.map(object)}});
    parse(review.to_string().as_bytes()).unwrap()
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn decided(request: &Request) -> Decision {
    opt_in(request, &PlatformPolicy::built_in(), now())
}

/// (code, message) of a denial; the code is 200 where it was allowed, the message then the warnings.
fn outcome(decision: &Decision) -> (u16, String) {
    match &decision.answer {
        Answer::Allow { warnings } => (200, warnings.join("|")),
        Answer::Deny { code, message } => {
            assert!(decision.note.is_none(), "a denial is never remembered");
            let number = match code {
                Code::BadRequest => 400,
                Code::Forbidden => 403,
                Code::Invalid => 422,
            };
            (number, message.clone())
        }
    }
}

#[test]
fn the_opt_in_rule() {
    // old annotations, new annotations, code, words, whether remembered
    let cases = [
        (json!({}), json!({"chaos": "yes"}), 200, "", true),
        (json!({"chaos": "yes"}), json!({"chaos": "yes", "purechaos.dev/limit": "2"}), 200, "", true),
        // dropping a setting widens consent
        (json!({"chaos": "yes", "purechaos.dev/dry-run": "true"}), json!({"chaos": "yes"}), 200, "", true),
        // opting out
        (json!({"chaos": "yes"}), json!({}), 200, "", false),
        (json!({"chaos": "Yes"}), json!({}), 200, "", false),
        // nobody consents by changing something else
        (json!({"chaos": "yes"}), json!({"chaos": "yes", "team": "a"}), 200, "", false),
        (json!({"chaos": "Yes"}), json!({"chaos": "Yes", "team": "a"}), 200, "", false),
        (json!({"chaos": "yes"}), json!({"chaos": "yes", HALT: "4711"}), 200, "", false),
        // could never kill
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/schedule": "cron 0 0 31 2 *"}),
            200,
            "this opt-in never kills: its schedule never fires",
            true,
        ),
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/expires": "2026-11-23T11:59:59Z"}),
            200,
            "this opt-in never kills: it expired at 2026-11-23T11:59:59Z",
            false,
        ),
        // settings alone
        (json!({}), json!({"purechaos.dev/limit": "nine"}), 200, "no effect: purechaos.dev/limit", false),
        (
            json!({"chaos": "yes", "purechaos.dev/mode": "evict"}),
            json!({"purechaos.dev/mode": "evict"}),
            200,
            "no effect",
            false,
        ),
        (json!({}), json!({HALT: "x"}), 200, "", false),
        // not understood
        (
            json!({}),
            json!({"chaos": "Yes"}),
            422,
            "metadata.annotations[chaos]: Invalid value: \"Yes\": write `yes`",
            false,
        ),
        (json!({}), json!({"chaos": "yes "}), 422, "\"yes \"", false),
        (json!({}), json!({"chaos": ""}), 422, "write `yes`", false),
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/dryrun": "true"}),
            422,
            "did you mean `purechaos.dev/dry-run`?",
            false,
        ),
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/limit": "0", "purechaos.dev/mode": "x"}),
            422,
            "such as `1`; metadata.annotations[purechaos.dev/mode]",
            false,
        ),
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/mode": "force"}),
            422,
            "the platform's ceilings.mode is `evict`",
            false,
        ),
    ];
    for (old, new, code, words, remembered) in cases {
        for operation in ["UPDATE", "CREATE"] {
            let old = (operation == "UPDATE").then(|| old.clone());
            // A created namespace has no old annotations to be equal to.
            if operation == "CREATE" && new.get("team").or(new.get(HALT)).is_some() {
                continue;
            }
            let decision = decided(&request(operation, "a", old, Some(new.clone())));
            let (got, message) = outcome(&decision);
            assert_eq!(got, code, "{operation} {new}: {message}");
            assert!(message.contains(words), "{new}: {message}");
            assert!(!words.is_empty() || message.is_empty(), "{new}: {message}");
            assert_eq!(decision.note.is_some(), remembered, "{operation} {new}");
        }
    }
}

#[test]
fn a_huge_value_makes_no_huge_denial() {
    let huge = json!({"chaos": "x".repeat(200_000)});
    let (code, message) = outcome(&decided(&request("UPDATE", "a", Some(json!({})), Some(huge))));
    assert_eq!((code, message.chars().count()), (422, LONGEST_MESSAGE));
    assert!(message.starts_with("metadata.annotations[chaos]: Invalid value: \"xxx"));
}

#[test]
fn what_is_remembered() {
    let decision =
        decided(&request("UPDATE", "a", Some(json!({})), Some(json!({"chaos": "yes", "team": "a"}))));
    let note = decision.note.unwrap();
    assert_eq!(
        note,
        Note {
            namespace: "a".to_owned(),
            uid: Some("n-1".to_owned()),
            user: "kim".to_owned(),
            digest: digest(&[("chaos".to_owned(), "yes".to_owned())].into()),
            set_by: "kubectl-annotate Update 2026-11-23T12:00:00Z".to_owned(),
        }
    );
    assert!(audit(&note)["admitted"].starts_with("user=kim digest=00d58856"));
}

#[test]
fn protected_and_terminating_namespaces_cannot_opt_in() {
    for name in ["kube-system", "pure-chaos", "default"] {
        for value in ["yes", "Yes"] {
            let (code, message) =
                outcome(&decided(&request("UPDATE", name, Some(json!({})), Some(json!({"chaos": value})))));
            assert_eq!(code, 403, "{name} {message}");
            assert!(message.contains(&format!("kubectl annotate namespace {name} chaos-")), "{message}");
        }
    }
    let mut request = request("UPDATE", "a", Some(json!({})), Some(json!({"chaos": "yes"})));
    request.object.as_mut().unwrap().metadata.deletion_timestamp = Some("2026-11-23T12:00:00Z".to_owned());
    let (code, message) = outcome(&decided(&request));
    assert_eq!(code, 403);
    assert!(message.contains("being deleted"), "{message}");
}

#[test]
fn a_deletion_is_always_allowed_and_an_empty_review_never() {
    assert_eq!(outcome(&decided(&request("DELETE", "a", Some(json!({"chaos": "yes"})), None))).0, 200);
    assert_eq!(outcome(&decided(&request("CREATE", "a", None, None))).0, 400);
    let mut pods = request("UPDATE", "a", Some(json!({})), Some(json!({"chaos": "yes"})));
    pods.resource.resource = "pods".to_owned();
    assert_eq!(outcome(&decided(&pods)).0, 400);
}

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
        outcome(&kill(target, system, &policy, now()))
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
