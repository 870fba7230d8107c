#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The load generator does what it says, and both it and scripts/bench refuse what
# they do not know with one line. Nothing here is about speed.
#
#	netns dmm-PID-load, lo	load serve <-- load ping ...
set -uo pipefail

TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=${OUT:-$TOP/build}
LOAD=$OUT/selftests/bench/load
NS=${DMM_TEST_NS:-dmm-$$}-load
RUN=$(mktemp -d -t dmm-load.XXXXXX)
SERVER=''
N=0

# shellcheck disable=SC2317	# by a trap
strike()
{
	[[ ! $SERVER ]] || kill "$SERVER" 2>/dev/null
	wait 2>/dev/null
	ip netns del "$NS" 2>/dev/null
	rm -rf "$RUN"
}
trap strike EXIT
trap 'exit 1' INT TERM

# check NAME COMMAND...
check()
{
	local name=$1 said

	shift
	((++N))
	if said=$("$@" 2>&1); then
		echo "ok $N $name"
	else
		[[ ! $said ]] || awk '{ print "# " $0 }' <<<"$said"
		echo "not ok $N $name"
		FAILED=1
	fi
}

in_ns() { ip netns exec "$NS" "$@"; }

serve()
{
	: >"$RUN/ready"
	ip netns exec "$NS" "$LOAD" serve --wait "$1" >"$RUN/ready" &
	SERVER=$!
	for _ in {1..100}; do
		[[ $(<"$RUN/ready") != ready ]] || return 0
		sleep 0.05
	done
	echo "Bail out! the server does not start"
	exit 1
}

unserve()
{
	kill "$SERVER"
	wait "$SERVER" 2>/dev/null
	SERVER=''
}

# load_says FILTER WORD...: what `load WORD...` prints is one line of JSON and so
load_says()
{
	local filter=$1 out work=$2

	shift 2
	out=$(in_ns "$LOAD" "$work" 127.0.0.1 --seconds 0.1 --warmup 0.01 "$@") ||
		return
	echo "$out"
	(($(wc -l <<<"$out") == 1)) && jq -e "$filter" <<<"$out"
}

# refuses PATTERN PROGRAM WORD...: not a word on stdout, one on stderr, status 2
refuses()
{
	local pattern=$1 status

	shift
	"$@" >"$RUN/out" 2>"$RUN/err" </dev/null
	status=$?
	cat "$RUN/err"
	((status == 2)) && [[ ! -s $RUN/out ]] &&
		(($(wc -l <"$RUN/err") == 1)) && grep -qE -- "$pattern" "$RUN/err"
}

# Each line is a fraction not below the last one's, and the last is 1.
cdf_ok()
{
	awk 'NF != 2 || $1 < us || $2 <= fraction { exit 1 }
	     { us = $1; fraction = $2 }
	     END { exit !(NR && fraction == 1) }' "$1"
}

helps() { "$@" | grep -q '^[Uu]sage: '; }

ip netns add "$NS" && ip -n "$NS" link set lo up || exit 1
echo "TAP version 13"
FAILED=0
times='.requests > 0 and .p50_us > 0 and .min_us <= .p50_us and
	.p50_us <= .p99_us and .p99_us <= .max_us and .rate > 0'
for wait in block epoll spin; do
	serve $wait
	check "$wait: ping" load_says "$times and .wait == \"$wait\"" \
		ping --wait $wait
	check "$wait: connect" load_says "$times" connect --wait $wait
	check "$wait: send" load_says '.bytes > 0 and .gbit_s > 0' \
		send --wait $wait
	check "$wait: recv" load_says '.bytes > 0 and .size == 65536' \
		recv --wait $wait
	[[ $wait == block ]] || check "$wait: ping, many connections" \
		load_says "$times and .connections == 20" \
		ping --wait $wait --connections 20 --size 3000
	unserve
done
serve epoll
check "connections that say nothing" \
	load_says '.connections == 50' hold --connections 50
check "source addresses" load_says "$times" \
	connect --source 127.0.0.1 --sources 8
check "a CDF" load_says "$times" ping --cdf "$RUN/cdf"
check "the CDF grows to 1" cdf_ok "$RUN/cdf"
unserve
check "nobody listens: one line" \
	bash -c "! ip netns exec $NS $LOAD ping 127.0.0.1 2>'$RUN/err' &&
		[[ \$(<'$RUN/err') == *'cannot connect to port 7100'* ]]"
check "load --help" helps "$LOAD" --help
check "no word" refuses 'expected serve' "$LOAD"
check "a wrong word" refuses "'pong'" "$LOAD" pong
check "no address" refuses "server's address" "$LOAD" ping
check "a wrong address" refuses "'nowhere'" "$LOAD" ping nowhere
check "a wrong option" refuses "'--fast'" "$LOAD" ping 127.0.0.1 --fast
check "no value" refuses "--size needs a value" "$LOAD" ping 127.0.0.1 --size
check "a wrong size" refuses "--size '0'" "$LOAD" ping 127.0.0.1 --size 0
check "a wrong wait" refuses "--wait 'long'" "$LOAD" ping 127.0.0.1 --wait long
check "what does not go together" refuses "--connections 2" \
	"$LOAD" ping 127.0.0.1 --connections 2
check "scripts/bench --help" helps "$TOP/scripts/bench" --help
check "scripts/bench: a wrong option" refuses '--fast' "$TOP/scripts/bench" --fast
check "scripts/bench: a wrong work" refuses 'pingpong-64B-1' \
	"$TOP/scripts/bench" --work pong
check "scripts/bench: a wrong system" refuses 'dmm-shim' \
	"$TOP/scripts/bench" --system bsd
echo "1..$N"
exit $FAILED
