#!/bin/sh
# Pins tests/cluster/newest or tests/cluster/oldest to a Kubernetes release: pin.sh newest|oldest vX.Y.Z
# `newest` also pins the programs of a node (tests/cluster/node) to the same release.
#
# The go.mod of Kubernetes requires its staging modules (k8s.io/api, k8s.io/client-go, ...) at v0.0.0, which means the
# copies in its own repository. All of them are also published as v0.Y.Z, so this script writes a requirement and a
# replacement with that version for each. The version of etcd is the one in the go.mod of Kubernetes.
set -eu

which=${1:-} version=${2:-}
case "$which:$version" in
newest:v1.*.*) folders="newest node" ;;
oldest:v1.*.*) folders=oldest ;;
*)
    echo "usage: pin.sh newest|oldest vX.Y.Z (what is served: go list -m -versions k8s.io/kubernetes)" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")"

GOWORK=off
export GOWORK
upstream=$(cd / && go mod download -json "k8s.io/kubernetes@$version" |
    sed -n 's/^\t"GoMod": "\(.*\)",*$/\1/p')
[ -f "$upstream" ] || { echo "pin.sh: k8s.io/kubernetes $version cannot be downloaded" >&2 && exit 1; }
staging=$(sed -n 's/^\t\(k8s\.io\/[a-z-]*\) v0\.0\.0$/\1/p' "$upstream" | sort -u)
etcd=$(sed -n 's/^\tgo\.etcd\.io\/etcd\/server\/v3 \(v[0-9.]*\).*/\1/p' "$upstream")

for folder in $folders; do
    {
        echo "// Written by ../pin.sh $which $version"
        echo
        echo "module opsadmin-operator/tests/cluster/$folder"
        echo
        grep -E '^go [0-9]' "$upstream"
        echo
        grep -E '^godebug default=' "$upstream"
        echo
        echo "require ("
        echo "	k8s.io/kubernetes $version"
        echo "	go.etcd.io/etcd/server/v3 $etcd"
        for module in $staging; do echo "	$module v0.${version#v1.}"; done
        echo ")"
        echo
        echo "replace ("
        for module in $staging; do echo "	$module => $module v0.${version#v1.}"; done
        echo ")"
    } >"$folder/go.mod"
    rm -f "$folder/go.sum"
    # -e ignores missing packages that only the tests of other modules import. `tidy` removes modules that no program
    # imports, such as etcd for the programs of a node.
    (cd "$folder" && go mod tidy -e)
done
