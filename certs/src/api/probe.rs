//! Asks each ready endpoint of the webhook's Service which certificate it serves, by a TLS
//! handshake like the API server's.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use runtime::client::call;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::x509::certificate::Certificate;

/// How long one endpoint may take to show its certificate. Inside the cluster, a handshake takes
/// milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The Service's name for the port on which reviews arrive.
const PORT: &str = "https";
/// The label by which an EndpointSlice belongs to a Service.
const SERVICE: &str = "kubernetes.io/service-name";

/// A ready endpoint, and the certificate that it served when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and port, for messages to people.
    pub address: String,
    /// The certificate that the endpoint presented, or the reason why none was seen.
    pub leaf: Result<Certificate, String>,
}

/// Every ready endpoint, or the reason why the endpoints are not known.
pub type Served = Result<Vec<Endpoint>, String>;

/// Looks at what the endpoints serve. Tests use an implementation of their own.
pub trait Look: Send + Sync {
    /// Asks each ready endpoint once, all at the same time.
    fn look(&self) -> Pin<Box<dyn Future<Output = Served> + Send + '_>>;
}

/// The endpoints of one Service.
pub struct Endpoints {
    slices: Api<EndpointSlice>,
    service: String,
    name: String,
}

impl Endpoints {
    /// Creates the access to the endpoints of `service` in `namespace`. Handshakes ask for the DNS
    /// name `name`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, service: &str, name: &str) -> Self {
        Self {
            slices: Api::namespaced(client, namespace),
            service: service.to_owned(),
            name: name.to_owned(),
        }
    }

    async fn ask_all(&self) -> Served {
        let params = ListParams::default().labels(&format!("{SERVICE}={}", self.service));
        let slices = call(self.slices.list(&params)).await.map_err(|error| {
            format!("failed to list the EndpointSlices of Service {}: {error}", self.service)
        })?;
        let connector = TlsConnector::from(Arc::new(tls().map_err(|error| error.to_string())?));
        let name = ServerName::try_from(self.name.clone()).map_err(|error| error.to_string())?;
        let mut asked = JoinSet::new();
        for address in ready(&slices.items) {
            let (connector, name) = (connector.clone(), name.clone());
            asked.spawn(async move {
                let leaf = match tokio::time::timeout(TIMEOUT, ask(address, connector, name)).await {
                    Ok(leaf) => leaf,
                    Err(_) => Err(format!("no certificate within {TIMEOUT:?}")),
                };
                Endpoint { address: address.to_string(), leaf }
            });
        }
        let mut endpoints = Vec::new();
        while let Some(endpoint) = asked.join_next().await {
            endpoints.push(endpoint.map_err(|error| format!("failed to ask an endpoint: {error}"))?);
        }
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(endpoints)
    }
}

impl Look for Endpoints {
    fn look(&self) -> Pin<Box<dyn Future<Output = Served> + Send + '_>> {
        Box::pin(self.ask_all())
    }
}

/// Returns the addresses to which the API server sends reviews. A missing `ready` condition means
/// ready, as the Kubernetes API defines.
fn ready(slices: &[EndpointSlice]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        let ports: Vec<u16> = ports
            .filter(|port| port.name.as_deref() == Some(PORT))
            .filter_map(|port| u16::try_from(port.port?).ok())
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
                continue;
            }
            // All addresses of an endpoint lead to the same Pod, so the first one is enough.
            let ip = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok());
            addresses.extend(
                ip.into_iter().flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port))),
            );
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

async fn ask(
    address: SocketAddr,
    connector: TlsConnector,
    name: ServerName<'static>,
) -> Result<Certificate, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("failed to connect: {error}"))?;
    let stream =
        connector.connect(name, stream).await.map_err(|error| format!("failed to agree on TLS: {error}"))?;
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(<[_]>::first).ok_or("no certificate presented")?;
    Certificate::parse(leaf).map_err(|error| error.to_string())
}

fn tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth())
}

/// Accepts any certificate, because `certs` wants to know which one is served. The handshake still
/// proves that the endpoint has the certificate's key. `certs` never sends data over such a
/// connection.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reload::Serving;
    use crate::x509::issue::tests::{DAY, NAME, START, ca, serving};
    use serde_json::json;
    use tokio::net::TcpListener;

    fn slice(endpoints: &serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "addressType": "IPv4", "metadata": {"name": "webhook-1"}, "endpoints": endpoints,
            "ports": [{"name": "metrics", "port": 9090}, {"name": "https", "port": 8443}],
        }))
        .unwrap()
    }

    #[test]
    fn only_ready_endpoints_and_the_port_of_reviews() {
        let endpoints = json!([
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.1"], "conditions": {}},
        ]);
        let all = ready(&[slice(&endpoints), slice(&endpoints)]);
        assert_eq!(all, ["10.0.0.1:8443".parse().unwrap(), "10.0.0.2:8443".parse().unwrap()]);
        assert!(ready(&[]).is_empty());
    }

    #[tokio::test]
    async fn what_is_served_is_seen_whoever_signed_it() {
        let leaf = serving(&ca(START, DAY), START, DAY);
        let current = Arc::new(Serving::default());
        current.load(leaf.certificate().pem().as_bytes(), leaf.key_pem().as_bytes()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(current);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.map(drop).unwrap();
        });
        let connector = TlsConnector::from(Arc::new(tls().unwrap()));
        let name = ServerName::try_from(NAME).unwrap();
        assert_eq!(ask(address, connector.clone(), name.clone()).await.unwrap(), *leaf.certificate());
        server.await.unwrap();
        let error = ask(address, connector, name).await.unwrap_err();
        assert!(error.starts_with("failed to connect: "), "{error}");
    }
}
