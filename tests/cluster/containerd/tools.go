//go:build tools

// Package containerd pins what runs the containers of a node of the test cluster. It is never built itself: it is there
// for `go mod tidy` to keep what it needs.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
)
