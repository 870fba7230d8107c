// SPDX-License-Identifier: Apache-2.0
/* Bytes moved in bulk or held back: splice, segments, zero copy, low-water marks. */
#include <time.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "kselftest_harness.h"
#include "rig.h"
#include "wire.h"

RIG_SUITE(flow);

#define KIB	1024
#define MIB	(1024 * KIB)

static char big[2 * MIB], back[2 * MIB];

static int file_of(size_t size)
{
	int fd = memfd_create("data", MFD_CLOEXEC);

	pattern(big, 0, size);
	write(fd, big, size);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

RIG_TEST(flow, sendfile)
{
	struct rig *r = &self->r;
	int file = file_of(60 * KIB);
	size_t put = 0, size = 40 * KIB;
	off_t off = 1000;
	ssize_t n;

	CONNECT(r);
	while (put < size) {
		n = sendfile(r->fd, file, &off, size - put);
		ASSERT_LT(0, n);
		put += n;
		EXPECT_EQ(1000 + put, off);
	}
	EXPECT_EQ(put, read_all(r->far, back, put));
	EXPECT_TRUE(pattern_ok(back, 1000, put));
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR));
	/* past the end */
	off = 60 * KIB;
	EXPECT_EQ(0, sendfile(r->fd, file, &off, 10));
}

RIG_TEST(flow, sendfile_into_a_full_window)
{
	struct rig *r = &self->r;
	int file = file_of(60 * KIB);
	off_t off = 0;

	CONNECT(r);
	sock_deafen(r->far);
	fill(r->fd);
	fcntl(r->fd, F_SETFL, O_NONBLOCK);
	while (sendfile(r->fd, file, &off, 60 * KIB) > 0)
		off = 0;
	EXPECT_EQ(EAGAIN, errno);
}

RIG_TEST(flow, splice_out)
{
	struct rig *r = &self->r;
	int file = file_of(60 * KIB), p[2];

	CONNECT(r);
	ASSERT_EQ(0, pipe(p));
	EXPECT_EQ(60 * KIB, splice(file, NULL, p[1], NULL, 60 * KIB, 0));
	EXPECT_EQ(60 * KIB, splice(p[0], NULL, r->fd, NULL, 60 * KIB,
				   SPLICE_F_MORE));
	EXPECT_EQ(60 * KIB, read_all(r->far, back, 60 * KIB));
	EXPECT_TRUE(pattern_ok(back, 0, 60 * KIB));
}

RIG_TEST(flow, splice_in)
{
	struct rig *r = &self->r;
	size_t got = 0, size = 40 * KIB;
	int p[2];

	CONNECT(r);
	ASSERT_EQ(0, pipe(p));
	fcntl(r->fd, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-1, splice(r->fd, NULL, p[1], NULL, 10, 0));
	EXPECT_EQ(EAGAIN, errno);
	fcntl(r->fd, F_SETFL, 0);
	pattern(big, 0, size);
	EXPECT_EQ(size, write_all(r->far, big, size));
	while (got < size) {
		ssize_t n = splice(r->fd, NULL, p[1], NULL, size - got, 0);

		ASSERT_LT(0, n);
		ASSERT_EQ(n, read(p[0], back + got, n));
		got += n;
	}
	EXPECT_TRUE(pattern_ok(back, 0, size));
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(0, splice(r->fd, NULL, p[1], NULL, 10, 0));
}

RIG_TEST(flow, splice_in_waits)
{
	struct rig *r = &self->r;
	char buf[4];
	int p[2];
	pid_t pid;
	int status;

	CONNECT(r);
	ASSERT_EQ(0, pipe(p));
	pid = fork();
	if (!pid)
		_exit(splice(r->fd, NULL, p[1], NULL, 100, 0));
	ASSERT_TRUE(WAIT_FOR(blocked(pid, pid)));
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(3, WEXITSTATUS(status));
	EXPECT_EQ(3, read(p[0], buf, 4));
}

