#!/usr/bin/env bash
# Stops every process of the cluster NAME, and removes what the cluster has outside its own folder:
# the network link and the cgroup folders.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

# Finds the processes by the mark in their environment, because a file with process IDs could be
# stale or missing after a crash. Processes in containers have no mark. They end with the process
# namespace that contains all of them.
processes() {
    grep --files-with-matches --null-data --line-regexp --fixed-strings "PURE_CHAOS_CLUSTER=$ID" /proc/[0-9]*/environ 2>/dev/null |
        cut -d/ -f3 || true
}

remove_cgroups() {
    local folder
    while read -r folder; do
        [[ ! -d $folder ]] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || return 1
    done < <(cgroup_folders)
}

deadline=$((SECONDS + 30))
until [[ -z "$(processes)" ]] && remove_cgroups; do
    if ((SECONDS >= deadline)); then
        echo "Some of the cluster $NAME does not end:" >&2
        "$HERE/leftovers.sh" >&2
        exit 1
    fi
    processes | xargs --no-run-if-empty kill -9 2>/dev/null || true
    sleep 0.1
done
# The routes of the link are deleted with it. The kernel also removes the link without this command,
# but later.
ip link delete "$LINK" 2>/dev/null || true
