// SPDX-License-Identifier: Apache-2.0
/*
 * The end of a connection, and what the wire is told of it: each test asks both
 * ends. The states are of the kernel's own tables, of our netns and the peer's.
 */
#include "kselftest_harness.h"
#include "rig.h"
#include "wire.h"

FIXTURE(close) {
	struct rig r;
	int nl, far_nl;
	struct addr me, they;		/* by our family */
	struct addr far_me, far_they;	/* by the peer's */
};
FIXTURE_VARIANT(close) { enum rig_family family; };
FIXTURE_VARIANT_ADD(close, v4) { .family = RIG_V4 };
FIXTURE_VARIANT_ADD(close, v6) { .family = RIG_V6 };
FIXTURE_VARIANT_ADD(close, mapped) { .family = RIG_MAPPED };

FIXTURE_SETUP(close)
{
	struct rig *r = &self->r;

	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(0, rig_up(r, variant->family));
	ASSERT_EQ(0, rig_connect(r));
	self->nl = diag_open();
	self->far_nl = rig_peer_diag(r);
	self->me = sock_name(r->fd);
	self->they = peer_name(r->fd);
	self->far_me = sock_name(r->far);
	self->far_they = peer_name(r->far);
}

FIXTURE_TEARDOWN(close)
{
	rig_down(&self->r);
}

#define OURS	diag_state(self->nl, &self->me, &self->they)
/* The shim's sockets are in no table of the kernel's: no answer is right there. */
#define OURS_IS(state)	(getenv("DMM_UNLISTED") || OURS == (state))
#define THEIRS	diag_state(self->far_nl, &self->far_me, &self->far_they)

static int give_up(int *fd)
{
	int err = close(*fd);

	*fd = -1;
	return err;
}

RIG_TEST(close, first)
{
	struct rig *r = &self->r;

	EXPECT_EQ(0, give_up(&r->fd));
	EXPECT_EQ(0, drain(r->far, NULL));
	EXPECT_EQ(TCP_CLOSE_WAIT, tcp_state(r->far));
	EXPECT_TRUE(WAIT_FOR(OURS_IS(TCP_FIN_WAIT2)));
	give_up(&r->far);
	EXPECT_TRUE(WAIT_FOR(OURS_IS(TCP_TIME_WAIT)));
	EXPECT_TRUE(WAIT_FOR(THEIRS == 0));
	EXPECT_TRUE(OURS_IS(TCP_TIME_WAIT));
}

RIG_TEST(close, second)
{
	struct rig *r = &self->r;

	give_up(&r->far);
	EXPECT_EQ(0, drain(r->fd, NULL));
	EXPECT_EQ(TCP_CLOSE_WAIT, tcp_state(r->fd));
	EXPECT_TRUE(OURS_IS(TCP_CLOSE_WAIT));
	give_up(&r->fd);
	EXPECT_TRUE(WAIT_FOR(OURS_IS(0)));
	EXPECT_TRUE(WAIT_FOR(THEIRS == TCP_TIME_WAIT));
}

/* Our FIN is lost while theirs comes. */
RIG_TEST(close, both_at_once)
{
	struct rig *r = &self->r;
	int wire = wire_open(r);
	struct seg seg;

	sock_deafen(r->far);
	give_up(&r->fd);
	ASSERT_EQ(0, wire_find(wire, r, SEG_FIN, &seg));
	shutdown(r->far, SHUT_WR);
	EXPECT_TRUE(WAIT_FOR(OURS_IS(TCP_CLOSING)));
	sock_undeafen(r->far);
	EXPECT_TRUE(WAIT_FOR(OURS_IS(TCP_TIME_WAIT)));
	/* In which order our FIN and our acknowledgement come, nobody knows. */
	EXPECT_EQ(0, drain(r->far, NULL));
	EXPECT_TRUE(WAIT_FOR(THEIRS == TCP_TIME_WAIT || THEIRS == 0));
}

RIG_TEST(close, with_data_in_flight)
{
	struct rig *r = &self->r;
	size_t put = fill(r->fd), got;

	EXPECT_LT(0, put);
	EXPECT_EQ(0, give_up(&r->fd));
	EXPECT_TRUE(OURS_IS(TCP_FIN_WAIT1));
	EXPECT_EQ(0, drain(r->far, &got));
	EXPECT_EQ(put, got);
}

