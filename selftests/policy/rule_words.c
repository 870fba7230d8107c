// SPDX-License-Identifier: Apache-2.0
/*
 * The whole match language against real sockets: connect() and bind(), IPv4, IPv6
 * and mapped addresses, and what a rule does that forbids to fall back. And the
 * same matching as `rule explain` does it, which must agree.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "fixture.h"
#include "match.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int tcp(int family)
{
	int one = 1, fd;

	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return fd;
}

/* The errno of bind(); a socket of @family, or of the address's own. */
static int bind_errno(int family, const char *addr, int port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, addr, port);
	int fd, ret;

	fd = tcp(family ? family : ss.ss_family);
	ret = bind(fd, (struct sockaddr *)&ss, len) < 0 ? errno : 0;
	close(fd);
	return ret;
}

static bool try_bind(const char *addr, int port)
{
	return !bind_errno(0, addr, port);
}

/* The errno of connect(), on a socket bound to @src if that is not NULL. */
static int connect_errno(const char *src, int sport, const char *dst, int dport)
{
	struct sockaddr_storage from, to;
	socklen_t from_len = 0, to_len = address(&to, dst, dport);
	int fd, ret;

	if (src)
		from_len = address(&from, src, sport);
	fd = tcp(to.ss_family);
	if (src && bind(fd, (struct sockaddr *)&from, from_len) < 0) {
		close(fd);
		return -1;
	}
	ret = connect(fd, (struct sockaddr *)&to, to_len) < 0 ? errno : 0;
	close(fd);
	return ret;
}

static bool try_from(const char *src, int sport, const char *dst, int dport)
{
	return connect_errno(src, sport, dst, dport) >= 0;
}

TEST_F(policy, dir)
{
	with_dir(rule(&self->set, 1, STACK), DMM_DIR_CONNECT);
	with_dir(rule(&self->set, 2, STACK), DMM_DIR_LISTEN);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.0.0.1", 80);
	EXPECT_RULE(1, "::1", 80);
	EXPECT_RULE_OF(2, try_bind("127.0.0.1", 8080));
	EXPECT_RULE_OF(2, try_bind("::1", 8080));
	EXPECT_RULE_OF(2, try_bind("0.0.0.0", 0));
	EXPECT_RULE_OF(2, try_bind("::", 0));
}

TEST_F(policy, no_dir_is_both)
{
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.0.0.1", 80);
	EXPECT_RULE(1, "::1", 80);
	EXPECT_RULE_OF(1, try_bind("127.0.0.1", 8080));
	EXPECT_RULE_OF(1, try_bind("::1", 8080));
}

TEST_F(policy, remote_parts_never_match_a_bind)
{
	with_dst(rule(&self->set, 1, STACK), "0.0.0.0", 0);
	with_dst(rule(&self->set, 2, STACK), "::", 0);
	with_dport(rule(&self->set, 3, STACK), 1, 65535);
	INSTALL(&self->set);
	EXPECT_RULE_OF(0, try_bind("127.0.0.1", 8080));
	EXPECT_RULE_OF(0, try_bind("::1", 8080));
	EXPECT_RULE_OF(0, try_bind("0.0.0.0", 0));
}

TEST_F(policy, bind_addresses)
{
	with_src(rule(&self->set, 1, STACK), "127.1.0.0", 16);
	with_src(rule(&self->set, 2, STACK), "0.0.0.0", 32);
	with_src(rule(&self->set, 3, STACK), "::1", 128);
	with_src(rule(&self->set, 4, STACK), "::", 128);
	INSTALL(&self->set);
	EXPECT_RULE_OF(1, try_bind("127.1.2.3", 8080));
	EXPECT_RULE_OF(0, try_bind("127.2.2.3", 8080));
	EXPECT_RULE_OF(2, try_bind("0.0.0.0", 8080));
	EXPECT_RULE_OF(3, try_bind("::1", 8080));
	EXPECT_RULE_OF(4, try_bind("::", 8080));
	/* As IPv4, which it is. */
	EXPECT_RULE_OF(1, try_bind("::ffff:127.1.2.3", 8080));
	EXPECT_RULE_OF(2, try_bind("::ffff:0.0.0.0", 8080));
}

