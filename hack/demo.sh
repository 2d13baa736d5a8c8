#!/usr/bin/env bash
# Runs the walk-through. A namespace opts in, its Pods die on schedule and recover, the namespace
# opts out, and nothing dies after that. The script prints each command before its output. The
# script succeeds if at least three kills recover and the Deployment is complete at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

namespace=learning-place
wanted=3

if [[ -z ${CONTEXT:-} ]]; then
    if ! NAME="${NAME:-demo}" hack/cluster/build.sh kubernetes --check; then
        echo "The first time takes about 10 minutes on two cores: Kubernetes and Pure Chaos are compiled here. Later it takes less than 2 minutes."
    fi
    hack/cluster/up.sh
fi
# shellcheck source=manifests/cluster.sh
. manifests/cluster.sh
make --no-print-directory deploy OVERLAY="${OVERLAY:-demo}"

# Prometheus is optional. As root on Debian, the script installs the package.
prometheus=""
if hack/cluster/packages.sh prometheus >/dev/null 2>&1 && command -v prometheus >/dev/null; then
    # Exit code 3 means that Prometheus cannot use this kubeconfig.
    prometheus="$(hack/prometheus.sh start)" || { code=$?; ((code == 3)) || exit "$code"; }
fi
[[ -n $prometheus ]] || echo "Without Prometheus: what it would count is read off the agent's metrics."

heading() {
    printf '\n=== %s\n' "$1"
}
# run COMMAND...: prints a command as a person types it, then runs it.
run() {
    local word line=""
    for word in "$@"; do
        if [[ $word == *=*' '* ]]; then
            word="${word%%=*}='${word#*=}'"
        elif [[ $word == *' '* ]]; then
            word="'$word'"
        fi
        line+="$word "
    done
    line="${line% }"
    printf '\n$ %s\n' "${line/#kubectl/$spoken}"
    "$@"
}
# within SECONDS WHAT COMMAND...: waits until a command succeeds.
within() {
    local deadline=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@"; do
        if ((SECONDS >= deadline)); then
            echo "Timed out: $what" >&2
            exit 1
        fi
        sleep 0.5
    done
}
scrape() {
    kubectl get --raw /api/v1/namespaces/pure-chaos/services/agent:metrics/proxy/metrics
}
# total METRIC MATCHER: prints the sum of the metric's series in this namespace whose labels match.
# The sum comes from Prometheus if it runs. Otherwise the script computes the same sum from the
# agent's metrics.
total() {
    if [[ -n $prometheus ]]; then
        promtool query instant "$prometheus" "sum($1{target_namespace=\"$namespace\"${2:+,$2}}) or vector(0)" | sed 's/.*=> \([0-9.]*\) .*/\1/'
        return
    fi
    scrape | awk -v name="$1{" -v namespace="target_namespace=\"$namespace\"" -v filter="${2:-}" \
        'index($0, name) == 1 && index($0, namespace) && $0 ~ filter { sum += $NF } END { print sum + 0 }'
}
ready_is_ten() {
    [[ "$(kubectl -n "$namespace" get deployment random-logger -o jsonpath='{.status.readyReplicas}')" == 10 ]]
}
port=9091
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    port=$((port + 1))
done
page="http://127.0.0.1:$port/"
forward=""
# page_says WORDS: succeeds if the page contains the words.
page_says() {
    local answer=""
    {
        printf 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
        answer="$(cat <&3)"
    } 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$port" || true
    [[ $answer == *"$1"* ]]
}
# show_page: forwards the port to the page of the current agent, until that agent ends.
show_page() {
    if [[ -n $forward ]]; then
        kill "$forward" 2>/dev/null || true
        wait "$forward" 2>/dev/null || true
    fi
    setsid kubectl "${selected[@]}" -n pure-chaos port-forward deployment/agent "$port:9090" >/dev/null 2>&1 </dev/null &
    forward=$!
    within 60 "the agent's own page does not answer as one that leads" page_says "Namespaces that opted in"
}

# Remove the namespace of an earlier demonstration. A namespace of this name without that label
# belongs to somebody else, and stays.
if owner="$(kubectl get namespace "$namespace" -o jsonpath='{.metadata.labels.purechaos\.dev/demo}' 2>/dev/null)"; then
    if [[ $owner != yes ]]; then
        echo "There is a namespace $namespace that no demonstration made. Remove it first, or choose another cluster." >&2
        exit 1
    fi
    kubectl delete namespace "$namespace" --timeout=120s >/dev/null
fi

