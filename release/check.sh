#!/bin/sh
# Checks that a tag may be released: release/check.sh TAG
set -eu
. "$(dirname "$0")/settings.sh"
tag=${1:?usage: release/check.sh TAG}

[ "$tag" = "v$version" ] || fail "the tag is $tag, but Cargo.toml has version $version: the tag must be v$version."
release/notes.sh "$version" >/dev/null
for kind in sqlite postgres; do
    recorded=tests/statements/$version/$kind.json
    [ -f "$recorded" ] || fail "$recorded is missing: record this version's statements, see docs/releasing.md."
done
