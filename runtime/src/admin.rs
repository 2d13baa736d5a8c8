//! The admin server of each process. The server answers `/metrics` (Prometheus text format 0.0.4),
//! `/livez` and `/readyz`, over plain HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Plain};

/// The most connections at once. Prometheus, the kubelet and a few browsers connect.
const MOST_CONNECTIONS: usize = 64;
/// The longest time for an answer. Prometheus waits 10 s for its metrics, and the kubelet waits 1 s
/// for its probe.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server waits at the end for answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Says whether the process can do its work. `Err` says what is missing.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Clone)]
struct Admin {
    registry: Registry,
    readiness: Readiness,
}

/// The routes of the admin server. Tests can call them without a connection.
pub fn router(registry: Registry, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Admin { registry, readiness })
}

/// Serves the routes until `end`, and then for at most two seconds. A client that does not finish
/// its request must not keep the process alive.
///
/// # Errors
/// Returns the errors of [`http::Server::serve`].
pub async fn serve(listener: TcpListener, router: Router, end: CancellationToken) -> anyhow::Result<()> {
    let router = router.layer(middleware::from_fn(in_time));
    let (most, drain) = (MOST_CONNECTIONS, Duration::ZERO);
    http::Server { listener, handshake: Plain, router, most, drain, last_answers: LAST_ANSWERS }
        .serve(end)
        .await
}

async fn in_time(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_| (StatusCode::GATEWAY_TIMEOUT, "failed to answer in time\n").into_response())
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&admin.registry.gather()) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            format!("failed to write the metrics: {error}\n"),
        ),
    }
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    match (admin.readiness)() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::get as get_route;
    use std::io::Write;
    use tower::ServiceExt;

    async fn get(path: &str, readiness: Result<(), String>) -> (StatusCode, String) {
        let registry = crate::metrics::registry().unwrap();
        let router = router(registry, Arc::new(move || readiness.clone()));
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_keeps_no_process_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, asked) = (CancellationToken::new(), CancellationToken::new());
        let is_asked = asked.clone();
        let endless = || async move {
            is_asked.cancel();
            std::future::pending::<()>().await;
        };
        let server = tokio::spawn(serve(listener, Router::new().route("/", get_route(endless)), end.clone()));
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        asked.cancelled().await;
        end.cancel();
        tokio::time::timeout(LAST_ANSWERS * 5, server).await.expect("the end").unwrap().unwrap();
    }

    #[tokio::test]
    async fn metrics_name_the_build() {
        let (status, text) = get("/metrics", Ok(())).await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("pure_chaos_build_info{revision="), "{text}");
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing_and_liveness_does_not_ask() {
        let missing = Err("no certificate".to_owned());
        assert_eq!(
            get("/readyz", missing.clone()).await,
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: no certificate\n".to_owned())
        );
        assert_eq!(get("/readyz", Ok(())).await.0, StatusCode::OK);
        assert_eq!(get("/livez", missing).await.0, StatusCode::OK);
    }
}
