// SPDX-License-Identifier: Apache-2.0
/*
 * Listeners that a puppet stack and the kernel serve at once: children of both,
 * who ends whom, and what a lying worker can do.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dmm/chan.h>

#include "kselftest_harness.h"
#include "puppet.h"
#include "world.h"

#define PORT	4000

FIXTURE(listen) {
	struct world *w;
	struct puppet *p;
	int fd;
	struct puppet_caller caller;
};

/* @bind: the address listened on; @call6: the peer comes by IPv6 */
FIXTURE_VARIANT(listen) {
	int family;
	const char *bind;
	bool call6;
};

FIXTURE_VARIANT_ADD(listen, v4_any) { AF_INET, "0.0.0.0", false };
FIXTURE_VARIANT_ADD(listen, v4_addr) { AF_INET, WORLD_ADDR, false };
FIXTURE_VARIANT_ADD(listen, v6_any) { AF_INET6, "::", true };
FIXTURE_VARIANT_ADD(listen, v6_addr) { AF_INET6, WORLD_ADDR6, true };
FIXTURE_VARIANT_ADD(listen, mapped) { AF_INET6, "::", false };

static int bound(int family, const char *addr, int port)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	sin.sin_port = sin6.sin6_port = htons(port);
	inet_pton(family, addr, family == AF_INET ? (void *)&sin.sin_addr :
						    (void *)&sin6.sin6_addr);
	if (bind(fd, family == AF_INET ? (void *)&sin : (void *)&sin6,
		 family == AF_INET ? sizeof(sin) : sizeof(sin6)))
		return -errno;
	return fd;
}

static int tcp_state(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info.tcpi_state;
}

FIXTURE_SETUP(listen)
{
	struct puppet_opts opts = { .name = "puppet", .id = WORLD_STACK };

	signal(SIGPIPE, SIG_IGN);
	self->w = world_enter();
	ASSERT_NE(NULL, self->w);
	opts.ifindex = world_ifindex(self->w);
	self->p = puppet_start(&opts);
	ASSERT_NE(NULL, self->p) TH_LOG("puppet: %s", strerror(errno));
	self->fd = bound(variant->family, variant->bind, PORT);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, listen(self->fd, 16));
	self->caller = (struct puppet_caller) {
		.lport = PORT,
		.rport = 1024,
		.what = PORT_ECHO,
		.v6 = variant->call6,
	};
}

FIXTURE_TEARDOWN(listen)
{
	close(self->fd);
	puppet_kill(self->p);
	world_leave(self->w);
}

/* The op is asynchronous: wait until the puppet listens. */
static int call(struct puppet *p, struct puppet_caller *caller)
{
	int i;

	for (i = 0; i < 500; i++) {
		if (!puppet_call(p, caller)) {
			caller->rport++;
			return 0;
		}
		usleep(10000);
	}
	return -1;
}

/* A native client, over loopback. */
static int call_native(int family, int port)
{
	struct sockaddr_in6 sin6 = {
		.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
		.sin6_port = htons(port),
	};
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(port),
	};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, family == AF_INET ? (void *)&sin : (void *)&sin6,
		    family == AF_INET ? sizeof(sin) : sizeof(sin6))) {
		close(fd);
		return -errno;
	}
	return fd;
}

TEST_F(listen, takes_a_child)
{
	struct sockaddr_storage peer = {}, me = {};
	socklen_t len = sizeof(peer);
	char in[6];
	int fd;

	EXPECT_EQ(1, world_adopted(self->fd));
	EXPECT_EQ(TCP_LISTEN, tcp_state(self->fd));
	ASSERT_EQ(0, call(self->p, &self->caller));
	fd = accept(self->fd, (struct sockaddr *)&peer, &len);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, world_adopted(fd));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(fd));
	EXPECT_EQ(variant->family, peer.ss_family);
	if (variant->family == AF_INET) {
		struct sockaddr_in *sin = (void *)&peer;

		EXPECT_EQ(inet_addr(WORLD_PEER), sin->sin_addr.s_addr);
		EXPECT_EQ(1024, ntohs(sin->sin_port));
	} else {
		char text[INET6_ADDRSTRLEN];
		struct sockaddr_in6 *sin6 = (void *)&peer;

		inet_ntop(AF_INET6, &sin6->sin6_addr, text, sizeof(text));
		EXPECT_STREQ(variant->call6 ? WORLD_PEER6 : "::ffff:" WORLD_PEER,
			     text);
	}
	len = sizeof(me);
	EXPECT_EQ(0, getsockname(fd, (struct sockaddr *)&me, &len));

	ASSERT_EQ(6, write(fd, "served", 6));
	ASSERT_EQ(6, recv(fd, in, 6, MSG_WAITALL));
	EXPECT_EQ(0, memcmp(in, "served", 6));
	EXPECT_EQ(0, shutdown(fd, SHUT_WR));
	EXPECT_EQ(0, read(fd, in, 1));
	close(fd);
}

