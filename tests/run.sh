#!/usr/bin/env bash
# Runs all tests: first those that need no cluster, then those on a real node. The script boots the
# node, and removes it again unless KEEP=1 is set. SOAK=1 runs the long forms of the tests instead,
# and nothing else: see `tests/support/soak.rs`.
set -euo pipefail
cd "$(dirname "$0")/.."

say() {
    printf '\n== %4d s  %s\n' "$SECONDS" "$1"
}

say "Tests that need no cluster"
hack/cluster/toolchains.sh
# If zsh is available, a test runs the plugin's completion in it.
hack/cluster/packages.sh zsh || true
if [[ ${SOAK:-} == 1 ]]; then
    SEEDS=2000 cargo test --locked --package tests --test in_process -- --nocapture agent::walk
else
    cargo test --locked --workspace
fi

# These groups of tests change only their own namespaces, so several run at the same time. The
# longest come first.
side_by_side=(
    e2e/recovery_edges e2e/recovery e2e/budgets e2e/kills e2e/manifests tools/alerts tools/alerts_webhook e2e/plugin e2e/opt_in
    tools/page tools/promql tools/dashboard_schema
)
# These groups run one after the other, in this order. Groups that take things away come last.
alone=(
    operations/components
    consent/opt_in_role consent/rules consent/records consent/bindings
    safeguards/locks safeguards/look
    consent/bypass consent/caller consent/large_namespaces consent/unreviewed
    kills/truth
    operations/outage safeguards/race safeguards/hammer operations/availability operations/rotation operations/drift
    people/explain safeguards/halt_by_alert operations/leader operations/once safeguards/rights
    people/walkthrough operations/deploy operations/upgrade people/demo operations/lifecycle
)
if [[ ${SOAK:-} == 1 ]]; then
    side_by_side=(e2e/manifests)
    alone=(safeguards/race operations/rotation operations/leader)
fi

reason=""
if [[ "$(uname -s)" != Linux ]]; then
    reason="the node needs Linux, and this is $(uname -s)"
elif ((EUID)); then
    reason="the node needs root, for its namespaces: sudo env \"PATH=\$PATH\" \"HOME=\$HOME\" make test"
elif ! unshare --mount --pid --net --fork --mount-proc true 2>/dev/null; then
    reason="the node needs namespaces of its own, and this machine or container allows none: try a privileged container"
fi
if [[ -n $reason ]]; then
    say "SKIPPED ($reason): arm64 ${side_by_side[*]} ${alone[*]}"
    exit
fi

outputs=$(mktemp --directory)
behind=""
finish() {
    [[ -z $behind ]] || kill -- "-$behind" 2>/dev/null || true
    if [[ ${KEEP:-} == 1 ]]; then
        echo "KEEP=1: the cluster is left up; make cluster-down NAME=test removes it"
    else
        env NAME=test hack/cluster/down.sh || true
    fi
    env NAME=scratch hack/cluster/down.sh || true
    rm -rf "$outputs"
}
trap finish EXIT

# The environment must not decide which cluster the rest of this script uses.
unset CONTEXT REGISTRY OVERLAY KUBECONFIG
export NAME=test
# The long run tests the images that a release contains.
export PROFILE=local
[[ ${SOAK:-} != 1 ]] || PROFILE=dist

# group TARGET MODULE: runs the tests of one module, one after the other.
group() {
    cargo test --locked --package tests --features cluster,tools --test "$1" -- --test-threads=1 --nocapture "$2::"
}
# failed NAME OUTPUT: repeats the panics at the end, because the rest of the output is long. Returns 1.
failed() {
    say "FAILED: $1"
    grep --after-context=8 "panicked at" "$2" || true
    return 1
}

say "Debian packages"
hack/cluster/packages.sh curl jq prometheus prometheus-alertmanager webhook
say "Cluster test"
hack/cluster/up.sh
say "Images, and Pure Chaos on the cluster"
make --no-print-directory deploy NAME=test OVERLAY=test
PURE_CHAOS_TEST_KUBECONFIG="$PWD/.cluster/test/kubeconfig"
export PURE_CHAOS_TEST_KUBECONFIG
say "Programs of the tests"
hack/cluster/build.sh tools --check || hack/cluster/build.sh tools
cargo test --locked --package tests --features cluster,tools --no-run

# These builds use no cluster, so they run while tests wait. They get only the processor time that
# nothing else needs.
idly=(chrt --idle 0)
"${idly[@]}" true 2>/dev/null || idly=(nice -n 19)
# shellcheck disable=SC2016
setsid "${idly[@]}" bash -ec '
    if [[ ${SOAK:-} != 1 ]] && tests/first-version.sh --check; then tests/first-version.sh --build; fi
    tests/arm64.sh
' >"$outputs/behind" 2>&1 &
behind=$!
built_behind() {
    [[ -n $behind ]] || return 0
    say "Binaries for arm64, and the first version"
    wait "$behind" || { cat "$outputs/behind"; failed "the build" "$outputs/behind"; }
    behind=""
    cat "$outputs/behind"
}

say "Side by side: ${side_by_side[*]}"
at_once=3
declare -A name_of=()
broken=()
# next: waits until one of the running groups ends, and prints its output.
next() {
    local process code=0 name
    wait -n -p process "${!name_of[@]}" || code=$?
    name="${name_of[$process]}"
    unset "name_of[$process]"
    say "$name"
    cat "$outputs/${name//\//-}"
    ((code == 0)) || broken+=("$name")
}
for name in "${side_by_side[@]}"; do
    ((${#name_of[@]} < at_once)) || next
    group "${name%%/*}" "${name#*/}" >"$outputs/${name//\//-}" 2>&1 &
    name_of[$!]=$name
done
# The cluster may go only when none of them uses it.
while ((${#name_of[@]})); do next; done
for name in "${broken[@]}"; do failed "$name" "$outputs/${name//\//-}" || true; done
((!${#broken[@]}))

for name in "${alone[@]}"; do
    # This group needs the first version, which the builds in the background compile.
    [[ $name != operations/upgrade ]] || built_behind
    say "$name"
    group e2e_disruptive "${name//\//::}" 2>&1 | tee "$outputs/alone" || failed "$name" "$outputs/alone"
done
built_behind
say "All tests passed"
