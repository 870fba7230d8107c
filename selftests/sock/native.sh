#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The tests on native sockets: what they expect is what Linux does, and this proves
# it. Needs neither the module nor a worker. native.sh [SUITE...] [-- OPTION...]
. "$(dirname "$0")/lib.sh"

in_netns() { ip netns exec "$NS-app" "$@"; }

trap world_down EXIT
trap "exit 1" INT TERM
net_up && peer_up || exit 1
run_suites in_netns "$@"
