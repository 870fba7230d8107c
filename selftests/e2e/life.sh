#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Who dies and comes back: the worker in mid-transfer, dmmd under a live transfer,
# rules changed live; what idles costs nothing; what ends leaves nothing.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

world_up >&2
echo "TAP version 13"

worker_pid() { ctl -j stack show lwip0 | jq 'first(.. | .pid? // empty)'; }

stack_is() { ctl stack list | grep -qE "^lwip0 .*\\b$1\\b"; }

# get WHAT BYTES: curl's stand-in; prints nothing when all is well
get() { in_app "$HERE/fetch" "$PEER" "$PORT" "$@"; }

no_worker() { ! pgrep -f '[d]mm-worker.*--dev dmm-a'; }

xdp_id() { ip -n "$NS-app" -d link show dmm-a | sed -n 's/.*prog.xdp id \([0-9]*\).*/\1/p'; }

adopted_now() { ctl -j sock list | grep -qi '"state": *"ESTAB'; }

check "a rule adopts" get adopted 1000
old=$(xdp_id)
[[ $old ]]; tap $? "the worker's XDP program is on the device"
check "its pins are there" test -e "$BPF/stack/lwip0/flows"

# -- the worker is killed in mid-transfer
get adopted 300000000 >"$RUN/cut.log" 2>&1 &
fetch=$!
check "a transfer goes on" until_true 10 adopted_now
first=$(worker_pid)
kill -9 "$first"
wait "$fetch"
status=$?
grep -q "Connection reset by peer" "$RUN/cut.log"
tap $? "the program hears ECONNRESET" "status $status: $(tail -n 1 "$RUN/cut.log")"
peer_has_none() { [[ -z $(in_peer ss -Htn state established "sport = :$PORT") ]]; }
check "the peer's next segment draws a RST" until_true 10 peer_has_none
check "dmmd starts another" until_true 20 stack_is up
[[ $(worker_pid) != "$first" ]]; tap $? "it is another process"
new=$(xdp_id)
[[ $new && $new != "$old" ]]
tap $? "the left-over XDP program was replaced" "$old -> $new"
check "and serves" get adopted 1000000

# -- dmmd is killed and started again under a live transfer
get adopted 100000000 >"$RUN/live.log" 2>&1 &
fetch=$!
until_true 10 adopted_now
kill -9 "$DMMD"
wait "$DMMD" 2>/dev/null
first=$(pgrep -f 'dmm-worker.*--dev dmm-a')
daemon_up
tap $? "dmmd comes back after kill -9"
wait "$fetch"
tap $? "the transfer went on and was intact" "$(tail -n 1 "$RUN/live.log")"
[[ $(worker_pid) == "$first" ]]; tap $? "with the same worker"
ctl rule list | grep -q lwip0; tap $? "and the same rule"

# -- rules are edited live
id=$(ctl -j rule list | jq 'first(.. | .id? // empty)')
check "rule del" ctl rule del "$id"
check "the next one is native" get native 1000
check "rule add" ctl rule add cgroup "$CG" dport "$PORT" stack lwip0
check "the next one is adopted" get adopted 1000

# -- an operator puts a cgroup under the rules by bpftool alone
mkdir -p "$CG-op"
get_op()
{
	# shellcheck disable=SC2016
	bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' get_op "$CG-op" \
		ip netns exec "$NS-app" "$HERE/fetch" "$PEER" "$PORT" "$@"
}
check "a cgroup that nobody named is native" get_op native 1000
id=$(ctl rule add dport "$PORT" stack lwip0 | grep -o '[0-9]*')
check "bpftool cgroup attach" /usr/sbin/bpftool cgroup attach "$CG-op" \
	cgroup_inet4_connect pinned "$BPF/prog/connect4" multi
check "and it is under the rules" get_op adopted 1000
check "bpftool cgroup detach" /usr/sbin/bpftool cgroup detach "$CG-op" \
	cgroup_inet4_connect pinned "$BPF/prog/connect4"
ctl rule del "$id"
rmdir "$CG-op"

# -- a worker is restarted; a stack whose device is gone stays down
check "worker restart" ctl stack restart lwip0
check "is up again" until_true 20 stack_is up

ip -n "$NS-app" link add dmm-s type veth peer name dmm-t
ip -n "$NS-app" link set dmm-s up
ctl stack add spare type=lwip dev=dmm-s "netns=$NS-app" >/dev/null
tap $? "a second stack"
ip -n "$NS-app" link del dmm-s
ctl stack restart spare 2>"$RUN/spare.log"
[[ $? == 1 && $(wc -l <"$RUN/spare.log") == 1 ]]
tap $? "its device gone, it does not start" "$(cat "$RUN/spare.log")"
id=$(ctl -j rule list | jq 'first(.. | .id? // empty)')
check "a rule to it" ctl rule add before "$id" cgroup "$CG" dport "$PORT" stack spare
check "falls back" get native 1000
ctl stats | grep -q stack-down; tap $? "and stats names the reason"

# -- idle
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
pid=$(worker_pid)
before=$(ticks "$pid")
sleep 5
used=$(($(ticks "$pid") - before))
((used < 5 * $(getconf CLK_TCK) * 2 / 100))
tap $? "an idle worker takes less than 2 % of a CPU" "$used ticks in 5 s"

# -- the end
check "shutdown" ctl shutdown
wait "$DMMD" 2>/dev/null
check "no worker is left" until_true 10 no_worker
[[ -z $(xdp_id) ]]; tap $? "no XDP program is left"
[[ ! -e $BPF/stack && ! -e $BPF/prog/connect4 ]]
tap $? "no pin is left" "$(find "$BPF" 2>/dev/null | tr '\n' ' ')"
check "native without dmmd" get native 1000
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
