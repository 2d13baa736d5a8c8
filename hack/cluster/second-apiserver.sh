#!/usr/bin/env bash
# second-apiserver.sh start|stop: starts or stops a second API server of the running cluster NAME.
# The second server uses the same etcd and has its own caches, as in a cluster with a replicated
# control plane. Its kubeconfig is kubeconfig-second, and its audit log is audit-second.log. The
# server ends with the cluster at the latest.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

port=6444

# Prints the kube-apiserver processes of this cluster. All processes of the cluster have the mark
# PURE_CHAOS_CLUSTER in their environment.
api_servers() {
    local process
    for process in $(pgrep -x kube-apiserver); do
        ! grep -qszxF "PURE_CHAOS_CLUSTER=$ID" "/proc/$process/environ" || echo "$process"
    done
}

is_second() {
    grep -qszxF -e "--secure-port=$port" "/proc/$1/cmdline"
}

# first_or_second first|second: prints the process ID of that API server, or nothing if it does not
# run.
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
    # The second server gets the arguments of the first, so that the two differ only in the flags
    # below.
    mapfile -d '' -t arguments <"/proc/$first/cmdline"
    # Only the first server registers itself in the Service `kubernetes`. An address has one port
    # there, so the two servers would overwrite each other's port.
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
        # Open watches would keep the server running for a minute, so the script kills it after 5 s.
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