TEST_F(policy, bind_ports)
{
	with_sport(rule(&self->set, 1, STACK), 8080, 8080);
	with_sport(rule(&self->set, 2, STACK), 9000, 9010);
	with_sport(rule(&self->set, 3, STACK), 1, 65535);
	INSTALL(&self->set);
	EXPECT_RULE_OF(1, try_bind("0.0.0.0", 8080));
	EXPECT_RULE_OF(1, try_bind("::", 8080));
	EXPECT_RULE_OF(2, try_bind("127.0.0.1", 9000));
	EXPECT_RULE_OF(2, try_bind("127.0.0.1", 9010));
	EXPECT_RULE_OF(3, try_bind("127.0.0.1", 9011));
	/* The kernel has not chosen yet. */
	EXPECT_RULE_OF(0, try_bind("127.0.0.1", 0));
}

TEST_F(policy, connect_of_a_bound_socket)
{
	with_dir(with_src(with_sport(rule(&self->set, 1, STACK), 7000, 7000),
			  "127.1.0.0", 16), DMM_DIR_CONNECT);
	with_dir(with_src(rule(&self->set, 2, STACK), "127.1.0.0", 16), DMM_DIR_CONNECT);
	with_dir(with_sport(rule(&self->set, 3, STACK), 7001, 7010), DMM_DIR_CONNECT);
	with_dir(with_src(rule(&self->set, 4, STACK), "::1", 128), DMM_DIR_CONNECT);
	INSTALL(&self->set);
	EXPECT_RULE_OF(1, try_from("127.1.0.1", 7000, "127.0.0.1", 80));
	EXPECT_RULE_OF(2, try_from("127.1.0.1", 0, "127.0.0.1", 80));
	EXPECT_RULE_OF(0, try_from("127.2.0.1", 7000, "127.0.0.1", 80));
	EXPECT_RULE_OF(3, try_from("0.0.0.0", 7005, "127.0.0.1", 80));
	EXPECT_RULE_OF(3, try_from("::", 7005, "::1", 80));
	EXPECT_RULE_OF(4, try_from("::1", 0, "::1", 80));
	EXPECT_RULE_OF(1, try_from("::ffff:127.1.0.1", 7000, "::ffff:127.0.0.1", 80));
	EXPECT_RULE(0, "127.0.0.1", 80);
	EXPECT_RULE(0, "::1", 80);
}

TEST_F(policy, prefixes6)
{
	with_dst(rule(&self->set, 1, STACK), "2001:db8:1:2:3:4:5:6", 128);
	with_dst(rule(&self->set, 2, STACK), "2001:db8:1:2:3:4:5:6", 127);
	with_dst(rule(&self->set, 3, STACK), "2001:db8:1:2::", 64);
	with_dst(rule(&self->set, 4, STACK), "2001:db8:0:8000::", 49);
	with_dst(rule(&self->set, 5, STACK), "2001:db8::", 33);
	with_dst(rule(&self->set, 6, STACK), "2000::", 3);
	INSTALL(&self->set);
	EXPECT_RULE(1, "2001:db8:1:2:3:4:5:6", 1);
	EXPECT_RULE(2, "2001:db8:1:2:3:4:5:7", 1);
	EXPECT_RULE(3, "2001:db8:1:2:ffff:ffff:ffff:ffff", 1);
	EXPECT_RULE(4, "2001:db8:0:ffff::1", 1);
	EXPECT_RULE(5, "2001:db8:0:7fff::1", 1);
	EXPECT_RULE(5, "2001:db8:7fff::1", 1);
	EXPECT_RULE(6, "2001:db8:8000::1", 1);
	EXPECT_RULE(6, "3fff:ffff::1", 1);
	EXPECT_RULE(0, "4000::1", 1);
	EXPECT_RULE(0, "::1", 1);
	EXPECT_RULE(0, "127.0.0.1", 1);
}

