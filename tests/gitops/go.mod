// Whose definitions examples/platform is held to, and the interpreter that Argo CD runs health scripts in, of the version that
// it has. The first three are only downloaded, so `go mod tidy` would drop them: change a version here, and run
//	go mod download -json github.com/argoproj/argo-cd/v3 github.com/fluxcd/kustomize-controller github.com/fluxcd/source-controller
module opsadmin-operator/tests/gitops

go 1.26.3

require (
	github.com/argoproj/argo-cd/v3 v3.5.7
	github.com/fluxcd/kustomize-controller v1.9.6
	github.com/fluxcd/source-controller v1.9.6
	github.com/yuin/gopher-lua v1.1.2
)
