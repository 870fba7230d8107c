// SPDX-License-Identifier: Apache-2.0
/*
 * Our side listens, the peer connects. A child that came over the wire must be
 * adopted if DMM_ADOPTED has "listen-FAMILY"; one from loopback never.
 */
#include <net/if.h>

#include "kselftest_harness.h"
#include "rig.h"

FIXTURE(server) {
	struct rig r;
	struct addr at;
	int lis;
	bool adopted;
};
FIXTURE_VARIANT(server) { enum rig_family family; };
FIXTURE_VARIANT_ADD(server, v4) { .family = RIG_V4 };
FIXTURE_VARIANT_ADD(server, v6) { .family = RIG_V6 };
FIXTURE_VARIANT_ADD(server, mapped) { .family = RIG_MAPPED };

static int listen_at(const struct rig *r, struct addr *at, int backlog,
		     int reuse)
{
	int fd = rig_socket(r, 0);

	set_int(fd, SOL_SOCKET, reuse, 1);
	if (bind(fd, &at->sa, at->len) || (backlog && listen(fd, backlog)))
		return -errno;
	*at = sock_name(fd);
	return fd;
}

/* The peer connects to @port of ours. */
static int peer_connects(const struct rig *r, int port, int flags)
{
	struct addr to = rig_local_far(r, port);
	int fd = rig_peer_stream(r);

	fcntl(fd, F_SETFL, flags);
	if (connect(fd, &to.sa, to.len) && errno != EINPROGRESS) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* Both ends: r->far, r->fd. */
static int pair_up(struct rig *r, int lis, const struct addr *at)
{
	r->far = peer_connects(r, addr_port(at), 0);
	if (r->far < 0)
		return r->far;
	r->fd = accept4(lis, NULL, NULL, SOCK_CLOEXEC);
	return r->fd < 0 ? -errno : 0;
}

FIXTURE_SETUP(server)
{
	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(0, rig_up(&self->r, variant->family));
	self->adopted = rig_expects("listen-", variant->family);
	self->at = rig_local(&self->r, 0);
	self->lis = listen_at(&self->r, &self->at, 16, SO_REUSEADDR);
	ASSERT_LE(0, self->lis);
}

FIXTURE_TEARDOWN(server)
{
	close(self->lis);
	rig_down(&self->r);
}

#define PAIR_UP()	ASSERT_EQ(0, pair_up(&self->r, self->lis, &self->at))

static bool echo(int a, int b)
{
	char buf[8];

	return write_all(a, "ping", 4) == 4 && read_all(b, buf, 4) == 4 &&
	       write_all(b, "pong", 4) == 4 && read_all(a, buf, 4) == 4 &&
	       !memcmp(buf, "pong", 4);
}

RIG_TEST(server, accepts)
{
	struct rig *r = &self->r;
	struct addr they = { .len = sizeof(they.in6) }, name;

	r->far = peer_connects(r, addr_port(&self->at), 0);
	ASSERT_LE(0, r->far);
	r->fd = accept(self->lis, &they.sa, &they.len);
	ASSERT_LE(0, r->fd);
	EXPECT_EQ(self->adopted, rig_is_adopted(r->fd));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->fd));
	name = peer_name(r->fd);
	EXPECT_TRUE(addr_same(&they, &name));
	name = sock_name(r->far);
	name = rig_remote(r, addr_port(&name));
	EXPECT_TRUE(addr_same(&they, &name));
	name = sock_name(r->fd);
	EXPECT_TRUE(addr_same(&self->at, &name));
	EXPECT_TRUE(echo(r->far, r->fd));
	EXPECT_EQ(0, fcntl(r->fd, F_GETFD));
	EXPECT_EQ(0, fcntl(r->fd, F_GETFL) & O_NONBLOCK);
}

