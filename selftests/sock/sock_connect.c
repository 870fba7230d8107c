// SPDX-License-Identifier: Apache-2.0
/* connect(): blocking and not, refused, interrupted, timed out, undone, again. */
#include "kselftest_harness.h"
#include "rig.h"
#include "wire.h"

RIG_SUITE(connect);

static int try_connect(int fd, const struct addr *to)
{
	return connect(fd, &to->sa, to->len) ? -errno : 0;
}

/* Nobody listens there. */
static struct addr closed_port(struct rig *r)
{
	struct addr to = r->to;

	close(r->lis);
	r->lis = -1;
	return to;
}

static int disconnect(int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	return connect(fd, &none, sizeof(none)) ? -errno : 0;
}

RIG_TEST(connect, blocks)
{
	struct rig *r = &self->r;
	struct addr me, they;

	CONNECT(r);
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->fd));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->far));
	EXPECT_EQ(0, so_error(r->fd));
	me = sock_name(r->fd);
	they = peer_name(r->fd);
	EXPECT_TRUE(addr_same(&r->to, &they));
	they = rig_local(r, addr_port(&me));
	EXPECT_TRUE(addr_same(&they, &me));
	/* The peer sees the same. */
	they = peer_name(r->far);
	me = rig_local_far(r, addr_port(&me));
	EXPECT_TRUE(addr_same(&me, &they));
}

RIG_TEST(connect, is_listed)
{
	struct rig *r = &self->r;
	int nl = diag_open(), far_nl = rig_peer_diag(r);
	struct addr me, they;

	CONNECT(r);
	me = sock_name(r->fd);
	they = peer_name(r->fd);
	EXPECT_EQ(TCP_ESTABLISHED, diag_state(nl, &me, &they));
	EXPECT_EQ(TCP_ESTABLISHED, diag_state(far_nl, &they, &me));
}

RIG_TEST(connect, keeps_a_bound_port)
{
	struct rig *r = &self->r;
	struct addr me = rig_local(r, 0), after;

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, bind(r->fd, &me.sa, me.len));
	me = sock_name(r->fd);
	EXPECT_LT(0, addr_port(&me));
	CONNECT(r);
	after = sock_name(r->fd);
	EXPECT_TRUE(addr_same(&me, &after));
	after = peer_name(r->far);
	EXPECT_EQ(addr_port(&me), addr_port(&after));
}

RIG_TEST(connect, port_bound_late)
{
	struct rig *r = &self->r;
	struct addr me = rig_local(r, 0), after;

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, set_int(r->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1));
	ASSERT_EQ(0, bind(r->fd, &me.sa, me.len));
	me = sock_name(r->fd);
	EXPECT_EQ(0, addr_port(&me));
	CONNECT(r);
	after = sock_name(r->fd);
	EXPECT_NE(0, addr_port(&after));
	me = rig_local(r, addr_port(&after));
	EXPECT_TRUE(addr_same(&me, &after));
}

RIG_TEST(connect, ports_differ)
{
	struct addr name[16];
	struct rig *r = &self->r;
	int fd[16], i, j;

	for (i = 0; i < 16; i++) {
		fd[i] = rig_socket(r, 0);
		ASSERT_EQ(0, try_connect(fd[i], &r->to));
		EXPECT_EQ(r->adopted, rig_is_adopted(fd[i]));
		name[i] = sock_name(fd[i]);
		for (j = 0; j < i; j++)
			EXPECT_NE(addr_port(&name[i]), addr_port(&name[j]));
	}
}

RIG_TEST(connect, nonblocking)
{
	struct rig *r = &self->r;

	sock_deafen(r->lis);
	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &r->to));
	EXPECT_EQ(-EALREADY, try_connect(r->fd, &r->to));
	EXPECT_EQ(TCP_SYN_SENT, tcp_state(r->fd));
	EXPECT_EQ(0, polled(r->fd, POLLIN | POLLOUT | POLLRDHUP, 0));
	EXPECT_EQ(0, so_error(r->fd));
	EXPECT_EQ(r->adopted, rig_is_adopted(r->fd));
	sock_undeafen(r->lis);
	/* by the next SYN */
	EXPECT_EQ(POLLOUT, polled(r->fd, POLLIN | POLLOUT | POLLRDHUP, 5000));
	EXPECT_EQ(0, so_error(r->fd));
	/* The first call hears of it, the next is one too many. */
	EXPECT_EQ(0, try_connect(r->fd, &r->to));
	EXPECT_EQ(-EISCONN, try_connect(r->fd, &r->to));
	EXPECT_EQ(0, rig_accept(r));
}

