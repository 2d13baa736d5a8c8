//! The HTTP/1.1 server for every port of every process. The server limits the number of connections
//! and what each one may take, and loses no answer when it ends.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::connections::{Connections, Open};

/// The longest time in which a connection must send the whole header of its next request.
///
/// This is longer than the 90 s for which API servers and Prometheus keep an idle connection. So
/// the client closes first, which loses nothing, because the client is the one that sends. If the
/// server closed first, a request on its way could be lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(150);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a header. The header of an API server, of Prometheus or of a browser has a few
/// kB. The server reads bodies in pieces of this size.
const LARGEST_HEADER: usize = 16 * 1024;
/// The pause after a failed accept, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens at an address. `[::]` accepts IPv4 as well. On a machine without IPv6, `[::]` means all
/// addresses of IPv4.
///
/// # Errors
/// Returns an error with the address if the server cannot listen there.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind(address).await {
        Err(error) => match instead(address, error.kind()) {
            Some(other) => TcpListener::bind(other).await,
            None => Err(error),
        },
        bound => bound,
    };
    listener.with_context(|| format!("failed to listen on {address}: choose another address"))
}

/// The address to listen at after listening at `address` failed with `error`. `None` if there is no
/// other.
fn instead(address: SocketAddr, error: io::ErrorKind) -> Option<SocketAddr> {
    // Another process has the port, so another address family does not help.
    let is_taken = error == io::ErrorKind::AddrInUse;
    (address.ip() == Ipv6Addr::UNSPECIFIED && !is_taken)
        .then(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
}

/// What a connection does before its first request, such as a TLS handshake.
pub trait Handshake: Clone + Send + Sync + 'static {
    /// The stream through which the requests come.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Does the handshake. The caller limits the time.
    fn shake(&self, stream: TcpStream) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// No handshake: HTTP without TLS.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Handshake for Plain {
    type Stream = TcpStream;

    async fn shake(&self, stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }
}

/// A server with its limits.
pub struct Server<H> {
    /// The listener that accepts the connections.
    pub listener: TcpListener,
    /// The handshake of each connection.
    pub handshake: H,
    /// The routes that answer the requests.
    pub router: Router,
    /// The most connections at once. If another one comes, the server gives up an idle one.
    pub most: usize,
    /// How long the server goes on after it is asked to end, because clients may still connect in
    /// this time. Each connection ends with its next answer.
    pub drain: Duration,
    /// How long answers that are under way may take after the drain.
    pub last_answers: Duration,
}

impl<H: Handshake> Server<H> {
    /// Serves until `end` is cancelled and the drain is over. Then closes idle connections, and
    /// waits for the answers that are under way.
    ///
    /// # Errors
    /// Returns an error only if the server's own semaphore is closed, which never happens.
    pub async fn serve(self, end: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, handshake, router, most, drain, last_answers } = self;
        let graceful = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(most));
        let connections = Connections::default();
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        if permits.available_permits() == 0 && !connections.give_one_up() {
                            tracing::warn!(most, "all connections are busy, a new one waits");
                        }
                        let permit = Arc::clone(&permits).acquire_owned().await?;
                        let (open, watcher, end) = (connections.open(), graceful.watcher(), end.clone());
                        let connection = Connection { stream, peer, permit, open, watcher, end };
                        tokio::spawn(connection.serve(handshake.clone(), router.clone()));
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
        if tokio::time::timeout(last_answers, graceful.shutdown()).await.is_err() {
            tracing::warn!("failed to close some connections in time");
        }
        Ok(())
    }
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
    async fn serve(self, handshake: impl Handshake, router: Router) {
        let Self { stream, peer, permit, open, watcher, end } = self;
        let peer = peer.to_string();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer, error = error.to_string(), "failed to set TCP_NODELAY");
        }
        let given_up = open.given_up().clone();
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake.shake(stream));
        let stream = match given_up.run_until_cancelled(shaken).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => {
                return tracing::debug!(peer, error = error.to_string(), "a handshake failed");
            }
            Some(Err(_)) => return tracing::debug!(peer, "a handshake took too long"),
            None => return tracing::debug!(peer, "closed a connection to make room for another"),
        };
        let service = TowerToHyperService::new(router);
        let service = service_fn(move |request| {
            let answer = service.call(request);
            let (answering, end) = (Answering::begins(&open), end.clone());
            async move {
                let mut answer = answer.await;
                drop(answering);
                // The client connects to another replica after this answer. If the connection
                // stayed open until the end of the drain, closing it could cross the client's next
                // request and lose it.
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
            .max_buf_size(LARGEST_HEADER)
            .serve_connection(TokioIo::new(stream), service);
        match given_up.run_until_cancelled(watcher.watch(connection)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::debug!(peer, error = error.to_string(), "a connection ended early");
            }
            None => tracing::debug!(peer, "closed a connection to make room for another"),
        }
        drop(permit);
    }
}

/// A request on a connection, from its arrival until its answer is made or the connection breaks
/// off.
struct Answering(Open);

impl Answering {
    fn begins(open: &Open) -> Self {
        open.answer_begins();
        Self(open.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answer_ends();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_are_those_of_ipv4_too() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // On a machine with IPv6, `[::]` accepts IPv6 as well.
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            TcpStream::connect(("::1", port)).await.unwrap();
        }
        let taken = listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).await.unwrap_err();
        assert!(taken.to_string().contains(&format!("[::]:{port}")), "{taken:#}");
    }

    #[test]
    fn without_ipv6_all_addresses_are_those_of_ipv4() {
        let all: SocketAddr = "[::]:9090".parse().unwrap();
        assert_eq!(instead(all, io::ErrorKind::Unsupported), "0.0.0.0:9090".parse().ok());
        assert_eq!(instead(all, io::ErrorKind::AddrInUse), None);
        assert_eq!(instead("[::1]:9090".parse().unwrap(), io::ErrorKind::Unsupported), None);
    }
}
