// SPDX-License-Identifier: Apache-2.0
/* io_uring: the same operations, and their completions. */
#include <liburing.h>

#include "kselftest_harness.h"
#include "rig.h"

FIXTURE(uring) {
	struct rig r;
	struct io_uring ring;
};
FIXTURE_VARIANT(uring) { enum rig_family family; };
FIXTURE_VARIANT_ADD(uring, v4) { .family = RIG_V4 };
FIXTURE_VARIANT_ADD(uring, v6) { .family = RIG_V6 };
FIXTURE_VARIANT_ADD(uring, mapped) { .family = RIG_MAPPED };

FIXTURE_SETUP(uring)
{
	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(0, rig_up(&self->r, variant->family));
	ASSERT_EQ(0, io_uring_queue_init(16, &self->ring, 0));
}

FIXTURE_TEARDOWN(uring)
{
	io_uring_queue_exit(&self->ring);
	rig_down(&self->r);
}

/* The next completion; -ETIME after @ms. */
static int done(struct io_uring *ring, unsigned int *flags, int ms)
{
	struct __kernel_timespec ts = { ms / 1000, ms % 1000 * 1000000LL };
	struct io_uring_cqe *cqe;
	int ret;

	ret = io_uring_wait_cqe_timeout(ring, &cqe, &ts);
	if (ret)
		return ret;
	ret = cqe->res;
	if (flags)
		*flags = cqe->flags;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

#define SQE()		io_uring_get_sqe(&self->ring)
#define SUBMIT()	ASSERT_EQ(1, io_uring_submit(&self->ring))
#define DONE()		done(&self->ring, NULL, 5000)
#define NOTHING()	EXPECT_EQ(-ETIME, done(&self->ring, NULL, QUIET))

RIG_TEST(uring, connect)
{
	struct rig *r = &self->r;

	sock_deafen(r->lis);
	r->fd = rig_socket(r, 0);
	io_uring_prep_connect(SQE(), r->fd, &r->to.sa, r->to.len);
	SUBMIT();
	NOTHING();
	sock_undeafen(r->lis);
	EXPECT_EQ(0, DONE());
	EXPECT_EQ(0, rig_accept(r));
	EXPECT_EQ(r->adopted, rig_is_adopted(r->fd));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->fd));
}

RIG_TEST(uring, connect_refused)
{
	struct rig *r = &self->r;

	close(r->lis);
	r->lis = -1;
	r->fd = rig_socket(r, 0);
	io_uring_prep_connect(SQE(), r->fd, &r->to.sa, r->to.len);
	SUBMIT();
	EXPECT_EQ(-ECONNREFUSED, DONE());
}

RIG_TEST(uring, send_and_recv)
{
	struct rig *r = &self->r;
	char buf[8];

	CONNECT(r);
	io_uring_prep_send(SQE(), r->fd, "hello", 5, 0);
	SUBMIT();
	EXPECT_EQ(5, DONE());
	EXPECT_EQ(5, read_all(r->far, buf, 5));
	io_uring_prep_recv(SQE(), r->fd, buf, 8, 0);
	SUBMIT();
	NOTHING();
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	EXPECT_EQ(3, DONE());
	EXPECT_EQ(0, memcmp(buf, "abc", 3));
}

RIG_TEST(uring, read_and_write)
{
	struct rig *r = &self->r;
	char buf[8];

	CONNECT(r);
	io_uring_prep_write(SQE(), r->fd, "hello", 5, 0);
	SUBMIT();
	EXPECT_EQ(5, DONE());
	EXPECT_EQ(5, read_all(r->far, buf, 5));
	io_uring_prep_read(SQE(), r->fd, buf, 8, 0);
	SUBMIT();
	EXPECT_EQ(2, write_all(r->far, "ab", 2));
	EXPECT_EQ(2, DONE());
}

