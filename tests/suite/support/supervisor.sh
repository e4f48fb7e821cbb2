# Runs a program for as long as its owner holds on to it: supervisor.sh LOG LAST-SIGNAL PROGRAM ARGUMENTS...
#
# Standard input is a pipe from the owner. A line in it is a signal to pass on. Its end means that the owner let go or
# died, in whatever way, and the program then gets the last signal, and SIGKILL if it is still there after five seconds.
# Standard output is never written to, only held open until the program has ended.
log=$1 last=$2
shift 2
exec 3<&0 </dev/null

"$@" 3<&- >>"$log" 2>&1 &
program=$!

{
    while read -r signal; do kill -s "$signal" "$program"; done
    kill -s "$last" "$program"
    if [ "$last" != KILL ]; then
        tenths=0
        while [ $tenths -lt 50 ]; do
            sleep 0.1
            tenths=$((tenths + 1))
        done
        kill -s KILL "$program"
    fi
} <&3 >/dev/null 2>&1 &
watcher=$!

wait "$program"
status=$?
kill "$watcher"
exit "$status"
