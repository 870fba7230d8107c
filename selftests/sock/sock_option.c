// SPDX-License-Identifier: Apache-2.0
/* Options: what is set is given back and takes effect; what is wrong, refused. */
#include <linux/net_tstamp.h>
#include <linux/sockios.h>

#include "kselftest_harness.h"
#include "rig.h"
#include "wire.h"

RIG_SUITE(option);

#define TCP	IPPROTO_TCP
#define SOL	SOL_SOCKET

struct option {
	char name[32];
	int level, opt;
	int set, want;
};

#define O(l, o, s, w)	{ #o, l, o, s, w }
static const struct option options[] = {
	O(SOL, SO_SNDBUF, 40000, 80000),
	O(SOL, SO_RCVBUF, 40000, 80000),
	O(SOL, SO_KEEPALIVE, 1, 1),
	O(SOL, SO_REUSEADDR, 1, 1),
	O(SOL, SO_RCVLOWAT, 3, 3),
	O(SOL, SO_OOBINLINE, 1, 1),
	O(SOL, SO_BUSY_POLL, 20, 20),
	O(SOL, SO_NO_CHECK, 1, 1),
	O(SOL, SO_TIMESTAMP, 0, 0),
	O(SOL, SO_ZEROCOPY, 1, 1),
	O(TCP, TCP_NODELAY, 1, 1),
	O(TCP, TCP_KEEPIDLE, 33, 33),
	O(TCP, TCP_KEEPINTVL, 7, 7),
	O(TCP, TCP_KEEPCNT, 4, 4),
	O(TCP, TCP_USER_TIMEOUT, 12345, 12345),
	O(TCP, TCP_SYNCNT, 3, 3),
	O(TCP, TCP_LINGER2, 9, 9),
	O(TCP, TCP_DEFER_ACCEPT, 1, 1),
	O(TCP, TCP_NOTSENT_LOWAT, 16384, 16384),
	O(TCP, TCP_INQ, 1, 1),
};

/* The kernel changes them by itself later on. */
static const struct option options_short[] = {
	O(TCP, TCP_WINDOW_CLAMP, 50000, 50000),
	O(TCP, TCP_QUICKACK, 0, 0),
};

static const struct option options4[] = {
	O(IPPROTO_IP, IP_TOS, 0x28, 0x28),
	O(IPPROTO_IP, IP_TTL, 33, 33),
	O(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_DO),
};

static const struct option options6[] = {
	O(IPPROTO_IPV6, IPV6_TCLASS, 0x28, 0x28),
	O(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33, 33),
};

#define CHECK_ALL(table, fd) do {					\
	int __i;							\
									\
	for (__i = 0; __i < ARRAY_SIZE(table); __i++) {			\
		EXPECT_EQ(0, set_int(fd, (table)[__i].level,		\
				     (table)[__i].opt, (table)[__i].set)) \
			TH_LOG("%s", (table)[__i].name);		\
		EXPECT_EQ((table)[__i].want,				\
			  get_int(fd, (table)[__i].level, (table)[__i].opt)) \
			TH_LOG("%s", (table)[__i].name);		\
	}								\
} while (0)

#define STILL_ALL(table, fd) do {					\
	int __i;							\
									\
	for (__i = 0; __i < ARRAY_SIZE(table); __i++)			\
		EXPECT_EQ((table)[__i].want,				\
			  get_int(fd, (table)[__i].level, (table)[__i].opt)) \
			TH_LOG("%s", (table)[__i].name);		\
} while (0)

RIG_TEST(option, set_before_connect)
{
	struct rig *r = &self->r;

	r->fd = rig_socket(r, 0);
	/* Before the others: they have an effect on SO_PRIORITY. */
	if (r->family == RIG_V4)
		CHECK_ALL(options4, r->fd);
	else
		CHECK_ALL(options6, r->fd);
	CHECK_ALL(options, r->fd);
	CHECK_ALL(options_short, r->fd);
	ASSERT_EQ(0, connect(r->fd, &r->to.sa, r->to.len));
	STILL_ALL(options, r->fd);
	if (r->family == RIG_V4)
		STILL_ALL(options4, r->fd);
	else
		STILL_ALL(options6, r->fd);
}

