use super::*;
use crate::fake::{CONFIGURATION, Fake, configuration, namespace};
use crate::server::tests::{ask, connect, pair};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use runtime::args::CommonArgs;
use runtime::logs::LogFormat;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Returns an address that nobody listens on at the moment.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Returns status and body of the response.
async fn get(address: SocketAddr, path: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "x").body(Body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(Body::new(response.into_body()), 1 << 20).await.unwrap();
    format!("{status}\n{}", String::from_utf8(body.to_vec()).unwrap())
}

/// A directory in which the files of a Secret are swapped as the kubelet does it.
struct Mounted(PathBuf);

impl Mounted {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("webhook-tls-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::os::unix::fs::symlink("..data/path-keys", path.join("path-keys")).unwrap();
        Self(path)
    }

    fn swap(&self, version: u32) -> CertificateDer<'static> {
        let (certificate, key, trusted) = pair();
        let directory = self.0.join(format!("..{version}"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("tls.crt"), certificate).unwrap();
        std::fs::write(directory.join("tls.key"), key).unwrap();
        std::fs::write(directory.join("path-keys"), crate::fake::keys().text()).unwrap();
        let next = self.0.join("..data_tmp");
        std::os::unix::fs::symlink(Path::new(&format!("..{version}")), &next).unwrap();
        std::fs::rename(&next, self.0.join("..data")).unwrap();
        trusted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("failed to remove {}: {error}", self.0.display());
        }
    }
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_process_from_start_to_end() {
    let fake = Fake::new();
    let directory = Mounted::new();
    fake.put(&namespace("a"), json!({"metadata": {"name": "a", "uid": "uid-a"}}));
    fake.put(CONFIGURATION, configuration());
    let (address, metrics_address) = (free().await, free().await);
    let config = Config {
        common: CommonArgs { metrics_address, log_format: LogFormat::Text, kubeconfig: None },
        policy: PlatformPolicy::built_in(),
        address,
        certificate_directory: directory.0.clone(),
        client_cas: None,
        webhook_configuration: "pure-chaos".to_owned(),
        drain: Duration::from_millis(700),
        agent_accounts: vec!["agent".to_owned()],
    };
    let end = CancellationToken::new();
    let process = tokio::spawn(serve(config, fake.client(), end.clone()));

    eventually("it listens", async || TcpStream::connect(metrics_address).await.is_ok()).await;
    assert!(get(metrics_address, "/livez").await.contains("200 OK"));
    assert!(get(metrics_address, "/readyz").await.contains("not ready: there is no serving certificate yet"));
    let old = directory.swap(1);
    eventually("it is ready", async || get(metrics_address, "/readyz").await.contains("200 OK")).await;

    // The files are swapped. No review fails, open connections go on, and new connections get the
    // new certificate.
    let mut connection = connect(address, &old).await.unwrap();
    let trusted = directory.swap(2);
    eventually("the new certificate", async || {
        assert_eq!(ask(&mut connection, json!({"chaos": "true"})).await.unwrap()["allowed"], false);
        connect(address, &trusted).await.is_ok()
    })
    .await;
    assert!(connect(address, &old).await.is_err());

    let mut connection = connect(address, &trusted).await.unwrap();
    assert_eq!(ask(&mut connection, json!({"chaos": "true"})).await.unwrap()["status"]["code"], 422);
    eventually("metrics", async || {
        let text = get(metrics_address, "/metrics").await;
        text.contains("pure_chaos_admissions_total{decision=\"deny\",rule=\"opt-in\"}")
            && !text.contains("pure_chaos_admissions_total{decision=\"deny\",rule=\"opt-in\"} 0")
            && !text.contains("pure_chaos_certificate_not_after_timestamp_seconds{role=\"serving\"} 0")
            && text.contains("pure_chaos_policy_info{hash=")
    })
    .await;

    end.cancel();
    eventually("it is not ready any more", async || {
        get(metrics_address, "/readyz").await.contains("not ready: ending")
    })
    .await;
    // The webhook still records an admission of the drain, even if it is stored after the last
    // answer.
    assert_eq!(ask(&mut connection, json!({"chaos": "yes"})).await.unwrap()["allowed"], true);
    eventually("the server is gone", async || TcpStream::connect(address).await.is_err()).await;
    fake.namespace("a", json!({"chaos": "yes"}));
    eventually("the record", async || fake.verdict("a") == "Admitted").await;
    process.await.unwrap().unwrap();
    assert!(fake.binding("a").is_some());
}
