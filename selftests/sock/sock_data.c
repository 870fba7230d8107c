// SPDX-License-Identifier: Apache-2.0
/* Bytes: what moves them, what only looks, and what ends a wait for them. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "kselftest_harness.h"
#include "rig.h"

RIG_SUITE(data);

#define KIB	1024
#define MIB	(1024 * KIB)

static char big[2 * MIB], back[2 * MIB];

RIG_TEST(data, round_trip)
{
	struct rig *r = &self->r;
	char buf[16];

	CONNECT(r);
	EXPECT_EQ(5, write(r->fd, "hello", 5));
	EXPECT_EQ(5, read_all(r->far, buf, 5));
	EXPECT_EQ(0, memcmp(buf, "hello", 5));
	EXPECT_EQ(5, write_all(r->far, "world", 5));
	EXPECT_EQ(5, recv(r->fd, buf, 16, 0));
	EXPECT_EQ(0, memcmp(buf, "world", 5));
}

RIG_TEST(data, vectors)
{
	struct rig *r = &self->r;
	char a[2], b[30];
	struct iovec out[] = { { "ab", 2 }, { "", 0 }, { "cdefg", 5 } };
	struct iovec in[] = { { a, 2 }, { b, 30 } };
	struct msghdr msg = { .msg_iov = in, .msg_iovlen = 2 };

	CONNECT(r);
	EXPECT_EQ(7, writev(r->fd, out, 3));
	EXPECT_EQ(7, read_all(r->far, back, 7));
	EXPECT_EQ(0, memcmp(back, "abcdefg", 7));
	EXPECT_EQ(7, write_all(r->far, "abcdefg", 7));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 7));
	msg.msg_flags = 0x7fff;
	EXPECT_EQ(7, recvmsg(r->fd, &msg, 0));
	EXPECT_EQ(0, msg.msg_flags);
	EXPECT_EQ(0, memcmp(a, "ab", 2));
	EXPECT_EQ(0, memcmp(b, "cdefg", 5));
	EXPECT_EQ(7, write_all(r->far, "abcdefg", 7));
	EXPECT_EQ(7, readv(r->fd, in, 2));
}

RIG_TEST(data, addresses_are_ignored)
{
	struct rig *r = &self->r;
	struct addr from = { .len = sizeof(from.in6) };
	char c;

	CONNECT(r);
	EXPECT_EQ(1, sendto(r->fd, "x", 1, 0, &r->to.sa, r->to.len));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(1, recvfrom(r->fd, &c, 1, 0, &from.sa, &from.len));
	EXPECT_EQ(0, from.len);
}

RIG_TEST(data, nothing)
{
	struct rig *r = &self->r;
	char c;

	CONNECT(r);
	EXPECT_EQ(0, send(r->fd, "", 0, 0));
	EXPECT_EQ(0, write(r->fd, "", 0));
	EXPECT_EQ(0, read(r->fd, &c, 0));
	EXPECT_EQ(-1, recv(r->fd, &c, 0, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	ASSERT_EQ(POLLIN, polled(r->fd, POLLIN, 5000));
	EXPECT_EQ(0, recv(r->fd, &c, 0, 0));
	EXPECT_EQ(1, recv(r->fd, &c, 1, 0));
}

RIG_TEST(data, would_block)
{
	struct rig *r = &self->r;
	char c;

	CONNECT(r);
	EXPECT_EQ(-1, recv(r->fd, &c, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	fcntl(r->fd, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-1, read(r->fd, &c, 1));
	EXPECT_EQ(EAGAIN, errno);
	fcntl(r->fd, F_SETFL, 0);
	ioctl(r->fd, FIONBIO, &(int){ 1 });
	EXPECT_EQ(-1, recv(r->fd, &c, 1, 0));
	EXPECT_EQ(EAGAIN, errno);
}

RIG_TEST(data, peek)
{
	struct rig *r = &self->r;
	char buf[8] = "";

	CONNECT(r);
	EXPECT_EQ(6, write_all(r->far, "abcdef", 6));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 6));
	EXPECT_EQ(3, recv(r->fd, buf, 3, MSG_PEEK));
	EXPECT_STREQ("abc", buf);
	EXPECT_EQ(6, recv(r->fd, buf, 8, MSG_PEEK));
	EXPECT_STREQ("abcdef", buf);
	EXPECT_EQ(6, bytes_in(r->fd));
	EXPECT_EQ(6, recv(r->fd, buf, 8, 0));
	EXPECT_EQ(0, bytes_in(r->fd));
}

RIG_TEST(data, peek_offset)
{
	struct rig *r = &self->r;
	char buf[8] = "";

	CONNECT(r);
	EXPECT_EQ(-1, get_int(r->fd, SOL_SOCKET, SO_PEEK_OFF));
	ASSERT_EQ(0, set_int(r->fd, SOL_SOCKET, SO_PEEK_OFF, 1));
	EXPECT_EQ(6, write_all(r->far, "abcdef", 6));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 6));
	EXPECT_EQ(2, recv(r->fd, buf, 2, MSG_PEEK));
	EXPECT_EQ(0, memcmp(buf, "bc", 2));
	EXPECT_EQ(3, get_int(r->fd, SOL_SOCKET, SO_PEEK_OFF));
	EXPECT_EQ(2, recv(r->fd, buf, 2, MSG_PEEK));
	EXPECT_EQ(0, memcmp(buf, "de", 2));
	EXPECT_EQ(2, recv(r->fd, buf, 2, 0));
	EXPECT_EQ(0, memcmp(buf, "ab", 2));
	EXPECT_EQ(3, get_int(r->fd, SOL_SOCKET, SO_PEEK_OFF));
	EXPECT_EQ(1, recv(r->fd, buf, 8, MSG_PEEK));
	EXPECT_EQ('f', buf[0]);
}

RIG_TEST(data, trunc_throws_away)
{
	struct rig *r = &self->r;
	char buf[8];

	CONNECT(r);
	EXPECT_EQ(6, write_all(r->far, "abcdef", 6));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 6));
	EXPECT_EQ(4, recv(r->fd, NULL, 4, MSG_TRUNC));
	EXPECT_EQ(2, recv(r->fd, buf, 8, 0));
	EXPECT_EQ(0, memcmp(buf, "ef", 2));
}

static void on_signal(int sig)
{
}

static void handle(int sig, int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };

	sigaction(sig, &sa, NULL);
}

RIG_TEST(data, waitall)
{
	struct rig *r = &self->r;
	char buf[8];
	struct job job = { job_recv, .buf = buf, .len = 6, .arg = MSG_WAITALL };

	CONNECT(r);
	job.fd = r->fd;
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(3, write_all(r->far, "def", 3));
	EXPECT_EQ(6, job_end(&job));
	EXPECT_EQ(0, memcmp(buf, "abcdef", 6));
}

RIG_TEST(data, waitall_ended_by_fin)
{
	struct rig *r = &self->r;
	char buf[8];

	CONNECT(r);
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(3, recv(r->fd, buf, 8, MSG_WAITALL));
	EXPECT_EQ(0, recv(r->fd, buf, 8, MSG_WAITALL));
}

RIG_TEST(data, waitall_ended_by_a_signal)
{
	struct rig *r = &self->r;
	char buf[8];
	struct job job = { job_recv, .buf = buf, .len = 6, .arg = MSG_WAITALL };

	CONNECT(r);
	handle(SIGUSR1, SA_RESTART);
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	pthread_kill(job.thread, SIGUSR1);
	EXPECT_EQ(3, job_end(&job));
}

RIG_TEST(data, waitall_ended_by_time)
{
	struct rig *r = &self->r;
	char buf[8];

	CONNECT(r);
	set_timeout(r->fd, SO_RCVTIMEO, 50);
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	EXPECT_EQ(3, recv(r->fd, buf, 6, MSG_WAITALL));
}

RIG_TEST(data, recv_interrupted)
{
	struct rig *r = &self->r;
	char c;
	struct job job = { job_recv, .buf = &c, .len = 1 };

	CONNECT(r);
	handle(SIGUSR1, 0);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	pthread_kill(job.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, job_end(&job));
}

RIG_TEST(data, recv_restarted)
{
	struct rig *r = &self->r;
	char c = 0;
	struct job job = { job_recv, .buf = &c, .len = 1 };

	CONNECT(r);
	handle(SIGUSR1, SA_RESTART);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	pthread_kill(job.thread, SIGUSR1);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(1, job_end(&job));
	EXPECT_EQ('x', c);
}

/* With a timeout there is no restart: who knows how much of it is left? */
RIG_TEST(data, recv_with_timeout_not_restarted)
{
	struct rig *r = &self->r;
	char c;
	struct job job = { job_recv, .buf = &c, .len = 1 };

	CONNECT(r);
	handle(SIGUSR1, SA_RESTART);
	set_timeout(r->fd, SO_RCVTIMEO, 4000);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	pthread_kill(job.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, job_end(&job));
}

