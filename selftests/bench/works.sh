# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What scripts/bench measures. Sourced. Each run_* prints one line of JSON with a
# value, or rate, gbit_s, p50_us, and what else is known; and nothing when it failed.

# shellcheck disable=SC2034	# scripts/bench's
WORKS=(pingpong-64B-1 pingpong-64B-1-blocking pingpong-64B-64 pingpong-64B-1000
	connect-rate bulk-tx bulk-rx
	native-classified native-classified-connect native-shim-loaded
	native-bulk-own-dev native-bulk-shared-dev
	idle-1000
	redis-get nginx-wrk iperf3-tx iperf3-rx sockperf
	curve-connections curve-sizes)
CURVE_CONNS=(1 4 16 64 250 1000)
CURVE_SIZES=(64 512 4096 65536)

# systems_of WORK: those that make sense for it
systems_of()
{
	local kernel='kernel-1cpu kernel-2cpu kernel-2cpu-spin'

	case $1 in
	native-*) echo bare dmm ;;
	idle-*) echo dmm-shim dmm-ring ;;
	pingpong-64B-1) echo $kernel dmm-shim dmm-ring dmm-module ;;
	pingpong-64B-1-blocking) echo kernel-1cpu kernel-2cpu dmm-shim dmm-shim-apart dmm-ring ;;
	pingpong-64B-64|connect-rate|bulk-tx|bulk-rx)
		echo $kernel dmm-shim dmm-shim-apart dmm-ring dmm-module ;;
	redis-*|nginx-*|iperf3-*|sockperf) echo kernel-1cpu kernel-2cpu dmm-shim ;;
	*) echo $kernel dmm-shim dmm-ring ;;
	esac
}

unit_of()
{
	case $1 in
	pingpong-64B-1|pingpong-64B-1-blocking|sockperf) echo us ;;
	*bulk-*|iperf3-*|curve-sizes) echo gbit_s ;;
	idle-*) echo percent ;;
	*) echo per_s ;;
	esac
}

client()
{
	in_peer "$LOAD" "$1" "$addr" --port $port --seconds "$seconds" "${@:2}"
}

# How a client of more than one connection waits that would block on one.
many() { [[ $client_wait == block ]] && echo epoll || echo "$client_wait"; }

run_pingpong()
{
	local conns=$1 wait=$client_wait

	((conns == 1)) && [[ $wait == epoll ]] && wait=block
	((conns == 1)) || wait=$(many)
	client ping --connections "$conns" --wait "$wait" "${@:2}"
}

