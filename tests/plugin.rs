//! `kubectl chaos` against a fake API in this process: exactly what the plugin sends, and what it
//! prints.

use std::time::Duration;

use agent::explain::explain;
use clap::Parser;
use jiff::Timestamp;
use kubectl_chaos::run::serve;
use kubectl_chaos::{Args, namespace_arg};
use serde_json::{Value, json};
use tests::api::{Answer, Api, Call};
use tests::stage::{Stage, noon, pod};

const NAMESPACE: &str = "/api/v1/namespaces/a";
const SYSTEM: &str = "/api/v1/namespaces/pure-chaos";

/// A fake API with namespace `a`, which has these annotations, and `pure-chaos`.
fn api(annotations: Value) -> Api {
    let api = Api::default();
    for (path, name, annotations) in [(NAMESPACE, "a", annotations), (SYSTEM, "pure-chaos", json!({}))] {
        let metadata = json!({"name": name, "annotations": annotations});
        api.put(path, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    api
}

/// Types this line, and returns what the plugin printed.
async fn type_in(api: &Api, line: &[&str]) -> anyhow::Result<String> {
    let args = Args::try_parse_from(["kubectl-chaos"].iter().chain(line)).unwrap();
    let mut out = Vec::new();
    let place = namespace_arg::of(&args.command, &args.target)?;
    serve(&api.client(), &args.target, &place, args.command, &mut out).await?;
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
        let printed = type_in(&halted, &line).await.unwrap();
        assert!(printed.ends_with(" annotated\n"), "there was no halt: {printed}");
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
async fn what_a_halt_replaces_and_a_resume_ends_is_told() {
    for (name, path, what) in [(None, SYSTEM, "everything"), (Some("a"), NAMESPACE, "namespace a")] {
        let api = api(json!({}));
        let line = |words: &[&'static str]| words.iter().copied().chain(name).collect::<Vec<_>>();
        let resumed = type_in(&api, &line(&["resume"])).await.unwrap();
        assert!(resumed.ends_with(&format!("annotated\n{what} was not halted\n")), "{resumed}");

        type_in(&api, &line(&["halt", "--reason", "incident\u{1b}[2J 4711"])).await.unwrap();
        let again = type_in(&api, &line(&["halt", "--reason", "another"])).await.unwrap();
        let already = format!("annotated\n{what} was halted already: incident\\u{{1b}}[2J 4711\n");
        assert!(again.ends_with(&already), "{again}");

        let asked = type_in(&api, &line(&["resume", "--server-dry-run"])).await.unwrap();
        assert!(asked.ends_with(&format!("would have ended the halt of {what}: another\n")), "{asked}");
        api.change(path, |namespace| namespace["metadata"]["annotations"]["purechaos.dev/halt"] = json!("x"));
        let resumed = type_in(&api, &line(&["resume"])).await.unwrap();
        assert!(resumed.ends_with(&format!("annotated\nended the halt of {what}: x\n")), "{resumed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_halt_waits_for_no_look() {
    for answer in [
        Answer::Status(403, Value::Null),
        Answer::Status(500, Value::Null),
        Answer::After(Duration::from_secs(10)),
    ] {
        let api = api(json!({}));
        api.fail("GET", "/namespaces/a", 1, answer);
        let begun = tokio::time::Instant::now();
        let printed = type_in(&api, &["halt", "a", "--reason", "r"]).await.unwrap();
        assert!(printed.ends_with("namespace/a annotated\n"), "{printed}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(api.get(NAMESPACE).unwrap()["metadata"]["annotations"]["purechaos.dev/halt"], "r");
    }
}

/// An output that can't be written to, such as a pipe that nobody reads.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_only_narrows_is_done_though_nothing_can_be_printed() {
    for (line, is_done) in [
        (&["halt", "a", "--reason", "r"][..], true),
        (&["off", "a"], true),
        (&["on", "a"], false),
        (&["resume", "a"], false),
        (&["explain", "a"], false),
    ] {
        let api = api(json!({"chaos": "yes"}));
        let args = Args::try_parse_from(["kubectl-chaos"].iter().chain(line)).unwrap();
        let done = serve(&api.client(), &args.target, "a", args.command, &mut Closed).await;
        assert!(done.is_err(), "{line:?}");
        assert_eq!(api.calls().iter().any(|call| call.verb == "PATCH"), is_done, "{line:?}");
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

fn put_record(api: &Api, spec: Value) {
    let mut spec = spec;
    spec["namespaceUid"] = json!("u");
    let metadata = json!({"name": "chaos", "namespace": "a"});
    let (version, status) = ("purechaos.dev/v1alpha1", json!({"kills": 1}));
    api.put(
        RECORD,
        json!({"apiVersion": version, "kind": "OptIn", "metadata": metadata, "spec": spec, "status": status}),
    );
}

/// A namespace that opted in and is admitted.
fn opted_in() -> Api {
    let api = api(json!({"chaos": "yes"}));
    put_record(&api, json!({"verdict": "Admitted"}));
    api
}

/// The agent does at once what the user asks for, and writes this status. The slot itself is some
/// seconds ahead.
fn agent_does(api: &Api, status: impl FnOnce(&str) -> Value + Send + 'static) {
    api.before("PATCH", "/namespaces/a", |api| {
        let asked = change(api).body["metadata"]["annotations"]["purechaos.dev/also-at"].clone();
        api.change(RECORD, |record| record["status"] = status(asked.as_str().unwrap()));
    });
}

/// The error of a line that is refused. The plugin must not have changed anything.
async fn refused(api: &Api, line: &[&str]) -> String {
    let error = type_in(api, line).await.unwrap_err().to_string();
    assert!(api.calls().iter().all(|call| call.verb == "GET"), "{:?}", api.calls());
    error
}

#[tokio::test(start_paused = true)]
async fn a_round_at_once_is_an_annotation_and_its_outcome_is_told() {
    let api = opted_in();
    agent_does(&api, |slot| json!({"kills": 2, "lastSlot": slot}));
    let printed = type_in(&api, &["now", "a"]).await.unwrap();
    let call = change(&api);
    let asked = annotations(&call.body)["purechaos.dev/also-at"].as_str().unwrap();
    let ahead = asked.parse::<Timestamp>().unwrap().duration_since(Timestamp::now()).as_secs();
    assert!((8..=11).contains(&ahead), "{asked}");
    let command = format!("kubectl annotate --overwrite namespace a purechaos.dev/also-at={asked}");
    assert_eq!(printed, format!("{command}\nnamespace/a annotated\n1 Pod was killed\n"));
}

#[tokio::test(start_paused = true)]
async fn a_round_that_was_not_seen_to_end_is_no_success() {
    let withdraw = "kubectl --context staging annotate namespace a purechaos.dev/also-at-";
    let now = &["now", "a", "--context", "staging", "--timeout", "1m"];
    // No agent serves the slot.
    let error = type_in(&opted_in(), now).await.unwrap_err().to_string();
    assert!(error.starts_with("no round was made at ") && error.ends_with(withdraw), "{error}");
    assert!(error.contains("(kubectl chaos --context staging explain a says why)"), "{error}");

    // The agent served the slot, but the result isn't known.
    let api = opted_in();
    agent_does(&api, |slot| json!({"kills": 1, "lastSlot": slot, "nextSlot": slot}));
    let error = type_in(&api, now).await.unwrap_err().to_string();
    assert!(error.contains(" was made, but its end was not seen within 60 s"), "{error}");
    assert!(error.contains("kubectl chaos --context staging status -n a"), "{error}");

    // The agent served a later slot.
    let api = opted_in();
    agent_does(&api, |_| json!({"kills": 2, "lastSlot": "9999-01-01T00:00:00Z"}));
    let error = type_in(&api, now).await.unwrap_err().to_string();
    let instead = "was skipped: the last one is that of 9999-01-01T00:00:00Z, and 1 Pod was killed";
    assert!(error.ends_with(instead), "{error}");

    // The record is gone, because the namespace opted out meanwhile.
    let api = opted_in();
    api.before("PATCH", "/namespaces/a", |api| api.remove(RECORD));
    let error = type_in(&api, now).await.unwrap_err().to_string();
    assert!(error.starts_with("failed to see what became of the round of "), "{error}");
    assert!(error.contains(withdraw), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_api_server_is_waited_for() {
    let api = opted_in();
    agent_does(&api, |slot| json!({"kills": 2, "lastSlot": slot}));
    // This hook runs after the first look.
    api.before("GET", RECORD, |api| {
        for code in [429, 500, 503] {
            api.fail("GET", RECORD, 2, Answer::Status(code, Value::Null));
        }
    });
    let printed = type_in(&api, &["now", "a"]).await.unwrap();
    assert!(printed.ends_with("1 Pod was killed\n"), "{printed}");
}

#[tokio::test]
async fn a_round_at_once_has_nothing_else_admitted_and_replaces_nothing() {
    let api = api(json!({"chaos": "yes"}));
    let now = &["now", "a", "--context", "staging"];
    put_record(&api, json!({"verdict": "NotAdmitted", "reason": "set while nobody saw it: remove `chaos`"}));
    assert_eq!(
        refused(&api, now).await,
        "no round can be asked for in namespace a: set while nobody saw it: remove `chaos`"
    );
    let settings = json!({
        "schedule": "every 10m", "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false, "alsoAt": "9999-12-01T14:00:00Z",
    });
    put_record(&api, json!({"verdict": "Admitted", "settings": settings}));
    let error = refused(&api, now).await;
    assert!(error.contains("one is planned for 9999-12-01T14:00:00Z already"), "{error}");
    assert!(
        error.ends_with("kubectl --context staging annotate namespace a purechaos.dev/also-at-"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_record_it_says_why() {
    let line = &["now", "a", "--context", "staging"];
    let out = api(json!({}));
    assert_eq!(
        refused(&out, line).await,
        "namespace a has not opted in: kubectl chaos --context staging on a"
    );
    let expired = api(json!({"chaos": "yes", "purechaos.dev/expires": "2020-01-01T00:00:00Z"}));
    let error = refused(&expired, line).await;
    assert!(error.starts_with("the opt-in of namespace a expired at 2020-01-01T00:00:00Z"), "{error}");
    let nowhere = Api::default();
    assert_eq!(refused(&nowhere, line).await, "there is no namespace a");

    let lost = api(json!({"chaos": "yes"}));
    let begun = tokio::time::Instant::now();
    let error = refused(&lost, line).await;
    assert!(error.contains("kubectl --context staging -n pure-chaos get pods"), "{error}");
    assert!((4..7).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());

    // The annotation was set a moment ago, and the record comes.
    let young = api(json!({"chaos": "yes"}));
    young.before("GET", "/namespaces/a", |api| put_record(api, json!({"verdict": "Admitted"})));
    agent_does(&young, |slot| json!({"kills": 1, "lastSlot": slot, "state": "dry run"}));
    let printed = type_in(&young, &["now", "a"]).await.unwrap();
    assert!(printed.ends_with("nothing was killed, for it is a dry run\n"), "{printed}");
}

#[tokio::test]
async fn explain_writes_where_it_is_told_to() {
    let api = api(json!({}));
    let printed = type_in(&api, &["explain", "a"]).await.unwrap();
    assert!(printed.starts_with("Namespace a\nNothing is killed: not_admitted: "), "{printed}");
}

/// Shows the platform's policy, as a user sees it who may view namespace `pure-chaos`.
fn show_policy(api: &Api, yaml: &str) {
    let volume = json!({"name": "policy", "configMap": {"name": "policy-1"}});
    let template = json!({"spec": {"containers": [], "volumes": [volume]}});
    api.put(
        "/apis/apps/v1/namespaces/pure-chaos/deployments/agent",
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "agent"}, "spec": {"selector": {}, "template": template},
        }),
    );
    let data = json!({"policy.yaml": yaml});
    api.put(
        "/api/v1/namespaces/pure-chaos/configmaps/policy-1",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "policy-1"}, "data": data}),
    );
}

#[tokio::test(start_paused = true)]
async fn a_round_that_would_be_skipped_is_not_asked_for() {
    let ago = |seconds| Timestamp::now().checked_sub(Duration::from_secs(seconds)).unwrap().to_string();
    let recent = |schedule: &str, seconds| {
        let api = api(json!({"chaos": "yes"}));
        let settings =
            json!({"schedule": schedule, "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false});
        put_record(&api, json!({"verdict": "Admitted", "settings": settings}));
        let last = ago(seconds);
        api.change(RECORD, |record| record["status"]["lastSlot"] = json!(last));
        agent_does(&api, |slot| json!({"kills": 2, "lastSlot": slot}));
        api
    };
    let now = &["now", "a"];

    let platform = recent("every 10m", 20);
    show_policy(&platform, "ceilings: {schedule: every 2m}");
    let error = refused(&platform, now).await;
    let words = "no round can be asked for in namespace a: the last one was at 2";
    assert!(
        error.starts_with(words) && error.contains("the platform's shortest interval is 2m. "),
        "{error}"
    );
    let (_, seconds) = error.rsplit_once(": ask again in 1 min ").unwrap();
    let seconds: u64 = seconds.trim_end_matches(" s").parse().unwrap();
    assert!((25..=31).contains(&seconds), "{error}");

    // The interval is as short as the platform allows.
    let platform = recent("every 10m", 20);
    show_policy(&platform, "ceilings: {schedule: every 20s}");
    assert!(type_in(&platform, now).await.unwrap().starts_with("kubectl annotate "));

    // If the user may not read the policy, the plugin says what may happen, and still asks for the
    // round.
    let printed = type_in(&recent("every 10m", 20), now).await.unwrap();
    let told = "You may not read the platform's shortest interval: if it is 1m, this round is skipped, and the earliest is at 2";
    let (first, rest) = printed.split_once('\n').unwrap();
    assert!(first.contains(told) && rest.starts_with("kubectl annotate "), "{printed}");

    // The schedule that the platform admitted here, or the time since the last round, is enough to
    // decide.
    for api in [recent("every 10s", 20), recent("every 10m", 900)] {
        let printed = type_in(&api, now).await.unwrap();
        assert!(printed.starts_with("kubectl annotate "), "{printed}");
        assert!(!api.calls().iter().any(|call| call.path.contains("/deployments/")));
    }
}

#[tokio::test]
async fn status_says_why_there_is_no_record() {
    let others = "; all that have opted in: kubectl chaos --context staging status -A\n";
    let ended = json!({"chaos": "yes", "purechaos.dev/expires": "2020-01-01T00:00:00Z"});
    for (name, annotations, expected) in [
        ("a", json!({}), "Namespace a has not opted in: kubectl chaos --context staging on a"),
        (
            "a",
            ended,
            "The opt-in of namespace a expired at 2020-01-01T00:00:00Z; to renew it until a later instant: \
             kubectl chaos --context staging on a --expires INSTANT",
        ),
        (
            "a",
            json!({"chaos": "yes"}),
            "Namespace a opted in, but has no record: Pure Chaos's webhook makes that, so see \
             kubectl --context staging -n pure-chaos get pods",
        ),
        ("kube-system", json!({}), "Namespace kube-system is protected and can't opt in"),
        (
            "default",
            json!({}),
            "Namespace default is protected and can't opt in unless the platform's policy lists `!default`",
        ),
        ("nowhere", json!({}), "There is no namespace nowhere"),
    ] {
        let api = api(annotations);
        for name in ["kube-system", "default"] {
            let metadata = json!({"name": name});
            let path = format!("/api/v1/namespaces/{name}");
            api.put(&path, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        }
        let line = &["status", "-n", name, "--context", "staging"];
        assert_eq!(type_in(&api, line).await.unwrap(), format!("{expected}{others}"));
    }
    // If the user may not read the namespace, the plugin prints the most likely reason.
    let hidden = api(json!({"chaos": "yes"}));
    hidden.fail("GET", "/namespaces/a", 1, Answer::Status(403, Value::Null));
    let printed = type_in(&hidden, &["status", "-n", "a"]).await.unwrap();
    assert!(printed.starts_with("Namespace a has not opted in: "), "{printed}");
    // The platform protects more namespaces.
    let platform = api(json!({}));
    show_policy(&platform, "protected: [a]");
    let printed = type_in(&platform, &["status", "-n", "a"]).await.unwrap();
    assert!(printed.starts_with("Namespace a is protected and can't opt in; "), "{printed}");
}

#[tokio::test]
async fn nobody_is_told_to_opt_a_protected_namespace_in() {
    for name in ["default", "kube-system"] {
        let api = api(json!({}));
        let metadata = json!({"name": name});
        let path = format!("/api/v1/namespaces/{name}");
        api.put(&path, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        let error = refused(&api, &["now", name]).await;
        assert!(error.starts_with(&format!("namespace {name} is protected")), "{error}");
        let explained = type_in(&api, &["explain", name]).await.unwrap();
        let protected =
            format!("Nothing is killed: not_admitted: namespace {name} is protected and can't opt in");
        assert!(explained.contains(&protected) && !explained.contains("chaos=yes"), "{explained}");
    }
    // If the platform's policy says so, `default` can opt in.
    let platform = api(json!({}));
    let metadata = json!({"name": "default"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    platform.put("/api/v1/namespaces/default", namespace);
    show_policy(&platform, "protected: ['!default']");
    let explained = type_in(&platform, &["explain", "default"]).await.unwrap();
    assert!(explained.contains("kubectl annotate namespace default chaos=yes"), "{explained}");
}

#[tokio::test]
async fn a_halt_without_a_reason_says_when_and_how_to_give_one() {
    for (name, path) in [(None, SYSTEM), (Some("a"), NAMESPACE)] {
        let api = api(json!({}));
        let line: Vec<&str> = ["halt", "--context", "staging"].into_iter().chain(name).collect();
        let printed = type_in(&api, &line).await.unwrap();
        let text = api.get(path).unwrap()["metadata"]["annotations"]["purechaos.dev/halt"].clone();
        let text = text.as_str().unwrap();
        assert!(
            text.starts_with("with kubectl chaos at 2") && text.ends_with("Z, no reason given"),
            "{text}"
        );
        assert!(printed.contains(&format!("purechaos.dev/halt='{text}'\n")), "{printed}");
        let place = name.map_or_else(String::new, |name| format!(" {name}"));
        let hint = format!(
            "no reason was given; to give one: kubectl chaos --context staging halt{place} --reason TEXT\n"
        );
        assert!(printed.ends_with(&hint), "{printed}");
        let again = type_in(&api, &[&line[..], &["--reason", "4711"]].concat()).await.unwrap();
        assert!(again.ends_with(&format!("was halted already: {text}\n")), "{again}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_line_of_an_explanation_holds_for_the_pods_too() {
    let told = async |stage: &Stage| {
        let policy = Some(stage.policy.clone());
        explain(&stage.api.client(), "a", policy, noon()).await.unwrap().verdict
    };
    let stage = Stage::opted_in();
    let verdict = told(&stage).await;
    assert_eq!((verdict.may_kill, verdict.sentence.as_str()), (true, "A round may kill here now"));
    stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/dry-run", "true")]);
    let verdict = told(&stage).await;
    assert!(!verdict.may_kill && verdict.sentence.starts_with("A round is only a dry run here: "));

    stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/min-age", "2h")]);
    let verdict = told(&stage).await;
    let expected = "Nothing can be killed here now, because every Pod is refused: 3 too_young";
    assert_eq!((verdict.may_kill, verdict.reason, verdict.sentence.as_str()), (false, None, expected));
    for name in ["p1", "p2", "p3"] {
        stage.api.remove(&pod(name));
    }
    let verdict = told(&stage).await;
    assert_eq!(verdict.sentence, "Nothing can be killed here now, because there are no Pods");

    let stage = Stage::opted_in();
    stage.api.fail("LIST", "/pods", usize::MAX, Answer::Status(403, Value::Null));
    let verdict = told(&stage).await;
    assert_eq!(verdict.sentence, "A round may kill here now, but its Pods could not be seen");
}
