#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The module comes and goes: each time with its device, its netlink family and its
# kfunc, and without leaving memory behind. scripts/test has loaded it already.
set -u

ROUNDS=50 WARM=10
n=0 failed=0

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

loaded() { grep -q '^dmm ' /proc/modules; }
# by the list: asking for an absent family by name calls modprobe
family() { genl ctrl list | grep -q '^Name: dmm$'; }
kfunc() { grep -q ' bpf_dmm_assign\b' /proc/kallsyms; }
device() { [[ -c /dev/dmm ]]; }
# BTF of the module: where a BPF object finds the kfunc
btf() { [[ -s /sys/kernel/btf/dmm ]]; }

all_there() { loaded && device && family && btf; }
all_gone() { ! loaded && ! device && ! family && ! btf; }

device_is_private()
{
	local mode owner

	read -r mode owner < <(stat -c '%a %u' /dev/dmm)
	[[ $owner == 0 && ( $mode == 600 || $mode == 660 ) ]] && return
	echo "# /dev/dmm has mode $mode, owner $owner"
	return 1
}

slab() { awk '$1 == "nr_slab_unreclaimable" { print $2 }' /proc/vmstat; }
vmalloc() { awk '$1 == "VmallocUsed:" { print $2 }' /proc/meminfo; }

rounds()
{
	local i

	for ((i = 0; i < ROUNDS; i++)); do
		if ((i == WARM)); then
			slab_before=$(slab)
			vmalloc_before=$(vmalloc)
		fi
		insmod "$DMM_MODULE" || return
		all_there || { echo "# not all there in round $i"; return 1; }
		rmmod dmm || return
		all_gone || { echo "# not all gone in round $i"; return 1; }
	done
}

# Once the caches are warm, the kernel may not grow by anything near a page for
# each round.
rounds_leaked_nothing()
{
	local slab_grown=$(($(slab) - slab_before))
	local vmalloc_grown=$(($(vmalloc) - vmalloc_before))

	echo "# slab grew by $slab_grown pages, vmalloc by $vmalloc_grown KiB"
	# KASAN keeps what is freed; where it is, kmemleak looks for leaks
	[[ ! -e /sys/kernel/debug/kmemleak ]] || return 0
	((slab_grown < ROUNDS - WARM && vmalloc_grown < 4 * (ROUNDS - WARM)))
}

open_file_holds()
{
	local held=yes

	insmod "$DMM_MODULE" || return
	exec 5<>/dev/dmm
	rmmod dmm 2>/dev/null && held=no
	exec 5>&-
	[[ $held == yes ]] && rmmod dmm
}

second_load_is_refused()
{
	insmod "$DMM_MODULE" || return
	! insmod "$DMM_MODULE" 2>/dev/null && all_there && rmmod dmm
}

echo "TAP version 13"
echo "1..8"
check "all of it is there" all_there
check "the kfunc too" kfunc
check "the device is private" device_is_private
check "unloads" rmmod dmm
check "loads and unloads $ROUNDS times" rounds
check "and leaks nothing" rounds_leaked_nothing
check "an open file holds it" open_file_holds
check "a second load is refused" second_load_is_refused
all_gone || rmmod dmm
exit $failed
