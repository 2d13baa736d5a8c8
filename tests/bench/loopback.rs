//! The webhook's speed and size on loopback, beside the floor and beside a webhook on
//! controller-runtime.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tests::fake_api::Api;
use tests::generator::{Outcome, Target};
use tests::process::{Ready, Running, WebhookProcess, free_address, kubeconfig_of};
use tests::repository::read;
use tests::served::{self, path};

/// The number of connections that an API server keeps open to a busy webhook.
const CONNECTIONS: usize = 16;
const RATE: u32 = 1_000;
const NAMESPACES: usize = 5_000;
/// The number of reviews that the webhook answers in all.
const REVIEWS: u64 = 1_000_000;
/// The number of reviews in one turn.
const TURN: u64 = 60_000;

/// Measures the webhook whose binary is beside this program, and prints the table. The folder
/// `work` holds the program `controller-runtime`, and this program writes its output there.
pub async fn run(work: &str) {
    let binaries = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let work = PathBuf::from(work);
    let ca = certificate(&work);
    let api = cluster().await;
    std::fs::write(work.join("kubeconfig"), kubeconfig_of(api)).unwrap();

    tokio::task::spawn_blocking(move || measure(&binaries, &work, &ca)).await.unwrap();
}

/// One of the servers that are compared, and its measurements.
struct Compared {
    running: Running,
    address: SocketAddr,
    /// For each turn: reviews a second, and microseconds of CPU for each review.
    turns: Vec<(f64, f64)>,
    steady: Outcome,
    large: f64,
    /// MiB resident when ready, after all small reviews, and after the large ones.
    resident: Vec<(f64, f64)>,
}

impl Compared {
    fn new(running: Running, address: SocketAddr) -> Self {
        wait_for(address);
        let resident = vec![running.resident_mib()];
        Self { running, address, turns: Vec::new(), steady: Outcome::default(), large: 0.0, resident }
    }

    /// Starts a server that takes its address and the folder of its certificate as its last two
    /// arguments.
    fn start(program: PathBuf, first: Option<&str>, work: &Path) -> Self {
        let address = free_address();
        let log =
            std::fs::File::create(work.join(program.file_name().unwrap()).with_extension("log")).unwrap();
        let mut command = Command::new(program);
        command.args(first).arg(address.to_string()).arg(work).stderr(log);
        Self::new(Running(command.spawn().unwrap()), address)
    }

    fn saturate(&mut self, target: &Target, count: u64) -> f64 {
        let before = self.running.cpu();
        let outcome = Target { address: self.address, ..target.clone() }.saturate(CONNECTIONS, count);
        assert_eq!(outcome.answers, count);
        let cpu = self.running.cpu() - before;
        self.turns.push((outcome.rate(), cpu.as_secs_f64() * 1e6 / count as f64));
        outcome.rate()
    }

    fn rate(&self) -> f64 {
        median(self.turns.iter().map(|(rate, _)| *rate))
    }

    fn cpu(&self) -> f64 {
        median(self.turns.iter().map(|(_, cpu)| *cpu))
    }
}

fn measure(binaries: &Path, work: &Path, ca: &CertificateDer<'static>) {
    let target = |body: String| Target {
        address: free_address(),
        ca: ca.clone(),
        path: path("opt-in"),
        body: Arc::new(body.into_bytes()),
    };
    let (small, large) = (target(read("tests/data/opt-in.json")), target(large_review()));
    let Ready { running, address, took: ready, .. } = start(binaries, work, "requirePodDelete: false\n");
    let mut all = [
        Compared::new(running, address),
        Compared::start(binaries.join("bench"), Some("floor"), work),
        Compared::start(work.join("controller-runtime"), None, work),
    ];
    println!(
        "bench: {NAMESPACES} Namespaces in its watch, {} of them opted in; {CONNECTIONS} connections",
        NAMESPACES / 10
    );
    // The servers take turns, so that other work on the machine affects all of them.
    for turn in 0..3 {
        println!("bench: saturated, 3 kB, turn {} of 3", turn + 1);
        for one in &mut all {
            one.saturate(&small, TURN);
        }
    }
    println!("bench: {RATE} a second for 20 s each");
    for one in &mut all {
        let target = Target { address: one.address, ..small.clone() };
        one.steady = target.steady(CONNECTIONS, RATE, Duration::from_secs(20));
    }
    let so_far = 3 * TURN + 20 * u64::from(RATE);
    println!("bench: the webhook's rest of {REVIEWS} reviews");
    all[0].saturate(&small, REVIEWS - so_far);
    all[0].turns.pop();
    println!("bench: saturated, 1 MB");
    for one in &mut all {
        one.resident.push(one.running.resident_mib());
        one.large = one.saturate(&large, 1_000);
        one.turns.pop();
        one.resident.push(one.running.resident_mib());
    }
    println!("bench: with the question whether the user may delete Pods");
    let Ready { running: asking, address, .. } = start(binaries, work, "");
    let asked = Target { address, ..small }.saturate(CONNECTIONS, 10_000).rate();
    drop(asking);

    println!();
    println!("loopback, TLS, keep-alive                        webhook      floor   controller-runtime");
    let line = |what: &str, digits: usize, of: &dyn Fn(&Compared) -> f64| {
        let [webhook, floor, go] = all.each_ref().map(of);
        println!("{what:<46}{webhook:>10.digits$} {floor:>10.digits$} {go:>20.digits$}");
    };
    line("reviews a second, 3 kB, saturated", 0, &Compared::rate);
    line("µs of CPU for one; to reach: under 24", 1, &Compared::cpu);
    line("reviews a second, 1 MB, saturated", 0, &|one| one.large);
    for (what, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        line(&format!("{what} at {RATE} a second, ms"), 2, &|one| one.steady.milliseconds(share));
    }
    for (at, what) in
        ["when ready", "after the reviews of 3 kB", "and after 1,000 of 1 MB"].into_iter().enumerate()
    {
        line(&format!("MiB resident {what}"), 1, &|one| one.resident[at].0);
        line("  without the program's own file", 1, &|one| one.resident[at].1);
    }
    println!("The webhook answered {REVIEWS} reviews of 3 kB, the others {so_far}.");
    println!("From start to ready it took {:.0} ms; to reach: under 300.", ready.as_secs_f64() * 1e3);
    println!("With the API server asked for each opt-in: {asked:.0} a second.");
    println!(
        "The floor is the same TLS and HTTP stack, which reads the body and answers a constant. The generator shares the machine with all."
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn wait_for(address: SocketAddr) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{address} does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn start(binaries: &Path, work: &Path, policy: &str) -> Ready {
    WebhookProcess { program: &binaries.join("webhook"), work, policy, cgroup: None }.start()
}

/// Writes a serving certificate into the folder, and returns its CA.
fn certificate(work: &Path) -> CertificateDer<'static> {
    let (pem, key, ca) = served::certificate();
    std::fs::write(work.join("tls.crt"), pem).unwrap();
    std::fs::write(work.join("tls.key"), key).unwrap();
    std::fs::write(work.join(certs::path::segment::KEYS), served::keys().text()).unwrap();
    CertificateDer::from(ca)
}

/// An API server on loopback with many Namespaces, which are as large as real ones.
async fn cluster() -> SocketAddr {
    let api = Api::default();
    api.put("/api/v1/namespaces/pure-chaos", json!({"metadata": {"name": "pure-chaos", "uid": "system"}}));
    api.put(served::CONFIGURATION, served::configuration());
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

/// The recorded opt-in with as many other annotations as an API server accepts (256 KiB), in both
/// objects and in their managedFields.
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
