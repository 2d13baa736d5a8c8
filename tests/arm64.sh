#!/usr/bin/env bash
# Builds and checks the binaries of the arm64 images. The build is that of `make build ARCH=arm64`,
# but without optimization, which takes minutes and does not affect the checks. Each binary must be
# a static program for arm64. Each binary must also start, if this machine or an emulator can run
# it. `make test` builds one binary, and `make soak` builds all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_PROFILE_DIST_LTO=off CARGO_PROFILE_DIST_OPT_LEVEL=0 CARGO_PROFILE_DIST_CODEGEN_UNITS=16
packages=(certs)
[[ ${SOAK:-} != 1 ]] || packages=(agent webhook certs)
hack/static.sh arm64 "${packages[@]}" || {
    code=$?
    ((code == 3)) || exit "$code"
    echo "SKIPPED (what compiles for arm64 can't be had here): make build ARCH=arm64, where it can"
    exit
}

emulator=()
if [[ "$(uname -m)" != aarch64 ]]; then
    hack/cluster/packages.sh qemu-user-static || true
    emulator=(qemu-aarch64-static)
fi
version="$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)"
for package in "${packages[@]}"; do
    binary="target/static/arm64/$package"
    if [[ "$(LC_ALL=C readelf --file-header "$binary")" != *'Machine:'*AArch64* ]]; then
        echo "$binary is not for aarch64; see readelf --file-header $binary" >&2
        exit 1
    fi
    # A binary that needs an interpreter or a library does not start in an image that contains
    # nothing else.
    if LC_ALL=C readelf --program-headers --dynamic "$binary" | grep -E 'INTERP|NEEDED' >&2; then
        echo "$binary is not static; see readelf --program-headers --dynamic $binary" >&2
        exit 1
    fi
    if ((${#emulator[@]})) && ! command -v "${emulator[0]}" >/dev/null; then
        echo "$binary is static; it was not started, for want of ${emulator[0]}"
        continue
    fi
    said="$("${emulator[@]}" "$binary" --version)"
    if [[ $said != *" $version"* ]]; then
        echo "$binary --version says $said, and not $version" >&2
        exit 1
    fi
    echo "$binary is static, and starts: $said"
done
# Remove the unoptimized binaries, so that nobody pushes them.
rm -rf target/static/arm64
