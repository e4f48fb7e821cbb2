#!/bin/sh
# Verifies the signature of an image and of its SBOM: release/verify.sh IMAGE PUBLIC-KEY
set -eu
. "$(dirname "$0")/settings.sh"
[ "$#" = 2 ] || fail "usage: release/verify.sh IMAGE PUBLIC-KEY"

cosign verify --key "$2" --insecure-ignore-tlog=true "$1" >/dev/null
cosign verify-attestation --key "$2" --insecure-ignore-tlog=true --type cyclonedx "$1" >/dev/null
echo "The image and its SBOM are signed by this key: $1"
