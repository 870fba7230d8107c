// SPDX-License-Identifier: Apache-2.0
/*
 * What the shim does with its socket: mark it, have connect() refused with a
 * private errno, ask whose it is. And that the programs behind it leave all other
 * socket options alone, whatever their length.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>

#include "kselftest_harness.h"
#include "fixture.h"
#include "shim.h"

TEST_F(policy, only_where_attached)
{
	int fd = tcp(AF_INET);

	EXPECT_GT(0, mark(fd, 1));
	EXPECT_GT(0, ask(fd, DMM_SO_STACK));
	SHIM_ATTACH();
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(0, ask(fd, DMM_SO_STACK));
	EXPECT_EQ(0, dmm_policy_detach(self->p, DMM_POLICY_SHIM, self->cg.id));
	EXPECT_GT(0, ask(fd, DMM_SO_STACK));
	close(fd);
}

TEST_F(policy, a_marked_socket_is_the_shims)
{
	static const char * const addrs[] = { "127.0.0.1", "::1", "::ffff:127.0.0.1" };
	struct dmm_rule_stats st;
	int fd;
	__u32 i;

	SHIM_ATTACH();
	with_dport(rule(&self->set, 1, STACK), 80, 80);
	INSTALL(&self->set);
	for (i = 0; i < 3; i++) {
		fd = tcp(strchr(addrs[i], ':') ? AF_INET6 : AF_INET);
		EXPECT_EQ(0, mark(fd, 1));
		EXPECT_EQ(1, ask(fd, DMM_SO_SHIM));
		EXPECT_EQ(0, ask(fd, DMM_SO_STACK));
		EXPECT_EQ(DMM_SHIM_TAKE, go(fd, addrs[i], 80));
		EXPECT_EQ(STACK, ask(fd, DMM_SO_STACK));
		close(fd);
		st = stats_of(self->p, 1);
		EXPECT_EQ(i + 1, st.hits);
		EXPECT_EQ(i + 1, st.adopted);
		EXPECT_EQ(i + 1, st.shim);
	}
	EXPECT_EQ(0, st.fallback[DMM_FALLBACK_NO_CLIENT]);
	EXPECT_EQ(ENETDOWN, DMM_REJECT_ERRNO);
}

/* The kernel's: the connection is made, and the answer is no stack. */
TEST_F(policy, a_marked_socket_that_stays_native)
{
	int families[] = { AF_INET, AF_INET6 }, port, lfd, fd, i;

	SHIM_ATTACH();
	for (i = 0; i < 2; i++) {
		lfd = listener(families[i], &port);
		ASSERT_LE(0, lfd);
		self->set.count = 0;
		with_dport(rule(&self->set, 1, STACK), 80, 80);
		with_dport(rule(&self->set, 2, DMM_STACK_KERNEL), 1, 65535);
		INSTALL(&self->set);
		fd = tcp(families[i]);
		EXPECT_EQ(0, mark(fd, 1));
		EXPECT_EQ(0, go(fd, i ? "::1" : "127.0.0.1", port));
		EXPECT_EQ(0, ask(fd, DMM_SO_STACK));
		close(fd);
		close(lfd);
	}
	EXPECT_EQ(0, stats_of(self->p, 2).adopted);
}

/* A shim that cannot serve it says so, and calls again. */
TEST_F(policy, the_mark_is_taken_away)
{
	struct dmm_rule_stats st;
	int port, lfd, fd;

	SHIM_ATTACH();
	lfd = listener(AF_INET, &port);
	with_dport(rule(&self->set, 1, STACK), port, port);
	INSTALL(&self->set);
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(DMM_SHIM_TAKE, go(fd, "127.0.0.1", port));
	EXPECT_EQ(STACK, ask(fd, DMM_SO_STACK));
	EXPECT_EQ(0, mark(fd, 0));
	EXPECT_EQ(0, ask(fd, DMM_SO_SHIM));
	EXPECT_EQ(0, ask(fd, DMM_SO_STACK));
	EXPECT_EQ(0, go(fd, "127.0.0.1", port));
	st = stats_of(self->p, 1);
	EXPECT_EQ(2, st.hits);
	EXPECT_EQ(0, st.shim);
	EXPECT_EQ(1, st.fallback[reason_here()]);
	close(fd);

	/* Under a strict rule that is an errno. */
	self->set.rules[0].flags = DMM_RULE_F_REJECT;
	INSTALL(&self->set);
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(DMM_SHIM_TAKE, go(fd, "127.0.0.1", port));
	EXPECT_EQ(0, mark(fd, 0));
	EXPECT_EQ(ENETDOWN, go(fd, "127.0.0.1", port));
	close(fd);
	close(lfd);
}

