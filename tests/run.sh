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
    e2e/recovery_edges e2e/recovery e2e/budgets e2e/kills e2e/manifests tools/alerts tools/alerts_webhook e2e/plugin e2e/opt_in
    tools/page tools/promql tools/dashboard_schema
)
# These groups take things away, so each has a cluster to itself while it runs. There are two
# clusters, because the tests mostly wait. Both lists take about the same time, and groups that take
# more away come later. The first cluster begins with the groups above.
first=(
    people/explain safeguards/halt_by_alert operations/leader operations/once safeguards/rights
    people/walkthrough operations/deploy people/demo operations/lifecycle
)
second=(
    operations/components consent/opt_in_role consent/rules consent/records consent/bindings
    safeguards/locks safeguards/look
    consent/bypass consent/caller consent/large_namespaces consent/unreviewed
    kills/truth
    operations/outage safeguards/race safeguards/hammer operations/availability operations/rotation operations/drift
    operations/upgrade
)
if [[ ${SOAK:-} == 1 ]]; then
    side_by_side=(e2e/manifests)
    first=(operations/leader)
    second=(safeguards/race operations/rotation)
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
    say "SKIPPED ($reason): arm64 ${side_by_side[*]} ${first[*]} ${second[*]}"
    exit
fi

outputs=$(mktemp --directory)
clusters=(test test-2)
processes=()
finish() {
    local process cluster
    for process in "${processes[@]}"; do
        kill -- "-$process" 2>/dev/null || true
    done
    if [[ ${KEEP:-} == 1 ]]; then
        echo "KEEP=1: the clusters are left up; make cluster-down NAME=${clusters[0]} removes one of ${clusters[*]}"
    else
        for cluster in "${clusters[@]}"; do
            NAME=$cluster hack/cluster/down.sh || true
        done
    fi
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
# on CLUSTER COMMAND...: boots the cluster, installs Pure Chaos there, and runs the command.
on() {
    local begun=$SECONDS
    export NAME="$1" PURE_CHAOS_TEST_KUBECONFIG="$PWD/.cluster/$1/kubeconfig"
    shift
    if ! { hack/cluster/up.sh && make --no-print-directory deploy OVERLAY=test; } >"$outputs/$NAME" 2>&1; then
        echo "cluster $NAME" >>"$outputs/failed"
        report "Cluster $NAME" "$outputs/$NAME"
        return 1
    fi
    report "Cluster $NAME ($((SECONDS - begun)) s)" "$outputs/$NAME"
    "$@"
}
# start COMMAND...: runs the command in a process group of its own, so that `finish` can end it.
start() {
    set -m
    "$@" </dev/null &
    set +m
    processes+=($!)
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
    if ! "${idly[@]}" bash -ec '
        if [[ ${SOAK:-} != 1 ]] && tests/first-version.sh --check; then tests/first-version.sh --build; fi
        tests/arm64.sh
    ' >"$outputs/behind" 2>&1; then
        echo "the builds in the background" >>"$outputs/failed"
    fi
    report "Binaries for arm64, and the first version ($((SECONDS - begun)) s)" "$outputs/behind"
}
start build_behind
behind=$!

first_cluster() {
    at_once "${side_by_side[@]}"
    one_by_one "${first[@]}"
}
say "Cluster test: ${side_by_side[*]} ${first[*]}; cluster test-2: ${second[*]}"
start on test first_cluster
start on test-2 one_by_one "${second[@]}"
code=0
for process in "${processes[@]}"; do
    wait "$process" || code=1
done
touch "$outputs/failed"
if ((code)) || [[ -s $outputs/failed ]]; then
    # The panics come again at the end, because the rest of the output is long.
    while read -r name; do
        say "FAILED: $name"
        grep --after-context=8 "panicked at" "$outputs/${name//\//-}" 2>/dev/null || true
    done <"$outputs/failed"
    exit 1
fi
say "All tests passed"
