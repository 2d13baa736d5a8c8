#!/usr/bin/env bash
# Boots the local cluster NAME, unless it already runs without problems. After a crash, the cluster
# starts again with the same data.
set -euo pipefail
asked="${KUBERNETES:-}"
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

if ((EUID)); then
    # Plain sudo replaces the caller's PATH and HOME, and so hides rustup, cargo and go.
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

# step WHAT LOG COMMAND...: runs the command and prints one line with its duration. If the command
# fails, the EXIT trap prints the end of the log. An `if` around the command could not do that,
# because bash then ignores failures in the middle of the command.
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
    # One line names the part of the node that ended, and 20 lines are from that part's log.
    tail -n 21 "$log" || true
    [[ $log != */node.log ]] || echo "If this happens again, make cluster-down NAME=$NAME and another cluster-up start afresh."
}
trap 'tell_failure >&3' EXIT

image_tool() {
    BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs buildah --root "$CLUSTER/images/storage" --runroot "$CLUSTER/images/run" "$@"
}

# within SECONDS COMMAND...: repeats the command until it succeeds, as long as the node runs.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        node_process >/dev/null || return 1
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# Every process started below inherits this lock. If this script is killed, the next run waits until
# the processes that it left behind have ended. All of them end without help.
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

modules=(kubernetes)
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
# A cluster-down that was killed can leave this folder behind.
rm -rf --one-file-system "$CLUSTER.gone"
[[ -f $CLUSTER/kubernetes ]] || echo "$KUBERNETES" >"$CLUSTER/kubernetes"
[[ -f $CLUSTER/number ]] || step "Addresses" up.log choose_number
# shellcheck source=hack/cluster/env.sh
. "$HERE/env.sh"
rm -f "$CLUSTER/registry"

# Both buildah and containerd support Docker's archive format.
build_images() {
    mkdir -p "$CLUSTER/images"
    cp "$(command -v busybox)" "$BIN/busybox"
    local image
    for image in pause random-logger; do
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
        # In cgroup v2, a folder gets only the controllers that its parent enables. Most hosts
        # already enable them.
        sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
    fi
    local namespaces=(--mount --pid --net --fork --kill-child --mount-proc)
    # The node gets neither the lock nor the terminal, because it outlives this script.
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

# A first start, a crash, an incomplete start and a node that hangs take the same path: stop what
# still runs, then start on the same data.
step "Keys and settings" up.log "$HERE/configure.sh"
[[ -f $CLUSTER/images/random-logger.tar ]] || step "Images of the node itself" up.log build_images
step "Node started" up.log start_node
step "API server answers" node.log within 60 kubectl get --raw /readyz
KUBECONFIG_FILE="$CLUSTER/pki/super-admin.conf" step "Rights" up.log within 20 kubectl apply -f "$HERE/access.yaml"
step "Node is Ready" node.log within 60 node_ready
step "Registry answers" up.log within 60 registry_answers
step "Image chentex/random-logger pushed" up.log within 60 \
    image_tool push --tls-verify=false localhost/random-logger:local "docker://$REGISTRY/chentex/random-logger:latest"

# The script writes this file last, because the file means that cluster-up is complete.
echo "$REGISTRY" >"$CLUSTER/registry"
echo "The cluster $NAME is up after $((SECONDS - begun)) s."
exec "$HERE/status.sh"