RIG_TEST(connect, names_while_under_way)
{
	struct rig *r = &self->r;
	struct addr me, want;

	sock_deafen(r->lis);
	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &r->to));
	me = sock_name(r->fd);
	want = rig_local(r, addr_port(&me));
	EXPECT_NE(0, addr_port(&me));
	EXPECT_TRUE(addr_same(&want, &me));
	EXPECT_EQ(0, peer_name(r->fd).len);
	EXPECT_EQ(ENOTCONN, errno);
}

RIG_TEST(connect, send_and_recv_while_under_way)
{
	struct rig *r = &self->r;
	char c;

	sock_deafen(r->lis);
	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &r->to));
	EXPECT_EQ(-1, send(r->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(-1, recv(r->fd, &c, 1, 0));
	EXPECT_EQ(EAGAIN, errno);
}

RIG_TEST(connect, a_blocking_send_waits_for_it)
{
	struct rig *r = &self->r;
	struct job job = { job_send, .buf = "hello", .len = 5 };
	char buf[8];

	sock_deafen(r->lis);
	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &r->to));
	fcntl(r->fd, F_SETFL, 0);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	sock_undeafen(r->lis);
	ASSERT_EQ(0, rig_accept(r));
	EXPECT_EQ(5, job_end(&job));
	EXPECT_EQ(5, read_all(r->far, buf, 5));
}

RIG_TEST(connect, twice)
{
	struct rig *r = &self->r;
	struct addr other = r->to;

	CONNECT(r);
	EXPECT_EQ(-EISCONN, try_connect(r->fd, &r->to));
	other.in.sin_port ^= htons(1);
	EXPECT_EQ(-EISCONN, try_connect(r->fd, &other));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->fd));
}

RIG_TEST(connect, refused)
{
	struct rig *r = &self->r;
	struct addr to = closed_port(r);

	r->fd = rig_socket(r, 0);
	EXPECT_EQ(-ECONNREFUSED, try_connect(r->fd, &to));
	EXPECT_EQ(0, so_error(r->fd));
	EXPECT_EQ(TCP_CLOSE, tcp_state(r->fd));
	EXPECT_EQ(-ECONNREFUSED, try_connect(r->fd, &to));
}

/* There is nobody at port 0, and somebody says so. */
RIG_TEST(connect, port_0)
{
	struct rig *r = &self->r;
	struct addr to = rig_remote(r, 0);
	double t = now();

	r->fd = rig_socket(r, 0);
	set_timeout(r->fd, SO_SNDTIMEO, 10000);
	EXPECT_EQ(-ECONNREFUSED, try_connect(r->fd, &to));
	EXPECT_GT(5, now() - t);
}

RIG_TEST(connect, refused_then_served)
{
	struct rig *r = &self->r;
	struct addr to = closed_port(r), at = to;

	r->fd = rig_socket(r, 0);
	EXPECT_EQ(-ECONNREFUSED, try_connect(r->fd, &to));
	r->lis = rig_peer_stream(r);
	if (r->family == RIG_MAPPED) {
		at = (struct addr) { .len = sizeof(at.in) };
		at.in.sin_family = AF_INET;
		at.in.sin_port = to.in6.sin6_port;
	}
	set_int(r->lis, SOL_SOCKET, SO_REUSEADDR, 1);
	ASSERT_EQ(0, bind(r->lis, &at.sa, at.len));
	ASSERT_EQ(0, listen(r->lis, 8));
	CONNECT(r);
}

RIG_TEST(connect, nonblocking_refused)
{
	struct rig *r = &self->r;
	struct addr to = closed_port(r);

	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &to));
	EXPECT_EQ(POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP,
		  polled(r->fd, POLLIN | POLLOUT | POLLRDHUP, 5000));
	EXPECT_EQ(ECONNREFUSED, so_error(r->fd));
	EXPECT_EQ(0, so_error(r->fd));
	EXPECT_EQ(POLLIN | POLLOUT | POLLHUP | POLLRDHUP,
		  polled(r->fd, POLLIN | POLLOUT | POLLRDHUP, 0));
	/* The error was taken: what is left to tell is that it failed. */
	EXPECT_EQ(-ECONNABORTED, try_connect(r->fd, &to));
	EXPECT_EQ(-EINPROGRESS, try_connect(r->fd, &to));
}

RIG_TEST(connect, nonblocking_refused_told_by_connect)
{
	struct rig *r = &self->r;
	struct addr to = closed_port(r);

	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &to));
	ASSERT_NE(0, polled(r->fd, POLLOUT, 5000));
	EXPECT_EQ(-ECONNREFUSED, try_connect(r->fd, &to));
	EXPECT_EQ(0, so_error(r->fd));
}

