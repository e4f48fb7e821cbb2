#!/bin/sh
# Installs the tools of run.sh once, and prints the folder that holds them: build.sh
set -eu

what="tools that check scripts and workflows"
. "$(dirname "$0")/../cached.sh"
cd "$(dirname "$0")"
without="Without them: leave out tests/lint/run.sh. No other test needs these tools."

cached lint requirements.txt go.mod go.sum tools.go
begin_building
python3 -m pip --quiet install --disable-pip-version-check --root-user-action ignore --no-deps \
    --target "$building/python" --requirement requirements.txt >&2 ||
    fail "pip failed; its own message is above.
$without"
export GOWORK=off CGO_ENABLED=0
go_build "" "" github.com/rhysd/actionlint/cmd/actionlint
mv "$building/actionlint" "$building/python/bin/"
finish_building
