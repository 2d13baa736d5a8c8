#!/usr/bin/env bash
# Prints what is left of the cluster NAME on this machine, one item a line. If nothing is left, the
# output is empty. The script reads only the kernel's own lists and nothing that the cluster wrote,
# so that a test can rely on it.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

for process in /proc/[0-9]*; do
    number="${process#/proc/}"
    # Skip this script and its children, because their arguments can contain the folder.
    [[ $number != "$$" && "$(awk '/^PPid/ { print $2 }' "$process/status" 2>/dev/null)" != "$$" ]] || continue
    if grep -qsF "$ID" "$process/environ" "$process/cgroup" "$process/cmdline" || grep -qsF "$CLUSTER/" "$process/cmdline"; then
        command="$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null | cut -c1-80)"
        echo "process $number $command"
        # A namespace exists as long as a process is in it, so these namespaces exist because of the
        # cluster.
        for namespace in mnt pid net; do
            here="$(readlink "/proc/self/ns/$namespace")"
            there="$(readlink "$process/ns/$namespace" || true)"
            [[ -z $there || $there == "$here" ]] || echo "namespace $there"
        done
    fi
done 2>/dev/null | sort -u

grep -F -e "$ID" -e "$CLUSTER/" /proc/self/mountinfo | sed 's/^/mount /' || true
ip -o link | grep -F "$LINK" | sed 's/^/link /' || true
ip route | grep -F "$LINK" | sed 's/^/route /' || true
find /sys/fs/cgroup -type d -name "$ID*" 2>/dev/null | sed 's/^/cgroup /' || true
for rules in "iptables-save" "ip6tables-save" "nft list ruleset"; do
    # shellcheck disable=SC2086
    $rules 2>/dev/null | grep -E "$LINK|KUBE-|kube-proxy|198\.1[89]\." | sed "s/^/firewall rule ($rules) /" || true
done
