#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Those of the tests that attach our programs, where the module is loaded: the verifier
# then sees the call of its kfunc, which it drops as dead code elsewhere.
set -u

TOP=$(cd "$(dirname "$0")/../.." && pwd)
TESTS=${DMM_BUILD:-$TOP/build}/selftests/policy
n=0 failed=0

echo 1..4
for test in denials protections rule_words shim_mark; do
	((++n))
	if out=$("$TESTS/$test" 2>&1); then
		echo "ok $n $test"
	else
		# The verifier says much.
		grep -v -e '^ok' -e '  OK ' -e ' RUN ' <<<"$out" | cut -c -200 |
			tail -n 40 | sed 's/^/# /'
		echo "not ok $n $test"
		failed=1
	fi
done
exit $failed
