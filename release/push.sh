#!/bin/sh
# Pushes the images of all architectures under one name, signs them, attaches the SBOM, and prints the name with its
# digest: release/push.sh IMAGE:TAG KEY SBOM LAYOUT...
#
# KEY is a private key of cosign: a file, or env://VARIABLE. Its password is in COSIGN_PASSWORD. Each LAYOUT is a folder
# that release/image.sh has printed.
set -eu
. "$(dirname "$0")/settings.sh"
[ "$#" -ge 4 ] || fail "usage: release/push.sh IMAGE:TAG KEY SBOM LAYOUT..."
image=$1 key=$2 sbom=$3
shift 3

repository=${image%:*}
manifests=
for layout in "$@"; do
    digest=$(jq -r '.manifests[0].digest' "$layout/index.json")
    # crane takes a layout of one image. It pushes it by its tag, so the tag says which one it is.
    part=$image-$(jq -r .architecture "$layout/blobs/sha256/$(jq -r '.config.digest | sub("sha256:"; "")' "$layout/blobs/sha256/${digest#sha256:}")")
    crane push "$layout" "$part" >&2
    manifests="$manifests --manifest $repository@$digest"
done
# No quotes: each word is an argument.
# shellcheck disable=SC2086
crane index append --docker-empty-base=false $manifests --tag "$image" >&2
signed=$repository@$(crane digest "$image")

# By key, without a public log: a signature can then be made and checked without any other service.
cosign sign --yes --recursive --key "$key" --use-signing-config=false --tlog-upload=false "$signed" >&2
cosign attest --yes --key "$key" --use-signing-config=false --tlog-upload=false \
    --type cyclonedx --predicate "$sbom" "$signed" >&2
echo "$signed"
