#!/usr/bin/env bash
# Stops the local cluster NAME and removes everything that it wrote. The built binaries stay.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

if ((EUID)); then
    echo "The local cluster belongs to root. Run this with sudo." >&2
    exit 1
fi
mkdir -p "$ROOT/.cluster"
exec 9<"$ROOT/.cluster"
if ! flock --nonblock 9; then
    echo "Waiting for another cluster-up or cluster-down to end"
    flock --wait 900 9 || { echo "It did not end within 15 minutes." >&2; exit 1; }
fi

env -u CONTEXT "$ROOT/hack/prometheus.sh" stop
"$HERE/stop-node.sh"
# The script renames the folder first, so that no cluster-up ever finds half of it. The node's
# mounts end with the node. If a mount is left nevertheless, --one-file-system keeps rm from
# deleting its content.
rm -rf --one-file-system "$CLUSTER.gone"
[[ ! -d $CLUSTER ]] || mv "$CLUSTER" "$CLUSTER.gone"
rm -rf --one-file-system "$CLUSTER.gone"
echo "The cluster $NAME is down."