RIG_TEST(data, rcvtimeo)
{
	struct rig *r = &self->r;
	double t = now();
	char c;

	CONNECT(r);
	set_timeout(r->fd, SO_RCVTIMEO, 60);
	EXPECT_EQ(-1, recv(r->fd, &c, 1, 0));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_LE(0.05, now() - t);
	EXPECT_GT(2, now() - t);
}

RIG_TEST(data, sndtimeo)
{
	struct rig *r = &self->r;
	size_t put;
	double t;

	CONNECT(r);
	sock_deafen(r->far);	/* or acknowledgements make new room */
	put = fill(r->fd);
	EXPECT_LT(0, put);
	set_timeout(r->fd, SO_SNDTIMEO, 60);
	t = now();
	EXPECT_EQ(-1, send(r->fd, big, sizeof(big), 0));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_LE(0.05, now() - t);
	EXPECT_GT(2, now() - t);
}

/* What fitted is said, not that the rest did not. */
RIG_TEST(data, sndtimeo_in_part)
{
	struct rig *r = &self->r;
	ssize_t n, size = 32 * MIB;
	char *huge = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CONNECT(r);
	set_timeout(r->fd, SO_SNDTIMEO, 200);
	n = send(r->fd, huge, size, 0);
	EXPECT_LT(0, n);
	EXPECT_GT(size, n);
}