/* No common option alone costs the stack its socket. */
RIG_TEST(option, each_before_connect)
{
	struct rig *r = &self->r;
	const struct option *o = options;
	int i, fd;

	for (i = 0; i < ARRAY_SIZE(options); i++, o++) {
		fd = rig_socket(r, 0);
		set_int(fd, o->level, o->opt, o->set);
		ASSERT_EQ(0, connect(fd, &r->to.sa, r->to.len));
		EXPECT_EQ(r->adopted, rig_is_adopted(fd))
			TH_LOG("%s", o->name);
		close(fd);
	}
}

RIG_TEST(option, set_after_connect)
{
	struct rig *r = &self->r;
	char c;

	CONNECT(r);
	/* Before the others: they have an effect on SO_PRIORITY. */
	if (r->family == RIG_V4)
		CHECK_ALL(options4, r->fd);
	else
		CHECK_ALL(options6, r->fd);
	CHECK_ALL(options, r->fd);
	CHECK_ALL(options_short, r->fd);
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
}

RIG_TEST(option, defaults_are_the_kernels)
{
	static const int tcp[] = {
		TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT,
		TCP_SYNCNT, TCP_LINGER2, TCP_USER_TIMEOUT,
	};
	static const int sol[] = {
		SO_KEEPALIVE, SO_PRIORITY, SO_MARK, SO_RCVLOWAT, SO_SNDLOWAT,
		SO_TYPE, SO_PROTOCOL, SO_DOMAIN, SO_ACCEPTCONN,
	};
	struct rig *r = &self->r;
	int plain = rig_socket(r, 0), i;

	CONNECT(r);
	for (i = 0; i < ARRAY_SIZE(tcp); i++)
		EXPECT_EQ(get_int(plain, TCP, tcp[i]),
			  get_int(r->fd, TCP, tcp[i])) TH_LOG("%d", tcp[i]);
	for (i = 0; i < ARRAY_SIZE(sol); i++)
		EXPECT_EQ(get_int(plain, SOL, sol[i]),
			  get_int(r->fd, SOL, sol[i])) TH_LOG("%d", sol[i]);
}

RIG_TEST(option, wrong)
{
	struct rig *r = &self->r;
	socklen_t len = -1;
	int val = 1;

	CONNECT(r);
	EXPECT_EQ(-EINVAL, set_int(r->fd, TCP, TCP_KEEPIDLE, 0));
	EXPECT_EQ(-EINVAL, set_int(r->fd, TCP, TCP_KEEPIDLE, 40000));
	EXPECT_EQ(-EINVAL, set_int(r->fd, TCP, TCP_KEEPINTVL, 0));
	EXPECT_EQ(-EINVAL, set_int(r->fd, TCP, TCP_KEEPCNT, 200));
	EXPECT_EQ(-EINVAL, set_int(r->fd, TCP, TCP_USER_TIMEOUT, -1));
	EXPECT_EQ(-EINVAL, set_int(r->fd, TCP, TCP_MAXSEG, 1));
	EXPECT_EQ(-ENOPROTOOPT, set_int(r->fd, TCP, 9999, 1));
	EXPECT_EQ(-ENOPROTOOPT, set_int(r->fd, SOL, 9999, 1));
	EXPECT_EQ(-ENOPROTOOPT, set_int(r->fd, SOL, SO_ACCEPTCONN, 1));
	EXPECT_EQ(-ENOPROTOOPT, get_int(r->fd, TCP, 9999));
	EXPECT_EQ(-1, setsockopt(r->fd, TCP, TCP_NODELAY, &val, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, setsockopt(r->fd, TCP, TCP_KEEPIDLE, (void *)8, 4));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, getsockopt(r->fd, TCP, TCP_NODELAY, &val, &len));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, getsockopt(r->fd, TCP, TCP_NODELAY, &val, (void *)8));
	EXPECT_EQ(EFAULT, errno);
	len = 1;
	EXPECT_EQ(0, getsockopt(r->fd, TCP, TCP_KEEPCNT, &val, &len));
	EXPECT_EQ(1, len);
}

RIG_TEST(option, linger_and_timeouts)
{
	struct rig *r = &self->r;
	struct linger set = { 1, 7 }, l = { 0 };
	struct timeval tv = { 0 };
	socklen_t len = sizeof(l);

	CONNECT(r);
	EXPECT_EQ(0, setsockopt(r->fd, SOL, SO_LINGER, &set, sizeof(set)));
	EXPECT_EQ(0, getsockopt(r->fd, SOL, SO_LINGER, &l, &len));
	EXPECT_EQ(7, l.l_linger);
	EXPECT_EQ(1, l.l_onoff);
	set.l_onoff = 0;
	setsockopt(r->fd, SOL, SO_LINGER, &set, sizeof(set));
	set_timeout(r->fd, SO_RCVTIMEO, 1500);
	len = sizeof(tv);
	EXPECT_EQ(0, getsockopt(r->fd, SOL, SO_RCVTIMEO, &tv, &len));
	EXPECT_EQ(1, tv.tv_sec);
	EXPECT_EQ(500000, tv.tv_usec);
}