TEST_F(listen, serves_both_worlds)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLIN };
	int native, fd, i, adopted = 0;
	char c;

	if (strcmp(variant->bind, "::") && strcmp(variant->bind, "0.0.0.0"))
		return;		/* loopback cannot reach it */
	ASSERT_EQ(0, call(self->p, &self->caller));
	native = call_native(variant->family, PORT);
	ASSERT_LE(0, native);
	ASSERT_EQ(0, call(self->p, &self->caller));

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(1, poll(&pfd, 1, 5000));
		fd = accept(self->fd, NULL, NULL);
		ASSERT_LE(0, fd);
		/* In the order in which they came. */
		EXPECT_EQ(i != 1, world_adopted(fd));
		adopted += world_adopted(fd);
		if (i == 1) {
			/* Native through and through. */
			ASSERT_EQ(1, write(native, "n", 1));
			ASSERT_EQ(1, read(fd, &c, 1));
			EXPECT_EQ('n', c);
			ASSERT_EQ(0, setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls",
						4)) {
				TH_LOG("the ULP slot is not free: %d", errno);
			}
		}
		close(fd);
	}
	EXPECT_EQ(2, adopted);
	EXPECT_EQ(0, poll(&pfd, 1, 0));
	close(native);
}

TEST_F(listen, epoll_tells)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC), fd;

	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->fd, &ev));
	EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
	ASSERT_EQ(0, call(self->p, &self->caller));
	EXPECT_EQ(1, epoll_wait(ep, &ev, 1, 5000));
	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	fd = accept4(self->fd, NULL, NULL, SOCK_NONBLOCK);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, accept(self->fd, NULL, NULL));
	EXPECT_EQ(EAGAIN, errno);
	close(fd);
	close(ep);
}

TEST_F(listen, queue_is_the_backlog)
{
	int i, n = 0, fd;

	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	for (i = 0; i < 40; i++)
		ASSERT_EQ(0, call(self->p, &self->caller));
	/* As native: one more than was asked for. */
	while ((fd = accept(self->fd, NULL, NULL)) >= 0) {
		n++;
		close(fd);
	}
	EXPECT_EQ(17, n);
}

TEST_F(listen, listens_again)
{
	struct puppet_stats stats;
	int i;

	ASSERT_EQ(0, listen(self->fd, 99));
	for (i = 0; i < 500; i++) {
		puppet_stats(self->p, &stats);
		if (stats.backlog == 99)
			break;
		usleep(10000);
	}
	EXPECT_EQ(99, stats.backlog);
}

TEST_F(listen, children_outlive_it)
{
	char in[3];
	int fd;

	ASSERT_EQ(0, call(self->p, &self->caller));
	fd = accept(self->fd, NULL, NULL);
	ASSERT_LE(0, fd);
	close(self->fd);
	ASSERT_EQ(3, write(fd, "abc", 3));
	EXPECT_EQ(3, recv(fd, in, 3, MSG_WAITALL));
	close(fd);
	self->fd = bound(variant->family, variant->bind, PORT + 1);
}

/* Children that nobody accepted are reset, the listener is forgotten. */
TEST_F(listen, closes_with_children_waiting)
{
	int i;

	for (i = 0; i < 5; i++)
		ASSERT_EQ(0, call(self->p, &self->caller));
	close(self->fd);
	self->fd = -1;
	EXPECT_TRUE(puppet_told(self->p, DMM_OP_ABORT, 6));
}

