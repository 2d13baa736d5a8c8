//! The manifests against a real API server.

use std::process::Command;

use tests::cluster::{kubectl, run};
use tests::repository::root;

#[test]
fn every_overlay_is_accepted_without_a_warning() {
    for folder in ["manifests", "manifests/overlays/demo", "manifests/overlays/test"] {
        let path = root().join(folder);
        let output = kubectl(&["apply", "--dry-run=server", "-k", path.to_str().unwrap()]);
        assert!(output.ok && output.stderr.is_empty(), "{folder}: {}{}", output.stdout, output.stderr);
    }
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
fn the_images_are_small() {
    let folder = root().join("target/x86_64-unknown-linux-gnu/dist");
    for binary in ["agent", "webhook", "certs"] {
        let size = std::fs::metadata(folder.join(binary)).unwrap().len();
        println!("{binary}: {:.1} MB", size as f64 / 1e6);
        assert!(size < 15_000_000, "{binary} has {size} bytes, and its image holds nothing else");
        let linked = run(Command::new("ldd").arg(folder.join(binary)));
        assert!(format!("{}{}", linked.stdout, linked.stderr).contains("static"), "{linked:?}");
    }
}
