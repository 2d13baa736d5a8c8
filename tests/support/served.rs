//! A running webhook over real HTTPS, without a cluster: in this process or in its own.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use certs::api::keyring::Keyring;
use certs::api::reload::Serving;
use certs::path::segment::Keys;
use policy::platform::PlatformPolicy;
use runtime::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use webhook::admission::routes::router;
use webhook::metrics::Metrics;
use webhook::run::{Parts, Replica};
use webhook::server::Server;

use crate::fake_api::Api;
use crate::repository::read;

/// The path that `certs` would inject now, made by the keys of a test's webhook.
pub fn path(route: &str) -> String {
    keys().path(route, SystemClock.wall())
}

/// The keys of a test's webhook.
pub fn keys() -> Keys {
    Keys::of([1; 32], [2; 32])
}

/// The path of the webhook configuration in an API.
pub const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/pure-chaos";

/// The webhook configuration, as in the manifests.
pub fn configuration() -> Value {
    serde_saphyr::from_str(&read("manifests/base/webhook-configuration.yaml")).unwrap()
}

/// A running webhook in this process, and a client that calls it.
pub struct Webhook {
    /// The API server that the webhook calls.
    pub api: Api,
    caller: Caller,
    _end: tokio_util::sync::DropGuard,
}

impl Deref for Webhook {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

/// A client that trusts a webhook's CA.
pub struct Caller {
    /// Where the webhook listens.
    pub address: SocketAddr,
    /// The CA of the webhook's certificate, which is for `localhost`.
    pub ca: Vec<u8>,
    client: kube::Client,
}

/// A new serving certificate for `localhost` and its key, both as PEM, and the CA as DER.
#[must_use]
pub fn certificate() -> (String, String, Vec<u8>) {
    let day = Duration::from_secs(86_400);
    let now = SystemClock.wall();
    let ca = certs::x509::issue::ca(now, day).unwrap();
    let pair = certs::x509::issue::serving(&ca, "localhost", now, day).unwrap();
    (pair.certificate().pem(), pair.key_pem().to_owned(), ca.certificate().der().to_vec())
}

impl Webhook {
    /// Starts a webhook with a certificate of its own and with namespace `pure-chaos`.
    pub async fn start() -> Self {
        // Every test starts a webhook, and the first test installs the provider for all.
        runtime::process::install_tls_provider().ok();
        let (pem, key, ca) = certificate();
        let serving = Arc::new(Serving::default());
        serving.load(pem.as_bytes(), key.as_bytes()).unwrap();

        let api = Api::default();
        api.put("/api/v1/namespaces/pure-chaos", json!({"metadata": {"name": "pure-chaos", "uid": "s"}}));
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let clock = Arc::new(SystemClock);
        let ring = Arc::new(Keyring::default());
        ring.set(keys());
        let parts = Parts::new(
            &api.client(),
            PlatformPolicy::parse("ceilings: {mode: 'evict,delete,force'}").unwrap(),
            &metrics,
            clock,
            Replica {
                seed: 1,
                instance: "test".to_owned(),
                accounts: vec!["agent".to_owned()],
                keys: ring,
                configuration: "pure-chaos".to_owned(),
            },
        );
        // The watches don't run: there is no other namespace to see.
        parts.pending_admissions.only(&std::collections::BTreeSet::new());
        let manifest = read("manifests/base/webhook-configuration.yaml");
        parts.guard.configuration(Some(&serde_saphyr::from_str(&manifest).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        let server = Server {
            listener,
            certificates: serving,
            client_cas: None,
            router: router(parts.reviews),
            drain: Duration::ZERO,
        };
        tokio::spawn(server.serve(end.clone()));

        Self { api, caller: Caller::new(address, ca), _end: end.drop_guard() }
    }
}

impl Caller {
    /// A client of the webhook that listens at this address.
    #[must_use]
    pub fn new(address: SocketAddr, ca: Vec<u8>) -> Self {
        let mut config = kube::Config::new(format!("https://localhost:{}", address.port()).parse().unwrap());
        config.root_cert = Some(vec![ca.clone()]);
        Self { address, ca, client: kube::Client::try_from(config).unwrap() }
    }

    /// Sends a recorded review, changed by `how`, to a rule. Returns the response to that review.
    pub async fn ask(&self, route: &str, recording: &str, how: impl FnOnce(&mut Value)) -> Value {
        let mut review: Value = serde_json::from_str(&read(&format!("tests/data/{recording}.json"))).unwrap();
        how(&mut review);
        let request = Request::post(path(route)).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&review).unwrap()).unwrap();
        let answer: Value = self.client.request(request).await.unwrap();
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    /// Sends any request, and returns the status and the body of the answer.
    pub async fn send(&self, request: Request<Vec<u8>>) -> (StatusCode, Vec<u8>) {
        let request = request.map(kube::client::Body::from);
        let answer = self.client.send(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::Body::new(answer.into_body());
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (status, body.to_vec())
    }
}
