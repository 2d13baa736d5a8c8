#!/usr/bin/env bash
# Boots the local cluster NAME, or leaves it alone when it is running well. After a crash it starts again on the same data.
set -euo pipefail
asked="${KUBERNETES:-}"
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

if ((EUID)); then
    # sudo by itself would hide what is on the PATH and in the home of who calls it: rustup, cargo, go.
    echo "The local cluster needs root, for its namespaces: sudo env \"PATH=\$PATH\" \"HOME=\$HOME\" make ...; or name a cluster of yours with CONTEXT=..." >&2
    exit 1
fi
if [[ ! -d $HERE/$MODULE ]]; then
    others=("$HERE"/kubernetes-*)
    echo "Kubernetes $KUBERNETES is not among those that can be built here: $newest ${others[*]##*kubernetes-}" >&2
    exit 2
fi
if [[ -n $asked && $asked != "$KUBERNETES" ]]; then
    echo "The cluster $NAME runs Kubernetes $KUBERNETES. For $asked choose another NAME, or first make cluster-down NAME=$NAME." >&2
    exit 2
fi
"$HERE/toolchains.sh"
"$HERE/packages.sh"

begun=$SECONDS
mkdir -p "$ROOT/.cluster" "$LOGS"

# step WHAT LOG COMMAND...: one line of progress with its duration, or else the end of the log that tells why it failed.
# The failure is told on exit and not after an `if`, because bash would then ignore failures in the midst of COMMAND.
failing=
exec 3>&2
step() {
    local start="${EPOCHREALTIME/./}"
    failing="$1"
    log="$LOGS/$2"
    shift 2
    printf '%-52s' "$failing"
    "$@" >>"$LOGS/up.log" 2>&1
    printf '%6.1f s\n' "$(((${EPOCHREALTIME/./} - start) / 1000))e-3"
    failing=
}
tell_failure() {
    [[ -n $failing ]] || return
    printf 'failed\n%s failed; the last lines of %s:\n' "$failing" "$log"
    # One line says which part of the node ended, and 20 are of its own log.
    tail -n 21 "$log" || true
    [[ $log != */node.log ]] || echo "If this happens again, make cluster-down NAME=$NAME and another cluster-up start afresh."
}
trap 'tell_failure >&3' EXIT

image_tool() {
    BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs buildah --root "$CLUSTER/images/storage" --runroot "$CLUSTER/images/run" "$@"
}

# within SECONDS COMMAND...: tries until it works, as long as the node runs.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        node_process >/dev/null || return 1
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# Whatever is started below inherits this lock, so a next run waits for what a killed one has left running. All of that ends by itself.
exec 9<"$ROOT/.cluster"
if ! flock --nonblock 9; then
    echo "Waiting for another cluster-up or cluster-down to end"
    flock --wait 900 9 || { echo "It did not end within 15 minutes." >&2; exit 1; }
fi

registry_answers() {
    # shellcheck disable=SC2016
    timeout 2 bash -c ': <"/dev/tcp/$0/$1"' "${REGISTRY%:*}" "${REGISTRY#*:}"
}

if [[ -f $CLUSTER/registry ]] && node_process >/dev/null && node_ready && registry_answers; then
    echo "The cluster $NAME is running already."
    exec "$HERE/status.sh"
fi

modules=(kubernetes tools)
[[ $MODULE == kubernetes ]] || modules+=("$MODULE")
for module in "${modules[@]}"; do
    "$HERE/build.sh" "$module" --check ||
        step "Build of $module (the first time, minutes)" up.log "$HERE/build.sh" "$module"
done

choose_number() {
    local number taken
    taken="$(cat "$ROOT"/.cluster/*/number 2>/dev/null || true; ip -o -4 address)"
    for number in {1..250}; do
        if ! grep -qE "^$number\$|198\.18\.$number\." <<<"$taken"; then
            echo "$number" >"$CLUSTER/number.new"
            mv "$CLUSTER/number.new" "$CLUSTER/number"
            return
        fi
    done
    return 1
}
# What a cluster-down that was killed did not come to.
rm -rf --one-file-system "$CLUSTER.gone"
[[ -f $CLUSTER/kubernetes ]] || echo "$KUBERNETES" >"$CLUSTER/kubernetes"
[[ -f $CLUSTER/number ]] || step "Addresses" up.log choose_number
# shellcheck source=hack/cluster/env.sh
. "$HERE/env.sh"
rm -f "$CLUSTER/registry"

# Docker's archive format is the one that both buildah and containerd know.
build_images() {
    mkdir -p "$CLUSTER/images"
    cp "$(command -v busybox)" "$BIN/busybox"
    local image
    for image in pause registry random-logger; do
        image_tool build --build-context "programs=$BIN" -t "localhost/$image:local" "$HERE/images/$image"
        rm -f "$CLUSTER/images/$image.tar"
        image_tool push "localhost/$image:local" "docker-archive:$CLUSTER/images/$image.new:localhost/$image:local"
        mv "$CLUSTER/images/$image.new" "$CLUSTER/images/$image.tar"
    done
}

start_node() {
    "$HERE/stop-node.sh"
    cgroup_folders | xargs mkdir -p
    if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
        # Version 2 hands a controller down only when told to. Most hosts do that already.
        sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
    fi
    local namespaces=(--mount --pid --net --fork --kill-child --mount-proc)
    # Without the lock and the terminal, because the node outlives this script.
    # shellcheck disable=SC2016
    PURE_CHAOS_CLUSTER="$ID" setsid bash -c 'exec -a "$0" unshare "$@"' "$ID" "${namespaces[@]}" "$HERE/node.sh" \
        </dev/null >"$LOGS/node.log" 2>&1 3>&- 9<&- &
    local deadline=$((SECONDS + 5))
    until in_own_network; do
        ((SECONDS < deadline))
        sleep 0.05
    done
    ip link add "$LINK" type veth peer name eth0 netns "$(node_process)"
    ip address add "$HOST_IP/30" dev "$LINK"
    ip link set "$LINK" up
    ip route add "$POD_RANGE" via "$NODE_IP"
    ip route add "$SERVICE_RANGE" via "$NODE_IP"
}
in_own_network() {
    local process
    process="$(node_process)" && [[ "$(readlink "/proc/$process/ns/net")" != "$(readlink /proc/self/ns/net)" ]]
}

# One path for a first start, a crash, a half finished start and a node that hangs: end what is there, start on the same data.
step "Keys and settings" up.log "$HERE/configure.sh"
[[ -f $CLUSTER/images/random-logger.tar ]] || step "Images of the node itself" up.log build_images
step "Node started" up.log start_node
step "API server answers" node.log within 60 kubectl get --raw /readyz
KUBECONFIG_FILE="$CLUSTER/pki/super-admin.conf" step "Rights" up.log within 20 kubectl apply -f "$HERE/access.yaml"
step "Node is Ready" node.log within 60 node_ready
step "Registry deployed" up.log within 20 kubectl apply -f "$HERE/registry.yaml"
# Asked through the Service, whose rules are written a moment after the Pod is ready.
step "Registry answers" up.log within 60 registry_answers
step "Image chentex/random-logger pushed" up.log within 60 \
    image_tool push --tls-verify=false localhost/random-logger:local "docker://$REGISTRY/chentex/random-logger:latest"

# Written last: only with this file did cluster-up come to its end.
echo "$REGISTRY" >"$CLUSTER/registry"
echo "The cluster $NAME is up after $((SECONDS - begun)) s."
exec "$HERE/status.sh"
