# shellcheck shell=bash disable=SC2034
# The names, folders and addresses of the local cluster NAME, sourced by the scripts beside this file.

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
ROOT="$(cd "$HERE/../.." && pwd -P)"
export NAME="${NAME:-demo}"
if [[ ! $NAME =~ ^[a-z0-9][a-z0-9-]{0,30}$ || $NAME == bin || $NAME == images ]]; then
    echo "NAME=$NAME is no name for a cluster: at most 31 small letters, digits and dashes, and neither bin nor images" >&2
    exit 2
fi
BIN="$ROOT/.cluster/bin"
CLUSTER="$ROOT/.cluster/$NAME"
# The one that it was made with; a new cluster gets the one asked for, or else that of the module `kubernetes`.
newest="$(sed -n 's|^\tk8s.io/kubernetes v\([0-9]*\.[0-9]*\)\..*|\1|p' "$HERE/kubernetes/go.mod")"
KUBERNETES="${KUBERNETES:-$newest}"
if [[ -f $CLUSTER/kubernetes ]]; then
    KUBERNETES="$(<"$CLUSTER/kubernetes")"
fi
# An older one has its control plane, kubelet and etcd in a folder of its own. Everything else is there once, in $BIN: what Kubernetes
# is indifferent to, such as containerd, and kubectl, so that people and tests always type the same one.
MODULE=kubernetes
KUBERNETES_BIN="$BIN"
if [[ $KUBERNETES != "$newest" ]]; then
    MODULE="kubernetes-$KUBERNETES"
    KUBERNETES_BIN="$BIN/$MODULE"
fi
LOGS="$CLUSTER/logs"
KUBECONFIG_FILE="$CLUSTER/kubeconfig"

# The folder is part of the names, so that clusters of two checkouts on one machine do not meet. A link's name has at most 15 characters.
HASH="$(sha256sum <<<"$CLUSTER" | cut -c1-8)"
ID="pure-chaos-$NAME-$HASH"
LINK="chaos-$HASH"

# Each cluster has a number, and all its addresses follow from that. 198.18.0.0/15 is set aside for tests, so no network uses it.
if [[ -f $CLUSTER/number ]]; then
    NUMBER="$(<"$CLUSTER/number")"
    HOST_IP="198.18.$NUMBER.1"
    NODE_IP="198.18.$NUMBER.2"
    SERVICE_RANGE="198.18.$NUMBER.128/25"
    DNS_IP="198.18.$NUMBER.138"
    POD_RANGE="198.19.$NUMBER.0/24"
    REGISTRY="$NODE_IP:31500"
fi

# An ambient KUBECONFIG must never decide which cluster is touched.
unset KUBECONFIG
export KUBECACHEDIR="$CLUSTER/kubectl-cache"
kubectl() {
    "$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" --request-timeout=10s "$@"
}

# The first process of the cluster carries its ID as its name; a file with a process number could be stale or not yet written.
node_process() {
    pgrep -o -f "^$ID "
}

node_ready() {
    [[ "$(kubectl get node node -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" == True ]]
}

# Every version of the cgroup file system: one folder below each mounted hierarchy.
cgroup_folders() {
    local hierarchy
    while read -r hierarchy; do
        printf '%s\n' "$hierarchy/$ID"
    done < <(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts | sort -u)
}
