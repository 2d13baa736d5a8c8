//! `kubectl chaos` against an API in this process: exactly what is sent, and what is said about it.

use clap::Parser;
use jiff::Timestamp;
use kubectl_chaos::Args;
use kubectl_chaos::run::serve;
use serde_json::{Value, json};
use tests::api::{Answer, Api, Call};

const NAMESPACE: &str = "/api/v1/namespaces/a";
const SYSTEM: &str = "/api/v1/namespaces/pure-chaos";

/// An API with namespace `a`, annotated so, and `pure-chaos`.
fn api(annotations: Value) -> Api {
    let api = Api::default();
    for (path, name, annotations) in [(NAMESPACE, "a", annotations), (SYSTEM, "pure-chaos", json!({}))] {
        let metadata = json!({"name": name, "annotations": annotations});
        api.put(path, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    api
}

/// Types this, and gives what was printed.
async fn type_in(api: &Api, line: &[&str]) -> anyhow::Result<String> {
    let args = Args::try_parse_from(["kubectl-chaos"].iter().chain(line)).unwrap();
    let mut out = Vec::new();
    serve(&api.client(), &args.target, args.command, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

/// The one call that would change something.
fn change(api: &Api) -> Call {
    let mut changes: Vec<Call> =
        api.calls().into_iter().filter(|call| !["GET", "LIST"].contains(&call.verb.as_str())).collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes.remove(0)
}

fn annotations(patch: &Value) -> &Value {
    assert_eq!(patch.as_object().unwrap().len(), 1, "{patch}");
    &patch["metadata"]["annotations"]
}

#[tokio::test]
async fn on_sends_what_it_prints_and_names_what_stays() {
    let api = api(json!({"team": "b", "purechaos.dev/limit": "3"}));
    let printed = type_in(&api, &["on", "a", "--schedule", "every 10m"]).await.unwrap();
    assert_eq!(
        printed,
        "kubectl annotate --overwrite namespace a chaos=yes purechaos.dev/schedule='every 10m'\n\
         namespace/a annotated\n\
         stays as it was: purechaos.dev/limit=\"3\"\n"
    );
    let call = change(&api);
    assert_eq!((call.verb.as_str(), call.path.as_str()), ("PATCH", NAMESPACE));
    assert_eq!(call.query["fieldManager"], "kubectl-chaos");
    assert!(!call.query.contains_key("dryRun"));
    assert_eq!(annotations(&call.body), &json!({"chaos": "yes", "purechaos.dev/schedule": "every 10m"}));
}

#[tokio::test]
async fn a_server_dry_run_is_asked_for_as_one() {
    let api = api(json!({}));
    let printed = type_in(&api, &["on", "-n", "a", "--server-dry-run"]).await.unwrap();
    assert!(printed.starts_with("kubectl annotate --overwrite --dry-run=server namespace a chaos=yes\n"));
    assert!(printed.ends_with("namespace/a annotated (server dry run)\n"), "{printed}");
    assert_eq!(change(&api).query["dryRun"], "All");
}

#[tokio::test]
async fn off_removes_what_is_ours_and_leaves_a_halt() {
    let there = json!({"chaos": "yes", "purechaos.dev/limit": "3", "purechaos.dev/halt": "h", "team": "b"});
    let api = api(there);
    let printed = type_in(&api, &["off", "a"]).await.unwrap();
    assert!(printed.starts_with("kubectl annotate namespace a chaos- purechaos.dev/limit-\n"), "{printed}");
    assert_eq!(annotations(&change(&api).body), &json!({"chaos": null, "purechaos.dev/limit": null}));
    let left = api.get(NAMESPACE).unwrap()["metadata"]["annotations"].clone();
    assert_eq!(left, json!({"purechaos.dev/halt": "h", "team": "b"}));
    assert_eq!(type_in(&api, &["off", "a"]).await.unwrap(), "namespace/a has not opted in\n");
}

#[tokio::test]
async fn off_works_for_who_may_not_look() {
    let api = api(json!({"chaos": "yes", "purechaos.dev/mode": "delete"}));
    api.fail("GET", "/namespaces/a", 1, Answer::Status(403, Value::Null));
    type_in(&api, &["off", "a"]).await.unwrap();
    assert_eq!(api.get(NAMESPACE).unwrap()["metadata"]["annotations"], json!({}));
    assert_eq!(annotations(&change(&api).body).as_object().unwrap().len(), 15);
}

#[tokio::test]
async fn a_halt_is_for_all_unless_a_namespace_is_named() {
    for (name, path) in [(None, SYSTEM), (Some("a"), NAMESPACE)] {
        let halted = api(json!({}));
        let line: Vec<&str> = ["halt"].into_iter().chain(name).chain(["--reason", "it's bad"]).collect();
        type_in(&halted, &line).await.unwrap();
        let call = change(&halted);
        assert_eq!(call.path, path);
        assert_eq!(annotations(&call.body), &json!({"purechaos.dev/halt": "it's bad"}));

        let resumed = api(json!({}));
        type_in(&resumed, &["resume"].into_iter().chain(name).collect::<Vec<_>>()).await.unwrap();
        let call = change(&resumed);
        assert_eq!(call.path, path);
        assert_eq!(annotations(&call.body), &json!({"purechaos.dev/halt": null}));
    }
}

#[tokio::test]
async fn a_denial_is_told_in_its_own_words() {
    let api = api(json!({}));
    api.fail("PATCH", "/namespaces/a", 1, Answer::Status(422, Value::Null));
    let error = type_in(&api, &["on", "a"]).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to annotate namespace a: the fault that was asked for");
}

#[tokio::test]
async fn what_kills_has_to_be_named_and_once() {
    let api = api(json!({}));
    for line in [&["on"][..], &["off"], &["explain"], &["now"], &["halt", "a", "-n", "b", "--reason", "r"]] {
        let error = type_in(&api, line).await.unwrap_err();
        assert_eq!(error.downcast::<clap::Error>().unwrap().exit_code(), 2, "{line:?}");
    }
    assert_eq!(api.calls(), []);
}

const RECORD: &str = "/apis/purechaos.dev/v1alpha1/namespaces/a/optins/chaos";

#[tokio::test(start_paused = true)]
async fn a_round_at_once_is_an_annotation_and_its_outcome_is_told() {
    let api = api(json!({"chaos": "yes"}));
    let error = type_in(&api, &["now", "a"]).await.unwrap_err().to_string();
    assert_eq!(error, "namespace a has not opted in: kubectl chaos on a");
    assert!(api.calls().iter().all(|call| call.verb == "GET"), "nothing was asked for");

    api.put(
        RECORD,
        json!({
            "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn", "metadata": {"name": "chaos", "namespace": "a"},
            "spec": {"namespaceUid": "u", "verdict": "Admitted"}, "status": {"kills": 1},
        }),
    );
    // The agent does what is asked at once; the slot itself is some seconds ahead.
    api.before("PATCH", "/namespaces/a", |api| {
        api.change(RECORD, |record| {
            record["status"] = json!({"kills": 2, "lastSlot": "9999-01-01T00:00:00Z"})
        });
    });
    let printed = type_in(&api, &["now", "a"]).await.unwrap();
    let call = change(&api);
    let asked = annotations(&call.body)["purechaos.dev/also-at"].as_str().unwrap();
    let ahead = asked.parse::<Timestamp>().unwrap().duration_since(Timestamp::now()).as_secs();
    assert!((8..=11).contains(&ahead), "{asked}");
    let command = format!("kubectl annotate --overwrite namespace a purechaos.dev/also-at={asked}");
    assert_eq!(printed, format!("{command}\nnamespace/a annotated\n1 Pod was killed\n"));

    // Nobody serves it.
    api.change(RECORD, |record| record["status"] = json!({"kills": 2}));
    let error = type_in(&api, &["now", "a"]).await.unwrap_err().to_string();
    assert!(error.starts_with("no round was made at "), "{error}");
}
