#!/busybox sh
# Logs a random line each second, and exits at once on SIGTERM or SIGINT.
# shellcheck shell=dash disable=SC3028
trap 'exit 0' TERM INT

while :; do
    case $((RANDOM % 4)) in
    0) level=DEBUG message="looked for work, found none" ;;
    1) level=INFO message="served request $RANDOM" ;;
    2) level=WARN message="request $RANDOM took its time" ;;
    3) level=ERROR message="request $RANDOM failed, and was answered so" ;;
    esac
    echo "$(date -u +%FT%TZ) $level $message"
    # A shell handles a signal only between commands. A signal interrupts `wait`, but not a `sleep`
    # in the foreground.
    sleep 1 &
    wait $!
done
