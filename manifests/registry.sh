#!/usr/bin/env bash
# Prints the registry that images are pushed to and pulled from: REGISTRY, or the local cluster's
# own registry if REGISTRY is not set.
set -euo pipefail
if [[ -z ${CONTEXT:-} && -n ${REGISTRY:-} ]]; then
    echo "$REGISTRY"
    exit
fi
# cluster.sh also reports what is missing, before anything is built.
# shellcheck source=manifests/cluster.sh
. "$(dirname "$0")/cluster.sh"
if [[ -z $CONTEXT ]]; then
    cat "$ROOT/.cluster/$NAME/registry"
elif [[ -n ${REGISTRY:-} ]]; then
    echo "$REGISTRY"
else
    echo "CONTEXT=$CONTEXT also needs REGISTRY=..., a registry that you can push to and the cluster's nodes can pull from." >&2
    exit 2
fi
