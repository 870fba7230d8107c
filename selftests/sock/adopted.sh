#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The tests on adopted sockets, through a real worker; native.sh runs the very same.
# DMM_ADOPTED names the kinds that must be adopted, the others must not be: see
# rig.h. adopted.sh [SUITE...] [-- OPTION...]
. "$(dirname "$0")/lib.sh"

export DMM_ADOPTED=${DMM_ADOPTED-v4}

# They answer what state a connection is in.
modprobe -a inet_diag tcp_diag 2>/dev/null
world_up >&2
if [[ " $DMM_ADOPTED " == *" v6 "* ]]; then
	ctl rule add cgroup "$CG" dst "$PEER6/128" stack lwip0 >&2 || exit 1
fi
run_suites in_app "$@"
