# Sourced by scripts that build something from pinned Go modules once, and print the folder that holds it. Progress goes to
# stderr; the only line on stdout is the folder. Its name is a hash of all that decides its contents, and it appears by a
# rename, so whoever sees it sees it whole. To forget everything that was ever built, remove the cache folder.
#
# A script sets `what`, for messages, and goes into its own folder, which is beside this file.

cache=${OPSADMIN_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/opsadmin-operator}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

say() { echo "$what: $*" >&2; }
fail() {
    say "$@"
    exit 1
}

# cached KIND FILE...: the `target` that these files, the script and this file decide. If it is there, that is all.
cached() {
    kind=$1
    shift
    hash=$({
        uname -sm
        cat ../cached.sh "$(basename "$0")" "$@"
    } | sha256sum | cut -c 1-16)
    [ -n "$hash" ] || fail "sha256sum is missing: install coreutils."
    target=$cache/$kind-$hash
    end_if_done
}

end_if_done() {
    if [ -d "$target" ]; then
        echo "$target"
        exit 0
    fi
}

# begin_building: makes the folder `building`, once nobody else builds anything of this kind.
#
# Two builds at once would only cost time and memory, as the rename keeps them apart; so a system without flock goes on
# without it. Whoever has the lock also knows that an unfinished folder is a killed build's.
begin_building() {
    if command -v flock >/dev/null; then
        exec 9>"$cache/$kind.lock"
        flock --nonblock 9 || { say "waiting for another build to finish" && flock 9; }
        rm -rf "$cache/building-$kind".*
    fi
    end_if_done
    building=$(mktemp -d "$cache/building-$kind.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    trap 'exit 1' HUP INT TERM
}

# finish_building: the folder as it is to stay.
finish_building() {
    chmod 755 "$building"
    [ -d "$target" ] || mv "$building" "$target"
    echo "$target"
}

# linker_flags VERSION: without these the programs of Kubernetes say that they are v0.0.0, and others refuse to talk to them.
linker_flags() {
    minor=${1#v1.}
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf ' %s' "-X $package.gitVersion=$1 -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
    done
}

# go_build FLAGS-FOR-THE-LINKER TAGS PACKAGE...: builds each, from the modules of the current folder.
go_build() {
    flags=$1 tags=$2
    shift 2
    for package in "$@"; do
        began=$(date +%s)
        nice go build -mod=readonly -buildvcs=false -trimpath -tags "$tags" -ldflags "-s -w$flags" \
            -o "$building/" "$package" >&2 ||
            fail "building ${package##*/} failed; Go's own message is above.
${without:-}"
        say "built ${package##*/} in $(($(date +%s) - began)) s"
    done
}
