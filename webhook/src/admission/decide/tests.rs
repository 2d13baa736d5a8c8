use super::*;
use crate::admission::review::parse;
use policy::well_known::HALT;
use serde_json::{Value, json};

mod kill;
mod warnings;

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

/// Returns the code and the message of a denial. If the request was allowed, the code is 200, and
/// the message contains the warnings.
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
    // Old annotations, new annotations, code, part of the message, whether the admission is
    // remembered.
    let cases = [
        (json!({}), json!({"chaos": "yes"}), 200, "", true),
        (json!({"chaos": "yes"}), json!({"chaos": "yes", "purechaos.dev/limit": "2"}), 200, "", true),
        // Removing a setting widens the consent.
        (json!({"chaos": "yes", "purechaos.dev/dry-run": "true"}), json!({"chaos": "yes"}), 200, "", true),
        // Opting out.
        (json!({"chaos": "yes"}), json!({}), 200, "", false),
        (json!({"chaos": "Yes"}), json!({}), 200, "", false),
        // Nobody consents by changing something else.
        (json!({"chaos": "yes"}), json!({"chaos": "yes", "team": "a"}), 200, "", false),
        (json!({"chaos": "Yes"}), json!({"chaos": "Yes", "team": "a"}), 200, "", false),
        (json!({"chaos": "yes"}), json!({"chaos": "yes", HALT: "4711"}), 200, "", false),
        // These opt-ins could never kill.
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/active-hours": "Mon 09:00-09:00 UTC"}),
            200,
            "this opt-in never kills: active-hours and except leave no time",
            true,
        ),
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/schedule": "cron 0 0 31 2 *"}),
            422,
            "this schedule never fires: its months have no such day",
            false,
        ),
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/kinds": "Deployment,CloneSet"}),
            200,
            "does not know kind CloneSet",
            true,
        ),
        (
            json!({}),
            json!({"chaos": "yes", "purechaos.dev/expires": "2026-11-23T11:59:59Z"}),
            200,
            "this opt-in never kills: it expired at 2026-11-23T11:59:59Z",
            false,
        ),
        // Settings without an opt-in.
        (json!({}), json!({"purechaos.dev/limit": "nine"}), 200, "purechaos.dev/limit has no effect", false),
        (
            json!({"chaos": "yes", "purechaos.dev/mode": "evict"}),
            json!({"purechaos.dev/mode": "evict"}),
            200,
            "no effect",
            false,
        ),
        (json!({}), json!({HALT: "x"}), 200, "", false),
        // An unknown key may be a mistyped halt.
        (json!({}), json!({"purechaos.dev/halted": "x"}), 422, "did you mean `purechaos.dev/halt`?", false),
        (json!({}), json!({"pure-chaos.dev/halt": "x"}), 422, "did you mean `purechaos.dev/halt`?", false),
        (json!({}), json!({"chaos-mesh.org/inject": "enabled"}), 200, "", false),
        // Values that are not understood.
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
            "such as `10%`; metadata.annotations[purechaos.dev/mode]",
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
            // A new namespace has no old annotations that could be equal.
            if operation == "CREATE"
                && new.get("chaos").is_some()
                && new.get("team").or(new.get(HALT)).is_some()
            {
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
fn on_the_systems_namespace_only_the_halt_itself_may_be_written() {
    let set = |key: &str| {
        outcome(&decided(&request("UPDATE", "pure-chaos", Some(json!({})), Some(json!({key: "x"})))))
    };
    for stray in
        ["purechaos.dev/halted", "purechaos.dev/Halt", "pure-chaos.dev/halt", "purechaos.dev/limit", "Chaos"]
    {
        let (code, message) = set(stray);
        assert_eq!(code, 422, "{stray}");
        let words = format!("metadata.annotations[{stray}]: Forbidden: `purechaos.dev/halt` is the only");
        assert!(
            message.contains(&words) && message.contains("kubectl annotate namespace pure-chaos"),
            "{message}"
        );
    }
    for others in [HALT, "chaos-mesh.org/inject", "litmuschaos.io/chaos", "team", "halt.example.com/team"] {
        assert_eq!(set(others), (200, String::new()), "{others}");
    }
    // Keys of others do not pass for a halt either.
    for stray in ["halt", "Halt", "chaos.dev/halt", "example.com/hlat", "example.com/halt-all"] {
        let (code, message) = set(stray);
        let words = format!(
            "metadata.annotations[{stray}]: Forbidden: this annotation does not halt kills; \
             to halt all kills: kubectl annotate namespace pure-chaos purechaos.dev/halt="
        );
        assert!(code == 422 && message.contains(&words), "{stray}: {message}");
        let kept =
            |new| outcome(&decided(&request("UPDATE", "pure-chaos", Some(json!({stray: "x"})), Some(new)))).0;
        assert_eq!((kept(json!({stray: "x", HALT: "x"})), kept(json!({}))), (200, 200));
        // A refusal would take away the halt that stands beside it.
        let both = request("UPDATE", "pure-chaos", Some(json!({})), Some(json!({stray: "x", HALT: "x"})));
        assert_eq!(outcome(&decided(&both)), (200, String::new()), "{stray}");
        // On another namespace, the key is its owner's business.
        let elsewhere = request("UPDATE", "a", Some(json!({})), Some(json!({stray: "x"})));
        assert_eq!(outcome(&decided(&elsewhere)), (200, String::new()), "{stray}");
    }
    assert_eq!(set("purechos.dev/halt").0, 422);
    // Existing keys do not keep anybody from writing something else, and least of all a halt.
    let old = json!({"purechaos.dev/halted": "x"});
    let new = json!({"purechaos.dev/halted": "x", HALT: "x"});
    assert_eq!(outcome(&decided(&request("UPDATE", "pure-chaos", Some(old.clone()), Some(new)))).0, 200);
    assert_eq!(outcome(&decided(&request("UPDATE", "pure-chaos", Some(old), Some(json!({}))))).0, 200);
}

#[test]
fn whoever_sets_a_chaos_key_needs_the_right_and_whoever_removes_one_without_an_opt_in_does_not() {
    let yes = json!({"chaos": "yes"});
    let waiting = json!({"purechaos.dev/limit": "5"});
    let both = json!({"chaos": "yes", "purechaos.dev/limit": "5"});
    for (old, new, needs_right) in [
        (json!({}), waiting.clone(), true),
        (waiting.clone(), json!({"purechaos.dev/limit": "4"}), true),
        (waiting.clone(), both.clone(), true),
        (both.clone(), yes.clone(), true),
        // An end in the past is no way around the question for the right.
        (json!({}), json!({"chaos": "yes", "purechaos.dev/expires": "2020-01-01T00:00:00Z"}), true),
        (both, waiting.clone(), false),
        (waiting.clone(), json!({}), false),
        (yes.clone(), json!({}), false),
        (yes.clone(), json!({"chaos": "yes", HALT: "x"}), false),
        (waiting.clone(), json!({"purechaos.dev/limit": "5", "team": "a"}), false),
    ] {
        let decision = decided(&request("UPDATE", "a", Some(old.clone()), Some(new.clone())));
        assert_eq!((outcome(&decision).0, decision.needs_right), (200, needs_right), "{old} {new}");
    }
    let created = request("CREATE", "a", None, Some(waiting));
    assert!(decided(&created).needs_right);
    let message = outcome(&without_right(&created)).1;
    assert!(
        message.starts_with("metadata.annotations[purechaos.dev/limit]: Forbidden: user kim may not create"),
        "{message}"
    );
}

#[test]
fn a_huge_value_makes_no_huge_denial() {
    let huge = json!({"chaos": "x".repeat(200_000)});
    let (code, message) = outcome(&decided(&request("UPDATE", "a", Some(json!({})), Some(huge))));
    assert_eq!((code, message.len()), (422, LONGEST_MESSAGE));
    assert!(message.starts_with("metadata.annotations[chaos]: Invalid value: \"xxx"));
}

#[test]
fn more_keys_of_ours_than_there_could_be_settings_are_denied_and_stay_editable() {
    let with = |count: usize, more: Value| {
        let mut annotations = more;
        for number in 0..count {
            annotations[format!("purechaos.dev/{number:04}")] = json!("x");
        }
        Some(annotations)
    };
    let crowd = |more: Value| with(5_000, more);
    let outcome_of = |old, new| outcome(&decided(&request("UPDATE", "a", old, new)));
    let (code, message) = outcome_of(crowd(json!({})), crowd(json!({"chaos": "yes"})));
    assert_eq!(code, 422);
    assert!(message.contains("Too many: more than 64"), "{message}");
    // Opting out is allowed, and so is every change that leaves the annotations as they are.
    assert_eq!(outcome_of(crowd(json!({"chaos": "yes"})), crowd(json!({}))).0, 200);
    assert_eq!(
        outcome_of(crowd(json!({"chaos": "yes"})), crowd(json!({"chaos": "yes", "team": "a"}))).0,
        200
    );
    // If there are fewer, the denial names them.
    let (code, message) = outcome_of(Some(json!({})), with(60, json!({"chaos": "yes"})));
    assert_eq!(code, 422);
    assert!(message.contains("purechaos.dev/0001"), "{message}");
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
fn of_a_namespace_that_is_being_deleted_settings_may_be_taken_away_and_none_be_set() {
    let old = json!({"chaos": "yes", "purechaos.dev/limit": "2", "purechaos.dev/dry-run": "true"});
    for (new, code) in [
        (json!({"chaos": "yes", "purechaos.dev/limit": "2"}), 200),
        (json!({"purechaos.dev/limit": "2"}), 200),
        (json!({"chaos": "yes", "purechaos.dev/limit": "3"}), 403),
        (json!({"chaos": "yes", "purechaos.dev/limit": "2", "purechaos.dev/mode": "evict"}), 403),
    ] {
        let mut request = request("UPDATE", "a", Some(old.clone()), Some(new.clone()));
        let object = request.object.as_mut().unwrap();
        object.metadata.deletion_timestamp = Some("2026-11-23T12:00:00Z".to_owned());
        let decision = decided(&request);
        assert_eq!(outcome(&decision).0, code, "{new}");
        assert!(decision.note.is_none());
    }
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
