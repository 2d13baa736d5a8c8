//! The webhook as a process of its own, with a fake API server in this process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cgroup::Cgroup;

/// A child process, which ends with this value.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Running {
    /// Resident memory in MiB: all of it, and the part that is not the program's own file.
    #[must_use]
    pub fn resident_mib(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let of = |what: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("it runs");
            line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
        };
        (of("VmRSS:"), of("RssAnon:"))
    }

    /// The CPU time that the process has used.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // The fields after the name; the name itself may contain anything. A tick is 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        Duration::from_millis(
            10 * fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>(),
        )
    }
}

/// An address on loopback that nothing listens on.
#[must_use]
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A kubeconfig for an API server that asks for no credentials.
#[must_use]
pub fn kubeconfig_of(address: SocketAddr) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "here", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}]
    });
    config.to_string()
}

/// What the test starts a webhook's process with. Apart from `program`, everything lies in the
/// folder `work`: `kubeconfig`, `tls.crt`, `tls.key`.
#[derive(Debug)]
pub struct WebhookProcess<'a> {
    /// The binary.
    pub program: &'a Path,
    /// The folder. The process writes its output there as well.
    pub work: &'a Path,
    /// The platform's policy.
    pub policy: &'a str,
    /// The cgroup that the process runs in, if it has a limit.
    pub cgroup: Option<&'a Cgroup>,
}

/// A webhook's process that is ready.
#[derive(Debug)]
pub struct Ready {
    /// The process.
    pub running: Running,
    /// The address for reviews.
    pub address: SocketAddr,
    /// The address for metrics.
    pub metrics: SocketAddr,
    /// How long the process took to become ready.
    pub took: Duration,
}

impl WebhookProcess<'_> {
    /// Starts the process, and waits until it is ready.
    #[must_use]
    pub fn start(&self) -> Ready {
        let Self { program, work, policy, cgroup } = self;
        let (address, metrics) = (free_address(), free_address());
        let policy_file = work.join("policy.yaml");
        std::fs::write(&policy_file, policy).unwrap();
        // The log goes into a file, as a container's log goes through a pipe or into a file.
        let log = std::fs::File::create(work.join("webhook.log")).unwrap();
        let begun = Instant::now();
        let program = program.to_str().unwrap();
        let mut command = cgroup.map_or_else(|| Command::new(program), |cgroup| cgroup.command(program));
        let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        let child = command
            .arg("run")
            .arg(flag("kubeconfig", &work.join("kubeconfig").display()))
            .arg(flag("policy-file", &policy_file.display()))
            .arg(flag("certificate-directory", &work.display()))
            .arg(flag("address", &address))
            .arg(flag("metrics-address", &metrics))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Running(child);
        while get(metrics, "/readyz").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the webhook does not become ready");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ready { running, address, metrics, took: begun.elapsed() }
    }
}

/// The body of the answer over plain HTTP, if its status is 200.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let body = answer.strip_prefix("HTTP/1.1 200")?.split_once("\r\n\r\n")?.1;
    Some(body.to_owned())
}

/// A new empty folder below `target`.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    let folder = crate::repository::root().join("target").join(name);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