TEST_F(listen, shutdown_ends_it)
{

	ASSERT_EQ(0, call(self->p, &self->caller));
	ASSERT_EQ(0, shutdown(self->fd, SHUT_RD));
	EXPECT_EQ(-1, accept(self->fd, NULL, NULL));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(puppet_told(self->p, DMM_OP_ABORT, 2));
	EXPECT_EQ(0, world_adopted(self->fd));
	/* And it may begin anew, now without a verdict: native. */
	EXPECT_EQ(0, listen(self->fd, 5));
}

static int wait_readable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

static void *acceptor(void *arg)
{
	long fd = (long)arg, n = 0;
	int child;

	while ((child = accept(fd, NULL, NULL)) >= 0) {
		n++;
		close(child);
	}
	return (void *)n;
}

TEST_F(listen, several_accept_at_once)
{
	pthread_t t[4];
	long total = 0;
	void *n;
	int i;

	ASSERT_EQ(0, listen(self->fd, 128));
	for (i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, acceptor, (void *)(long)self->fd);
	for (i = 0; i < 100; i++)
		ASSERT_EQ(0, call(self->p, &self->caller));
	while (wait_readable(self->fd))
		usleep(10000);
	shutdown(self->fd, SHUT_RD);
	for (i = 0; i < 4; i++) {
		pthread_join(t[i], &n);
		total += (long)n;
	}
	EXPECT_EQ(100, total);
}

TEST_F(listen, a_child_offered_twice)
{
	struct puppet_stats stats;
	int fd;

	ASSERT_EQ(0, call(self->p, &self->caller));
	self->caller.rport--;
	EXPECT_EQ(-1, puppet_call(self->p, &self->caller));
	puppet_stats(self->p, &stats);
	EXPECT_LE(1, stats.bad);
	fd = accept(self->fd, NULL, NULL);
	ASSERT_LE(0, fd);
	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-1, accept(self->fd, NULL, NULL));
	close(fd);
}

/* Each to the listener's own slot, with its own generation. */
TEST_F(listen, nonsense_is_dropped)
{
	struct dmm_ev_incoming good = {
		.family = self->caller.v6 ? AF_INET6 : AF_INET,
		.lport = htons(PORT),
		.rport = htons(7777),
	}, bad;
	struct dmm_event ev = { .ev = DMM_EV_INCOMING };
	__u64 dropped = 0;
	__u32 i;

	ASSERT_TRUE(puppet_told(self->p, DMM_OP_LISTEN, 1));
	inet_pton(good.family, self->caller.v6 ? WORLD_ADDR6 : WORLD_ADDR,
		  good.laddr);
	inet_pton(good.family, self->caller.v6 ? WORLD_PEER6 : WORLD_PEER,
		  good.raddr);
	puppet_freeze(self->p);
	puppet_last(self->p, &ev.slot, &ev.gen);
	for (i = 0; i < 6; i++) {
		bad = good;
		switch (i) {
		case 0:
			bad.rport = 0;
			break;
		case 1:
			bad.lport = htons(PORT + 1);
			break;
		case 2:
			bad.family = 77;
			break;
		case 3:
			memset(bad.raddr, 0, sizeof(bad.raddr));
			break;
		case 4:
			memset(bad.raddr, 0xff, sizeof(bad.raddr));
			break;
		case 5:
			memset(bad.laddr, 0, sizeof(bad.laddr));
			break;
		}
		ev.incoming = bad;
		dmm_chan_event_put(puppet_chan(self->p), &ev);
		puppet_kick(self->p, &dropped);
		EXPECT_EQ(i + 1, dropped) TH_LOG("case %u", i);
	}
	puppet_thaw(self->p);
	EXPECT_EQ(0, call(self->p, &self->caller));
	close(accept(self->fd, NULL, NULL));
	EXPECT_EQ(1, world_adopted(self->fd));
}