RIG_TEST(connect, sndtimeo)
{
	struct rig *r = &self->r;
	double t = now();

	sock_deafen(r->lis);
	r->fd = rig_socket(r, 0);
	set_timeout(r->fd, SO_SNDTIMEO, 100);
	EXPECT_EQ(-EINPROGRESS, try_connect(r->fd, &r->to));
	EXPECT_LE(0.09, now() - t);
	EXPECT_GT(2, now() - t);
	EXPECT_EQ(-EALREADY, try_connect(r->fd, &r->to));
	EXPECT_EQ(TCP_SYN_SENT, tcp_state(r->fd));
}

static int alarms;
static void on_alarm(int sig)
{
	__atomic_add_fetch(&alarms, 1, __ATOMIC_SEQ_CST);
}

static void alarm_soon(int flags)
{
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = flags };
	struct itimerval it = { .it_value.tv_usec = 50000 };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
}

RIG_TEST(connect, interrupted)
{
	struct rig *r = &self->r;

	sock_deafen(r->lis);
	r->fd = rig_socket(r, 0);
	alarm_soon(0);
	EXPECT_EQ(-EINTR, try_connect(r->fd, &r->to));
	EXPECT_EQ(TCP_SYN_SENT, tcp_state(r->fd));
	/* It goes on by itself; asking again waits for it. */
	sock_undeafen(r->lis);
	EXPECT_EQ(0, try_connect(r->fd, &r->to));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->fd));
	EXPECT_EQ(r->adopted, rig_is_adopted(r->fd));
}

static void *hear_after_alarm(void *lis)
{
	while (!__atomic_load_n(&alarms, __ATOMIC_SEQ_CST))
		usleep(1000);
	sock_undeafen((long)lis);
	return NULL;
}

RIG_TEST(connect, restarted)
{
	struct rig *r = &self->r;
	pthread_t t;
	sigset_t block;

	sock_deafen(r->lis);
	r->fd = rig_socket(r, 0);
	/* the signal is for this thread */
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	pthread_create(&t, NULL, hear_after_alarm, (void *)(long)r->lis);
	pthread_sigmask(SIG_UNBLOCK, &block, NULL);
	alarm_soon(SA_RESTART);
	EXPECT_EQ(0, try_connect(r->fd, &r->to));
	EXPECT_EQ(1, alarms);
	pthread_join(t, NULL);
}

RIG_TEST(connect, undone_by_shutdown)
{
	struct rig *r = &self->r;
	struct job job = { job_connect, .buf = &r->to.sa, .len = r->to.len };

	sock_deafen(r->lis);
	job.fd = r->fd = rig_socket(r, 0);
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(0, shutdown(r->fd, SHUT_RDWR));
	EXPECT_EQ(-ECONNRESET, job_end(&job));
	EXPECT_EQ(TCP_CLOSE, tcp_state(r->fd));
}

RIG_TEST(connect, disconnect)
{
	struct rig *r = &self->r;
	struct addr again;
	char c;

	CONNECT(r);
	ASSERT_EQ(0, disconnect(r->fd));
	EXPECT_EQ(TCP_CLOSE, tcp_state(r->fd));
	EXPECT_EQ(0, peer_name(r->fd).len);
	EXPECT_FALSE(rig_is_adopted(r->fd));
	/* The peer got a RST. */
	EXPECT_EQ(-ECONNRESET, drain(r->far, NULL));
	EXPECT_EQ(TCP_CLOSE, tcp_state(r->far));
	close(r->far);
	/* And the socket is as new. */
	CONNECT(r);
	again = sock_name(r->fd);
	EXPECT_NE(0, addr_port(&again));
	EXPECT_EQ(1, write_all(r->far, "y", 1));
	EXPECT_EQ(1, read_all(r->fd, &c, 1));
	EXPECT_EQ('y', c);
}

RIG_TEST(connect, disconnect_while_under_way)
{
	struct rig *r = &self->r;

	sock_deafen(r->lis);
	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &r->to));
	ASSERT_EQ(0, disconnect(r->fd));
	EXPECT_EQ(TCP_CLOSE, tcp_state(r->fd));
	sock_undeafen(r->lis);
	CONNECT(r);
}

