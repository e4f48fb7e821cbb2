#!/bin/sh
# Builds crossplane's provider-sql from its pinned Go module, once. Prints the folder with the program provider and the
# folder crds.
#
# With the argument find, it builds nothing and fails if there is nothing.
set -eu

what="provider-sql"
. "$(dirname "$0")/../../tests/cached.sh"
cd "$(dirname "$0")"
module=github.com/crossplane-contrib/provider-sql
version=$(sed -n "s|^require $module ||p" go.mod)
kind=provider-sql
target=$cache/$kind-$version
end_if_done
[ "${1:-}" != find ] || fail "$version is not built. Run benches/peer/build.sh, which needs Go and about five minutes."

command -v go >/dev/null ||
    fail "Go is not installed. Install Go $(sed -n 's/^go //p' go.mod) or newer (go.dev/dl) and put its bin folder on PATH."

begin_building

export GOWORK=off CGO_ENABLED=0
say "building $version once, into $target"
go_build "" "" "$module/cmd/provider"
cp -R "$(go list -mod=readonly -m -f '{{.Dir}}' "$module")/package/crds" "$building/"
chmod -R u+w "$building/crds"
finish_building