RIG_TEST(data, send_interrupted)
{
	struct rig *r = &self->r;
	struct job job = { job_send, .buf = big, .len = sizeof(big) };

	CONNECT(r);
	handle(SIGUSR1, 0);
	sock_deafen(r->far);
	fill(r->fd);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	pthread_kill(job.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, job_end(&job));
}

/* The peer's window closes, and opens again. */
RIG_TEST(data, full_window)
{
	struct rig *r = &self->r;
	size_t put, got, n;

	CONNECT(r);
	put = fill(r->fd);
	EXPECT_LT(64 * KIB, put);
	EXPECT_EQ(0, polled(r->fd, POLLOUT, QUIET));
	EXPECT_LT(0, bytes_out(r->fd));
	shutdown(r->fd, SHUT_WR);
	for (got = 0; (n = read_all(r->far, back, sizeof(back))) > 0; got += n)
		EXPECT_TRUE(pattern_ok(back, got, n));
	EXPECT_EQ(put, got);
	EXPECT_TRUE(WAIT_FOR(bytes_out(r->fd) == 0));
}

/* Ours closes and opens again. */
RIG_TEST(data, our_full_window)
{
	struct rig *r = &self->r;
	size_t put, got, n;

	CONNECT(r);
	put = fill(r->far);
	EXPECT_LT(64 * KIB, put);
	EXPECT_LT(0, bytes_in(r->fd));
	shutdown(r->far, SHUT_WR);
	for (got = 0; (n = read_all(r->fd, back, sizeof(back))) > 0; got += n)
		EXPECT_TRUE(pattern_ok(back, got, n));
	EXPECT_EQ(put, got);
}