/* Served, once; INCOMING; its end: nothing else is said of a listener. */
TEST_F(listen, lies_about_the_listener)
{
	struct dmm_event ev = { .ev = DMM_EV_CONNECTED };
	__u64 before = world_bad_events(), dropped = 0;
	int i;

	ASSERT_TRUE(puppet_told(self->p, DMM_OP_LISTEN, 1));
	puppet_freeze(self->p);
	puppet_last(self->p, &ev.slot, &ev.gen);
	for (i = 0; i < 5; i++) {
		static const __u32 types[] = {
			DMM_EV_CONNECTED, DMM_EV_RX, DMM_EV_ROOM,
			DMM_EV_FIN_ACKED, DMM_EV_FIN,
		};

		ev.ev = types[i];
		dmm_chan_event_put(puppet_chan(self->p), &ev);
		puppet_kick(self->p, &dropped);
	}
	EXPECT_EQ(before + 5, world_bad_events());
	puppet_thaw(self->p);
	EXPECT_EQ(0, call(self->p, &self->caller));
	close(accept(self->fd, NULL, NULL));

	/* Its end makes it the kernel's, and said twice it is nobody's. */
	puppet_freeze(self->p);
	ev.ev = DMM_EV_GONE;
	dropped = 0;
	for (i = 0; i < 2; i++) {
		dmm_chan_event_put(puppet_chan(self->p), &ev);
		puppet_kick(self->p, &dropped);
		EXPECT_EQ(i, dropped);
	}
	puppet_thaw(self->p);
	EXPECT_EQ(0, world_adopted(self->fd));
	EXPECT_EQ(TCP_LISTEN, tcp_state(self->fd));
}

/*
 * It waits, is told, and answers. With TCP's poll() it would be told once a second, of
 * what is kept fresh for `ss`: so often it is asked.
 */
static void expect_whole(struct __test_metadata *_metadata, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	time_t began = time(NULL);
	char in[5];
	int i;

	ASSERT_LE(0, fd);
	EXPECT_EQ(1, world_adopted(fd));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(5, write(fd, "whole", 5));
		EXPECT_EQ(1, poll(&pfd, 1, 5000));
		EXPECT_EQ(POLLIN, pfd.revents);
		EXPECT_EQ(5, recv(fd, in, 5, MSG_WAITALL));
	}
	EXPECT_GT(10, time(NULL) - began);
	close(fd);
}

static int end_listener(struct puppet *p)
{
	struct dmm_event ev = { .ev = DMM_EV_GONE };
	__u64 dropped = 0;
	int ret;

	puppet_freeze(p);
	ret = puppet_listener(p, PORT, &ev.slot, &ev.gen);
	dmm_chan_event_put(puppet_chan(p), &ev);
	puppet_kick(p, &dropped);
	puppet_thaw(p);
	return ret ? ret : (int)dropped;
}

/* The worker ends the listener while its children wait: they are the stack's yet. */
TEST_F(listen, children_of_one_that_ended)
{
	ASSERT_EQ(0, call(self->p, &self->caller));
	ASSERT_EQ(0, end_listener(self->p));
	expect_whole(_metadata, accept(self->fd, NULL, NULL));
}

TEST_F(listen, ended_closes_with_children_waiting)
{
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, call(self->p, &self->caller));
	ASSERT_EQ(0, end_listener(self->p));
	close(self->fd);
	self->fd = -1;
	EXPECT_TRUE(puppet_told(self->p, DMM_OP_ABORT, 3));
}

/* The stack took a SYN for an old connection's TIME_WAIT: so does the kernel. */
TEST_F(listen, a_child_in_place_of_time_wait)
{
	int fd;

	ASSERT_EQ(0, call(self->p, &self->caller));
	fd = accept(self->fd, NULL, NULL);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_TRUE(puppet_told(self->p, DMM_OP_CLOSE, 1));
	usleep(50000);
	self->caller.rport--;
	ASSERT_EQ(0, puppet_call(self->p, &self->caller));
	expect_whole(_metadata, accept(self->fd, NULL, NULL));
}

