#!/usr/bin/env bash
# Runs the node. up.sh starts this script as the first process in the cluster's own mount, process
# and network namespaces, and down.sh kills it. The script starts all other processes. When one of
# them ends, the script exits, and the kernel ends every process in these namespaces.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

export PATH="$KUBERNETES_BIN:$BIN:$PATH"
# leftovers.sh and stop-node.sh find the cluster's processes by this variable.
export PURE_CHAOS_CLUSTER="$ID"
pki="$CLUSTER/pki"
config="$CLUSTER/config"
# shellcheck disable=SC2034  # kubectl, of env.sh, reads it.
KUBECONFIG_FILE="$pki/super-admin.conf"

declare -A component_of=()
start() {
    "$@" >"$LOGS/$1.log" 2>&1 &
    component_of[$!]="$1"
}

ended() {
    echo "$1 ended; the last lines of logs/$1.log:"
    tail -n 20 "$LOGS/$1.log"
    exit 1
}

wait_until() {
    local deadline=$((SECONDS + $1)) what="$2" process
    shift 2
    until "$@" >/dev/null 2>&1; do
        for process in "${!component_of[@]}"; do
            kill -0 "$process" 2>/dev/null || ended "${component_of[$process]}"
        done
        if ((SECONDS >= deadline)); then
            echo "$what took too long"
            exit 1
        fi
        sleep 0.1
    done
}

# The kubelet needs mounts that its containers see, and the usual folders in /var. An overlay
# provides them and leaves no trace on the host. The script mounts .cluster again, because the
# checkout itself can be below /var.
mount --make-rshared /
mount -t tmpfs node /run
mkdir /run/var /run/work /run/cluster /run/registry
mount --bind "$ROOT/.cluster" /run/cluster
mount -t overlay -o lowerdir=/var,upperdir=/run/var,workdir=/run/work node /var
mount --bind /run/cluster "$ROOT/.cluster"
for folder in /var/lib/etcd /var/lib/containerd /var/lib/kubelet /var/log/pods /run/registry; do
    mkdir -p "$folder" "$CLUSTER$folder"
    mount --bind "$CLUSTER$folder" "$folder"
done

# The kubelet would change these settings for the whole machine. With these mounts, the kubelet
# finds the values that it wants, and the host keeps its own.
while read -r setting value; do
    mkdir -p "/run/settings/${setting%/*}"
    echo "$value" >"/run/settings/$setting"
    mount --bind "/run/settings/$setting" "/proc/sys/$setting"
done <<'END'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END

wait_until 10 "the network link" ip link show eth0
ip link set lo up
ip address add "$NODE_IP/30" dev eth0
ip link set eth0 up
ip route add default via "$HOST_IP"
echo 1 >/proc/sys/net/ipv4/ip_forward

start containerd --config "$config/containerd.toml"
# A throw-away cluster must survive a kill, but not a power failure.
start etcd --data-dir /var/lib/etcd/data --unsafe-no-fsync --log-level warn
start kube-apiserver \
    --advertise-address="$NODE_IP" \
    --allow-privileged \
    --audit-log-maxsize=1000 \
    --audit-log-path="$CLUSTER/audit.log" \
    --audit-policy-file="$config/audit.yaml" \
    --authorization-mode=Node,RBAC \
    --client-ca-file="$pki/ca.crt" \
    --enable-admission-plugins=NodeRestriction \
    --etcd-servers=http://127.0.0.1:2379 \
    --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" \
    --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
    --kubelet-preferred-address-types=InternalIP \
    --proxy-client-cert-file="$pki/front-proxy-client.crt" \
    --proxy-client-key-file="$pki/front-proxy-client.key" \
    --requestheader-allowed-names=front-proxy-client \
    --requestheader-client-ca-file="$pki/front-proxy-ca.crt" \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/sa.pub" \
    --service-account-signing-key-file="$pki/sa.key" \
    --service-cluster-ip-range="$SERVICE_RANGE" \
    --tls-cert-file="$pki/apiserver.crt" \
    --tls-private-key-file="$pki/apiserver.key"
wait_until 60 "the API server" kubectl get --raw /readyz

# After a crash, the Node object still says Ready. Unknown is correct until the kubelet reports
# again.
kubectl patch node node --subresource status -p '{"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}' || true

# With the default of 20 requests a second, the controller manager would take 5 s longer to start.
start kube-controller-manager \
    --authentication-kubeconfig="$pki/controller-manager.conf" \
    --authorization-kubeconfig="$pki/controller-manager.conf" \
    --cluster-signing-cert-file="$pki/ca.crt" \
    --cluster-signing-key-file="$pki/ca.key" \
    --kube-api-burst=400 \
    --kube-api-qps=200 \
    --kubeconfig="$pki/controller-manager.conf" \
    --leader-elect=false \
    --root-ca-file="$pki/ca.crt" \
    --service-account-private-key-file="$pki/sa.key" \
    --use-service-account-credentials
start kube-scheduler \
    --authentication-kubeconfig="$pki/scheduler.conf" \
    --authorization-kubeconfig="$pki/scheduler.conf" \
    --kubeconfig="$pki/scheduler.conf" \
    --leader-elect=false

wait_until 30 "containerd" ctr version
for archive in "$CLUSTER"/images/*.tar; do
    ctr --namespace k8s.io image import "$archive"
done
start docker-registry serve "$config/registry.yaml"
start kubelet --config "$config/kubelet.yaml" --kubeconfig "$pki/kubelet.conf" --hostname-override node --node-ip "$NODE_IP"
start kube-proxy --config "$config/kube-proxy.yaml"

wait -n -p process "${!component_of[@]}" || true
ended "${component_of[$process]}"
