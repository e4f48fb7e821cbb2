#!/bin/sh
# Builds the program that decodes a dashboard with the types of Grafana's own SDK, once. Prints the folder with the program
# check.
set -eu

what="decoder of dashboards"
. "$(dirname "$0")/../cached.sh"
cd "$(dirname "$0")"
cached dashboard go.mod go.sum check/main.go

command -v go >/dev/null ||
    fail "Go is not installed. Install Go $(sed -n 's/^go //p' go.mod) or newer (go.dev/dl) and put its bin folder on PATH."

begin_building

export GOWORK=off CGO_ENABLED=0
go_build "" "" ./check
finish_building
