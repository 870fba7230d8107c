#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The module is loaded after dmmd, and unloaded after `dmmctl shutdown`. scripts/test
# has loaded it, and unloads what we leave.
set -u

TOP=$(cd "$(dirname "$0")/../.." && pwd)
BIN=${DMM_BUILD:-$TOP/build}/bin
dir=$(mktemp -d)
n=0 failed=0 dmmd=

cleanup()
{
	[[ -n $dmmd ]] && kill "$dmmd" 2>/dev/null && wait "$dmmd"
	umount "$dir/bpf" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT

check()	# NAME CONDITION...
{
	local name=$1

	shift
	((++n))
	if "$@"; then
		echo "ok $n $name"
	else
		echo "not ok $n $name"
		failed=1
	fi
}

ctl() { "$BIN/dmmctl" -s "$dir/run/dmmd.sock" "$@"; }
status_says() { ctl status 2>/dev/null | grep -q "$1"; }

wait_for()	# CONDITION...: for 10 seconds at most
{
	local i

	for ((i = 0; i < 100; i++)); do
		"$@" && return
		sleep 0.1
	done
	return 1
}

start_dmmd()
{
	mkdir -p "$dir/bpf" && mount -t bpf bpf "$dir/bpf" || return
	"$BIN/dmmd" --runtime-dir "$dir/run" --bpf-dir "$dir/bpf/dmm" 2>"$dir/log" &
	dmmd=$!
	wait_for status_says dmmd
}

device_is_ready()
{
	local group=root

	getent group dmm >/dev/null && group=dmm
	[[ $(stat -c '%a %U %G' /dev/dmm) == "660 root $group" ]]
}

shut_down()
{
	ctl shutdown && wait "$dmmd" && dmmd=
}

echo 1..9
check "the module is unloaded" rmmod dmm
check "dmmd runs without it" start_dmmd
check "and says so" status_says "module    not loaded"
check "and did not have it loaded" test ! -d /sys/module/dmm
check "the module is loaded" insmod "$DMM_MODULE"
check "dmmd notices" wait_for status_says "can adopt sockets"
check "and gives the device to its group" wait_for device_is_ready
check "dmmd shuts down" shut_down
check "the module can go again" wait_for rmmod dmm
exit $failed