RIG_TEST(close, with_unread_data)
{
	struct rig *r = &self->r;

	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	EXPECT_EQ(0, give_up(&r->fd));
	EXPECT_EQ(-ECONNRESET, drain(r->far, NULL));
	EXPECT_EQ(TCP_CLOSE, tcp_state(r->far));
	EXPECT_EQ(0, OURS);
}

RIG_TEST(close, with_unread_data_and_their_fin)
{
	struct rig *r = &self->r;

	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	shutdown(r->far, SHUT_WR);
	ASSERT_NE(0, polled(r->fd, POLLRDHUP, 5000));
	EXPECT_EQ(0, give_up(&r->fd));
	/* a RST in FIN_WAIT2 */
	EXPECT_TRUE(WAIT_FOR(tcp_state(r->far) == TCP_CLOSE));
	EXPECT_EQ(0, THEIRS);
	EXPECT_EQ(0, OURS);
}

RIG_TEST(close, with_data_peeked_at)
{
	struct rig *r = &self->r;
	char c;

	EXPECT_EQ(1, write_all(r->far, "a", 1));
	EXPECT_EQ(1, recv(r->fd, &c, 1, MSG_PEEK));
	EXPECT_EQ(0, give_up(&r->fd));
	EXPECT_EQ(-ECONNRESET, drain(r->far, NULL));
}

