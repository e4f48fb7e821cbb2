//go:build tools

// Package tools pins actionlint, which run.sh runs.
package tools

import _ "github.com/rhysd/actionlint/cmd/actionlint"
