# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What scripts/bench makes of its measurements: results.json, tables, pictures.
# Sourced. $LINES has a line for each measurement, $RUN/setups one for each set-up.

# report_json: results.json
report_json()
{
	# shellcheck disable=SC2016	# jq's variables
	jq -s --slurpfile setups "$RUN/setups" --arg kernel "$(uname -r)" \
		--arg cpu "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)" \
		--argjson cpus "$(nproc)" --arg command "$command" \
		--argjson rounds "$rounds" --argjson seconds "$seconds" \
		--arg works "${WORKS[*]}" --arg systems "${SYSTEMS[*]}" '
	def middle: sort | if length % 2 == 1 then .[length / 2 | floor]
		else (.[length / 2 - 1] + .[length / 2]) / 2 end;
	def middle_of(f): map(f | select(. != null)) |
		if length == 0 then null else middle end;
	def round3: if . == null then null else (. * 1000 | round) / 1000 end;
	def place($list): . as $name | $list | split(" ") | index($name);
	def summed: {
		median: (map(.value) | middle | round3),
		min: (map(.value) | min | round3), max: (map(.value) | max | round3),
		p50: (middle_of(.p50) | round3), p90: (middle_of(.p90) | round3),
		p99: (middle_of(.p99) | round3), p999: (middle_of(.p999) | round3),
		rss_mib: (middle_of(.rss_mib) | round3), rounds: length };
	# of pairs that were measured one after the other
	def ratio($runs): .[0].work as $work | if .[0].system != "dmm" then null else
		[ .[] as $d | $runs[] | select(.work == $work and .system == "bare" and
			.round == $d.round) | $d.value / .value ] |
		if length == 0 then null else middle | round3 end end;
	map(select(.error == null)) as $runs |
	([ $runs | group_by([.work, .system, .x])[] |
		{ work: .[0].work, system: .[0].system, x: .[0].x, unit: .[0].unit,
		  emulated: .[0].emulated } + summed + { ratio: ratio($runs) } |
		if .emulated then . else del(.emulated) end | del(.[] | nulls) ] |
		sort_by([(.work | place($works)), (.system | place($systems)), .x])) as $sums |
	{ machine: { $kernel, $cpu, $cpus }, $command, $rounds, $seconds,
	  results: [ $sums[] | select(.x == null and .unit != "percent") ],
	  idle: [ $sums[] | select(.unit == "percent") |
		{ work, system, cpu_percent: .median, rss_mib, rounds } ],
	  curves: [ $sums[] | select(.x != null) ],
	  errors: [ map(select(.error)) | group_by([.work, .system, .x, .error])[] |
		.[0] + { failed: length } | del(.[] | nulls) ],
	  setups: ($setups | unique | group_by(del(.work)) | map(.[0] +
		{ works: (map(.work) | unique | sort_by(place($works))) } | del(.work)) |
		sort_by([(.system | place($systems)), (.works[0] | place($works))])) }' \
		"$LINES" >"$outdir/results.json"
}

# A number as people read it.
JQ_SHOW='def show: if . >= 1000 then round | tostring
	elif . >= 100 then (. * 10 | round) / 10 | tostring
	else (. * 100 | round) / 100 | tostring end;'

measured_by()
{
	jq -r '"Measured by `\(.command)` on \(.machine.cpu), Linux \(.machine.kernel): median of \(.rounds) rounds of \(.seconds) s."' \
		"$outdir/results.json"
}

# compact HEADING SYSTEMS FILTER: a row for each work, a column for each system
compact()
{
	jq -r --arg heading "$1" --arg systems "$2" --arg works "${WORKS[*]}" "$JQ_SHOW"'
	($systems | split(" ")) as $columns |
	[ .results[] | select('"$3"') ] as $results |
	($works | split(" ") | map(. as $w | select(any($results[]; .work == $w)))) as $rows |
	if $rows == [] then empty else
	$heading, "",
	"| " + (["work", "unit"] + $columns | join(" | ")) + " |",
	"|" + (["---", "---"] + ($columns | map("--:")) | join("|")) + "|",
	($rows[] as $w | [ $results[] | select(.work == $w) ] as $row |
		"| " + ([$w, $row[0].unit] + [ $columns[] as $c |
			first($row[] | select(.system == $c)) // null |
			if . then (.median | show) +
				(if .ratio then " (\(.ratio | show)x)" else "" end)
			else "-" end ] | join(" | ")) + " |"), "" end' \
		"$outdir/results.json"
}

