#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/tap-run counts what it should: a test that crashes, goes silent, skips or
# leaves something behind may not pass for a success.
set -u

TOP=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
netns=runner-left-$$
trap 'rm -rf "$dir"; ip netns del $netns 2>/dev/null' EXIT
n=0 failed=0 limit=20

# run NAME BODY: let tap-run run a program with that body
run()
{
	printf '#!/bin/bash\n%s\n' "$2" >"$dir/program"
	chmod 755 "$dir/program"
	echo "host fake/$1 $dir/program" >"$dir/list"
	DMM_EXPECTED_SKIPS=$dir/skips DMM_TEST_TIMEOUT=$limit \
		"$TOP/scripts/tap-run" "$dir/out" "$dir/list" >"$dir/said"
	status=$?
}

# verdict NAME CONDITION...
verdict()
{
	local name=$1

	shift
	((++n))
	if "$@"; then
		echo "ok $n $name"
	else
		sed 's/^/# /' "$dir/said" "$dir/out/results"
		echo "# exit status $status"
		echo "not ok $n $name"
		failed=1
	fi
}

counted() { grep -qx "fake/$1 $2 $3 $4" "$dir/out/results" && ((!!status == $3 > 0)); }

# expect NAME PASSED FAILED SKIPPED BODY
expect()
{
	run "$1" "$5"
	verdict "$1" counted "$1" "$2" "$3" "$4"
}

cat >"$dir/skips" <<-END
	# a comment
	fake/allowed_skip may_skip cannot run on this machine
	fake/allowed_skip_of_all * cannot run on this machine
END

echo "TAP version 13"
echo "1..17"
expect all_pass 2 0 0 'echo 1..2; echo ok 1 a; echo ok 2 b'
expect one_fails 1 1 0 'echo 1..2; echo ok 1 a; echo not ok 2 b; exit 1'
expect fails_but_exits_0 1 1 0 'echo 1..2; echo ok 1 a; echo not ok 2 b'
expect crashes 1 2 0 'echo 1..3; echo ok 1 a; kill -SEGV $$'
expect passes_and_crashes 1 1 0 'echo 1..1; echo ok 1 a; kill -SEGV $$'
expect says_nothing 0 1 0 'exit 0'
expect no_plan 1 1 0 'echo ok 1 a'
expect plan_of_none 0 1 0 'echo 1..0'
expect more_than_planned 2 1 0 'echo 1..1; echo ok 1 a; echo ok 2 b'
expect cannot_run 0 1 0 'exec /nonexistent'
expect unexpected_skip 1 1 0 'echo 1..2; echo ok 1 a; echo ok 2 b \# SKIP no'
expect allowed_skip 1 0 1 'echo 1..2; echo ok 1 a; echo ok 2 may_skip \# SKIP no'
expect allowed_skip_of_all 0 0 1 'echo 1..0 \# SKIP no; exit 4'
expect unexpected_skip_of_all 0 1 0 'echo 1..0 \# SKIP no; exit 4'
expect indented_lines_are_not_ours 1 0 0 'echo 1..1; echo "  not ok 1 x"; echo ok 1 a'
limit=1 expect hangs 1 1 0 'echo 1..2; echo ok 1 a; sleep 60'

run leaves_a_netns "ip netns add $netns; echo 1..1; echo ok 1 a"
left() { ((status)) && grep -q "left netns $netns" "$dir/said"; }
verdict leaves_a_netns left
exit $failed
