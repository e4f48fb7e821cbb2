#!/bin/sh
# Fetches the definitions of Argo CD and Flux from their pinned Go modules, and builds a program that asks health scripts of
# Argo CD; once. Prints the folder that holds them: build.sh
#
# Progress goes to stderr; the only line on stdout is a folder with crds/*.yaml and the program health. Its name is a hash of
# all that decides its contents, and it appears by a rename, so whoever sees it sees it whole.
set -eu

cache=${OPSADMIN_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/opsadmin-operator}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
cd "$(dirname "$0")"

say() { echo "definitions of Argo CD and Flux: $*" >&2; }
fail() {
    say "$@"
    exit 1
}

hash=$({
    uname -sm
    cat build.sh go.mod go.sum health/main.go
} | sha256sum | cut -c 1-16)
[ -n "$hash" ] || fail "sha256sum is missing: install coreutils."
target=$cache/gitops-$hash

if [ -d "$target" ]; then
    echo "$target"
    exit 0
fi
command -v go >/dev/null ||
    fail "Go is not installed. Install Go $(sed -n 's/^go //p' go.mod) or newer (go.dev/dl) and put its bin folder on PATH."

# As for the test cluster: two at once would only cost time, as the rename keeps them apart.
if command -v flock >/dev/null; then
    exec 9>"$cache/gitops.lock"
    flock --nonblock 9 || { say "waiting for another download to finish" && flock 9; }
    rm -rf "$cache"/gitops.building.*
fi
if [ -d "$target" ]; then
    echo "$target"
    exit 0
fi

building=$(mktemp -d "$cache/gitops.building.XXXXXX")
trap 'rm -rf "$building"' EXIT
trap 'exit 1' HUP INT TERM
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

chmod 755 "$building"
chmod 644 "$building"/crds/*
[ -d "$target" ] || mv "$building" "$target"
echo "$target"
