//! Secrets as manifests in a directory, one file each, ready for `kubectl apply`.