TEST_F(policy, families)
{
	with_dst(rule(&self->set, 1, STACK), "0.0.0.0", 0);
	with_dst(rule(&self->set, 2, STACK), "::", 0);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.0.0.1", 1);
	EXPECT_RULE(2, "::1", 1);
	EXPECT_RULE(1, "::ffff:127.0.0.1", 1);
	/* Compatible is not mapped. */
	EXPECT_RULE(2, "::127.0.0.1", 1);
}

TEST_F(policy, mapped_addresses_are_ipv4)
{
	with_dst(with_dport(rule(&self->set, 1, STACK), 80, 80), "127.3.0.0", 16);
	INSTALL(&self->set);
	EXPECT_RULE(1, "::ffff:127.3.9.9", 80);
	EXPECT_RULE(0, "::ffff:127.3.9.9", 81);
	EXPECT_RULE(0, "::ffff:127.4.9.9", 80);
}

/* The kernel has its own errnos for these; the programs keep out. */
TEST_F(policy, addresses_of_another_family)
{
	struct sockaddr_storage ss = {};
	int fd;

	rejecting(rule(&self->set, 1, STACK));
	INSTALL(&self->set);
	address(&ss, "127.0.0.1", 80);
	fd = tcp(AF_INET6);
	EXPECT_EQ(-1, connect(fd, (struct sockaddr *)&ss, sizeof(struct sockaddr_in6)));
	EXPECT_EQ(EAFNOSUPPORT, errno);
	EXPECT_EQ(-1, bind(fd, (struct sockaddr *)&ss, sizeof(struct sockaddr_in6)));
	EXPECT_EQ(EAFNOSUPPORT, errno);
	close(fd);
	address(&ss, "::1", 80);
	fd = tcp(AF_INET);
	EXPECT_EQ(-1, connect(fd, (struct sockaddr *)&ss, sizeof(struct sockaddr_in6)));
	EXPECT_EQ(EAFNOSUPPORT, errno);
	close(fd);
	EXPECT_EQ(0, hits(self->p, 1));
}

TEST_F(policy, uid)
{
	int status;
	pid_t pid;

	with_uid(rule(&self->set, 1, STACK), 65534);
	with_uid(rule(&self->set, 2, STACK), 0);
	INSTALL(&self->set);
	EXPECT_RULE(2, "127.0.0.1", 80);
	EXPECT_RULE_OF(2, try_bind("::1", 8080));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (setuid(65534) < 0)
			_exit(2);
		_exit(try_connect("127.0.0.1", 80) && try_connect("::1", 80) ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(2, hits(self->p, 1));
	EXPECT_EQ(2, hits(self->p, 2));
}

TEST_F(policy, comm)
{
	with_comm(rule(&self->set, 1, STACK), "app");
	with_comm(rule(&self->set, 2, STACK), "exactly15bytes!");
	INSTALL(&self->set);
	prctl(PR_SET_NAME, "app");
	EXPECT_RULE(1, "127.0.0.1", 80);
	EXPECT_RULE_OF(1, try_bind("127.0.0.1", 8080));
	prctl(PR_SET_NAME, "application");
	EXPECT_RULE(0, "127.0.0.1", 80);
	prctl(PR_SET_NAME, "ap");
	EXPECT_RULE(0, "127.0.0.1", 80);
	prctl(PR_SET_NAME, "exactly15bytes!");
	EXPECT_RULE(2, "::1", 80);
	prctl(PR_SET_NAME, "exactly15bytes");
	EXPECT_RULE(0, "::1", 80);
	/* After a longer name: what it left behind its end does not count. */
	prctl(PR_SET_NAME, "app");
	EXPECT_RULE(1, "::1", 80);
}

TEST_F(policy, only_tcp_is_looked_at)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd;

	rejecting(rule(&self->set, 1, STACK));
	INSTALL(&self->set);
	len = address(&ss, "::1", 80);
	fd = socket(AF_INET6, SOCK_DGRAM, 0);
	EXPECT_EQ(0, connect(fd, (struct sockaddr *)&ss, len));
	close(fd);
	len = address(&ss, "127.0.0.1", 0);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	EXPECT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	if (fd >= 0) {
		EXPECT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
		close(fd);
	}
	EXPECT_EQ(0, hits(self->p, 1));
}

