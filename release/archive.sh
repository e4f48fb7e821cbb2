#!/bin/sh
# Packs the released program with its licences and prints the archive's path: release/archive.sh
set -eu
. "$(dirname "$0")/settings.sh"

program=$(release/build.sh)
name=opsadmin-$version-linux-$architecture
folder=$target_dir/$name
rm -rf "$folder"
install -d -m 755 "$folder"
install -m 755 "$program" "$folder/opsadmin"
install -m 644 LICENSE-APACHE LICENSE-MIT "$folder"
# Owner, order and time are fixed, so that one commit gives one archive.
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
    --directory "$target_dir" "$name" | gzip -9n >"$folder.tar.gz"
echo "$folder.tar.gz"