static int say(int fd, int opt, __u32 why)
{
	return setsockopt(fd, SOL_DMM, opt, &why, sizeof(why)) < 0 ? -errno : 0;
}

/* It says why, and that is what is counted, unless the module has its own reason. */
TEST_F(policy, the_shim_says_why)
{
	int port, lfd, fd, why = reason_here();
	struct dmm_rule_stats st;

	SHIM_ATTACH();
	if (why == DMM_FALLBACK_NO_CLIENT)
		why = DMM_FALLBACK_ROUTE;
	lfd = listener(AF_INET, &port);
	with_dport(rule(&self->set, 1, STACK), port, port);
	INSTALL(&self->set);
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(DMM_SHIM_TAKE, go(fd, "127.0.0.1", port));
	EXPECT_EQ(0, say(fd, DMM_SO_FALLBACK, DMM_FALLBACK_ROUTE));
	EXPECT_EQ(0, ask(fd, DMM_SO_SHIM));
	EXPECT_EQ(0, say(fd, DMM_SO_FALLBACK, DMM_FALLBACK_ROUTE));
	EXPECT_EQ(0, go(fd, "127.0.0.1", port));
	st = stats_of(self->p, 1);
	EXPECT_EQ(2, st.hits);
	EXPECT_EQ(0, st.adopted);
	EXPECT_EQ(0, st.shim);
	EXPECT_EQ(1, st.fallback[why]);
	close(fd);

	/* One that was never marked. */
	self->set.rules[0].flags = DMM_RULE_F_REJECT;
	INSTALL(&self->set);
	fd = tcp(AF_INET);
	EXPECT_EQ(0, say(fd, DMM_SO_FALLBACK, DMM_FALLBACK_ROUTE));
	EXPECT_EQ(ENETDOWN, go(fd, "127.0.0.1", port));
	st = stats_of(self->p, 1);
	EXPECT_EQ(2, st.fallback[why]);
	EXPECT_EQ(1, st.rejected);
	/* A new mark forgets it. */
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(0, mark(fd, 0));
	EXPECT_EQ(ENETDOWN, go(fd, "127.0.0.1", port));
	st = stats_of(self->p, 1);
	EXPECT_EQ(why == reason_here() ? 3 : 1, st.fallback[reason_here()]);
	close(fd);
	close(lfd);
}

TEST_F(policy, a_listener_that_the_shim_gives_back)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, "127.0.0.1", 0);
	struct dmm_rule_stats st;
	int fd, strict;

	SHIM_ATTACH();
	with_dir(rule(&self->set, 1, STACK), DMM_DIR_LISTEN);
	for (strict = 0; strict < 2; strict++) {
		self->set.rules[0].id = 1 + strict;
		self->set.rules[0].flags = strict ? DMM_RULE_F_REJECT : 0;
		INSTALL(&self->set);
		fd = tcp(AF_INET);
		/* nothing was decided yet */
		EXPECT_EQ(0, say(fd, DMM_SO_LISTEN, DMM_FALLBACK_NO_SLOT));
		EXPECT_EQ(0, mark(fd, 1));
		EXPECT_EQ(0, say(fd, DMM_SO_LISTEN, DMM_FALLBACK_NO_SLOT));
		EXPECT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
		EXPECT_EQ(1, stats_of(self->p, 1 + strict).adopted);
		EXPECT_EQ(strict ? -ENETDOWN : 0,
			  say(fd, DMM_SO_LISTEN, DMM_FALLBACK_NO_SLOT));
		/* and again: the verdict stands */
		EXPECT_EQ(STACK, ask(fd, DMM_SO_STACK));
		EXPECT_EQ(strict ? -ENETDOWN : 0,
			  say(fd, DMM_SO_LISTEN, DMM_FALLBACK_NO_SLOT));
		st = stats_of(self->p, 1 + strict);
		EXPECT_EQ(0, st.adopted);
		EXPECT_EQ(0, st.shim);
		EXPECT_EQ(2, st.fallback[DMM_FALLBACK_NO_SLOT]);
		EXPECT_EQ(2U * strict, st.rejected);
		close(fd);
	}
}

TEST_F(policy, the_last_verdict_counts)
{
	int port, lfd, fd;

	SHIM_ATTACH();
	lfd = listener(AF_INET, &port);
	with_dport(rule(&self->set, 1, STACK), 80, 80);
	INSTALL(&self->set);
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(DMM_SHIM_TAKE, go(fd, "127.0.0.1", 80));
	EXPECT_EQ(STACK, ask(fd, DMM_SO_STACK));
	self->set.count = 0;
	INSTALL(&self->set);
	EXPECT_EQ(0, go(fd, "127.0.0.1", port));
	EXPECT_EQ(0, ask(fd, DMM_SO_STACK));
	close(fd);
	close(lfd);
}

