#!/bin/sh
# Checks the shell scripts, the Dockerfile and the workflows: run.sh
set -eu
tools=$("$(dirname "$0")/build.sh")
cd "$(dirname "$0")/../.."
PATH=$tools/python/bin:$PATH

# tests/cached.sh and tests/pip.sh are checked where other scripts source them.
git ls-files -z '*.sh' .ci/run ':!tests/cached.sh' ':!tests/pip.sh' | xargs -0 shellcheck
hadolint Dockerfile
actionlint
zizmor --offline --quiet .github
