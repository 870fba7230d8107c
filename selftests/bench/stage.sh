# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Where scripts/bench measures: wires, stacks, and each system's place on them.
# Sourced. All is made when first asked for, and taken down by strike().
#
#	kernel:	NS-k-app  10.98.1.1 <--veth--> 10.98.1.x	NS-k-peer
#	dmm:	NS-d-app  10.98.2.1 <--veth--> 10.98.2.x	NS-d-peer, a stack on it
#	native:	NS-n-app  10.98.3.1 <--veth--> 10.98.3.x	NS-n-peer, no stack
#	own:	NS-o-app  10.98.4.1 <--veth--> 10.98.4.x	NS-o-peer, no stack, but
#		beside it 10.98.14.1 <--veth-->			one on a veth of its own
#	shared:	NS-s-app  10.98.5.1 <--veth--> 10.98.5.x	NS-s-peer, a stack on it
#
# Servers run in NS-?-app, clients in NS-?-peer. dmmd and so all workers are on CPU 0.

# TOP, BIN, RING, SHIM and NS are scripts/bench's.
RUN=$(mktemp -d /tmp/dmm-bench.XXXXXX)
CGROOT=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
CG=$CGROOT/$NS
BPF=/sys/fs/bpf/$NS
DMMD='' SERVER='' VM=''
port=7100
declare -A up

ctl() { "$BIN/dmmctl" --socket "$RUN/dmmd.sock" "$@"; }

# until_true SECONDS COMMAND...: wait for a condition
until_true()
{
	local end=$((SECONDS + $1))

	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

strike()
{
	local ns

	trap - EXIT
	server_stop
	[[ ! $VM ]] || kill "$VM" 2>/dev/null
	[[ ! $DMMD ]] || ctl shutdown >/dev/null 2>&1 || kill "$DMMD" 2>/dev/null
	wait 2>/dev/null
	for ns in "${!up[@]}"; do
		[[ $ns == bed-* ]] || continue
		ip netns del "$NS-${ns#bed-}-app" 2>/dev/null
		ip netns del "$NS-${ns#bed-}-peer" 2>/dev/null
	done
	rmdir "$CG/stack" "$CG/other" "$CG" 2>/dev/null
	[[ ! ${up[module]-} ]] || rmmod dmm
	rm -rf "$BPF" "$RUN"
}

# wire BED DEV SUBNET: a veth pair with an address here and 17 there
wire()
{
	local i

	ip link add "$2" netns "$NS-$1-app" type veth peer name "$2" \
		netns "$NS-$1-peer" || return
	ip -n "$NS-$1-app" addr add "$3.1/24" dev "$2" || return
	for i in {2..18}; do
		echo "addr add $3.$i/24 dev $2"
	done | ip -n "$NS-$1-peer" -batch - || return
	ip -n "$NS-$1-app" link set "$2" up && ip -n "$NS-$1-peer" link set "$2" up
}

# segments BED: no packet on its wire is larger than the MTU
segments()
{
	local ns

	for ns in app peer; do
		ip netns exec "$NS-$1-$ns" ethtool -K eth0 tso off gso off \
			>/dev/null || return
	done
}

# bed NAME NUMBER
bed()
{
	local ns

	[[ ! ${up[bed-$1]-} ]] || return 0
	up[bed-$1]=yes
	for ns in app peer; do
		ip netns add "$NS-$1-$ns" && ip -n "$NS-$1-$ns" link set lo up ||
			return
	done
	wire "$1" eth0 "10.98.$2"
}

module()
{
	local dep

	[[ ! ${up[module]-} ]] || return 0
	for dep in $(modinfo -F depends "$TOP/kmod/dmm.ko" | tr , ' '); do
		modprobe "$dep" || return
	done
	insmod "$TOP/kmod/dmm.ko" && up[module]=yes
}

daemon()
{
	[[ ! $DMMD ]] || return 0
	taskset -c 0 "$BIN/dmmd" --runtime-dir "$RUN" \
		--socket "$RUN/dmmd.sock" --bpf-dir "$BPF" >"$RUN/dmmd.log" 2>&1 &
	DMMD=$!
	until_true 20 ctl status && mkdir -p "$CG/stack" "$CG/other"
}

# stack NAME BED DEV [OPTION...]
stack()
{
	[[ ! ${up[stack-$1]-} ]] || return 0
	daemon && ctl stack add "$1" type=lwip "dev=$3" "netns=$NS-$2-app" \
		"${@:4}" >/dev/null 2>"$RUN/why" && up[stack-$1]=yes && return
	why=$(tail -n 1 "$RUN/why" | grep . || echo "dmmd does not start")
	return 1
}

# rule CGROUP MATCH...: dmmd's, and the policy programs on that cgroup
rule()
{
	[[ ! ${up[rule-$1]-} ]] || return 0
	{ ctl cgroup attach "$CG/$1" && ctl rule add cgroup "$CG/$1" "${@:2}"; } \
		>/dev/null && up[rule-$1]=yes
}

worker_pid() { ctl -j stack show "$1" | jq 'first(.. | .pid? // empty)'; }
client_socket() { echo "$RUN/client/$(ctl -j stack show "$1" | jq 'first(.. | .id? // empty)').sock"; }
worker_frames() { ctl -j stats | jq 'first(.. | .rx_frames? // empty)'; }

# prepare SYSTEM WORK: what it stands on; else why not, in $why
prepare()
{
	why="its set-up failed"
	case $1:$2 in
	dmm-shim*|dmm:native-shim-loaded)
		[[ -e $SHIM ]] || { why="no $SHIM"; return 1; } ;;&
	kernel-*) bed k 1 && segments k || return ;;
	bare:native-bulk-own-dev) bed o 4 || return ;;
	bare:*) bed n 3 || return ;;
	dmm:native-bulk-own-dev)
		bed o 4 && { [[ ${up[own]-} ]] || wire o stack0 10.98.14; } &&
			up[own]=yes && stack own0 o stack0 route=own || return
		;;
	dmm:native-bulk-shared-dev) bed s 5 && stack shared0 s eth0 || return ;;
	# a rule that looks at all of them and takes none
	dmm:native-classified*)
		bed n 3 && daemon && rule other dport 1 stack kernel || return ;;
	dmm:native-shim-loaded) bed n 3 && daemon || return ;;
	dmm-module:*)
		module || { why="dmm.ko cannot be loaded"; return 1; } ;;&
	dmm-shim*|dmm-module:*|dmm-ring:*)
		bed d 2 && segments d && stack bench0 d eth0 || return ;;&
	dmm-shim*|dmm-module:*) rule stack stack bench0 || return ;;
	esac
	why=''
}

