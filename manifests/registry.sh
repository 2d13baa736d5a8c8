#!/usr/bin/env bash
# Prints the registry that images are pushed to: REGISTRY, or else the local cluster's own.
set -euo pipefail
if [[ -z ${CONTEXT:-} && -n ${REGISTRY:-} ]]; then
    echo "$REGISTRY"
    exit
fi
# shellcheck source=manifests/cluster.sh
. "$(dirname "$0")/cluster.sh"
echo "$REGISTRY"
