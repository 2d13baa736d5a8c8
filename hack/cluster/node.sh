#!/usr/bin/env bash
# The node: the first process in a cluster's own mounts, processes and network. It starts everything else, and when any part ends
# so does the whole, because the kernel then ends every process of these namespaces. up.sh starts it, down.sh kills it.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

export PATH="$KUBERNETES_BIN:$BIN:$PATH"
# Marks all processes of the cluster, for leftovers.sh.
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

# The kubelet needs mounts that its containers see, and the usual folders; an overlay gives it these without a trace on the host.
# .cluster is bound in again, in case that the checkout lies below /var itself.
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

# The kubelet would set these for the whole machine. So it finds here what it wants, and the host keeps its own values.
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
# A throw-away cluster need not survive a power cut, only a kill.
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

# After a crash the node is still recorded as Ready. Unknown is the truth until the kubelet reports again.
kubectl patch node node --subresource status -p '{"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}' || true

# Its usual 20 requests a second would make its start last 5 s longer.
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
start kubelet --config "$config/kubelet.yaml" --kubeconfig "$pki/kubelet.conf" --hostname-override node --node-ip "$NODE_IP"
start kube-proxy --config "$config/kube-proxy.yaml"

wait -n -p process "${!component_of[@]}" || true
ended "${component_of[$process]}"
