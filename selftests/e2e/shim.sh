#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The programs of programs.sh through the shim, on this machine's own kernel.
SHIM=1 exec "$(dirname "$0")/programs.sh" "$@"
