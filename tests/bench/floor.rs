//! The cost of the webhook's TLS and HTTP without the webhook: the same server, which reads each
//! body and answers a constant.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::routing::post;
use certs::api::reload::Serving;
use tokio_util::sync::CancellationToken;
use webhook::server::Server;

const ANSWER: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"00000000-0000-0000-0000-000000000000","allowed":true}}"#;

/// Serves at an address, with the certificate from a folder, until the process is killed.
pub async fn run(address: &str, directory: &str) {
    runtime::process::install_tls_provider().unwrap();
    let read = |name: &str| std::fs::read(format!("{directory}/{name}")).unwrap();
    let serving = Arc::new(Serving::default());
    serving.load(&read("tls.crt"), &read("tls.key")).unwrap();
    let router = Router::new()
        .fallback(post(|_: Bytes| async { ([(header::CONTENT_TYPE, "application/json")], ANSWER) }))
        .layer(DefaultBodyLimit::max(8 * 1024 * 1024));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let server = Server { listener, certificates: serving, client_cas: None, router, drain: Duration::ZERO };
    server.serve(CancellationToken::new()).await.unwrap();
}
