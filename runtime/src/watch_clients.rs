//! Clients for watches.
//!
//! A watch over HTTP/1.1 occupies a connection for as long as it lives, so many watches would need
//! many TLS connections. Over HTTP/2 they share a few. Calls still have connections of their own:
//! then a dead API server costs one call, and not all calls of a shared connection.

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use parking_lot::Mutex;
use tower::ServiceBuilder;

/// How many watches share one connection. By default an API server allows 100 streams on a
/// connection, and further streams wait forever.
const WATCHES_EACH: usize = 64;
/// How often the client sends a ping on a connection, and how long the answer may take. Without an
/// answer in time, all watches of the connection end and begin again on another one.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// The bytes that may be under way to one watch. [`WINDOW_OF_ALL`] is the same for all watches of a
/// connection, and the sum of their windows. So a watch that nobody reads for a while does not hold
/// up the others.
const WINDOW: u32 = 128 * 1024;
const WINDOW_OF_ALL: u32 = WINDOW * 64;

/// Gives each watch a client.
#[derive(Clone)]
pub struct WatchClients(Arc<Inner>);

struct Inner {
    /// The configuration of the cluster. `None` if `client` serves all watches.
    config: Option<Config>,
    /// The client for calls.
    client: Client,
    shared: Mutex<Vec<WatchClient>>,
}

/// The client of one watch. When the last clone of this value is dropped, its place on the
/// connection is free again.
#[derive(Clone)]
pub struct WatchClient {
    client: Client,
    places: Arc<()>,
}

impl WatchClient {
    /// The client, which holds its place only while this value lives.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

impl WatchClients {
    /// Makes clients for the cluster of this configuration. If no client for watches can be made,
    /// watches use `client`, which is the one for calls.
    #[must_use]
    pub fn new(config: Config, client: Client) -> Self {
        Self(Arc::new(Inner { config: Some(config), client, shared: Mutex::default() }))
    }

    /// Uses this one client for all watches.
    #[must_use]
    pub fn by(client: Client) -> Self {
        Self(Arc::new(Inner { config: None, client, shared: Mutex::default() }))
    }

    /// Takes a client for one more watch.
    #[must_use]
    pub fn take(&self) -> WatchClient {
        let mut shared = self.0.shared.lock();
        // One reference is that of this list. Take the fullest connection that has a place, so that
        // a connection with few watches becomes empty and ends.
        shared.retain(|known| Arc::strong_count(&known.places) > 1);
        let free = shared.iter().filter(|known| Arc::strong_count(&known.places) <= WATCHES_EACH);
        if let Some(known) = free.max_by_key(|known| Arc::strong_count(&known.places)) {
            return known.clone();
        }
        let made = self.0.config.as_ref().map(http2).transpose().unwrap_or_else(|error| {
            tracing::warn!(
                error = format!("{error:#}"),
                "failed to create an HTTP/2 client, each watch uses a connection of its own"
            );
            None
        });
        let new =
            WatchClient { client: made.unwrap_or_else(|| self.0.client.clone()), places: Arc::default() };
        shared.push(new.clone());
        new
    }
}

/// Makes a client as kube does, but with HTTP/2 if the API server supports it. Otherwise the client
/// uses HTTP/1.1.
fn http2(config: &Config) -> anyhow::Result<Client> {
    // Refuse a proxy here, because this HTTP stack would bypass it in silence.
    anyhow::ensure!(config.proxy_url.is_none(), "HTTP proxies are not supported");
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(config.connect_timeout);
    let mut https =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        https = https.with_server_name_resolver(FixedServerNameResolver::new(name.clone().try_into()?));
    }
    let (every, within) = PING;
    let client: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(every)
        .http2_keep_alive_timeout(within)
        .http2_initial_stream_window_size(WINDOW)
        .http2_initial_connection_window_size(WINDOW_OF_ALL)
        .build(https.enable_all_versions().wrap_connector(connector));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> WatchClients {
        let never = tower::service_fn(|_: axum::http::Request<Body>| async {
            Ok::<_, std::convert::Infallible>(axum::http::Response::new(Body::empty()))
        });
        WatchClients::by(Client::new(never, "default"))
    }

    #[tokio::test]
    async fn a_connection_has_so_many_watches_and_gives_their_places_back() {
        let clients = clients();
        let connections = || clients.0.shared.lock().len();
        let mut taken: Vec<_> = (0..WATCHES_EACH).map(|_| clients.take()).collect();
        assert_eq!(connections(), 1);
        let further = clients.take();
        assert_eq!(connections(), 2);
        taken.pop();
        let instead = clients.take();
        assert!(Arc::ptr_eq(&instead.places, &taken[0].places), "the fuller one first");
        drop((further, instead, taken));
        let _last = clients.take();
        assert_eq!(connections(), 1, "the empty ones ended");
    }
}
