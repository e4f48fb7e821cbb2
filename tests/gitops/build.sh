#!/bin/sh
# Fetches the definitions of Argo CD and Flux from their pinned Go modules, and builds a program that asks health scripts of
# Argo CD; once. Prints a folder with crds/*.yaml and the program health.
set -eu

what="definitions of Argo CD and Flux"
. "$(dirname "$0")/../cached.sh"
cd "$(dirname "$0")"
cached gitops go.mod go.sum health/main.go

command -v go >/dev/null ||
    fail "Go is not installed. Install Go $(sed -n 's/^go //p' go.mod) or newer (go.dev/dl) and put its bin folder on PATH."

begin_building

export GOWORK=off CGO_ENABLED=0 GOFLAGS=-mod=readonly
mkdir "$building/crds"

# take MODULE FILE: a file of a module, which Go holds against go.sum.
take() {
    answer=$(go mod download -json "$1") || fail "$1 cannot be downloaded; Go's own message: $answer"
    folder=$(printf '%s\n' "$answer" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
    cp "$folder/$2" "$building/crds/" || fail "$1 has no $2"
}
say "downloading their modules once, about 60 MB"
take github.com/argoproj/argo-cd/v3 manifests/crds/application-crd.yaml
take github.com/argoproj/argo-cd/v3 manifests/crds/appproject-crd.yaml
take github.com/fluxcd/source-controller config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml
take github.com/fluxcd/kustomize-controller config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml
go build -buildvcs=false -trimpath -o "$building/health" ./health >&2 ||
    fail "building the program failed; Go's own message is above."

chmod 644 "$building"/crds/*
finish_building
