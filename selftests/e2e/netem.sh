#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A bad wire: what adopted sockets send and receive while netem loses, delays,
# reorders, duplicates and damages packets, in both directions. Adopted clients and an
# adopted server, IPv4 and IPv6, all at once, each byte checked (flow.c); that the wire
# was as bad as it should be is checked by who had to repair it.
#
# What the worker sends passes by its device's queueing discipline, so the bad wire is
# a bridge between the two ends:
#
#	$NS-app		$NS-wire		$NS-peer
#	dmm-a <-- w-a [netem, br0, netem] w-p --> dmm-p
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

SERVER_PORT=5002
WIRE=$NS-wire

net_up()
{
	local ns

	for ns in app peer wire; do
		ip netns add "$NS-$ns" || return
		ip -n "$NS-$ns" link set lo up
	done
	ip -n "$WIRE" link add br0 type bridge mcast_snooping 0 || return
	ip -n "$WIRE" link set br0 addrgenmode none up
	join a app $APP $APP6 && join p peer $PEER $PEER6
}

# join LETTER NETNS ADDR ADDR6: one end of the wire
join()
{
	local dev=dmm-$1 port=w-$1 ns=$NS-$2

	ip link add "$dev" netns "$ns" type veth peer name "$port" netns "$WIRE" ||
		return
	# one segment a packet, or netem would lose 64 KiB at once
	ip netns exec "$ns" ethtool -K "$dev" tso off gso off gro off >/dev/null
	ip -n "$ns" addr add "$3/24" dev "$dev"
	ip -n "$ns" addr add "$4/64" dev "$dev" nodad
	ip -n "$WIRE" link set "$port" addrgenmode none master br0 up
	ip -n "$ns" link set "$dev" up
}

servers_up()
{
	in_peer "$HERE/peer" :: $PORT >"$RUN/peer.log" &
	PEER_PID=$!
	# shellcheck disable=SC2119
	in_app "$HERE/peer" :: $SERVER_PORT >"$RUN/server.log" &
	until_true 10 grep -q ready "$RUN/peer.log" &&
		until_true 10 grep -q ready "$RUN/server.log"
}

# What the worker counted: worker KEY
worker() { ctl -j stats | jq ".stacks[] | select(.name == \"lwip0\") | .worker.$1"; }

# What the peer's kernel counted: peer_tcp NAME
peer_tcp() { in_peer nstat -asz "$1" | awk -v name="$1" '$1 == name { print $2 }'; }

# Packets that DEV passed on: link DEV rx|tx
link() { ip -n "$WIRE" -s -j link show "$1" | jq ".[0].stats64.$2.packets"; }

drops() { tc -n "$WIRE" -s -j qdisc show dev "$1" | jq '.[0].drops'; }

# more BEFORE NOW NAME: a test that a counter moved
more() { (($2 > $1)); tap $? "$3" "$1 -> $2"; }

# bad_wire WORD...: netem on both sides
bad_wire()
{
	tc -n "$WIRE" qdisc replace dev w-a root netem limit 10000 "$@" &&
		tc -n "$WIRE" qdisc replace dev w-p root netem limit 10000 "$@"
}

good_wire()
{
	tc -n "$WIRE" qdisc del dev w-a root
	tc -n "$WIRE" qdisc del dev w-p root
}

# flows NAME BYTES: all four at once, and wait for all
flows()
{
	local name=$1 bytes=$2 pids=() what i children
	local -a who=("client, IPv4" "client, IPv6" "server, IPv4" "server, IPv6")

	LIMIT=120
	children=$(worker stack_children)
	in_app "$HERE/flow" $PEER $PORT adopted "$bytes" >"$RUN/flow.0" 2>&1 &
	pids+=($!)
	in_app "$HERE/flow" $PEER6 $PORT adopted "$bytes" >"$RUN/flow.1" 2>&1 &
	pids+=($!)
	in_peer "$HERE/flow" $APP $SERVER_PORT native "$bytes" >"$RUN/flow.2" 2>&1 &
	pids+=($!)
	in_peer "$HERE/flow" $APP6 $SERVER_PORT native "$bytes" >"$RUN/flow.3" 2>&1 &
	pids+=($!)
	for i in 0 1 2 3; do
		wait "${pids[i]}"
		what=$?
		sed 's/^/# /' "$RUN/flow.$i"
		tap $what "$name: intact, adopted ${who[i]}" "status $what"
	done
	unset LIMIT
	# 15 connections each
	children=$(($(worker stack_children) - children))
	((children >= 30)); tap $? "$name: the server's were the stack's" "$children"
}

# The smallest of what the flows told, in the range of files given.
rtt() { cat "$@" | grep -x '[0-9]*' | sort -n | head -n 1; }

trap world_down EXIT
trap 'exit 1' INT TERM
modprobe -a bridge sch_netem
if ! { net_up && daemon_up && stack_up && servers_up; }; then
	echo "# the world could not be set up"
	exit 1
fi
echo "TAP version 13"

for loss in 1 5; do
	retrans=$(worker seg_retrans) peer=$(peer_tcp TcpRetransSegs)
	bad_wire loss $loss%
	flows "loss $loss %" $((loss == 1 ? 1 << 20 : 256 << 10))
	(($(drops w-a) > 0 && $(drops w-p) > 0))
	tap $? "loss $loss %: there was, both ways" "$(drops w-a) and $(drops w-p)"
	more "$retrans" "$(worker seg_retrans)" "loss $loss %: the stack sent again"
	more "$peer" "$(peer_tcp TcpRetransSegs)" "loss $loss %: the peer sent again"
done

bad_wire delay 10ms
flows "delay" $((2 << 20))
for i in 0 1 2 3; do
	us=$(rtt "$RUN/flow.$i")
	((us >= 19000)); tap $? "delay: there was, flow $i" "round trip of $us us"
done

queued=$(peer_tcp TcpExtTCPOFOQueue) sack=$(peer_tcp TcpExtTCPSACKReorder)
bad_wire delay 10ms reorder 25% 50%
flows "reordering" $((1 << 20))
more "$queued" "$(peer_tcp TcpExtTCPOFOQueue)" "reordering: the peer received so"
more "$sack" "$(peer_tcp TcpExtTCPSACKReorder)" "reordering: the stack received so"

app=$(($(link w-a tx) - $(link w-p rx))) peer=$(($(link w-p tx) - $(link w-a rx)))
bad_wire duplicate 1%
flows "duplication" $((2 << 20))
more "$app" $(($(link w-a tx) - $(link w-p rx))) "duplication: toward the stack"
more "$peer" $(($(link w-p tx) - $(link w-a rx))) "duplication: toward the peer"

app=$(worker bad_csum) peer=$(peer_tcp TcpInCsumErrors)
bad_wire corrupt 1%
flows "corruption" $((1 << 20))
more "$app" "$(worker bad_csum)" "corruption: the stack saw it"
more "$peer" "$(peer_tcp TcpInCsumErrors)" "corruption: the peer saw it"

good_wire
flows "a good wire again" $((1 << 20))
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
