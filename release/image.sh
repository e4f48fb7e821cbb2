#!/bin/sh
# Builds the image for this machine's architecture and prints the folder that holds it: release/image.sh
#
# The folder is an OCI layout. The program is built outside the image, so this needs no other image and no registry.
set -eu
. "$(dirname "$0")/settings.sh"

# Nodes pull the image when a pod starts, so it stays small.
most_bytes=30000000

command -v buildah >/dev/null || fail "buildah is missing: install the package of that name."
layout=$target_dir/image-$architecture
root=$target_dir/image-root
release/root.sh "$root"
bytes=$(find "$root" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
[ "$bytes" -lt "$most_bytes" ] || fail "the image's files have $bytes bytes; they must have less than $most_bytes."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
rm -rf "$layout"
# buildah's own folders are temporary, so that nothing of it stays on this machine.
on_store() {
    command=$1
    shift
    BUILDAH_ISOLATION=chroot buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$command" "$@" >&2
}
on_store bud --pull-never --format oci --arch "$architecture" --timestamp "$SOURCE_DATE_EPOCH" \
    --target prebuilt --file Dockerfile --tag opsadmin-operator \
    --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)" \
    --build-arg "SOURCE=${SOURCE:-}" "$root"
on_store push --quiet opsadmin-operator "oci:$layout:$version"
echo "$layout"
