# shellcheck shell=bash
# Selects the cluster that the scripts in this folder work on. The scripts source this file. CONTEXT
# names a context of the kubeconfig. Without CONTEXT, the scripts use the local cluster NAME. The
# current context of a KUBECONFIG in the environment never decides.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
NAME="${NAME:-demo}"
CONTEXT="${CONTEXT:-}"
PATH="$ROOT/.cluster/bin:$PATH"

if [[ -n $CONTEXT ]]; then
    selected=(--context "$CONTEXT")
    # Messages show this form of kubectl, so that a person can type it.
    spoken="kubectl --context $CONTEXT"
else
    if [[ ! -f $ROOT/.cluster/$NAME/registry ]]; then
        echo "There is no local cluster $NAME. Boot it: make cluster-up NAME=$NAME; or name one of yours: CONTEXT=... REGISTRY=..." >&2
        exit 2
    fi
    selected=(--kubeconfig "$ROOT/.cluster/$NAME/kubeconfig")
    # shellcheck disable=SC2034
    spoken="kubectl"
fi
if ! command -v kubectl >/dev/null; then
    echo "kubectl is missing. Install it, or make cluster-up, which builds one into .cluster/bin." >&2
    exit 2
fi

kubectl() {
    command kubectl "${selected[@]}" "$@"
}
