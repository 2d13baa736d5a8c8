#!/usr/bin/env bash
# Installs missing Debian packages: those in the arguments. Without arguments, the script installs
# the packages that the local cluster needs.
set -euo pipefail

if (($#)); then
    wanted=("$@")
else
    wanted=(runc nftables buildah busybox-static docker-registry iproute2 procps util-linux)
fi

missing=()
if command -v dpkg-query >/dev/null; then
    for package in "${wanted[@]}"; do
        [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
    done
else
    # Without Debian's package database, the script can only look for the commands.
    declare -A command_of=([nftables]=nft [busybox-static]=busybox [iproute2]=ip [procps]=pgrep [util-linux]=unshare [prometheus]=promtool
        [prometheus-alertmanager]=amtool [qemu-user-static]=qemu-aarch64-static
        [gcc-x86-64-linux-gnu]=x86_64-linux-gnu-gcc [libc6-dev-amd64-cross]=x86_64-linux-gnu-gcc
        [gcc-aarch64-linux-gnu]=aarch64-linux-gnu-gcc [libc6-dev-arm64-cross]=aarch64-linux-gnu-gcc)
    for package in "${wanted[@]}"; do
        command -v "${command_of[$package]:-$package}" >/dev/null || missing+=("$package")
    done
fi
((${#missing[@]})) || exit 0

if ((EUID)) || ! command -v apt-get >/dev/null; then
    cat >&2 <<END
Missing here: ${missing[*]} (names of Debian packages).

They are installed for you only as root on Debian or Ubuntu. Choose one of:
  - there, as root:      apt-get install --no-install-recommends ${missing[*]}
  - on another system:   install the same tools with its own package manager, then try again
  - without the local cluster: name a cluster of yours with CONTEXT=..., for instance one made by kind
END
    exit 1
fi

echo "Installing Debian packages: ${missing[*]}"
for package in "${missing[@]}"; do
    # Only the programs of these packages are needed. A masked unit keeps a package from starting
    # its server on this machine.
    case $package in docker-registry | prometheus | prometheus-alertmanager | webhook) ;; *) continue ;; esac
    if [[ -d /etc/systemd/system && ! -e /etc/systemd/system/$package.service ]]; then
        ln -s /dev/null "/etc/systemd/system/$package.service"
        echo "($package.service is masked, because only the program is needed; systemctl unmask $package undoes that)"
    fi
done
# Two runs of apt-get at the same time would fail, because each locks Debian's package database.
exec 8>"${TMPDIR:-/tmp}/pure-chaos-packages.lock"
flock --wait 900 8
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    echo "apt-get failed; its last lines:" >&2
    tail -n 20 "$log" >&2
    exit 1
fi
