// SPDX-License-Identifier: Apache-2.0
/*
 * Many connections, for numbers.sh:
 *
 *	many serve ADDR PORT		what the first two talk to: of each connection
 *					the first byte says echo ('e') or hang up ('q')
 *	many hold ADDR PORT N BUSY	N adopted connections at once, BUSY of which move
 *					data; prints "holding" when all are there and
 *					those have, and goes on at a line on stdin
 *	many rounds ADDR PORT N ACTIVE	N times connect, say something, close; the first
 *					ACTIVE of them close before the peer does
 *	many queue ADDR PORT N		an adopted listener that accepts nothing until
 *					a line comes on stdin, then N children
 *	many call ADDR PORT N		N native clients of that at once
 *
 * Each checks what comes, and says in a line what went wrong.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "stream.h"

#define BATCH		128		/* connections opening at a time */
#define BUSY_BYTES	(64 << 10)	/* each way, of a busy connection */
#define ROUND_THREADS	8
#define WAIT_MS		60000

static struct addrinfo *to;

static int fail(const char *what, long n, int err)
{
	fprintf(stderr, "many: %s %ld: %s\n", what, n, strerror(err));
	return 1;
}

static bool adopted(int fd)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp);

	getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len);
	return !strcmp(ulp, "dmm");
}

static void reset_on_close(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static int open_listener(void)
{
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, to->ai_addr, to->ai_addrlen) || listen(fd, 4096)) {
		perror("many: listen");
		exit(1);
	}
	return fd;
}

/* ---- serve -------------------------------------------------------------- */

/* What was read and not yet written back. */
struct echo {
	int fd;
	bool begun;
	uint32_t len, sent;
	char buf[4096];
};

/* True when it waits for the peer, false when it is at its end. */
static bool echo_run(struct echo *e)
{
	ssize_t n;

	for (;;) {
		while (e->sent < e->len) {
			n = write(e->fd, e->buf + e->sent, e->len - e->sent);
			if (n < 0)
				return errno == EAGAIN;
			e->sent += n;
		}
		n = read(e->fd, e->buf, sizeof(e->buf));
		if (n < 0)
			return errno == EAGAIN;
		if (!n || (!e->begun && e->buf[0] == 'q'))
			return false;
		e->len = n;
		e->sent = !e->begun;	/* the first byte is for us */
		e->begun = true;
	}
}

static int serve(void)
{
	struct epoll_event ev = { .events = EPOLLIN }, evs[64];
	int l = open_listener(), ep = epoll_create1(EPOLL_CLOEXEC), n, i, fd;
	struct echo *e;

	epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev);
	puts("ready");
	fflush(stdout);
	while ((n = epoll_wait(ep, evs, 64, -1)) >= 0 || errno == EINTR) {
		for (i = 0; i < n; i++) {
			e = evs[i].data.ptr;
			if (e && !echo_run(e)) {
				close(e->fd);
				free(e);
			}
			if (e)
				continue;
			fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
			if (fd < 0)
				continue;
			e = calloc(1, sizeof(*e));
			e->fd = fd;
			ev.events = EPOLLIN | EPOLLOUT | EPOLLET;
			ev.data.ptr = e;
			epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
		}
	}
	return fail("epoll_wait", ep, errno);
}

/* ---- hold --------------------------------------------------------------- */

static int open_some(int *fds, int n)
{
	int i, err = 0;
	socklen_t len;

	for (i = 0; i < n; i++) {
		fds[i] = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
				SOCK_NONBLOCK, 0);
		if (fds[i] < 0)
			return errno;
		if (connect(fds[i], to->ai_addr, to->ai_addrlen) &&
		    errno != EINPROGRESS)
			return errno;
		if (!adopted(fds[i]))
			return EXDEV;
	}
	for (i = 0; i < n; i++) {
		struct pollfd pfd = { .fd = fds[i], .events = POLLOUT };

		if (poll(&pfd, 1, WAIT_MS) != 1)
			return ETIMEDOUT;
		len = sizeof(err);
		getsockopt(fds[i], SOL_SOCKET, SO_ERROR, &err, &len);
		if (err)
			return err;
		if (write(fds[i], "e", 1) != 1)
			return errno;
	}
	return 0;
}

