#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/demo beside a live dmmd, and beside another demo: all have places of their
# own, and stacks of the same name, and none disturbs another.
set -u

TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=selftests/e2e/lib.sh
. "$TOP/selftests/e2e/lib.sh"

DEMO=${DEMO:-$TOP/scripts/demo}

# hits: of the live one's rule, by one connection
hits() { ctl -j rule list | jq 'first(.. | .hits? // empty)'; }
worker_pid() { ctl -j stack list | jq 'first(.. | .pid? // empty)'; }

world_up >&2
shim_up >&2 || exit 1
echo "TAP version 13"
pid=$(worker_pid)
for i in 1 2; do
	"$DEMO" --shim >"$RUN/demo-$i" 2>&1 &
	demos[i]=$!
done
for i in 1 2; do
	wait "${demos[i]}"
	tap $? "demo $i of two at once: all as told" "$(grep -m 1 NO: "$RUN/demo-$i")"
done
[[ $(worker_pid) == "$pid" ]]
tap $? "the live worker is the one that it was" "$(worker_pid), not $pid"
before=$(hits)
in_app "$HERE/fetch" "$PEER" "$PORT" adopted 1000 >&2
(($(hits) == before + 1))
tap $? "the live rules still decide" "$(hits) hits, $before before"
(($(ctl -j stats | jq 'first(.. | .rx_frames? // empty)') > 0))
tap $? "the live worker still answers"
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
