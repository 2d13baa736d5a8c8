#!/usr/bin/env bash
# Runs Debian's Prometheus beside a cluster. Prometheus scrapes what the manifests advertise: each
# container port named `metrics` of our Pods. Prometheus reaches the Pods through the API server,
# with the rights of the kubeconfig, so it needs no access to the Pod network.
#   prometheus.sh start    starts Prometheus, and prints its address when every target is scraped. The script exits
#                          with 3 if Prometheus cannot sign in as the kubeconfig's user does. An example is a user
#                          who signs in by a program, as with EKS and GKE.
#   prometheus.sh stop     stops Prometheus
set -euo pipefail
if [[ $1 == stop && -z ${CONTEXT:-} ]]; then
    # `stop` also works after the cluster is gone.
    ROOT="$(cd "$(dirname "$0")/.." && pwd -P)"
else
    # shellcheck source=manifests/cluster.sh
    . "$(dirname "$0")/../manifests/cluster.sh"
fi
folder="$ROOT/target/prometheus/$(tr -c '[:alnum:]\n' - <<<"${CONTEXT:-${NAME:-demo}}")"

stop() {
    [[ -f $folder/pid ]] || return 0
    local pid
    pid="$(<"$folder/pid")"
    # Another process can have this process ID by now.
    if [[ "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" == *"--config.file=$folder/"* ]]; then
        kill "$pid"
        for _ in {1..50}; do
            [[ -d /proc/$pid ]] || break
            sleep 0.1
        done
    fi
    rm -rf "$folder"
}
if [[ $1 == stop ]]; then
    stop
    exit
fi

stop
mkdir -p "$folder"
chmod 700 "$folder"
kubectl config view --raw --minify --flatten >"$folder/kubeconfig"
of_config() {
    kubectl config view --raw --minify --flatten -o jsonpath="{$1}"
}
server="$(of_config .clusters[0].cluster.server)"
of_config '.clusters[0].cluster.certificate-authority-data' | base64 -d >"$folder/ca.crt"
of_config '.users[0].user.client-certificate-data' | base64 -d >"$folder/client.crt"
of_config '.users[0].user.client-key-data' | base64 -d >"$folder/client.key"
of_config '.users[0].user.token' >"$folder/token"
if [[ -s $folder/client.crt ]]; then
    who="tls_config: {ca_file: ca.crt, cert_file: client.crt, key_file: client.key}"
elif [[ -s $folder/token ]]; then
    who=$'tls_config: {ca_file: ca.crt}\n    authorization: {credentials_file: token}'
else
    user="$(of_config '.contexts[0].context.user')"
    program="$(of_config '.users[0].user.exec.command')"
    rm -rf "$folder"
    echo "Prometheus can't sign in as $user of the kubeconfig, who has ${program:+a program for it, $program, and }neither a client certificate nor a token." \
        "Name a context whose user has one of these." >&2
    exit 3
fi
port=9095
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    port=$((port + 1))
done
cat >"$folder/prometheus.yml" <<END
global:
  scrape_interval: 2s
scrape_configs:
  - job_name: pure-chaos
    scheme: https
    $who
    file_sd_configs:
      - files: [targets.json]
END
# Debian builds Prometheus without Kubernetes service discovery. The script writes the targets as
# service discovery would find them, with the labels that PodMonitors add.
# shellcheck disable=SC2016 # The dollars are the template's.
template='[{{range $i, $pod := .items}}{{if $i}},{{end}}{{range .spec.containers}}{{$container := .name}}{{range .ports}}{{if eq .name "metrics"}}{
  "targets": ["'"${server#https://}"'"],
  "labels": {
    "namespace": "{{$pod.metadata.namespace}}", "pod": "{{$pod.metadata.name}}", "container": "{{$container}}", "instance": "{{$pod.metadata.name}}",
    "job": "pure-chaos/{{index $pod.metadata.labels "app.kubernetes.io/component"}}",
    "__metrics_path__": "/api/v1/namespaces/pure-chaos/pods/{{$pod.metadata.name}}:{{.containerPort}}/proxy/metrics"
  }}{{end}}{{end}}{{end}}{{end}}]'
find_targets() {
    kubectl -n pure-chaos get pods -l app.kubernetes.io/name=pure-chaos --field-selector=status.phase=Running -o go-template="$template" >"$folder/targets.new" &&
        mv "$folder/targets.new" "$folder/targets.json"
}
find_targets
setsid prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" --web.listen-address="127.0.0.1:$port" \
    --storage.tsdb.retention.time=1d >"$folder/log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$folder/pid"
# Update the targets as long as Prometheus runs.
while sleep 1 && [[ -d /proc/$pid && -d $folder ]]; do find_targets; done >/dev/null 2>&1 </dev/null &
address="http://127.0.0.1:$port"
for _ in {1..120}; do
    # The four targets are one agent, two webhooks and one certs.
    up="$(promtool query instant "$address" 'count(up == 1)' 2>/dev/null || true)"
    if [[ $up == *'=> '[4-9]* ]]; then
        echo "$address"
        exit
    fi
    sleep 0.5
done
echo "Prometheus does not see the metrics of every part; its last lines:" >&2
tail -n 5 "$folder/log" >&2
stop
exit 1
