#!/bin/sh
# Prints the section of CHANGELOG.md for a version: release/notes.sh VERSION
set -eu
. "$(dirname "$0")/settings.sh"
wanted=${1:?usage: release/notes.sh VERSION}

notes=$(awk -v wanted="$wanted" '
    /^## / { here = $2 == wanted || $2 == "[" wanted "]"; next }
    here { print }
' CHANGELOG.md)
[ -n "$notes" ] || fail "CHANGELOG.md has no section \"## $wanted\", or it is empty: write it before you tag."
echo "$notes"
