//! What `docs/halt-by-alert.md` says, with Debian's Alertmanager and webhook beside the cluster, and the rights of the receiver's account.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubectl, metrics, object, run};
use tests::repository::{read, root};

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
        kubectl(&["annotate", "namespace", "pure-chaos", "purechaos.dev/halt-"]);
        kubectl(&["delete", "namespace", "monitoring", "--ignore-not-found", "--wait=false"]);
        let ours = [
            "-n",
            "pure-chaos",
            "delete",
            "role/halt-by-alert",
            "rolebinding/halt-by-alert",
            "--ignore-not-found",
        ];
        kubectl(&ours);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A kubeconfig with the rights of the receiver's account.
fn kubeconfig_of_account(folder: &Path) -> PathBuf {
    let token = kubectl(&["-n", "monitoring", "create", "token", "halt-by-alert"]).succeeds();
    let text = kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]).succeeds();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    let file = folder.join("kubeconfig");
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

fn start_receiver(folder: &Path, port: u16) -> Running {
    let path =
        [root().join("docs/halt-by-alert"), root().join(".cluster/bin"), "/usr/bin".into(), "/bin".into()];
    let mut webhook = Command::new("webhook");
    webhook.args(["-hooks", root().join("docs/halt-by-alert/hooks.json").to_str().unwrap()]);
    webhook.args(["-http-methods", "POST", "-ip", "127.0.0.1", "-port", &port.to_string(), "-verbose"]);
    webhook.env("PATH", std::env::join_paths(path).unwrap());
    webhook.env("KUBECONFIG", kubeconfig_of_account(folder));
    let log = std::fs::File::create(folder.join("webhook.log")).unwrap();
    Running(webhook.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
}

fn start_alertmanager(folder: &Path, receiver: u16, port: u16) -> Running {
    let there = "http://halt-by-alert.monitoring.svc:9000/";
    let config = read("docs/halt-by-alert/alertmanager.yml");
    assert!(config.contains(there));
    let file = folder.join("alertmanager.yml");
    std::fs::write(&file, config.replace(there, &format!("http://127.0.0.1:{receiver}/"))).unwrap();
    let mut alertmanager = Command::new("prometheus-alertmanager");
    alertmanager.arg(format!("--config.file={}", file.display()));
    alertmanager.arg(format!("--storage.path={}", folder.join("data").display()));
    alertmanager.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    alertmanager.arg("--cluster.listen-address=");
    let log = std::fs::File::create(folder.join("alertmanager.log")).unwrap();
    Running(alertmanager.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
}

fn halt() -> Value {
    object(&["namespace", "pure-chaos"])["metadata"]["annotations"]["purechaos.dev/halt"].clone()
}

#[test]
fn an_alert_of_ones_own_choice_stops_all_chaos() {
    let folder = Folder(root().join(format!("target/halt-by-alert-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let namespace = Namespace::new("alerted");
    namespace.opt_in(&["purechaos.dev/schedule=every 12h"]);
    kubectl(&["create", "namespace", "monitoring"]).succeeds();
    let file = root().join("docs/halt-by-alert/receiver.yaml");
    kubectl(&["apply", "-f", file.to_str().unwrap()]).succeeds();

    // Its account may do nothing else.
    let account = "--as=system:serviceaccount:monitoring:halt-by-alert";
    for (verb, what, place) in [
        ("patch", "namespaces", namespace.name.as_str()),
        ("delete", "namespaces", "pure-chaos"),
        ("delete", "pods", "pure-chaos"),
        ("patch", "optins.purechaos.dev", namespace.name.as_str()),
    ] {
        let output = kubectl(&["auth", "can-i", verb, what, "-n", place, account]);
        assert_eq!(output.stdout.trim(), "no", "{verb} {what} in {place}");
    }

    let (receiver, port) = (free_port(), free_port());
    let _webhook = start_receiver(&folder.0, receiver);
    let _alertmanager = start_alertmanager(&folder.0, receiver, port);
    let address = format!("--alertmanager.url=http://127.0.0.1:{port}");
    let alert =
        |labels: &[&str]| run(Command::new("amtool").arg(&address).args(["alert", "add"]).args(labels));
    // Another alert is nobody's business.
    eventually("Alertmanager", || alert(&["alertname=DiskFull", "severity=page"]).ok.then_some(()));
    alert(&["alertname=PaymentsFail", "halts_chaos=yes"]).succeeds();
    eventually("the halt", || (!halt().is_null()).then_some(()));
    assert_eq!(halt(), "alert PaymentsFail");
    eventually("the metric", || metrics().lines().any(|line| line == "pure_chaos_halted 1").then_some(()));

    // What a person has set stays: an alert more changes nothing.
    kubectl(&["annotate", "--overwrite", "namespace", "pure-chaos", "purechaos.dev/halt=incident 4714"])
        .succeeds();
    alert(&["alertname=OrdersFail", "halts_chaos=yes"]).succeeds();
    eventually("the second alert at the receiver", || {
        let log = std::fs::read_to_string(folder.0.join("webhook.log")).unwrap();
        (log.matches("finished handling halt").count() >= 2).then_some(())
    });
    assert_eq!(halt(), "incident 4714");
}