/* bind() gives the port in the kernel, too; who serves it is asked after. */
TEST_F(policy, a_marked_listener)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, "127.0.0.1", 0);
	int fd, child, client;

	SHIM_ATTACH();
	with_dir(rule(&self->set, 1, STACK), DMM_DIR_LISTEN);
	INSTALL(&self->set);
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
	EXPECT_EQ(STACK, ask(fd, DMM_SO_STACK));
	EXPECT_EQ(1, stats_of(self->p, 1).shim);
	EXPECT_EQ(0, listen(fd, 1));
	EXPECT_EQ(0, getsockname(fd, (struct sockaddr *)&ss, &len));
	client = tcp(AF_INET);
	EXPECT_EQ(0, connect(client, (struct sockaddr *)&ss, len));
	child = accept(fd, NULL, NULL);
	EXPECT_LE(0, child);
	EXPECT_EQ(0, ask(child, DMM_SO_SHIM));
	EXPECT_EQ(0, ask(child, DMM_SO_STACK));
	close(child);
	close(client);
	close(fd);
}

/* Only what connect() gave to a stack has a port reserved, once, unjudged. */
TEST_F(policy, who_may_say_that_it_takes_it)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, "127.0.0.1", 0);
	int fd;

	SHIM_ATTACH();
	rejecting(with_dir(rule(&self->set, 1, STACK), DMM_DIR_LISTEN));
	with_dport(rule(&self->set, 2, STACK), 80, 80);
	INSTALL(&self->set);

	/* nobody asked; asked, and no verdict */
	fd = tcp(AF_INET);
	EXPECT_EQ(-EINVAL, mark(fd, 2));
	EXPECT_EQ(ENETDOWN, bind(fd, (struct sockaddr *)&ss, len) < 0 ? errno : 0);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(-EINVAL, mark(fd, 2));
	close(fd);

	/* the kernel's */
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(ECONNREFUSED, go(fd, "127.0.0.1", 79));
	EXPECT_EQ(-EINVAL, mark(fd, 2));
	close(fd);

	/* a stack's, but by bind() */
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
	EXPECT_EQ(STACK, ask(fd, DMM_SO_STACK));
	EXPECT_EQ(-EINVAL, mark(fd, 2));
	close(fd);

	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(DMM_SHIM_TAKE, go(fd, "127.0.0.1", 80));
	EXPECT_EQ(0, mark(fd, 2));
	EXPECT_EQ(2, ask(fd, DMM_SO_SHIM));
	EXPECT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
	EXPECT_EQ(1, ask(fd, DMM_SO_SHIM));
	EXPECT_EQ(2, stats_of(self->p, 1).hits);
	EXPECT_EQ(1, stats_of(self->p, 2).adopted);
	close(fd);
}

TEST_F(policy, bad_input)
{
	char longer[8] = { 1 };
	__u32 v = 1;
	socklen_t len;
	int fd, other, opt;

	SHIM_ATTACH();
	fd = tcp(AF_INET);
	EXPECT_EQ(-EINVAL, mark(fd, 3));
	EXPECT_EQ(-EINVAL, mark(fd, ~0U));
	for (opt = DMM_SO_FALLBACK; opt <= DMM_SO_LISTEN; opt++) {
		EXPECT_EQ(-EINVAL, say(fd, opt, 0));
		EXPECT_EQ(-EINVAL, say(fd, opt, __DMM_FALLBACK_MAX));
		EXPECT_EQ(-EINVAL, say(fd, opt, ~0U));
		EXPECT_EQ(-1, setsockopt(fd, SOL_DMM, opt, longer, sizeof(longer)));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(-1, setsockopt(fd, SOL_DMM, DMM_SO_SHIM, longer, sizeof(longer)));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, setsockopt(fd, SOL_DMM, DMM_SO_SHIM, &v, 2));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, setsockopt(fd, SOL_DMM, DMM_SO_SHIM, (void *)16, sizeof(v)));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, setsockopt(fd, SOL_DMM, DMM_SO_STACK, &v, sizeof(v)));
	EXPECT_EQ(ENOPROTOOPT, errno);
	EXPECT_EQ(-1, setsockopt(fd, SOL_DMM, 99, &v, sizeof(v)));
	EXPECT_EQ(ENOPROTOOPT, errno);
	len = 2;
	EXPECT_EQ(-1, getsockopt(fd, SOL_DMM, DMM_SO_STACK, &v, &len));
	EXPECT_EQ(EINVAL, errno);
	len = sizeof(v);
	EXPECT_EQ(-1, getsockopt(fd, SOL_DMM, 99, &v, &len));
	EXPECT_EQ(0, ask(fd, DMM_SO_SHIM));
	close(fd);

	other = socket(AF_INET, SOCK_DGRAM, 0);
	EXPECT_GT(0, mark(other, 1));
	EXPECT_GT(0, ask(other, DMM_SO_STACK));
	close(other);
	other = socket(AF_UNIX, SOCK_STREAM, 0);
	EXPECT_GT(0, mark(other, 1));
	EXPECT_GT(0, ask(other, DMM_SO_STACK));
	close(other);
}

