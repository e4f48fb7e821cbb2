#!/bin/sh
# Runs the tests of the controller against a cluster of kind: release/kind.sh NODE-IMAGE
set -eu
. "$(dirname "$0")/settings.sh"
unset RUSTFLAGS
image=${1:?usage: release/kind.sh NODE-IMAGE}

command -v kind >/dev/null || go install sigs.k8s.io/kind@v0.33.0
work=$(mktemp -d)
name=opsadmin-$$
trap 'kind delete cluster --name "$name" --kubeconfig "$work/kubeconfig"; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
kind create cluster --name "$name" --image "$image" --kubeconfig "$work/kubeconfig" --wait 5m
OPSADMIN_TEST_KUBECONFIG=$work/kubeconfig cargo test --locked --test suite -- controller validation nulls
