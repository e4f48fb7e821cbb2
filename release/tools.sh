#!/bin/sh
# Installs the tools that the other scripts of a release use: release/tools.sh build|publish
#
# build: for release/image.sh and release/archive.sh. publish: for release/sbom.sh, push.sh and verify.sh.
set -eu
. "$(dirname "$0")/settings.sh"
unset RUSTFLAGS

has() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"; }

case ${1:-} in
build)
    packages=
    has musl-gcc || packages="$packages musl-tools"
    has buildah || packages="$packages buildah"
    if [ -n "$packages" ]; then
        apt update
        # No quotes: each word is a package.
        # shellcheck disable=SC2086
        apt install --no-install-recommends $packages
    fi
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target"
    has cargo-auditable || cargo install --locked "cargo-auditable@$auditable"
    ;;
publish)
    has cargo-cyclonedx || cargo install --locked cargo-cyclonedx@0.5.9
    has crane || go install github.com/google/go-containerregistry/cmd/crane@v0.22.1
    has cosign || go install github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
    ;;
*) fail "usage: release/tools.sh build|publish" ;;
esac