RIG_TEST(uring, recv_waitall)
{
	struct rig *r = &self->r;
	char buf[8];

	CONNECT(r);
	io_uring_prep_recv(SQE(), r->fd, buf, 6, MSG_WAITALL);
	SUBMIT();
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	NOTHING();
	EXPECT_EQ(3, write_all(r->far, "def", 3));
	EXPECT_EQ(6, DONE());
	EXPECT_EQ(0, memcmp(buf, "abcdef", 6));
}

RIG_TEST(uring, recv_ended)
{
	struct rig *r = &self->r;
	char buf[8];

	CONNECT(r);
	io_uring_prep_recv(SQE(), r->fd, buf, 6, 0);
	SUBMIT();
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(0, DONE());
	reset_now(r->far);
	r->far = -1;
	ASSERT_NE(0, polled(r->fd, POLLERR, 5000));
	io_uring_prep_send(SQE(), r->fd, "x", 1, MSG_NOSIGNAL);
	SUBMIT();
	EXPECT_EQ(-EPIPE, DONE());
}

RIG_TEST(uring, recv_cancelled)
{
	struct rig *r = &self->r;
	struct io_uring_sqe *sqe;
	char buf[8];
	int a, b;

	CONNECT(r);
	sqe = SQE();
	io_uring_prep_recv(sqe, r->fd, buf, 6, 0);
	io_uring_sqe_set_data64(sqe, 77);
	SUBMIT();
	NOTHING();
	io_uring_prep_cancel64(SQE(), 77, 0);
	SUBMIT();
	a = DONE();
	b = DONE();
	EXPECT_TRUE((a == -ECANCELED && b == 0) || (b == -ECANCELED && a == 0));
	/* Nothing is eaten by a dead request. */
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(1, read_all(r->fd, buf, 1));
}

RIG_TEST(uring, recv_with_a_timeout)
{
	struct rig *r = &self->r;
	struct __kernel_timespec ts = { .tv_nsec = 50000000 };
	struct io_uring_sqe *sqe;
	char buf[8];
	int a, b;

	CONNECT(r);
	sqe = SQE();
	io_uring_prep_recv(sqe, r->fd, buf, 6, 0);
	sqe->flags |= IOSQE_IO_LINK;
	io_uring_prep_link_timeout(SQE(), &ts, 0);
	ASSERT_EQ(2, io_uring_submit(&self->ring));
	a = DONE();
	b = DONE();
	EXPECT_TRUE((a == -ECANCELED && b == -ETIME) ||
		    (b == -ECANCELED && a == -ETIME));
}

RIG_TEST(uring, multishot_recv)
{
	struct rig *r = &self->r;
	static char bufs[4][64];
	struct io_uring_sqe *sqe;
	unsigned int flags = 0;
	char word[8];
	int i;

	CONNECT(r);
	io_uring_prep_provide_buffers(SQE(), bufs, 64, 4, 5, 0);
	SUBMIT();
	ASSERT_EQ(0, DONE());
	sqe = SQE();
	io_uring_prep_recv_multishot(sqe, r->fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = 5;
	SUBMIT();
	for (i = 0; i < 3; i++) {
		snprintf(word, sizeof(word), "msg%d", i);
		EXPECT_EQ(4, write_all(r->far, word, 4));
		ASSERT_EQ(4, done(&self->ring, &flags, 5000));
		EXPECT_TRUE(flags & IORING_CQE_F_MORE);
		ASSERT_TRUE(flags & IORING_CQE_F_BUFFER);
		EXPECT_EQ(0, memcmp(bufs[flags >> IORING_CQE_BUFFER_SHIFT], word, 4));
	}
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(0, done(&self->ring, &flags, 5000));
	EXPECT_FALSE(flags & IORING_CQE_F_MORE);
}

RIG_TEST(uring, poll)
{
	struct rig *r = &self->r;

	CONNECT(r);
	io_uring_prep_poll_add(SQE(), r->fd, POLLOUT);
	SUBMIT();
	EXPECT_EQ(POLLOUT, DONE());
	io_uring_prep_poll_add(SQE(), r->fd, POLLIN | POLLRDHUP);
	SUBMIT();
	NOTHING();
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(POLLIN | POLLRDHUP, DONE());
}

RIG_TEST(uring, multishot_poll)
{
	struct rig *r = &self->r;
	unsigned int flags = 0;
	int i;

	CONNECT(r);
	io_uring_prep_poll_multishot(SQE(), r->fd, POLLIN);
	SUBMIT();
	NOTHING();
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, write_all(r->far, "x", 1));
		EXPECT_EQ(POLLIN, done(&self->ring, &flags, 5000));
		EXPECT_TRUE(flags & IORING_CQE_F_MORE);
		NOTHING();
	}
}