RIG_TEST(server, accept4_flags)
{
	struct rig *r = &self->r;

	r->far = peer_connects(r, addr_port(&self->at), 0);
	ASSERT_LE(0, r->far);
	r->fd = accept4(self->lis, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ASSERT_LE(0, r->fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(r->fd, F_GETFD));
	EXPECT_EQ(O_NONBLOCK, fcntl(r->fd, F_GETFL) & O_NONBLOCK);
	EXPECT_EQ(-1, accept4(self->lis, NULL, NULL, 0x1));
	EXPECT_EQ(EINVAL, errno);
}

RIG_TEST(server, accept_waits)
{
	struct rig *r = &self->r;
	struct job job = { job_accept, .fd = self->lis };

	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	r->far = peer_connects(r, addr_port(&self->at), 0);
	r->fd = job_end(&job);
	ASSERT_LE(0, r->fd);
	EXPECT_TRUE(echo(r->far, r->fd));
}

RIG_TEST(server, accept_would_block)
{
	fcntl(self->lis, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-1, accept(self->lis, NULL, NULL));
	EXPECT_EQ(EAGAIN, errno);
	fcntl(self->lis, F_SETFL, 0);
	set_timeout(self->lis, SO_RCVTIMEO, 50);
	EXPECT_EQ(-1, accept(self->lis, NULL, NULL));
	EXPECT_EQ(EAGAIN, errno);
}

RIG_TEST(server, readiness)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC), a, b;

	EXPECT_EQ(0, polled(self->lis, POLLIN | POLLOUT | POLLRDHUP, 0));
	ASSERT_EQ(0, epoll_add(ep, self->lis, EPOLLIN | EPOLLET));
	a = peer_connects(r, addr_port(&self->at), 0);
	EXPECT_EQ(EPOLLIN, epolled(ep, 2000));
	EXPECT_EQ(POLLIN, polled(self->lis, POLLIN | POLLOUT, 0));
	b = peer_connects(r, addr_port(&self->at), 0);
	EXPECT_EQ(EPOLLIN, epolled(ep, 2000));
	EXPECT_EQ(0, epolled(ep, QUIET));
	EXPECT_LE(0, accept(self->lis, NULL, NULL));
	EXPECT_EQ(POLLIN, polled(self->lis, POLLIN, 0));
	EXPECT_LE(0, accept(self->lis, NULL, NULL));
	EXPECT_EQ(0, polled(self->lis, POLLIN, 0));
	close(a);
	close(b);
}

/* One port for the wire and for loopback; see design.md, dual listen. */
RIG_TEST(server, both_ways_in)
{
	struct rig *r = &self->r;
	int local = rig_socket(r, 0), fd, native = 0, i;
	struct addr me, they;

	ASSERT_EQ(0, connect(local, &self->at.sa, self->at.len));
	EXPECT_FALSE(rig_is_adopted(local));
	me = sock_name(local);
	r->far = peer_connects(r, addr_port(&self->at), 0);
	ASSERT_LE(0, r->far);
	for (i = 0; i < 2; i++) {
		fd = accept(self->lis, NULL, NULL);
		ASSERT_LE(0, fd);
		they = peer_name(fd);
		if (addr_same(&me, &they)) {
			native++;
			EXPECT_FALSE(rig_is_adopted(fd));
			EXPECT_TRUE(echo(local, fd));
			/* no trace of us: another ULP may come */
			EXPECT_EQ(-1, setsockopt(fd, IPPROTO_TCP, TCP_ULP,
						 "none-such", 9));
			EXPECT_EQ(ENOENT, errno);
		} else {
			EXPECT_EQ(self->adopted, rig_is_adopted(fd));
			EXPECT_TRUE(echo(r->far, fd));
		}
		close(fd);
	}
	EXPECT_EQ(1, native);
}

