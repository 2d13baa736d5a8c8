//! Serves HTTPS, because the API server calls webhooks by HTTPS only. After the TLS handshake,
//! [`runtime::http`] takes over.

pub mod body;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use runtime::http::{self, Handshake};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// The most connections at the same time. One API server keeps a few. At 30 KB each, 512
/// connections take 15 MB.
const MOST_CONNECTIONS: usize = 512;
/// How long answers under way may take after the drain. No review takes as long as this.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The HTTPS server and what it needs.
pub struct Server {
    /// The socket on which connections arrive.
    pub listener: TcpListener,
    /// Gives the present certificate to each handshake.
    pub certificates: Arc<dyn ResolvesServerCert>,
    /// The CAs of client certificates. With `None`, the server does not ask for a client
    /// certificate.
    pub client_cas: Option<Arc<RootCertStore>>,
    /// The routes that answer requests.
    pub router: Router,
    /// How long the server goes on after the process was told to end. For that time, the API server
    /// may still send reviews here. Each connection ends with its next answer.
    pub drain: Duration,
}

impl Server {
    /// Serves until `end` is cancelled, and then for the time of the drain. After that, closes idle
    /// connections and waits for the others.
    ///
    /// # Errors
    /// Returns an error if TLS can't be configured.
    pub async fn serve(self, end: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, certificates, client_cas, router, drain } = self;
        let handshake = Tls(TlsAcceptor::from(Arc::new(tls(certificates, client_cas)?)));
        let (most, last_answers) = (MOST_CONNECTIONS, LAST_ANSWERS);
        http::Server { listener, handshake, router, most, drain, last_answers }.serve(end).await
    }
}

#[derive(Clone)]
struct Tls(TlsAcceptor);

impl Handshake for Tls {
    type Stream = TlsStream<TcpStream>;

    async fn shake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

fn tls(
    certificates: Arc<dyn ResolvesServerCert>,
    client_cas: Option<Arc<RootCertStore>>,
) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("failed to configure TLS")?;
    let builder = match client_cas {
        None => builder.with_no_client_auth(),
        Some(cas) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(cas, provider).build();
            builder.with_client_cert_verifier(verifier.context("failed to configure the clients' CA")?)
        }
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
pub(crate) mod tests;
