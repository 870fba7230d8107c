// SPDX-License-Identifier: Apache-2.0
/*
 * The client's side of the load generator. All is a closed loop: a connection has
 * one request under way, so that a time is a round trip and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load.h"

#define EVENTS		256
#define STUCK_MS	10000

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT	24
#endif

/* @got: of the answer that is under way; @begun: when it was asked for */
struct conn {
	int fd;
	unsigned int got;
	uint64_t begun;
	bool connecting;
};

/*
 * The clock of a run: what happens before @from is a warm-up.
 * @now: read once in a turn, and at every answer
 */
struct run {
	const struct load *l;
	struct result *r;
	uint64_t from;
	uint64_t until;
	uint64_t now;
	bool warm;
	char *buf;
	unsigned int next_source;
};

static void run_begin(struct run *run, const struct load *l, struct result *r)
{
	memset(run, 0, sizeof(*run));
	run->l = l;
	run->r = r;
	run->buf = calloc(1, l->size);
	if (!run->buf)
		die("no memory for messages of %u bytes", l->size);
	hist_reset(&r->hist);
	r->bytes = 0;
}

/* Once the connections are there. */
static void run_start(struct run *run)
{
	run->now = now_ns();
	run->from = run->now + run->l->warmup * 1e9;
	run->until = run->from + run->l->seconds * 1e9;
}

static bool run_goes_on(struct run *run)
{
	run->now = now_ns();
	if (!run->warm && run->now >= run->from) {
		run->warm = true;
		run->from = run->now;
		run->r->bytes = 0;
		hist_reset(&run->r->hist);
	}
	return run->now < run->until;
}

static void run_end(struct run *run)
{
	run->r->seconds = (run->now - run->from) / 1e9;
	free(run->buf);
}

/* ------------------------------------------------------------------------- */

static void source_bind(struct run *run, int fd)
{
	struct sockaddr_storage addr = run->l->source;
	unsigned int n = run->next_source++ % run->l->nsources;
	uint8_t *last;
	int one = 1;

	if (addr.ss_family == AF_INET)
		last = (uint8_t *)&((struct sockaddr_in *)&addr)->sin_addr + 3;
	else
		last = ((struct sockaddr_in6 *)&addr)->sin6_addr.s6_addr + 15;
	*last += n;
	/* the port is chosen by connect(), who knows more */
	setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, run->l->addr_len))
		die("source address %u of %u: %s", n + 1, run->l->nsources,
		    strerror(errno));
}

/* Begin a connection to a service; done, or under way when @flags allow. */
static int dial(struct run *run, enum service service, int flags)
{
	struct timeval stuck = { .tv_sec = STUCK_MS / 1000 };
	struct sockaddr_storage addr = run->l->addr;
	in_port_t *port;
	int fd, one = 1;

	port = addr.ss_family == AF_INET ?
		       &((struct sockaddr_in *)&addr)->sin_port :
		       &((struct sockaddr_in6 *)&addr)->sin6_port;
	*port = htons(ntohs(*port) + service);
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		die("socket: %s", strerror(errno));
	if (service == SERVE_ECHO)
		setsockopt(fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stuck, sizeof(stuck));
	if (run->l->source.ss_family)
		source_bind(run, fd);
	if (connect(fd, (struct sockaddr *)&addr, run->l->addr_len) &&
	    errno != EINPROGRESS)
		die("cannot connect to port %u: %s", ntohs(*port),
		    strerror(errno));
	return fd;
}

/* A stack that loses things is not waited for: it is an error. */
static int events_wait(const struct run *run, int epoll_fd,
		       struct epoll_event *evs)
{
	bool spin = run->l->wait == WAIT_SPIN;
	int n;

	n = epoll_wait(epoll_fd, evs, EVENTS, spin ? 0 : STUCK_MS);
	if (n < 0 && errno != EINTR)
		die("epoll_wait: %s", strerror(errno));
	if (!n && !spin)
		die("%s: nothing came for %d s", run->l->work, STUCK_MS / 1000);
	return n;
}

