# shellcheck shell=bash disable=SC2034
# Sets the names, folders and addresses of the local cluster NAME. The scripts in this folder source
# this file.

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
ROOT="$(cd "$HERE/../.." && pwd -P)"
export NAME="${NAME:-demo}"
if [[ ! $NAME =~ ^[a-z0-9][a-z0-9-]{0,30}$ || $NAME == bin || $NAME == images ]]; then
    echo "NAME=$NAME is no name for a cluster: at most 31 small letters, digits and dashes, and neither bin nor images" >&2
    exit 2
fi
BIN="$ROOT/.cluster/bin"
CLUSTER="$ROOT/.cluster/$NAME"
# An existing cluster keeps the Kubernetes version that it was created with. A new cluster gets the
# version in KUBERNETES. The default is the version of the module `kubernetes`.
newest="$(sed -n 's|^\tk8s.io/kubernetes v\([0-9]*\.[0-9]*\)\..*|\1|p' "$HERE/kubernetes/go.mod")"
KUBERNETES="${KUBERNETES:-$newest}"
if [[ -f $CLUSTER/kubernetes ]]; then
    KUBERNETES="$(<"$CLUSTER/kubernetes")"
fi
# An older version has its control plane, kubelet and etcd in a folder of its own. $BIN holds
# everything else, only once: tools that work with every Kubernetes version, such as containerd, and
# kubectl, so that people and tests always use the same one.
MODULE=kubernetes
KUBERNETES_BIN="$BIN"
if [[ $KUBERNETES != "$newest" ]]; then
    MODULE="kubernetes-$KUBERNETES"
    KUBERNETES_BIN="$BIN/$MODULE"
fi
LOGS="$CLUSTER/logs"
KUBECONFIG_FILE="$CLUSTER/kubeconfig"

# The hash of the folder is part of the names, so that clusters of two checkouts on one machine do
# not conflict. The name of a network link has at most 15 characters.
HASH="$(sha256sum <<<"$CLUSTER" | cut -c1-8)"
ID="pure-chaos-$NAME-$HASH"
LINK="chaos-$HASH"

# Each cluster has a number, and the number determines all its addresses. 198.18.0.0/15 is reserved
# for tests, so no network uses it.
if [[ -f $CLUSTER/number ]]; then
    NUMBER="$(<"$CLUSTER/number")"
    HOST_IP="198.18.$NUMBER.1"
    NODE_IP="198.18.$NUMBER.2"
    SERVICE_RANGE="198.18.$NUMBER.128/25"
    DNS_IP="198.18.$NUMBER.138"
    POD_RANGE="198.19.$NUMBER.0/24"
    REGISTRY="$NODE_IP:31500"
fi

# A KUBECONFIG in the environment must never decide which cluster the scripts change.
unset KUBECONFIG
export KUBECACHEDIR="$CLUSTER/kubectl-cache"
kubectl() {
    "$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" --request-timeout=10s "$@"
}

# The cluster's first process has the cluster's ID as its name. A file with the process ID could be
# stale or not yet written.
node_process() {
    pgrep -o -f "^$ID "
}

node_ready() {
    [[ "$(kubectl get node node -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" == True ]]
}

# Supports cgroup v1 and v2: prints one folder below each mounted hierarchy.
cgroup_folders() {
    local hierarchy
    while read -r hierarchy; do
        printf '%s\n' "$hierarchy/$ID"
    done < <(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts | sort -u)
}
