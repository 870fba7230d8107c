#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The tests on sockets that the shim gives to a stack, on this machine's own kernel,
# without the module; native.sh and adopted.sh run the very same.
# shim.sh [SUITE...] [-- OPTION...]
. "$(dirname "$0")/lib.sh"

export DMM_ADOPTED=${DMM_ADOPTED-v4 v6 mapped listen-v4 listen-v6 listen-mapped}

# What cannot be right; dmm-shim(7) says the same to users.
WITHOUT=(
	is_listed			# the kernel's tables have no connection of the shim's
	closed_while_under_way		# likewise: it asks them for SYN_SENT
	time_wait_holds_the_port	# the kernel's socket, and its port, go with close()
	an_open_one_holds_the_port	# likewise
	fin_wait2_ends			# when, only those tables would tell
	urgent_to_us urgent_from_us	# no urgent data in the channel
	bad_pointers half_a_bad_buffer	# user space has no EFAULT but SIGSEGV
	signals signals_asked_for_late signal_of_connect_and_reset	# SIGIO is sent by the kernel's socket alone
	filter_after_connect		# no packets pass by that a filter could see
	pidfd_getfd			# a system call made by hand
	# not yet: the shim has lists of its own instead of linux/dmm_opt.h's
	rcvbuf_bounds_the_window_later clamp_bounds_the_window notsent_lowat
	quickack mtu last_times ancillary lowat_wakes_when_lowered packet_options
)
# And all of uring: a program with a ring keeps its sockets native.
SHIM_SUITES=(connect data flow event process option close server)

in_shim()
{
	DMM_UNLISTED=1 in_app "$@"
}

suites=() options=()
while (($#)) && [[ $1 != -- ]]; do
	suites+=("$1")
	shift
done
((${#suites[@]})) || suites=("${SHIM_SUITES[@]}")
shift
(($#)) || for t in "${WITHOUT[@]}"; do
	options+=(-T "$t")
done

world_up >&2
shim_up >&2 || exit 1
ctl rule add cgroup "$CG" dst "$PEER6/128" stack lwip0 >&2 || exit 1
ctl rule add cgroup "$CG" dir listen stack lwip0 >&2 || exit 1
run_suites in_shim "${suites[@]}" -- "${options[@]}" "$@"
