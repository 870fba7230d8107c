#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/vm: the command's status and output come through, and a kernel that
# complains, stops or never ends is not taken for a success.
set -u

TOP=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
n=0 failed=0

check()	# NAME CONDITION...
{
	local name=$1

	shift
	((++n))
	if "$@"; then
		echo "ok $n $name"
	else
		sed 's/^/# /' "$dir/said" "$dir/complaint"
		echo "# exit status $status"
		echo "not ok $n $name"
		failed=1
	fi
}

vm()
{
	(cd "$dir" && exec "$TOP/scripts/vm" "$@") >"$dir/said" 2>"$dir/complaint"
	status=$?
}

is() { ((status == $1)) && [[ $(<"$dir/said") == "$2" ]]; }

echo "TAP version 13"
echo "1..14"

# shellcheck disable=SC2016 # expanded in the VM
vm --env 'WORD=two words' -- bash -c \
	'echo "$WORD"; pwd; uname -r; echo kept >"$DMM_VM_OUT/runner"; touch /x; exit 7'
check "status, output, folder and environment" \
	is 7 "two words"$'\n'"$dir"$'\n'"$(<"${DMM_CACHE:-/var/cache/dmm}/kernel/release")"
kept=${OUT:-$TOP/build}/vm/out/runner
check "what goes to DMM_VM_OUT stays" grep -qx kept "$kept"
check "nothing else does" test ! -e /x
rm -f "$kept"

vm -- bash -c 'echo before; echo "WARNING: of a test" >/dev/kmsg'
check "a complaint of the kernel is status 99" is 99 before
check "and is shown" grep -q 'WARNING: of a test' "$dir/complaint"

vm -- bash -c 'echo before; echo c >/proc/sysrq-trigger'
check "a panic is status 125" is 125 before

# long enough for the kernel's first line, on a busy machine too
vm --timeout 10 --console "$dir/console" -- sleep 1000
check "no end is status 124" is 124 ""
check "the console can be kept" grep -q 'Linux version' "$dir/console"

# -- QEMU dies in early boot, as often as $dir/dies says
mkdir "$dir/bin"
real=$(command -v qemu-system-x86_64)
cat >"$dir/bin/qemu-system-x86_64" <<-END
	#!/bin/bash
	echo called >>"$dir/calls"
	((\$(wc -l <"$dir/calls") > \$(<"$dir/dies"))) && exec $real "\$@"
	echo "a fault of QEMU's" >&2
	exit 1
END
chmod 755 "$dir/bin/qemu-system-x86_64"
called() { (($(wc -l <"$dir/calls") == $1)); }

echo 1 >"$dir/dies"
PATH=$dir/bin:$PATH vm -- bash -c 'echo once; exit 3'
check "a QEMU that dies in early boot is tried once more" is 3 once
check "and that is said" grep -q 'early boot.*once more' "$dir/complaint"
echo 9 >"$dir/dies"
rm "$dir/calls"
PATH=$dir/bin:$PATH vm -- true
check "dies it again, that is status 125" is 125 ""
check "with what QEMU said" grep -q "a fault of QEMU's" "$dir/complaint"
check "and is not tried a third time" called 2

vm --nonsense
check "an unknown option is refused" is 125 ""
exit $failed
