// SPDX-License-Identifier: Apache-2.0
/*
 * The data path, whole: adopted sockets through a real worker over a real wire to
 * a native peer (peer.c). Run by data.sh, which makes the wire; DMM_PEER and
 * DMM_PORT name the peer, DMM_ADOPTED says whether sockets must be adopted: the
 * same program also runs natively, and must see the same.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "kselftest_harness.h"
#include "stream.h"

#define MIB	(1ULL << 20)

/* For TEST_F_TIMEOUT(), which plain tests do not have. */
FIXTURE(data) { };
FIXTURE_SETUP(data) { }
FIXTURE_TEARDOWN(data) { }

static struct sockaddr_in peer_addr(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET };

	to.sin_port = htons(atoi(getenv("DMM_PORT")));
	inet_aton(getenv("DMM_PEER"), &to.sin_addr);
	return to;
}

static int adopted(int fd)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp);

	getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len);
	return !strcmp(ulp, "dmm");
}

static int open_to(struct sockaddr_in to, int flags)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) &&
	    errno != EINPROGRESS) {
		int err = -errno;

		close(fd);
		return err;
	}
	if (adopted(fd) != !!getenv("DMM_ADOPTED")) {
		printf("# the socket is %s\n", adopted(fd) ? "adopted" : "native");
		close(fd);
		return -EXDEV;
	}
	return fd;
}

static int request(int fd, enum stream_what what, uint64_t size, uint64_t seed)
{
	struct stream_request req = {
		.magic = STREAM_MAGIC,
		.what = what,
		.size = size,
		.seed = seed,
	};

	return stream_write(fd, &req, sizeof(req));
}

static int down(uint64_t size)
{
	int fd = open_to(peer_addr(), 0), err;

	if (fd < 0)
		return fd;
	err = request(fd, STREAM_DOWN, size, size);
	if (!err)
		err = stream_check(fd, size, size);
	close(fd);
	return err;
}

static int up(uint64_t size)
{
	int fd = open_to(peer_addr(), 0), err;
	char ok = 0;

	if (fd < 0)
		return fd;
	err = request(fd, STREAM_UP, size, size);
	if (!err)
		err = stream_send(fd, size, size);
	if (!err && (stream_read(fd, &ok, 1) != 1 || ok != 'k'))
		err = -EBADMSG;
	close(fd);
	return err;
}

static const uint64_t sizes[] = {
	1, 2, 1000, 1460, 1461, 2920, 65535, 65536, 65537,
	262144, 262145, MIB, 10 * MIB,
};

TEST_F(data, down_by_size)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		ASSERT_EQ(0, down(sizes[i])) TH_LOG("%lu bytes", sizes[i]);
}

TEST_F(data, up_by_size)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		ASSERT_EQ(0, up(sizes[i])) TH_LOG("%lu bytes", sizes[i]);
}

TEST_F_TIMEOUT(data, down_100_mib, 120)
{
	ASSERT_EQ(0, down(100 * MIB));
}

TEST_F_TIMEOUT(data, up_100_mib, 120)
{
	ASSERT_EQ(0, up(100 * MIB));
}

struct stream_job {
	int fd;
	uint64_t size;
};

static void *send_job(void *arg)
{
	struct stream_job *job = arg;
	long err = stream_send(job->fd, job->size, 7);

	shutdown(job->fd, SHUT_WR);
	return (void *)err;
}

TEST_F_TIMEOUT(data, both_ways_at_once, 120)
{
	struct stream_job job = { .size = 20 * MIB };
	pthread_t t;
	void *err;
	char c;

	job.fd = open_to(peer_addr(), 0);
	ASSERT_LE(0, job.fd);
	ASSERT_EQ(0, request(job.fd, STREAM_ECHO, 0, 0));
	ASSERT_EQ(0, pthread_create(&t, NULL, send_job, &job));
	EXPECT_EQ(0, stream_check(job.fd, job.size, 7));
	pthread_join(t, &err);
	EXPECT_EQ(NULL, err);
	EXPECT_EQ(0, read(job.fd, &c, 1));
	close(job.fd);
}

/* All connections are there before the first asks for data. */
TEST_F_TIMEOUT(data, two_hundred_at_once, 120)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLONESHOT };
	int ep = epoll_create1(EPOLL_CLOEXEC), fds[200], i, n;

	for (i = 0; i < 200; i++) {
		fds[i] = open_to(peer_addr(), SOCK_NONBLOCK);
		ASSERT_LE(0, fds[i]);
		ev.data.fd = fds[i];
		ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev));
	}
	for (i = 0; i < 200; i += n) {
		n = epoll_wait(ep, &ev, 1, 30000);
		ASSERT_EQ(1, n);
		ASSERT_EQ(EPOLLOUT, ev.events);
	}
	for (i = 0; i < 200; i++)
		ASSERT_EQ(0, request(fds[i], STREAM_DOWN, 50000 + i, i));
	for (i = 0; i < 200; i++) {
		ASSERT_EQ(0, stream_check(fds[i], 50000 + i, i)) TH_LOG("%d", i);
		ASSERT_EQ(0, request(fds[i], STREAM_UP, 50000 + i, i));
		ASSERT_EQ(0, stream_send(fds[i], 50000 + i, i));
	}
	for (i = 0; i < 200; i++) {
		char ok;

		ASSERT_EQ(1, stream_read(fds[i], &ok, 1)) TH_LOG("%d", i);
		close(fds[i]);
	}
	close(ep);
}

