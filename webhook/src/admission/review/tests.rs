use super::*;
use serde_json::{Value, json};

fn review(request: Value) -> Vec<u8> {
    json!({"apiVersion": API_VERSION, "kind": KIND, "request": request}).to_string().into_bytes()
}

fn namespace_update() -> Value {
    json!({
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Namespace"},
        "resource": {"group": "", "version": "v1", "resource": "namespaces"},
        "requestKind": {"group": "", "version": "v1", "kind": "Namespace"},
        "name": "a", "namespace": "a", "operation": "UPDATE",
        "userInfo": {"username": "kim", "groups": ["system:authenticated"], "extra": {"x": ["y"]}},
        "object": {"kind": "Namespace", "apiVersion": "v1",
            "metadata": {"name": "a", "uid": "n-1", "annotations": {"chaos": "yes"}, "managedFields": [{"manager": "kubectl"}]},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
        "oldObject": {"metadata": {"name": "a", "uid": "n-1"}},
        "dryRun": false,
        "options": {"kind": "PatchOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl-annotate"}
    })
}

#[test]
fn a_real_update_is_read() {
    let request = parse(&review(namespace_update())).unwrap();
    assert_eq!((request.uid.as_str(), request.operation), ("u-1", Operation::Update));
    assert_eq!(request.user_info.username, "kim");
    let object = request.object.as_ref().unwrap();
    assert_eq!(object.metadata.annotations["chaos"], "yes");
    assert_eq!(object.metadata.uid.as_deref(), Some("n-1"));
    assert!(request.old_object.as_ref().unwrap().metadata.annotations.is_empty());
    assert!(!request.is_dry_run());
}

#[test]
fn a_delete_has_no_object_and_may_have_no_name() {
    let request = parse(&review(json!({
        "uid": "u", "operation": "DELETE", "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "a", "userInfo": {"username": "x"}, "object": null,
        "oldObject": {"metadata": {"name": "web-1", "annotations": null}}, "dryRun": null
    })))
    .unwrap();
    assert!(request.object.is_none() && request.name.is_empty());
    assert_eq!(request.old_object.unwrap().metadata.name, "web-1");
}

#[test]
fn both_places_of_the_dry_run_flag_count() {
    let mut request = namespace_update();
    request["dryRun"] = json!(true);
    assert!(parse(&review(request)).unwrap().is_dry_run());
    let eviction = |options: Value| {
        review(json!({
            "uid": "u", "operation": "CREATE", "subResource": "eviction", "name": "web-1", "namespace": "a",
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "dryRun": false,
            "object": {"kind": "Eviction", "metadata": {"name": "web-1"}, "deleteOptions": options}
        }))
    };
    assert!(parse(&eviction(json!({"dryRun": ["All"]}))).unwrap().is_dry_run());
    for options in [json!({"dryRun": []}), json!({"dryRun": null}), json!({}), json!(null)] {
        assert!(!parse(&eviction(options)).unwrap().is_dry_run());
    }
}

#[test]
fn what_is_malformed_is_answered_where_the_uid_can_be_read() {
    let with = |change: fn(&mut Value)| {
        let mut review = json!({"apiVersion": API_VERSION, "kind": KIND, "request": namespace_update()});
        change(&mut review);
        parse(review.to_string().as_bytes()).unwrap_err()
    };
    type Change = fn(&mut Value);
    let answerable: [(Change, &str); 5] = [
        (|r| r["apiVersion"] = json!("admission.k8s.io/v1beta1"), "v1beta1"),
        (|r| r["kind"] = json!("Pod"), "\"Pod\""),
        (|r| r["request"]["operation"] = json!("PATCH"), "PATCH"),
        (|r| r["request"]["object"]["metadata"]["annotations"] = json!({"chaos": true}), "boolean"),
        (|r| r["request"]["resource"] = json!(7), "failed to read"),
    ];
    for (change, word) in answerable {
        let Malformed::Answerable { uid, why } = with(change) else {
            panic!("{word}");
        };
        assert_eq!(uid, "u-1");
        assert!(why.contains(word), "{why}");
    }
    let unanswerable: [fn(&mut Value); 4] = [
        |r| r["request"] = json!(null),
        |r| r["request"]["uid"] = json!(null),
        |r| r["request"]["uid"] = json!(""),
        |r| *r = json!([]),
    ];
    for change in unanswerable {
        assert!(matches!(with(change), Malformed::Unanswerable(_)));
    }
    for bytes in [&b""[..], b"yes", b"{", b"\xff\xfe", b"{}", b"null"] {
        assert!(matches!(parse(bytes), Err(Malformed::Unanswerable(_))), "{bytes:?}");
    }
}

fn written(answer: &Answer, audit: &AuditAnnotations) -> Value {
    serde_json::from_slice(&write("u-1", answer, audit).unwrap()).unwrap()
}

#[test]
fn a_denial_carries_code_reason_and_message() {
    let answer = Answer::Deny { code: Code::Invalid, message: "write `yes`".to_owned() };
    assert_eq!(
        written(&answer, &AuditAnnotations::new()),
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {
            "uid": "u-1", "allowed": false,
            "status": {"status": "Failure", "code": 422, "reason": "Invalid", "message": "write `yes`"}}})
    );
}

#[test]
fn warnings_are_one_line_of_at_most_120_bytes() {
    let answer = Answer::Allow { warnings: vec!["short".to_owned(), format!("a\nb{}", "é".repeat(200))] };
    let review = written(&answer, &AuditAnnotations::from([("admitted", "x".to_owned())]));
    assert_eq!(review["response"]["allowed"], true);
    assert_eq!(review["response"]["auditAnnotations"], json!({"admitted": "x"}));
    assert!(review["response"].get("status").is_none());
    assert_eq!(review["response"]["warnings"][0], "short");
    let long = review["response"]["warnings"][1].as_str().unwrap();
    assert!(long.len() <= 120 && long.len() > 116, "{long}");
    assert!(long.starts_with("a b") && long.ends_with('…'));
}