# report_readme: readme.md, short
report_readme()
{
	measured_by
	echo
	compact "Against the kernel; us is less is better:" \
		"kernel-1cpu kernel-2cpu kernel-2cpu-spin dmm-shim" \
		'(.work | startswith("native-") | not) and (.emulated | not)'
	compact "What DMM costs native sockets (dmm/bare of pairs, median):" "bare dmm" \
		'.work | startswith("native-")'
	jq -r "$JQ_SHOW"'.idle[] | select(.system == "dmm-shim") |
		"Idle worker, 1,000 idle connections: \(.cpu_percent | show) % of a CPU, \(.rss_mib | round) MiB.", ""' \
		"$outdir/results.json"
}

# long_table FILTER
long_table()
{
	jq -e '[ .results[] | select('"$1"') ] | length > 0' "$outdir/results.json" \
		>/dev/null || return 0
	echo "| work | system | unit | median | min | max | p50 us | p99 us | rounds |"
	echo "|---|---|---|--:|--:|--:|--:|--:|--:|"
	jq -r "$JQ_SHOW"'.results[] | select('"$1"') | "| " + ([.work, .system, .unit,
		(.median, .min, .max | show), (.p50, .p99 | if . then show else "-" end),
		(.rounds | tostring)] | join(" | ")) + " |"' "$outdir/results.json"
	echo
}

# report_summary: summary.md, all of it
report_summary()
{
	report_readme
	echo "All that was measured:"
	echo
	long_table '.emulated | not'
	if jq -e 'any(.results[]; .emulated)' "$outdir/results.json" >/dev/null; then
		echo "In the VM, under QEMU's software emulation: figures to compare with"
		echo "each other and with nothing else."
		echo
		long_table .emulated
	fi
	jq -r '.results as $results | .errors[] | . as $e |
		"- **" + (if .x != null or any($results[]; .work == $e.work and .system == $e.system)
			then "failed \(.failed) times" else "not measured" end) +
		"**: \(.work)\(if .x then " at \(.x)" else "" end) on \(.system): \(.error)"' \
		"$outdir/results.json"
	printf '%s\n' "${left_out[@]/#/- **not measured**: }" | grep -v '^- \*\*not measured\*\*: $'
	cat <<-END

	How each was set up; CPUs and devices as found while it ran:

	| system | server | worker | client | server's device | client's device | works |
	|---|---|---|---|---|---|---|
	END
	jq -r '.setups[] | "| " + ([.system, "CPU \(.server_cpu), \(.server_waits)",
		(if .worker_cpu then "CPU \(.worker_cpu)" else "-" end),
		"CPU \(.client_cpu), \(.client_waits)", .server_device, .client_device,
		(.works | join(", "))] | join(" | ")) + " |"' "$outdir/results.json"
	cat <<-END

	- Waits: block and epoll sleep in the kernel when there is nothing; spin never sleeps
	  and takes its whole CPU; own is as the program does. Worker and shim spin for some
	  microseconds before they sleep (DMM_SPIN_US).
	- kernel-1cpu is spared all wake-ups of another CPU, kernel-2cpu pays one each way, and
	  kernel-2cpu-spin burns two CPUs to have none: it is the honest opponent.
	- dmm-shim: worker and unmodified server share a CPU; the client is the kernel's.
	  dmm-shim-apart: the worker has a CPU to itself; server and client share the other.
	  dmm-ring: a client of libdmm in place of program and shim. dmm-module: the module
	  in place of the shim.
	- bare, dmm: native sockets; dmm in a cgroup that rules look at (native-classified), under
	  a shim that serves nothing (native-shim-loaded), in a container whose stack has a
	  device of its own, or shares this one (native-bulk-*). They have the offloads
	  that Linux gives; native XDP takes TSO from a veth's other end.
	- All else has TSO and GSO off on both devices, MTU 1500: no packet on the wire is larger.
	  The kernel's TCP still builds large segments and cuts them before the device.
	- "TX sum on" on a veth: the kernel computes no checksum at all, and its peer checks
	  none. DMM computes all that it sends, and its peer, the kernel, checks them. This
	  favours the kernel.
	- A veth has no interrupts: the CPU of whoever sends receives, too, up to the socket
	  or the worker.
	- bulk-tx, iperf3-tx: what is measured sends; bulk-rx, iperf3-rx: it receives. 64 KB writes.
	- connect-rate: 16 at a time, each: connect, one byte there, one back, close.
	- redis-get: 50 connections; nginx-wrk: 64; iperf3, sockperf: 1.
	END
}

# ---- pictures ---------------------------------------------------------------

declare -A LEGEND=(
	[kernel-1cpu]="kernel, 1 CPU" [kernel-2cpu]="kernel, 2 CPUs, asleep"
	[kernel-2cpu-spin]="kernel, 2 CPUs, spinning" [dmm-shim]="DMM, shim"
	[dmm-ring]="DMM, libdmm")