RIG_TEST(option, info)
{
	struct rig *r = &self->r;
	struct tcp_info i;
	char buf[2000];
	int k;

	CONNECT(r);
	pattern(buf, 0, sizeof(buf));
	for (k = 0; k < 5; k++) {
		EXPECT_EQ(2000, send(r->fd, buf, 2000, 0));
		EXPECT_EQ(2000, read_all(r->far, buf, 2000));
		EXPECT_EQ(2000, write_all(r->far, buf, 2000));
		EXPECT_EQ(2000, read_all(r->fd, buf, 2000));
	}
	EXPECT_TRUE(WAIT_FOR(bytes_out(r->fd) == 0));
	i = tcp_info(r->fd);
	EXPECT_EQ(TCP_ESTABLISHED, i.tcpi_state);
	EXPECT_LT(0, i.tcpi_rtt);
	EXPECT_GT(2000000, i.tcpi_rtt);
	EXPECT_LT(0, i.tcpi_snd_cwnd);
	EXPECT_LE(1200, i.tcpi_snd_mss);
	EXPECT_GE(1460, i.tcpi_snd_mss);
	EXPECT_EQ(0, i.tcpi_unacked);
	EXPECT_EQ(0, i.tcpi_total_retrans);
	EXPECT_EQ(1500, i.tcpi_pmtu);
}

RIG_TEST(option, info_of_a_dead_wire)
{
	struct rig *r = &self->r;

	CONNECT(r);
	sock_deafen(r->far);
	EXPECT_EQ(5, send(r->fd, "hello", 5, 0));
	EXPECT_TRUE(WAIT_FOR(tcp_info(r->fd).tcpi_unacked > 0));
	EXPECT_TRUE(WAIT_FOR(tcp_info(r->fd).tcpi_total_retrans > 0));
}

RIG_TEST(option, info_in_part)
{
	struct rig *r = &self->r;
	struct tcp_info i = { 0 };
	socklen_t len = 1;

	CONNECT(r);
	EXPECT_EQ(0, getsockopt(r->fd, TCP, TCP_INFO, &i, &len));
	EXPECT_EQ(1, len);
	EXPECT_EQ(TCP_ESTABLISHED, i.tcpi_state);
}

RIG_TEST(option, maxseg)
{
	struct rig *r = &self->r;
	int wire = wire_open(r), mss;
	struct seg syn;

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, set_int(r->fd, TCP, TCP_MAXSEG, 700));
	r->adopted = false;	/* such a one falls back: dmm(7) */
	CONNECT(r);
	ASSERT_EQ(0, wire_find(wire, r, SEG_SYN, &syn));
	EXPECT_EQ(700, syn.mss);
	mss = get_int(r->fd, TCP, TCP_MAXSEG);
	EXPECT_LE(680, mss);
	EXPECT_GE(700, mss);
}

RIG_TEST(option, maxseg_of_the_peer)
{
	struct rig *r = &self->r;
	int mss;

	ASSERT_EQ(0, set_int(r->lis, TCP, TCP_MAXSEG, 800));
	CONNECT(r);
	mss = get_int(r->fd, TCP, TCP_MAXSEG);
	EXPECT_LE(780, mss);
	EXPECT_GE(800, mss);
}

/* By the headers that the peer sees. */
RIG_TEST(option, tos_and_ttl_on_the_wire)
{
	struct rig *r = &self->r;
	int wire = wire_open(r);
	bool v6 = r->family == RIG_V6;
	struct seg seg;

	r->fd = rig_socket(r, 0);
	if (v6) {
		ASSERT_EQ(0, set_int(r->fd, IPPROTO_IPV6, IPV6_TCLASS, 0x28));
		ASSERT_EQ(0, set_int(r->fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9));
	} else {
		ASSERT_EQ(0, set_int(r->fd, IPPROTO_IP, IP_TOS, 0x28));
		ASSERT_EQ(0, set_int(r->fd, IPPROTO_IP, IP_TTL, 9));
	}
	CONNECT(r);
	ASSERT_EQ(0, wire_find(wire, r, SEG_SYN, &seg));
	EXPECT_EQ(0x28, seg.tos);
	EXPECT_EQ(9, seg.ttl);
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	ASSERT_EQ(0, wire_find(wire, r, SEG_PSH, &seg));
	EXPECT_EQ(0x28, seg.tos);
	/* and when it is changed on the way */
	ASSERT_EQ(0, v6 ? set_int(r->fd, IPPROTO_IPV6, IPV6_TCLASS, 0x48) :
			  set_int(r->fd, IPPROTO_IP, IP_TOS, 0x48));
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	ASSERT_EQ(0, wire_find(wire, r, SEG_PSH, &seg));
	EXPECT_EQ(0x48, seg.tos);
}

