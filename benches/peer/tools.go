//go:build tools

// Package peer pins the version of the operator that the benchmark measures beside this project's.
package peer

import _ "github.com/crossplane-contrib/provider-sql/cmd/provider"