# CPU time that a process has used, in ns.
cpu_ns() { cat "/proc/$1/task"/*/schedstat | awk '{ ns += $1 } END { printf "%.0f\n", ns }'; }

# A thousand connections, all open and silent.
run_idle()
{
	local pid t0 t1 rss hold span

	span=$(awk -v s="$seconds" 'BEGIN { printf "%.0f\n", s < 0.4 ? 2 : s * 5 }')
	pid=$(worker_pid bench0) && [[ $pid ]] || return
	in_peer "$LOAD" hold "$addr" --port $port --connections 1000 \
		--wait epoll --seconds "$(awk -v s="$span" 'BEGIN { printf "%.0f\n", s + 3 }')" \
		--warmup 0 >/dev/null 2>"$RUN/err" &
	hold=$!
	sleep 2
	t0=$(cpu_ns "$pid")
	sleep "$span"
	t1=$(cpu_ns "$pid")
	# hugetlb pages are not in VmRSS
	rss=$(awk '$1 == "VmRSS:" || $1 == "HugetlbPages:" { kb += $2 }
		END { printf "%.0f\n", kb }' "/proc/$pid/status")
	wait $hold || return
	jq -cn --argjson ns $((t1 - t0)) --argjson span "$span" --argjson rss "$rss" \
		'{ value: ($ns / 1e7 / $span), rss_mib: ($rss / 1024) }'
}

# ---- real programs ----------------------------------------------------------

# Those whose run is in whole seconds.
whole_seconds() { awk -v s="$seconds" 'BEGIN { print s < 1 ? 1 : int(s + 0.5) }'; }

run_redis()
{
	in_peer redis-benchmark -h "$addr" -p $port -c 50 -t get --csv \
		-n "$(awk -v s="$seconds" 'BEGIN { print int(s * 50000) + 1000 }')" \
		2>"$RUN/err" | tr -d '"' | awk -F, '$1 == "GET" {
			printf "{\"rate\":%s,\"p50_us\":%s,\"p99_us\":%s}\n",
				$2, $5 * 1000, $7 * 1000 }'
}

run_wrk()
{
	in_peer wrk -t 1 -c 64 -d "$(whole_seconds)" --latency \
		"http://$addr:$port/" 2>"$RUN/err" | awk '
		function us(t) { return t * (t ~ /us$/ ? 1 : t ~ /ms$/ ? 1e3 : 1e6) }
		$1 == "50%" { p50 = us($2) }
		$1 == "99%" { p99 = us($2) }
		$1 == "Non-2xx" { bad = 1 }
		$1 == "Requests/sec:" { rate = $2 }
		END { if (rate > 0 && !bad)
			printf "{\"rate\":%s,\"p50_us\":%s,\"p99_us\":%s}\n",
				rate, p50, p99 }'
}

run_iperf3()
{
	in_peer iperf3 -c "$addr" -p $port -J -l 64K -t "$(whole_seconds)" "$@" \
		>"$RUN/iperf3" 2>"$RUN/err"
	jq -r '.error // empty' "$RUN/iperf3" >>"$RUN/err"
	jq -c '(.end.sum_received.bits_per_second // empty) | { gbit_s: (. / 1e9) }' \
		"$RUN/iperf3"
}

run_sockperf()
{
	in_peer sockperf ping-pong --tcp -i "$addr" -p $port -m 64 --full-rtt \
		-t "$(whole_seconds)" 2>"$RUN/err" | awk '
		/percentile 50.000/ { p50 = $NF }
		/percentile 99.000/ { p99 = $NF }
		END { if (p50) printf "{\"p50_us\":%s,\"p99_us\":%s}\n", p50, p99 }'
}

nginx_conf()
{
	cat >"$RUN/nginx.conf" <<-END
		daemon off;
		user root;
		worker_processes 1;
		pid $RUN/nginx.pid;
		error_log $RUN/nginx.log;
		events { worker_connections 1024; }
		http {
			access_log off;
			keepalive_requests 100000000;
			server { listen $port; location / { return 200 "hello\n"; } }
		}
	END
}

# start WORK SYSTEM [SIZE]: the work's server, ready
start()
{
	case $1 in
	redis-get)
		server_start "$2" "$1" redis-server --port $port --save '' \
			--bind 0.0.0.0 --protected-mode no --dir "$RUN"
		until_true 10 server_listens
		;;
	nginx-wrk)
		nginx_conf
		server_start "$2" "$1" nginx -c "$RUN/nginx.conf" -e "$RUN/nginx.log"
		until_true 10 server_listens
		;;
	iperf3-*)
		server_start "$2" "$1" iperf3 -s -p $port
		until_true 10 server_listens
		;;
	sockperf)
		server_start "$2" "$1" sockperf server --tcp -i 0.0.0.0 -p $port
		until_true 10 server_listens
		;;
	*)
		server_start "$2" "$1" "$LOAD" serve --wait $serve_wait \
			--port $port ${3:+--size "$3"}
		until_true 10 server_ready
		;;
	esac
}

# one_run WORK SYSTEM [X]: X of a curve's point
one_run()
{
	case $1 in
	pingpong-64B-1|pingpong-64B-1-blocking)
		run_pingpong 1 --cdf "$outdir/data/cdf-$1-$2-$round" ;;
	pingpong-64B-*) run_pingpong "${1##*-}" ;;
	curve-connections) run_pingpong "$3" ;;
	connect-rate|native-classified-connect)
		client connect --connections 16 --wait "$(many)" \
			--source "$from" --sources 16
		;;
	bulk-tx|curve-sizes) client recv --wait "$(many)" ;;
	bulk-rx|native-bulk-*) client send --wait "$(many)" ;;
	native-*) run_pingpong 1 ;;
	idle-*) run_idle ;;
	redis-get) run_redis ;;
	nginx-wrk) run_wrk ;;
	iperf3-tx) run_iperf3 -R ;;
	iperf3-rx) run_iperf3 ;;
	sockperf) run_sockperf ;;
	esac
}

# failed WORK SYSTEM WHY [X]
failed()
{
	jq -cn --arg work "$1" --arg system "$2$suffix" --arg error "$3" \
		--argjson x "${4:-null}" '{ $work, $system, $x, $error }' >>"$LINES"
}

# served SYSTEM FRAMES: by what it is said to be
served()
{
	local what=''

	case $1 in
	dmm-*)
		(($(worker_frames) - $2 >= 50)) || what="the kernel served it" ;;
	dmm)
		[[ $work != native-shim-loaded ]] ||
			grep -qF "$SHIM" "/proc/$SERVER/maps" ||
			what="the shim is not loaded"
		;;
	esac
	[[ ! $what ]] || echo "$what" >>"$RUN/err"
	[[ ! $what ]]
}

# Why it gave nothing: the last line of the client, or of the server.
last_words()
{
	local f

	for f in "$RUN/err" "$RUN/server"; do
		tail -n 1 "$f" | tr -cd '[:print:]' | grep . && return
	done
	echo "gave no result"
}

# measure WORK SYSTEM [X]: a line in $LINES, whatever happens
measure()
{
	local work=$1 system=$2 x=${3-} line='' frames=0 why worker size=''
	local app app_cpu peer peer_cpu addr from serve_wait client_wait

	if ! prepare "$system" "$work" 2>>"$RUN/log"; then
		failed "$work" "$system" "$why" "$x"
		return
	fi
	place "$system" "$work"
	[[ $system != dmm-* ]] || frames=$(worker_frames)
	[[ $work != curve-sizes ]] || size=$x
	: >"$RUN/err"
	if start "$work" "$system" "$size"; then
		line=$(one_run "$work" "$system" "$x" 2>>"$RUN/err")
		served "$system" "$frames" || line=''
	else
		echo "the server does not come up: $(last_words)" >>"$RUN/err"
	fi
	if [[ $line ]]; then
		jq -c --arg work "$work" --arg system "$system$suffix" \
			--arg unit "$(unit_of "$work")" --argjson round "$round" \
			--argjson x "${x:-null}" --argjson emulated "$([[ $suffix ]] && echo true || echo false)" \
			'{ $work, $system, $unit, $round, $x, $emulated, value: (.value //
				if $unit == "us" then .p50_us
				elif $unit == "per_s" then .rate
				else .gbit_s end),
			   p50: .p50_us, p90: .p90_us, p99: .p99_us, p999: .p999_us,
			   rss_mib: .rss_mib }' <<<"$line" >>"$LINES"
		((round > 1)) || setup_note "$work" "$system"
	else
		failed "$work" "$system" "$(last_words)" "$x"
	fi
	server_stop
}
