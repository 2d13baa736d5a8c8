#!/usr/bin/env bash
# Builds the static binaries of the images for one architecture into target/static/ARCH. ARCH is the
# name that container images use. On a machine of another architecture, the script cross-compiles
# with packages from Debian and a target from rustup. If these are not available, the script exits
# with 3. Arguments after the architecture limit the build to these packages. PROFILE=local builds
# faster, and larger and slower binaries, for the local cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    amd64) machine=x86_64 debian=(gcc-x86-64-linux-gnu libc6-dev-amd64-cross) ;;
    arm64) machine=aarch64 debian=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross) ;;
    *)
        echo "ARCH=${1:-}: images are built for amd64 and arm64" >&2
        exit 2
        ;;
esac
target="$machine-unknown-linux-gnu"

if ! rustup target list --installed | grep -qx "$target"; then
    timeout 300 rustup target add "$target" || exit 3
fi
if [[ "$(uname -m)" != "$machine" ]]; then
    hack/cluster/packages.sh "${debian[@]}" || exit 3
    variable="CARGO_TARGET_${target^^}_LINKER"
    export "${variable//-/_}=$machine-linux-gnu-gcc"
fi
# The binaries are static, because an image contains nothing except the program.
packages=("${@:2}")
((${#packages[@]})) || packages=(agent webhook certs)
profile="${PROFILE:-dist}"
RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile "$profile" --target "$target" --bins "${packages[@]/#/--package=}"
# Another build may run the same program meanwhile, so an equal file stays as it is.
install -C -D --target-directory="target/static/$1" "${packages[@]/#/target/$target/$profile/}"
