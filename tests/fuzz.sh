#!/usr/bin/env bash
# Fuzzes the grammar, the policy file and the review for FUZZ_SECONDS each. The default is 60. If
# the fuzzer finds something, the script keeps it in target/fuzz/artifacts and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.13.1
seconds="${FUZZ_SECONDS:-60}"
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz $version"
    cargo install --locked --version "$version" cargo-fuzz
fi
for target in settings policy_file review; do
    corpus="target/fuzz/corpus/$target"
    artifacts="target/fuzz/artifacts/$target"
    mkdir -p "$corpus" "$artifacts"
    case $target in
        settings) printf '0every 10m\n' >"$corpus/seed" ;;
        policy_file) cp manifests/base/policy.yaml "$corpus/seed" ;;
        review)
            cp tests/data/*.json "$corpus/"
            printf 'chaos=yes\npurechaos.dev/limit=2\n' >"$corpus/annotations"
            ;;
    esac
    echo "fuzz: $target for $seconds s"
    # Without a sanitizer, the stable toolchain is enough. The code is safe Rust, so the fuzzer
    # looks only for panics.
    log="target/fuzz/$target.log"
    if ! cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz/build --sanitizer none "$target" "$corpus" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -artifact_prefix="$artifacts/" -print_final_stats=1 >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "fuzz: $target failed; the whole log is in $log, what it found in $artifacts" >&2
        exit 1
    fi
    grep -E '^stat::(number_of_executed_units|average_exec_per_sec)' "$log"
done
echo "fuzz: nothing found"
