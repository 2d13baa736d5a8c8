//! Compares the groups of tests that `make test` runs with those that there are. A group that no
//! line of `tests/run.sh` names would never run.

use tests::repository::{read, root};

/// The groups in these lists of `tests/run.sh`.
fn listed(names: &[&str]) -> Vec<String> {
    let script = read("tests/run.sh");
    let list = |name: &&str| {
        let (_, list) = script.split_once(&format!("\n{name}=(")).unwrap();
        list.split_once(')').unwrap().0.to_owned()
    };
    let mut groups: Vec<String> = names
        .iter()
        .map(list)
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    groups.sort();
    groups
}

/// The files of tests below a folder of `tests`, as `tests/run.sh` names them.
fn files(folder: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("tests").join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            found.push(format!("{prefix}{module}"));
        }
    }
    found.sort();
    found
}

#[test]
fn make_test_runs_every_group() {
    assert_eq!(listed(&["side_by_side"]), [files("e2e", "e2e/"), files("tools", "tools/")].concat());
    let folders = ["consent", "kills", "operations", "people", "safeguards"];
    let mut alone =
        folders.map(|folder| files(&format!("e2e_disruptive/{folder}"), &format!("{folder}/"))).concat();
    // It asks a Prometheus that somebody names.
    alone.retain(|group| group != "people/dashboard");
    let lists = ["first", "second", "between", "first_then", "second_then"];
    assert_eq!(listed(&lists), alone);
}
