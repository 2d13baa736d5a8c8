//! The binary as people start it, with a kubeconfig, against an API server that answers what it is
//! told to: what is sent and as whom, what is printed where, and the exit code.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod server;

use std::process::Command;

use serde_json::json;

use server::{Answer, Ended, Server, run};

const DENIED: &str = "admission webhook \"opt-in.purechaos.dev\" denied the request: metadata.annotations[chaos]: Forbidden: user kim \
                      may not opt in namespace a: this needs the right to delete Pods there";

#[test]
fn what_is_sent_is_what_the_printed_command_would_have_sent() {
    let server = Server::start(Answer {
        warning: Some("this opt-in never kills (für Mara)"),
        ..Answer::namespace(&json!({"chaos": "yes", "purechaos.dev/schedule": "every 10m"}))
    });
    let ended = server.chaos(&["on", "a", "--schedule", "every 10m"]);
    assert_eq!(
        ended,
        Ended {
            code: Some(0),
            out: "kubectl annotate --overwrite namespace a chaos=yes purechaos.dev/schedule='every 10m'\nnamespace/a annotated\n"
                .to_owned(),
            error: "Warning: this opt-in never kills (für Mara)\n".to_owned(),
        }
    );
    let request = server.only_request();
    assert_eq!(request.line, "PATCH /api/v1/namespaces/a?&fieldManager=kubectl-chaos HTTP/1.1");
    assert_eq!(
        request.body,
        json!({"metadata": {"annotations": {"chaos": "yes", "purechaos.dev/schedule": "every 10m"}}})
    );
    for header in ["content-type: application/merge-patch+json", "authorization: Bearer token-of-mara"] {
        assert!(request.headers.contains(&header.to_owned()), "{request:?}");
    }
}

