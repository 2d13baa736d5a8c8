//! The local cluster itself boots twice, survives a crash, and leaves nothing behind.

use std::process::Command;

use tests::cluster::{Output, run};
use tests::repository::root;

fn script(name: &str) -> Output {
    run(Command::new(root().join("hack/cluster").join(name)).env("NAME", "scratch"))
}

fn kubectl(arguments: &[&str]) -> Output {
    let kubeconfig = root().join(".cluster/scratch/kubeconfig");
    run(Command::new(root().join(".cluster/bin/kubectl")).arg("--kubeconfig").arg(kubeconfig).args(arguments))
}

#[test]
fn it_boots_crashes_boots_again_and_leaves_nothing() {
    script("down.sh").succeeds();
    assert_eq!(script("leftovers.sh").succeeds(), "", "something was there before");
    assert!(!script("status.sh").ok, "status says that nothing runs");

    script("up.sh").succeeds();
    let status = script("status.sh").succeeds();
    assert!(status.contains("scratch"), "{status}");
    // Both were found by their names on a path that may also contain another version's.
    let version = status.lines().find_map(|line| line.trim().strip_prefix("kubernetes ")).unwrap().trim();
    let api_server = kubectl(&["get", "--raw", "/version"]).succeeds();
    assert!(api_server.contains(&format!("\"gitVersion\": \"v{version}.")), "{version}: {api_server}");
    let kubelet =
        kubectl(&["get", "node", "node", "-o", "jsonpath={.status.nodeInfo.kubeletVersion}"]).succeeds();
    assert!(kubelet.starts_with(&format!("v{version}.")), "{version}: {kubelet}");
    let mut another = Command::new(root().join("hack/cluster/up.sh"));
    run(another.env("NAME", "scratch").env("KUBERNETES", "1.0"))
        .fails_with(&format!("runs Kubernetes {version}"));

    kubectl(&["create", "namespace", "kept"]).succeeds();
    let again = script("up.sh").succeeds();
    assert!(again.contains("running"), "{again}");

    // The crash: the cluster's first process dies, and all other processes with it.
    let mut crash = Command::new("bash");
    crash.current_dir(root()).env("NAME", "scratch");
    crash.args(["-c", ". hack/cluster/env.sh && kill -9 \"$(node_process)\""]);
    run(&mut crash).succeeds();
    assert!(!script("status.sh").ok);
    script("up.sh").succeeds();
    kubectl(&["get", "namespace", "kept"]).succeeds();

    script("down.sh").succeeds();
    assert_eq!(script("leftovers.sh").succeeds(), "", "something is left");
    assert!(!root().join(".cluster/scratch").exists());
    script("down.sh").succeeds();
}
