//! The webhook over real HTTPS, with AdmissionReviews that a real API server (1.37) sent: `tests/data`.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use certs::reload::Serving;
use policy::platform::PlatformPolicy;
use runtime::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tests::api::Api;
use tests::repository::read;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use webhook::metrics::Metrics;
use webhook::routes::router;
use webhook::run::Parts;
use webhook::server::Server;

/// A running webhook, and a client that trusts its CA.
struct Webhook {
    api: Api,
    client: kube::Client,
    _end: tokio_util::sync::DropGuard,
}

impl Webhook {
    async fn start() -> Self {
        // Every test starts one, and the first installs it for all.
        runtime::process::install_tls_provider().ok();
        let day = Duration::from_secs(86_400);
        let now = SystemClock.wall();
        let ca = certs::issue::ca(now, day).unwrap();
        let pair = certs::issue::serving(&ca, "localhost", now, day).unwrap();
        let serving = Arc::new(Serving::default());
        serving.load(pair.certificate().pem().as_bytes(), pair.key_pem().as_bytes()).unwrap();

        let api = Api::default();
        api.put("/api/v1/namespaces/pure-chaos", json!({"metadata": {"name": "pure-chaos", "uid": "s"}}));
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let clock = Arc::new(SystemClock);
        let parts =
            Parts::new(&api.client(), PlatformPolicy::built_in(), &metrics, clock, (1, "test".to_owned()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let end = CancellationToken::new();
        let server =
            Server { listener, certificates: serving, router: router(parts.reviews), drain: Duration::ZERO };
        tokio::spawn(server.serve(end.clone()));

        let mut config = kube::Config::new(format!("https://localhost:{port}").parse().unwrap());
        config.root_cert = Some(vec![ca.certificate().der().to_vec()]);
        Self { api, client: kube::Client::try_from(config).unwrap(), _end: end.drop_guard() }
    }

    /// Sends a recorded review, changed by `how`, and gives the response that belongs to it.
    async fn ask(&self, path: &str, recording: &str, how: impl FnOnce(&mut Value)) -> Value {
        let mut review: Value = serde_json::from_str(&read(&format!("tests/data/{recording}.json"))).unwrap();
        how(&mut review);
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&review).unwrap()).unwrap();
        let answer: Value = self.client.request(request).await.unwrap();
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }
}

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
        let response = webhook.ask("/opt-in", recording, |_| {}).await;
        assert_eq!(response["allowed"], true, "{recording}: {response}");
        assert!(response["auditAnnotations"].is_object(), "{recording}: {response}");
    }
    for recording in ["create-namespace", "opt-out"] {
        let response = webhook.ask("/opt-in", recording, |_| {}).await;
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
            .ask("/opt-in", recording, |review| {
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
        .ask("/opt-in", "opt-in", |review| {
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
        (json!({"chaos": "yes"}), true, ""),
        (json!({"chaos": "yes", "purechaos.dev/halt": "incident 4711"}), false, "halted (incident 4711)"),
        (json!({"chaos": "yes", "purechaos.dev/limit": "9"}), false, "ceilings.limit"),
    ] {
        webhook.api.put("/api/v1/namespaces/rec-a", namespace(annotations));
        for way in ways {
            let response = webhook.ask("/kill", way, |_| {}).await;
            assert_eq!(response["allowed"], allowed, "{way}: {response}");
            if !allowed {
                assert_eq!(response["status"]["code"], 403);
                assert!(response["status"]["message"].as_str().unwrap().contains(words), "{way}: {response}");
            }
        }
    }
    webhook.api.remove("/api/v1/namespaces/pure-chaos");
    webhook.api.put("/api/v1/namespaces/rec-a", namespace(json!({"chaos": "yes"})));
    assert_eq!(
        webhook.ask("/kill", "evict-pod", |_| {}).await["allowed"],
        false,
        "a halt that can't be read halts"
    );
}