/* ------------------------------------------------------------------------- */

/* Options of every length, with the programs and without: the same. */
TEST_F(policy, other_options_are_left_alone)
{
	enum { FILTERS = 2000 };	/* 16000 bytes, a filter of four pages */
	struct sock_filter *filters = calloc(FILTERS, sizeof(*filters)), *back;
	struct sock_fprog prog = { .len = FILTERS, .filter = filters };
	char cc[16] = "", big[8192], addrs[8192];
	struct tcp_info info;
	socklen_t len;
	int fd = tcp(AF_INET), v, i;

	SHIM_ATTACH();
	v = 1;
	EXPECT_EQ(0, setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, sizeof(v)));
	v = 0;
	len = sizeof(v);
	EXPECT_EQ(0, getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	EXPECT_EQ(1, v);
	EXPECT_EQ(sizeof(v), len);
	len = sizeof(info);
	EXPECT_EQ(0, getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	EXPECT_LT(100, len);
	len = sizeof(cc);
	EXPECT_EQ(0, getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, &len));
	EXPECT_NE(0, cc[0]);

	/* A value that is longer than a page, both ways. */
	memset(big, 0, sizeof(big));
	memcpy(big, &v, sizeof(v));
	EXPECT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, big, sizeof(big)));
	len = sizeof(addrs);
	EXPECT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, addrs, &len));
	EXPECT_EQ(sizeof(v), len);
	EXPECT_EQ(0, memcmp(addrs, &v, sizeof(v)));

	for (i = 0; i < FILTERS; i++)
		filters[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ~0U);
	EXPECT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	back = calloc(FILTERS, sizeof(*back));
	len = FILTERS;
	EXPECT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, back, &len));
	EXPECT_EQ(FILTERS, len);
	free(back);
	free(filters);

	/* Errors are the kernel's own. */
	len = sizeof(v);
	EXPECT_EQ(-1, getsockopt(fd, IPPROTO_TCP, 9999, &v, &len));
	EXPECT_EQ(ENOPROTOOPT, errno);
	EXPECT_EQ(-1, setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, 1));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

/* Two pages, of which the program sees the first. */
TEST_F(policy, multicast_filter_longer_than_a_page)
{
	enum { N = 2000 };
	size_t size = sizeof(struct ip_msfilter) + N * sizeof(struct in_addr);
	struct ip_mreqn mreq = { .imr_ifindex = 1 };
	struct ip_msfilter *f = calloc(1, size), *back = calloc(1, size);
	socklen_t len = size;
	int fd = socket(AF_INET, SOCK_DGRAM, 0), i;
	FILE *max;

	SHIM_ATTACH();
	max = fopen("/proc/sys/net/ipv4/igmp_max_msf", "w");
	if (max) {
		fprintf(max, "%d", N);
		fclose(max);
	}
	inet_pton(AF_INET, "239.1.2.3", &mreq.imr_multiaddr);
	inet_pton(AF_INET, "127.0.0.1", &mreq.imr_address);
	ASSERT_EQ(0, setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreq, sizeof(mreq)));
	f->imsf_multiaddr = mreq.imr_multiaddr;
	f->imsf_interface = mreq.imr_address;
	f->imsf_fmode = MCAST_EXCLUDE;
	f->imsf_numsrc = N;
	for (i = 0; i < N; i++)
		f->imsf_slist[i].s_addr = htonl(0x0a000000 + i);
	if (setsockopt(fd, IPPROTO_IP, IP_MSFILTER, f, size) < 0)
		SKIP(goto out, "no memory for a filter of %zu bytes: %s", size,
		     strerror(errno));
	memcpy(back, f, sizeof(*f));
	back->imsf_numsrc = N;
	EXPECT_EQ(0, getsockopt(fd, IPPROTO_IP, IP_MSFILTER, back, &len));
	EXPECT_EQ(N, back->imsf_numsrc);
	EXPECT_EQ(0, memcmp(f->imsf_slist, back->imsf_slist, N * sizeof(struct in_addr)));
out:
	free(f);
	free(back);
	close(fd);
}

TEST_HARNESS_MAIN
