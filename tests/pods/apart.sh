# Runs a program isolated from the machine, and removes everything that it leaves: apart.sh PROGRAM ARGUMENTS...
#
# The program has its own namespaces for processes, network and mounts, and writes its files to memory. When it ends,
# the kernel kills the remaining processes in the namespaces and frees the rest. Only cgroups are on the machine itself.
# This script removes those below the cgroup in OPSADMIN_PODS_CGROUP.
#
# Standard input is a pipe from the parent process. When the parent closes it or dies, this script kills the program.
# shellcheck shell=sh
set -eu

# Prints the mount points of cgroups: one for version 2, or one for each kind for version 1.
hierarchies() {
    while read -r _ place kind _; do
        case $kind in cgroup | cgroup2) echo "$place" ;; esac
    done </proc/self/mounts
}

outside() {
    for hierarchy in $(hierarchies); do
        # Removes cgroups of an earlier run whose script was killed. Their names have the process id of that script.
        # Only outside the namespaces can the script check whether that process still runs.
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

    # Programs write to /run and /var. Some of these paths cannot be configured.
    mount -t tmpfs -o mode=755 opsadmin-pods /run
    mkdir /run/var /run/var-work /run/tests
    mount -t overlay -o lowerdir=/var,upperdir=/run/var,workdir=/run/var-work opsadmin-pods /var
    export TMPDIR=/run/tests
    # A kubelet changes these settings, which belong to the whole machine. So it gets copies.
    for setting in vm/overcommit_memory vm/panic_on_oom \
        kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
        copy=/run/settings/$setting
        mkdir -p "${copy%/*}"
        cat "/proc/sys/$setting" >"$copy"
        mount --bind "$copy" "/proc/sys/$setting"
    done

    # The address of the node is the gateway of its pods.
    ip link set lo up
    ip link add cni0 type bridge
    ip address add "$OPSADMIN_PODS_NODE" dev cni0
    ip link set cni0 up
    # The node reaches Services too.
    ip route add "$OPSADMIN_PODS_SERVICES" dev cni0
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
