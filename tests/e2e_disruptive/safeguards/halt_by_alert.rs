//! Does what `docs/halt-by-alert.md` says, with Debian's Alertmanager and webhook beside the
//! cluster, and with the rights of the receiver's account.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubectl, metrics, object, run, within};
use tests::repository::{read, root};

/// Alertmanager sends an alert that still fires again after a minute, at its next look, which comes
/// every 30 s.
const AGAIN: Duration = Duration::from_secs(120);

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
        for kind in ["validatingadmissionpolicy", "validatingadmissionpolicybinding"] {
            kubectl(&["delete", kind, "halt-by-alert.purechaos.dev", "--ignore-not-found"]);
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A kubeconfig with the rights of the receiver's account.
fn kubeconfig_of_account(folder: &Path) -> PathBuf {
    let token = kubectl(&["-n", "monitoring", "create", "token", "halt-by-alert"]).succeeds();
    kubeconfig_with(folder, "kubeconfig", token.trim())
}

fn kubeconfig_with(folder: &Path, name: &str, token: &str) -> PathBuf {
    let text = kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]).succeeds();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["users"][0]["user"] = json!({"token": token});
    let file = folder.join(name);
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

fn start_receiver(kubeconfig: &Path, port: u16) -> Running {
    let path =
        [root().join("docs/halt-by-alert"), root().join(".cluster/bin"), "/usr/bin".into(), "/bin".into()];
    let mut webhook = Command::new("webhook");
    webhook.args(["-hooks", root().join("docs/halt-by-alert/hooks.json").to_str().unwrap()]);
    webhook.args(["-http-methods", "POST", "-ip", "127.0.0.1", "-port", &port.to_string(), "-verbose"]);
    webhook.env("PATH", std::env::join_paths(path).unwrap());
    webhook.env("KUBECONFIG", kubeconfig);
    let log = std::fs::File::create(kubeconfig.with_extension("log")).unwrap();
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

/// The status with which a receiver answers Alertmanager's call.
fn status(port: u16) -> String {
    let call = json!({"status": "firing", "groupLabels": {"alertname": "Called"}}).to_string();
    let address = format!("http://127.0.0.1:{port}/hooks/halt");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "30"]);
    run(curl.args(["--header", "Content-Type: application/json", "--data", &call, &address])).stdout
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

    // The account may do nothing else.
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

    // With its own token, the account may do nothing to that Namespace except halt.
    let account = kubeconfig_of_account(&folder.0);
    let as_account = |arguments: &[&str]| {
        let mut command = Command::new(root().join(".cluster/bin/kubectl"));
        run(command.arg("--kubeconfig").arg(&account).args(arguments))
    };
    let label =
        ["label", "--overwrite", "namespace", "pure-chaos", "pod-security.kubernetes.io/enforce=privileged"];
    let refused = |arguments: &[&str], words: &str| as_account(arguments).fails_with(words);
    eventually("the policy", || {
        (!as_account(&[&label[..], &["--dry-run=server"]].concat()).ok).then_some(())
    });
    refused(&label, "change nothing else");
    refused(&["annotate", "namespace", "pure-chaos", "a=b"], "change or remove no annotation");

    // If the command fails, Alertmanager learns that from the answer.
    let broken = free_port();
    let _broken = start_receiver(&kubeconfig_with(&folder.0, "broken", "none"), broken);
    eventually("an answer of the receiver whose command fails", || (status(broken) == "500").then_some(()));
    assert!(halt().is_null());

    let (receiver, port) = (free_port(), free_port());
    let _webhook = start_receiver(&account, receiver);
    let _alertmanager = start_alertmanager(&folder.0, receiver, port);
    let address = format!("--alertmanager.url=http://127.0.0.1:{port}");
    let alert =
        |labels: &[&str]| run(Command::new("amtool").arg(&address).args(["alert", "add"]).args(labels));
    // Another alert changes nothing.
    eventually("Alertmanager", || alert(&["alertname=DiskFull", "severity=page"]).ok.then_some(()));
    alert(&["alertname=PaymentsFail", "halts_chaos=yes"]).succeeds();
    eventually("the halt", || (!halt().is_null()).then_some(()));
    assert_eq!(halt(), "alert PaymentsFail");
    eventually("the metric", || metrics().lines().any(|line| line == "pure_chaos_halted 1").then_some(()));

    for change in ["purechaos.dev/halt-", "purechaos.dev/halt=another"] {
        let arguments = ["annotate", "--overwrite", "namespace", "pure-chaos", change];
        refused(&arguments, "change or remove no annotation");
    }

    // A halt that a person has set stays, also without a reason. Another alert changes nothing.
    let handled = || {
        let log = std::fs::read_to_string(account.with_extension("log")).unwrap();
        log.matches("finished handling halt").count()
    };
    kubectl(&["annotate", "--overwrite", "namespace", "pure-chaos", "purechaos.dev/halt="]).succeeds();
    let before = handled();
    alert(&["alertname=OrdersFail", "halts_chaos=yes"]).succeeds();
    // The first call may be one that began before.
    within(AGAIN, "the second alert at the receiver", || (handled() >= before + 2).then_some(()));
    assert_eq!(halt(), "");

    // If somebody removes the halt while the alerts fire, the halt comes back.
    kubectl(&["annotate", "namespace", "pure-chaos", "purechaos.dev/halt-"]).succeeds();
    within(AGAIN, "the halt that comes back", || {
        halt().as_str().map(|text| assert!(text.starts_with("alert ")))
    });
}