/* What the worker says of a child's round trip is not what the kernel measured. */
TEST_F(listen, a_child_teaches_no_metrics)
{
	struct dmm_slot_info info = { .srtt_us = 77777, .snd_cwnd = 1, .snd_mss = 1 };
	struct tcp_info ti;
	socklen_t len = sizeof(ti);
	__u32 slot, gen;
	int fd;

	ASSERT_EQ(0, call(self->p, &self->caller));
	fd = accept(self->fd, NULL, NULL);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(puppet_told(self->p, DMM_OP_ATTACH, 1));
	puppet_last(self->p, &slot, &gen);
	dmm_chan_slot_info(puppet_chan(self->p), slot, &info);
	ASSERT_EQ(0, getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len));
	EXPECT_EQ(77777, ti.tcpi_rtt);
	close(fd);
	ASSERT_TRUE(puppet_told(self->p, DMM_OP_CLOSE, 1));
	usleep(50000);
	EXPECT_NE(0, system("ip tcp_metrics show | grep -q 77"));
}

/* route=own: as if bound to the device, where no route leads to the peer. */
TEST_F(listen, route_own_is_for_children_too)
{
	struct puppet_opts opts = {
		.name = "puppet",
		.id = WORLD_STACK,
		.ifindex = world_ifindex(self->w),
		.flags = DMM_ATTACH_F_ROUTE_OWN,
	};
	struct ifreq ifr;
	socklen_t len = sizeof(ifr.ifr_name);
	int fd;

	if (variant->call6)	/* a device alone is no route in IPv6 */
		return;
	close(self->fd);
	puppet_kill(self->p);
	self->p = puppet_start(&opts);
	ASSERT_NE(NULL, self->p);
	ASSERT_EQ(0, system("ip route del 10.77.0.0/24 dev d0"));
	self->fd = bound(variant->family, variant->bind, PORT);
	ASSERT_EQ(0, listen(self->fd, 16));
	ASSERT_EQ(0, call(self->p, &self->caller));
	fd = accept(self->fd, NULL, NULL);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ifr.ifr_name,
				&len));
	EXPECT_EQ(0, len);
	expect_whole(_metadata, fd);
}

/* An honest worker offers a child to a listener that is just being closed. */
TEST_F(listen, a_child_that_crosses_the_close)
{
	struct dmm_ev_incoming in = {
		.family = self->caller.v6 ? AF_INET6 : AF_INET,
		.lport = htons(PORT),
		.rport = htons(7777),
	};
	struct dmm_event ev = { .ev = DMM_EV_INCOMING };
	__u64 before = world_bad_events(), dropped = 0;

	inet_pton(in.family, self->caller.v6 ? WORLD_ADDR6 : WORLD_ADDR,
		  in.laddr);
	inet_pton(in.family, self->caller.v6 ? WORLD_PEER6 : WORLD_PEER,
		  in.raddr);
	ev.incoming = in;
	ASSERT_EQ(0, call(self->p, &self->caller));
	puppet_freeze(self->p);
	ASSERT_EQ(0, puppet_listener(self->p, PORT, &ev.slot, &ev.gen));
	close(self->fd);
	self->fd = -1;
	dmm_chan_event_put(puppet_chan(self->p), &ev);
	puppet_kick(self->p, &dropped);
	EXPECT_EQ(0, dropped);
	puppet_thaw(self->p);
	EXPECT_EQ(before, world_bad_events());
}

static int shared(int family, const char *addr)
{
	int fd = bound(family, addr, PORT + 1), one = 1;

	close(fd);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (family == AF_INET) {
		struct sockaddr_in sin = {
			.sin_family = AF_INET,
			.sin_port = htons(PORT + 1),
			.sin_addr.s_addr = inet_addr(addr),
		};

		bind(fd, (struct sockaddr *)&sin, sizeof(sin));
	} else {
		struct sockaddr_in6 sin6 = {
			.sin6_family = AF_INET6,
			.sin6_port = htons(PORT + 1),
		};

		inet_pton(AF_INET6, addr, &sin6.sin6_addr);
		bind(fd, (struct sockaddr *)&sin6, sizeof(sin6));
	}
	listen(fd, 16);
	return fd;
}