RIG_TEST(close, data_after_it_draws_a_rst)
{
	struct rig *r = &self->r;

	EXPECT_EQ(0, give_up(&r->fd));
	EXPECT_EQ(0, drain(r->far, NULL));
	EXPECT_TRUE(WAIT_FOR(OURS_IS(TCP_FIN_WAIT2)));
	EXPECT_EQ(1, send(r->far, "x", 1, MSG_NOSIGNAL));
	EXPECT_TRUE(WAIT_FOR(tcp_state(r->far) == TCP_CLOSE));
	EXPECT_EQ(-1, send(r->far, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_TRUE(WAIT_FOR(OURS_IS(0)));
}

RIG_TEST(close, linger_none)
{
	struct rig *r = &self->r;

	reset_now(r->fd);
	r->fd = -1;
	EXPECT_EQ(-ECONNRESET, drain(r->far, NULL));
	EXPECT_EQ(0, OURS);
	EXPECT_EQ(0, THEIRS);
}

RIG_TEST(close, linger_none_throws_data_away)
{
	struct rig *r = &self->r;
	size_t put, got;
	int err;

	put = fill(r->fd);
	reset_now(r->fd);
	r->fd = -1;
	err = drain(r->far, &got);
	EXPECT_EQ(-ECONNRESET, err);
	EXPECT_GT(put, got);
}

static int linger(int fd, int seconds)
{
	struct linger l = { .l_onoff = 1, .l_linger = seconds };

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

RIG_TEST(close, linger_until_acknowledged)
{
	struct rig *r = &self->r;
	struct job job = { job_close };
	size_t got;

	linger(r->fd, 5);
	sock_deafen(r->far);
	EXPECT_EQ(5, send(r->fd, "hello", 5, 0));
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	sock_undeafen(r->far);
	EXPECT_EQ(0, job_end(&job));
	r->fd = -1;
	EXPECT_EQ(0, drain(r->far, &got));
	EXPECT_EQ(5, got);
}

RIG_TEST(close, linger_until_its_time)
{
	struct rig *r = &self->r;
	double t = now();

	linger(r->fd, 1);
	sock_deafen(r->far);
	EXPECT_EQ(5, send(r->fd, "hello", 5, 0));
	EXPECT_EQ(0, give_up(&r->fd));
	EXPECT_LE(0.95, now() - t);
	EXPECT_GT(3, now() - t);
	EXPECT_TRUE(OURS_IS(TCP_FIN_WAIT1));
}

RIG_TEST(close, half)
{
	struct rig *r = &self->r;
	char buf[4];

	EXPECT_EQ(1, send(r->fd, "q", 1, 0));
	EXPECT_EQ(0, shutdown(r->fd, SHUT_WR));
	EXPECT_EQ(-1, send(r->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_EQ(1, read_all(r->far, buf, 4));
	EXPECT_TRUE(WAIT_FOR(tcp_state(r->fd) == TCP_FIN_WAIT2));
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	EXPECT_EQ(3, read_all(r->fd, buf, 3));
	/* twice is fine */
	EXPECT_EQ(0, shutdown(r->fd, SHUT_WR));
	give_up(&r->far);
	EXPECT_EQ(0, drain(r->fd, NULL));
	EXPECT_TRUE(WAIT_FOR(OURS_IS(TCP_TIME_WAIT)));
	EXPECT_EQ(-1, shutdown(r->fd, SHUT_WR));
	EXPECT_EQ(ENOTCONN, errno);
}

RIG_TEST(close, their_half)
{
	struct rig *r = &self->r;
	char buf[8];

	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(3, read_all(r->fd, buf, 8));
	EXPECT_EQ(0, recv(r->fd, buf, 8, 0));
	EXPECT_EQ(0, recv(r->fd, buf, 8, MSG_DONTWAIT));
	EXPECT_EQ(TCP_CLOSE_WAIT, tcp_state(r->fd));
	EXPECT_EQ(3, send(r->fd, "def", 3, 0));
	EXPECT_EQ(3, read_all(r->far, buf, 3));
}

/* Nothing is told to the peer; what comes all the same can still be read. */
RIG_TEST(close, reading_half)
{
	struct rig *r = &self->r;
	char buf[8];

	EXPECT_EQ(0, shutdown(r->fd, SHUT_RD));
	EXPECT_EQ(0, recv(r->fd, buf, 8, 0));
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	EXPECT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	EXPECT_EQ(3, recv(r->fd, buf, 8, 0));
	EXPECT_EQ(0, recv(r->fd, buf, 8, 0));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->far));
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	EXPECT_EQ(1, read_all(r->far, buf, 1));
}

RIG_TEST(close, wrong_half)
{
	EXPECT_EQ(-1, shutdown(self->r.fd, 3));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(self->r.fd));
}

RIG_TEST(close, after_a_rst)
{
	struct rig *r = &self->r;
	char c;

	reset_now(r->far);
	r->far = -1;
	ASSERT_NE(0, polled(r->fd, POLLRDHUP, 5000));
	EXPECT_EQ(TCP_CLOSE, tcp_state(r->fd));
	EXPECT_EQ(-1, recv(r->fd, &c, 1, 0));
	EXPECT_EQ(ECONNRESET, errno);
	EXPECT_EQ(0, recv(r->fd, &c, 1, 0));
	EXPECT_EQ(-1, send(r->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_EQ(-1, shutdown(r->fd, SHUT_WR));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(0, peer_name(r->fd).len);
	EXPECT_EQ(0, OURS);
}

RIG_TEST(close, write_first_after_a_rst)
{
	struct rig *r = &self->r;

	reset_now(r->far);
	r->far = -1;
	ASSERT_NE(0, polled(r->fd, POLLRDHUP, 5000));
	EXPECT_EQ(-1, send(r->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(ECONNRESET, errno);
	EXPECT_EQ(-1, send(r->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EPIPE, errno);
}

/* A RST in CLOSE_WAIT is another errno. */
RIG_TEST(close, rst_after_fin)
{
	struct rig *r = &self->r;
	char c;

	shutdown(r->far, SHUT_WR);
	ASSERT_NE(0, polled(r->fd, POLLRDHUP, 5000));
	reset_now(r->far);
	r->far = -1;
	ASSERT_NE(0, polled(r->fd, POLLERR, 5000));
	EXPECT_EQ(EPIPE, so_error(r->fd));
	EXPECT_EQ(0, recv(r->fd, &c, 1, 0));
}

/* What came before the RST is lost, as native. */
RIG_TEST(close, rst_after_data)
{
	struct rig *r = &self->r;
	char buf[8];

	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	reset_now(r->far);
	r->far = -1;
	ASSERT_NE(0, polled(r->fd, POLLERR, 5000));
	EXPECT_EQ(3, recv(r->fd, buf, 8, 0));
	EXPECT_EQ(-1, recv(r->fd, buf, 8, 0));
	EXPECT_EQ(ECONNRESET, errno);
}

static int pipes;
static void on_pipe(int sig)
{
	pipes++;
}

RIG_TEST(close, sigpipe)
{
	struct rig *r = &self->r;

	signal(SIGPIPE, on_pipe);
	shutdown(r->fd, SHUT_WR);
	EXPECT_EQ(-1, write(r->fd, "x", 1));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_EQ(1, pipes);
	EXPECT_EQ(-1, send(r->fd, "x", 1, 0));
	EXPECT_EQ(2, pipes);
	EXPECT_EQ(-1, send(r->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(2, pipes);
}

RIG_TEST(close, rst_wakes_a_reader)
{
	struct rig *r = &self->r;
	char c;
	struct job job = { job_recv, .fd = r->fd, .buf = &c, .len = 1 };

	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	reset_now(r->far);
	r->far = -1;
	EXPECT_EQ(-ECONNRESET, job_end(&job));
}

RIG_TEST(close, rst_wakes_a_writer)
{
	struct rig *r = &self->r;
	static char buf[1 << 20];
	struct job job = { job_send, .fd = r->fd, .buf = buf,
			   .len = sizeof(buf), .arg = MSG_NOSIGNAL };

	sock_deafen(r->far);
	fill(r->fd);
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	reset_now(r->far);
	r->far = -1;
	EXPECT_EQ(-ECONNRESET, job_end(&job));
}

RIG_TEST(close, fin_wakes_a_reader)
{
	struct rig *r = &self->r;
	char c;
	struct job job = { job_recv, .fd = r->fd, .buf = &c, .len = 1 };

	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	give_up(&r->far);
	EXPECT_EQ(0, job_end(&job));
}

RIG_TEST(close, fin_wait2_ends)
{
	struct rig *r = &self->r;

	ASSERT_EQ(0, set_int(r->fd, IPPROTO_TCP, TCP_LINGER2, 1));
	give_up(&r->fd);
	EXPECT_TRUE(WAIT_FOR(OURS_IS(TCP_FIN_WAIT2)));
	EXPECT_TRUE(WAIT_FOR(OURS_IS(0)));
	/* Nobody knows the peer any more. */
	EXPECT_EQ(1, send(r->far, "x", 1, MSG_NOSIGNAL));
	EXPECT_TRUE(WAIT_FOR(tcp_state(r->far) == TCP_CLOSE));
}

/* The port of a connection in TIME_WAIT. */
RIG_TEST(close, time_wait_holds_the_port)
{
	struct rig *r = &self->r;
	struct addr me = self->me;
	int fd;

	give_up(&r->fd);
	EXPECT_EQ(0, drain(r->far, NULL));
	give_up(&r->far);
	ASSERT_TRUE(WAIT_FOR(OURS_IS(TCP_TIME_WAIT)));
	fd = rig_socket(r, 0);
	EXPECT_EQ(-1, bind(fd, &me.sa, me.len));
	EXPECT_EQ(EADDRINUSE, errno);
	/* One that connect() chose is not for sharing. */
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	EXPECT_EQ(-1, bind(fd, &me.sa, me.len));
}

RIG_TEST(close, an_open_one_holds_the_port)
{
	struct rig *r = &self->r;
	struct addr me = self->me;
	int fd = rig_socket(r, 0);

	EXPECT_EQ(-1, bind(fd, &me.sa, me.len));
	EXPECT_EQ(EADDRINUSE, errno);
	/* and, after close(), still, until the peer has said goodbye */
	give_up(&r->fd);
	ASSERT_TRUE(WAIT_FOR(OURS_IS(TCP_FIN_WAIT2)));
	EXPECT_EQ(-1, bind(fd, &me.sa, me.len));
	EXPECT_EQ(EADDRINUSE, errno);
}

/* The peer is gone without a word, and is another one when it is back. */
RIG_TEST(close, half_open)
{
	struct rig *r = &self->r;
	char c;
	struct linger hard = { .l_onoff = 1 };
	int on = 1;

	/* It loses its state and its RST is lost: by TCP_REPAIR. */
	ASSERT_EQ(0, setsockopt(r->far, IPPROTO_TCP, TCP_REPAIR, &on, 4));
	setsockopt(r->far, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	give_up(&r->far);
	EXPECT_EQ(0, polled(r->fd, POLLIN | POLLRDHUP, QUIET));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->fd));
	EXPECT_EQ(1, send(r->fd, "x", 1, MSG_NOSIGNAL));
	ASSERT_NE(0, polled(r->fd, POLLRDHUP, 5000));
	EXPECT_EQ(-1, recv(r->fd, &c, 1, 0));
	EXPECT_EQ(ECONNRESET, errno);
}

TEST_HARNESS_MAIN
