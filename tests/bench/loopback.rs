//! The webhook's speed and size, on loopback and beside the floor.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::clock::{Clock, SystemClock};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tests::api::Api;
use tests::generator::{Outcome, Target};
use tests::repository::read;

/// What an API server keeps open to a busy webhook.
const CONNECTIONS: usize = 16;
const RATE: u32 = 1_000;
const NAMESPACES: usize = 5_000;
const REVIEWS: u64 = 1_000_000;

/// What a minimal Go webhook on controller-runtime 0.25 gave on two such cores: reviews a second, p99 in ms at 1,000 a second, MiB.
const GO: (f64, f64, f64) = (13_800.0, 1.4, 31.0);

/// A child process, ended with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Running {
    /// Resident memory in MiB: all of it, and what is not the program's own file.
    fn resident_mib(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let of = |what: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
            line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
        };
        (of("VmRSS:"), of("RssAnon:"))
    }
}

/// Measures the webhook that lies beside this program, and prints the table. What it writes goes into the folder `work`.
pub async fn run(work: &str) {
    let binaries = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let work = PathBuf::from(work);
    let ca = certificate(&work);
    let api = cluster().await;
    let kubeconfig = work.join("kubeconfig");
    std::fs::write(&kubeconfig, kubeconfig_of(api)).unwrap();

    tokio::task::spawn_blocking(move || measure(&binaries, &work, &kubeconfig, &ca)).await.unwrap();
}

fn measure(binaries: &Path, work: &Path, kubeconfig: &Path, ca: &CertificateDer<'static>) {
    let small = Arc::new(read("tests/data/opt-in.json").into_bytes());
    let large = Arc::new(large_review().into_bytes());
    let (webhook, address, ready) = start_webhook(binaries, work, kubeconfig, "requirePodDelete: false\n");
    let floor_address = free_address();
    let _floor = Running(
        Command::new(binaries.join("bench"))
            .args(["floor".as_ref(), floor_address.to_string().as_ref(), work.as_os_str()])
            .spawn()
            .unwrap(),
    );
    wait_for(floor_address);
    let target = |address, body: &Arc<Vec<u8>>| Target {
        address,
        ca: ca.clone(),
        path: "/opt-in",
        body: body.clone(),
    };
    let resident_at_first = webhook.resident_mib();
    println!(
        "bench: {NAMESPACES} Namespaces in its watch, {} of them opted in; {CONNECTIONS} connections",
        NAMESPACES / 10
    );

    // By turns, so that what else the machine does falls on both.
    let mut of_webhook = Vec::new();
    let mut of_floor = Vec::new();
    for turn in 0..3 {
        println!("bench: saturated, 3 kB, turn {} of 3", turn + 1);
        of_webhook.push(target(address, &small).saturate(CONNECTIONS, 60_000).rate());
        of_floor.push(target(floor_address, &small).saturate(CONNECTIONS, 60_000).rate());
    }
    println!("bench: {RATE} a second for 20 s each");
    let steady = target(address, &small).steady(CONNECTIONS, RATE, Duration::from_secs(20));
    let steady_floor = target(floor_address, &small).steady(CONNECTIONS, RATE, Duration::from_secs(20));
    let so_far = 3 * 60_000 + 20_000;
    println!("bench: the rest of {REVIEWS} reviews");
    let rest = target(address, &small).saturate(CONNECTIONS, REVIEWS - so_far);
    assert_eq!(rest.answers, REVIEWS - so_far);
    let resident = webhook.resident_mib();
    println!("bench: saturated, 1 MB");
    let large_webhook = target(address, &large).saturate(CONNECTIONS, 1_000).rate();
    let large_floor = target(floor_address, &large).saturate(CONNECTIONS, 1_000).rate();
    let resident_after_large = webhook.resident_mib();
    drop(webhook);

    println!("bench: with the question whether the user may delete Pods");
    let (asking, address, _) = start_webhook(binaries, work, kubeconfig, "");
    let asked = target(address, &small).saturate(CONNECTIONS, 10_000).rate();
    drop(asking);

    let (rate, floor) = (median(&mut of_webhook), median(&mut of_floor));
    let ms = |outcome: &Outcome| [0.5, 0.99, 0.999].map(|share| outcome.milliseconds(share));
    let ([p50, p99, p999], [f50, f99, f999]) = (ms(&steady), ms(&steady_floor));
    println!();
    println!("webhook, loopback, TLS, keep-alive            webhook      floor     ratio   to reach");
    println!(
        "reviews a second, 3 kB, saturated          {rate:>10.0} {floor:>10.0} {:>9.2}   0.8 of the floor",
        rate / floor
    );
    println!(
        "  a Go webhook of the same kind once gave  {:>10.0}            {:>9.2}   2 of that",
        GO.0,
        rate / GO.0
    );
    println!(
        "reviews a second, 1 MB, saturated          {large_webhook:>10.0} {large_floor:>10.0} {:>9.2}",
        large_webhook / large_floor
    );
    println!("p50 at {RATE} a second, ms                  {p50:>10.2} {f50:>10.2} {:>9.2}", p50 / f50);
    println!(
        "p99                                        {p99:>10.2} {f99:>10.2} {:>9.2}   under 1 (Go: {})",
        p99 / f99,
        GO.1
    );
    println!("p99.9                                      {p999:>10.2} {f999:>10.2} {:>9.2}", p999 / f999);
    for (what, (all, anonymous)) in [
        ("when it is ready", resident_at_first),
        ("after a million reviews of 3 kB", resident),
        ("and after 1,000 of 1 MB", resident_after_large),
    ] {
        println!(
            "MiB resident {what:<31} {all:>6.1}, the program's own pages left out {anonymous:.1}; under 16 (Go: {})",
            GO.2
        );
    }
    println!(
        "ms from start to ready                     {:>10.0}                        under 300",
        ready.as_secs_f64() * 1e3
    );
    println!(
        "reviews a second with the API server asked {asked:>10.0}                        one more call for each opt-in"
    );
    println!(
        "The floor is the same TLS and HTTP stack, which reads the body and answers a constant. The generator shares the machine with both."
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn wait_for(address: SocketAddr) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{address} does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts it, and says how long it took to become ready.
fn start_webhook(
    binaries: &Path,
    work: &Path,
    kubeconfig: &Path,
    policy: &str,
) -> (Running, SocketAddr, Duration) {
    let (address, metrics) = (free_address(), free_address());
    let policy_file = work.join("policy.yaml");
    std::fs::write(&policy_file, policy).unwrap();
    // What it logs goes where a container's goes: through a pipe or into a file.
    let log = std::fs::File::create(work.join("webhook.log")).unwrap();
    let begun = Instant::now();
    let child = Command::new(binaries.join("webhook"))
        .arg("run")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--policy-file={}", policy_file.display()))
        .arg(format!("--certificate-directory={}", work.display()))
        .arg(format!("--address={address}"))
        .arg(format!("--metrics-address={metrics}"))
        .stderr(log)
        .spawn()
        .unwrap();
    let running = Running(child);
    while !is_ready(metrics) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the webhook does not become ready");
        std::thread::sleep(Duration::from_millis(1));
    }
    (running, address, begun.elapsed())
}

fn is_ready(address: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return false };
    let mut answer = String::new();
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

fn certificate(work: &Path) -> CertificateDer<'static> {
    let day = Duration::from_secs(86_400);
    let now = SystemClock.wall();
    let ca = certs::issue::ca(now, day).unwrap();
    let pair = certs::issue::serving(&ca, "localhost", now, day).unwrap();
    std::fs::write(work.join("tls.crt"), pair.certificate().pem()).unwrap();
    std::fs::write(work.join("tls.key"), pair.key_pem()).unwrap();
    CertificateDer::from(ca.certificate().der().to_vec())
}

