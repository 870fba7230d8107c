#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/setup, on a machine that is set up: two versions of it that share a cache leave
# alone what the other made, and a part that is missing or another's is made anew alone.
# What would be fetched is not: an apt-get that only says that it was called.
set -u

TOP=$(cd "$(dirname "$0")/../.." && pwd)
SETUP=${SETUP:-$TOP/scripts/setup}
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
		sed 's/^/# /' "$dir/said"
		echo "not ok $n $name"
		failed=1
	fi
}

mkdir -p "$dir/bin" "$dir/a" "$dir/b" "$dir/c" "$dir/cache"
cp "$SETUP" "$dir/a/setup"
# another version; and one that makes lwIP in another way
{ cat "$SETUP"; echo "# one line more"; } >"$dir/b/setup"
sed 's/^fetch_lwip()/&\n{\n\ttrue\n\tlwip_again "$@"\n}\nlwip_again()/' "$SETUP" >"$dir/c/setup"
chmod 755 "$dir"/?/setup
cat >"$dir/bin/apt-get" <<-END
	#!/bin/sh
	echo "apt-get \$*" >>"$dir/fetched"
	exit 100
END
chmod 755 "$dir/bin/apt-get"
for part in lwip kselftest checkpatch kernel .setup; do
	cp -a "${DMM_CACHE:-/var/cache/dmm}/$part" "$dir/cache/" 2>/dev/null
done
PATH=$dir/bin:$PATH
export DMM_CACHE=$dir/cache

# run VERSION: its status; what it fetched in $dir/fetched
run()
{
	: >"$dir/fetched"
	"$dir/$1/setup" >"$dir/said" 2>&1
}
nothing_fetched() { [[ ! -s $dir/fetched ]]; }
quiet() { [[ ! -s $dir/said ]]; }

echo "TAP version 13"
echo "1..10"
check "what is there is left alone" run a
check "without a word" quiet
check "by another version, too" run b
check "which fetches nothing" nothing_fetched
check "and back" run a
check "likewise" nothing_fetched
rm -rf "$dir/cache/kselftest"
check "a part that is missing is made" run a
check "and no other" nothing_fetched
! run c
check "a part with another recipe is fetched" grep -q 'source lwip' "$dir/fetched"
check "where that fails, the old one stays" test -d "$dir/cache/lwip"
exit $failed
