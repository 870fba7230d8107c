#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What people see of adopted sockets: `dmmctl sock list`, `ss -tie`, and in `dmmctl
# stats` the reasons of those that were not adopted; IPv4, IPv6 and listeners. The
# sockets are shown.py's.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

MINE=5004
SHOWN=$(cd "$(dirname "$0")" && pwd)/shown.py

HELD=()

# hold NAME WHERE ARG...: shown.py in the background, until the end
hold()
{
	local name=$1 where=$2

	shift 2
	mkfifo "$RUN/$name.in"
	"$where" python3 "$SHOWN" "$name" "$@" <"$RUN/$name.in" >"$RUN/$name.log" 2>&1 &
	HELD+=($!)
	# shellcheck disable=SC2034	# held open, no more
	exec {fd}>"$RUN/$name.in"
	until_true 30 grep -q ready "$RUN/$name.log"
}

# listed JQ: is there exactly one socket in the list of which that holds?
listed()
{
	ctl -j sock list >"$RUN/list"
	jq -e "[.. | objects | select(has(\"slot\") or has(\"txq\")) | select($1)] |
		length == 1" "$RUN/list" >/dev/null && return
	jq -c . "$RUN/list"
	return 1
}

# A line a socket: state, queues, ends, and all the rest.
show() { ip netns exec "$NS-app" ss -HOtanie "$@" 2>/dev/null; }

# shows REGEX FILTER...: is there exactly one line, which matches?
shows()
{
	local regex=$1 out

	shift
	out=$(show "$@")
	[[ $(wc -l <<<"$out") == 1 ]] && grep -qE "$regex" <<<"$out" && return
	echo "not $regex: $out"
	return 1
}

# A second's time for what no system call refreshes.
soon() { until_true 5 "$@" || "$@"; }

# world_down waits for all that were started; its status is the last one before it
end()
{
	local status=$?

	((${#HELD[@]} == 0)) || kill "${HELD[@]}" 2>/dev/null
	(exit "$status")
	world_down
}

trap end EXIT
trap 'exit 1' INT TERM
if ! { net_up && daemon_up && stack_up && hold peer in_peer $PORT &&
	hold app in_app $PEER $PEER6 $PORT $MINE &&
	hold call in_peer $APP $APP6 $MINE; }; then
	cat "$RUN"/*.log | sed 's/^/# /'
	echo "# the world could not be set up"
	exit 1
fi
echo "TAP version 13"

for end in "IPv4 $PEER:$PORT" "IPv6 [$PEER6]:$PORT"; do
	name=${end% *} remote=${end#* }
	check "$name: sock list has it" listed \
		".remote == \"$remote\" and .stack == \"lwip0\" and
		 .state == \"ESTAB\" and .rxq == 1000 and .txq > 65536"
	# a segment fills the MTU
	mss=1460
	[[ $name == IPv4 ]] || mss=1440
	check "$name: ss names the stack" shows "tcp-ulp-dmm:lwip0( |\$)" dst "$remote"
	check "$name: ss has state and queues" soon shows \
		"^ESTAB +1000 +[1-9][0-9]{4,} " dst "$remote"
	check "$name: ss has rtt, cwnd and mss" soon shows \
		" rtt:[0-9.]*[1-9][0-9.]*/.* mss:$mss .* cwnd:[1-9]" dst "$remote"
done

for end in "IPv4 0.0.0.0:$MINE 2 7" "IPv6 [::]:$MINE 3 9"; do
	read -r name local waiting backlog <<<"$end"
	check "$name listener: sock list has it" soon listed \
		".local == \"$local\" and .stack == \"lwip0\" and
		 .state == \"LISTEN\" and .rxq == $waiting and .txq == $backlog"
	check "$name listener: ss too" shows \
		"^LISTEN +$waiting +$backlog .* tcp-ulp-dmm:lwip0" src "$local" and dport = 0
done
ctl sock list | grep -qE "^lwip0 +ESTAB +1000 +[0-9]+ "
tap $? "the table has columns" "$(ctl sock list)"

# -- why one was not adopted: by rule, and by stack
count()
{
	ctl -j stats | jq "[.$1[] | .fallbacks.sockopt // 0] | add"
}
before=$(count stacks)
in_app python3 - <<-END >"$RUN/fallback.log" 2>&1
	import socket
	s = socket.socket()
	s.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
	s.settimeout(20)
	s.connect(("$PEER", $PORT))
END
tap $? "a socket that cannot be adopted" "$(tail -n 1 "$RUN/fallback.log")"
(($(count stacks) == before + 1)); tap $? "counted for the stack" "$(count stacks)"
(($(count rules) == before + 1)); tap $? "and for the rule" "$(count rules)"
ctl stats | grep -q "sockopt=1"; tap $? "shown in the table" "$(ctl stats)"

# -- its worker gone, a listener shows whose it is
kill -9 "$(ctl -j stack show lwip0 | jq 'first(.. | .pid? // empty)')"
check "a listener without its worker is still shown" soon shows \
	"^LISTEN .* tcp-ulp-dmm:lwip0" src "0.0.0.0:$MINE" and dport = 0
check "and back in the list with its worker" until_true 20 listed \
	".local == \"0.0.0.0:$MINE\" and .state == \"LISTEN\""

# -- and what comes to it then is the stack's again
children() { ctl -j stats | jq '.stacks[0].worker.stack_children'; }
[[ $(children) == 0 ]]; tap $? "the new worker has brought it nothing yet" "$(children)"
check "a new connection" in_peer bash -c ": <>/dev/tcp/$APP/$MINE"
check "another, IPv6" in_peer bash -c ": <>/dev/tcp/$APP6/$MINE"
[[ $(children) == 2 ]]; tap $? "both were the stack's" "$(children)"
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
