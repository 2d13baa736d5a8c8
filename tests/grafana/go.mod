// A check of the dashboard against the types of Grafana: see main.go.
module purechaos.dev/tests/grafana

go 1.26.0

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
