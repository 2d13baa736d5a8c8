#!/usr/bin/env bash
# Runs all tests: first those that need no cluster, then those on real nodes. The script boots the
# nodes, and removes them again unless KEEP=1 is set. SOAK=1 runs the long forms of the tests instead,
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
    e2e/recovery_edges e2e/recovery e2e/budgets e2e/steady_state e2e/custom_workloads e2e/outages
    e2e/kills e2e/narrowing e2e/manifests tools/alerts tools/alerts_webhook e2e/plugin e2e/opt_in tools/page
    tools/promql tools/dashboard_schema tools/outside_prometheus
)
# These groups take things away, so each has a cluster to itself while it runs. There are two
# clusters, because the tests mostly wait, and both lists take about the same time. The first cluster
# begins with the groups above. `operations/drift` compares the cluster with the manifests, so it comes
# before groups that delete what the manifests contain.
first=(
    people/explain operations/drift operations/once operations/leader safeguards/halt_by_alert
    safeguards/race safeguards/hammer
)
second=(
    operations/components consent/opt_in_role consent/rules consent/records consent/bindings
    safeguards/locks safeguards/look
    consent/bypass consent/caller consent/large_namespaces consent/unreviewed
    kills/truth
    operations/outage
)
# Nothing may fail in the first two groups, under a load that needs the whole machine. The last one
# reads what all groups requested, on both clusters.
between=(operations/availability operations/rotation safeguards/rights)
# These groups install and remove Pure Chaos.
first_then=(people/walkthrough people/demo operations/lifecycle)
second_then=(operations/deploy operations/upgrade)
if [[ ${SOAK:-} == 1 ]]; then
    side_by_side=(e2e/manifests)
    first=(operations/leader)
    second=(safeguards/race operations/rotation)
    between=() first_then=() second_then=()
fi
all=("${side_by_side[@]}" "${first[@]}" "${second[@]}" "${between[@]}" "${first_then[@]}" "${second_then[@]}")

reason=""
if [[ "$(uname -s)" != Linux ]]; then
    reason="the node needs Linux, and this is $(uname -s)"
elif ((EUID)); then
    reason="the node needs root, for its namespaces: sudo env \"PATH=\$PATH\" \"HOME=\$HOME\" make test"
elif ! unshare --mount --pid --net --fork --mount-proc true 2>/dev/null; then
    reason="the node needs namespaces of its own, and this machine or container allows none: try a privileged container"
fi
if [[ -n $reason ]]; then
    say "SKIPPED ($reason): arm64 ${all[*]}"
    exit
fi

outputs=$(mktemp --directory)
touch "$outputs/failed"
clusters=(test test-2)
processes=()
finish() {
    local process cluster
    for process in "${processes[@]}"; do
        kill -- "-$process" 2>/dev/null || true
    done
    for cluster in "${clusters[@]}"; do
        if [[ ${KEEP:-} == 1 ]]; then
            echo "KEEP=1: cluster $cluster is left up; make cluster-down NAME=$cluster removes it"
        else
            NAME=$cluster hack/cluster/down.sh || true
        fi
    done
    NAME=scratch hack/cluster/down.sh || true
    rm -rf "$outputs"
}
trap finish EXIT

# The environment must not decide which cluster the rest of this script uses.
unset CONTEXT REGISTRY OVERLAY KUBECONFIG
# The long run tests the images that a release contains.
export PROFILE=local
[[ ${SOAK:-} != 1 ]] || PROFILE=dist

