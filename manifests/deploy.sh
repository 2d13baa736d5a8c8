#!/usr/bin/env bash
# Installs Pure Chaos with the images of REGISTRY. The script returns when every Deployment is
# rolled out and the webhook answers.
set -euo pipefail
# shellcheck source=manifests/cluster.sh
. "$(dirname "$0")/cluster.sh"
registry="$("$ROOT/manifests/registry.sh")"

from="../../../manifests${OVERLAY:+/overlays/$OVERLAY}"
[[ -f $ROOT/manifests${OVERLAY:+/overlays/$OVERLAY}/kustomization.yaml ]] || {
    echo "OVERLAY=$OVERLAY: there is no manifests/overlays/$OVERLAY" >&2
    exit 2
}
if [[ ! -f $ROOT/target/images-tag ]]; then
    echo "There are no images yet: make images builds and pushes them." >&2
    exit 2
fi
tag="$(<"$ROOT/target/images-tag")"
folder="$ROOT/target/deploy/$(tr -c '[:alnum:]\n' - <<<"${CONTEXT:-$NAME}")"
mkdir -p "$folder"
cat >"$folder/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [$from]
images:
  - {name: chaos, newName: $registry/chaos, newTag: $tag}
  - {name: chaos-webhook, newName: $registry/chaos-webhook, newTag: $tag}
  - {name: chaos-certs, newName: $registry/chaos-certs, newTag: $tag}
END

kubectl apply -k "$folder"
# While a new definition has no conditions, kubectl wait fails at once instead of waiting.
attempts=20
until said="$(kubectl wait --for=condition=Established --timeout=1s crd/optins.purechaos.dev 2>&1)"; do
    ((attempts--)) || { echo "$said" >&2; exit 1; }
    sleep 0.5
done
for part in certs webhook agent; do
    kubectl -n pure-chaos rollout status --timeout=120s "deployment/$part"
done

# Ready Pods are not enough. The API server reaches the webhook only when the configuration contains
# the CA of the webhook's certificate.
for _ in {1..60}; do
    answer="$(kubectl annotate namespace pure-chaos chaos=yes --dry-run=server 2>&1 || true)"
    if [[ $answer == *'admission webhook "opt-in.purechaos.dev" denied the request'* ]]; then
        echo "Pure Chaos is installed, and its webhook answers."
        exit
    fi
    sleep 0.5
done
echo "The webhook does not answer: $answer" >&2
echo "See: $spoken -n pure-chaos get pods; $spoken -n pure-chaos logs deployment/webhook" >&2
exit 1
