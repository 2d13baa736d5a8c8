//! Dependencies that must not exist: `policy` depends neither on a runtime nor on a Kubernetes
//! client, a released binary not on the tests' API, rules do no I/O, the agent's subcommands don't
//! know one another, and the observer of recoveries depends on nothing of the agent, because it
//! checks the agent. Files stay short.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::repository::{read, root};

/// The crates that a package contains when it is built without its tests.
fn crates_of(package: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--locked",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn policy_depends_on_no_runtime_and_no_client() {
    let crates = crates_of("policy");
    assert!(crates.contains("kube-core"), "the record's type comes from there: {crates:?}");
    for forbidden in ["tokio", "hyper", "kube-client", "kube-runtime", "rand", "runtime"] {
        assert!(!crates.contains(forbidden), "policy depends on {forbidden}");
    }
}

#[test]
fn no_released_binary_contains_the_fake_api() {
    for package in ["agent", "webhook", "certs", "kubectl-chaos"] {
        let crates = crates_of(package);
        assert!(crates.contains("kube") && !crates.contains("fake-api"), "{package}: {crates:?}");
    }
}

/// A file, or the Rust files below a folder.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            found.append(&mut sources(&path));
        }
    }
    found
}

/// The lines of code with one of these words, as `file: line`. Comments and unit tests don't count.
fn lines_with(paths: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let is_test = |path: &PathBuf| {
        path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
    };
    let files = paths.iter().flat_map(|path| sources(&root().join(path)));
    for path in files.filter(|path| !is_test(path)) {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.filter(|line| words.iter().any(|word| line.contains(word)));
        found.extend(code.map(|line| format!("{}: {}", path.display(), line.trim())));
    }
    found
}

#[test]
fn rules_do_no_io() {
    let rules = [
        "policy/src",
        "agent/src/guard.rs",
        "agent/src/guard",
        "agent/src/recovery.rs",
        "agent/src/round/due.rs",
        "agent/src/round/select.rs",
        "agent/src/round/outage.rs",
        "agent/src/leader_election/rule.rs",
        "agent/src/telemetry/fact.rs",
        "webhook/src/admission/decide.rs",
        "webhook/src/admission/decide",
        "certs/src/rotation/plan.rs",
    ];
    let io = [".await", "async fn", "kube::Client", "kube::Api", "std::fs", "std::env"];
    assert_eq!(lines_with(&rules, &io), Vec::<String>::new());
}

#[test]
fn subcommands_do_not_know_one_another() {
    for (files, others) in [
        (&["agent/src/run.rs"][..], &["crate::once", "crate::explain"][..]),
        (&["agent/src/once.rs", "agent/src/once"], &["crate::run::", "crate::explain"]),
        (
            &["agent/src/explain.rs", "agent/src/explain"],
            &["crate::run::", "crate::once", "crate::controller", "crate::round", "crate::telemetry"],
        ),
    ] {
        assert_eq!(lines_with(files, others), Vec::<String>::new());
    }
}

#[test]
fn the_observer_of_recoveries_shares_no_code_with_the_agent() {
    for file in ["tests/bin/observer.rs", "tests/support/truth.rs"] {
        let text = read(file);
        for ours in ["agent::", "policy::", "runtime::", "webhook::", "tests::", "crate::"] {
            let uses = |line: &&str| line.contains(ours) && !line.contains("kube::runtime::");
            let found: Vec<&str> = text.lines().filter(uses).collect();
            assert!(found.is_empty(), "{file} uses {ours} {found:?}");
        }
    }
}

#[test]
fn no_file_is_too_long_to_be_about_one_thing() {
    let parts = ["policy", "webhook", "agent", "certs", "plugin", "runtime", "tests"];
    let long = parts.iter().flat_map(|part| sources(&root().join(part))).filter_map(|path| {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        (lines > 400).then(|| format!("{}: {lines} lines", path.display()))
    });
    assert_eq!(long.collect::<Vec<_>>(), Vec::<String>::new());
}
