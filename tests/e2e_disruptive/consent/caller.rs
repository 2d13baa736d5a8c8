//! Posts a forged review of annotations that nobody reviewed to the webhook: from the node's host,
//! from a tenant's Pod, and through the API server's proxy. Each post is tried without the path,
//! with a made-up path, and with the current path.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, eventually, kubectl, kubectl_with, object, run, within};
use tests::disruption::{until_opt_ins_are_reviewed, without_webhook_configuration};

const RARELY: &str = "purechaos.dev/schedule=every 12h";

/// Posts through the API server, which leaves out the content type. The webhook answers a stranger
/// before it has read the body. If the API server is still writing then, it sees a broken
/// connection instead of the answer, and the post is repeated.
fn post_by_proxy(path: &str, review: &Value) -> Output {
    let proxy = "/api/v1/namespaces/pure-chaos/services/https:webhook:443/proxy";
    eventually("an answer through the proxy", || {
        let output = kubectl_with(&["create", "--raw", &format!("{proxy}{path}")], review);
        let is_broken = ["broken pipe", "connection reset"].iter().any(|why| output.stderr.contains(why));
        (!is_broken).then_some(output)
    })
}

/// The source of a post.
enum Source {
    Host,
    /// The network of the Pod that contains this process.
    PodOf(String),
}

/// The network of a Pod, entered through a process of the Pod. The Pod's own image can't speak TLS.
fn in_pod(namespace: &Namespace) -> Source {
    namespace.deployment("tenant", 1);
    let uid = eventually("the tenant's Pod", || {
        let pods = object(&["pods", "-n", &namespace.name]);
        let pod = pods["items"].as_array()?.iter().find(|pod| pod["status"]["phase"] == "Running")?;
        Some(pod["metadata"]["uid"].as_str()?.to_owned())
    });
    let is_its = |process: &String| {
        let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup"));
        groups.is_ok_and(|groups| groups.contains(&uid))
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let mut ids = processes.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    Source::PodOf(ids.find(is_its).expect("a process of the tenant's Pod"))
}

/// Posts straight to the Service. Returns the answer's body, followed by the status code.
fn post(from: &Source, path: &str, review: &Value) -> String {
    let service = object(&["service", "webhook", "-n", "pure-chaos"]);
    let address = format!("https://{}{path}", service["spec"]["clusterIP"].as_str().unwrap());
    let mut curl = match from {
        Source::Host => Command::new("curl"),
        Source::PodOf(process) => {
            let mut enter = Command::new("nsenter");
            enter.args(["--net", "--target", process, "curl"]);
            enter
        }
    };
    curl.args(["--silent", "--show-error", "--insecure", "--max-time", "10", "--write-out", " %{http_code}"]);
    curl.args(["--header", "Content-Type: application/json", "--data", &review.to_string(), &address]);
    run(&mut curl).succeeds()
}

/// The review that an API server would send if a user with every right had set the namespace's
/// current annotations.
fn forged(namespace: &Namespace) -> Value {
    let live = object(&["namespace", &namespace.name, "--show-managed-fields"]);
    let mut before = live.clone();
    before["metadata"]["annotations"] = json!({});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "forged", "operation": "UPDATE", "resource": {"group": "", "version": "v1", "resource": "namespaces"},
        "name": namespace.name, "namespace": namespace.name, "object": live, "oldObject": before, "dryRun": false,
        "userInfo": {"username": "someone@example.com", "groups": ["system:masters", "system:authenticated"]}}})
}

/// The paths that the API server calls now.
fn paths() -> Vec<String> {
    let configuration = object(&["validatingwebhookconfiguration", "pure-chaos"]);
    let webhooks = configuration["webhooks"].as_array().unwrap().iter();
    let path = |webhook: &Value| webhook.pointer("/clientConfig/service/path")?.as_str().map(str::to_owned);
    webhooks.filter_map(path).collect()
}

