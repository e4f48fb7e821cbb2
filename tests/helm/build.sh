#!/bin/sh
# Builds Helm from its pinned Go module, once. Prints the folder with the program helm.
#
# OPSADMIN_TEST_HELM names a program to use instead.
set -eu

if [ -n "${OPSADMIN_TEST_HELM:-}" ]; then
    dirname "$OPSADMIN_TEST_HELM"
    exit 0
fi

what="Helm"
. "$(dirname "$0")/../cached.sh"
cd "$(dirname "$0")"
without="Without building: set OPSADMIN_TEST_HELM to a helm 3.18 or newer."
cached helm go.mod go.sum tools.go

command -v go >/dev/null ||
    fail "Go is not installed. Install Go $(sed -n 's/^go //p' go.mod) or newer (go.dev/dl) and put its bin folder on PATH.
$without"

begin_building

export GOWORK=off CGO_ENABLED=0
say "building it once, into $target; this takes about two minutes on two cores"
go_build "" "" helm.sh/helm/v4/cmd/helm
finish_building