/* A word there and back, for each. */
static int ping_all(const int *fds, int n, uint64_t salt)
{
	uint64_t word;
	int i;

	for (i = 0; i < n; i++) {
		word = salt + i;
		if (stream_write(fds[i], &word, sizeof(word)))
			return fail("ping", i, errno);
	}
	for (i = 0; i < n; i++) {
		if (stream_read(fds[i], &word, sizeof(word)) != sizeof(word) ||
		    word != salt + i)
			return fail("pong", i, EBADMSG);
	}
	return 0;
}

struct busy {
	int fd;
	uint64_t seed;
	uint32_t out, in;
};

/* As far as it goes: 1 done, 0 waits, or -errno. */
static int busy_run(struct busy *b)
{
	char buf[4096], want[4096];
	uint32_t len, off;
	bool moved;
	ssize_t n;

	do {
		moved = false;
		if (b->out < BUSY_BYTES) {
			off = b->out % 8;
			len = BUSY_BYTES - b->out + off;
			if (len > sizeof(buf))
				len = sizeof(buf);
			stream_fill(buf, b->out - off, len, b->seed);
			n = write(b->fd, buf + off, len - off);
			if (n < 0 && errno != EAGAIN)
				return -errno;
			if (n > 0)
				b->out += n;
			moved |= n > 0;
		}
		off = b->in % 8;
		n = read(b->fd, buf, sizeof(buf) - off);
		if (!n)
			return -ENODATA;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n > 0) {
			stream_fill(want, b->in - off, n + off, b->seed);
			if (memcmp(buf, want + off, n))
				return -EBADMSG;
			b->in += n;
		}
		moved |= n > 0;
	} while (moved && b->in < BUSY_BYTES);
	return b->in == BUSY_BYTES;
}

/* All of them at once. */
static int busy_all(const int *fds, int n)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET };
	struct busy *bs = calloc(n, sizeof(*bs)), *b;
	int ep = epoll_create1(EPOLL_CLOEXEC), i, ret, left = n;

	for (i = 0; i < n; i++) {
		bs[i].fd = fds[i];
		bs[i].seed = i * 1000003ULL;
		ev.data.ptr = &bs[i];
		epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev);
	}
	while (left) {
		if (epoll_wait(ep, &ev, 1, WAIT_MS) != 1)
			return fail("no event, connections left", left, ETIMEDOUT);
		b = ev.data.ptr;
		if (b->in == BUSY_BYTES)
			continue;
		ret = busy_run(b);
		if (ret < 0)
			return fail("busy", b - bs, -ret);
		left -= ret;
	}
	close(ep);
	free(bs);
	return 0;
}

static int hold(int n, int busy)
{
	int *fds = calloc(n, sizeof(*fds)), i, some, err;

	for (i = 0; i < n; i += some) {
		some = n - i < BATCH ? n - i : BATCH;
		err = open_some(fds + i, some);
		if (err)
			return fail("connect, after", i, err);
	}
	if (ping_all(fds, n, 1000) || busy_all(fds, busy))
		return 1;
	puts("holding");
	fflush(stdout);
	if (getchar() == EOF)
		return fail("stdin", 0, EPIPE);
	/* The idle ones are as alive as the others. */
	if (ping_all(fds, n, 2000))
		return 1;
	for (i = 0; i < n; i++) {
		reset_on_close(fds[i]);
		close(fds[i]);
	}
	free(fds);
	return 0;
}

/* ---- rounds ------------------------------------------------------------- */

static struct {
	long next, end, active;
	int failed;
} rounds;

