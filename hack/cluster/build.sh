#!/usr/bin/env bash
# Builds the pinned binaries of one Go module in this folder.
# `build.sh kubernetes` and `build.sh tools` write them to .cluster/bin. `build.sh kubernetes-1.34`
# builds an older Kubernetes and writes it to a folder of its own in .cluster/bin.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

module="$1"
folder="$BIN"
[[ $module != kubernetes-* ]] || folder="$BIN/$module"
mkdir -p "$folder"
cd "$HERE/$module"

# The script writes the stamp last, so that an interrupted build does not count as complete.
stamp="$BIN/.$module"
state="$(cat go.mod go.sum "$HERE/build.sh" | sha256sum)"
if [[ "${2:-}" == --check ]]; then
    [[ -f $stamp && "$(<"$stamp")" == "$state" ]]
    exit
fi
rm -f "$stamp"

flags="-s -w"
if [[ $module == kubernetes* ]]; then
    # Without these flags, Kubernetes takes its version for v0.0.0, and feature gates misbehave.
    version="$(go list -m -f '{{.Version}}' k8s.io/kubernetes)"
    IFS=. read -r major minor _ <<<"${version#v}"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
    done
fi
# Nobody debugs these binaries, and a build without debug information takes a tenth less time.
CGO_ENABLED=0 GOWORK=off go build -trimpath -gcflags=all=-dwarf=false -ldflags "$flags" -o "$folder/" tool
if [[ -f $folder/server ]]; then
    # etcd's main package is server/v3, so Go names the binary `server`.
    mv "$folder/server" "$folder/etcd"
fi
printf '%s\n' "$state" >"$stamp"
