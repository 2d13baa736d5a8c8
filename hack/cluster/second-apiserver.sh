#!/usr/bin/env bash
# second-apiserver.sh start|stop: a second API server of the running cluster NAME on the same etcd, with caches of its own, as where the
# control plane is replicated. Its kubeconfig is kubeconfig-second, its audit log audit-second.log. It ends with the cluster at the latest.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

port=6444

# The processes named kube-apiserver of this cluster, by the mark that all of the cluster's carry.
api_servers() {
    local process
    for process in $(pgrep -x kube-apiserver); do
        ! grep -qszxF "PURE_CHAOS_CLUSTER=$ID" "/proc/$process/environ" || echo "$process"
    done
}

is_second() {
    grep -qszxF -e "--secure-port=$port" "/proc/$1/cmdline"
}

# first_or_second first|second: its process, nothing where it doesn't run.
first_or_second() {
    local process
    for process in $(api_servers); do
        if is_second "$process"; then
            [[ $1 != second ]] || echo "$process"
        else
            [[ $1 != first ]] || echo "$process"
        fi
    done
}

start() {
    local node first arguments=() deadline
    [[ -z "$(first_or_second second)" ]] || { echo "The second API server of $NAME runs already."; return; }
    node="$(node_process)" || { echo "The cluster $NAME is not running: make cluster-up NAME=$NAME starts it." >&2; exit 1; }
    first="$(first_or_second first)"
    # What the first was started with, so that the two never differ in more than is meant.
    mapfile -d '' -t arguments <"/proc/$first/cmdline"
    # The first alone stands in the Service `kubernetes`: an address has one port there, and they would overwrite each other's.
    PURE_CHAOS_CLUSTER="$ID" setsid nsenter --target "$node" --mount --pid --net \
        "$KUBERNETES_BIN/kube-apiserver" "${arguments[@]:1}" \
        --audit-log-path="$CLUSTER/audit-second.log" --endpoint-reconciler-type=none --secure-port="$port" \
        </dev/null >"$LOGS/kube-apiserver-second.log" 2>&1 &
    sed "s|:6443\$|:$port|" "$KUBECONFIG_FILE" >"$CLUSTER/kubeconfig-second.new"
    chmod 600 "$CLUSTER/kubeconfig-second.new"
    mv "$CLUSTER/kubeconfig-second.new" "$CLUSTER/kubeconfig-second"
    deadline=$((SECONDS + 60))
    until KUBECONFIG_FILE="$CLUSTER/kubeconfig-second" kubectl get --raw /readyz >/dev/null 2>&1; do
        if ((SECONDS >= deadline)) || ! kill -0 $! 2>/dev/null; then
            echo "The second API server did not come up; the last lines of $LOGS/kube-apiserver-second.log:" >&2
            tail -n 20 "$LOGS/kube-apiserver-second.log" >&2
            stop
            exit 1
        fi
        sleep 0.2
    done
    echo "The second API server of $NAME answers on port $port."
}

stop() {
    local process deadline=$((SECONDS + 20)) signal=TERM
    while process="$(first_or_second second)" && [[ -n $process ]]; do
        kill "-$signal" "$process" 2>/dev/null || true
        # Its watches would keep it open for a minute.
        ((SECONDS < deadline - 15)) || signal=KILL
        ((SECONDS < deadline)) || { echo "The second API server of $NAME does not end (process $process)." >&2; exit 1; }
        sleep 0.2
    done
    rm -f "$CLUSTER/kubeconfig-second"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) echo "Usage: NAME=... $0 start|stop" >&2; exit 2 ;;
esac
