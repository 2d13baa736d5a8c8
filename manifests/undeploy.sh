#!/usr/bin/env bash
# Removes Pure Chaos. The script first removes everything that kills, so that nothing kills while a
# lock is missing. Then it removes the records, and with them the agent's rights. Then it removes
# the rest.
set -euo pipefail
# shellcheck source=manifests/cluster.sh
. "$(dirname "$0")/cluster.sh"

gone() {
    kubectl delete --ignore-not-found --timeout=120s "$@"
}
gone deployment/agent -n pure-chaos --cascade=foreground
gone cronjobs,jobs --all -n pure-chaos --cascade=foreground
gone validatingwebhookconfiguration/pure-chaos
# Foreground deletion waits for the Pods, because a webhook that still drains would create the
# records again.
gone deployment/webhook deployment/certs -n pure-chaos --cascade=foreground

if [[ -n "$(kubectl get crd optins.purechaos.dev --ignore-not-found -o name)" ]]; then
    # The script deletes the records before their CustomResourceDefinition, so that the garbage
    # collector still knows the kind of the RoleBindings' owners.
    gone optins.purechaos.dev --all --all-namespaces
    # shellcheck disable=SC2016
    owned='{{range .items}}{{$binding := .}}{{range .metadata.ownerReferences}}{{if eq .kind "OptIn"}}{{$binding.metadata.namespace}} {{end}}{{end}}{{end}}'
    for _ in {1..120}; do
        left="$(kubectl get rolebindings -A -o go-template="$owned")"
        [[ -n $left ]] || break
        sleep 0.5
    done
    if [[ -n $left ]]; then
        echo "RoleBindings of the agent are left in: $left" >&2
        exit 1
    fi
fi
# A RoleBinding without an owner is not deleted with a record. Its record was never written, or
# somebody removed the owner reference.
# shellcheck disable=SC2016
ours='{{range .items}}{{if eq .roleRef.name "pure-chaos-agent"}}{{.metadata.namespace}} {{end}}{{end}}'
for namespace in $(kubectl get rolebindings -A --field-selector metadata.name=pure-chaos-agent -o go-template="$ours"); do
    gone rolebinding/pure-chaos-agent -n "$namespace"
done
gone -k "$ROOT/manifests"
# Components add further objects. All of them have this label.
gone clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings -l app.kubernetes.io/part-of=pure-chaos
echo "Pure Chaos is gone. Annotations that namespaces carry are left as they are."
