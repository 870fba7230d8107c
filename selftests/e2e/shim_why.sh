#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the shim leaves to the kernel although a rule gave it to a stack: each has a
# reason that the rule's counters show, and "fallback reject" refuses it, connect() and
# listen() alike.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

SRC=$(cd "$(dirname "$0")" && pwd)

world_up >&2
shim_up >&2 || exit 1
ctl rule del 1 >&2
echo "TAP version 13"

why() { LIMIT=30 in_app /usr/bin/python3 "$SRC/why.py" "$@"; }
# of all rules: {REASON: n} or a counter's value
counted() { ctl -j stats | jq ".policy.fallbacks[\"$1\"] // 0"; }
counter() { ctl -j stats | jq ".policy.$1"; }

# because REASON RESULT ARG...: why.py's result, and the reason counted once
because()
{
	local reason=$1 want=$2 before got
	shift 2
	before=$(counted "$reason")
	got=$(why "$@" 2>&1)
	[[ $got == "$want" ]]
	tap $? "$*: $want" "$got"
	(($(counted "$reason") == before + 1))
	tap $? "reason $reason" "$(ctl -j stats | jq -c .policy)"
}

rule_is()
{
	ctl rule flush >&2 && ctl rule add cgroup "$CG" stack lwip0 "$@" >&2
}

rule_is
[[ $(why adopted $PEER $PORT) == adopted ]]; tap $? "one that the stack serves"
before=$(counter adopted)
because sockopt native sockopt $PEER $PORT
because state native state $PEER $PORT
because io-uring native io-uring $PEER $PORT
because route ECONNREFUSED adopted 127.0.0.1 7
because route listens listen 127.0.0.1 7701
because io-uring listens listen-io-uring $APP 7702
(($(counter adopted) == before)); tap $? "none of these counts as adopted"
[[ $(why by-hand $PEER $PORT) == "adopted EPIPE EPIPE EPIPE 1" ]]
tap $? "what is written past the shim is refused, not lost" "$(why by-hand $PEER $PORT)"

rule_is fallback reject
because route ENETDOWN adopted 127.0.0.1 7
because sockopt ENETDOWN sockopt $PEER $PORT
because route ENETDOWN listen 127.0.0.1 7701
[[ $(why listen-twice 127.0.0.1 7701) == "ENETDOWN ENETDOWN 0" ]]
tap $? "listen() is refused again"
[[ $(why listen $APP 7701) == listens ]]; tap $? "a listener that the stack serves is not"

# -- a user who has what one may have, here of the descriptors of a worker with few
prlimit --pid "$DMMD" --nofile=600:600
ctl stack restart lwip0 >&2
/usr/bin/python3 "$SRC/hold.py" "$RUN"/client/*.sock >"$RUN/hold.log" &
hold=$!
until_true 10 grep -q full "$RUN/hold.log"; tap $? "a worker turns clients away"
rule_is
because quota native adopted $PEER $PORT
because quota listens listen $APP 7704
rule_is fallback reject
because quota ENETDOWN adopted $PEER $PORT
kill $hold
wait $hold 2>/dev/null

# -- no worker
# its device is gone, so it does not start
ctl rule flush >&2
ip -n "$NS-app" link add dmm-s type veth peer name dmm-t
ctl stack add spare type=lwip dev=dmm-s "netns=$NS-app" >/dev/null
ctl rule add cgroup "$CG" stack spare >&2
ip -n "$NS-app" link del dmm-s
ctl stack restart spare 2>/dev/null
because stack-down native adopted $PEER $PORT
because stack-down listens listen $APP 7703
ctl rule flush >&2
ctl rule add cgroup "$CG" stack spare fallback reject >&2
because stack-down ENETDOWN adopted $PEER $PORT
because stack-down ENETDOWN listen $APP 7703
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
