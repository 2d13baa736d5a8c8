#!/usr/bin/env bash
# Has Chromium, without a window, make a picture of a page: screenshot.sh ADDRESS FILE.png [WIDTHxHEIGHT] [light|dark]
set -euo pipefail

if (($# < 2)); then
    sed -n '2s/^# //p' "$0" >&2
    exit 2
fi
address="$1" file="$2" size="${3:-1100x900}" scheme="${4:-light}"
"$(dirname "$0")/cluster/packages.sh" chromium curl
# Chromium makes a picture of its own words where nobody answers.
curl --silent --show-error --fail --max-time 10 --output /dev/null "$address"
profile="$(mktemp -d)"
trap 'rm -rf "$profile"' EXIT
options=(--headless --disable-gpu --disable-dev-shm-usage --hide-scrollbars)
# As root there is no sandbox to be had; the page runs nothing.
((EUID)) || options+=(--no-sandbox)
# 0 is dark and 1 is light.
timeout --kill-after=5 60 chromium "${options[@]}" --user-data-dir="$profile/data" \
    --blink-settings=preferredColorScheme="$([[ $scheme == dark ]] && echo 0 || echo 1)" \
    --window-size="${size/x/,}" --screenshot="$profile/page.png" "$address" >"$profile/log" 2>&1 || true
if [[ ! -s $profile/page.png ]]; then
    echo "Chromium made no picture of $address; its last lines:" >&2
    tail -n 20 "$profile/log" >&2
    exit 1
fi
mv "$profile/page.png" "$file"
