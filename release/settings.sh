# Sourced by the scripts of a release. Sets what decides the bytes of the program and of the image, and goes to the
# repository's folder.
# shellcheck shell=sh disable=SC2034

cd "$(dirname "$0")/.." || exit

say() { echo "$(basename "$0" .sh): $*" >&2; }
fail() {
    say "$@"
    exit 1
}

case $(uname -sm) in
"Linux x86_64") architecture=amd64 target=x86_64-unknown-linux-musl ;;
"Linux aarch64") architecture=arm64 target=aarch64-unknown-linux-musl ;;
*) fail "there are release builds for Linux on x86_64 and aarch64, not for $(uname -sm)." ;;
esac

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The Rust that a release is built with. Another one works too, but gives other bytes.
rust=$(sed -n 's/^ARG RUST_VERSION=//p' Dockerfile)
auditable=$(sed -n 's/^ARG CARGO_AUDITABLE_VERSION=//p' Dockerfile)
# The time of the commit stands for the time of the build, so that one commit gives one image.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

# The paths of this machine must not be in the program: with them, another folder would give other bytes.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="--remap-path-prefix=$PWD=/src --remap-path-prefix=$cargo_home=/cargo"
# With the component rust-src, the compiler names the standard library by its path on this machine, without it by its
# commit.
standard_library=$(rustc --print sysroot 2>/dev/null || true)/lib/rustlib/src/rust
rust_commit=$(rustc -vV 2>/dev/null | sed -n 's/^commit-hash: //p')
RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$standard_library=/rustc/$rust_commit"
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
[ "$target_dir" = "$PWD/target" ] || RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$target_dir=/src/target"
# The C compiler of the musl target, for SQLite and ring.
export "CC_$(echo "$target" | tr - _)=musl-gcc"
