// SPDX-License-Identifier: Apache-2.0
/*
 * What one user-space client gets through a running worker, against the kernel's
 * TCP in another network namespace: bulk each way, and 64-byte round trips.
 *
 *	bench_worker SOCKET|native IFINDEX SADDR DADDR PEER_NETNS [SECONDS [spin]]
 *
 * "native" uses the kernel's TCP of the caller's network namespace instead, for
 * comparison. The peer blocks; the client blocks, too, unless told to spin.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"
#include "uclient.h"

#define CHUNK	65536

static struct uclient uc;
static char buf[1 << 18];
static bool native;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

/* The same calls on the worker and, for comparison, on the kernel's TCP. */
static int conn_open(const char *daddr, int port)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = inet_addr(daddr),
	};
	int fd, one = 1;

	if (!native)
		return uc_connect(&uc, daddr, port);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) ||
	    setsockopt(fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one)))
		return -errno;
	return fd;
}

static void conn_close(int conn)
{
	if (native) {
		close(conn);
		return;
	}
	uc_op(&uc, conn, DMM_OP_ABORT);
	uc_finish(&uc, conn, 5000);
}

static bool conn_send(int conn, size_t len)
{
	if (native)
		return send(conn, buf, len, MSG_NOSIGNAL) == (ssize_t)len;
	return !uc_send(&uc, conn, buf, len);
}

static bool conn_recv(int conn, size_t len)
{
	if (native)
		return recv(conn, buf, len, MSG_WAITALL) == (ssize_t)len;
	return uc_recv(&uc, conn, buf, len) == (long)len;
}

static int bulk(const char *what, const char *daddr, int port, double secs)
{
	int conn = conn_open(daddr, port);
	double t0 = now(), t, bytes = 0;

	if (conn < 0)
		return conn;
	while ((t = now() - t0) < secs) {
		if (port == PEER_FLOOD ? !conn_recv(conn, CHUNK) :
					 !conn_send(conn, CHUNK))
			return -1;
		bytes += CHUNK;
	}
	printf("%-8s %6.2f Gbit/s\n", what, bytes * 8 / t / 1e9);
	conn_close(conn);
	return 0;
}

static int ping_pong(const char *daddr, double secs)
{
	int conn = conn_open(daddr, PEER_ECHO);
	double t0 = now(), t;
	long n = 0;

	if (conn < 0)
		return conn;
	while ((t = now() - t0) < secs) {
		if (!conn_send(conn, 64) || !conn_recv(conn, 64))
			return -1;
		n++;
	}
	printf("%-8s %6.2f us per 64-byte round trip\n", "echo", t / n * 1e6);
	conn_close(conn);
	return 0;
}

int main(int argc, char **argv)
{
	const char *saddr, *daddr;
	double secs;
	pid_t peer;
	int ret;

	if (argc < 6) {
		fprintf(stderr, "usage: %s SOCKET|native IFINDEX SADDR DADDR PEER_NETNS [SECONDS [spin]]\n",
			argv[0]);
		return 2;
	}
	saddr = argv[3];
	daddr = argv[4];
	secs = argc > 6 ? atof(argv[6]) : 3;
	native = !strcmp(argv[1], "native");
	peer = peer_start(argv[5]);
	if (peer < 0)
		return 1;
	if (!native && uc_open(&uc, argv[1], saddr, atoi(argv[2])))
		return 1;
	uc.spin = argc > 7;
	ret = bulk("out", daddr, PEER_DISCARD, secs) ||
	      bulk("in", daddr, PEER_FLOOD, secs) || ping_pong(daddr, secs);
	if (ret)
		fprintf(stderr, "bench_worker: a connection broke\n");
	if (!native)
		uc_close(&uc);
	kill(peer, SIGKILL);
	return ret;
}
