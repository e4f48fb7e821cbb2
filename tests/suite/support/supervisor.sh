# Runs a program until its parent process closes a pipe: supervisor.sh LOG LAST-SIGNAL PROGRAM ARGUMENTS...
#
# Standard input is a pipe from the parent. Each line is a signal that this script sends to the program. When the parent
# closes the pipe or dies, the program gets LAST-SIGNAL, and SIGKILL if it still runs after five seconds. The script
# keeps standard output open until the program has ended, and writes nothing to it.
# shellcheck shell=sh
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