static void request(struct run *run, struct conn *c, size_t len)
{
	ssize_t n;

	c->begun = now_ns();
	c->got = 0;
	n = send(c->fd, run->buf, len, MSG_NOSIGNAL);
	if (n != (ssize_t)len)
		die("%s: a request of %zu bytes could not be sent: %s",
		    run->l->work, len, n < 0 ? strerror(errno) : "no room");
}

/* Read what there is; true when the answer is whole. */
static bool answer(struct run *run, struct conn *c, size_t len, int flags)
{
	ssize_t n;

	n = recv(c->fd, run->buf, len - c->got, flags);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (now_ns() - c->begun > STUCK_MS * 1000000ULL)
			die("%s: no answer for %d s", run->l->work,
			    STUCK_MS / 1000);
		return false;
	}
	if (n <= 0)
		die("%s: the connection broke: %s", run->l->work,
		    n ? strerror(errno) : "closed by the server");
	c->got += n;
	if (c->got < len)
		return false;
	run->now = now_ns();
	hist_add(&run->r->hist, run->now - c->begun);
	return true;
}

/* An open connection that has had an answer, so both ends know of it. */
static void conn_open(struct run *run, struct conn *c)
{
	c->fd = dial(run, SERVE_ECHO, 0);
	request(run, c, run->l->size);
	while (!answer(run, c, run->l->size, 0))
		;
	if (run->l->wait != WAIT_BLOCK)
		fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

static struct conn *conns_open(struct run *run)
{
	struct conn *conns = calloc(run->l->conns, sizeof(*conns));
	unsigned int i;

	if (!conns)
		die("no memory");
	for (i = 0; i < run->l->conns; i++)
		conn_open(run, &conns[i]);
	return conns;
}

static void conns_close(struct run *run, struct conn *conns)
{
	unsigned int i;

	for (i = 0; i < run->l->conns; i++)
		close(conns[i].fd);
	free(conns);
}

static void watch(int epoll_fd, struct conn *c, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev))
		die("epoll_ctl: %s", strerror(errno));
}

static int epoll_new(void)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		die("epoll_create1: %s", strerror(errno));
	return fd;
}

/* ------------------------------------------------------------------------- */

/* One connection needs no epoll: it is read until the answer is there. */
static void ping_one(struct run *run, struct conn *c)
{
	int flags = run->l->wait == WAIT_SPIN ? MSG_DONTWAIT : 0;

	while (run_goes_on(run)) {
		request(run, c, run->l->size);
		while (!answer(run, c, run->l->size, flags))
			;
	}
}

static void ping_many(struct run *run, struct conn *conns)
{
	struct epoll_event evs[EVENTS];
	int epoll_fd = epoll_new(), i, n;
	unsigned int k;

	for (k = 0; k < run->l->conns; k++) {
		watch(epoll_fd, &conns[k], EPOLLIN);
		request(run, &conns[k], run->l->size);
	}
	while (run_goes_on(run)) {
		n = events_wait(run, epoll_fd, evs);
		for (i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;

			if (answer(run, c, run->l->size, 0))
				request(run, c, run->l->size);
		}
	}
	close(epoll_fd);
}

void client_ping(const struct load *l, struct result *r)
{
	struct conn *conns;
	struct run run;

	run_begin(&run, l, r);
	conns = conns_open(&run);
	run_start(&run);
	if (l->conns == 1 && l->wait != WAIT_EPOLL)
		ping_one(&run, conns);
	else
		ping_many(&run, conns);
	run_end(&run);
	conns_close(&run, conns);
}

/* ------------------------------------------------------------------------- */

/* Connect, one byte there, one byte back, close; timed from first to last. */
static void connect_begin(struct run *run, struct conn *c, int epoll_fd)
{
	c->begun = now_ns();
	c->fd = dial(run, SERVE_ECHO, SOCK_NONBLOCK);
	c->connecting = true;
	watch(epoll_fd, c, EPOLLIN | EPOLLOUT | EPOLLET);
}

