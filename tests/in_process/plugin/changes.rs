//! What `kubectl chaos` changes: exactly what it sends, and what it prints.

use std::time::Duration;

use clap::Parser;
use kubectl_chaos::Args;
use kubectl_chaos::run::serve;
use policy::settings::Key;
use serde_json::{Value, json};
use tests::fake_api::Answer;

use super::stage::{NAMESPACE, SYSTEM, annotations, api, change, type_in};

#[tokio::test]
async fn on_sends_what_it_prints_and_names_what_stays() {
    let api = api(json!({"team": "b", "purechaos.dev/limit": "3"}));
    let printed = type_in(&api, &["on", "a", "--schedule", "every 10m"]).await.unwrap();
    assert_eq!(
        printed,
        "kubectl annotate --overwrite namespace a chaos=yes purechaos.dev/schedule='every 10m'\n\
         namespace/a annotated\n\
         unchanged: purechaos.dev/limit=\"3\"\n"
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
    // `chaos` and each setting.
    assert_eq!(annotations(&change(&api).body).as_object().unwrap().len(), 1 + Key::ALL.len());
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
            "no reason was given; to give one, run: \
             kubectl chaos --context staging halt{place} --reason TEXT\n"
        );
        assert!(printed.ends_with(&hint), "{printed}");
        let again = type_in(&api, &[&line[..], &["--reason", "4711"]].concat()).await.unwrap();
        assert!(again.ends_with(&format!("was halted already: {text}\n")), "{again}");
    }
}
