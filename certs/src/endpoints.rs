//! What the webhook's endpoints serve right now: each is asked, over TLS, as an API server would.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use runtime::client::call;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificate::Certificate;

/// How long one endpoint has for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// The port of the Service that reviews come in by.
const PORT: &str = "https";

/// A ready endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it serves, or in words why that can't be told.
    pub leaf: Result<Certificate, String>,
}

/// Who knows the endpoints.
pub trait Endpoints: Send + Sync {
    /// Asks each ready endpoint; in words, why they can't be listed.
    fn ask(&self) -> BoxFuture<'_, Result<Vec<Endpoint>, String>>;
}

/// The endpoints of a Service.
pub struct ServiceEndpoints {
    slices: Api<EndpointSlice>,
    service: String,
    host: String,
}

impl ServiceEndpoints {
    /// Those of `service` in `namespace`, asked by the name that the API server calls it by.
    #[must_use]
    pub fn new(client: Client, namespace: &str, service: &str) -> Self {
        Self {
            slices: Api::namespaced(client, namespace),
            service: service.to_owned(),
            host: format!("{service}.{namespace}.svc"),
        }
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let labels = format!("kubernetes.io/service-name={}", self.service);
        let slices = call(self.slices.list(&ListParams::default().labels(&labels)))
            .await
            .map_err(|error| format!("failed to list the endpoints of Service {}: {error}", self.service))?;
        Ok(slices.items.iter().flat_map(ready).collect())
    }
}

impl Endpoints for ServiceEndpoints {
    fn ask(&self) -> BoxFuture<'_, Result<Vec<Endpoint>, String>> {
        async move {
            let asked = self.addresses().await?.into_iter().map(|address| async move {
                let leaf = match tokio::time::timeout(HANDSHAKE, leaf(address, &self.host)).await {
                    Ok(leaf) => leaf,
                    Err(_) => Err(format!("no handshake within {} s", HANDSHAKE.as_secs())),
                };
                Endpoint { address, leaf }
            });
            Ok(join_all(asked).await)
        }
        .boxed()
    }
}

/// The addresses of a slice to which reviews are sent.
fn ready(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten();
    let port = ports.filter(|port| port.name.as_deref() == Some(PORT)).find_map(|port| port.port);
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
        return Vec::new();
    };
    let endpoints = slice.endpoints.iter().flatten().filter(|endpoint| {
        // Unknown counts as ready, says the API.
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    endpoints
        // All addresses of one endpoint are the same Pod.
        .filter_map(|endpoint| endpoint.addresses.first()?.parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, port))
        .collect()
}

async fn leaf(address: SocketAddr, host: &str) -> Result<Certificate, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    let (_, connection) = stream.get_ref();
    let der = connection.peer_certificates().and_then(<[_]>::first).ok_or("it serves no certificate")?;
    Certificate::parse(der).map_err(|error| error.to_string())
}

/// Takes any certificate whose key the other side has: which one it is, is the question. Nothing is sent to it.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
    use crate::issue;
    use crate::issue::tests::{DAY, at};
    use rustls::ServerConfig;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{PrivateKeyDer, pem};
    use tokio::net::TcpListener;

    #[test]
    fn only_ready_endpoints_are_asked() {
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {}, "addressType": "IPv4",
            "ports": [{"name": "metrics", "port": 9090}, {"name": "https", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.0.0.1", "10.0.0.9"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.3"]},
                {"addresses": ["a name"]}
            ]
        }))
        .unwrap();
        let expected: Vec<SocketAddr> =
            ["10.0.0.1:8443", "10.0.0.3:8443"].map(|text| text.parse().unwrap()).into();
        assert_eq!(ready(&slice), expected);
    }

    #[tokio::test]
    async fn what_is_served_is_seen_whoever_signed_it_and_however_old_it_is() {
        let long_ago = at(1_577_836_800);
        let ca = issue::ca(long_ago, Duration::from_secs(8 * DAY)).unwrap();
        let host = "webhook.pure-chaos.svc";
        let pair = issue::serving(&ca, host, long_ago, Duration::from_secs(DAY)).unwrap();
        let key: Result<_, pem::Error> = PrivateKeyDer::from_pem_slice(pair.key_pem().as_bytes());
        let chain = vec![CertificateDer::from(pair.certificate().der().to_vec())];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key.unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                acceptor.accept(stream).await.ok();
            }
        });
        assert_eq!(leaf(address, host).await.as_ref(), Ok(pair.certificate()));
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert!(leaf(nobody, host).await.unwrap_err().contains("refused"));
    }
}