/* tcp_migrate_req: what waits at a listener that closes goes to its sibling. */
TEST_F(listen, children_migrate_to_a_native_one)
{
	int from, to;

	ASSERT_EQ(0, world_sysctl("ipv4/tcp_migrate_req", "1"));
	from = shared(variant->family, variant->bind);
	world_rule(self->w, 0);
	to = shared(variant->family, variant->bind);
	ASSERT_EQ(1, world_adopted(from));
	ASSERT_EQ(0, world_adopted(to));
	self->caller.lport = PORT + 1;
	ASSERT_EQ(0, call(self->p, &self->caller));
	close(from);
	expect_whole(_metadata, accept(to, NULL, NULL));
	close(to);
}

/* More than the arena has slots: none for the child, and none is lost. */
TEST_F(listen, no_slot_for_a_child)
{
	struct puppet_opts opts = {
		.name = "small",
		.id = WORLD_STACK,
		.ifindex = world_ifindex(self->w),
		.nslots = 4,
	};
	__u64 before = world_fallbacks(DMM_FALLBACK_NO_SLOT);
	int fds[3], i, fd;

	close(self->fd);
	puppet_kill(self->p);
	self->p = puppet_start(&opts);
	ASSERT_NE(NULL, self->p);
	self->fd = bound(variant->family, variant->bind, PORT);
	ASSERT_EQ(0, listen(self->fd, 16));
	fcntl(self->fd, F_SETFL, O_NONBLOCK);

	for (i = 0; i < 8; i++)
		ASSERT_EQ(0, call(self->p, &self->caller));
	EXPECT_EQ(before + 5, world_fallbacks(DMM_FALLBACK_NO_SLOT));
	for (i = 0; i < 3; i++)
		fds[i] = accept(self->fd, NULL, NULL);
	ASSERT_LE(0, fds[2]);
	EXPECT_EQ(-1, accept(self->fd, NULL, NULL));
	/* The port of those that were dropped is free of them. */
	for (i = 0; i < 3; i++)
		expect_whole(_metadata, fds[i]);
	for (i = 0; i < 500; i++) {
		call(self->p, &self->caller);
		fd = accept(self->fd, NULL, NULL);
		if (fd >= 0)
			break;
		usleep(10000);
	}
	expect_whole(_metadata, fd);
}

static long overflows(void)
{
	FILE *f = popen("nstat -asz TcpExtListenOverflows | "
			"awk '/Overflows/ { print $2 }'", "r");
	long n = -1;

	if (fscanf(f, "%ld", &n) != 1)
		n = -1;
	pclose(f);
	return n;
}

/* Each beyond the backlog is counted, costs nothing, and may be offered again. */
TEST_F(listen, flood)
{
	struct puppet_caller caller = self->caller;
	long before = overflows();
	int i, n = 0, fd;

	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	for (i = 0; i < 1000; i++)
		ASSERT_EQ(0, call(self->p, &self->caller));
	EXPECT_EQ(before + 1000 - 17, overflows());
	while ((fd = accept(self->fd, NULL, NULL)) >= 0) {
		n++;
		close(fd);
	}
	EXPECT_EQ(17, n);
	/* The first that found no room; one of those that did is still there. */
	caller.rport += 17;
	EXPECT_EQ(0, puppet_call(self->p, &caller));
	fd = accept(self->fd, NULL, NULL);
	EXPECT_LE(0, fd);
	close(fd);
}

static struct puppet *again(struct world *w, const char *name)
{
	struct puppet_opts opts = {
		.name = name,
		.id = WORLD_STACK,
		.ifindex = world_ifindex(w),
	};

	return puppet_start(&opts);
}

TEST_F(listen, comes_back_with_its_worker)
{
	struct puppet_stats stats;
	char in[2];
	int fd, i;

	for (i = 0; i < 3; i++) {
		puppet_kill(self->p);
		ASSERT_EQ(0, listen(self->fd, 20 + i));
		self->p = again(self->w, "puppet");
		ASSERT_NE(NULL, self->p);
		ASSERT_EQ(0, call(self->p, &self->caller));
		puppet_stats(self->p, &stats);
		EXPECT_EQ(20 + i, stats.backlog);
		EXPECT_EQ(1, stats.ops[DMM_OP_LISTEN]);
		fd = accept(self->fd, NULL, NULL);
		ASSERT_LE(0, fd);
		EXPECT_EQ(1, world_adopted(fd));
		ASSERT_EQ(2, write(fd, "hi", 2));
		EXPECT_EQ(2, recv(fd, in, 2, MSG_WAITALL));
		close(fd);
	}
}