RIG_TEST(data, both_ways_at_once)
{
	struct rig *r = &self->r;
	struct job up = { job_write_all, .buf = big, .len = sizeof(big) };
	struct job down = up;

	CONNECT(r);
	pattern(big, 0, sizeof(big));
	up.fd = r->fd;
	down.fd = r->far;
	job_start(&up);
	job_start(&down);
	EXPECT_EQ(sizeof(back), read_all(r->fd, back, sizeof(back)));
	EXPECT_TRUE(pattern_ok(back, 0, sizeof(back)));
	EXPECT_EQ(sizeof(back), read_all(r->far, back, sizeof(back)));
	EXPECT_TRUE(pattern_ok(back, 0, sizeof(back)));
	EXPECT_EQ(sizeof(big), job_end(&up));
	EXPECT_EQ(sizeof(big), job_end(&down));
}

RIG_TEST(data, urgent_to_us)
{
	struct rig *r = &self->r;
	char c = 0;
	int mark = -1;

	CONNECT(r);
	EXPECT_EQ(2, write_all(r->far, "ab", 2));
	EXPECT_EQ(1, send(r->far, "!", 1, MSG_OOB));
	EXPECT_EQ(POLLPRI, polled(r->fd, POLLPRI, 2000));
	EXPECT_EQ(1, recv(r->fd, &c, 1, MSG_OOB));
	EXPECT_EQ('!', c);
	EXPECT_EQ(2, recv(r->fd, back, 10, 0));
	EXPECT_EQ(0, ioctl(r->fd, SIOCATMARK, &mark));
	EXPECT_EQ(1, mark);
}

RIG_TEST(data, urgent_from_us)
{
	struct rig *r = &self->r;
	char c = 0;

	CONNECT(r);
	EXPECT_EQ(1, send(r->fd, "!", 1, MSG_OOB));
	EXPECT_EQ(POLLPRI, polled(r->far, POLLPRI, 2000));
	EXPECT_EQ(1, recv(r->far, &c, 1, MSG_OOB | MSG_DONTWAIT));
	EXPECT_EQ('!', c);
}

RIG_TEST(data, no_urgent)
{
	struct rig *r = &self->r;
	int mark = -1;
	char c;

	CONNECT(r);
	EXPECT_EQ(-1, recv(r->fd, &c, 1, MSG_OOB));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, ioctl(r->fd, SIOCATMARK, &mark));
	EXPECT_EQ(0, mark);
}

RIG_TEST(data, bad_pointers)
{
	struct rig *r = &self->r;
	char c;

	CONNECT(r);
	EXPECT_EQ(-1, send(r->fd, (void *)8, 10, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_EQ(POLLIN, polled(r->fd, POLLIN, 5000));
	EXPECT_EQ(-1, recv(r->fd, (void *)8, 3, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, recvmsg(r->fd, (void *)8, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(r->fd, FIONREAD, (void *)8));
	EXPECT_EQ(EFAULT, errno);
	/* Nothing was lost. */
	EXPECT_EQ(3, bytes_in(r->fd));
	EXPECT_EQ(1, recv(r->fd, &c, 1, 0));
	EXPECT_EQ('a', c);
	EXPECT_EQ(1, send(r->fd, "z", 1, 0));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
	EXPECT_EQ('z', c);
}

/* What could be read of the buffer is sent. */
RIG_TEST(data, half_a_bad_buffer)
{
	struct rig *r = &self->r;
	char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t n;

	CONNECT(r);
	munmap(two + 4096, 4096);
	pattern(two, 0, 4096);
	n = send(r->fd, two, 8192, 0);
	shutdown(r->fd, SHUT_WR);
	if (n > 0) {
		EXPECT_GE(4096, n);
		EXPECT_EQ(n, read_all(r->far, back, 8192));
		EXPECT_TRUE(pattern_ok(back, 0, n));
	} else {
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(0, read_all(r->far, back, 8192));
	}
}

RIG_TEST(data, not_a_file)
{
	struct rig *r = &self->r;
	struct stat st;
	char c;

	CONNECT(r);
	EXPECT_EQ(-1, lseek(r->fd, 0, SEEK_SET));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, pread(r->fd, &c, 1, 0));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, ioctl(r->fd, 0x5401 /* TCGETS */, &st));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, fsync(r->fd));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, fstat(r->fd, &st));
	EXPECT_TRUE(S_ISSOCK(st.st_mode));
}

TEST_HARNESS_MAIN
