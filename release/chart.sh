#!/bin/sh
# Packs the chart, pushes it to a registry, signs it, and prints its name with its digest:
# release/chart.sh REPOSITORY KEY
#
# REPOSITORY is the folder of charts in the registry, such as registry.example.com/charts. KEY is as in release/push.sh.
set -eu
. "$(dirname "$0")/settings.sh"
[ "$#" = 2 ] || fail "usage: release/chart.sh REPOSITORY KEY"
repository=$1 key=$2

helm package charts/opsadmin-operator --version "$version" --app-version "$version" --destination "$target_dir" >&2
# A registry on this machine has no TLS. crane and cosign know that by themselves.
case $repository in localhost:* | 127.0.0.1:*) plain=yes ;; *) plain= ;; esac
helm push "$target_dir/opsadmin-operator-$version.tgz" "oci://$repository" ${plain:+--plain-http} >&2
signed=$repository/opsadmin-operator@$(crane digest "$repository/opsadmin-operator:$version")
cosign sign --yes --key "$key" --use-signing-config=false --tlog-upload=false "$signed" >&2
echo "$signed"