#[test]
fn that_nobody_reads_any_more_is_a_failure_only_where_something_was_left_undone() {
    let server = Server::start(Answer::namespace(&json!({"chaos": "yes"})));
    // As under `| head`: the reading end is closed before anything is written.
    let unread = |line: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-chaos"));
        let child = command.args(line).env("KUBECONFIG", &server.kubeconfig).stdout(writer);
        let ended =
            child.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    assert_eq!(unread(&["completion", "bash"]), (Some(0), String::new()));
    assert_eq!(unread(&["halt", "a", "--reason", "r"]), (Some(0), String::new()), "it was halted");
    let (code, error) = unread(&["on", "a"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("so namespace a was not annotated"), "{error}");
    assert_eq!(server.only_change().body["metadata"]["annotations"]["purechaos.dev/halt"], "r");
}

#[test]
fn a_dry_run_is_the_api_servers() {
    let server = Server::start(Answer::namespace(&json!({})));
    let ended = server.chaos(&["halt", "a", "--reason", "r", "--server-dry-run"]);
    assert_eq!(
        ended.out,
        "kubectl annotate --overwrite --dry-run=server namespace a purechaos.dev/halt=r\nnamespace/a annotated (server dry run)\n"
    );
    assert_eq!(ended.code, Some(0));
    let line = server.only_change().line;
    assert!(line.starts_with("PATCH ") && line.contains("dryRun=All"), "{line}");
}

#[test]
fn context_and_kubeconfig_say_who_asks_and_where() {
    let server = Server::start(Answer::namespace(&json!({})));
    assert_eq!(server.chaos(&["resume", "a", "--context", "kim"]).code, Some(0));
    assert!(server.only_change().headers.contains(&"authorization: Bearer token-of-kim".to_owned()));

    // The flag wins over the variable, and is in the command that is printed.
    let other = Server::start(Answer::namespace(&json!({})));
    let file = other.kubeconfig.display().to_string();
    let ended = server.chaos(&["--kubeconfig", &file, "resume", "a"]);
    assert!(
        ended.out.starts_with(&format!("kubectl --kubeconfig {file} annotate namespace a ")),
        "{ended:?}"
    );
    assert!(other.only_change().headers.contains(&"authorization: Bearer token-of-mara".to_owned()));
    server.only_change();
}

#[test]
fn several_kubeconfigs_are_read_as_kubectl_reads_them() {
    let server = Server::start(Answer::namespace(&json!({})));
    let file = |end: &str, text: &str| {
        let file = server.kubeconfig.with_extension(end);
        std::fs::write(&file, text).unwrap();
        file
    };
    let (empty, broken) = (file("empty", "current-context: ''\n"), file("broken", "contexts: {"));
    let on = |files: &[&std::path::Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-chaos"));
        // As in a Pod: whoever names a kubeconfig doesn't mean that.
        command
            .args(["on", "a"])
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", "1");
        run(command.env("KUBECONFIG", std::env::join_paths(files).unwrap()))
    };
    let missing = std::path::Path::new("/nowhere/config");
    let ended = on(&[missing, &empty, &server.kubeconfig]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(server.only_change().headers.contains(&"authorization: Bearer token-of-mara".to_owned()));
    for (files, words) in [
        (&[server.kubeconfig.as_path(), &broken][..], broken.to_str().unwrap()),
        (&[missing], "/nowhere/config"),
        (&[&empty], "current context"),
    ] {
        let ended = on(files);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.error.contains(words), "{words}: {ended:?}");
    }
    server.only_change();
    for file in [empty, broken] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_round_at_once_is_asked_for_by_the_api_servers_clock() {
    let slot = "2020-01-01T00:00:10Z";
    let record = json!({
        "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn", "metadata": {"name": "chaos", "namespace": "a"},
        "spec": {"namespaceUid": "u", "verdict": "Admitted"}, "status": {"kills": 1, "lastSlot": slot, "state": "no Pods"},
    });
    let dated = Answer {
        date: Some("Wed, 01 Jan 2020 00:00:00 GMT"),
        body: record.to_string(),
        ..Answer::namespace(&json!({}))
    };
    let server = Server::answering(move |request| {
        if request.line.starts_with("GET ") { dated.clone() } else { Answer::namespace(&json!({})) }
    });
    let ended = server.chaos(&["now", "a"]);
    assert!(ended.code == Some(0) && ended.out.ends_with("nothing was killed: no Pods\n"), "{ended:?}");
    assert_eq!(server.only_change().body["metadata"]["annotations"]["purechaos.dev/also-at"], slot);

    let absent =
        Server::start(Answer { body: "404 page not found\n".to_owned(), ..Answer::status(404, "", "") });
    let ended = absent.chaos(&["now", "a"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.error.contains("Pure Chaos isn't installed in this cluster"), "{ended:?}");
}

#[test]
fn names_of_namespaces_are_completed_by_the_cluster_that_is_meant() {
    let names = ["default", "learning-place"].map(|name| json!({"metadata": {"name": name}}));
    let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": names});
    let server = Server::start(Answer { body: list.to_string(), ..Answer::namespace(&json!({})) });
    let ended = server.chaos(&["__complete", "--", "--context=kim", "on", "le"]);
    assert_eq!((ended.out.as_str(), ended.error.as_str()), ("learning-place\n:4\n", ""));
    let request = server.only_request();
    assert!(request.line.starts_with("GET /api/v1/namespaces?"), "{request:?}");
    assert!(request.headers.contains(&"authorization: Bearer token-of-kim".to_owned()), "{request:?}");

    let refusing = Server::start(Answer::status(403, "Forbidden", "no"));
    let ended = refusing.chaos(&["__complete", "--", "on", ""]);
    assert_eq!((ended.code, ended.out.as_str(), ended.error.as_str()), (Some(0), ":4\n", ""));
}

#[test]
fn where_a_change_has_no_answer_it_may_have_been_done() {
    let record = json!({
        "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn", "metadata": {"name": "chaos", "namespace": "a"},
        "spec": {"namespaceUid": "u", "verdict": "Admitted"},
    });
    let look = "the change may have been made; to check, run: kubectl --context kim get namespace a -o yaml";
    for code in [0, 504] {
        let record = Answer { body: record.to_string(), ..Answer::namespace(&json!({})) };
        let server = Server::answering(move |request| {
            if request.line.starts_with("GET ") {
                record.clone()
            } else {
                Answer::status(code, "", "none in time")
            }
        });
        let on = server.chaos(&["--context", "kim", "on", "a"]);
        assert!(on.code == Some(1) && on.error.contains(look), "{on:?}");
        assert!(!on.error.contains("round"), "{on:?}");
        let now = server.chaos(&["--context", "kim", "now", "a"]).error;
        assert!(now.contains(look) && now.contains("; a round may then come at 2"), "{now}");
        let withdraw = "run: kubectl --context kim annotate namespace a purechaos.dev/also-at-";
        assert!(now.contains(withdraw), "{now}");
    }
}

#[test]
fn status_is_of_the_contexts_namespace_unless_another_is_named() {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []}).to_string();
    for (line, path) in [
        (&["status"][..], "/apis/purechaos.dev/v1alpha1/namespaces/b/optins"),
        (&["status", "-n", "a"], "/apis/purechaos.dev/v1alpha1/namespaces/a/optins"),
        (&["status", "-A", "-n", "a"], "/apis/purechaos.dev/v1alpha1/optins"),
    ] {
        let server = Server::start(Answer { body: list.clone(), ..Answer::namespace(&json!({})) });
        let ended = server.chaos(&[&["--context", "kim"], line].concat());
        assert_eq!(ended.code, Some(0), "{line:?}");
        let hint = "has not opted in; to opt it in, run: kubectl chaos --context kim on ";
        assert!(line.contains(&"-A") || ended.out.contains(hint), "{ended:?}");
        // Why there is no record is looked for afterwards.
        let asked = server.requests.lock().unwrap()[0].line.clone();
        assert!(asked.starts_with(&format!("GET {path}?")), "{asked}");
    }
}

#[test]
fn a_refusal_is_told_in_the_api_servers_words_and_exits_1() {
    for (answer, words) in [
        (Answer::status(403, "Forbidden", DENIED), DENIED),
        (Answer::status(404, "NotFound", "namespaces \"a\" not found"), "namespaces \"a\" not found"),
        (
            Answer::status(409, "Conflict", "Operation cannot be fulfilled on namespaces \"a\""),
            "Operation cannot be fulfilled on namespaces \"a\"",
        ),
        (Answer { body: "<html>Bad Gateway</html>".to_owned(), ..Answer::status(502, "", "") }, "502"),
    ] {
        let code = answer.code;
        let server = Server::start(answer);
        let ended = server.chaos(&["on", "a"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        // What was tried is known, and that it was not done.
        assert_eq!(ended.out, "kubectl annotate --overwrite namespace a chaos=yes\n", "{code}");
        assert!(ended.error.starts_with("error: failed to annotate namespace a: "), "{ended:?}");
        assert!(ended.error.contains(words) && ended.error.ends_with('\n'), "{ended:?}");
        server.only_request();
    }
}

#[test]
fn who_may_not_annotate_is_told_who_can_help() {
    let message = "namespaces \"a\" is forbidden: User \"kim\" cannot patch resource \"namespaces\" in API group \"\" in the namespace \"a\"";
    let server = Server::start(Answer::status(403, "Forbidden", message));
    let plain = server.chaos(&["on", "a", "--context", "kim"]).error;
    let ask = "; to check your right, run: kubectl --context kim auth can-i patch namespaces/a -n a. To get";
    assert!(plain.contains(message) && plain.contains(ask), "{plain}");
    // The webhook says itself what to do.
    let denied = Server::start(Answer::status(403, "Forbidden", DENIED)).chaos(&["on", "a"]).error;
    assert_eq!(denied, format!("error: failed to annotate namespace a: {DENIED}\n"));
}

#[test]
fn status_says_what_to_do_where_there_is_none_to_see() {
    for (line, code, advice) in [
        (&["status", "-A", "--context", "kim"][..], 403, "kubectl chaos --context kim status -n NAMESPACE"),
        (&["status"], 404, "Pure Chaos isn't installed"),
    ] {
        let ended = Server::start(Answer::status(code, "", "said the API server")).chaos(line);
        assert_eq!(ended.code, Some(1));
        let words = format!("error: failed to list optins: said the API server ({code}); ");
        assert!(ended.error.starts_with(&words) && ended.error.contains(advice), "{ended:?}");
    }
}

#[test]
fn where_no_cluster_answers_a_person_is_told_how_to_look() {
    let server = Server::start(Answer::namespace(&json!({})));
    // A port that nobody listens on.
    let nobody = "127.0.0.1:1";
    let text = std::fs::read_to_string(&server.kubeconfig).unwrap();
    std::fs::write(&server.kubeconfig, text.replace(&server.address.to_string(), nobody)).unwrap();
    for line in [&["on", "a"][..], &["off", "a"], &["status"], &["explain", "a"]] {
        let ended = server.chaos(&[&["--context", "kim"], line].concat());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.error.matches("refused").count(), 1, "{line:?}: {ended:?}");
        let look = "; to check the connection, run: kubectl --context kim cluster-info\n";
        assert!(ended.error.ends_with(look), "{line:?}: {ended:?}");
    }
    for line in [&["--context", "lee", "on", "a"][..], &["--kubeconfig", "/nowhere/config", "on", "a"]] {
        let ended = server.chaos(line);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.error.contains(line[1]), "{ended:?}");
    }
    assert_eq!(server.requests.lock().unwrap().len(), 0);
}

#[test]
fn what_is_not_understood_never_leaves_this_machine() {
    let server = Server::start(Answer::namespace(&json!({})));
    let ended = server.chaos(&["on", "a", "--schedule", "hourly"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(ended.error.contains("purechaos.dev/schedule") && ended.error.contains("hourly"), "{ended:?}");
    for line in [
        &["on"][..],
        &["on", "a", "--shedule=x"],
        &["on", "a", "-n", "b"],
        &["explode", "a"],
        &["on", "a/status"],
        &["on", "--", "--all"],
        &["halt", "", "--reason", "r"],
        &["status", "-n", ""],
    ] {
        // Nor is a kubeconfig looked for.
        let ended = server.chaos(&[&["--kubeconfig", "/nowhere/config"], line].concat());
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{line:?}: {ended:?}");
        assert!(ended.error.contains("kubectl chaos"), "{line:?}: {ended:?}");
    }
    assert_eq!(server.requests.lock().unwrap().len(), 0);
}
