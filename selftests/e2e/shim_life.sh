#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The worker is killed under programs that the shim serves: whoever waits is woken, by
# the errno that dmm-shim(7) names; who connects or listens goes on with the kernel
# until there is a worker again, and then with that one, without being asked.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

SRC=$(cd "$(dirname "$0")" && pwd)
CUT=(/usr/bin/python3 "$SRC/cut.py")
HOLD=7599
declare -A PORTS=([accept]=7601 [poll]=7602 [epoll]=7603 [fork]=7604)

world_up_alone >&2
shim_up >&2 || exit 1
echo "TAP version 13"

worker_pid() { ctl -j stack show lwip0 | jq 'first(.. | .pid? // empty)'; }
stack_is() { ctl stack list | grep -qE "^lwip0 .*\\b$1\\b"; }
stat_of() { ctl -j stats | jq "first(.. | .$1? // empty)"; }
at_least() { (($(stat_of "$1") >= $2)); }
has_line() { grep -qx -- "$2" "$1"; }
has_lines() { (($(grep -cx -- "$2" "$1") >= $3)); }
asked() { LIMIT=20 in_peer "${CUT[@]}" ask "$APP" "$1"; }
gone() { ! kill -0 "$1"; }

# The worker is killed, and dmmd does not start another before its_back.
worker_dies()
{
	kill -STOP "$DMMD"
	kill -9 "$1"
	until_true 10 gone "$1"
}

its_back()
{
	kill -CONT "$DMMD"
	until_true 30 stack_is up
}

trap 'kill -CONT "$DMMD" 2>/dev/null; world_down' EXIT
ip netns exec "$NS-peer" "${CUT[@]}" hold $HOLD >"$RUN/hold.log" &
# shellcheck disable=SC2034 # world_down ends it
PEER_PID=$!
for how in "${!PORTS[@]}"; do
	in_app "${CUT[@]}" serve "$how" "${PORTS[$how]}" >"$RUN/serve.$how" &
done
for log in "$RUN/hold.log" "$RUN"/serve.*; do
	until_true 20 has_line "$log" ready || echo "# not ready: $log"
done
for how in "${!PORTS[@]}"; do
	[[ $(asked "${PORTS[$how]}") == adopted ]]; tap $? "$how: the stack serves"
done

# -- open connections
exec {ask_in}> >(in_peer "${CUT[@]}" keep "$APP" "${PORTS[epoll]}" >"$RUN/keep.log" 2>&1)
exec {say_in}> >(in_app "${CUT[@]}" victims "$PEER" $HOLD >"$RUN/victims.log" 2>&1)
check "a peer's connection is adopted" until_true 20 has_line "$RUN/keep.log" adopted
check "connections wait in each way" until_true 30 has_line "$RUN/victims.log" waiting
worker_dies "$(worker_pid)"
check "all wake up" until_true 20 grep -q ^idle "$RUN/victims.log"

# heard NAME WORDS...: what it was told, in order
heard()
{
	has_line "$RUN/victims.log" "$*"
	tap $? "$1: ${*:2}" "$(grep "^$1 " "$RUN/victims.log")"
}

heard recv ECONNRESET "b''" EPIPE
heard send ECONNRESET "b''" EPIPE "b''"
heard send-part ECONNRESET "b''" EPIPE "b''"
heard poll IN+ERR+HUP ECONNRESET EPIPE "b''"
heard select r ECONNRESET EPIPE "b''"
heard epoll IN+ERR+HUP+RDHUP ECONNRESET EPIPE "b''"
heard epoll-et IN+ERR+HUP+RDHUP ECONNRESET EPIPE "b''"
heard nested IN ECONNRESET EPIPE "b''"
heard idle ECONNRESET EPIPE
echo >&"$ask_in"
check "the peer's next segment draws a RST" until_true 20 has_line "$RUN/keep.log" ECONNRESET

# -- meanwhile the kernel serves
for how in "${!PORTS[@]}"; do
	[[ $(asked "${PORTS[$how]}") == native ]]; tap $? "$how: the kernel serves meanwhile"
done
echo >&"$say_in"
check "a new connection is native" until_true 20 has_line "$RUN/victims.log" "next native"

# -- and a worker that comes back has everything again, twice
for round in 1 2; do
	check "dmmd starts another" its_back
	# before anybody connects: the programs sleep
	check "the listeners are offered to it" until_true 20 at_least listeners 4
	for how in "${!PORTS[@]}"; do
		[[ $(asked "${PORTS[$how]}") == adopted ]]
		tap $? "$how: the stack serves again"
	done
	echo >&"$say_in"
	check "a new connection is adopted" \
		until_true 20 has_lines "$RUN/victims.log" "next adopted" "$round"
	((round == 1)) || break
	worker_dies "$(worker_pid)"
done

# -- a restart that was asked for
check "stack restart" ctl stack restart lwip0
check "the listeners are offered to that" until_true 20 at_least listeners 4
[[ $(asked "${PORTS[accept]}") == adopted ]]; tap $? "and it serves"

# -- a worker that stands still, and ones that only have nothing to do
pid=$(worker_pid)
kill -STOP "$pid"
another() { [[ $(worker_pid) != "$pid" ]] && stack_is up; }
check "a stopped worker is ended, and another serves" until_true 30 another
check "the listeners are offered to that one" until_true 20 at_least listeners 4
[[ $(ctl -j stack show lwip0 | jq .stalls) == 1 ]]
tap $? "and it is counted"
ip -n "$NS-app" link add dmm-i type veth peer name dmm-j
ip -n "$NS-app" link set dmm-i up
ctl stack add idle type=lwip dev=dmm-i "netns=$NS-app" watchdog=2 >/dev/null
turns() { ctl -j stats | jq '.stacks[] | select(.name == "idle") | .worker.turns // 0'; }
turned() { (($(turns) > before + 8)); }
before=$(turns)
check "an idle worker turns" until_true 30 turned
[[ $(ctl -j stack show idle | jq -c '[.stalls, .restarts]') == "[0,0]" ]]
tap $? "and is left alone" "$(ctl -j stack show idle)"
ip -n "$NS-app" link del dmm-i
exec {ask_in}>&- {say_in}>&-
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
