// SPDX-License-Identifier: Apache-2.0
/*
 * flow ADDR PORT adopted|native BYTES: several connections to a peer (peer.c) at
 * once, each moving bytes in its own way: small ones one after another, BYTES down,
 * BYTES up, BYTES both ways at the same time. Every byte is checked. Says what went
 * wrong, else the largest round trip time that a socket told of, microseconds.
 */
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "stream.h"

static struct addrinfo *to;
static const char *want;	/* adopted or native */

struct job {
	const char *name;
	uint64_t size;
	int (*run)(const struct job *job);
	int err;
	uint32_t rtt;
};

static __thread uint32_t rtt;

static int open_flow(void)
{
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), err;
	socklen_t len = 16;
	char ulp[16] = "";

	if (fd < 0)
		return -errno;
	if (connect(fd, to->ai_addr, to->ai_addrlen)) {
		err = -errno;
		close(fd);
		return err;
	}
	getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len);
	if (!strcmp(ulp, "dmm") != !strcmp(want, "adopted")) {
		close(fd);
		return -EXDEV;
	}
	return fd;
}

static int request(int fd, enum stream_what what, uint64_t size)
{
	struct stream_request req = {
		.magic = STREAM_MAGIC,
		.what = what,
		.size = size,
		.seed = size,
	};

	return stream_write(fd, &req, sizeof(req));
}

/* As long as it is alive: a closed socket has no round trip time. */
static void note_rtt(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	if (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) &&
	    info.tcpi_rtt > rtt)
		rtt = info.tcpi_rtt;
}

static int down(int fd, uint64_t size)
{
	int err = request(fd, STREAM_DOWN, size);

	return err ?: stream_check(fd, size, size);
}

static int up(int fd, uint64_t size)
{
	int err = request(fd, STREAM_UP, size);
	char ok = 0;

	if (!err)
		err = stream_send(fd, size, size);
	if (!err && (stream_read(fd, &ok, 1) != 1 || ok != 'k'))
		err = -EBADMSG;
	return err;
}

struct sender {
	int fd;
	uint64_t size;
	int err;
};

static void *send_all(void *arg)
{
	struct sender *s = arg;

	s->err = stream_send(s->fd, s->size, s->size);
	note_rtt(s->fd);
	shutdown(s->fd, SHUT_WR);
	return NULL;
}

static int both(int fd, uint64_t size)
{
	struct sender s = { .fd = fd, .size = size };
	pthread_t t;
	int err;
	char c;

	err = request(fd, STREAM_ECHO, 0);
	if (err)
		return err;
	if (pthread_create(&t, NULL, send_all, &s))
		return -EAGAIN;
	err = stream_check(fd, size, size);
	if (err)
		shutdown(fd, SHUT_RDWR);
	pthread_join(t, NULL);
	if (!err && read(fd, &c, 1))
		err = -EBADMSG;		/* more than was sent, or no FIN */
	return err ?: s.err;
}

static int once(int (*move)(int fd, uint64_t size), uint64_t size)
{
	int fd = open_flow(), err;

	if (fd < 0)
		return fd;
	err = move(fd, size);
	note_rtt(fd);
	close(fd);
	return err;
}

static int run_small(const struct job *job)
{
	static const uint64_t sizes[] = { 1, 2, 1440, 1460, 1461, 65537 };
	int err = 0;
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && !err; i++)
		err = once(down, sizes[i]) ?: once(up, sizes[i]);
	return err;
}

static int run_down(const struct job *job) { return once(down, job->size); }
static int run_up(const struct job *job) { return once(up, job->size); }
static int run_both(const struct job *job) { return once(both, job->size); }

static void *run(void *arg)
{
	struct job *job = arg;

	job->err = job->run(job);
	job->rtt = rtt;
	return NULL;
}

int main(int argc, char **argv)
{
	struct job jobs[] = {
		{ .name = "small", .run = run_small },
		{ .name = "down", .run = run_down },
		{ .name = "up", .run = run_up },
		{ .name = "both ways", .run = run_both },
	};
	const size_t n = sizeof(jobs) / sizeof(jobs[0]);
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	pthread_t threads[n];
	uint32_t most = 0;
	int ret = 0;
	size_t i;

	if (argc != 5 || getaddrinfo(argv[1], argv[2], &hints, &to)) {
		fprintf(stderr, "usage: flow ADDR PORT adopted|native BYTES\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	want = argv[3];
	for (i = 0; i < n; i++) {
		jobs[i].size = strtoull(argv[4], NULL, 10);
		if (pthread_create(&threads[i], NULL, run, &jobs[i])) {
			perror("flow: pthread_create");
			return 1;
		}
	}
	for (i = 0; i < n; i++) {
		pthread_join(threads[i], NULL);
		if (jobs[i].rtt > most)
			most = jobs[i].rtt;
		if (!jobs[i].err)
			continue;
		fprintf(stderr, "flow: %s: %s\n", jobs[i].name,
			jobs[i].err == -EXDEV ? "another stack than expected" :
						strerror(-jobs[i].err));
		ret = 1;
	}
	printf("%u\n", most);
	freeaddrinfo(to);
	return ret;
}