RIG_TEST(server, on_any_address)
{
	struct rig *r = &self->r;
	struct addr any = { .len = self->at.len };
	int lis;

	any.sa.sa_family = self->at.sa.sa_family;
	lis = listen_at(r, &any, 8, SO_REUSEADDR);
	ASSERT_LE(0, lis);
	EXPECT_EQ(0, pair_up(r, lis, &any));
	EXPECT_EQ(self->adopted, rig_is_adopted(r->fd));
	EXPECT_TRUE(echo(r->far, r->fd));
}

RIG_TEST(server, order_is_kept)
{
	struct rig *r = &self->r;
	struct addr far, they;
	int i, fd[8], got;

	for (i = 0; i < 8; i++) {
		fd[i] = peer_connects(r, addr_port(&self->at), 0);
		ASSERT_LE(0, fd[i]);
	}
	for (i = 0; i < 8; i++) {
		got = accept(self->lis, NULL, NULL);
		ASSERT_LE(0, got);
		far = sock_name(fd[i]);
		they = peer_name(got);
		EXPECT_EQ(addr_port(&far), addr_port(&they));
	}
}

RIG_TEST(server, a_hundred_queued)
{
	struct rig *r = &self->r;
	int i, fd, far[100];

	ASSERT_EQ(0, listen(self->lis, 128));	/* again, and more */
	for (i = 0; i < 100; i++) {
		far[i] = peer_connects(r, addr_port(&self->at), 0);
		ASSERT_LE(0, far[i]);
	}
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(POLLIN, polled(self->lis, POLLIN, 2000));
		fd = accept(self->lis, NULL, NULL);
		ASSERT_LE(0, fd);
		close(fd);
	}
}

/* Beyond the backlog nobody is told a lie: not refused, not accepted. */
RIG_TEST(server, backlog_full)
{
	struct rig *r = &self->r;
	int i, far[8], in = 0;

	ASSERT_EQ(0, listen(self->lis, 1));
	for (i = 0; i < 8; i++)
		far[i] = peer_connects(r, addr_port(&self->at), O_NONBLOCK);
	EXPECT_EQ(POLLIN, polled(self->lis, POLLIN, 2000));
	usleep(QUIET * 1000);
	fcntl(self->lis, F_SETFL, O_NONBLOCK);
	while (accept(self->lis, NULL, NULL) >= 0)
		in++;
	EXPECT_LE(1, in);
	EXPECT_GE(3, in);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(0, so_error(far[i]));
}

RIG_TEST(server, closed_with_a_queue)
{
	struct rig *r = &self->r;

	r->far = peer_connects(r, addr_port(&self->at), 0);
	ASSERT_LE(0, r->far);
	ASSERT_EQ(POLLIN, polled(self->lis, POLLIN, 2000));
	close(self->lis);
	self->lis = -1;
	EXPECT_EQ(-ECONNRESET, drain(r->far, NULL));
	EXPECT_EQ(-ECONNREFUSED, peer_connects(r, addr_port(&self->at), 0));
}

RIG_TEST(server, gone_before_accept)
{
	struct rig *r = &self->r;
	int far = peer_connects(r, addr_port(&self->at), 0);
	char c;

	ASSERT_EQ(POLLIN, polled(self->lis, POLLIN, 2000));
	EXPECT_EQ(1, write_all(far, "x", 1));
	close(far);
	r->fd = accept(self->lis, NULL, NULL);
	ASSERT_LE(0, r->fd);
	EXPECT_EQ(1, read_all(r->fd, &c, 1));
	EXPECT_EQ(0, drain(r->fd, NULL));
}

RIG_TEST(server, reset_before_accept)
{
	struct rig *r = &self->r;
	int far = peer_connects(r, addr_port(&self->at), 0);

	ASSERT_EQ(POLLIN, polled(self->lis, POLLIN, 2000));
	reset_now(far);
	usleep(QUIET * 1000);
	r->fd = accept(self->lis, NULL, NULL);
	ASSERT_LE(0, r->fd);
	EXPECT_EQ(-ECONNRESET, drain(r->fd, NULL));
}

