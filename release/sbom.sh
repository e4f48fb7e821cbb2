#!/bin/sh
# Writes the list of all crates in the released program, as CycloneDX, and prints its path: release/sbom.sh
set -eu
. "$(dirname "$0")/settings.sh"

command -v cargo-cyclonedx >/dev/null || fail "cargo-cyclonedx is missing: release/tools.sh installs it."
cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --override-filename sbom.cdx >&2
written=$target_dir/opsadmin-$version-linux-$architecture.cdx.json
# The path of this folder identifies the package, but is different on each machine.
sed "s|file://$PWD|file:///src|g" sbom.cdx.json >"$written"
rm sbom.cdx.json
echo "$written"
