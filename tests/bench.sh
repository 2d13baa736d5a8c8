#!/usr/bin/env bash
# Measures what the webhook costs, on loopback, in a real API server, and while certificates change.
# Each run also measures what the figures are compared with. ONLY=loopback skips the measurements
# that need a cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

begun=$SECONDS
say() {
    printf '\n== %4d s  %s\n' "$((SECONDS - begun))" "$1"
}
# The environment must not decide which cluster the rest of this script uses.
unset CONTEXT REGISTRY OVERLAY KUBECONFIG

target=x86_64-unknown-linux-gnu
binaries="target/$target/dist"
say "Static binaries: the webhook, and what measures it"
RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --target "$target" \
    --package webhook --package tests --bin webhook --bin bench

work="$(mktemp -d)"
finish() {
    rm -rf "$work"
    if [[ -d .cluster/bench && ${KEEP:-} != 1 ]]; then
        env NAME=bench hack/cluster/down.sh || true
    fi
}
trap finish EXIT

say "What it is compared with: a webhook on controller-runtime"
(cd tests/bench/controller-runtime && go build -o "$work/controller-runtime" .)

say "On loopback"
"$binaries/bench" loopback "$work"
[[ ${ONLY:-} != loopback ]] || exit 0

say "Cluster bench"
NAME=bench hack/cluster/up.sh
make --no-print-directory deploy NAME=bench OVERLAY=test
PURE_CHAOS_TEST_KUBECONFIG="$PWD/.cluster/bench/kubeconfig"
export PURE_CHAOS_TEST_KUBECONFIG
say "In the API server"
"$binaries/bench" apiserver
say "While certificates are changed: about 11 minutes"
"$binaries/bench" rotation
say "All measured"