RIG_TEST(option, rcvbuf_bounds_the_window)
{
	struct rig *r = &self->r;

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, set_int(r->fd, SOL, SO_RCVBUF, 16384));
	CONNECT(r);
	fill(r->far);
	EXPECT_LT(0, bytes_in(r->fd));
	EXPECT_GE(32768, bytes_in(r->fd));
}

/* What the peer was promised stays so; what comes after that is bounded. */
RIG_TEST(option, rcvbuf_bounds_the_window_later)
{
	struct rig *r = &self->r;
	static char buf[1 << 20];
	int n;

	CONNECT(r);
	ASSERT_EQ(0, set_int(r->fd, SOL, SO_RCVBUF, 16384));
	fill(r->far);
	while (polled(r->fd, POLLIN, 300)) {
		n = bytes_in(r->fd);
		EXPECT_EQ(n, recv(r->fd, buf, n, 0));
	}
	fill(r->far);
	EXPECT_TRUE(WAIT_FOR(bytes_in(r->fd)));
	usleep(QUIET * 1000);
	EXPECT_LT(0, bytes_in(r->fd));
	EXPECT_GE(131072, bytes_in(r->fd));
}

/* The kernel forgets the clamp with the first bytes; a stack keeps to it. */
RIG_TEST(option, clamp_bounds_the_window)
{
	struct rig *r = &self->r;

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, set_int(r->fd, TCP, TCP_WINDOW_CLAMP, 16384));
	CONNECT(r);
	fill(r->far);
	EXPECT_LT(0, bytes_in(r->fd));
	EXPECT_GE(r->adopted ? 32768 : 131072, bytes_in(r->fd));
}

static int unsent(int fd)
{
	int n = -1;

	ioctl(fd, SIOCOUTQNSD, &n);
	return n;
}

/* All that waits to be sent is little, whatever else there is room for. */
RIG_TEST(option, notsent_lowat)
{
	enum { LOWAT = 16384 };
	struct rig *r = &self->r;

	CONNECT(r);
	ASSERT_EQ(0, set_int(r->fd, TCP, TCP_NOTSENT_LOWAT, LOWAT));
	sock_deafen(r->far);
	fill(r->fd);
	/* a native send() goes on until its buffer of up to 64 KiB is full */
	EXPECT_LE(LOWAT / 2, unsent(r->fd));
	EXPECT_GE(LOWAT + 65536, unsent(r->fd));
	EXPECT_EQ(0, polled(r->fd, POLLOUT, QUIET));
	/* and it is woken */
	sock_undeafen(r->far);
	EXPECT_EQ(POLLOUT, polled(r->fd, POLLOUT, 5000));
	EXPECT_GT(LOWAT, unsent(r->fd));
}

static bool nothing_under_way(int fd)
{
	return !bytes_out(fd);
}

static int by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return d < 0 ? -1 : d > 0;
}

/* How long it takes that one byte is acknowledged, mostly. */
static double ack_delay(struct rig *r)
{
	double took[7], t;
	int i;
	char c;

	for (i = 0; i < ARRAY_SIZE(took); i++) {
		set_int(r->fd, TCP, TCP_QUICKACK, 1);
		t = now();
		send(r->far, "x", 1, 0);
		while (!nothing_under_way(r->far) && now() < t + 2)
			usleep(100);
		took[i] = now() - t;
		read_all(r->fd, &c, 1);
	}
	qsort(took, ARRAY_SIZE(took), sizeof(*took), by_value);
	return took[ARRAY_SIZE(took) / 2];
}

