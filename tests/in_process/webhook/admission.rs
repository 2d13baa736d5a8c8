//! The webhook over real HTTPS, with AdmissionReviews that a real API server (1.37) sent:
//! `tests/data`.

use serde_json::{Value, json};
use tests::served::Webhook;

#[tokio::test]
async fn opting_in_is_allowed_however_it_is_done() {
    let webhook = Webhook::start().await;
    for recording in [
        "create-with-opt-in",
        "opt-in",
        "opt-in-dry-run",
        "opt-in-through-status",
        "opt-in-through-finalize",
        "drop-setting",
    ] {
        let response = webhook.ask("opt-in", recording, |_| {}).await;
        assert_eq!(response["allowed"], true, "{recording}: {response}");
        assert!(response["auditAnnotations"].is_object(), "{recording}: {response}");
    }
    for recording in ["create-namespace", "opt-out"] {
        let response = webhook.ask("opt-in", recording, |_| {}).await;
        assert_eq!(response["allowed"], true, "{recording}: {response}");
        assert!(response["auditAnnotations"].is_null(), "{recording}: {response}");
    }
}

#[tokio::test]
async fn near_misses_are_denied_however_they_are_tried() {
    let webhook = Webhook::start().await;
    for recording in
        ["create-with-opt-in", "opt-in", "opt-in-dry-run", "opt-in-through-status", "opt-in-through-finalize"]
    {
        let response = webhook
            .ask("opt-in", recording, |review| {
                review["request"]["object"]["metadata"]["annotations"]["chaos"] = json!("Yes")
            })
            .await;
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(422)),
            "{recording}"
        );
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("write `yes`"), "{message}");
    }
    let response = webhook
        .ask("opt-in", "opt-in", |review| {
            for place in ["name", "namespace"] {
                review["request"][place] = json!("kube-system");
            }
            for object in ["object", "oldObject"] {
                review["request"][object]["metadata"]["name"] = json!("kube-system");
            }
        })
        .await;
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(403)),
        "{response}"
    );
}

#[tokio::test]
async fn every_way_to_kill_is_locked_and_consent_opens_it() {
    let webhook = Webhook::start().await;
    let namespace =
        |annotations: Value| json!({"metadata": {"name": "rec-a", "uid": "n", "annotations": annotations}});
    let ways = ["delete-pod", "delete-collection", "evict-pod", "evict-pod-dry-run"];
    for (annotations, allowed, words) in [
        (
            json!({}),
            false,
            "namespace rec-a is not opted in; its owner can run: kubectl annotate namespace rec-a chaos=yes",
        ),
        (json!({"chaos": "yes", "purechaos.dev/mode": "delete"}), true, ""),
        (json!({"chaos": "yes", "purechaos.dev/halt": "incident 4711"}), false, "halted (incident 4711)"),
        (json!({"chaos": "yes", "purechaos.dev/limit": "9"}), false, "ceilings.limit"),
    ] {
        webhook.api.put("/api/v1/namespaces/rec-a", namespace(annotations));
        for way in ways {
            let response = webhook.ask("kill", way, |_| {}).await;
            assert_eq!(response["allowed"], allowed, "{way}: {response}");
            if !allowed {
                assert_eq!(response["status"]["code"], 403);
                assert!(response["status"]["message"].as_str().unwrap().contains(words), "{way}: {response}");
            }
        }
    }
    // Which of these ways the namespace consented to: dry runs, evictions, a grace period.
    for (setting, value, allowed) in [
        ("mode", "evict", [false, false, true, true]),
        ("mode", "force", [false, false, false, false]),
        ("dry-run", "true", [false, false, false, true]),
        ("active-hours", "Mon-Sun 00:00-24:00 UTC", [false, false, true, true]),
        ("except", "1970-01-01/9998-12-31", [false; 4]),
        ("grace-period", "10s", [false; 4]),
    ] {
        let key = format!("purechaos.dev/{setting}");
        webhook.api.put("/api/v1/namespaces/rec-a", namespace(json!({"chaos": "yes", key: value})));
        for (way, allowed) in ways.into_iter().zip(allowed) {
            let response = webhook.ask("kill", way, |_| {}).await;
            assert_eq!(response["allowed"], allowed, "{setting}={value} {way}: {response}");
        }
    }
    webhook.api.remove("/api/v1/namespaces/pure-chaos");
    webhook.api.put("/api/v1/namespaces/rec-a", namespace(json!({"chaos": "yes"})));
    assert_eq!(
        webhook.ask("kill", "evict-pod", |_| {}).await["allowed"],
        false,
        "a halt that can't be read halts"
    );
}
