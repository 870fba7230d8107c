#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Many: 5,000 adopted connections at once, 1,000 of which move data; 20,000 that come
# and go, and leave nothing; 1,000 that wait for accept(), of which none is lost. The
# programs are many.c's.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

HOLD=5000 BUSY=1000 ROUNDS=20000 ACTIVE=2000 WARM=2000 QUEUED=1000
QUEUE_PORT=5003

# What the worker counted, and what the module did: worker KEY, stack KEY
worker() { ctl -j stats | jq ".stacks[] | select(.name == \"lwip0\") | .worker.$1"; }
stack() { ctl -j stats | jq ".stacks[] | select(.name == \"lwip0\") | .$1"; }

worker_pid() { ctl -j stack show lwip0 | jq 'first(.. | .pid? // empty)'; }

meminfo() { awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo; }
status() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$PID/status"; }

# KiB, one number a line, of what a connection could leave behind
memory()
{
	sync
	echo 3 >/proc/sys/vm/drop_caches
	echo 1 >/proc/sys/vm/stat_refresh
	echo "slab $(meminfo SUnreclaim)"
	echo "percpu $(meminfo Percpu)"
	echo "arenas $(meminfo Shmem)"
	echo "worker $(status RssAnon)"
	echo "used $(($(meminfo MemTotal) - $(meminfo MemAvailable)))"
}

# Both sides have forgotten all connections: TIME_WAIT, too, which is a minute.
all_gone()
{
	[[ $(stack socks) == 0 && $(worker conns) == 0 &&
	   $(worker stack_conns) == 0 ]] &&
		[[ -z $(ip netns exec "$NS-app" ss -Htn state time-wait) ]]
}

server_up()
{
	# its TIME_WAITs would be kept, by the native end, which is not measured
	in_peer sysctl -qw net.ipv4.tcp_max_tw_buckets=256
	in_peer "$HERE/many" serve $PEER $PORT >"$RUN/serve.log" &
	PEER_PID=$!
	until_true 10 grep -q ready "$RUN/serve.log"
}

# said FILE: the error, for the test's line
said() { tail -n 1 "$1"; }

trap world_down EXIT
trap 'exit 1' INT TERM
if ! { net_up && server_up && daemon_up && stack_up; }; then
	echo "# the world could not be set up"
	exit 1
fi
echo "TAP version 13"
PID=$(worker_pid)
mkfifo "$RUN/go"

# -- many at once
free=$(meminfo MemAvailable)
in_app "$HERE/many" hold $PEER $PORT $HOLD $BUSY <"$RUN/go" >"$RUN/hold.log" 2>&1 &
hold=$!
exec 5>"$RUN/go"
holding() { grep -q . "$RUN/hold.log"; }
until_true 120 holding && grep -q holding "$RUN/hold.log"
tap $? "$HOLD connections at once, and $BUSY of them moved data" \
	"$(said "$RUN/hold.log")"
(($(stack socks) >= HOLD)); tap $? "the stack has them all" "$(stack socks)"
(($(worker conns) == HOLD)); tap $? "so says the worker" "$(worker conns)"
echo "# $(((free - $(meminfo MemAvailable)) / HOLD)) KiB each, both ends and all rings"
echo go >&5
exec 5>&-
wait "$hold"
tap $? "the idle ones are alive" "$(said "$RUN/hold.log")"
check "and all are gone when closed" until_true 90 all_gone

# -- many waiting
echo "# $SECONDS s until here"
in_app "$HERE/many" queue $APP $QUEUE_PORT $QUEUED <"$RUN/go" >"$RUN/queue.log" 2>&1 &
queue=$!
exec 5>"$RUN/go"
until_true 10 grep -q ready "$RUN/queue.log"
LIMIT=120
in_peer "$HERE/many" call $APP $QUEUE_PORT $QUEUED >"$RUN/call.log" 2>&1 &
call=$!
unset LIMIT
until_true 60 grep -q . "$RUN/call.log" && grep -q queued "$RUN/call.log"
tap $? "$QUEUED connections wait for accept()" "$(said "$RUN/call.log")"
echo go >&5
exec 5>&-
wait "$queue"
tap $? "each is accepted, once, with its data" "$(said "$RUN/queue.log")"
wait "$call"
tap $? "and answered" "$(said "$RUN/call.log")"

echo "# $SECONDS s until here"

# -- many, one after another: what is left when all is over must not grow with them.
# 1 MiB is 52 bytes for each: less than the smallest thing that could be kept. Rings are
# kept warm in the arena for the next connection, as many as there were at a time.
LIMIT=200
check "$WARM rounds to warm up" in_app "$HERE/many" rounds $PEER $PORT $WARM 0
check "which leave no connection" until_true 90 all_gone
memory >"$RUN/before"
check "$ROUNDS rounds" in_app "$HERE/many" rounds $PEER $PORT $ROUNDS $ACTIVE
echo "# $SECONDS s until here"
check "which leave no connection either" until_true 90 all_gone
memory >"$RUN/after"
while read -r what before after; do
	case $what in
	used) most=32768 ;;	# a page for each would be 80 MiB
	*) most=1024 ;;
	esac
	((after - before <= most))
	tap $? "no memory kept: $what"
	echo "# $what: $before KiB, then $after"
done < <(join "$RUN/before" "$RUN/after")
echo "# $SECONDS s"
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
