# Runs a program in a world of its own, and leaves nothing of it behind: apart.sh PROGRAM ARGUMENTS...
#
# Processes, network and mounts are in namespaces, and all files in memory. When the program has ended, in whatever way,
# the kernel ends every process that is left in there and forgets the rest. Only cgroups are the machine's own: those
# below the one that OPSADMIN_PODS_CGROUP tells the program are removed here.
#
# Standard input is a pipe from the owner. Its end means that the owner let go or died, and the program is killed.
set -eu

# Where the machine keeps its cgroups: one place (version 2) or one for each kind (version 1).
hierarchies() {
    while read -r _ place kind _; do
        case $kind in cgroup | cgroup2) echo "$place" ;; esac
    done </proc/self/mounts
}

outside() {
    for hierarchy in $(hierarchies); do
        # Left by an earlier run that was killed together with this script, whose process id they have. Apart from the
        # machine nobody can tell whether that still runs.
        for old in "$hierarchy"/opsadmin-pods-*; do
            [ -n "${OPSADMIN_PODS_CGROUP:-}" ] || [ ! -d "$old" ] || [ -d "/proc/${old##*-}" ] || remove "$old"
        done
        mkdir -p "$hierarchy/opsadmin-pods-$$"
    done
    status=0
    OPSADMIN_PODS_CGROUP=/opsadmin-pods-$$ \
        unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc \
        sh "$0" --inside "$@" || status=$?
    for hierarchy in $(hierarchies); do remove "$hierarchy/opsadmin-pods-$$"; done
    exit "$status"
}

remove() { find "$1" -depth -type d -exec rmdir {} +; }

inside() {
    exec 3<&0 </dev/null

    # Programs write into /run and below /var, some of them to places that cannot be chosen.
    mount -t tmpfs -o mode=755 opsadmin-pods /run
    mkdir /run/var /run/var-work /run/tests
    mount -t overlay -o lowerdir=/var,upperdir=/run/var,workdir=/run/var-work opsadmin-pods /var
    export TMPDIR=/run/tests
    # A kubelet sets these to its liking, and they are the whole machine's: it gets copies.
    for setting in vm/overcommit_memory vm/panic_on_oom \
        kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
        copy=/run/settings/$setting
        mkdir -p "${copy%/*}"
        cat "/proc/sys/$setting" >"$copy"
        mount --bind "$copy" "/proc/sys/$setting"
    done

    # The node's address is the gateway of its pods.
    ip link set lo up
    ip link add cni0 type bridge
    ip address add "$OPSADMIN_PODS_NODE" dev cni0
    ip link set cni0 up
    echo 1 >/proc/sys/net/ipv4/ip_forward

    "$@" 3<&- &
    program=$!
    { cat <&3 >/dev/null && kill -KILL "$program"; } 2>/dev/null &
    wait "$program"
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
else
    outside "$@"
fi
