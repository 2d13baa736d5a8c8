//! Checks the manifests against a real API server.

use std::process::Command;

use tests::cluster::{kubectl, run};
use tests::manifests::{ForeignKinds, Way, every_way};
use tests::repository::root;
use tests::schemas;
use tests::soak::is_soak;

#[test]
fn every_way_to_install_is_accepted_without_a_warning() {
    let _kinds = ForeignKinds::define();
    let ways = every_way();
    for Way { name, file } in &ways {
        let output = kubectl(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]);
        assert!(output.ok && output.stderr.is_empty(), "{name}: {}{}", output.stdout, output.stderr);
    }

    // A tool that knows no cluster does the same check, with the API server's own schemas.
    let folder = root().join("target/schemas");
    schemas::write(&kubectl(&["get", "--raw", "/openapi/v2"]).succeeds(), &folder);
    let conform = || {
        let mut command = Command::new(root().join(".cluster/bin/kubeconform"));
        let place = folder.join("{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json");
        command.args(["-strict", "-summary", "-schema-location", place.to_str().unwrap()]);
        command
    };
    let checked = run(conform().args(ways.iter().map(|way| &way.file))).succeeds();
    println!("{}", checked.trim());
    assert!(checked.contains("Invalid: 0, Errors: 0, Skipped: 0"), "{checked}");
    // The tool notices a wrong field.
    let wrong =
        std::fs::read_to_string(&ways[0].file).unwrap().replacen("containerPort:", "containerPorts:", 1);
    let file = root().join("target/ways/wrong.yaml");
    std::fs::write(&file, wrong).unwrap();
    let noticed = run(conform().arg(file));
    assert!(!noticed.ok && noticed.stdout.contains("containerPorts"), "{noticed:?}");
}

#[test]
fn the_agent_has_no_right_on_pods_where_nobody_opted_in() {
    let agent =
        ["--as=system:serviceaccount:pure-chaos:agent", "--as-group=system:serviceaccounts:pure-chaos"];
    for (verb, what) in [
        ("list", "pods"),
        ("delete", "pods"),
        ("create", "pods/eviction"),
        ("list", "namespaces"),
        ("update", "optins.purechaos.dev"),
    ] {
        let output = kubectl(&[&agent[..], &["auth", "can-i", verb, what, "-n", "kube-system"]].concat());
        assert_eq!(output.stdout.trim(), "no", "{verb} {what}");
    }
    let may = kubectl(&[&agent[..], &["auth", "can-i", "list", "optins.purechaos.dev", "-A"]].concat());
    assert_eq!(may.stdout.trim(), "yes");
}

#[test]
fn the_images_are_static_and_small() {
    let folder = root().join("target/static/amd64");
    // The agent also speaks HTTP/2, which costs a megabyte of disk and saves a megabyte of memory
    // for every few namespaces that it watches.
    for (binary, most) in [("agent", 16_000_000), ("webhook", 15_000_000), ("certs", 15_000_000)] {
        let size = std::fs::metadata(folder.join(binary)).unwrap().len();
        println!("{binary}: {:.1} MB", size as f64 / 1e6);
        // Only the long run builds the images as a release does.
        assert!(size < most || !is_soak(), "{binary} has {size} bytes, and its image holds nothing else");
        let linked = run(Command::new("ldd").arg(folder.join(binary)));
        assert!(format!("{}{}", linked.stdout, linked.stderr).contains("static"), "{linked:?}");
    }
}
