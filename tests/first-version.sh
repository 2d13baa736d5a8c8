#!/usr/bin/env bash
# Builds the first version's images from the repository's history and pushes them to REGISTRY. Then
# the script writes target/first-version/manifests, a kustomization of the first version's manifests
# with these images. With --check, the script only checks whether this clone has that history. With
# --build, it only compiles. The first version is the commit in which Pure Chaos first worked from
# end to end.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=5ac9351
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "This clone lacks the history with commit $commit, the first version: git fetch --unshallow" >&2
    exit 3
fi
[[ ${1:-} != --check ]] || exit 0
folder="$PWD/target/first-version"
if [[ ! -x $folder/built/agent ]]; then
    rm -rf "$folder"
    mkdir -p "$folder/source"
    git archive "$commit" | tar --extract --directory "$folder/source"
    echo "Build of the first version ($commit)"
    # The build optimizes as usual, but not across crates. That would take minutes, and does not
    # affect the tests.
    (cd "$folder/source" && env -u CARGO_TARGET_DIR RUSTFLAGS="-C target-feature=+crt-static" \
        cargo --config 'profile.dist.lto=false' --config 'profile.dist.codegen-units=16' build --quiet --locked --profile dist \
        --target x86_64-unknown-linux-gnu --bin agent --bin webhook --bin certs)
    mkdir "$folder/built"
    cp "$folder"/source/target/x86_64-unknown-linux-gnu/dist/{agent,webhook,certs} "$folder/built"
    rm -rf "$folder/source/target"
fi
[[ ${1:-} != --build ]] || exit 0
: "${REGISTRY:?}"
(cd "$folder/source" && BIN_DIR="$folder/built" TAG=first tests/images.sh)
mkdir -p "$folder/manifests"
cat >"$folder/manifests/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../source/manifests/overlays/test]
images:
  - {name: chaos, newName: $REGISTRY/chaos, newTag: first}
  - {name: chaos-webhook, newName: $REGISTRY/chaos-webhook, newTag: first}
  - {name: chaos-certs, newName: $REGISTRY/chaos-certs, newTag: first}
END
