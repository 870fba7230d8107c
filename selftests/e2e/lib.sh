# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The wire that the end-to-end tests share, and its clean-up. Sourced.
#
#	dmm-e2e-PID-app				dmm-e2e-PID-peer
#	10.99.0.1/24, dmm-a <--- veth ---> dmm-p, 10.99.0.2/24
#	fd99::1/64				fd99::2/64
#	cgroup dmm-e2e-PID			peer on port 5001, native
#	stack lwip0 on dmm-a
#
# dmmd runs with folders of its own; `ctl` is dmmctl for it.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
OUT=${OUT:-$TOP/build}
BIN=$OUT/bin
HERE=$OUT/selftests/e2e
# shellcheck disable=SC2034
APP=10.99.0.1 APP6=fd99::1
PEER=10.99.0.2 PEER6=fd99::2
PORT=5001

# netns, cgroup and BPF folder, this world's own
NS=${DMM_TEST_NS:-dmm-e2e-$$}
RUN=$(mktemp -d /tmp/dmm-e2e.XXXXXX)
CGROOT=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
CG=$CGROOT/$NS
BPF=/sys/fs/bpf/$NS

ctl() { "$BIN/dmmctl" --socket "$RUN/dmmd.sock" "$@"; }

# tap RESULT NAME [WHY]
TAP_N=0
tap()
{
	TAP_N=$((TAP_N + 1))
	if (($1 == 0)); then
		echo "ok $TAP_N $2"
	else
		echo "not ok $TAP_N $2${3:+ # $3}"
		export TAP_FAILED=1
	fi
}

# check NAME COMMAND...: a test that is one command
check()
{
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		tap 0 "$name"
	else
		awk '{ print "# " $0 }' <<<"$out"
		tap 1 "$name"
	fi
}

# until_true SECONDS COMMAND...: wait for a condition
until_true()
{
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || return 1
		sleep 0.1
	done
}

net_up()
{
	ip netns add "$NS-app" && ip netns add "$NS-peer" || return
	ip link add dmm-a netns "$NS-app" type veth \
		peer name dmm-p netns "$NS-peer" || return
	ip -n "$NS-app" addr add $APP/24 dev dmm-a
	ip -n "$NS-peer" addr add $PEER/24 dev dmm-p
	ip -n "$NS-app" addr add $APP6/64 dev dmm-a nodad
	ip -n "$NS-peer" addr add $PEER6/64 dev dmm-p nodad
	for ns in app peer; do
		ip -n "$NS-$ns" link set lo up
	done
	ip -n "$NS-app" link set dmm-a up
	ip -n "$NS-peer" link set dmm-p up
}

daemon_up()
{
	"$BIN/dmmd" --runtime-dir "$RUN" --socket "$RUN/dmmd.sock" \
		--bpf-dir "$BPF" >>"$RUN/dmmd.log" 2>&1 &
	DMMD=$!
	until_true 20 ctl status
}

# stack_up MATCH...: and a rule for the cgroup
stack_up()
{
	ctl stack add lwip0 type=lwip dev=dmm-a "netns=$NS-app" &&
		mkdir -p "$CG" &&
		ctl rule add cgroup "$CG" "$@" stack lwip0
}

peer_up()
{
	ip netns exec "$NS-peer" "$HERE/peer" $PEER $PORT >"$RUN/peer.log" &
	PEER_PID=$!
	until_true 10 grep -q ready "$RUN/peer.log"
}

# What a program of the container is started with: the shim, after shim_up
WITH=()

shim_up()
{
	ctl cgroup attach "$CG" || return
	WITH=(env "LD_PRELOAD=$OUT/lib/dmm/libdmm-shim.so" "DMM_RUNTIME_DIR=$RUN")
}

# in_app COMMAND...: in the container: its netns and its cgroup; for LIMIT seconds
# at most
in_app()
{
	# shellcheck disable=SC2016
	bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' in_app \
		"$CG" ${LIMIT:+timeout "$LIMIT"} ip netns exec "$NS-app" "${WITH[@]}" "$@"
}

in_peer() { ${LIMIT:+timeout "$LIMIT"} ip netns exec "$NS-peer" "$@"; }

world_down()
{
	local status=$?

	trap - EXIT
	ctl shutdown >/dev/null 2>&1
	[[ -z ${DMMD-} ]] || kill "$DMMD" 2>/dev/null
	[[ -z ${PEER_PID-} ]] || kill "$PEER_PID" 2>/dev/null
	# of this world alone: others may run beside it
	[[ -z ${DMMD-} ]] || pkill -f "dmm-worker .*--client-socket $RUN/" 2>/dev/null
	# whatever a test started in the container
	[[ ! -w $CG/cgroup.kill ]] || echo 1 >"$CG/cgroup.kill"
	wait 2>/dev/null
	ip netns del "$NS-app" 2>/dev/null
	ip netns del "$NS-peer" 2>/dev/null
	ip netns del "$NS-wire" 2>/dev/null	# netem.sh's
	until_true 5 rmdir "$CG" || [[ ! -d $CG ]] || echo "# $CG is still in use"
	rm -rf "$BPF" 2>/dev/null
	((status == 0)) || [[ ! -s $RUN/dmmd.log ]] ||
		sed 's/^/# dmmd: /' "$RUN/dmmd.log" | tail -n 40
	rm -rf "$RUN"
	exit "$status"
}

# For tests whose peer is a program of theirs.
world_up_alone()
{
	trap world_down EXIT
	trap 'exit 1' INT TERM
	net_up && daemon_up && stack_up && return
	echo "# the world could not be set up"
	exit 1
}

world_up()
{
	trap world_down EXIT
	trap 'exit 1' INT TERM
	net_up && peer_up && daemon_up && stack_up dst $PEER/32 && return
	echo "# the world could not be set up"
	exit 1
}