RIG_TEST(connect, disconnect_with_unread_data)
{
	struct rig *r = &self->r;
	char c;

	CONNECT(r);
	ASSERT_EQ(3, write_all(r->far, "old", 3));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	ASSERT_EQ(0, disconnect(r->fd));
	EXPECT_EQ(0, bytes_in(r->fd));
	EXPECT_EQ(-ECONNRESET, drain(r->far, NULL));
	close(r->far);
	CONNECT(r);
	EXPECT_EQ(-1, recv(r->fd, &c, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
}

RIG_TEST(connect, disconnect_wakes_a_reader)
{
	struct rig *r = &self->r;
	char buf[4];
	struct job job = { job_recv, .buf = buf, .len = 4 };

	CONNECT(r);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(0, disconnect(r->fd));
	EXPECT_EQ(-EPIPE, job_end(&job));
}

RIG_TEST(connect, bad_arguments)
{
	struct rig *r = &self->r;
	struct addr to = r->to;

	r->fd = rig_socket(r, 0);
	EXPECT_EQ(-1, connect(r->fd, &to.sa, 3));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, connect(r->fd, &to.sa, -1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, connect(r->fd, (void *)8, to.len));
	EXPECT_EQ(EFAULT, errno);
	to.sa.sa_family = AF_UNIX;
	EXPECT_EQ(-EAFNOSUPPORT, try_connect(r->fd, &to));
	/* Nothing of it did harm. */
	CONNECT(r);
}

RIG_TEST(connect, before_it)
{
	struct rig *r = &self->r;
	char c;

	r->fd = rig_socket(r, 0);
	EXPECT_EQ(-1, recv(r->fd, &c, 1, 0));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(-1, send(r->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_EQ(-1, shutdown(r->fd, SHUT_WR));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(0, peer_name(r->fd).len);
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(POLLOUT | POLLHUP, polled(r->fd, POLLIN | POLLOUT, 0));
	CONNECT(r);
}

RIG_TEST(connect, closed_while_under_way)
{
	struct rig *r = &self->r;
	int nl = diag_open();
	struct addr me;

	sock_deafen(r->lis);
	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &r->to));
	me = sock_name(r->fd);
	EXPECT_EQ(TCP_SYN_SENT, diag_state(nl, &me, &r->to));
	close(r->fd);
	r->fd = -1;
	EXPECT_EQ(0, diag_state(nl, &me, &r->to));
}

/* Both ends connect, neither listens. */
RIG_TEST(connect, simultaneous_open)
{
	struct rig *r = &self->r;
	struct addr me = rig_local(r, 0), far, to = closed_port(r), at;
	char c;

	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(0, bind(r->fd, &me.sa, me.len));
	me = sock_name(r->fd);
	r->far = rig_peer_stream(r);
	/* Deaf, it does not hear our kernel's RST, only later our SYN. */
	sock_deafen(r->far);
	set_int(r->far, SOL_SOCKET, SO_REUSEADDR, 1);
	fcntl(r->far, F_SETFL, O_NONBLOCK);
	far = rig_local_far(r, addr_port(&me));
	at = far;
	if (far.sa.sa_family == AF_INET)
		at.in.sin_addr.s_addr = INADDR_ANY;
	else
		at.in6.sin6_addr = in6addr_any;
	at.in.sin_port = to.in.sin_port;
	ASSERT_EQ(0, bind(r->far, &at.sa, at.len));
	ASSERT_EQ(-EINPROGRESS, try_connect(r->far, &far));
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &to));
	usleep(20000);	/* our SYN is on its way; lost, or not: both must do */
	sock_undeafen(r->far);
	EXPECT_EQ(POLLOUT, polled(r->fd, POLLOUT, 8000));
	EXPECT_EQ(POLLOUT, polled(r->far, POLLOUT, 8000));
	EXPECT_EQ(1, write_all(r->fd, "s", 1));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
	EXPECT_EQ(1, write_all(r->far, "s", 1));
	EXPECT_EQ(1, read_all(r->fd, &c, 1));
}

/* A connection that the peer's backlog has no room for is tried again. */
RIG_TEST(connect, syn_is_repeated)
{
	struct rig *r = &self->r;
	int wire = wire_open(r);
	struct seg first, second;

	ASSERT_LE(0, wire);
	sock_deafen(r->lis);
	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, try_connect(r->fd, &r->to));
	ASSERT_EQ(0, wire_find(wire, r, SEG_SYN, &first));
	ASSERT_EQ(0, wire_find(wire, r, SEG_SYN, &second));
	EXPECT_EQ(first.seq, second.seq);
	EXPECT_EQ(first.sport, second.sport);
	EXPECT_NE(0, second.mss);
	sock_undeafen(r->lis);
	EXPECT_EQ(0, rig_accept(r));
}

TEST_HARNESS_MAIN
