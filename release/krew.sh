#!/bin/sh
# Prints the manifest for krew, which installs the program as `kubectl opsadmin`: release/krew.sh URL ARCHIVE...
#
# URL is the folder from which users download the archives.
set -eu
. "$(dirname "$0")/settings.sh"
[ "$#" -ge 2 ] || fail "usage: release/krew.sh URL ARCHIVE..."
url=$1
shift

cat <<END
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: opsadmin
spec:
  version: v$version
  shortDescription: Manage API accounts of OpsAdmin
  description: |
    Plans, applies and checks the API accounts that ApiAccounts declare, on a cluster or from files.
  platforms:
END
for archive in "$@"; do
    name=$(basename "$archive" .tar.gz)
    cat <<END
  - selector:
      matchLabels:
        os: linux
        arch: ${name##*-}
    uri: $url/$name.tar.gz
    sha256: $(sha256sum "$archive" | cut -d ' ' -f 1)
    bin: opsadmin
    files:
    - from: $name/*
      to: .
END
done