RIG_TEST(flow, sendfile_from_socket)
{
	struct rig *r = &self->r;
	int file = file_of(0);

	CONNECT(r);
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_EQ(POLLIN, polled(r->fd, POLLIN, 5000));
	EXPECT_EQ(-1, sendfile(file, r->fd, NULL, 3));
	EXPECT_EQ(EINVAL, errno);
}

static int more_in_segments(struct rig *r, int wire, int flag, size_t *bytes)
{
	char buf[300];
	int i;

	for (i = 0; i < 3; i++)
		if (send(r->fd, "0123456789", 10, i < 2 ? flag : 0) != 10)
			return -errno;
	if (read_all(r->far, buf, 30) != 30)
		return -EIO;
	return wire_count(wire, r, bytes);
}

RIG_TEST(flow, more)
{
	struct rig *r = &self->r;
	int wire;
	size_t n;

	CONNECT(r);
	set_int(r->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	wire = wire_open(r);
	EXPECT_EQ(1, more_in_segments(r, wire, MSG_MORE, &n));
	EXPECT_EQ(30, n);
}

/*
 * Twenty bytes that were to leave in one segment did so; unless the machine was so
 * slow that 200 ms had passed, after which they may leave one by one.
 */
#define EXPECT_ONE_SEGMENT(since) do {					\
	bool slow = now() - (since) >= 0.2;				\
	char buf[20];							\
	size_t n;							\
									\
	EXPECT_EQ(20, read_all(r->far, buf, 20));			\
	EXPECT_GE(slow ? 2 : 1, wire_count(wire, r, &n));		\
	EXPECT_EQ(20, n);						\
} while (0)

RIG_TEST(flow, cork)
{
	struct rig *r = &self->r;
	int wire;
	double t;

	CONNECT(r);
	wire = wire_open(r);
	t = now();
	ASSERT_EQ(0, set_int(r->fd, IPPROTO_TCP, TCP_CORK, 1));
	EXPECT_EQ(1, get_int(r->fd, IPPROTO_TCP, TCP_CORK));
	EXPECT_EQ(10, write(r->fd, "0123456789", 10));
	EXPECT_EQ(10, write(r->fd, "0123456789", 10));
	polled(r->far, POLLIN, QUIET);
	ASSERT_EQ(0, set_int(r->fd, IPPROTO_TCP, TCP_CORK, 0));
	EXPECT_ONE_SEGMENT(t);
}

/* Nothing is held back for ever. */
RIG_TEST(flow, more_that_never_comes)
{
	struct rig *r = &self->r;
	char buf[4];

	CONNECT(r);
	EXPECT_EQ(4, send(r->fd, "0123", 4, MSG_MORE));
	EXPECT_EQ(POLLIN, polled(r->far, POLLIN, 5000));
	EXPECT_EQ(4, read_all(r->far, buf, 4));
}

RIG_TEST(flow, corked_data_leaves_with_the_fin)
{
	struct rig *r = &self->r;
	char buf[32];

	CONNECT(r);
	ASSERT_EQ(0, set_int(r->fd, IPPROTO_TCP, TCP_CORK, 1));
	EXPECT_EQ(10, write(r->fd, "0123456789", 10));
	shutdown(r->fd, SHUT_WR);
	EXPECT_EQ(10, read_all(r->far, buf, 32));
}

/* The second byte does not wait for the first one's acknowledgement. */
RIG_TEST(flow, nodelay)
{
	struct rig *r = &self->r;
	struct seg first, next;
	int wire;

	CONNECT(r);
	ASSERT_EQ(0, set_int(r->fd, IPPROTO_TCP, TCP_NODELAY, 1));
	wire = wire_open(r);
	sock_deafen(r->far);
	EXPECT_EQ(1, write(r->fd, "a", 1));
	ASSERT_EQ(0, wire_find(wire, r, SEG_PSH, &first));
	EXPECT_EQ(1, first.len);
	EXPECT_EQ(1, write(r->fd, "b", 1));
	do {
		ASSERT_EQ(0, wire_find(wire, r, SEG_PSH, &next));
	} while (next.seq == first.seq && next.len == 1);
	EXPECT_EQ(first.seq + 1, next.seq);
	EXPECT_EQ(1, next.len);
}

