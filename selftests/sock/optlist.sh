#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every socket option that a kernel's headers name, as C: optlist.sh KDIR. An option
# that the next kernel brings is found by this, not by somebody who remembers.
set -euo pipefail

kdir=$1
uapi=$kdir/include/uapi
# Debian keeps what all flavours share in a folder of its own.
[[ -r $uapi/linux/tcp.h ]] ||
	uapi=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$kdir/Makefile")/include/uapi

# options LEVEL FILE FROM TO PATTERN NOT: the #defines of numbers from one line to another
options()
{
	awk -v level="$1" -v from="$3" -v to="$4" -v name="$5" -v no="$6" '
	$0 ~ from { on = 1 }
	to != "" && $0 ~ to { on = 0 }
	/^#if 0/ { dead = 1 }
	/^#endif/ { dead = 0 }
	on && !dead && $1 == "#define" && $2 ~ "^(" name ")$" && $3 ~ /^[0-9]+$/ &&
	(no == "" || $2 !~ "^(" no ")$") {
		printf "\t{ \"%s\", %s, %s },\n", $2, level, $3
		n++
	}
	END { exit n < 30 }' "$uapi/$2" ||
		{ echo "optlist.sh: too few options in $uapi/$2" >&2; exit 1; }
}

echo "/* From $(basename "$kdir"): do not edit. */"
options SOL_SOCKET asm-generic/socket.h . '' 'SO_[A-Z0-9_]+' ''
options IPPROTO_TCP linux/tcp.h 'TCP socket options' 'define TCP_REPAIR_ON' \
	'TCP_[A-Z0-9_]+' ''
options IPPROTO_IP linux/in.h 'define IP_TOS' 'struct in_addr|struct ip_mreq ' \
	'(IP|MCAST)_[A-Z0-9_]+' 'IP_PMTUDISC_.*|IP_DEFAULT_.*|MCAST_(EX|IN)CLUDE'
options IPPROTO_IPV6 linux/in6.h 'define IPV6_ADDRFORM' '' \
	'IPV6_[A-Z0-9_]+' 'IPV6_PMTUDISC_.*|IPV6_PREFER_SRC_.*'