/* One in eight is reset, the others end in the ways that TCP ends. */
static int one_round(long i)
{
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char c;

	if (connect(fd, to->ai_addr, to->ai_addrlen))
		return errno;
	if (!adopted(fd))
		return EXDEV;
	if (i < rounds.active || i % 8 == 7) {
		if (write(fd, "ex", 2) != 2 || read(fd, &c, 1) != 1 || c != 'x')
			return EBADMSG;
		if (i >= rounds.active)
			reset_on_close(fd);
	} else if (write(fd, "q", 1) != 1 || read(fd, &c, 1)) {
		return EBADMSG;
	}
	return close(fd) ? errno : 0;
}

static void *run_rounds(void *arg)
{
	long i;
	int err;

	while ((i = __atomic_fetch_add(&rounds.next, 1, __ATOMIC_RELAXED)) <
	       rounds.end && !rounds.failed) {
		err = one_round(i);
		if (err)
			rounds.failed = fail("round", i, err);
	}
	return NULL;
}

static int do_rounds(long n, long active)
{
	pthread_t threads[ROUND_THREADS];
	int i;

	rounds.end = n;
	rounds.active = active;
	for (i = 0; i < ROUND_THREADS; i++)
		pthread_create(&threads[i], NULL, run_rounds, NULL);
	for (i = 0; i < ROUND_THREADS; i++)
		pthread_join(threads[i], NULL);
	return rounds.failed;
}

/* ---- queue and call ----------------------------------------------------- */

static int queue(int n)
{
	char *seen = calloc(n, 1);
	int l = open_listener(), i, fd;
	uint32_t who;

	if (listen(l, n))
		return fail("listen", n, errno);
	puts("ready");
	fflush(stdout);
	if (getchar() == EOF)
		return fail("stdin", 0, EPIPE);
	for (i = 0; i < n; i++) {
		struct pollfd pfd = { .fd = l, .events = POLLIN };

		if (poll(&pfd, 1, 20000) != 1)
			return fail("accepted, and no more came,", i, ETIMEDOUT);
		fd = accept(l, NULL, NULL);
		if (fd < 0)
			return fail("accept", i, errno);
		if (!adopted(fd))
			return fail("child", i, EXDEV);
		if (stream_read(fd, &who, sizeof(who)) != sizeof(who) ||
		    who >= (uint32_t)n || seen[who]++)
			return fail("child", i, EBADMSG);
		if (stream_write(fd, &who, sizeof(who)))
			return fail("child", i, errno);
		close(fd);
	}
	return 0;
}

static int call(uint32_t n)
{
	int *fds = calloc(n, sizeof(*fds));
	uint32_t i, back;

	for (i = 0; i < n; i++) {
		fds[i] = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fds[i], to->ai_addr, to->ai_addrlen))
			return fail("connect", i, errno);
		if (stream_write(fds[i], &i, sizeof(i)))
			return fail("write", i, errno);
	}
	puts("queued");
	fflush(stdout);
	for (i = 0; i < n; i++) {
		if (stream_read(fds[i], &back, sizeof(back)) != sizeof(back) ||
		    back != i)
			return fail("read", i, EBADMSG);
		close(fds[i]);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	struct rlimit files = { 20000, 20000 };
	long n = argc > 4 ? atol(argv[4]) : 0, m = argc > 5 ? atol(argv[5]) : 0;

	if (argc < 4 || getaddrinfo(argv[2], argv[3], &hints, &to)) {
		fprintf(stderr, "usage: many serve|hold|rounds|queue|call ADDR PORT [N [M]]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (setrlimit(RLIMIT_NOFILE, &files))
		return fail("setrlimit", files.rlim_cur, errno);
	if (!strcmp(argv[1], "serve"))
		return serve();
	if (!strcmp(argv[1], "hold"))
		return hold(n, m);
	if (!strcmp(argv[1], "rounds"))
		return do_rounds(n, m);
	if (!strcmp(argv[1], "queue"))
		return queue(n);
	if (!strcmp(argv[1], "call"))
		return call(n);
	return 2;
}