static void connect_go_on(struct run *run, struct conn *c, int epoll_fd)
{
	uint64_t begun = c->begun;
	socklen_t len = sizeof(int);
	int error = 0;

	if (c->connecting) {
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error)
			die("connect: refused: %s", strerror(error));
		c->connecting = false;
		request(run, c, 1);
		c->begun = begun;
		return;
	}
	if (answer(run, c, 1, 0)) {
		close(c->fd);
		connect_begin(run, c, epoll_fd);
	}
}

static void connect_blocking(struct run *run)
{
	struct conn c;
	uint64_t begun;

	while (run_goes_on(run)) {
		begun = now_ns();
		c.fd = dial(run, SERVE_ECHO, 0);
		request(run, &c, 1);
		c.begun = begun;
		while (!answer(run, &c, 1, 0))
			;
		close(c.fd);
	}
}

void client_connect(const struct load *l, struct result *r)
{
	struct epoll_event evs[EVENTS];
	struct conn *conns;
	struct run run;
	int epoll_fd = -1, i, n;
	unsigned int k;

	run_begin(&run, l, r);
	run_start(&run);
	if (l->wait == WAIT_BLOCK) {
		connect_blocking(&run);
		run_end(&run);
		return;
	}
	conns = calloc(l->conns, sizeof(*conns));
	if (!conns)
		die("no memory");
	epoll_fd = epoll_new();
	for (k = 0; k < l->conns; k++)
		connect_begin(&run, &conns[k], epoll_fd);
	while (run_goes_on(&run)) {
		n = events_wait(&run, epoll_fd, evs);
		for (i = 0; i < n; i++)
			connect_go_on(&run, evs[i].data.ptr, epoll_fd);
	}
	close(epoll_fd);
	run_end(&run);
	conns_close(&run, conns);
}

/* ------------------------------------------------------------------------- */

/* As much as goes in one call; false when the kernel would have us wait. */
static bool bulk_turn(struct run *run, int fd, bool out)
{
	ssize_t n;

	n = out ? send(fd, run->buf, run->l->size, MSG_NOSIGNAL) :
		  recv(fd, run->buf, run->l->size, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		die("%s: the connection broke: %s", run->l->work,
		    n ? strerror(errno) : "closed by the server");
	run->r->bytes += n;
	return true;
}

static void bulk(const struct load *l, struct result *r, bool out)
{
	enum service service = out ? SERVE_SINK : SERVE_SOURCE;
	int flags = l->wait == WAIT_BLOCK ? 0 : SOCK_NONBLOCK;
	struct epoll_event evs[EVENTS];
	int epoll_fd = epoll_new(), i, n;
	struct conn *conns;
	struct run run;
	unsigned int k;

	run_begin(&run, l, r);
	conns = calloc(l->conns, sizeof(*conns));
	if (!conns)
		die("no memory");
	for (k = 0; k < l->conns; k++) {
		conns[k].fd = dial(&run, service, 0);
		fcntl(conns[k].fd, F_SETFL, flags);
		watch(epoll_fd, &conns[k], out ? EPOLLOUT : EPOLLIN);
	}
	run_start(&run);
	while (run_goes_on(&run)) {
		if (l->conns == 1 && l->wait != WAIT_EPOLL) {
			bulk_turn(&run, conns[0].fd, out);
			continue;
		}
		n = events_wait(&run, epoll_fd, evs);
		for (i = 0; i < n; i++)
			bulk_turn(&run, ((struct conn *)evs[i].data.ptr)->fd,
				  out);
	}
	run_end(&run);
	close(epoll_fd);
	conns_close(&run, conns);
}

void client_send(const struct load *l, struct result *r)
{
	bulk(l, r, true);
}

void client_recv(const struct load *l, struct result *r)
{
	bulk(l, r, false);
}

/* Connections that say nothing. */
void client_hold(const struct load *l, struct result *r)
{
	struct conn *conns;
	struct run run;

	run_begin(&run, l, r);
	conns = conns_open(&run);
	run_start(&run);
	poll(NULL, 0, (l->warmup + l->seconds) * 1000);
	run.now = now_ns();
	run_end(&run);
	conns_close(&run, conns);
}
