# shellcheck shell=bash
# Which cluster the scripts beside this file work on, sourced by them: the one whose context was given by name, else the local
# cluster NAME. An ambient KUBECONFIG's current context never decides it.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
NAME="${NAME:-demo}"
CONTEXT="${CONTEXT:-}"
PATH="$ROOT/.cluster/bin:$PATH"

if [[ -n $CONTEXT ]]; then
    selected=(--context "$CONTEXT")
    # What a person types to see the same.
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
