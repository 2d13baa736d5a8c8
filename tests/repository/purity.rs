//! Dependencies that must not exist: `policy` depends neither on a runtime nor on a Kubernetes
//! client, and the observer of recoveries depends on nothing of the agent, because it checks the
//! agent.

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

#[test]
fn the_observer_of_recoveries_shares_no_code_with_the_agent() {
    for file in ["tests/bin/observer.rs", "tests/support/truth.rs"] {
        let text = tests::repository::read(file);
        for ours in ["agent::", "policy::", "runtime::", "webhook::", "tests::", "crate::"] {
            let uses = |line: &&str| line.contains(ours) && !line.contains("kube::runtime::");
            let found: Vec<&str> = text.lines().filter(uses).collect();
            assert!(found.is_empty(), "{file} uses {ours} {found:?}");
        }
    }
}
