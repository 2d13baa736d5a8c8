#!/usr/bin/env bash
# Prints the paths of the files with the CustomResourceDefinitions that our components use: those of
# cert-manager and of Prometheus Operator. The files come from Go's module cache, which verifies
# their checksums.
set -euo pipefail
cd /

folder_of() {
    go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}
cert_manager="$(folder_of github.com/cert-manager/cert-manager@v1.21.2)"
operator="$(folder_of github.com/prometheus-operator/prometheus-operator@v0.85.0)"
ls "$cert_manager"/deploy/crds/cert-manager.io_{certificates,issuers}.yaml \
    "$operator"/example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,prometheusrules}.yaml
