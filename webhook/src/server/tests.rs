use super::*;
use crate::admission::routes::router;
use crate::fake::{Fake, path, replica_of};
use crate::metrics::Metrics;
use crate::run::Parts;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use certs::api::reload::Serving;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use policy::platform::PlatformPolicy;
use runtime::clock::SystemClock;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio_rustls::TlsConnector;

pub(crate) const NAME: &str = "webhook.pure-chaos.svc";

/// Returns a new self-signed pair as PEM, and the certificate to trust for it.
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
    start_with(drain, None).await
}

async fn start_with(drain: Duration, client_cas: Option<Arc<RootCertStore>>) -> Running {
    let fake = Fake::new();
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let parts = Parts::new(
        &fake.client(),
        PlatformPolicy::built_in(),
        &metrics,
        Arc::new(SystemClock),
        replica_of(1),
    );
    parts.pending_admissions.only(&std::collections::BTreeSet::new());
    parts.guard.configuration(Some(&serde_json::from_value(crate::fake::configuration()).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (certificates, end) = (Arc::new(Serving::default()), CancellationToken::new());
    let server = Server {
        listener,
        certificates: Arc::clone(&certificates) as _,
        client_cas,
        router: router(parts.reviews),
        drain,
    };
    let task = tokio::spawn(server.serve(end.clone()));
    Running { address, fake, certificates, end, task }
}

/// Opens a connection that trusts only this certificate.
pub(crate) async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> anyhow::Result<SendRequest<Body>> {
    connect_as(address, trusted, None).await
}

type Identity = (CertificateDer<'static>, rustls::pki_types::PrivateKeyDer<'static>);

async fn connect_as(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    identity: Option<Identity>,
) -> anyhow::Result<SendRequest<Body>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key)?,
    };
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
    let request = Request::post(format!("{}?timeout=5s", path("opt-in", &SystemClock)))
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

/// With `--client-ca`, knowing the secret path is not enough.
#[tokio::test]
async fn where_clients_have_a_ca_only_its_certificates_are_answered() {
    let day = Duration::from_secs(86_400);
    let now = runtime::clock::Clock::wall(&SystemClock);
    let (ca, other) = (certs::x509::issue::ca(now, day).unwrap(), certs::x509::issue::ca(now, day).unwrap());
    let cas = crate::args::cas(ca.certificate().pem().as_bytes()).unwrap();
    let running = start_with(Duration::ZERO, Some(Arc::new(cas))).await;
    let trusted = swap(&running.certificates);
    let of = |ca: &certs::x509::certificate::Pair| client_of(ca);
    for (identity, is_answered) in [(None, false), (Some(of(&other)), false), (Some(of(&ca)), true)] {
        let asked = async {
            let mut connection = connect_as(running.address, &trusted, identity).await?;
            ask(&mut connection, json!({"chaos": "yes"})).await
        };
        assert_eq!(asked.await.is_ok(), is_answered);
    }
}

/// Returns a client certificate as `--client-ca` requires it, and its key.
fn client_of(ca: &certs::x509::certificate::Pair) -> Identity {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
    use rustls::pki_types::pem::PemObject;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let ca_key = KeyPair::from_pem(ca.key_pem()).unwrap();
    let ca_certificate = CertificateDer::from(ca.certificate().der().to_vec());
    let issuer = Issuer::from_ca_cert_der(&ca_certificate, ca_key).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (certificate, key)
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
    // The next review must use another connection: on this one, it could cross with the end.
    let closed = tokio::time::timeout(drain / 3, async {
        while open.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    closed.await.expect("an answered connection ends at once");
    let mut late = connect(running.address, &trusted).await.unwrap();
    assert_eq!(ask(&mut late, json!({"chaos": "yes"})).await.unwrap()["allowed"], true, "on a new one");
    // A silent connection must not keep the process from ending.
    let silent = connect(running.address, &trusted).await.unwrap();
    tokio::time::timeout(drain + Duration::from_secs(2), running.task).await.unwrap().unwrap().unwrap();
    assert!(connect(running.address, &trusted).await.is_err());
    drop(silent);
}
