// SPDX-License-Identifier: Apache-2.0
/*
 * What guards a native socket: with it, a socket stays native or becomes so, and is
 * counted; see kmod/protect.c.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/xfrm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adopt.h"

#define PORT	4000

ADOPT_SUITE(protect)

static struct sockaddr_in address(const char *ip, int port)
{
	return (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_addr.s_addr = inet_addr(ip),
		.sin_port = htons(port),
	};
}

static int set_md5(int fd)
{
	struct sockaddr_in peer = address(WORLD_PEER, 0);
	struct tcp_md5sig md5 = { .tcpm_keylen = 3, .tcpm_key = "key" };

	memcpy(&md5.tcpm_addr, &peer, sizeof(peer));
	return setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof(md5));
}

static int set_minttl(int fd)
{
	int ttl = 255;

	return setsockopt(fd, IPPROTO_IP, IP_MINTTL, &ttl, sizeof(ttl));
}

static int set_xfrm(int fd)
{
	struct xfrm_userpolicy_info policy = {
		.sel.family = AF_INET,
		.dir = XFRM_POLICY_OUT,
		.action = XFRM_POLICY_ALLOW,
	};

	if (system("modprobe -q xfrm_user"))	/* which reads it */
		return -1;
	return setsockopt(fd, IPPROTO_IP, IP_XFRM_POLICY, &policy,
			  sizeof(policy));
}

static int set_filter(int fd)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, ~0U);
	struct sock_fprog prog = { .len = 1, .filter = &all };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

static int set_timestamps(int fd)
{
	int on = 1;

	return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof(on));
}

static const struct guard {
	const char *name;
	int (*set)(int fd);
	__u32 reason;
} guards[] = {
	{ "TCP_MD5SIG", set_md5, DMM_FALLBACK_SOCKOPT },
	{ "IP_MINTTL", set_minttl, DMM_FALLBACK_SOCKOPT },
	{ "IP_XFRM_POLICY", set_xfrm, DMM_FALLBACK_XFRM },
	{ "SO_ATTACH_FILTER", set_filter, DMM_FALLBACK_FILTER },
	{ "SO_TIMESTAMP", set_timestamps, DMM_FALLBACK_SOCKOPT },
};

#define EACH_GUARD(g)	(g = guards; g < guards + ARRAY_SIZE(guards); g++)

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#endif

static int bound(int port)
{
	struct sockaddr_in any = address("0.0.0.0", port);
	int fd = tcp_socket(0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!bind(fd, (struct sockaddr *)&any, sizeof(any)))
		return fd;
	close(fd);
	return -1;
}

static int call(struct puppet *p, int lport)
{
	static __u16 rport = 1024;
	struct puppet_caller caller = {
		.lport = lport,
		.rport = rport++,
		.what = PORT_ECHO,
	};

	return puppet_call(p, &caller);
}

TEST_F(protect, before_connect)
{
	const struct guard *g;

	for EACH_GUARD(g) {
		__u64 before = world_fallbacks(g->reason);
		int fd = tcp_socket(SOCK_NONBLOCK);

		ASSERT_EQ(0, g->set(fd)) TH_LOG("%s: %d", g->name, errno);
		EXPECT_EQ(-EINPROGRESS, world_connect(fd, PORT_ECHO));
		EXPECT_EQ(0, world_adopted(fd)) TH_LOG("%s", g->name);
		EXPECT_EQ(before + 1, world_fallbacks(g->reason)) {
			TH_LOG("%s is not counted", g->name);
		}
		close(fd);
	}
}

/* The verdict fell at bind(); what comes after that counts, too. */
TEST_F(protect, between_bind_and_listen)
{
	const struct guard *g;

	for EACH_GUARD(g) {
		__u64 before = world_fallbacks(g->reason);
		int fd = bound(PORT);

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, g->set(fd)) TH_LOG("%s: %d", g->name, errno);
		ASSERT_EQ(0, listen(fd, 4));
		EXPECT_EQ(0, world_adopted(fd)) TH_LOG("%s", g->name);
		EXPECT_EQ(before + 1, world_fallbacks(g->reason)) {
			TH_LOG("%s is not counted", g->name);
		}
		close(fd);
	}
}

/* What a program sets on a listener, or a connection, is refused: nothing changes. */
TEST_F(protect, of_a_listener)
{
	const struct guard *g;
	int fd = bound(PORT), child;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, listen(fd, 4));
	for EACH_GUARD(g) {
		EXPECT_EQ(-1, g->set(fd)) TH_LOG("%s", g->name);
		EXPECT_EQ(EOPNOTSUPP, errno) TH_LOG("%s", g->name);
	}
	EXPECT_EQ(1, world_adopted(fd));
	ASSERT_EQ(0, call(self->p, PORT));
	child = accept(fd, NULL, NULL);
	ASSERT_LE(0, child);
	for EACH_GUARD(g) {
		EXPECT_EQ(-1, g->set(child)) TH_LOG("%s", g->name);
		EXPECT_EQ(EOPNOTSUPP, errno) TH_LOG("%s", g->name);
	}
	close(child);
	close(fd);
}

TEST_F(protect, after_connect)
{
	const struct guard *g;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	for EACH_GUARD(g) {
		EXPECT_EQ(-1, g->set(self->fd)) TH_LOG("%s", g->name);
		EXPECT_EQ(EOPNOTSUPP, errno) TH_LOG("%s", g->name);
	}
	EXPECT_EQ(1, world_adopted(self->fd));
}