/// An API server on loopback with many Namespaces, as large as real ones are.
async fn cluster() -> SocketAddr {
    let api = Api::default();
    api.put("/api/v1/namespaces/pure-chaos", json!({"metadata": {"name": "pure-chaos", "uid": "system"}}));
    for number in 0..NAMESPACES {
        let name = format!("team-{number}");
        api.put(&format!("/api/v1/namespaces/{name}"), namespace(&name, number));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, api.router()).await.unwrap() });
    address
}

fn namespace(name: &str, number: usize) -> Value {
    let mut annotations = json!({
        "team.example.com/owner": format!("{name}@example.com"),
        "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"kind\":\"Namespace\",\"name\":\"{name}\"}}").repeat(8),
    });
    if number.is_multiple_of(10) {
        annotations["chaos"] = json!("yes");
    }
    let owned: serde_json::Map<String, Value> =
        annotations.as_object().unwrap().keys().map(|key| (format!("f:{key}"), json!({}))).collect();
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name, "uid": format!("00000000-0000-0000-0000-{number:012}"), "creationTimestamp": "2026-11-23T12:00:00Z",
            "labels": {"kubernetes.io/metadata.name": name}, "annotations": annotations,
            "managedFields": [{"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1", "time": "2026-11-23T12:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": owned, "f:labels": {"f:kubernetes.io/metadata.name": {}}}}}]
        },
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}
    })
}

fn kubeconfig_of(address: SocketAddr) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}]
    });
    config.to_string()
}

/// The recorded opt-in with as many other annotations as an API server takes (256 KiB), in both objects and their managedFields.
fn large_review() -> String {
    let mut review: Value = serde_json::from_str(&read("tests/data/opt-in.json")).unwrap();
    for object in ["object", "oldObject"] {
        let metadata = &mut review["request"][object]["metadata"];
        let mut owned = serde_json::Map::new();
        for number in 0..2_500 {
            let key = format!("team.example.com/setting-number-{number:05}");
            owned.insert(format!("f:{key}"), json!({}));
            metadata["annotations"][key] = json!("x".repeat(60));
        }
        let entry = |manager: &str| {
            json!({"manager": manager, "operation": "Update", "time": "2026-11-23T11:00:00Z",
            "fieldsV1": {"f:metadata": {"f:annotations": owned.clone()}}})
        };
        let entries = metadata["managedFields"].as_array_mut().expect("recorded with managedFields");
        entries.extend([entry("deployer"), entry("second-deployer")]);
    }
    review.to_string()
}