#[test]
fn a_forged_review_is_nobodys_consent() {
    let namespace = Namespace::new("forged");
    {
        let _configuration = without_webhook_configuration();
        namespace.annotate(&["chaos=yes", RARELY]).succeeds();
        let not_admitted = || (namespace.record()["spec"]["verdict"] == "NotAdmitted").then_some(());
        eventually("the record", not_admitted);
    }
    until_opt_ins_are_reviewed();
    let review = forged(&namespace);
    let pod = in_pod(&namespace);
    let stands = eventually("the paths", || Some(paths()).filter(|paths| paths.len() == 2));
    assert!(stands[0].starts_with("/opt-in/") && stands[1].starts_with("/kill/"), "{stands:?}");
    let made_up = format!("{}x", &stands[0][..stands[0].len() - 1]);
    let of_kill = stands[1].replace("/kill/", "/opt-in/");
    for path in ["", "/", "/opt-in", "/opt-in/x", &made_up, &of_kill] {
        let refusal = "the path of this request is not the one in";
        let answer = post_by_proxy(path, &review).fails();
        assert!(answer.contains(refusal), "{path}: {answer}");
        for from in [&Source::Host, &pod] {
            let answer = post(from, path, &review);
            assert!(answer.contains(refusal) && answer.ends_with(" 403"), "{path}: {answer}");
        }
    }
    // Even a caller that knows the path can't get annotations admitted that are stored already.
    // Each post goes to one of the replicas.
    for _ in 0..8 {
        let answer = post(&pod, &paths().remove(0), &review);
        assert!(answer.contains("\"allowed\":true"), "{answer}");
    }
    let later = Namespace::new("forged-later");
    later.opt_in(&[RARELY]);
    std::thread::sleep(Duration::from_secs(2));
    let spec = namespace.record()["spec"].clone();
    assert_eq!((&spec["verdict"], &spec["admission"]), (&json!("NotAdmitted"), &Value::Null), "{spec}");
    assert!(!namespace.has_binding());

    // Such a post doesn't change the recorded user of an admission either.
    let admitted = later.record()["spec"]["admission"].clone();
    for _ in 0..8 {
        post(&pod, &paths().remove(0), &forged(&later));
    }
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(later.record()["spec"]["admission"], admitted);
}

#[test]
fn a_path_that_somebody_changed_is_put_back_and_nothing_is_let_through_meanwhile() {
    let namespace = Namespace::new("changed-path");
    let patch =
        json!([{"op": "replace", "path": "/webhooks/0/clientConfig/service/path", "value": "/opt-in"}]);
    let patch = patch.to_string();
    tests::cluster::kubectl(&[
        "patch",
        "validatingwebhookconfiguration",
        "pure-chaos",
        "--type=json",
        "-p",
        &patch,
    ])
    .succeeds();
    let asked = namespace.annotate(&["chaos=yes", RARELY]);
    assert!(
        asked.ok || asked.stderr.contains("the path of this request is not the one in"),
        "{}",
        asked.stderr
    );
    within(Duration::from_secs(15), "the path", || (paths()[0] != "/opt-in").then_some(()));
    until_opt_ins_are_reviewed();
    namespace.annotate(&["chaos-"]).succeeds();
    namespace.opt_in(&[RARELY]);
}

/// The keys rotate daily. This test makes them a day old at once.
#[test]
fn keys_that_rotate_cost_no_opt_in() {
    let namespace = Namespace::new("rotated-keys");
    let secret = || object(&["secret", "webhook-path", "-n", "pure-chaos"])["data"].clone();
    let before = secret();
    // The value is 2026-01-01T00:00:00Z.
    let patch = json!({"data": {"since": "MjAyNi0wMS0wMVQwMDowMDowMFo="}}).to_string();
    kubectl(&["-n", "pure-chaos", "patch", "secret", "webhook-path", "--type=merge", "-p", &patch])
        .succeeds();
    let asks = || namespace.annotate(&["chaos=yes", RARELY, "--dry-run=server"]).succeeds();
    let old = paths();
    within(Duration::from_secs(15), "new keys", || {
        asks();
        (secret()["path-keys"] != before["path-keys"]).then_some(())
    });
    within(Duration::from_secs(15), "paths by the next key", || {
        asks();
        (paths().iter().all(|path| !old.contains(path))).then_some(())
    });
    asks();
}