TEST_F(protect, cgroup_that_filters)
{
	__u64 before = world_fallbacks(DMM_FALLBACK_CGROUP_SKB);
	int fd = tcp_socket(SOCK_NONBLOCK), l;

	ASSERT_EQ(0, world_guard(self->w, 1));
	EXPECT_EQ(-EINPROGRESS, world_connect(fd, PORT_ECHO));
	EXPECT_EQ(0, world_adopted(fd));
	close(fd);
	l = bound(PORT);
	ASSERT_EQ(0, listen(l, 4));
	EXPECT_EQ(0, world_adopted(l));
	close(l);
	EXPECT_EQ(before + 2, world_fallbacks(DMM_FALLBACK_CGROUP_SKB));

	ASSERT_EQ(0, world_guard(self->w, 0));
	EXPECT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(1, world_adopted(self->fd));
}

/* With the next call, which neither reads nor writes any more. */
TEST_F(protect, cgroup_that_comes_to_filter)
{
	__u64 before = world_fallbacks(DMM_FALLBACK_CGROUP_SKB);
	int fds[2] = { self->fd, tcp_socket(0) };
	char c = 'x';

	ASSERT_EQ(0, world_connect(fds[0], PORT_ECHO));
	ASSERT_EQ(0, world_connect(fds[1], PORT_SOURCE));
	ASSERT_EQ(1, world_adopted(fds[0]));
	ASSERT_EQ(POLLIN, wait_for(fds[1], POLLIN, 5000));
	ASSERT_EQ(0, world_guard(self->w, 1));

	EXPECT_EQ(-1, send(fds[0], &c, 1, MSG_NOSIGNAL));
	EXPECT_EQ(ECONNABORTED, errno);
	EXPECT_EQ(-1, recv(fds[1], &c, 1, 0));
	EXPECT_EQ(ECONNABORTED, errno);
	EXPECT_TRUE(puppet_told(self->p, DMM_OP_ABORT, 2));
	EXPECT_EQ(before + 2, world_fallbacks(DMM_FALLBACK_CGROUP_SKB));
	close(fds[1]);
}

/* Of one that makes no call at all, and of a listener. */
TEST_F(protect, cgroup_that_comes_to_filter_a_sleeper)
{
	int l = bound(PORT);

	ASSERT_EQ(0, listen(l, 4));
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(0, world_guard(self->w, 1));
	set_timeout(self->fd, SO_RCVTIMEO, 5000);
	EXPECT_EQ(POLLERR | POLLHUP | POLLIN,
		  wait_for(self->fd, POLLIN, 10000) & ~POLLRDHUP);
	EXPECT_EQ(ECONNABORTED, so_error(self->fd));

	call(self->p, PORT);
	fcntl(l, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-1, accept(l, NULL, NULL));
	EXPECT_TRUE(puppet_told(self->p, DMM_OP_ABORT, 2));
	close(l);
}

/* No packet could have come from there, or to there. */
TEST_F(protect, children_from_nowhere)
{
	static const struct {
		const char *from, *to;
	} lies[] = {
		{ "127.0.0.1", WORLD_ADDR },
		{ WORLD_ADDR, WORLD_ADDR },
		{ "224.0.0.1", WORLD_ADDR },
		{ "255.255.255.255", WORLD_ADDR },
		{ "10.77.0.255", WORLD_ADDR },
		{ "0.0.0.0", WORLD_ADDR },
		{ WORLD_PEER, "127.0.0.1" },
		{ WORLD_PEER, "10.77.0.9" },
		{ WORLD_PEER, "10.77.0.255" },
		{ "::1", WORLD_ADDR6 },
		{ WORLD_ADDR6, WORLD_ADDR6 },
		{ "ff02::1", WORLD_ADDR6 },
		{ WORLD_PEER6, "::1" },
		{ WORLD_PEER6, "fd77::9" },
		{ WORLD_PEER6, "ff02::1" },
	};
	struct sockaddr_in6 any = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(PORT),
	};
	int l = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), fd, bad;
	struct dmm_event ev = { .ev = DMM_EV_INCOMING };
	__u64 dropped;
	size_t i;

	ASSERT_EQ(0, bind(l, (struct sockaddr *)&any, sizeof(any)));
	ASSERT_EQ(0, listen(l, 64));
	ASSERT_EQ(1, world_adopted(l));
	ASSERT_EQ(0, call(self->p, PORT));
	fd = accept(l, NULL, NULL);
	ASSERT_LE(0, fd);
	close(fd);

	puppet_freeze(self->p);
	ev.incoming.lport = htons(PORT);
	for (i = 0; i < ARRAY_SIZE(lies); i++) {
		bool v6 = strchr(lies[i].from, ':');

		ev.incoming.rport = htons(7000 + i);
		ev.incoming.family = v6 ? AF_INET6 : AF_INET;
		inet_pton(ev.incoming.family, lies[i].from, ev.incoming.raddr);
		inet_pton(ev.incoming.family, lies[i].to, ev.incoming.laddr);
		puppet_listener(self->p, PORT, &ev.slot, &ev.gen);
		dmm_chan_event_put(puppet_chan(self->p), &ev);
		dropped = 0;
		bad = puppet_kick(self->p, &dropped);
		EXPECT_EQ(1, bad < 0 ? bad : (int)dropped) {
			TH_LOG("from %s to %s", lies[i].from, lies[i].to);
		}
	}
	EXPECT_EQ(-1, accept(l, NULL, NULL));
	puppet_thaw(self->p);
	close(l);
}

TEST_HARNESS_MAIN
