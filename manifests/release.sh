#!/usr/bin/env bash
# Writes target/install.yaml: all of Pure Chaos in one file, with the images of REGISTRY at this version, for `kubectl apply -f`.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z ${REGISTRY:-} ]]; then
    echo "REGISTRY=... says where the images of this version are." >&2
    exit 2
fi
PATH="$PWD/.cluster/bin:$PATH"
if ! command -v kubectl >/dev/null; then
    echo "kubectl is missing. Install it, or make cluster-up, which builds one into .cluster/bin." >&2
    exit 2
fi
version="$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)"
mkdir -p target/release-manifests
cat >target/release-manifests/kustomization.yaml <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../manifests${OVERLAY:+/overlays/$OVERLAY}]
images:
  - {name: chaos, newName: $REGISTRY/chaos, newTag: $version}
  - {name: chaos-webhook, newName: $REGISTRY/chaos-webhook, newTag: $version}
  - {name: chaos-certs, newName: $REGISTRY/chaos-certs, newTag: $version}
END
kubectl kustomize target/release-manifests >target/install.yaml.new
mv target/install.yaml.new target/install.yaml
echo "target/install.yaml: Pure Chaos $version from $REGISTRY"
