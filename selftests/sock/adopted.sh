#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The tests on adopted sockets, through a real worker; native.sh runs the very same.
# adopted.sh [SUITE...] [-- OPTION...]
. "$(dirname "$0")/lib.sh"

# All kinds of sockets, see rig.h: the rule below names none.
# One suite after another: several at once are too much for an emulated machine.
export SOCK_ONE_BY_ONE=1
export DMM_ADOPTED="v4 v6 mapped listen-v4 listen-v6 listen-mapped"

# They answer what state a connection is in.
modprobe -a inet_diag tcp_diag 2>/dev/null
trap world_down EXIT
trap 'exit 1' INT TERM
{ net_up && peer_up && daemon_up && stack_up; } >&2 ||
	{ echo "# the world could not be set up"; exit 1; }

# What the table counts; see sock_table.c.
export DMM_STATS="$BIN/dmmctl --socket $RUN/dmmd.sock -j stats"

# What differs for good; dmm(7) has the list.
run_suites in_app "$@" -- -T urgent_to_us -T urgent_from_us -T filter_after_connect
