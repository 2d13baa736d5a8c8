//! The manifests, as kustomize renders them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{PATIENCE, eventually, kubeconfig, kubectl, run};
use crate::repository::root;

/// One way to install.
#[derive(Debug)]
pub struct Way {
    /// A name for messages.
    pub name: String,
    /// A file below `target` with the objects of this way.
    pub file: PathBuf,
}

/// Every way to install: the base, each overlay, the base with each component, and the one file of
/// `make release-manifests`.
pub fn every_way() -> Vec<Way> {
    let mut ways = vec![written("manifests", &kustomize(&root().join("manifests")))];
    for overlay in folders("overlays") {
        ways.push(written(&format!("overlay-{}", name(&overlay)), &kustomize(&overlay)));
    }
    for component in folders("components") {
        let name = name(&component);
        ways.push(written(&format!("component-{name}"), &with_component(&name)));
    }
    let mut release = Command::new(root().join("manifests/release.sh"));
    run(release.env("REGISTRY", "registry.example.com/chaos").env_remove("OVERLAY")).succeeds();
    ways.push(Way { name: "install.yaml".to_owned(), file: root().join("target/install.yaml") });
    ways
}

fn written(name: &str, yaml: &str) -> Way {
    let folder = root().join("target/ways");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, yaml).unwrap();
    Way { name: name.to_owned(), file }
}

/// Runs a script of this repository against the test cluster, as `make` would with overlay `test`.
pub fn script(path: &str) -> String {
    let mut command = Command::new(root().join(path));
    command.env("NAME", cluster_name()).env("OVERLAY", "test");
    run(command.env_remove("CONTEXT").env_remove("REGISTRY")).succeeds()
}

/// The test cluster's name, which is the name of its folder.
pub fn cluster_name() -> String {
    let kubeconfig = PathBuf::from(kubeconfig());
    kubeconfig.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned()
}

/// The test cluster's own registry.
pub fn registry() -> String {
    let file = PathBuf::from(kubeconfig()).with_file_name("registry");
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// What base and component render to together.
pub fn with_component(component: &str) -> String {
    // The folder is inside the repository, because a kustomization names others by relative paths.
    let folder = root().join(format!("target/with-{component}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["../../manifests/base"], "components": [format!("../../manifests/components/{component}")],
    });
    std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    let yaml = kustomize(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    yaml
}

/// Waits until the API server serves these CustomResourceDefinitions.
///
/// While a new definition has no conditions, `kubectl wait` fails at once instead of waiting:
/// kubernetes/kubernetes#66439.
#[track_caller]
pub fn established(definitions: &[&str]) {
    eventually("the definitions are established", || {
        kubectl(&[&["wait", "--for=condition=Established", "--timeout=10s"], definitions].concat())
            .ok
            .then_some(())
    });
}

/// The kinds of other projects that components use, defined on the test cluster until this value is
/// dropped.
pub struct ForeignKinds(Vec<String>);

impl ForeignKinds {
    /// Defines the kinds.
    pub fn define() -> Self {
        let mut script = Command::new(root().join("hack/cluster/crds.sh"));
        let files: Vec<String> = run(&mut script).succeeds().lines().map(str::to_owned).collect();
        assert!(!files.is_empty(), "no file defines them");
        for file in &files {
            // A client-side apply would make an annotation that is too long.
            kubectl(&["apply", "--server-side", "-f", file]).succeeds();
            established(&["-f", file]);
        }
        Self(files)
    }
}

impl Drop for ForeignKinds {
    fn drop(&mut self) {
        for file in &self.0 {
            kubectl(&["delete", "-f", file, "--ignore-not-found", "--timeout=60s"]);
        }
    }
}

/// Waits until the cluster contains nothing of Pure Chaos any more. Panics with what is left.
pub fn eventually_nothing_is_ours() {
    let begun = Instant::now();
    loop {
        let left = what_is_ours();
        if left.is_empty() {
            return;
        }
        // Some kinds disappear a moment after the CustomResourceDefinition.
        assert!(begun.elapsed() < PATIENCE, "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Everything that has the name or the label of Pure Chaos.
fn what_is_ours() -> Vec<String> {
    let kinds = kubectl(&["api-resources", "--verbs=list", "-o", "name"]).succeeds();
    // Events report the past, and expire without our help.
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let kinds = kinds.join(",");
    let all = kubectl(&["get", &kinds, "-A", "-o", "name"]).succeeds();
    let labelled =
        kubectl(&["get", &kinds, "-A", "-o", "name", "-l", "app.kubernetes.io/part-of=pure-chaos"])
            .succeeds();
    let is_called_so = |name: &&str| name.contains("pure-chaos") || name.contains("purechaos");
    all.lines().filter(is_called_so).chain(labelled.lines()).map(str::to_owned).collect()
}

fn kustomize(folder: &Path) -> String {
    kubectl(&["kustomize", folder.to_str().unwrap()]).succeeds()
}

fn folders(kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("manifests").join(kind)).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}
