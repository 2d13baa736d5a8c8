//! `policy` is pure: neither a runtime nor a Kubernetes client is among its dependencies.

use std::process::Command;

#[test]
fn policy_depends_on_no_runtime_and_no_client() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "policy",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--locked",
            "--offline",
        ])
        .current_dir(tests::repository::root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let crates: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains(&"kube-core"), "the record's type comes from there: {tree}");
    for forbidden in ["tokio", "hyper", "kube-client", "kube-runtime", "rand", "runtime"] {
        assert!(!crates.contains(&forbidden), "policy depends on {forbidden}");
    }
}
