#!/usr/bin/env bash
# Prints the state of the local cluster NAME. Exits with 0 if its node is Ready, and with 1
# otherwise.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

if ! process="$(node_process)"; then
    if [[ -d $CLUSTER ]]; then
        echo "The cluster $NAME is not running, but its data is there: make cluster-up NAME=$NAME starts it again."
    else
        echo "There is no cluster $NAME: make cluster-up NAME=$NAME makes one."
    fi
    exit 1
fi

state="not ready (see $LOGS)"
status=1
if [[ ! -f $CLUSTER/registry ]]; then
    state="starting, or its start was broken off"
elif node_ready; then
    state=ready
    status=0
fi
seconds="$(ps -o etimes= -p "$process" | tr -d ' ')"
cat <<END

  cluster       $NAME
  kubernetes    $KUBERNETES
  state         $state
  node address  ${NODE_IP:-none yet}
  registry      ${REGISTRY:-none yet}
  kubeconfig    $KUBECONFIG_FILE
  uptime        $((seconds / 3600)) h $((seconds / 60 % 60)) min $((seconds % 60)) s
END
((status)) || cat <<END

What to type next:

  export KUBECONFIG=$KUBECONFIG_FILE PATH=$BIN:\$PATH
  kubectl get pods --all-namespaces
END
exit "$status"