RIG_TEST(server, shut_down)
{
	struct job job = { job_accept, .fd = self->lis };

	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(0, shutdown(self->lis, SHUT_RD));
	EXPECT_EQ(-EINVAL, job_end(&job));
	EXPECT_EQ(-ECONNREFUSED,
		  peer_connects(&self->r, addr_port(&self->at), 0));
	/* and back, on a port that the kernel chooses again */
	EXPECT_EQ(0, listen(self->lis, 4));
	self->at = sock_name(self->lis);
	PAIR_UP();
}

RIG_TEST(server, states_and_errors)
{
	struct rig *r = &self->r;
	int fd = rig_socket(r, 0);
	char c;

	EXPECT_EQ(1, get_int(self->lis, SOL_SOCKET, SO_ACCEPTCONN));
	EXPECT_EQ(TCP_LISTEN, tcp_state(self->lis));
	EXPECT_EQ(-1, recv(self->lis, &c, 1, 0));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(-1, send(self->lis, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_EQ(-1, connect(self->lis, &r->to.sa, r->to.len));
	EXPECT_EQ(EISCONN, errno);
	EXPECT_EQ(-1, accept(fd, NULL, NULL));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, bind(self->lis, &self->at.sa, self->at.len));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, bind(fd, &self->at.sa, self->at.len));
	EXPECT_EQ(EADDRINUSE, errno);
	/* Listening unbound picks a port. */
	EXPECT_EQ(0, listen(fd, 1));
	self->at = sock_name(fd);
	EXPECT_NE(0, addr_port(&self->at));
}

RIG_TEST(server, children_inherit)
{
	struct rig *r = &self->r;

	set_int(self->lis, IPPROTO_TCP, TCP_NODELAY, 1);
	set_int(self->lis, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(self->lis, SOL_SOCKET, SO_RCVBUF, 30000);
	set_int(self->lis, IPPROTO_TCP, TCP_USER_TIMEOUT, 9000);
	set_int(self->lis, IPPROTO_TCP, TCP_KEEPIDLE, 44);
	PAIR_UP();
	EXPECT_EQ(1, get_int(r->fd, IPPROTO_TCP, TCP_NODELAY));
	EXPECT_EQ(1, get_int(r->fd, SOL_SOCKET, SO_KEEPALIVE));
	EXPECT_EQ(60000, get_int(r->fd, SOL_SOCKET, SO_RCVBUF));
	EXPECT_EQ(9000, get_int(r->fd, IPPROTO_TCP, TCP_USER_TIMEOUT));
	EXPECT_EQ(44, get_int(r->fd, IPPROTO_TCP, TCP_KEEPIDLE));
	EXPECT_EQ(0, get_int(r->fd, SOL_SOCKET, SO_ACCEPTCONN));
}

/* What its SYN was like, as a program may ask of a child. */
RIG_TEST(server, packet_options)
{
	struct rig *r = &self->r;
	char room[256];
	struct msghdr msg = { .msg_control = room };
	socklen_t len = sizeof(room);
	struct in_pktinfo info = { 0 };
	struct cmsghdr *c;
	int ttl = 0;

	if (r->family == RIG_V6)
		return;		/* such a listener stays native: sock_table.c */
	ASSERT_EQ(0, set_int(self->lis, IPPROTO_IP, IP_PKTINFO, 1));
	ASSERT_EQ(0, set_int(self->lis, IPPROTO_IP, IP_RECVTTL, 1));
	PAIR_UP();
	EXPECT_EQ(self->adopted, rig_is_adopted(r->fd));
	ASSERT_EQ(0, getsockopt(r->fd, IPPROTO_IP, IP_PKTOPTIONS, room, &len));
	msg.msg_controllen = len;
	for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_type == IP_PKTINFO)
			memcpy(&info, CMSG_DATA(c), sizeof(info));
		if (c->cmsg_type == IP_TTL)
			memcpy(&ttl, CMSG_DATA(c), sizeof(ttl));
	}
	EXPECT_EQ(if_nametoindex("dmm-a"), info.ipi_ifindex);
	EXPECT_EQ(64, ttl);
}

