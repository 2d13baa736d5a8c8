//! What `kubectl chaos status` and `kubectl chaos explain` say.

use agent::explain::explain;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{Stage, noon, pod};

use super::stage::{api, refused, show_policy, type_in};

#[tokio::test]
async fn explain_writes_where_it_is_told_to() {
    let api = api(json!({}));
    let printed = type_in(&api, &["explain", "a"]).await.unwrap();
    assert!(printed.starts_with("Namespace a\nNothing is killed: not_admitted: "), "{printed}");
}

#[tokio::test]
async fn status_says_why_there_is_no_record() {
    let others = "; to see all namespaces that have opted in, run: \
                  kubectl chaos --context staging status -A\n";
    let ended = json!({"chaos": "yes", "purechaos.dev/expires": "2020-01-01T00:00:00Z"});
    for (name, annotations, expected) in [
        (
            "a",
            json!({}),
            "Namespace a has not opted in; to opt it in, run: kubectl chaos --context staging on a",
        ),
        (
            "a",
            ended,
            "The opt-in of namespace a expired at 2020-01-01T00:00:00Z; to renew it until a later instant, \
             run: kubectl chaos --context staging on a --expires INSTANT",
        ),
        (
            "a",
            json!({"chaos": "yes"}),
            "Namespace a opted in, but the webhook has not written its record yet; to see whether \
             the webhook runs, run: kubectl --context staging -n pure-chaos get pods",
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
    assert!(printed.starts_with("Namespace a has not opted in; "), "{printed}");
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
    assert_eq!(verdict.sentence, "A round may kill here now, but its Pods could not be listed");
}

#[tokio::test]
async fn the_size_of_a_custom_workload_is_that_of_the_installed_policy_and_of_your_rights() {
    const HERD: &str = "/apis/tests.purechaos.dev/v1/namespaces/a/herds/h";
    const LIST: &str = "workloads: [{apiVersion: tests.purechaos.dev/v1, kind: Herd, resource: herds}]";
    let stage = Stage::opted_in();
    stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/kinds", "Deployment,Herd")]);
    stage.api.put(
        HERD,
        json!({"metadata": {"name": "h", "namespace": "a", "uid": "h-uid"}, "spec": {"replicas": 1}}),
    );
    stage.api.change(&pod("p1"), |pod| {
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "tests.purechaos.dev/v1", "kind": "Herd", "name": "h", "uid": "h-uid", "controller": true
        }]);
    });
    let told = async || {
        let explanation = explain(&stage.api.client(), "a", None, noon()).await.unwrap();
        let herd = explanation.pods.into_iter().find(|verdict| verdict.pod == "p1").unwrap().verdict;
        let unseen = explanation.unseen.into_iter();
        let unseen: Vec<String> = unseen.map(|unseen| format!("{}: {}", unseen.right, unseen.what)).collect();
        (herd.reason.unwrap(), herd.sentence, unseen)
    };
    let not_seen = "you can't see how many Pods Herd h wants, because you lack a right; the agent may see it";
    let (reason, sentence, unseen) = told().await;
    assert_eq!((reason, sentence.as_str()), ("size_unknown", not_seen));
    assert!(
        unseen[0].starts_with("read the platform's policy (failed to read deployment agent"),
        "{unseen:?}"
    );
    assert!(unseen[0].ends_with("): how many Pods Herd h wants"), "{unseen:?}");

    show_policy(&stage.api, LIST);
    let (reason, _, unseen) = told().await;
    assert_eq!((reason, unseen.len()), ("single_replica", 0));

    stage.api.fail("GET", "/herds/h", usize::MAX, Answer::Status(403, Value::Null));
    let (reason, sentence, unseen) = told().await;
    assert_eq!((reason, sentence.as_str()), ("size_unknown", not_seen));
    assert_eq!(unseen, ["get herds.tests.purechaos.dev in namespace a: how many Pods Herd h wants"]);

    show_policy(&stage.api, "");
    let (reason, sentence, unseen) = told().await;
    assert_eq!((reason, unseen.len()), ("size_unknown", 0));
    assert_eq!(
        sentence,
        "kind Herd is not in `workloads` of the platform's policy, and Herd h has no ReplicaSets"
    );
}
