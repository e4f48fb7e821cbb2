#!/bin/sh
# Builds the released program for this machine's architecture and prints its path: release/build.sh
#
# The program is static: it needs no library and no other file.
set -eu
. "$(dirname "$0")/settings.sh"

release/cargo.sh build --release --bin opsadmin >&2
echo "$target_dir/$target/release/opsadmin"
