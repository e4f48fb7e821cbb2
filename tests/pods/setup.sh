#!/bin/sh
# Prepares a machine for `cargo test --test pods`, in addition to tests/setup.sh. Installs missing packages of Debian
# and Ubuntu. For everything else that is missing, prints what to do. Does nothing if nothing is missing.
#
# The tests need root, because they create and remove namespaces, cgroups and containers.
set -eu
cd "$(dirname "$0")/../.."

if [ "$(id -u)" != 0 ]; then
    echo "The tests of real pods need root, for namespaces, cgroups and containers: run this and them as root," >&2
    echo "or leave them out. All other tests run without: cargo test" >&2
    exit 1
fi

has() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1; }
has_cni() { [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ]; }

# The packages to install.
packages=
has runc || packages="$packages runc"
has_cni || packages="$packages containernetworking-plugins"
has iptables || packages="$packages iptables"
has ip || packages="$packages iproute2"
has busybox || packages="$packages busybox-static"
has script || packages="$packages bsdutils"
has unshare || packages="$packages util-linux"

if [ -n "$packages" ] && has apt-get; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -y update
    # No quotes: each word is a package.
    # shellcheck disable=SC2086
    apt-get -q -y install --no-install-recommends $packages
fi

problems=0
problem() {
    problems=$((problems + 1))
    echo "Missing: $*" >&2
}

for program in runc iptables ip busybox script unshare; do
    has "$program" || problem "$program"
done
has_cni || problem "the CNI plugins bridge, host-local and loopback, in /usr/lib/cni or /opt/cni/bin"
release/tools.sh build || problem "what builds the image: the message above says what failed"
go_wanted=$(sed -n 's/^go //p' tests/cluster/containerd/go.mod)
(cd tests/cluster/containerd && GOWORK=off go env GOVERSION >/dev/null 2>&1) ||
    problem "Go $go_wanted or newer, which builds the node: go.dev/dl, or let a Go of 1.21 or newer fetch it: GOTOOLCHAIN=auto"

[ "$problems" = 0 ]