RIG_TEST(uring, send_into_a_full_window)
{
	struct rig *r = &self->r;
	static char back[65536];
	size_t put;

	CONNECT(r);
	put = fill(r->fd);
	io_uring_prep_send(SQE(), r->fd, back, sizeof(back),
			   MSG_WAITALL | MSG_NOSIGNAL);
	SUBMIT();
	while (put > 0) {
		ssize_t n = recv(r->far, back, sizeof(back), 0);

		ASSERT_LT(0, n);
		put -= (size_t)n < put ? n : put;
	}
	EXPECT_EQ(sizeof(back), DONE());
}

RIG_TEST(uring, send_zc)
{
	struct rig *r = &self->r;
	unsigned int flags = 0;
	char buf[8];

	CONNECT(r);
	io_uring_prep_send_zc(SQE(), r->fd, "zcopy", 5, 0, 0);
	SUBMIT();
	EXPECT_EQ(5, done(&self->ring, &flags, 5000));
	EXPECT_TRUE(flags & IORING_CQE_F_MORE);
	EXPECT_EQ(5, read_all(r->far, buf, 5));
	EXPECT_EQ(0, memcmp(buf, "zcopy", 5));
	EXPECT_EQ(0, done(&self->ring, &flags, 5000));
	EXPECT_TRUE(flags & IORING_CQE_F_NOTIF);
}

RIG_TEST(uring, messages)
{
	struct rig *r = &self->r;
	char a[2], b[8];
	struct iovec out[] = { { "ab", 2 }, { "cd", 2 } };
	struct iovec in[] = { { a, 2 }, { b, 8 } };
	struct msghdr tx = { .msg_iov = out, .msg_iovlen = 2 };
	struct msghdr rx = { .msg_iov = in, .msg_iovlen = 2 };

	CONNECT(r);
	io_uring_prep_sendmsg(SQE(), r->fd, &tx, 0);
	SUBMIT();
	EXPECT_EQ(4, DONE());
	EXPECT_EQ(4, read_all(r->far, b, 4));
	io_uring_prep_recvmsg(SQE(), r->fd, &rx, 0);
	SUBMIT();
	EXPECT_EQ(5, write_all(r->far, "vwxyz", 5));
	EXPECT_EQ(5, DONE());
	EXPECT_EQ('v', a[0]);
	EXPECT_EQ('x', b[0]);
}

RIG_TEST(uring, shutdown_and_close)
{
	struct rig *r = &self->r;

	CONNECT(r);
	io_uring_prep_shutdown(SQE(), r->fd, SHUT_WR);
	SUBMIT();
	EXPECT_EQ(0, DONE());
	EXPECT_EQ(0, drain(r->far, NULL));
	io_uring_prep_close(SQE(), r->fd);
	SUBMIT();
	EXPECT_EQ(0, DONE());
	r->fd = -1;
}

RIG_TEST(uring, registered_file)
{
	struct rig *r = &self->r;
	struct io_uring_sqe *sqe;
	char c;

	CONNECT(r);
	ASSERT_EQ(0, io_uring_register_files(&self->ring, &r->fd, 1));
	close(r->fd);
	r->fd = -1;
	sqe = SQE();
	io_uring_prep_send(sqe, 0, "x", 1, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	SUBMIT();
	EXPECT_EQ(1, DONE());
	EXPECT_EQ(1, read_all(r->far, &c, 1));
	EXPECT_EQ(0, io_uring_unregister_files(&self->ring));
	EXPECT_EQ(0, drain(r->far, NULL));
}

TEST_HARNESS_MAIN
