#!/bin/sh
# Builds the programs of a Kubernetes node from their pinned Go modules, once, and prints the folder that holds them:
# kubelet, kube-proxy, kube-scheduler, containerd and containerd-shim-runc-v2.
#
# They go with the newest control plane, which build.sh makes in the same way and with more to say about it. They are
# apart from it because only the tests of real pods need them.
set -eu

what="test node"
. "$(dirname "$0")/../cached.sh"
cd "$(dirname "$0")"
cached node node/go.mod node/go.sum node/tools.go containerd/go.mod containerd/go.sum containerd/tools.go

version_of() { sed -n "s|^.*$2 \(v[0-9.]*\)\$|\1|p" "$1/go.mod" | head -n 1; }
kubernetes=$(version_of node k8s.io/kubernetes)
[ "$kubernetes" = "$(version_of newest k8s.io/kubernetes)" ] ||
    fail "node/go.mod and newest/go.mod pin different releases of Kubernetes: run pin.sh newest $kubernetes"
command -v go >/dev/null || fail "Go is not installed: go.dev/dl, and put its bin folder on PATH."

begin_building

export GOWORK=off CGO_ENABLED=0
say "building the node of Kubernetes $kubernetes once, into $target; this takes about three minutes on two cores"
commands=k8s.io/kubernetes/cmd
(cd node && go_build "$(linker_flags "$kubernetes")" "" $commands/kubelet $commands/kube-scheduler $commands/kube-proxy)
# Those filesystems need C libraries, and no test uses them.
commands=github.com/containerd/containerd/v2/cmd
(cd containerd &&
    go_build "" "no_btrfs no_devmapper no_zfs" $commands/containerd $commands/containerd-shim-runc-v2)
finish_building
