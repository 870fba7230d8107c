#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What keeps a program in natively keeps it in under the shim: other BPF programs of its
# cgroup, what is set on its sockets, and, where the operator says so, nftables.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

SRC=$(cd "$(dirname "$0")" && pwd)
OTHERS=$BPF-others
TRY='import socket, sys
s = socket.socket()
s.settimeout(3)
try: s.connect((sys.argv[1], int(sys.argv[2])))
except OSError as e: sys.exit(str(e.errno or "timeout"))
ulp = s.getsockopt(6, 31, 16)
print("adopted" if ulp.startswith(b"dmm") else "native")'

world_up >&2
trap 'rm -rf "$OTHERS"; world_down' EXIT
shim_up >&2 || exit 1
ctl rule add cgroup "$CG" dir listen stack lwip0 >&2 || exit 1
bpftool prog loadall "$HERE/filters.bpf.o" "$OTHERS" >&2 || exit 1
echo "TAP version 13"

try() { LIMIT=30 in_app /usr/bin/python3 -c "$TRY" "$PEER" "$PORT" 2>&1; }
natively() { (WITH=() && "$@"); }
counted() { ctl -j stats | jq ".policy.fallbacks[\"$1\"] // 0"; }

# is WHAT WANTED COMMAND...
is()
{
	local what=$1 want=$2 got
	shift 2
	got=$("$@")
	[[ $got == "$want" ]]
	tap $? "$what: $want" "$got"
}

# under NAME TYPE: others' program on the container's cgroup from now on
under() { bpftool cgroup attach "$CG" "$2" pinned "$OTHERS/$1" multi; }
without() { bpftool cgroup detach "$CG" "$2" pinned "$OTHERS/$1"; }

is "nothing in the way" adopted try

under deny_connect cgroup_inet4_connect
is "connect() is denied, natively" 1 natively try
is "and with the shim" 1 try
without deny_connect cgroup_inet4_connect

under deny_options cgroup_setsockopt
is "our socket options are denied" native try
without deny_options cgroup_setsockopt

before=$(counted cgroup-skb)
under deny_out cgroup_inet_egress
is "nothing goes out, natively" timeout natively try
is "and with the shim" timeout try
without deny_out cgroup_inet_egress
(($(counted cgroup-skb) == before + 1))
tap $? "and is counted as cgroup-skb" "$(counted cgroup-skb)"
is "and now" adopted try

# -- a program that comes while the stack has the connection
HELD='import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
print("adopted" if s.getsockopt(6, 31, 16).startswith(b"dmm") else "native", flush=True)
try: s.recv(1); print("went on")
except OSError as e: print("ended by", e.errno or "nobody", flush=True)'
LIMIT=30 in_app /usr/bin/python3 -c "$HELD" "$PEER" "$PORT" >"$RUN/held" 2>&1 &
held=$!
until_true 20 grep -q adopted "$RUN/held"
under pass_out cgroup_inet_egress
wait $held
is "a filter that comes later" "adopted ended by 104" echo "$(tr '\n' ' ' <"$RUN/held" | sed 's/ $//')"
is "and new ones" native try
without pass_out cgroup_inet_egress
is "and when it has gone" adopted try

# -- what is set on a socket
refused=ENOTSUP	# as Python calls EOPNOTSUPP
is "what comes after connect()" \
	"adopted filter=$refused bpf=$refused md5=$refused md5-ext=$refused ao=$refused minttl=$refused no-minttl=done xfrm=$refused minhop=$refused" \
	in_app /usr/bin/python3 "$SRC/protect.py" connected "$PEER" "$PORT"

# served PORT: does a peer without a key get an answer?
served()
{
	# shellcheck disable=SC2016
	in_peer bash -c 'exec 3<>"/dev/tcp/$0/$1" && head -c 6 <&3' "$APP" "$1"
}

port=7801
for when in fresh bound listens; do
	in_app /usr/bin/python3 "$SRC/protect.py" listen $when "$APP" $port >"$RUN/$when" &
	until_true 20 grep -q ready "$RUN/$when"
	if [[ $when == listens ]]; then
		is "a key for one that listens" $refused head -n 1 "$RUN/$when"
		is "so without a key" served served $port
	else
		is "a key for one that is $when" "done" head -n 1 "$RUN/$when"
		LIMIT=3 is "so without a key" "" served $port
	fi
	((port++))
done

# -- nftables
ip -n "$NS-app" link add dmm-n type veth peer name dmm-o
ip -n "$NS-app" link set dmm-n up
ip -n "$NS-app" addr add 10.98.0.1/24 dev dmm-n
ip netns exec "$NS-app" "$HERE/nft_table" add
note=$(ctl stack add plain type=lwip dev=dmm-n "netns=$NS-app" route=own)
[[ $note == *"nftables or iptables"* ]]; tap $? "stack add says that there are rules" "$note"
ctl stack del plain >&2
is "rules are not looked at" adopted try
ctl rule flush >&2
ctl stack del lwip0 >&2
ctl stack add lwip0 type=lwip dev=dmm-a "netns=$NS-app" strict-filters=on >&2
ctl rule add cgroup "$CG" stack lwip0 >&2
before=$(counted netfilter)
is "strict-filters" native try
(($(counted netfilter) == before + 1)); tap $? "and it is counted"
ip netns exec "$NS-app" "$HERE/nft_table" del
is "when they are gone" adopted try
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