TEST_F_TIMEOUT(data, thousand_one_after_another, 120)
{
	int i;

	for (i = 0; i < 1000; i++)
		ASSERT_EQ(0, down(1 + i % 200)) TH_LOG("%d", i);
}

TEST_F(data, nonblocking_connect)
{
	struct sockaddr_in to = peer_addr();
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLIN | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(int);
	int err = -1;

	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 0));
	ASSERT_EQ(-1, connect(fd, (struct sockaddr *)&to, sizeof(to)));
	ASSERT_EQ(EINPROGRESS, errno);
	ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 10000));
	EXPECT_EQ(EPOLLOUT, ev.events);
	EXPECT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	EXPECT_EQ(0, err);
	EXPECT_EQ(!!getenv("DMM_ADOPTED"), adopted(fd));
	close(fd);
	close(ep);
}

TEST_F(data, refused)
{
	struct sockaddr_in to = peer_addr();

	to.sin_port = htons(ntohs(to.sin_port) + 1);
	EXPECT_EQ(-ECONNREFUSED, open_to(to, 0));
}

TEST_F(data, nonblocking_refused)
{
	struct epoll_event ev = { .events = EPOLLOUT };
	struct sockaddr_in to = peer_addr();
	int ep = epoll_create1(EPOLL_CLOEXEC), fd, err = 0;
	socklen_t len = sizeof(err);

	to.sin_port = htons(ntohs(to.sin_port) + 1);
	fd = open_to(to, SOCK_NONBLOCK);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	/* As native: the error can be seen a moment before the state. */
	do {
		ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 10000));
	} while (!(ev.events & EPOLLHUP));
	EXPECT_EQ(EPOLLOUT | EPOLLERR | EPOLLHUP, ev.events);
	EXPECT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	EXPECT_EQ(ECONNREFUSED, err);
	close(fd);
	close(ep);
}

/* Nobody has the address: the neighbour fails. */
TEST_F_TIMEOUT(data, no_such_host, 60)
{
	struct sockaddr_in to = peer_addr();

	to.sin_addr.s_addr ^= htonl(0x40);
	EXPECT_EQ(-EHOSTUNREACH, open_to(to, 0));
}

TEST_F(data, half_close)
{
	int fd = open_to(peer_addr(), 0);
	char c;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, request(fd, STREAM_LATE, 3 * MIB, 5));
	ASSERT_EQ(0, shutdown(fd, SHUT_WR));
	EXPECT_EQ(0, stream_check(fd, 3 * MIB, 5));
	EXPECT_EQ(0, read(fd, &c, 1));
	close(fd);
}

/* close() returns at once; what was written arrives all the same. */
TEST_F(data, close_with_data_in_flight)
{
	int fd = open_to(peer_addr(), 0), i;
	uint64_t seed = 0x5eed0000 + getpid(), got = 0;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, request(fd, STREAM_SINK, 0, seed));
	ASSERT_EQ(0, stream_send(fd, MIB, seed));
	close(fd);

	fd = open_to(peer_addr(), 0);
	ASSERT_LE(0, fd);
	for (i = 0; i < 100 && got != MIB; i++) {
		ASSERT_EQ(0, request(fd, STREAM_ASK, 0, seed));
		ASSERT_EQ(sizeof(got), stream_read(fd, &got, sizeof(got)));
		usleep(50000);
	}
	EXPECT_EQ(MIB, got);
	close(fd);
}

TEST_F(data, peer_resets)
{
	static char buf[STREAM_CHUNK];
	int fd = open_to(peer_addr(), 0), n, i;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, request(fd, STREAM_RESET, 0, 0));
	n = read(fd, buf, 1);
	EXPECT_EQ(-1, n);
	EXPECT_EQ(ECONNRESET, errno);
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < 100 && (n = write(fd, "x", 1)) == 1; i++)
		usleep(10000);
	EXPECT_EQ(-1, n);
	EXPECT_EQ(EPIPE, errno);
	close(fd);
}

/* The window closes, and opens again. */
TEST_F(data, slow_reader)
{
	int fd = open_to(peer_addr(), 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, request(fd, STREAM_DOWN, 5 * MIB, 9));
	sleep(2);
	EXPECT_EQ(0, stream_check(fd, 5 * MIB, 9));
	close(fd);
}

TEST_F(data, fork_shares_the_socket)
{
	int fd = open_to(peer_addr(), 0), status;
	pid_t pid;

	ASSERT_LE(0, fd);
	pid = fork();
	if (!pid)
		_exit(request(fd, STREAM_DOWN, 1000, 3) ? 1 : 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(0, stream_check(fd, 1000, 3));
	close(fd);
}

TEST_HARNESS_MAIN
