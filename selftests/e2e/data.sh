#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The data path through a real worker; see data.c.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

world_up >&2
DMM_PEER=$PEER DMM_PORT=$PORT DMM_ADOPTED=1 in_app "$HERE/data" "$@"
