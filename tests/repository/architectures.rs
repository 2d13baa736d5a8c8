//! The architectures of the images. The tests compare the Dockerfile, `hack/static.sh`, the
//! manifests and the page on installing.

use std::collections::BTreeSet;
use std::path::Path;

use tests::repository::{read, root};

/// The architectures that `hack/static.sh` compiles for.
fn architectures() -> Vec<String> {
    let script = read("hack/static.sh");
    let cases = script.lines().filter_map(|line| line.trim().split_once(") machine="));
    cases.map(|(architecture, _)| architecture.to_owned()).collect()
}

#[test]
fn the_page_on_installing_says_which_architectures_are_built() {
    let architectures = architectures();
    assert!(architectures.len() > 1, "{architectures:?}");
    let page = read("docs/install.md");
    let install =
        page.split("\n## Images and architectures\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let words = architectures.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
    assert!(install.contains(&words), "{words}");
    let platforms = architectures.iter().map(|name| format!("linux/{name}")).collect::<Vec<_>>().join(",");
    for (file, text) in [("docs/install.md", install), ("Dockerfile", &read("Dockerfile"))] {
        assert!(text.contains(&format!("--platform {platforms}")), "{file}: {platforms}");
    }
}

#[test]
fn each_image_holds_the_binary_of_its_own_architecture() {
    let dockerfile = read("Dockerfile");
    let mut stages = dockerfile.split("\nFROM ").skip(1);
    let build = stages.next().unwrap();
    // An emulated build would take hours.
    assert!(build.starts_with("--platform=$BUILDPLATFORM "), "{build}");
    assert!(build.contains("hack/static.sh \"$TARGETARCH\""), "{build}");
    let mut images = BTreeSet::new();
    for stage in stages {
        let name = stage.lines().next().unwrap().strip_prefix("scratch AS ").unwrap();
        // Without its declaration in a stage, the argument is empty there, and the path is that of
        // another file.
        let declared = stage.find("\nARG TARGETARCH\n").unwrap_or(usize::MAX);
        let copied = stage.find(&format!("\nCOPY --from=build /$TARGETARCH/{name} /{name}\n"));
        assert!(copied.is_some_and(|copied| declared < copied), "{stage}");
        images.insert(name.to_owned());
    }
    let script = read("hack/static.sh");
    // The images that are built if none is named.
    let made = script.rsplit("|| packages=(").next().unwrap().split(')').next().unwrap();
    assert_eq!(images, made.split(' ').map(str::to_owned).collect());
}

#[test]
fn the_image_is_compiled_by_the_pinned_rust() {
    let pinned = read("rust-toolchain.toml");
    let pinned = pinned.split("channel = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let dockerfile = read("Dockerfile");
    let image = dockerfile.split(" rust:").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(
        pinned.starts_with(&format!("{image}.")),
        "the Dockerfile has rust:{image}, rust-toolchain.toml {pinned}"
    );
}

#[test]
fn no_manifest_asks_for_an_architecture() {
    let mut seen = 0;
    look(&root().join("manifests"), &mut seen);
    assert!(seen > 20, "{seen}");
}

fn look(folder: &Path, seen: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, seen);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let words = architectures().into_iter().chain(["kubernetes.io/arch".to_owned()]);
        for word in words {
            assert!(!text.contains(&word), "{}: {word}", path.display());
        }
        *seen += 1;
    }
}