/* ------------------------------------------------------------------------- */

TEST_F(policy, reject_is_an_errno)
{
	struct dmm_rule_stats st;

	rejecting(with_dport(rule(&self->set, 1, STACK), 80, 80));
	rejecting(with_sport(rule(&self->set, 2, STACK), 8080, 8080));
	with_dport(rule(&self->set, 3, STACK), 81, 81);
	INSTALL(&self->set);
	EXPECT_EQ(ENETDOWN, connect_errno(NULL, 0, "127.0.0.1", 80));
	EXPECT_EQ(ENETDOWN, connect_errno(NULL, 0, "::1", 80));
	EXPECT_EQ(ENETDOWN, connect_errno(NULL, 0, "::ffff:127.0.0.1", 80));
	EXPECT_EQ(ENETDOWN, bind_errno(0, "127.0.0.1", 8080));
	EXPECT_EQ(ENETDOWN, bind_errno(0, "::", 8080));
	EXPECT_NE(ENETDOWN, connect_errno(NULL, 0, "127.0.0.1", 81));
	EXPECT_EQ(0, bind_errno(0, "127.0.0.1", 8081));

	st = stats_of(self->p, 1);
	EXPECT_EQ(3, st.hits);
	EXPECT_EQ(3, st.rejected);
	EXPECT_EQ(3, st.fallback[reason_here()]);
	EXPECT_EQ(0, st.adopted);
	st = stats_of(self->p, 2);
	EXPECT_EQ(2, st.rejected);
	st = stats_of(self->p, 3);
	EXPECT_EQ(0, st.rejected);
	EXPECT_EQ(1, st.fallback[reason_here()]);
}

/* The socket is as it was, and the next rule set decides anew. */
TEST_F(policy, a_rejected_socket_can_go_on)
{
	struct sockaddr_storage ss, here;
	socklen_t len = address(&ss, "127.0.0.1", 0), here_len = sizeof(here);
	int lfd, fd;

	lfd = tcp(AF_INET);
	ASSERT_EQ(0, bind(lfd, (struct sockaddr *)&ss, len));
	ASSERT_EQ(0, listen(lfd, 1));
	ASSERT_EQ(0, getsockname(lfd, (struct sockaddr *)&here, &here_len));
	rejecting(rule(&self->set, 1, STACK));
	INSTALL(&self->set);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	EXPECT_EQ(-1, connect(fd, (struct sockaddr *)&here, here_len));
	EXPECT_EQ(ENETDOWN, errno);
	EXPECT_EQ(-1, bind(fd, (struct sockaddr *)&ss, len));
	EXPECT_EQ(ENETDOWN, errno);
	self->set.count = 0;
	INSTALL(&self->set);
	EXPECT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
	EXPECT_EQ(0, connect(fd, (struct sockaddr *)&here, here_len));
	close(fd);
	close(lfd);
}

/* Also without counters. */
TEST_F(policy, reject_without_counters)
{
	rejecting(rule(&self->set, 1, STACK));
	INSTALL(&self->set);
	dmm_policy_stats_del(self->p, 1);
	EXPECT_EQ(ENETDOWN, connect_errno(NULL, 0, "127.0.0.1", 80));
}

/* ------------------------------------------------------------------------- */

