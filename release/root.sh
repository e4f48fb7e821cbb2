#!/bin/sh
# Fills a folder with the files of the image: release/root.sh FOLDER
set -eu
. "$(dirname "$0")/settings.sh"
root=${1:?usage: release/root.sh FOLDER}

program=$(release/build.sh)
rm -rf "$root"
# The modes are part of the image, so they must not depend on the umask.
install -d -m 755 "$root" "$root/etc" "$root/etc/ssl" "$root/etc/ssl/certs" "$root/usr" "$root/usr/local" "$root/usr/local/bin"
install -m 755 "$program" "$root/usr/local/bin/opsadmin"
RUSTFLAGS='' cargo run --quiet --locked --manifest-path release/ca-certificates/Cargo.toml \
    --target-dir "$target_dir/ca-certificates" >"$root/etc/ssl/certs/ca-certificates.crt"
chmod 644 "$root/etc/ssl/certs/ca-certificates.crt"
