#!/bin/sh
# Runs cargo with the settings of a release build: release/cargo.sh build --release
#
# cargo-auditable writes the names and versions of all crates into the program, for scanners.
set -eu
. "$(dirname "$0")/settings.sh"

command -v musl-gcc >/dev/null || fail "musl-gcc is missing: install the package musl-tools."
command -v cargo-auditable >/dev/null ||
    fail "cargo-auditable is missing: cargo install --locked cargo-auditable@$auditable"
[ "$(rustc --version | cut -d ' ' -f 2)" = "$rust" ] ||
    say "this is $(rustc --version); releases are built with $rust, so the bytes differ from the released program's."

# In a test, cargo has set these. With other values than in a shell, ring and all that needs it is compiled again.
for variable in OUT_DIR $(env | sed -n 's/^\(CARGO_MANIFEST_[A-Z]*\|CARGO_PKG_[A-Z_]*\)=.*/\1/p'); do
    unset "$variable"
done

# No time is in the program. With another value for each commit, all C libraries and the crates above them are compiled
# again.
export SOURCE_DATE_EPOCH=0

command=$1
shift
exec cargo auditable "$command" --locked --target "$target" "$@"