/* A rule from words, by dmmd's parser, in force and matched in user space. */
#define EXPECT_AGREE(want, rule_spec, sock_spec, call) do {		\
	struct dmm_match_spec __rs = rule_spec, __ss = sock_spec;	\
	struct dmm_match_socket *__s;					\
	struct json_object *__w;					\
	struct dmm_cgroup __cg = {};					\
	struct dmm_err __why = {};					\
	struct dmm_rule *__r;						\
	__u64 __h;							\
									\
	self->set.count = 0;						\
	__r = rule(&self->set, 1, STACK);				\
	ASSERT_EQ(0, dmm_match_parse(&__rs, __r, &__cg, &__w, &__why))	\
		TH_LOG("%s", __why.msg);				\
	json_object_put(__w);						\
	ASSERT_EQ(0, dmm_match_socket_new(&__ss, &__s, &__why))		\
		TH_LOG("%s", __why.msg);				\
	INSTALL(&self->set);						\
	__h = hits(self->p, 1);						\
	EXPECT_TRUE(call);						\
	EXPECT_EQ(want, hits(self->p, 1) - __h) TH_LOG("%s", #rule_spec); \
	EXPECT_EQ(want, !dmm_match_try(__r, __s)) TH_LOG("%s", #rule_spec); \
	dmm_match_socket_free(__s);					\
	dmm_cgroup_release(&__cg);					\
} while (0)

#define W(...) ((struct dmm_match_spec){ __VA_ARGS__ })

TEST_F(policy, explain_agrees)
{
	struct dmm_match_spec here4 = W(.dst = "127.0.0.1", .dport = "80", .uid = "0",
					.comm = "explained", .cgroup = self->sb.cgroup);
	struct dmm_match_spec here6 = W(.dst = "::1", .dport = "80", .uid = "0",
					.comm = "explained", .cgroup = self->sb.cgroup);
	struct dmm_match_spec bound = W(.src = "127.0.0.1", .sport = "8080",
					.dir = "listen", .uid = "0",
					.comm = "explained", .cgroup = self->sb.cgroup);
	char inner[160];

	ASSERT_EQ(0, sandbox_cgroup(&self->sb, "inner", inner));
	prctl(PR_SET_NAME, "explained");
	EXPECT_AGREE(1, W(.proto = "tcp"), here4, try_connect("127.0.0.1", 80));
	EXPECT_AGREE(1, W(.dst = "127.0.0.0/8"), here4, try_connect("127.0.0.1", 80));
	EXPECT_AGREE(0, W(.dst = "127.0.0.0/8"), here6, try_connect("::1", 80));
	EXPECT_AGREE(1, W(.dst = "::/127"), here6, try_connect("::1", 80));
	EXPECT_AGREE(0, W(.dport = "81-90"), here4, try_connect("127.0.0.1", 80));
	EXPECT_AGREE(1, W(.comm = "explained", .uid = "0"), here4,
		     try_connect("127.0.0.1", 80));
	EXPECT_AGREE(0, W(.comm = "explaine"), here4, try_connect("127.0.0.1", 80));
	EXPECT_AGREE(0, W(.uid = "1"), here4, try_connect("127.0.0.1", 80));
	EXPECT_AGREE(0, W(.dir = "listen"), here4, try_connect("127.0.0.1", 80));
	EXPECT_AGREE(1, W(.cgroup = self->sb.cgroup), here4,
		     try_connect("127.0.0.1", 80));
	EXPECT_AGREE(0, W(.cgroup = inner), here4, try_connect("127.0.0.1", 80));
	EXPECT_AGREE(1, W(.sport = "8000-8100", .src = "127.0.0.1"), bound,
		     try_bind("127.0.0.1", 8080));
	EXPECT_AGREE(0, W(.sport = "8081"), bound, try_bind("127.0.0.1", 8080));
	EXPECT_AGREE(0, W(.dport = "1-65535"), bound, try_bind("127.0.0.1", 8080));
	EXPECT_AGREE(1, W(.dir = "listen"), bound, try_bind("127.0.0.1", 8080));
	EXPECT_AGREE(1, W(.src = "0.0.0.0/0", .dir = "connect"), here4,
		     try_connect("127.0.0.1", 80));
	EXPECT_AGREE(0, W(.src = "127.0.0.1", .dir = "connect"), here4,
		     try_connect("127.0.0.1", 80));
	here4.cgroup = inner;
	ASSERT_EQ(0, cgroup_enter(inner));
	EXPECT_AGREE(1, W(.cgroup = self->sb.cgroup), here4,
		     try_connect("127.0.0.1", 80));
	EXPECT_AGREE(1, W(.cgroup = inner), here4, try_connect("127.0.0.1", 80));
}

TEST_HARNESS_MAIN
