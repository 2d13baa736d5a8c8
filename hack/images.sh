#!/usr/bin/env bash
# Builds the three images from the ready binaries in target/static and pushes them to REGISTRY
# (host:port, with an optional path). ARCH names the architectures. The default is amd64. With
# several architectures, each image name stands for all of them. The tag contains a hash of the
# images' content, so that a node never runs an older image with the same name. The script writes
# the tag to TAG_FILE, by default target/images-tag. Set TAG to use another tag.
set -euo pipefail

cd "$(dirname "$0")/.."
registry="${REGISTRY:?Set REGISTRY to where the images are to be pushed, for instance registry.example.com/chaos}"
read -ra architectures <<<"${ARCH:-amd64}"

binaries=()
for architecture in "${architectures[@]}"; do
    for binary in agent webhook certs; do
        binaries+=("target/static/$architecture/$binary")
        if [[ ! -x ${binaries[-1]} ]]; then
            echo "${binaries[-1]} is missing: make build ARCH=$architecture makes it." >&2
            exit 1
        fi
    done
done
platforms="$(printf ',linux/%s' "${architectures[@]}")"
platforms="${platforms:1}"

revision="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
tag="${TAG:-0.1.0-$( (echo "$revision"; cat "${binaries[@]}" Dockerfile) | sha256sum | cut -c1-12)}"
mkdir -p .cluster/images target
work="$(mktemp -d "$PWD/.cluster/images/XXXXXX")"
trap 'rm -rf "$work"' EXIT
log="$work/log"

push_flags=()
buildah_here() {
    BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs buildah --root "$work/storage" --runroot "$work/run" "$@"
}
if [[ $registry =~ ^198\.18\.[0-9]+\.2:31500 ]]; then
    # The local cluster's registry uses plain HTTP. Docker would need a setting to allow that, and
    # buildah is always installed with the local cluster.
    tool=buildah_here
    push_flags=(--tls-verify=false)
elif docker info >/dev/null 2>&1; then
    tool=docker
elif podman info >/dev/null 2>&1; then
    tool=podman
elif command -v buildah >/dev/null; then
    tool=buildah_here
else
    echo "Neither docker, podman nor buildah works here. Install one of them, for instance the Debian package buildah." >&2
    exit 1
fi

# The registry can refuse a push for a moment after its start.
push() {
    local attempt
    for attempt in 1 2 3 4 5; do
        ((attempt == 1)) || sleep 2
        "$tool" "$@" && return
    done
    return 1
}

build_and_push() {
    local target="$1" image="$2"
    local build=(--build-arg "REVISION=$revision" --build-context build=target/static --platform "$platforms" --target "$target")
    if ((${#architectures[@]} == 1)); then
        "$tool" build "${build[@]}" -t "$image" . && push push "${push_flags[@]}" "$image"
    elif [[ $tool == docker ]]; then
        # A push keeps several architectures together even if the engine's own image store cannot.
        push buildx build "${build[@]}" --push -t "$image" .
    else
        "$tool" build "${build[@]}" --manifest "$image" . && push manifest push --all "${push_flags[@]}" "$image" "docker://$image"
    fi
}

for target in agent webhook certs; do
    image="$registry/chaos-$target:$tag"
    # The agent is the main part of the system, so its image has the system's name.
    [[ $target != agent ]] || image="$registry/chaos:$tag"
    if ! build_and_push "$target" "$image" >"$log" 2>&1; then
        echo "$image failed; the last lines:" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
    echo "$image"
done
# Nobody reads half of it.
echo "$tag" >"$work/tag"
mv "$work/tag" "${TAG_FILE:-target/images-tag}"
