#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The very same tests as data.sh on native sockets: what they expect is what
# Linux does. Needs neither the module nor a worker.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

trap world_down EXIT
trap "exit 1" INT TERM
net_up && peer_up || exit 1
DMM_PEER=$PEER DMM_PORT=$PORT ip netns exec "$NS-app" "$HERE/data" "$@"
