//! HTTPS: connections of HTTP/1.1, because that is what the API server speaks to webhooks, each with its time limits, and an end that
//! loses no review.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::connections::{Connections, Open};

/// Longer than the 90 s for which the API server keeps an idle connection: whoever closes first loses nothing only if it is the one
/// that sends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(150);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// One API server keeps a few; at 30 KB each this is 15 MB. For a further one, one that does nothing is given up.
const MOST_CONNECTIONS: usize = 512;
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long reviews under way may take to end, after the drain.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What serving needs.
pub struct Server {
    /// Where connections come in.
    pub listener: TcpListener,
    /// The certificate of each moment.
    pub certificates: Arc<dyn ResolvesServerCert>,
    /// The routes.
    pub router: Router,
    /// How long to go on after the end was asked for: so long the API server may still send reviews here. Each connection ends with its
    /// next answer.
    pub drain: Duration,
}

impl Server {
    /// Serves until `end`, then for the drain, then ends what is idle and waits for the rest.
    ///
    /// # Errors
    /// When TLS can't be configured.
    pub async fn serve(self, end: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, certificates, router, drain } = self;
        let acceptor = TlsAcceptor::from(Arc::new(tls(certificates)?));
        let graceful = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let connections = Connections::default();
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        if permits.available_permits() == 0 && !connections.give_one_up() {
                            tracing::warn!(
                                MOST_CONNECTIONS,
                                "all connections are being answered, a new one waits"
                            );
                        }
                        let permit = Arc::clone(&permits).acquire_owned().await?;
                        let (open, watcher, end) = (connections.open(), graceful.watcher(), end.clone());
                        let connection = Connection { stream, peer, permit, open, watcher, end };
                        tokio::spawn(connection.serve(acceptor.clone(), router.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(error = error.to_string(), "failed to accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        let drained = async {
            end.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            () = drained => {}
            outcome = accept => return outcome,
        }
        drop(listener);
        if tokio::time::timeout(LAST_ANSWERS, graceful.shutdown()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        Ok(())
    }
}

fn tls(certificates: Arc<dyn ResolvesServerCert>) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("failed to configure TLS")?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    open: Open,
    watcher: Watcher,
    end: CancellationToken,
}

impl Connection {
    async fn serve(self, acceptor: TlsAcceptor, router: Router) {
        let Self { stream, peer, permit, open, watcher, end } = self;
        let peer = peer.to_string();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer, error = error.to_string(), "failed to set TCP_NODELAY");
        }
        let given_up = open.given_up().clone();
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
        let stream = match given_up.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => {
                return tracing::debug!(peer, error = error.to_string(), "a TLS handshake failed");
            }
            Some(Err(_)) => return tracing::debug!(peer, "a TLS handshake took too long"),
            None => return tracing::debug!(peer, "a connection was given up for another"),
        };
        let service = TowerToHyperService::new(router);
        let service = service_fn(move |request| {
            let answer = service.call(request);
            let (review, end) = (Review::begins(&open), end.clone());
            async move {
                let mut answer = answer.await;
                drop(review);
                // Whoever sends on goes elsewhere after this answer. Were the connection kept until the drain is over, its end could meet
                // the next review on the way, and lose it.
                if let Ok(response) = &mut answer
                    && end.is_cancelled()
                {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        match given_up.run_until_cancelled(watcher.watch(connection)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::debug!(peer, error = error.to_string(), "a connection ended early");
            }
            None => tracing::debug!(peer, "a connection was given up for another"),
        }
        drop(permit);
    }
}

/// A review on a connection, until its answer is made or the connection breaks off.
struct Review(Open);

impl Review {
    fn begins(open: &Open) -> Self {
        open.review_begins();
        Self(open.clone())
    }
}

impl Drop for Review {
    fn drop(&mut self) {
        self.0.review_ends();
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
pub(crate) mod tests;
