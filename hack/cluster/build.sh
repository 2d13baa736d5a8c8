#!/usr/bin/env bash
# Builds the pinned binaries of one Go module beside this file (`build.sh kubernetes`, `build.sh tools`) into .cluster/bin, and those of an
# older Kubernetes (`build.sh kubernetes-1.34`) into a folder of their own in there.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

module="$1"
folder="$BIN"
[[ $module != kubernetes-* ]] || folder="$BIN/$module"
mkdir -p "$folder"
cd "$HERE/$module"

# The stamp is written last, so that a build that was broken off does not count.
stamp="$BIN/.$module"
state="$(cat go.mod go.sum "$HERE/build.sh" | sha256sum)"
if [[ "${2:-}" == --check ]]; then
    [[ -f $stamp && "$(<"$stamp")" == "$state" ]]
    exit
fi
rm -f "$stamp"

flags="-s -w"
if [[ $module == kubernetes* ]]; then
    # Without these Kubernetes believes that it is v0.0.0, and feature gates misbehave.
    version="$(go list -m -f '{{.Version}}' k8s.io/kubernetes)"
    IFS=. read -r major minor _ <<<"${version#v}"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
    done
fi
CGO_ENABLED=0 GOWORK=off go build -trimpath -ldflags "$flags" -o "$folder/" tool
if [[ -f $folder/server ]]; then
    # etcd's main package is called server/v3.
    mv "$folder/server" "$folder/etcd"
fi
printf '%s\n' "$state" >"$stamp"
