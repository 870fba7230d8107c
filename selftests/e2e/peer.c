// SPDX-License-Identifier: Apache-2.0
/*
 * The other end of the data tests, on the kernel's own stack: peer ADDR PORT; ADDR is
 * IPv4 or IPv6, "::" takes both. A thread for each connection. Prints "ready" when it
 * listens.
 */
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "stream.h"

/* What STREAM_SINK saw, by seed; written once each. */
#define MEMORY	64
static struct {
	pthread_mutex_t lock;
	uint64_t seed[MEMORY], bytes[MEMORY];
	unsigned int n;
} memory = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void remember(uint64_t seed, uint64_t bytes)
{
	pthread_mutex_lock(&memory.lock);
	memory.seed[memory.n % MEMORY] = seed;
	memory.bytes[memory.n++ % MEMORY] = bytes;
	pthread_mutex_unlock(&memory.lock);
}

static uint64_t recall(uint64_t seed)
{
	uint64_t bytes = 0;
	int i;

	pthread_mutex_lock(&memory.lock);
	for (i = 0; i < MEMORY; i++)
		if (memory.seed[i] == seed)
			bytes = memory.bytes[i];
	pthread_mutex_unlock(&memory.lock);
	return bytes;
}

static void echo(int fd)
{
	static __thread char buf[STREAM_CHUNK];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (stream_write(fd, buf, n))
			return;
}

/* Bytes of the stream that came and were right. */
static uint64_t sink(int fd, uint64_t seed)
{
	static __thread char buf[STREAM_CHUNK], want[STREAM_CHUNK];
	uint64_t off = 0;
	ssize_t n;

	while ((n = stream_read(fd, buf, sizeof(buf))) > 0) {
		stream_fill(want, off, n, seed);
		if (memcmp(buf, want, n))
			return 0;
		off += n;
	}
	return n < 0 ? 0 : off;
}

static void wait_fin(int fd)
{
	char c;

	while (read(fd, &c, 1) > 0)
		;
}

static void *serve(void *arg)
{
	struct linger now = { .l_onoff = 1 };
	struct stream_request req;
	int fd = (long)arg;
	uint64_t answer;

	while (stream_read(fd, &req, sizeof(req)) == sizeof(req) &&
	       req.magic == STREAM_MAGIC) {
		switch (req.what) {
		case STREAM_LATE:
			wait_fin(fd);
			stream_send(fd, req.size, req.seed);
			goto out;
		case STREAM_DOWN:
			if (stream_send(fd, req.size, req.seed))
				goto out;
			break;
		case STREAM_UP:
			if (stream_check(fd, req.size, req.seed) ||
			    stream_write(fd, "k", 1))
				goto out;
			break;
		case STREAM_ECHO:
			echo(fd);
			goto out;
		case STREAM_SINK:
			remember(req.seed, sink(fd, req.seed));
			goto out;
		case STREAM_ASK:
			answer = recall(req.seed);
			stream_write(fd, &answer, sizeof(answer));
			break;
		case STREAM_RESET:
			stream_send(fd, req.size, req.seed);
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
			goto out;
		default:
			goto out;
		}
	}
out:
	close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	}, *me;
	pthread_attr_t attr;
	int l, one = 1;
	pthread_t t;
	long fd;

	if (argc != 3 || getaddrinfo(argv[1], argv[2], &hints, &me)) {
		fprintf(stderr, "usage: peer ADDR PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	l = socket(me->ai_family, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(l, me->ai_addr, me->ai_addrlen) || listen(l, 4096)) {
		perror("peer");
		return 1;
	}
	freeaddrinfo(me);
	puts("ready");
	fflush(stdout);

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 512 << 10);
	while ((fd = accept(l, NULL, NULL)) >= 0 || errno == EINTR)
		if (fd >= 0 && pthread_create(&t, &attr, serve, (void *)fd))
			close(fd);
	perror("peer: accept");
	return 1;
}
