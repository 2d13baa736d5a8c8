//! The review: nothing panics, a readable UID comes back, and the review admits nothing that the
//! grammar refuses.
#![no_main]

use std::collections::BTreeMap;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use policy::platform::PlatformPolicy;
use serde_json::{Value, json};
use webhook::admission::decide::opt_in;
use webhook::admission::review::{Answer, Malformed, parse};

fuzz_target!(|bytes: &[u8]| {
    judge(bytes);
    // Most inputs are no review. So each input is also tried as the annotations of a review, one on
    // each line.
    if let Ok(text) = std::str::from_utf8(bytes) {
        let annotations: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "operation": "UPDATE", "resource": {"group": "", "version": "v1", "resource": "namespaces"},
            "name": "a", "namespace": "a", "userInfo": {"username": "kim"}, "oldObject": {"metadata": {"name": "a"}},
            "object": {"metadata": {"name": "a", "uid": "1", "annotations": annotations}}}});
        judge(review.to_string().as_bytes());
    }
});

fn judge(bytes: &[u8]) {
    let policy = PlatformPolicy::built_in();
    let parsed = parse(bytes);
    // Another parser, which knows nothing of reviews, reads the UID. Bytes that are no text are
    // replaced, because only the UID itself has to be text.
    let uid = serde_json::from_str::<Value>(&String::from_utf8_lossy(bytes)).ok();
    let uid = uid.as_ref().and_then(|review| review["request"]["uid"].as_str()).filter(|uid| !uid.is_empty());
    match &parsed {
        Ok(request) => assert_eq!(Some(request.uid.as_str()), uid),
        Err(Malformed::Answerable { uid: answered, .. }) => assert_eq!(Some(answered.as_str()), uid),
        Err(Malformed::Unanswerable(_)) => {}
    }
    let Ok(request) = parsed else { return };
    assert!(std::str::from_utf8(bytes).is_ok());
    let decision = opt_in(&request, &policy, Timestamp::UNIX_EPOCH);
    let is_allowed = matches!(decision.answer, Answer::Allow { .. });
    if decision.note.is_some() {
        let object = request.object.as_ref().expect("what was admitted");
        let annotations = &object.metadata.annotations;
        assert!(is_allowed);
        assert_eq!(annotations.get("chaos").map(String::as_str), Some("yes"));
        assert!(policy.settings(annotations).is_ok(), "{annotations:?}");
        assert!(!policy.protected.covers(&object.metadata.name), "{}", object.metadata.name);
    }
}
