//go:build tools

// Package node pins the programs of a node of the test cluster. It is never built itself: it is there for
// `go mod tidy` to keep what they need.
package node

import (
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