RIG_TEST(option, quickack)
{
	struct rig *r = &self->r;
	char c;

	CONNECT(r);
	/* a conversation: no longer quick by itself */
	EXPECT_EQ(1, send(r->fd, "a", 1, 0));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
	EXPECT_EQ(1, send(r->far, "b", 1, 0));
	EXPECT_EQ(1, read_all(r->fd, &c, 1));
	EXPECT_EQ(1, send(r->fd, "c", 1, 0));
	EXPECT_GT(0.030, ack_delay(r));
}

RIG_TEST(option, mtu)
{
	struct rig *r = &self->r;

	r->fd = rig_socket(r, 0);
	if (r->family == RIG_V4)
		EXPECT_EQ(-ENOTCONN, get_int(r->fd, IPPROTO_IP, IP_MTU));
	CONNECT(r);
	if (r->family != RIG_V6)
		EXPECT_EQ(1500, get_int(r->fd, IPPROTO_IP, IP_MTU));
	if (r->family != RIG_V4)
		EXPECT_EQ(1500, get_int(r->fd, IPPROTO_IPV6, IPV6_MTU));
}

/* As `ss` shows it: lastsnd, lastrcv, lastack. */
RIG_TEST(option, last_times)
{
	struct rig *r = &self->r;
	struct tcp_info i;
	char c;

	CONNECT(r);
	i = tcp_info(r->fd);
	EXPECT_GT(5000, i.tcpi_last_data_sent);
	EXPECT_GT(5000, i.tcpi_last_data_recv);
	EXPECT_GT(5000, i.tcpi_last_ack_recv);
	/* they grow while nothing happens */
	EXPECT_TRUE(WAIT_FOR(tcp_info(r->fd).tcpi_last_data_sent > 300));
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
	EXPECT_TRUE(WAIT_FOR(tcp_info(r->fd).tcpi_last_data_sent < 300));
	EXPECT_TRUE(WAIT_FOR(tcp_info(r->fd).tcpi_last_data_recv > 300));
	EXPECT_EQ(1, send(r->far, "y", 1, 0));
	EXPECT_TRUE(WAIT_FOR(tcp_info(r->fd).tcpi_last_data_recv < 300));
}

/* What goes beside the bytes: TCP knows all of SOL_SOCKET's, and heeds one. */
RIG_TEST(option, ancillary)
{
	struct rig *r = &self->r;
	char room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { "x", 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
		.msg_controllen = sizeof(room),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	char buf;

	CONNECT(r);
	c->cmsg_level = SOL;
	c->cmsg_type = SO_MARK;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	EXPECT_EQ(1, sendmsg(r->fd, &msg, 0));
	EXPECT_EQ(1, read_all(r->far, &buf, 1));
	c->cmsg_type = 4242;
	EXPECT_EQ(-1, sendmsg(r->fd, &msg, 0));
	EXPECT_EQ(EINVAL, errno);
	c->cmsg_level = IPPROTO_IP;
	EXPECT_EQ(1, sendmsg(r->fd, &msg, 0));
	EXPECT_EQ(1, read_all(r->far, &buf, 1));
	c->cmsg_level = SOL;
	c->cmsg_type = SO_TIMESTAMPING;
	*(int *)CMSG_DATA(c) = SOF_TIMESTAMPING_TX_SOFTWARE;
	if (!r->adopted) {
		EXPECT_EQ(1, sendmsg(r->fd, &msg, 0));
		return;
	}
	EXPECT_EQ(-1, sendmsg(r->fd, &msg, 0));
	EXPECT_EQ(EOPNOTSUPP, errno);
}

RIG_TEST(option, sndbuf_bounds_the_queue)
{
	struct rig *r = &self->r;

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, set_int(r->fd, SOL, SO_SNDBUF, 16384));
	CONNECT(r);
	sock_deafen(r->far);
	fill(r->fd);
	EXPECT_GE(65536, bytes_out(r->fd));
}

RIG_TEST(option, keepalive_finds_a_dead_peer)
{
	struct rig *r = &self->r;
	double t;

	CONNECT(r);
	set_int(r->fd, TCP, TCP_KEEPIDLE, 1);
	set_int(r->fd, TCP, TCP_KEEPINTVL, 1);
	set_int(r->fd, TCP, TCP_KEEPCNT, 1);
	sock_deafen(r->far);
	t = now();
	ASSERT_EQ(0, set_int(r->fd, SOL, SO_KEEPALIVE, 1));
	EXPECT_NE(0, polled(r->fd, POLLERR, 6000));
	EXPECT_LE(1.5, now() - t);
	EXPECT_EQ(ETIMEDOUT, so_error(r->fd));
}