events="$(mktemp)"
watching="" tailing=""
# After a success, the page stays available. After a failure, the script closes it, because there is
# nothing to see.
finish() {
    local code=$?
    rm -f "$events"
    for process in $watching $tailing $( ((code == 0)) || echo "$forward"); do
        kill "$process" 2>/dev/null || true
    done
}
trap finish EXIT

show_page
heading "To watch meanwhile"
echo "The agent's own page, until its agent is killed: $page"
[[ -z $prometheus ]] || echo "Prometheus, such as its graph of pure_chaos_kills_total: $prometheus"

heading "A namespace with ten Pods that log"
run kubectl create namespace "$namespace"
kubectl label namespace "$namespace" purechaos.dev/demo=yes >/dev/null
run kubectl -n "$namespace" create deployment random-logger --image=chentex/random-logger
run kubectl -n "$namespace" scale deployment random-logger --replicas=10
run kubectl -n "$namespace" wait deployment random-logger --for=jsonpath='{.status.readyReplicas}'=10 --timeout=120s

heading "Its owner opts in"
run kubectl annotate namespace "$namespace" chaos=yes purechaos.dev/schedule='every 5s'
scheduled() { [[ -n "$(kubectl -n "$namespace" get optin chaos -o jsonpath='{.status.nextSlot}' 2>/dev/null)" ]]; }
within 10 "no record for $namespace" scheduled
run kubectl get chaos -A

heading "Pods die on schedule, and recover"
before="$(total pure_chaos_recoveries_total 'outcome="recovered"')"
printf '\n$ %s -n %s get events.events.k8s.io --watch-only\n' "$spoken" "$namespace"
template='{{if eq .regarding.kind "Deployment"}}{{.metadata.creationTimestamp}}  {{.reason}}  {{.note}}{{"\n"}}{{end}}'
kubectl -n "$namespace" get events.events.k8s.io --watch-only -o go-template="$template" >"$events" 2>/dev/null &
watching=$!
tail -f -n +1 "$events" &
tailing=$!
enough() { (($(total pure_chaos_recoveries_total 'outcome="recovered"') - before >= wanted)); }
# If a Pod changes during its kill, the agent lets the workload rest for two minutes.
within 300 "fewer than $wanted kills recovered" enough

within 10 "the agent's own page tells of no kill" page_says '>killed</span>'

heading "What happened"
kill "$watching" "$tailing" 2>/dev/null || true
watching="" tailing=""
run kubectl get chaos -A
durations="$(grep -o 'recovered [0-9.]* s after' "$events" | awk '{ print $2 }' | sort -n)"
echo
printf '%-24s %s\n' kills "$(total pure_chaos_kills_total)" \
    recoveries "$(total pure_chaos_recoveries_total 'outcome="recovered"')" \
    'median recovery' "$(awk '{ d[NR] = $1 } END { print d[int((NR + 1) / 2)] " s" }' <<<"$durations")" \
    'longest recovery' "$(tail -n 1 <<<"$durations") s" \
    'container restarts' "$(total pure_chaos_container_restarts_total)"
printf 'refusals by reason\n'
scrape | sed -n "s/^pure_chaos_refusals_total{reason=\"\([a-z_]*\)\",target_namespace=\"$namespace\"} \([1-9][0-9]*\)\$/  \1 \2/p" |
    awk '{ printf "  %-22s %s\n", $1, $2; some = 1 } END { if (!some) print "  none" }'

heading "A PodDisruptionBudget allows no eviction, and it says so"
run kubectl -n "$namespace" create poddisruptionbudget random-logger --selector=app=random-logger --min-available=10
blocked() { [[ "$(kubectl -n "$namespace" get optin chaos -o jsonpath='{.status.state}')" == *blocked_by_pdb* ]]; }
within 60 "the PodDisruptionBudget was not noticed" blocked
run kubectl get chaos -A
run kubectl -n pure-chaos exec deployment/agent -- /agent explain "$namespace"
run kubectl -n "$namespace" delete poddisruptionbudget random-logger

heading "A hypothesis: a Service answers while its Pods die"
front=hack/demo-front.yaml
run kubectl -n "$namespace" apply -f "$front"
run kubectl -n "$namespace" rollout status deployment front --timeout=60s
run kubectl annotate namespace "$namespace" purechaos.dev/steady-state=front-answers purechaos.dev/targets=app=front
ended_as() { (($(total pure_chaos_hypotheses_total "outcome=\"$1\"") > 0)); }
within 120 "no hypothesis held" ended_as held
run kubectl -n "$namespace" scale deployment front --replicas=1
run kubectl annotate namespace "$namespace" purechaos.dev/single-replica=allow
within 120 "no hypothesis broke" ended_as broken
run kubectl -n "$namespace" get events --field-selector reason=ChaosHypothesisBroken -o custom-columns=REASON:.reason,MESSAGE:.message
run kubectl -n "$namespace" get optin chaos -o jsonpath='{range .status.hypotheses[*]}{.check}: held {.held}, broken {.broken}, unknown {.unknown}{"\n"}{end}'
run kubectl -n "$namespace" delete -f "$front"
run kubectl annotate namespace "$namespace" purechaos.dev/steady-state- purechaos.dev/targets- purechaos.dev/single-replica-

