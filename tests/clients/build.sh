#!/bin/sh
# Installs the pinned libraries of the clients in examples/login/clients once, about 25 MB. Prints a folder with the
# folders python, node_modules and jars.
set -eu

what="OAuth libraries of other projects"
. "$(dirname "$0")/../cached.sh"
. "$(dirname "$0")/../pip.sh"
cd "$(dirname "$0")"

# Some packages of Python have parts that fit one version of it.
python_version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
    fail "python3 is missing: run tests/setup.sh."
cached "clients-$python_version" ../pip.sh requirements.txt package.json package-lock.json pom.xml jars.sha256
for program in node npm javac mvn; do
    command -v "$program" >/dev/null || fail "$program is missing: run tests/setup.sh."
done
begin_building

pip_install "$building/python" requirements.txt
cp package.json package-lock.json "$building/"
npm ci --prefix "$building" --ignore-scripts --no-audit --no-fund --silent >&2 ||
    fail "npm failed; its own message is above."
mvn --batch-mode --quiet -Dstyle.color=never dependency:copy-dependencies -DoutputDirectory="$building/jars" >&2 ||
    fail "Maven failed; its own message is above."
(cd "$building/jars" && sha256sum ./*.jar | sed 's|  \./|  |') >"$building/jars.sha256"
cmp "$building/jars.sha256" jars.sha256 >&2 || fail "Maven brought other files than jars.sha256 lists."
finish_building
