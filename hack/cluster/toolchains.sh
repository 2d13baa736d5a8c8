#!/usr/bin/env bash
# Checks that Rust from rustup and a new enough Go are installed. With argument `rust`, the script
# checks only Rust, because only the local cluster needs Go. Both toolchains belong to the user, so
# the script installs nothing.
set -euo pipefail

go_at_least=1.26
failed=0

if ! command -v rustup >/dev/null || ! command -v cargo >/dev/null; then
    echo "Rust is missing. Get it with rustup, from https://rustup.rs; rust-toolchain.toml then picks the version." >&2
    failed=1
fi

[[ ${1:-} != rust ]] || exit "$failed"
go_version="$(cd / && { GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || true; })"
go_version="${go_version#go}"
if [[ -z $go_version || "$(printf '%s\n' "$go_at_least" "$go_version" | sort -V | head -n1)" != "$go_at_least" ]]; then
    echo "Go of at least $go_at_least is missing (found: ${go_version:-none}). Get it from https://go.dev/dl and put its bin folder on PATH." >&2
    failed=1
fi
exit "$failed"
