#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Debian's own programs, unmodified, as adopted clients and as adopted servers,
# IPv4 and IPv6, against the same programs on the kernel's stack. What moves is
# checksummed. NATIVE=1 runs the same without DMM: what must hold anyway; SHIM=1 through
# the shim, without the module.
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

SRC=$(cd "$(dirname "$0")" && pwd)
PIDS=()

# start WHERE COMMAND...: a server in the background; WHERE is app or peer
start()
{
	local where=$1

	shift
	(
		[[ $where != app ]] || echo "$BASHPID" >"$CG/cgroup.procs"
		[[ $where != app ]] || set -- "${WITH[@]}" "$@"
		exec ip netns exec "$NS-$where" "$@"
	) >>"$RUN/servers.log" 2>&1 &
	PIDS+=($!)
}

# Ends what start() began, and waits until its ports are free again.
stop_all()
{
	((${#PIDS[@]} == 0)) || kill "${PIDS[@]}" 2>/dev/null
	wait "${PIDS[@]}" 2>/dev/null
	PIDS=()
}

# ready PORT [N]: until there are N listeners, in either netns
ready()
{
	until_true 20 bash -c "
		((\$(ip netns exec $NS-app ss -Hltn 'sport = :$1' | wc -l) >= ${2:-1} ||
		  \$(ip netns exec $NS-peer ss -Hltn 'sport = :$1' | wc -l) >= ${2:-1}))"
}

adopted_total()
{
	[[ ! ${NATIVE-} ]] || { echo 0; return; }
	# the module counts what it adopts; of the shim's, the worker knows
	if [[ ${SHIM-} ]]; then
		ctl -j stats | jq 'first(.. | .conns_total? // empty)'
		return
	fi
	ctl -j stats | jq '[.stacks[] | select(.name == "lwip0") | .adopted // 0] | add'
}

# adopts NAME COMMAND...: a test that succeeds and moves the count of adopted
# sockets
adopts()
{
	local name=$1 before after out status=0 start=$SECONDS

	shift
	before=$(adopted_total)
	# shellcheck disable=SC2034	# in_app and in_peer heed it
	out=$(LIMIT=120 && "$@" 2>&1) || status=$?
	after=$(adopted_total)
	echo "# $((SECONDS - start)) s, $((after - before)) sockets adopted"
	if ((status == 0)) && [[ ! ${NATIVE-} ]] && ((after <= before)); then
		out+=$'\n'"no socket was adopted"
		status=1
	fi
	((status == 0)) || awk '{ print "# " $0 }' <<<"$out" | tail -n 20
	tap $status "$name"
	((status == 0)) || context
}

# What may tell why a test failed.
context()
{
	{
		[[ ! -s $RUN/nginx.log ]] || tail -n 20 "$RUN/nginx.log"
		[[ ${NATIVE-} ]] || ctl stats
	} 2>&1 | awk '{ print "#   " $0 }'
}

same() { [[ $(sha256sum <"$1") == "$(sha256sum <"$2")" ]]; }

# -- curl and nginx ------------------------------------------------------------

nginx_conf()
{
	cat >"$RUN/nginx.conf" <<-END
		user root;
		worker_processes 2;
		pid $RUN/nginx.pid;
		error_log $RUN/nginx.log info;
		events { worker_connections 1024; }
		http {
			access_log off;
			client_max_body_size 0;
			server {
				listen 80 $1;
				listen [::]:80 ipv6only=on $1;
				root $RUN/www;
				location /up/ {
					root $RUN;
					dav_methods PUT;
				}
			}
		}
	END
}

# nginx in the background, as its own daemon
nginx_start()
{
	rm -f "$RUN/nginx.pid"
	"in_$1" nginx -c "$RUN/nginx.conf" >>"$RUN/servers.log" 2>&1 &&
		until_true 10 test -s "$RUN/nginx.pid" && ready 80 2
}

nginx_stop()
{
	local pid

	pid=$(<"$RUN/nginx.pid")
	kill "$pid"
	until_true 10 bash -c "! kill -0 $pid"
}

# get WHERE URL FILE: the file, and it must be right
get()
{
	"in_$1" curl -gsS --max-time 110 -o "$RUN/copy.$$" "$2" && same "$RUN/copy.$$" "$3"
}

get_parallel()
{
	local i urls=()

	rm -rf "$RUN/many" && mkdir "$RUN/many"
	for i in {1..50}; do
		urls+=("$2" -o "$RUN/many/$i")
	done
	"in_$1" curl -gsS --max-time 110 --parallel --parallel-immediate \
		--parallel-max 50 "${urls[@]}" || return
	for i in {1..50}; do
		same "$RUN/many/$i" "$RUN/www/small" || return
	done
}

# Ten requests on one connection.
get_keepalive()
{
	local n

	n=$("in_$1" curl -gsS --max-time 110 -o /dev/null -w '%{num_connects}\n' \
		"$2?[1-10]" | grep -c 1)
	[[ $n == 1 ]]
}

put()
{
	rm -f "$RUN/up/big"
	"in_$1" curl -gsS --max-time 110 -T "$RUN/www/big" "$2/up/big" &&
		same "$RUN/up/big" "$RUN/www/big"
}

# Reload while 50 transfers are under way: none may fail.
reload_under_load()
{
	local load

	get_parallel "$1" "$2" &
	load=$!
	for _ in 1 2 3; do
		kill -HUP "$(<"$RUN/nginx.pid")"
		sleep 0.3
	done
	wait "$load"
}

web_tests()
{
	local who=$1 where=$2 host4=$3 host6=$4

	adopts "$who: curl, 100 MiB down" get "$where" "http://$host4/big" "$RUN/www/big"
	adopts "$who: curl, 100 MiB up" put "$where" "http://$host4"
	adopts "$who: curl, 50 at once" get_parallel "$where" "http://$host4/small"
	adopts "$who: curl, keep-alive" get_keepalive "$where" "http://$host4/small"
	adopts "$who: curl, IPv6" get "$where" "http://[$host6]/mid" "$RUN/www/mid"
	adopts "$who: curl, IPv6, 50 at once" get_parallel "$where" "http://[$host6]/small"
}

test_web()
{
	nginx_conf ''
	nginx_start peer
	web_tests "client" app "$PEER" "$PEER6"
	nginx_stop

	nginx_conf reuseport
	nginx_start app
	web_tests "nginx" peer "$APP" "$APP6"
	adopts "nginx: reload under load" reload_under_load peer "http://$APP/small"
	nginx_stop
}

# -- the others: as client, then as server ------------------------------------

# each WHERE HOST: run by for_both
for_both()
{
	"$1" client app peer "$PEER" "$PEER6"
	"$1" server peer app "$APP" "$APP6"
}

redis_bench() { "in_$1" redis-benchmark -h "$2" -p 6399 -n 300 -c 20 -q; }

redis_value()
{
	"in_$1" redis-cli -h "$2" -p 6399 -x set blob <"$RUN/www/small" >/dev/null &&
		"in_$1" redis-cli -h "$2" -p 6399 --raw get blob |
			head -c 100000 | cmp - "$RUN/www/small"
}

test_redis()
{
	start "$3" redis-server --port 6399 --bind 0.0.0.0 '::' --save '' \
		--protected-mode no --appendonly no
	ready 6399 2
	adopts "$1: redis, all default tests" redis_bench "$2" "$4"
	adopts "$1: redis, a value" redis_value "$2" "$4"
	adopts "$1: redis, IPv6" redis_value "$2" "$5"
	stop_all
}

# Set and get 1,000 values; the protocol is text.
memcached_run()
{
	"in_$1" /usr/bin/python3 - "$2" <<-'END'
		import socket, sys, zlib
		s = socket.create_connection((sys.argv[1], 11299), 30)
		f = s.makefile("rwb")
		for i in range(1000):
		    v = bytes([i % 251]) * (1 + i * 7 % 5000)
		    f.write(b"set k%d 0 0 %d\r\n" % (i, len(v)) + v + b"\r\n")
		    f.flush()
		    assert f.readline() == b"STORED\r\n"
		for i in range(1000):
		    v = bytes([i % 251]) * (1 + i * 7 % 5000)
		    f.write(b"get k%d\r\n" % i)
		    f.flush()
		    f.readline()
		    assert f.read(len(v) + 2) == v + b"\r\n"
		    assert f.readline() == b"END\r\n"
	END
}

test_memcached()
{
	start "$3" memcached -u root -p 11299 -U 0 -l 0.0.0.0 -l ::
	ready 11299 2
	adopts "$1: memcached" memcached_run "$2" "$4"
	adopts "$1: memcached, IPv6" memcached_run "$2" "$5"
	stop_all
}

# No errors; the rest is speed.
iperf()
{
	"in_$1" iperf3 -J -t 2 -c "$2" -p 5299 "${@:3}" >"$RUN/iperf" &&
		! grep -q '"error"' "$RUN/iperf" && grep -q '"sum_received"' "$RUN/iperf"
}

test_iperf()
{
	start "$3" iperf3 -s -p 5299
	ready 5299
	adopts "$1: iperf3, 4 streams" iperf "$2" "$4" -P 4
	adopts "$1: iperf3, 4 streams, reverse" iperf "$2" "$4" -P 4 -R
	adopts "$1: iperf3, IPv6" iperf "$2" "$5"
	stop_all
}

test_asyncio()
{
	start "$3" /usr/bin/python3 "$SRC/echo.py" serve 7299
	ready 7299 2
	adopts "$1: asyncio" "in_$2" /usr/bin/python3 "$SRC/echo.py" call "$4" 7299
	adopts "$1: asyncio, IPv6" "in_$2" /usr/bin/python3 "$SRC/echo.py" call "$5" 7299
	stop_all
}

busybox_get()
{
	"in_$1" busybox wget -q -O "$RUN/copy.bb" "$2" && same "$RUN/copy.bb" "$RUN/www/mid"
}

test_busybox()
{
	start "$3" busybox httpd -f -p 8299 -h "$RUN/www"
	ready 8299
	adopts "$1: busybox-static" busybox_get "$2" "http://$4:8299/mid"
	adopts "$1: busybox-static, IPv6" busybox_get "$2" "http://[$5]:8299/mid"
	stop_all
}

go_get()
{
	[[ $("in_$1" "$HERE/web" get "$2") == "$(sha256sum <"$RUN/www/mid" | cut -d' ' -f1)" ]]
}

test_go()
{
	start "$3" "$HERE/web" serve :8399 "$RUN/www/mid"
	ready 8399
	adopts "$1: Go, static" go_get "$2" "http://$4:8399/file"
	adopts "$1: Go, static, IPv6" go_get "$2" "http://[$5]:8399/file"
	stop_all
}

test_uring()
{
	start "$3" "$HERE/uring_echo" 7399
	ready 7399
	adopts "$1: io_uring echo" "in_$2" /usr/bin/python3 "$SRC/echo.py" call "$4" 7399
	adopts "$1: io_uring echo, IPv6" "in_$2" /usr/bin/python3 "$SRC/echo.py" call "$5" 7399
	stop_all
}

tls_get()
{
	"in_$1" curl -gsSk --max-time 110 -o "$RUN/copy.tls" "https://$2:4499/mid" &&
		same "$RUN/copy.tls" "$RUN/www/mid"
}

tls_say()
{
	echo "GET /small HTTP/1.0" | "in_$1" timeout 20 openssl s_client -quiet \
		-ign_eof -connect "$2" 2>/dev/null >"$RUN/copy.s" ||:
	grep -qa "HTTP/1.0 200" "$RUN/copy.s"
}

test_openssl()
{
	local v

	for v in 4 6; do
		start "$3" bash -c "cd '$RUN/www' && exec openssl s_server -quiet \
			-WWW -$v -accept 4499 -cert '$RUN/cert.pem' \
			-key '$RUN/key.pem'"
	done
	ready 4499 2
	adopts "$1: openssl s_server, curl" tls_get "$2" "$4"
	adopts "$1: openssl s_client" tls_say "$2" "$4:4499"
	adopts "$1: openssl, IPv6" tls_get "$2" "[$5]"
	stop_all
}

# -----------------------------------------------------------------------------

if [[ ${NATIVE-} ]]; then
	trap world_down EXIT
	net_up && mkdir -p "$CG" || exit 1
else
	world_up_alone >&2
fi
echo "TAP version 13"
mkdir -p "$RUN/www" "$RUN/up"
chmod 755 "$RUN" "$RUN/www"
head -c 104857600 /dev/urandom >"$RUN/www/big"
head -c 3000000 "$RUN/www/big" >"$RUN/www/mid"
head -c 100000 "$RUN/www/big" >"$RUN/www/small"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=dmm -days 2 \
	-keyout "$RUN/key.pem" -out "$RUN/cert.pem" 2>/dev/null

[[ ! ${SHIM-} ]] || shim_up >&2 || exit 1
# no shim for static programs, and native sockets for those with a ring
(($#)) || [[ ! ${SHIM-} ]] || set -- web redis memcached iperf asyncio openssl
(($#)) || set -- web redis memcached iperf asyncio busybox go uring openssl
for t in "$@"; do
	if [[ $t == web ]]; then
		test_web
	else
		for_both "test_$t"
	fi
done
echo "1..$TAP_N"
exit "${TAP_FAILED:-0}"
