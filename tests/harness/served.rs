//! A running webhook over real HTTPS, without a cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use certs::reload::Serving;
use policy::platform::PlatformPolicy;
use runtime::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use webhook::metrics::Metrics;
use webhook::routes::router;
use webhook::run::{Parts, Replica};
use webhook::server::Server;

use crate::api::Api;
use crate::repository::read;

/// A running webhook, and a client that trusts its CA.
pub struct Webhook {
    /// The API server that it asks.
    pub api: Api,
    /// Where it listens.
    pub address: SocketAddr,
    /// The CA of its certificate, which is for `localhost`.
    pub ca: Vec<u8>,
    client: kube::Client,
    _end: tokio_util::sync::DropGuard,
}

impl Webhook {
    /// Starts one, with a certificate of its own and namespace `pure-chaos`.
    pub async fn start() -> Self {
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
        let parts = Parts::new(
            &api.client(),
            PlatformPolicy::built_in(),
            &metrics,
            clock,
            Replica { seed: 1, instance: "test".to_owned(), accounts: vec!["agent".to_owned()] },
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        let server =
            Server { listener, certificates: serving, router: router(parts.reviews), drain: Duration::ZERO };
        tokio::spawn(server.serve(end.clone()));

        let mut config = kube::Config::new(format!("https://localhost:{}", address.port()).parse().unwrap());
        let ca = ca.certificate().der().to_vec();
        config.root_cert = Some(vec![ca.clone()]);
        Self { api, address, ca, client: kube::Client::try_from(config).unwrap(), _end: end.drop_guard() }
    }

    /// Sends a recorded review, changed by `how`, and gives the response that belongs to it.
    pub async fn ask(&self, path: &str, recording: &str, how: impl FnOnce(&mut Value)) -> Value {
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

    /// Sends whatever it is, and gives status and body of the answer.
    pub async fn send(&self, request: Request<Vec<u8>>) -> (StatusCode, Vec<u8>) {
        let request = request.map(kube::client::Body::from);
        let answer = self.client.send(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::Body::new(answer.into_body());
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (status, body.to_vec())
    }
}
