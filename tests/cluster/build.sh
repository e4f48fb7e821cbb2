#!/bin/sh
# Builds a real Kubernetes control plane from its pinned Go modules, once, and prints the folder that holds it:
# build.sh [newest|oldest]
#
# Progress goes to stderr; the only line on stdout is a folder with etcd, kube-apiserver, kube-controller-manager and
# kubectl, which is what others call KUBEBUILDER_ASSETS. The folder's name is a hash of all that decides its contents,
# and it appears by a rename, so whoever sees it sees it whole. To forget everything that was ever built, remove the
# cache folder.
set -eu

which=${1:-newest}
case "$which" in
newest | oldest) ;;
*)
    echo "usage: build.sh [newest|oldest]" >&2
    exit 2
    ;;
esac

cache=${OPSADMIN_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/opsadmin-operator}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
cd "$(dirname "$0")"

say() { echo "test cluster ($which): $*" >&2; }
fail() {
    say "$@"
    exit 1
}
without="Without building: set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and
kube-controller-manager, or OPSADMIN_TEST_KUBECONFIG to the kubeconfig of a cluster that tests may use."

hash=$({
    uname -sm
    cat build.sh "$which/go.mod" "$which/go.sum" "$which/tools.go" "$which/etcd/main.go"
} | sha256sum | cut -c 1-16)
[ -n "$hash" ] || fail "sha256sum is missing: install coreutils."
target=$cache/kubernetes-$hash

if [ -d "$target" ]; then
    echo "$target"
    exit 0
fi

go_wanted=$(sed -n 's/^go //p' "$which/go.mod")
command -v go >/dev/null ||
    fail "Go is not installed. Install Go $go_wanted or newer (go.dev/dl) and put its bin folder on PATH.
$without"

# Two builds at once would only cost time and memory, as the rename keeps them apart; so a system without flock goes on
# without it. Whoever has the lock also knows that an unfinished folder is a killed build's.
if command -v flock >/dev/null; then
    exec 9>"$cache/lock"
    flock --nonblock 9 || { say "waiting for another build to finish" && flock 9; }
    rm -rf "$cache"/building.*
fi
if [ -d "$target" ]; then
    echo "$target"
    exit 0
fi

export GOWORK=off CGO_ENABLED=0
cd "$which"
version=$(go list -mod=readonly -m -f '{{.Version}}' k8s.io/kubernetes) ||
    fail "Go $go_wanted or newer is needed; found: $(cd / && go version). Go's own message is above.
Install it (go.dev/dl), or let a Go of 1.21 or newer fetch it: GOTOOLCHAIN=auto.
$without"

# Without these an API server says that it is v0.0.0, and clients refuse to talk to it.
minor=${version#v1.}
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
done

building=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$building"' EXIT
trap 'exit 1' HUP INT TERM

say "building Kubernetes $version once, into $target; this takes about five minutes on two cores"
commands=k8s.io/kubernetes/cmd
for package in ./etcd $commands/kube-apiserver $commands/kube-controller-manager $commands/kubectl; do
    began=$(date +%s)
    nice go build -mod=readonly -buildvcs=false -trimpath -ldflags "$flags" -o "$building/" "$package" >&2 ||
        fail "building ${package##*/} failed; Go's own message is above.
$without"
    say "built ${package##*/} in $(($(date +%s) - began)) s"
done
chmod 755 "$building"
[ -d "$target" ] || mv "$building" "$target"
echo "$target"