RIG_TEST(server, reuseport)
{
	struct rig *r = &self->r;
	struct addr at = rig_local(r, 0);
	int a = listen_at(r, &at, 8, SO_REUSEPORT), b, far, i, in[2] = { 0 };

	b = listen_at(r, &at, 8, SO_REUSEPORT);
	ASSERT_LE(0, a);
	ASSERT_LE(0, b);
	for (i = 0; i < 16; i++) {
		struct pollfd p[2] = { { a, POLLIN }, { b, POLLIN } };
		int fd;

		far = peer_connects(r, addr_port(&at), 0);
		ASSERT_LE(0, far);
		ASSERT_EQ(1, poll(p, 2, 2000));
		fd = accept(p[!p[0].revents].fd, NULL, NULL);
		in[!p[0].revents]++;
		EXPECT_TRUE(echo(far, fd));
		close(fd);
		close(far);
	}
	EXPECT_EQ(16, in[0] + in[1]);
	EXPECT_LT(0, in[0]);
	EXPECT_LT(0, in[1]);
}

RIG_TEST(server, many_acceptors)
{
	struct rig *r = &self->r;
	pid_t pid[3];
	int i, far[3], status;
	char c;

	for (i = 0; i < 3; i++) {
		pid[i] = fork();
		if (!pid[i]) {
			int fd = accept(self->lis, NULL, NULL);

			_exit(fd < 0 || write_all(fd, "k", 1) != 1);
		}
		ASSERT_TRUE(WAIT_FOR(blocked(pid[i], pid[i])));
	}
	for (i = 0; i < 3; i++) {
		far[i] = peer_connects(r, addr_port(&self->at), 0);
		EXPECT_EQ(1, read_all(far[i], &c, 1));
	}
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(pid[i], waitpid(pid[i], &status, 0));
		EXPECT_EQ(0, status);
	}
}

/* A child outlives its listener. */
RIG_TEST(server, listener_closed_first)
{
	struct rig *r = &self->r;

	PAIR_UP();
	close(self->lis);
	self->lis = -1;
	EXPECT_TRUE(echo(r->far, r->fd));
	close(r->fd);
	r->fd = -1;
	EXPECT_EQ(0, drain(r->far, NULL));
}

RIG_TEST(server, closes_first)
{
	struct rig *r = &self->r;
	struct addr me, they;
	int nl = diag_open(), lis;

	PAIR_UP();
	me = sock_name(r->fd);
	they = peer_name(r->fd);
	close(r->fd);
	r->fd = -1;
	EXPECT_EQ(0, drain(r->far, NULL));
	close(r->far);
	r->far = -1;
	EXPECT_TRUE(getenv("DMM_UNLISTED") ||
		    WAIT_FOR(diag_state(nl, &me, &they) == TCP_TIME_WAIT));
	/* A server that is started again gets its port. */
	close(self->lis);
	lis = listen_at(r, &self->at, 4, SO_REUSEADDR);
	EXPECT_LE(0, lis);
	self->lis = lis;
	PAIR_UP();
}

RIG_TEST(server, deferred)
{
	struct rig *r = &self->r;

	ASSERT_EQ(0, set_int(self->lis, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3));
	r->far = peer_connects(r, addr_port(&self->at), 0);
	EXPECT_EQ(0, polled(self->lis, POLLIN, QUIET));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(POLLIN, polled(self->lis, POLLIN, 2000));
	r->fd = accept(self->lis, NULL, NULL);
	EXPECT_TRUE(WAIT_FOR(bytes_in(r->fd) == 1));
}

TEST_HARNESS_MAIN
