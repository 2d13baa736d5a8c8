#!/usr/bin/env bash
# Ends every process of the cluster NAME and removes what it had outside its own folder: the network link and the cgroup folders.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

# By the mark that each of them carries, because a file with process numbers could be stale or missing after a crash.
# Containers carry no mark; they end with the process namespace that all of them are in.
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
# Its routes go with it. The kernel removes it by itself too, only later.
ip link delete "$LINK" 2>/dev/null || true
