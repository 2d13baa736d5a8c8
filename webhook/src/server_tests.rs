use super::*;
use crate::fake::Fake;
use crate::metrics::Metrics;
use crate::routes::router;
use crate::run::{Parts, Replica};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use certs::reload::Serving;
use hyper::client::conn::http1::{SendRequest, handshake};
use policy::platform::PlatformPolicy;
use runtime::clock::SystemClock;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

pub(crate) const NAME: &str = "webhook.pure-chaos.svc";

/// A new self-signed pair as PEM, and what to trust for it.
pub(crate) fn pair() -> (String, String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem(), made.cert.der().clone())
}

/// Serves a new certificate from now on, and returns it.
fn swap(serving: &Serving) -> CertificateDer<'static> {
    let (certificate, key, trusted) = pair();
    serving.load(certificate.as_bytes(), key.as_bytes()).unwrap();
    trusted
}

struct Running {
    address: SocketAddr,
    fake: Fake,
    certificates: Arc<Serving>,
    end: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start(drain: Duration) -> Running {
    let fake = Fake::new();
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let parts = Parts::new(
        &fake.client(),
        PlatformPolicy::built_in(),
        &metrics,
        Arc::new(SystemClock),
        Replica { seed: 1, instance: "pod".to_owned(), accounts: vec!["agent".to_owned()] },
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (certificates, end) = (Arc::new(Serving::default()), CancellationToken::new());
    let server = Server {
        listener,
        certificates: Arc::clone(&certificates) as _,
        router: router(parts.reviews),
        drain,
    };
    let task = tokio::spawn(server.serve(end.clone()));
    Running { address, fake, certificates, end, task }
}

/// A connection that trusts just this certificate.
pub(crate) async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> anyhow::Result<SendRequest<Body>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME)?, stream).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub(crate) async fn ask(sender: &mut SendRequest<Body>, annotations: Value) -> anyhow::Result<Value> {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "UPDATE", "resource": {"group": "", "version": "v1", "resource": "namespaces"}, "name": "a",
        "namespace": "a", "userInfo": {"username": "kim"}, "oldObject": {"metadata": {"name": "a"}},
        "object": {"metadata": {"name": "a", "uid": "uid-a", "annotations": annotations}}}});
    let request = Request::post("/opt-in?timeout=5s")
        .header("host", NAME)
        .header("content-type", "application/json")
        .body(Body::from(review.to_string()))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    assert_eq!(response.status(), StatusCode::OK);
    let body = to_bytes(Body::new(response.into_body()), 1 << 20).await?;
    Ok(serde_json::from_slice::<Value>(&body)?["response"].clone())
}

#[tokio::test]
async fn reviews_over_https_on_one_connection() {
    let running = start(Duration::ZERO).await;
    running.fake.namespace("a", json!({}));
    let trusted = swap(&running.certificates);
    let mut connection = connect(running.address, &trusted).await.unwrap();
    assert_eq!(ask(&mut connection, json!({"chaos": "yes"})).await.unwrap()["allowed"], true);
    let denied = ask(&mut connection, json!({"chaos": "true"})).await.unwrap();
    assert_eq!(denied["status"]["code"], 422);
}

#[tokio::test]
async fn without_a_certificate_the_handshake_fails_and_the_server_goes_on() {
    let running = start(Duration::ZERO).await;
    let stray = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap().cert.der().clone();
    assert!(connect(running.address, &stray).await.is_err());
    let trusted = swap(&running.certificates);
    assert!(connect(running.address, &trusted).await.is_ok());
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_failed_review() {
    let running = start(Duration::ZERO).await;
    let old = swap(&running.certificates);
    let mut open = connect(running.address, &old).await.unwrap();
    assert_eq!(ask(&mut open, json!({"chaos": "yes"})).await.unwrap()["allowed"], true);
    let new = swap(&running.certificates);
    assert_eq!(
        ask(&mut open, json!({"chaos": "yes"})).await.unwrap()["allowed"],
        true,
        "open connections go on"
    );
    let mut fresh = connect(running.address, &new).await.unwrap();
    assert_eq!(ask(&mut fresh, json!({"chaos": "yes"})).await.unwrap()["allowed"], true);
    assert!(connect(running.address, &old).await.is_err());
}

#[tokio::test]
async fn the_end_waits_for_the_drain() {
    let drain = Duration::from_millis(600);
    let running = start(drain).await;
    let trusted = swap(&running.certificates);
    let mut open = connect(running.address, &trusted).await.unwrap();
    running.end.cancel();
    tokio::time::sleep(drain / 3).await;
    assert_eq!(
        ask(&mut open, json!({"chaos": "yes"})).await.unwrap()["allowed"],
        true,
        "on an open connection"
    );
    // The next review goes elsewhere: were it sent on this one, it could cross with the end.
    let closed = tokio::time::timeout(drain / 3, async {
        while open.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    closed.await.expect("an answered connection ends at once");
    let mut late = connect(running.address, &trusted).await.unwrap();
    assert_eq!(ask(&mut late, json!({"chaos": "yes"})).await.unwrap()["allowed"], true, "on a new one");
    // One that is silent must not keep the process.
    let silent = connect(running.address, &trusted).await.unwrap();
    tokio::time::timeout(drain + Duration::from_secs(2), running.task).await.unwrap().unwrap().unwrap();
    assert!(connect(running.address, &trusted).await.is_err());
    drop(silent);
}
