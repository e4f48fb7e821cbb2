#!/bin/sh
# Builds the programs of a Kubernetes node from their pinned Go modules, once, and prints the folder that holds them:
# kubelet, kube-proxy, kube-scheduler, containerd and containerd-shim-runc-v2.
#
# They go with the newest control plane, which build.sh makes in the same way and with more to say about it. They are
# apart from it because only the tests of real pods need them.
set -eu

cache=${OPSADMIN_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/opsadmin-operator}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
cd "$(dirname "$0")"

say() { echo "test node: $*" >&2; }
fail() {
    say "$@"
    exit 1
}

hash=$({
    uname -sm
    cat build-node.sh node/go.mod node/go.sum node/tools.go containerd/go.mod containerd/go.sum containerd/tools.go
} | sha256sum | cut -c 1-16)
[ -n "$hash" ] || fail "sha256sum is missing: install coreutils."
target=$cache/node-$hash

done_already() { [ ! -d "$target" ] || { echo "$target" && exit 0; }; }
done_already

version_of() { sed -n "s|^.*$2 \(v[0-9.]*\)\$|\1|p" "$1/go.mod" | head -n 1; }
kubernetes=$(version_of node k8s.io/kubernetes)
[ "$kubernetes" = "$(version_of newest k8s.io/kubernetes)" ] ||
    fail "node/go.mod and newest/go.mod pin different releases of Kubernetes: run pin.sh newest $kubernetes"
command -v go >/dev/null || fail "Go is not installed: go.dev/dl, and put its bin folder on PATH."

if command -v flock >/dev/null; then
    exec 9>"$cache/lock"
    flock --nonblock 9 || { say "waiting for another build to finish" && flock 9; }
    rm -rf "$cache"/building.*
fi
done_already

export GOWORK=off CGO_ENABLED=0
building=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$building"' EXIT
trap 'exit 1' HUP INT TERM

# build FOLDER TAGS LINKER-FLAGS PACKAGE...
build() {
    folder=$1 tags=$2 flags=$3
    shift 3
    for package in "$@"; do
        began=$(date +%s)
        (cd "$folder" && nice go build -mod=readonly -buildvcs=false -trimpath -tags "$tags" -ldflags "-s -w $flags" \
            -o "$building/" "$package") >&2 ||
            fail "building ${package##*/} failed; Go's own message is above."
        say "built ${package##*/} in $(($(date +%s) - began)) s"
    done
}

say "building the node of Kubernetes $kubernetes once, into $target; this takes about three minutes on two cores"
# A kubelet that does not know its version is no match for any API server.
minor=${kubernetes#v1.}
flags=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
done
commands=k8s.io/kubernetes/cmd
build node "" "$flags" $commands/kubelet $commands/kube-scheduler $commands/kube-proxy
# Those filesystems need C libraries, and no test uses them.
commands=github.com/containerd/containerd/v2/cmd
build containerd "no_btrfs no_devmapper no_zfs" "" $commands/containerd $commands/containerd-shim-runc-v2

chmod 755 "$building"
[ -d "$target" ] || mv "$building" "$target"
echo "$target"