# place SYSTEM WORK: where its programs are, and how they wait
place()
{
	local net=1 bed=k

	app_cpu=0 peer_cpu=1 serve_wait=epoll client_wait=epoll worker=''
	case $1 in
	kernel-1cpu) peer_cpu=0 ;;
	kernel-2cpu) ;;
	kernel-2cpu-spin) serve_wait=spin client_wait=spin ;;
	dmm-shim-apart) bed=d net=2 worker=bench0 app_cpu=1 ;;
	dmm-*) bed=d net=2 worker=bench0 client_wait=spin ;;
	bare|dmm)
		bed=n net=3 serve_wait=spin client_wait=spin
		case $1:$2 in
		*:native-bulk-own-dev) bed=o net=4 ;;
		dmm:native-bulk-shared-dev) bed=s net=5 ;;
		esac
		;;&
	dmm)
		case $2 in
		native-bulk-own-dev) worker=own0 ;;
		native-bulk-shared-dev) worker=shared0 ;;
		esac
		;;
	esac
	[[ $2 != *-blocking ]] || client_wait=block
	app=$NS-$bed-app peer=$NS-$bed-peer addr=10.98.$net.1 from=10.98.$net.2
}

# in_app SYSTEM WORK COMMAND...: becomes that, as the system has it
in_app()
{
	local cg='' pre=''

	case $1:$2 in
	dmm-shim*) cg=$CG/stack pre=$SHIM ;;
	dmm-module:*) cg=$CG/stack ;;
	dmm:native-classified*) cg=$CG/other ;;
	dmm:native-shim-loaded) pre=$SHIM ;;
	esac
	[[ ! $cg ]] || echo "$BASHPID" >"$cg/cgroup.procs" || exit 1
	[[ ! $pre ]] || export LD_PRELOAD=$pre DMM_RUNTIME_DIR=$RUN
	exec ip netns exec "$app" taskset -c $app_cpu "${@:3}"
}

# in_peer COMMAND...: one that hangs is an error, not the end of the bench
in_peer() { timeout 40 ip netns exec "$peer" taskset -c $peer_cpu "$@"; }

server_start()
{
	local system=$1 work=$2

	shift 2
	: >"$RUN/server"
	if [[ $system == dmm-ring ]]; then
		ip netns exec "$app" taskset -c $app_cpu "$RING" \
			"$(client_socket bench0)" eth0 $port >"$RUN/server" 2>&1 &
	else
		(in_app "$system" "$work" "$@") >"$RUN/server" 2>&1 &
	fi
	SERVER=$!
}

# The next one has ports that no connection of this one is left on.
server_stop()
{
	[[ $SERVER ]] || return 0
	kill "$SERVER" 2>/dev/null
	wait "$SERVER" 2>/dev/null
	SERVER=''
	port=$((port < 28000 ? port + 4 : 7100))
}

server_ready() { grep -q ready "$RUN/server"; }
server_listens() { ip netns exec "$app" ss -Hltn "sport = :$port" | grep -q .; }

# ---- how it was set up, by looking ------------------------------------------

cpus_of() { awk '$1 == "Cpus_allowed_list:" { print $2 }' "/proc/$1/status"; }

# device NETNS: its offloads, and whether a program sees its packets
device()
{
	local xdp

	xdp=$(ip -n "$1" -j link show eth0 | jq -r '.[0].xdp.mode // 0')
	ip netns exec "$1" ethtool -k eth0 | awk -v xdp="$xdp" '
		function is(name, as) { if ($1 == name ":") { all = all sep as " " $2; sep = ", " } }
		{
			is("tcp-segmentation-offload", "TSO")
			is("generic-segmentation-offload", "GSO")
			is("generic-receive-offload", "GRO")
			is("tx-checksumming", "TX sum")
			is("rx-checksumming", "RX sum")
		}
		END {
			split("native generic hardware", mode, " ")
			print all (xdp ? ", XDP " mode[xdp] : "")
		}'
}

# setup_note WORK SYSTEM: a line in $RUN/setups, while its server runs
setup_note()
{
	local serve=$serve_wait client=$client_wait

	case $1 in
	redis-*|nginx-*|iperf3-*|sockperf) serve=own client=own ;;
	idle-*) client=sleep ;;
	esac
	jq -cn --arg work "$1" --arg system "$2$suffix" \
		--arg server_cpu "$(cpus_of "$SERVER")" \
		--arg client_cpu "$peer_cpu" --arg server_waits "$serve" \
		--arg client_waits "$client" \
		--arg worker_cpu "$([[ ! $worker ]] || cpus_of "$(worker_pid "$worker")")" \
		--arg server_device "$(device "$app")" \
		--arg client_device "$(device "$peer")" \
		'$ARGS.named | if .worker_cpu == "" then del(.worker_cpu) else . end' \
		>>"$RUN/setups"
}
