//! The admin server of each process: `/metrics` (text 0.0.4), `/livez`, `/readyz`, over plain HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Says whether the process can do its work; `Err` says what is missing.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Clone)]
struct Admin {
    registry: Registry,
    readiness: Readiness,
}

/// The routes, as a value that tests can call.
pub fn router(registry: Registry, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Admin { registry, readiness })
}

/// Serves the routes until `end`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, end: CancellationToken) -> anyhow::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned()).await?;
    Ok(())
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
