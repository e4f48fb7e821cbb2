#!/bin/sh
# Prepares a machine for `cargo test`. Installs missing packages of Debian and Ubuntu, as root or with sudo. For
# everything else that is missing, prints what to do. Does nothing if nothing is missing.
set -eu
cd "$(dirname "$0")/.."

oldest_postgres=15
oldest_node=20
oldest_java=17
rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
go_wanted=$(sed -n 's/^go //p' tests/gitops/go.mod)

has() { command -v "$1" >/dev/null 2>&1; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

postgres_version() {
    # The names of these folders are numbers.
    # shellcheck disable=SC2012
    for folder in "${OPSADMIN_TEST_POSTGRES_BIN:-}" $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) \
        $(command -v postgres | sed 's|/postgres$||'); do
        if [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ]; then
            "$folder/postgres" --version | sed 's/.*) \([0-9]*\).*/\1/'
            return
        fi
    done
    echo 0
}
has_pgbouncer() { PATH=$PATH:/usr/sbin:/usr/local/sbin command -v pgbouncer >/dev/null 2>&1; }
has_postgres() { [ "$(postgres_version)" -ge "$oldest_postgres" ]; }
has_faketime() {
    for library in /usr/lib/faketime/libfaketime.so.1 /usr/lib/*/faketime/libfaketime.so.1; do
        [ ! -f "$library" ] || return 0
    done
    return 1
}
has_prometheus() { has promtool && has prometheus; }
has_nginx() { PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx >/dev/null 2>&1; }
node_version() { node --version 2>/dev/null | sed 's/v\([0-9]*\).*/\1/' | grep . || echo 0; }
java_version() { javac -version 2>&1 | sed -n 's/javac \([0-9]*\).*/\1/p' | grep . || echo 0; }
has_node() { [ "$(node_version)" -ge "$oldest_node" ] && has npm; }
has_java() { [ "$(java_version)" -ge "$oldest_java" ] && has keytool; }
has_pip() { python3 -m pip --version >/dev/null 2>&1; }
has_pyyaml() { python3 -c 'import yaml' 2>/dev/null; }

# The packages to install.
packages=
has cc || packages="$packages gcc libc6-dev"
has setpriv && has flock || packages="$packages util-linux"
has_postgres || packages="$packages postgresql"
has_pgbouncer || packages="$packages pgbouncer"
has_faketime || packages="$packages libfaketime"
has_pyyaml || packages="$packages python3-yaml"
has_prometheus || packages="$packages prometheus"
has_nginx || packages="$packages nginx"
has caddy || packages="$packages caddy"
has openssl && has curl || packages="$packages openssl curl"
has_pip || packages="$packages python3-pip"
has node && has npm || packages="$packages nodejs npm"
has_java || packages="$packages default-jdk-headless"
has mvn || packages="$packages maven"

if [ -n "$packages" ] && has apt-get; then
    as_root=
    if [ "$(id -u)" != 0 ]; then
        as_root=sudo
        has sudo || { echo "Run this as root, or install sudo: it needs apt-get install$packages" >&2 && exit 1; }
    fi
    apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"; }
    apt update
    case "$packages" in
    *postgresql*)
        # The tests start their own servers. Debian's package would start another one now and at every boot.
        apt install --no-install-recommends postgresql-common
        $as_root sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
        ;;
    esac
    # No quotes: each word is a package.
    # shellcheck disable=SC2086
    apt install --no-install-recommends $packages
    for service in pgbouncer prometheus nginx caddy; do
        case "$packages" in
        *"$service"*)
            # These packages start a server too.
            ! has systemctl || $as_root systemctl disable --now "$service" >/dev/null 2>&1 ||
                echo "Could not keep the package's own $service from starting." >&2
            ;;
        esac
    done
fi

problems=0
problem() {
    problems=$((problems + 1))
    echo "Missing: $*" >&2
}

has cc || problem "a C compiler (cc): gcc and the C library's headers, or Xcode's command line tools."
has flock || echo "Without flock (util-linux), two test runs that start at once build the test cluster twice." >&2
[ "$(id -u)" != 0 ] || has setpriv ||
    problem "setpriv (util-linux): PostgreSQL refuses to run as root. Install it, or run the tests as another user."
has_postgres ||
    problem "PostgreSQL $oldest_postgres or newer, its server programs initdb and postgres (found: version $(postgres_version))." \
        "Install the server package of your system, or of postgresql.org where that is older, or set" \
        "OPSADMIN_TEST_POSTGRES_BIN to the folder that holds them."
has_pgbouncer || problem "PgBouncer (pgbouncer): the package of that name."
has_faketime || problem "libfaketime, which gives a program a wrong clock: the package of that name."
has_prometheus || problem "Prometheus (prometheus and promtool) 2.42 or newer: the package of that name, or prometheus.io/download."
has_nginx || problem "nginx with the module auth_request: the package nginx."
has caddy || problem "Caddy (caddy): the package of that name, or caddyserver.com/docs/install."
{ has openssl && has curl; } || problem "openssl and curl: the packages of these names."
has_pip || problem "pip of python3, which installs Envoy and clients: the package python3-pip."
has_node || problem "Node.js $oldest_node or newer with npm, for a client (found: version $(node_version)): nodejs.org."
has_java || problem "a JDK $oldest_java or newer, for a client (found: version $(java_version)): adoptium.net."
has mvn || problem "Maven (mvn), which installs the libraries of a client: the package maven."
has_pyyaml || problem "python3 with PyYAML, which reads what the program writes: pip install pyyaml, or your system's package."

if ! has cargo; then
    problem "Rust $rust_wanted or newer, with cargo: rustup.rs"
elif ! at_least "$rust_wanted" "$(cargo --version | cut -d ' ' -f 2)"; then
    problem "Rust $rust_wanted or newer (found: $(cargo --version)): rustup update stable"
fi

# Go can fetch a newer Go that go.mod asks for. So the check runs in the folder of go.mod.
what_for="builds the test cluster and fetches the definitions of Argo CD and Flux"
if ! has go; then
    problem "Go $go_wanted or newer, which $what_for: go.dev/dl"
elif ! (cd tests/gitops && GOWORK=off go env GOVERSION >/dev/null); then
    problem "Go $go_wanted or newer, which $what_for (found: $(cd / && go version)): go.dev/dl," \
        "or let a Go of 1.21 or newer fetch it: GOTOOLCHAIN=auto"
fi

[ "$problems" = 0 ]
