//! Compares the groups of tests that `make test` runs with those that there are. A group that no
//! line of `tests/run.sh` names would never run.

use std::collections::BTreeSet;

use tests::repository::{read, root};

/// The groups in a list of `tests/run.sh`.
fn listed(name: &str) -> BTreeSet<String> {
    let script = read("tests/run.sh");
    let (_, list) = script.split_once(&format!("\n{name}=(\n")).unwrap();
    let (list, _) = list.split_once("\n)").unwrap();
    list.split_whitespace().map(str::to_owned).collect()
}

/// The files of tests below a folder of `tests`, as `tests/run.sh` names them.
fn files(folder: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("tests").join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            found.insert(format!("{prefix}{module}"));
        }
    }
    found
}

#[test]
fn make_test_runs_every_group() {
    let side_by_side = &files("e2e", "e2e/") | &files("tools", "tools/");
    assert_eq!(listed("side_by_side"), side_by_side);
    let mut alone = BTreeSet::new();
    for folder in ["consent", "kills", "operations", "people", "safeguards"] {
        alone.append(&mut files(&format!("e2e_disruptive/{folder}"), &format!("{folder}/")));
    }
    // It asks a Prometheus that somebody names.
    assert!(alone.remove("people/dashboard"));
    assert_eq!(listed("alone"), alone);
}
