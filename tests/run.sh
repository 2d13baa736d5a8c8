#!/usr/bin/env bash
# All tests: those that need no cluster, then those on a real node, which is booted for them and removed again unless KEEP=1.
# SOAK=1 runs the long forms instead, and nothing else: see `tests/harness/soak.rs`.
set -euo pipefail
cd "$(dirname "$0")/.."

begun=$SECONDS
say() {
    printf '\n== %4d s  %s\n' "$((SECONDS - begun))" "$1"
}

say "Tests that need no cluster"
tests/cluster/toolchains.sh
# Its completion is tried in it, where it can be had.
tests/cluster/packages.sh zsh || true
if [[ ${SOAK:-} == 1 ]]; then
    SEEDS=2000 cargo test --locked --package tests --test walk -- --nocapture
else
    cargo test --locked --workspace
fi

# In this order: the ones that take things away come last.
cluster_tests=(
    alerts promql dashboard_schema page_browser manifests_cluster components_cluster
    opt_in_cluster opt_in_role_cluster consent_cluster records_cluster bindings_cluster locks_cluster look_cluster bypass_cluster caller_cluster large_namespaces_cluster unreviewed_cluster
    kills_cluster truth_cluster recovery_cluster recovery_edges_cluster budgets_cluster
    outage_cluster race_cluster hammer_cluster availability_cluster rotation_cluster drift_cluster
    explain_cluster plugin_cluster halt_by_alert_cluster leader_cluster once_cluster rights_cluster
    walkthrough_cluster deploy_cluster upgrade_cluster demo_cluster lifecycle_cluster
)
[[ ${SOAK:-} != 1 ]] || cluster_tests=(race_cluster rotation_cluster leader_cluster)

reason=""
if [[ "$(uname -s)" != Linux ]]; then
    reason="the node needs Linux, and this is $(uname -s)"
elif ((EUID)); then
    reason="the node needs root, for its namespaces: sudo env \"PATH=\$PATH\" \"HOME=\$HOME\" make test"
fi
if [[ -n $reason ]]; then
    say "SKIPPED ($reason): arm64 ${cluster_tests[*]}"
    exit
fi

finish() {
    if [[ ${KEEP:-} == 1 ]]; then
        echo "KEEP=1: the cluster is left up; make cluster-down NAME=test removes it"
    else
        env NAME=test tests/cluster/down.sh || true
    fi
    env NAME=scratch tests/cluster/down.sh || true
}
trap finish EXIT

# The ambient choice of a cluster must not reach any of what follows.
unset CONTEXT REGISTRY OVERLAY KUBECONFIG
export NAME=test

say "Debian packages"
tests/cluster/packages.sh curl jq prometheus prometheus-alertmanager webhook
say "Binaries for arm64"
tests/arm64.sh
say "Cluster test"
tests/cluster/up.sh
say "Images, and Pure Chaos on the cluster"
make --no-print-directory deploy NAME=test OVERLAY=test

PURE_CHAOS_TEST_KUBECONFIG="$PWD/.cluster/test/kubeconfig"
export PURE_CHAOS_TEST_KUBECONFIG
output=$(mktemp)
for test in "${cluster_tests[@]}"; do
    say "$test"
    cargo test --locked --package tests --features cluster --test "$test" -- --test-threads=1 --nocapture 2>&1 | tee "$output" || {
        # What matters most comes last: the rest is long.
        say "FAILED: $test"
        grep --after-context=8 "panicked at" "$output" || true
        exit 1
    }
done
rm "$output"
say "All tests passed"