/* The same number, but another stack. */
TEST_F(listen, waits_for_its_own_stack)
{
	puppet_kill(self->p);
	self->p = again(self->w, "other");
	ASSERT_NE(NULL, self->p);
	usleep(100000);
	EXPECT_EQ(-1, puppet_call(self->p, &self->caller));
	puppet_kill(self->p);
	self->p = again(self->w, "puppet");
	ASSERT_NE(NULL, self->p);
	ASSERT_EQ(0, call(self->p, &self->caller));
	close(accept(self->fd, NULL, NULL));
}

TEST_F(listen, closes_while_it_waits)
{
	puppet_kill(self->p);
	close(self->fd);
	self->p = again(self->w, "puppet");
	ASSERT_NE(NULL, self->p);
	usleep(100000);
	EXPECT_EQ(-1, puppet_call(self->p, &self->caller));
	/* The port is free, and nobody holds anything: the world ends. */
	self->fd = bound(variant->family, variant->bind, PORT);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, listen(self->fd, 5));
	ASSERT_EQ(0, call(self->p, &self->caller));
}

/* The kernel goes on alone. */
TEST_F(listen, survives_the_worker)
{
	int native, waiting;

	ASSERT_EQ(0, call(self->p, &self->caller));
	puppet_kill(self->p);
	self->p = NULL;
	/* The child that waited was reset, but is there: as native. */
	waiting = accept(self->fd, NULL, NULL);
	ASSERT_LE(0, waiting);
	EXPECT_EQ(TCP_CLOSE, tcp_state(waiting));
	close(waiting);
	EXPECT_EQ(TCP_LISTEN, tcp_state(self->fd));
	EXPECT_EQ(1, world_adopted(self->fd));	/* its stack may come back */
	if (strcmp(variant->bind, "::") && strcmp(variant->bind, "0.0.0.0"))
		return;
	native = call_native(variant->family, PORT);
	ASSERT_LE(0, native);
	waiting = accept(self->fd, NULL, NULL);
	ASSERT_LE(0, waiting);
	EXPECT_EQ(0, world_adopted(waiting));
	close(waiting);
	close(native);
}

TEST_F(listen, a_bound_client_is_no_listener)
{
	struct sockaddr_in6 to6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(PORT_ECHO),
	};
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(PORT_ECHO),
	};
	int fd = bound(variant->family, variant->bind, 5000);
	char in[2];

	ASSERT_LE(0, fd);
	inet_pton(AF_INET, WORLD_PEER, &to.sin_addr);
	inet_pton(AF_INET6, variant->call6 ? WORLD_PEER6 : "::ffff:" WORLD_PEER,
		  &to6.sin6_addr);
	ASSERT_EQ(0, connect(fd, variant->family == AF_INET ? (void *)&to :
			     (void *)&to6, variant->family == AF_INET ?
			     sizeof(to) : sizeof(to6)));
	EXPECT_EQ(1, world_adopted(fd));
	ASSERT_EQ(2, write(fd, "hi", 2));
	EXPECT_EQ(2, recv(fd, in, 2, MSG_WAITALL));
	close(fd);
}

TEST_F(listen, loopback_falls_back)
{
	__u64 before = world_fallbacks(DMM_FALLBACK_ROUTE);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in me = { .sin_family = AF_INET };

	/* Bound to no address, so the hook assigns; then to a device. */
	ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	ASSERT_EQ(0, bind(fd, (struct sockaddr *)&me, sizeof(me)));
	ASSERT_EQ(0, listen(fd, 5));
	EXPECT_EQ(0, world_adopted(fd));
	EXPECT_EQ(before + 1, world_fallbacks(DMM_FALLBACK_ROUTE));
	close(fd);
}

TEST_HARNESS_MAIN
