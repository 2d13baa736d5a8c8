# Logs a random line each second, and ends at once when told to.
trap 'exit 0' TERM INT

while :; do
    case $((RANDOM % 4)) in
    0) level=DEBUG message="This is a debug message" ;;
    1) level=INFO message="This is less important than debug log and is often used to provide context in the current task" ;;
    2) level=WARN message="A warning that should be ignored is usually at this level and should be actionable" ;;
    3) level=ERROR message="An error is usually an exception that has been caught and not handled" ;;
    esac
    echo "$(date -u +%FT%TZ) $level $message"
    # A shell answers signals between commands only; wait, unlike sleep, lets them through.
    sleep 1 &
    wait $!
done
