#!/bin/sh
# Builds a real Kubernetes control plane from its pinned Go modules, once: build.sh [newest|oldest]
#
# Prints the folder with etcd, kube-apiserver, kube-controller-manager and kubectl, which is what others call
# KUBEBUILDER_ASSETS.
set -eu

which=${1:-newest}
case "$which" in
newest | oldest) ;;
*)
    echo "usage: build.sh [newest|oldest]" >&2
    exit 2
    ;;
esac

what="test cluster ($which)"
. "$(dirname "$0")/../cached.sh"
cd "$(dirname "$0")"
without="Without building: set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and
kube-controller-manager, or OPSADMIN_TEST_KUBECONFIG to the kubeconfig of a cluster that tests may use."

cached kubernetes "$which/go.mod" "$which/go.sum" "$which/tools.go" "$which/etcd/main.go"

go_wanted=$(sed -n 's/^go //p' "$which/go.mod")
command -v go >/dev/null ||
    fail "Go is not installed. Install Go $go_wanted or newer (go.dev/dl) and put its bin folder on PATH.
$without"

begin_building

export GOWORK=off CGO_ENABLED=0
cd "$which"
version=$(go list -mod=readonly -m -f '{{.Version}}' k8s.io/kubernetes) ||
    fail "Go $go_wanted or newer is needed; found: $(cd / && go version). Go's own message is above.
Install it (go.dev/dl), or let a Go of 1.21 or newer fetch it: GOTOOLCHAIN=auto.
$without"

say "building Kubernetes $version once, into $target; this takes about five minutes on two cores"
commands=k8s.io/kubernetes/cmd
go_build "$(linker_flags "$version")" "" \
    ./etcd $commands/kube-apiserver $commands/kube-controller-manager $commands/kubectl
finish_building
