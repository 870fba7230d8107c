#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The tests on sockets that the shim gives to a stack, on this machine's own kernel,
# without the module; native.sh and adopted.sh run the very same.
# shim.sh [SUITE...] [-- OPTION...]
. "$(dirname "$0")/lib.sh"

export DMM_ADOPTED=${DMM_ADOPTED-v4 v6 mapped listen-v4 listen-v6 listen-mapped}

in_shim()
{
	in_app env DMM_UNLISTED=1 LD_PRELOAD="$OUT/lib/dmm/libdmm-shim.so" DMM_RUNTIME_DIR="$RUN" "$@"
}

world_up >&2
ctl cgroup attach "$CG" >&2 || exit 1
ctl rule add cgroup "$CG" dst "$PEER6/128" stack lwip0 >&2 || exit 1
ctl rule add cgroup "$CG" dir listen stack lwip0 >&2 || exit 1
run_suites in_shim "$@"