/* Without TCP_NODELAY it does. */
RIG_TEST(flow, nagle)
{
	struct rig *r = &self->r;
	struct seg seg;
	int wire;

	CONNECT(r);
	wire = wire_open(r);
	sock_deafen(r->far);
	EXPECT_EQ(1, write(r->fd, "a", 1));
	ASSERT_EQ(0, wire_find(wire, r, SEG_PSH, &seg));
	EXPECT_EQ(1, write(r->fd, "b", 1));
	while (!wire_next(wire, r, &seg, QUIET))
		EXPECT_GE(1, seg.len);
	EXPECT_EQ(2, bytes_out(r->fd));
	sock_undeafen(r->far);
	EXPECT_EQ(2, read_all(r->far, back, 2));
}

static int zerocopy_done(int fd, uint32_t *from, uint32_t *to, uint8_t *origin)
{
	char room[200];
	struct msghdr msg = { .msg_control = room, .msg_controllen = 200 };
	struct sock_extended_err *e;

	if (!polled(fd, 0, 5000) || recvmsg(fd, &msg, MSG_ERRQUEUE) < 0)
		return -errno;
	if (!(msg.msg_flags & MSG_ERRQUEUE) || !CMSG_FIRSTHDR(&msg))
		return -ENOMSG;
	e = (void *)CMSG_DATA(CMSG_FIRSTHDR(&msg));
	*from = e->ee_info;
	*to = e->ee_data;
	*origin = e->ee_origin;
	return 0;
}

RIG_TEST(flow, zerocopy)
{
	struct rig *r = &self->r;
	uint32_t from = 0, to = -1, want = 0;
	uint8_t origin = 0;

	CONNECT(r);
	EXPECT_EQ(-1, recvmsg(r->fd, &(struct msghdr){ 0 }, MSG_ERRQUEUE));
	EXPECT_EQ(EAGAIN, errno);
	ASSERT_EQ(0, set_int(r->fd, SOL_SOCKET, SO_ZEROCOPY, 1));
	pattern(big, 0, 20000);
	EXPECT_EQ(10000, send(r->fd, big, 10000, MSG_ZEROCOPY));
	EXPECT_EQ(10000, send(r->fd, big + 10000, 10000, MSG_ZEROCOPY));
	EXPECT_EQ(20000, read_all(r->far, back, 20000));
	EXPECT_TRUE(pattern_ok(back, 0, 20000));
	while (to != 1) {
		ASSERT_EQ(0, zerocopy_done(r->fd, &from, &to, &origin));
		EXPECT_EQ(SO_EE_ORIGIN_ZEROCOPY, origin);
		EXPECT_EQ(want, from);
		want = to + 1;
	}
	EXPECT_EQ(0, polled(r->fd, 0, 0));
}

/* Without SO_ZEROCOPY the flag means nothing. */
RIG_TEST(flow, zerocopy_not_asked_for)
{
	struct rig *r = &self->r;

	CONNECT(r);
	EXPECT_EQ(5, send(r->fd, "hello", 5, MSG_ZEROCOPY));
	EXPECT_EQ(5, read_all(r->far, back, 5));
	EXPECT_EQ(0, polled(r->fd, 0, QUIET));
}