# report TITLE FILE: prints a title and what the file contains. Reports of several processes do not
# mix.
report() {
    (
        flock 9
        say "$1"
        cat "$2"
    ) 9>"$outputs/lock"
}
# group TARGET NAME: runs the tests of one group, one after the other, and reports them.
group() {
    local module="${2//\//::}" output="$outputs/${2//\//-}" begun=$SECONDS code=0
    # The name of a group starts with its target, or with a module of the target e2e_disruptive.
    cargo test --locked --package tests --features cluster,tools --test "$1" -- \
        --test-threads=1 --nocapture "${module#"$1::"}::" >"$output" 2>&1 || code=$?
    report "$2 ($((SECONDS - begun)) s)" "$output"
    ((code == 0)) || echo "$2" >>"$outputs/failed"
    return "$code"
}
# at_once GROUP...: runs the groups, three at a time.
at_once() {
    local name running=0
    for name in "$@"; do
        ((running++ < 3)) || wait -n || true
        group "${name%%/*}" "$name" &
    done
    wait
}
# one_by_one GROUP...: runs the groups, one after the other. Stops after the first that fails,
# because it can leave the cluster broken.
one_by_one() {
    local name
    for name in "$@"; do
        # This group needs the first version, which is built in the background.
        [[ $name != operations/upgrade ]] || tail --pid="$behind" --follow /dev/null
        group e2e_disruptive "$name" || return
    done
}
# boot: boots the cluster NAME, and installs Pure Chaos there.
boot() {
    local begun=$SECONDS code=0
    { hack/cluster/up.sh && make --no-print-directory deploy OVERLAY=test; } >"$outputs/$NAME" 2>&1 || code=$?
    report "Cluster $NAME ($((SECONDS - begun)) s)" "$outputs/$NAME"
    ((code == 0)) || echo "$NAME" >>"$outputs/failed"
    return "$code"
}
# on CLUSTER COMMAND...: runs the command, with this cluster as the one to test.
on() {
    export NAME="$1" PURE_CHAOS_TEST_KUBECONFIG="$PWD/.cluster/$1/kubeconfig"
    "${@:2}"
}
# start COMMAND...: runs the command in a process group of its own, so that `finish` can end it.
start() {
    set -m
    "$@" </dev/null &
    set +m
    processes+=($!)
}
# await PROCESS...: waits for these processes. If one of them or a group failed, repeats the panics,
# because the rest of the output is long, and exits.
await() {
    local process code=0 name
    for process in "$@"; do
        wait "$process" || code=1
    done
    while read -r name; do
        code=1
        say "FAILED: $name"
        grep --after-context=8 "panicked at" "$outputs/${name//\//-}" || true
    done <"$outputs/failed"
    ((code == 0)) || exit 1
}

say "Debian packages"
hack/cluster/packages.sh
hack/cluster/packages.sh curl jq prometheus prometheus-alertmanager webhook
say "Kubernetes, and the tools of the tests"
for module in kubernetes tools; do
    hack/cluster/build.sh "$module" --check || hack/cluster/build.sh "$module"
done
say "Programs of the images"
make --no-print-directory build
say "Programs of the tests"
cargo test --locked --package tests --features cluster,tools --no-run

# These builds use no cluster, so they run while tests wait. They get only the processor time that
# nothing else needs.
idly=(chrt --idle 0)
"${idly[@]}" true 2>/dev/null || idly=(nice -n 19)
build_behind() {
    local begun=$SECONDS
    # shellcheck disable=SC2016
    "${idly[@]}" bash -ec '
        if [[ ${SOAK:-} != 1 ]] && tests/first-version.sh --check; then tests/first-version.sh --build; fi
        tests/arm64.sh
    ' >"$outputs/behind" 2>&1 || echo behind >>"$outputs/failed"
    report "Binaries for arm64, and the first version ($((SECONDS - begun)) s)" "$outputs/behind"
}
start build_behind
behind=$!

on_first() {
    boot
    at_once "${side_by_side[@]}"
    one_by_one "${first[@]}"
}
on_second() {
    boot
    one_by_one "${second[@]}"
}
say "On ${clusters[0]}: ${side_by_side[*]} ${first[*]}; on ${clusters[1]}: ${second[*]}"
start on "${clusters[0]}" on_first
start on "${clusters[1]}" on_second
await "${processes[@]:1}"
if ((${#between[@]})); then
    start on "${clusters[0]}" one_by_one "${between[@]}"
    await "${processes[-1]}"
    say "On ${clusters[0]}: ${first_then[*]}; on ${clusters[1]}: ${second_then[*]}"
    processes=("$behind")
    start on "${clusters[0]}" one_by_one "${first_then[@]}"
    start on "${clusters[1]}" one_by_one "${second_then[@]}"
fi
await "${processes[@]}"
say "All tests passed"