RIG_TEST(option, keepalive_of_a_live_peer)
{
	struct rig *r = &self->r;
	int wire = wire_open(r);
	struct seg seg;

	CONNECT(r);
	set_int(r->fd, TCP, TCP_KEEPIDLE, 1);
	ASSERT_EQ(0, set_int(r->fd, SOL, SO_KEEPALIVE, 1));
	while (!wire_next(wire, r, &seg, 200))
		;
	ASSERT_EQ(0, wire_find(wire, r, SEG_ACK, &seg));
	EXPECT_GE(1, seg.len);
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(r->fd));
	EXPECT_EQ(0, bytes_in(r->far));
}

RIG_TEST(option, user_timeout)
{
	struct rig *r = &self->r;

	CONNECT(r);
	ASSERT_EQ(0, set_int(r->fd, TCP, TCP_USER_TIMEOUT, 300));
	sock_deafen(r->far);
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	EXPECT_NE(0, polled(r->fd, POLLERR, 6000));
	EXPECT_EQ(ETIMEDOUT, so_error(r->fd));
}

RIG_TEST(option, bound_to_a_device)
{
	struct rig *r = &self->r;
	char name[16] = "";
	socklen_t len = sizeof(name);

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, setsockopt(r->fd, SOL, SO_BINDTODEVICE, "dmm-a", 6));
	EXPECT_EQ(0, getsockopt(r->fd, SOL, SO_BINDTODEVICE, name, &len));
	EXPECT_STREQ("dmm-a", name);
	CONNECT(r);
}

RIG_TEST(option, bound_to_another_device)
{
	struct rig *r = &self->r;

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, setsockopt(r->fd, SOL, SO_BINDTODEVICE, "lo", 3));
	set_timeout(r->fd, SO_SNDTIMEO, 50);
	/* As native: that way nobody answers, or there is none. */
	EXPECT_EQ(-1, connect(r->fd, &r->to.sa, r->to.len));
	EXPECT_TRUE(errno == EINPROGRESS || errno == ENETUNREACH ||
		    errno == EHOSTUNREACH || errno == EINVAL);
	EXPECT_FALSE(rig_is_adopted(r->fd));
}

RIG_TEST(option, cookie_and_names)
{
	struct rig *r = &self->r;
	unsigned long long before = 0, after = 0;
	char cc[16] = "";
	socklen_t len = sizeof(before);

	r->fd = rig_socket(r, 0);
	EXPECT_EQ(0, getsockopt(r->fd, SOL, SO_COOKIE, &before, &len));
	CONNECT(r);
	EXPECT_EQ(0, getsockopt(r->fd, SOL, SO_COOKIE, &after, &len));
	EXPECT_EQ(before, after);
	EXPECT_NE(0, after);
	len = sizeof(cc);
	EXPECT_EQ(0, getsockopt(r->fd, TCP, TCP_CONGESTION, cc, &len));
}

/* What a stack cannot honour keeps the socket native, and working. */
RIG_TEST(option, fast_open)
{
	struct rig *r = &self->r;
	char buf[4];

	r->adopted = false;
	r->fd = rig_socket(r, 0);
	EXPECT_EQ(3, sendto(r->fd, "abc", 3, MSG_FASTOPEN, &r->to.sa, r->to.len));
	ASSERT_EQ(0, rig_accept(r));
	EXPECT_FALSE(rig_is_adopted(r->fd));
	EXPECT_EQ(3, read_all(r->far, buf, 3));
}

RIG_TEST(option, filter)
{
	struct sock_filter all = { BPF_RET | BPF_K, 0, 0, 0xffff };
	struct sock_fprog prog = { 1, &all };
	struct rig *r = &self->r;
	char c;

	r->adopted = false;
	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, setsockopt(r->fd, SOL, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	CONNECT(r);
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
}

RIG_TEST(option, filter_after_connect)
{
	struct sock_filter all = { BPF_RET | BPF_K, 0, 0, 0xffff };
	struct sock_fprog prog = { 1, &all };
	struct rig *r = &self->r;

	CONNECT(r);
	EXPECT_EQ(-ENOENT, set_int(r->fd, SOL, SO_DETACH_FILTER, 0));
	EXPECT_EQ(0, setsockopt(r->fd, SOL, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	EXPECT_EQ(0, set_int(r->fd, SOL, SO_DETACH_FILTER, 0));
}

TEST_HARNESS_MAIN
