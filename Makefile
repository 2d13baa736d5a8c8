SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help fmt check build test test-fast soak crd images cluster-up cluster-down cluster-status deploy undeploy release-manifests demo picture bench fuzz clean

# The name of the local cluster. Each cluster has its own folder .cluster/$(NAME).
NAME ?= demo
# The Kubernetes version of a new local cluster: 1.37 (the default) or 1.34.
KUBERNETES ?=
# The kubeconfig context of a cluster of yours. With CONTEXT, targets that need images also need
# REGISTRY.
CONTEXT ?=
# The registry that images are pushed to and that nodes pull from. Without CONTEXT, the default is
# the local cluster's own registry.
REGISTRY ?=
# The overlay in manifests/overlays to deploy. The default is the base.
OVERLAY ?=
# The architectures of binaries and images: amd64, arm64, or "amd64 arm64".
ARCH ?= amd64

export NAME KUBERNETES CONTEXT REGISTRY OVERLAY ARCH

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  NAME=demo picks the local cluster, KUBERNETES=1.34 what a new one runs; CONTEXT=... uses one of yours instead (deploy, undeploy, demo), with REGISTRY=... for its images."

fmt: ## Format the code
	cargo fmt --all

check: ## Formatting, lints, documentation, scripts, manifests
	@hack/cluster/toolchains.sh
	@hack/cluster/packages.sh shellcheck
	@echo "check: formatting"
	cargo fmt --all --check
	@echo "check: lints"
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	@echo "check: the plugin alone, which has the agent without its feature controller"
	cargo clippy --locked --package kubectl-chaos -- -D warnings
	@echo "check: documentation"
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	@echo "check: scripts, workflows, whitespace"
	shellcheck $$(git ls-files '*.sh' .ci/run .githooks)
	@go -C tests/lint tool actionlint
	@tools="$$(go -C tests/lint tool -n editorconfig-checker)" && git ls-files -z | xargs -0 "$$tools" -no-color -disable-indent-size -disable-max-line-length

build: ## Build the static binaries of the images: ARCH=arm64 too
	@hack/cluster/toolchains.sh rust
	@for arch in $(ARCH); do hack/static.sh "$$arch"; done

test: ## Run all tests, those on a real cluster included
	@tests/run.sh

test-fast: ## Run the tests that need no cluster
	@hack/cluster/toolchains.sh
	cargo test --locked --workspace

soak: ## Run the long forms of the tests, before a release: hours
	@SOAK=1 tests/run.sh

crd: ## Write the record's CustomResourceDefinition into the manifests
	cargo run --quiet --locked --package tests --bin crd > manifests/base/crd.yaml.new
	mv manifests/base/crd.yaml.new manifests/base/crd.yaml

images: ## Build the images and push them to REGISTRY
	@registry="$$(manifests/registry.sh)"; $(MAKE) --no-print-directory build PROFILE=$${PROFILE:-$(if $(CONTEXT)$(REGISTRY),dist,local)}; REGISTRY="$$registry" hack/images.sh

cluster-up: ## Boot a local Kubernetes cluster: NAME=demo
	@hack/cluster/up.sh

cluster-down: ## Remove it, with everything it made
	@hack/cluster/down.sh

cluster-status: ## Say whether it runs, and how to reach it
	@hack/cluster/status.sh

deploy: images ## Install Pure Chaos: OVERLAY=demo for slots of seconds
	@manifests/deploy.sh

undeploy: ## Remove Pure Chaos, its records and its rights
	@manifests/undeploy.sh

release-manifests: ## Write target/install.yaml, with the images of REGISTRY
	@manifests/release.sh

demo: ## See Pods die on schedule, and recover, in a real cluster
	@hack/demo.sh

picture: ## Draw docs/dashboard.png from a Prometheus: PROMETHEUS=http://127.0.0.1:9095
	@hack/cluster/packages.sh python3-matplotlib
	@hack/picture.py "$${PROMETHEUS:?names the address of a Prometheus; make demo prints its own}"

bench: ## Measure what the webhook costs; ONLY=loopback needs no cluster
	@tests/bench.sh

fuzz: ## Fuzz the grammar, the policy file and the review for a minute each
	@tests/fuzz.sh

clean: ## Remove what was built, and every local cluster
	@for folder in .cluster/*/number; do [ ! -e "$$folder" ] || NAME="$$(basename "$$(dirname "$$folder")")" hack/cluster/down.sh; done
	rm -rf target .cluster