declare -A COLOUR=(
	[kernel-1cpu]="#9aa5b1" [kernel-2cpu]="#5b8db8" [kernel-2cpu-spin]="#1f4e79"
	[dmm-shim]="#d1495b" [dmm-ring]="#edae49")

# series FILE-PREFIX STYLE: gnuplot's list of those of its files that have something
series()
{
	local s all=''

	for s in kernel-1cpu kernel-2cpu kernel-2cpu-spin dmm-shim dmm-ring; do
		[[ -s $outdir/data/$1-$s ]] || continue
		all+="${all:+, }'$outdir/data/$1-$s' using 1:2 with $2 linewidth 2"
		all+=" linecolor '${COLOUR[$s]}' title '${LEGEND[$s]}'"
	done
	echo "$all"
}

# What gnuplot is told for each picture, but for where it goes.
plot_latency()
{
	cat <<-END
	set title '64 B there and back, 1 connection'
	set xlabel 'us'
	set ylabel 'fraction of round trips'
	set logscale x
	set xrange [*:500]
	set yrange [0:1]
	set format y '%g'
	plot $(series cdf "lines")
	unset logscale
	set xrange [*:*]
	END
}

plot_connections()
{
	cat <<-END
	set title '64 B there and back'
	set xlabel 'connections'
	set ylabel 'thousand round trips per second'
	set logscale x
	set xrange [1:1000]
	set yrange [0:*]
	plot $(series connections "linespoints pointtype 7 pointsize 0.4")
	unset logscale
	set xrange [*:*]
	END
}

plot_sizes()
{
	cat <<-END
	set title 'one stream out, MTU 1500'
	set xlabel 'bytes of a write'
	set ylabel 'Gbit/s'
	set logscale x 2
	set yrange [0:*]
	set xtics (64, 512, '4 Ki' 4096, '64 Ki' 65536)
	plot $(series sizes "linespoints pointtype 7 pointsize 0.4")
	unset logscale
	set xtics autofreq
	END
}

# draw FILE WIDTH HEIGHT: gnuplot's words on stdin; fit to be committed
draw()
{
	{
		cat <<-END
		set terminal svg size $2,$3 font 'sans,12' background rgb 'white'
		set output '$RUN/svg'
		set grid linecolor '#dddddd'
		set border linecolor '#555555'
		set key bottom right samplen 1.5
		END
		cat
	} | gnuplot 2>>"$RUN/log" && sed -e '1a <!-- SPDX-License-Identifier: Apache-2.0 -->' \
		-e 's/[[:blank:]]*$//' -e "s/^ *\t/\t/" "$RUN/svg" >"$outdir/$1" && return
	rm -f "$outdir/$1"
	say "$1 could not be drawn: $(tail -n 1 "$RUN/log")"
}

# The data of all curves. Of the rounds' distributions, the one of the middle p50.
curve_data()
{
	local s n

	for s in kernel-1cpu kernel-2cpu kernel-2cpu-spin dmm-shim dmm-ring; do
		n=$(jq -rs --arg s "$s" 'map(select(.work == "pingpong-64B-1" and
			.system == $s and .p50)) | sort_by(.p50) |
			.[(length - 1) / 2 | floor].round // empty' "$LINES")
		[[ ! $n ]] || awk 'NR == 1 || $2 - last >= 0.005 { print $1, $2; last = $2 }
			END { print $1, $2 }' "$outdir/data/cdf-pingpong-64B-1-$s-$n" \
			>"$outdir/data/cdf-$s"
		for n in connections:1e3 sizes:1; do
			jq -r --arg w "curve-${n%:*}" --arg s "$s" --argjson per "${n#*:}" \
				'.curves[] | select(.work == $w and .system == $s) |
				"\(.x) \(.median / $per)"' "$outdir/results.json" \
				>"$outdir/data/${n%:*}-$s"
		done
	done
	rm -f "$outdir"/data/cdf-pingpong-*
	find "$outdir/data" -type f -empty -delete
}

drawn() { compgen -G "$outdir/data/$1-*" >/dev/null; }

report_pictures()
{
	local p panels=0

	curve_data
	for p in cdf:latency connections:connections sizes:sizes; do
		drawn "${p%:*}" || continue
		((++panels))
		"plot_${p#*:}" | draw "${p#*:}.svg" 640 420
	done
	((panels == 3)) || return 0
	# the one for the README
	{
		echo "set multiplot layout 1,3 margins 0.055,0.99,0.16,0.86 spacing 0.06,0"
		echo "set label 1 '$(measured_by | tr -d "\`'")' at screen 0.99,0.03 right font 'sans,10' textcolor '#555555'"
		plot_latency
		echo "unset key; unset label 1"
		plot_connections
		plot_sizes
		echo "unset multiplot"
	} | draw readme.svg 1080 360
}