RIG_TEST(flow, many_messages)
{
	struct rig *r = &self->r;
	struct timespec ts = { .tv_sec = 2 };
	struct iovec out[3] = { { "ab", 2 }, { "cde", 3 }, { "f", 1 } };
	char a[3], b[2], c[9];
	struct iovec in[3] = { { a, 3 }, { b, 2 }, { c, 9 } };
	struct mmsghdr v[3];
	int i;

	CONNECT(r);
	memset(v, 0, sizeof(v));
	for (i = 0; i < 3; i++)
		v[i].msg_hdr = (struct msghdr) { .msg_iov = &out[i],
						 .msg_iovlen = 1 };
	EXPECT_EQ(3, sendmmsg(r->fd, v, 3, 0));
	EXPECT_EQ(3, v[1].msg_len);
	EXPECT_EQ(6, read_all(r->far, back, 6));
	EXPECT_EQ(0, memcmp(back, "abcdef", 6));

	EXPECT_EQ(6, write_all(r->far, "abcdef", 6));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 6));
	for (i = 0; i < 3; i++)
		v[i].msg_hdr.msg_iov = &in[i];
	EXPECT_EQ(3, recvmmsg(r->fd, v, 3, MSG_WAITFORONE, &ts));
	EXPECT_EQ(3, v[0].msg_len);
	EXPECT_EQ(2, v[1].msg_len);
	EXPECT_EQ(1, v[2].msg_len);
	EXPECT_EQ('f', c[0]);
}

RIG_TEST(flow, rcvlowat)
{
	struct rig *r = &self->r;
	char buf[16];
	struct job job = { job_recv, .buf = buf, .len = 16 };

	CONNECT(r);
	ASSERT_EQ(0, set_int(r->fd, SOL_SOCKET, SO_RCVLOWAT, 5));
	EXPECT_EQ(5, get_int(r->fd, SOL_SOCKET, SO_RCVLOWAT));
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	EXPECT_EQ(0, polled(r->fd, POLLIN, QUIET));
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	/* As many again: native looks at what is in the queue alone. */
	EXPECT_EQ(5, write_all(r->far, "defgh", 5));
	EXPECT_EQ(8, job_end(&job));
	/* fewer are readable when there will be no more */
	EXPECT_EQ(1, write_all(r->far, "g", 1));
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(POLLIN, polled(r->fd, POLLIN, 5000));
	EXPECT_EQ(1, recv(r->fd, buf, 16, 0));
}

RIG_TEST(flow, queue_lengths)
{
	struct rig *r = &self->r;
	int n = -1;

	CONNECT(r);
	EXPECT_EQ(0, bytes_in(r->fd));
	EXPECT_EQ(0, bytes_out(r->fd));
	sock_deafen(r->far);
	EXPECT_EQ(7, send(r->fd, "abcdefg", 7, 0));
	EXPECT_EQ(7, bytes_out(r->fd));
	EXPECT_TRUE(WAIT_FOR(!ioctl(r->fd, SIOCOUTQNSD, &n) && !n));
	EXPECT_EQ(7, write_all(r->far, "abcdefg", 7));
	EXPECT_TRUE(WAIT_FOR(bytes_in(r->fd) == 7));
	sock_undeafen(r->far);
	EXPECT_TRUE(WAIT_FOR(bytes_out(r->fd) == 0));
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(POLLRDHUP, polled(r->fd, POLLRDHUP, 5000));
	EXPECT_EQ(7, bytes_in(r->fd));
}

RIG_TEST(flow, inq_message)
{
	struct rig *r = &self->r;
	char room[64], buf[4];
	struct iovec iov = { buf, 4 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
		.msg_controllen = sizeof(room),
	};
	struct cmsghdr *c;

	CONNECT(r);
	ASSERT_EQ(0, set_int(r->fd, IPPROTO_TCP, TCP_INQ, 1));
	EXPECT_EQ(7, write_all(r->far, "abcdefg", 7));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 7));
	EXPECT_EQ(4, recvmsg(r->fd, &msg, 0));
	c = CMSG_FIRSTHDR(&msg);
	ASSERT_NE(NULL, c);
	EXPECT_EQ(TCP_CM_INQ, c->cmsg_type);
	EXPECT_EQ(3, *(int *)CMSG_DATA(c));
}

TEST_HARNESS_MAIN
