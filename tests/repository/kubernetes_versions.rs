//! The Kubernetes versions that the local cluster can run. The test compares their Go modules with
//! each other and with the documents.

use std::collections::BTreeSet;

use tests::repository::{read, root};

/// The versions without their patch, from the names of the older versions' modules.
fn older() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("hack/cluster")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_prefix("kubernetes-").map(str::to_owned)).collect()
}

fn module(version: Option<&str>) -> String {
    read(&version.map_or("hack/cluster/kubernetes/go.mod".to_owned(), |version| {
        format!("hack/cluster/kubernetes-{version}/go.mod")
    }))
}

/// The version as in `v1.37.2`.
fn kubernetes(module: &str) -> &str {
    let line = module.lines().find_map(|line| line.strip_prefix("\tk8s.io/kubernetes v"));
    line.unwrap().split(' ').next().unwrap()
}

fn tools(module: &str) -> BTreeSet<&str> {
    let block = module.split("\ntool (\n").nth(1).unwrap().split("\n)").next().unwrap();
    block.lines().map(str::trim).collect()
}

#[test]
fn an_older_version_replaces_every_part_whose_version_matters() {
    let newest = module(None);
    // If the older version's folder lacks a tool, the node would use the newest version's tool.
    // That is intended only for kubectl.
    let wanted: BTreeSet<&str> = tools(&newest)
        .into_iter()
        .filter(|tool| tool.starts_with("k8s.io/kubernetes/cmd/") || tool.starts_with("go.etcd.io/"))
        .filter(|tool| !tool.ends_with("/kubectl"))
        .collect();
    assert!(wanted.len() > 6, "{wanted:?}");
    assert!(!older().is_empty());
    for version in older() {
        assert_eq!(tools(&module(Some(&version))), wanted, "{version}");
    }
}

#[test]
fn every_part_of_a_version_is_of_that_version() {
    let mut modules = vec![(None, module(None))];
    for version in older() {
        let module = module(Some(&version));
        assert!(
            kubernetes(&module).starts_with(&format!("{version}.")),
            "{version}: {}",
            kubernetes(&module)
        );
        modules.push((Some(version), module));
    }
    for (version, module) in &modules {
        let of_parts = format!("v0.{}", kubernetes(module).strip_prefix("1.").unwrap());
        let replaced: Vec<&str> = module.lines().filter_map(|line| line.split(" => ").nth(1)).collect();
        assert!(replaced.len() > 25, "{version:?}: {replaced:?}");
        for part in replaced {
            assert!(part.ends_with(&format!(" {of_parts}")), "{version:?}: {part}, and not {of_parts}");
        }
    }
}

#[test]
fn the_documents_name_the_versions() {
    let newest = module(None);
    let newest = kubernetes(&newest).rsplit_once('.').unwrap().0;
    for document in ["CONTRIBUTING.md", "Makefile"] {
        let text = read(document);
        assert!(text.contains(newest), "{document}: {newest}");
        for version in older() {
            assert!(text.contains(&format!("KUBERNETES={version}")), "{document}: {version}");
        }
    }
}
