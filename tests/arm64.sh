#!/usr/bin/env bash
# The binaries of the arm64 images: built as `make build ARCH=arm64` does, but not optimised, which takes minutes and decides nothing of what is
# looked at here. Each has to be a static program for that machine, and to start where it or an emulator can be had. `make test` builds one of
# them, `make soak` all.
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
    # What names an interpreter or a library finds neither in an image that holds nothing else.
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
# What was not optimised is for nobody to push.
rm -rf target/static/arm64
