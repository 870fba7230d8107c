# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The world of ../e2e/lib.sh with our own peer. Sourced.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"

SOCK=$OUT/selftests/sock
SUITES=(connect data flow event process option table close server uring)

# In place of e2e's; world_up calls it.
peer_up()
{
	ip netns exec "$NS-peer" "$SOCK/sock_peer" "$RUN/peer.sock" \
		>"$RUN/peer.log" &
	# shellcheck disable=SC2034 # world_down ends it
	PEER_PID=$!
	until_true 10 grep -q ready "$RUN/peer.log"
}

# Several programs' TAP made one, with the plan at the end.
one_tap()
{
	awk '
	/^TAP version/ { if (!n++) print; next }
	/^1\.\.[0-9]+/ { plan += substr($1, 4); next }
	/^# Totals:/ { next }
	/^ok / { $2 = ++seen; print; fflush(); passed++; next }
	/^not ok / { $3 = ++seen; print; fflush(); next }
	{ print; fflush() }
	END {
		print "1.." plan + 0
		printf "# Totals: %d of %d passed\n", passed, plan
	}'
}

# run_suites IN [SUITE...] [-- HARNESS-OPTION...]: IN runs a command in the
# container. They mostly wait, so all run at once, but for SOCK_ONE_BY_ONE.
run_suites()
{
	local in=$1 suite suites=() pid pids=() status=0
	shift
	while (($#)) && [[ $1 != -* ]]; do
		suites+=("$1")
		shift
	done
	[[ ${1-} != -- ]] || shift
	((${#suites[@]})) || suites=("${SUITES[@]}")
	export DMM_LOCAL4=$APP DMM_LOCAL6=$APP6 DMM_PEER4=$PEER \
		DMM_PEER6=$PEER6 DMM_PEER_SOCK=$RUN/peer.sock
	for suite in "${suites[@]}"; do
		"$in" "$SOCK/sock_$suite" "$@" >"$RUN/$suite.tap" 2>&1 &
		pids+=($!)
		[[ -z ${SOCK_ONE_BY_ONE-} ]] || wait $!
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || status=1
	done
	for suite in "${suites[@]}"; do
		cat "$RUN/$suite.tap"
	done | one_tap
	return $status
}
