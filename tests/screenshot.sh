#!/usr/bin/env bash
# Has Chromium, without a window, make a picture of a page: screenshot.sh ADDRESS FILE.png [WIDTHxHEIGHT] [light|dark]
set -euo pipefail

if (($# < 2)); then
    sed -n '2s/^# //p' "$0" >&2
    exit 2
fi
address="$1" file="$2" size="${3:-1100x900}" scheme="${4:-light}"
"$(dirname "$0")/../hack/cluster/packages.sh" chromium curl
# If nothing answers at the address, Chromium takes a picture of its own error page.
curl --silent --show-error --fail --max-time 10 --output /dev/null "$address"
profile="$(mktemp -d)"
trap 'rm -rf "$profile"' EXIT
options=(--headless --disable-gpu --disable-dev-shm-usage --hide-scrollbars)
# Chromium has no sandbox for root, which is safe here because the page runs no code.
((EUID)) || options+=(--no-sandbox)
# Chromium's setting is 0 for dark and 1 for light.
timeout --kill-after=5 60 chromium "${options[@]}" --user-data-dir="$profile/data" \
    --blink-settings=preferredColorScheme="$([[ $scheme == dark ]] && echo 0 || echo 1)" \
    --window-size="${size/x/,}" --screenshot="$profile/page.png" "$address" >"$profile/log" 2>&1 || true
if [[ ! -s $profile/page.png ]]; then
    echo "Chromium made no picture of $address; its last lines:" >&2
    tail -n 20 "$profile/log" >&2
    exit 1
fi
mv "$profile/page.png" "$file"
