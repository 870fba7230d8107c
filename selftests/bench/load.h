/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load generator: ordinary sockets, ordinary calls. What it is told:
 */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "hist.h"

#define CONNS_MAX	20000

/* How one waits. */
enum wait {
	WAIT_BLOCK,		/* in read() and write(), one connection a thread */
	WAIT_EPOLL,		/* in epoll_wait() */
	WAIT_SPIN,		/* nowhere: calls that do not block, again and again */
};

/* What the server does on its ports, the first of which is --port. */
enum service {
	SERVE_ECHO,		/* sends back what comes */
	SERVE_SINK,		/* reads and forgets */
	SERVE_SOURCE,		/* sends for ever */
	SERVICES,
};

/*
 * @work: its name in the output
 * @addr: the server's; the port is the first one, @addr_len its length
 * @source: the client's own address, the first of @nsources; family 0 for any
 * @size: bytes of a message, or of a write
 */
struct load {
	const char *work;
	enum wait wait;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	struct sockaddr_storage source;
	unsigned int nsources;
	unsigned int conns;
	unsigned int size;
	double seconds;
	double warmup;
	const char *cdf;
};

/*
 * What was seen: requests that were answered, with their times in nanoseconds, or
 * bytes.
 */
struct result {
	struct hist hist;
	uint64_t bytes;
	double seconds;
};

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* load.c: say what failed, in one line, and exit */
void die(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), noreturn));

/* client.c */
void client_ping(const struct load *l, struct result *r);
void client_connect(const struct load *l, struct result *r);
void client_send(const struct load *l, struct result *r);
void client_recv(const struct load *l, struct result *r);
void client_hold(const struct load *l, struct result *r);

/* server.c: serves until it is killed */
void server_run(const struct load *l) __attribute__((noreturn));

#endif /* LOAD_H */
