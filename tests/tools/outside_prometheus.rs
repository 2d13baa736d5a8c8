//! The checks of the steady state against a real Prometheus that is reached over HTTPS, as one
//! outside the cluster is.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::steady_state::Answer;
use agent::steady_state::prober::Prober;
use certs::x509::certificate::Pair;
use certs::x509::issue;
use jiff::Timestamp;
use policy::platform::PlatformPolicy;
use runtime::clock::SystemClock;
use serde_json::json;
use tests::fake_api::Api;
use tests::process::folder;

const DAY: Duration = Duration::from_secs(86_400);

/// A Prometheus that serves HTTPS under a path, and the authority that vouches for it.
struct Prometheus {
    child: Child,
    folder: PathBuf,
    url: String,
    ca: String,
}

impl Prometheus {
    fn start() -> Self {
        let ca = issue::ca(Timestamp::now(), DAY).unwrap();
        let pair = issue::serving(&ca, "localhost", Timestamp::now(), DAY).unwrap();
        let folder = folder("outside-prometheus");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("tls.crt", &pair.certificate().pem());
        write("tls.key", pair.key_pem());
        let web = json!({"tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"}});
        write("web.yml", &web.to_string());
        write("prometheus.yml", "{}");
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let at = |name: &str| folder.join(name).display().to_string();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", at("prometheus.yml")))
            .arg(format!("--web.config.file={}", at("web.yml")))
            .arg(format!("--storage.tsdb.path={}", at("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--web.route-prefix=/of/the/team")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let url = format!("https://localhost:{port}/of/the/team");
        Self { child, folder, url, ca: ca.certificate().pem() }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// The answer to an expression, by a Prometheus at this address that this authority vouches for.
async fn answer(url: &str, ca: &str, expression: &str) -> Answer {
    let file = json!({
        "prometheus": {"url": url, "ca": ca},
        "steadyState": {"mine": {"prometheus": expression, "within": "5s"}}
    });
    let checks = PlatformPolicy::parse(&file.to_string()).unwrap().steady_state;
    let prober = Prober::new(Api::default().client(), Arc::new(SystemClock), checks);
    prober.ask_one("learning-place", "mine", None).await.answer
}

fn authority() -> Pair {
    issue::ca(Timestamp::now(), DAY).unwrap()
}

#[tokio::test]
async fn a_prometheus_outside_the_cluster_answers_over_https() {
    let prometheus = Prometheus::start();
    let (url, ca) = (&prometheus.url, &prometheus.ca);
    let deadline = Instant::now() + Duration::from_secs(30);
    while answer(url, ca, "vector(1)").await != Answer::Holds {
        assert!(Instant::now() < deadline, "{:?}", answer(url, ca, "vector(1)").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let broken = |why: &str| Answer::Broken(format!("the result of its expression is {why}"));
    assert_eq!(answer(url, ca, "vector(0)").await, broken("0"));
    assert_eq!(answer(url, ca, "up{namespace=\"$namespace\"}").await, broken("empty"));
    let foreign = answer(url, &authority().certificate().pem(), "vector(1)").await;
    assert!(matches!(&foreign, Answer::Unknown(why) if why.starts_with("failed to ask: ")), "{foreign:?}");
    let nobody = answer("https://localhost:1", ca, "vector(1)").await;
    assert!(matches!(&nobody, Answer::Unknown(_)), "{nobody:?}");
    let odd = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n";
    let unread = answer(url, odd, "vector(1)").await;
    assert!(matches!(&unread, Answer::Unknown(_)), "{unread:?}");
}