heading "A container that crashes is a restart, and not a kill"
# The Deployment has only one Pod, so the agent does not kill it.
run kubectl -n "$namespace" create deployment restless --image=chentex/random-logger -- sh -c 'sleep 3; exit 1'
restarted() { (($(total pure_chaos_container_restarts_total 'workload="restless"') > 0)); }
within 120 "no restart of a container was counted" restarted
printf '\n%-24s %s\n' 'container restarts' "$(total pure_chaos_container_restarts_total 'workload="restless"')" \
    'kills' "$(total pure_chaos_kills_total 'workload="restless"')"
run kubectl -n "$namespace" delete deployment restless

heading "The leading agent is killed in the middle, and another goes on"
run kubectl -n pure-chaos scale deployment agent --replicas=2
run kubectl -n pure-chaos rollout status deployment agent --timeout=60s
holder() { kubectl -n pure-chaos get lease agent -o jsonpath='{.spec.holderIdentity}'; }
kills() { kubectl -n "$namespace" get optin chaos -o jsonpath='{.status.kills}'; }
before="$(kills)"
another_kill() { (($(kills) > before)); }
within 240 "no kill since the PodDisruptionBudget went" another_kill
leader="$(holder)"
run kubectl -n pure-chaos delete pod "${leader%_*}" --grace-period=0 --force
another_leads() { [[ -n "$(holder)" && "$(holder)" != "$leader" ]]; }
within 60 "nobody else leads" another_leads
before="$(kills)"
within 240 "the other one kills nothing" another_kill
run kubectl -n pure-chaos get lease agent
# Each kill, before and after the change of leader, has exactly one outcome.
settled_record() {
    local counts
    counts="$(kubectl -n "$namespace" get optin chaos -o jsonpath='{.status.kills}|{.status.pendingCount}|{.status.outcomes}')"
    awk -F '|' '{ kills = $1; pending = $2; gsub(/[^0-9]+/, " ", $3); n = split($3, each, " "); for (i = 1; i <= n; i++) sum += each[i]; exit !(kills == pending + sum) }' <<<"$counts"
}
within 30 "the record does not add up" settled_record
run kubectl -n "$namespace" get optin chaos -o jsonpath='{.status.kills} kills: {.status.outcomes}{"\n"}'
run kubectl -n pure-chaos scale deployment agent --replicas=1

heading "Its owner opts out, and nothing dies any more"
run kubectl annotate namespace "$namespace" chaos- purechaos.dev/schedule-
names() { kubectl -n "$namespace" get pods -o name | sort; }
within 60 "the Deployment does not have 10 Ready Pods" ready_is_ten
settled() { (($(kubectl -n "$namespace" get pods -o name | wc -l) == 10)); }
within 60 "Pods that were killed do not go" settled
at_opt_out="$(names)"
echo
echo "Watching for 13 s, two and a half times the schedule ..."
sleep 13
if [[ "$(names)" != "$at_opt_out" ]]; then
    echo "A Pod died after the opt-out." >&2
    exit 1
fi
run kubectl -n "$namespace" get deployment random-logger
ready_is_ten

show_page
heading "To look further"
if [[ -z $CONTEXT ]]; then
    echo "export KUBECONFIG=$ROOT/.cluster/$NAME/kubeconfig PATH=$ROOT/.cluster/bin:\$PATH"
fi
cat <<END
$spoken get chaos -A -o wide
$spoken -n $namespace events
$spoken get --raw /api/v1/namespaces/pure-chaos/services/agent:metrics/proxy/metrics
The agent's own page: $page, until kill $forward or make cluster-down
${prometheus:+Prometheus: $prometheus, until ${CONTEXT:+CONTEXT=$CONTEXT }hack/prometheus.sh stop${CONTEXT:- or make cluster-down}
}To remove Pure Chaos:   make undeploy$([[ -n $CONTEXT ]] && echo " CONTEXT=$CONTEXT" || echo " NAME=$NAME")
To remove the namespace: $spoken delete namespace $namespace
END
[[ -n $CONTEXT ]] || echo "To remove everything:   make cluster-down${NAME:+ NAME=$NAME}"
