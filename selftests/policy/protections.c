// SPDX-License-Identifier: Apache-2.0
/*
 * What protects a socket while the kernel serves it, and would not while a stack does:
 * the socket stays the kernel's, by its reason, also when the shim asks for it.
 */
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <sched.h>

#include "kselftest_harness.h"
#include "fixture.h"
#include "nft.h"
#include "shim.h"

#include <linux/xfrm.h>	/* after netinet/in.h */

#ifndef IPV6_MINHOPCOUNT
#define IPV6_MINHOPCOUNT	73
#endif
#ifndef IP_MINTTL
#define IP_MINTTL		21
#endif
#ifndef IP_XFRM_POLICY
#define IP_XFRM_POLICY		17
#endif
#ifndef IP_OPTIONS
#define IP_OPTIONS		4
#endif

/* ---- what a program sets on its socket ----------------------------------------------- */

static int set_md5(int fd)
{
	struct tcp_md5sig key = { .tcpm_keylen = 4, .tcpm_key = "key" };
	struct sockaddr_in *in = (struct sockaddr_in *)&key.tcpm_addr;

	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(0x0a000001);
	return setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof(key));
}

static int set_filter(int fd)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, ~0U);
	struct sock_fprog prog = { .len = 1, .filter = &all };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

static int set_minttl(int fd)
{
	int ttl = 255;

	return setsockopt(fd, IPPROTO_IP, IP_MINTTL, &ttl, sizeof(ttl));
}

static int set_minhop(int fd)
{
	int ttl = 255;

	return setsockopt(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, &ttl, sizeof(ttl));
}

static int set_options(int fd)
{
	/* no operation, and the end */
	return setsockopt(fd, IPPROTO_IP, IP_OPTIONS, "\1\1\1\0", 4);
}

static int set_xfrm(int fd)
{
	struct xfrm_userpolicy_info policy = {
		.sel.family = AF_INET,
		.dir = XFRM_POLICY_OUT,
		.action = XFRM_POLICY_BLOCK,
	};

	/* the kernel loads what reads policies */
	close(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM));
	return setsockopt(fd, IPPROTO_IP, IP_XFRM_POLICY, &policy, sizeof(policy));
}

static int set_nothing(int fd)
{
	return 0;
}

FIXTURE_VARIANT(policy)
{
	int (*set)(int fd);
	int why;
	bool v6;
};

FIXTURE_VARIANT_ADD(policy, nothing) { .set = set_nothing };
FIXTURE_VARIANT_ADD(policy, nothing6) { .set = set_nothing, .v6 = true };
FIXTURE_VARIANT_ADD(policy, md5) { .set = set_md5, .why = DMM_FALLBACK_SOCKOPT };
FIXTURE_VARIANT_ADD(policy, filter) { .set = set_filter, .why = DMM_FALLBACK_FILTER };
FIXTURE_VARIANT_ADD(policy, minttl) { .set = set_minttl, .why = DMM_FALLBACK_SOCKOPT };
FIXTURE_VARIANT_ADD(policy, minhop) {
	.set = set_minhop, .why = DMM_FALLBACK_SOCKOPT, .v6 = true
};
FIXTURE_VARIANT_ADD(policy, options) { .set = set_options, .why = DMM_FALLBACK_SOCKOPT };
FIXTURE_VARIANT_ADD(policy, xfrm) { .set = set_xfrm, .why = DMM_FALLBACK_XFRM };

static const char *lo(bool v6)
{
	return v6 ? "::1" : "127.0.0.1";
}

static __u64 counted(struct dmm_policy *p, __u32 id, int why)
{
	return stats_of(p, id).fallback[why];
}

TEST_F(policy, connect)
{
	int fd;

	SHIM_ATTACH();
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	fd = tcp(variant->v6 ? AF_INET6 : AF_INET);
	/* what is set may have the kernel wait for ever */
	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_NONBLOCK));
	ASSERT_EQ(0, variant->set(fd)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(variant->why, ask(fd, DMM_SO_WHY));
	/* whatever the kernel's own answer is */
	EXPECT_EQ(!variant->why, go(fd, lo(variant->v6), 80) == DMM_SHIM_TAKE);
	EXPECT_EQ(variant->why ? 0 : STACK, ask(fd, DMM_SO_STACK));
	EXPECT_EQ(variant->why ? 0 : 1, stats_of(self->p, 1).adopted);
	EXPECT_EQ(variant->why ? 1 : 0, counted(self->p, 1, variant->why));
	close(fd);

	/* nor is it let go where that is forbidden */
	if (!variant->why)
		return;
	self->set.rules[0].flags = DMM_RULE_F_REJECT;
	INSTALL(&self->set);
	fd = tcp(variant->v6 ? AF_INET6 : AF_INET);
	ASSERT_EQ(0, variant->set(fd));
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(ENETDOWN, go(fd, lo(variant->v6), 80));
	close(fd);
}

TEST_F(policy, listen)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, lo(variant->v6), 0);
	int fd, before;

	SHIM_ATTACH();
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	/* set before bind(), and before listen() */
	for (before = 0; before < 2; before++) {
		fd = tcp(variant->v6 ? AF_INET6 : AF_INET);
		if (before)
			ASSERT_EQ(0, variant->set(fd)) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(0, mark(fd, 1));
		EXPECT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
		EXPECT_EQ(before && variant->why ? 0 : STACK, ask(fd, DMM_SO_STACK));
		if (!before) {
			EXPECT_EQ(0, ask(fd, DMM_SO_WHY));
			ASSERT_EQ(0, variant->set(fd));
		}
		EXPECT_EQ(variant->why, ask(fd, DMM_SO_WHY));
		close(fd);
	}
	EXPECT_EQ(variant->why ? 1 : 0, counted(self->p, 1, variant->why));
}

/* ---- what others set ------------------------------------------------------------------ */

static int skb_prog(enum bpf_attach_type at)
{
	struct bpf_insn all[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = at);

	return bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "other", "GPL", all, 2, &opts);
}

/* A marked connect() with a filter of packets on the cgroup @path, and without. */
static void under_filter(struct __test_metadata *_metadata, FIXTURE_DATA(policy) *self,
			 const char *path, const char *in, enum bpf_attach_type at)
{
	int prog = skb_prog(at), cg = open(path, O_RDONLY | O_CLOEXEC), fd, on;

	ASSERT_LE(0, prog);
	ASSERT_LE(0, cg);
	ASSERT_EQ(0, cgroup_enter(in));
	for (on = 0; on < 3; on++) {
		if (on == 1)
			ASSERT_EQ(0, bpf_prog_attach(prog, cg, at, BPF_F_ALLOW_MULTI));
		if (on == 2)
			ASSERT_EQ(0, bpf_prog_detach2(prog, cg, at));
		fd = tcp(AF_INET);
		EXPECT_EQ(0, mark(fd, 1));
		EXPECT_EQ(on == 1 ? DMM_FALLBACK_CGROUP_SKB : 0, ask(fd, DMM_SO_WHY));
		EXPECT_EQ(on == 1 ? ECONNREFUSED : DMM_SHIM_TAKE, go(fd, "127.0.0.1", 80));
		close(fd);
	}
	EXPECT_EQ(1, counted(self->p, 1, DMM_FALLBACK_CGROUP_SKB));
	close(prog);
	close(cg);
}

#define UNDER_FILTER(name, at)						\
TEST_F(policy, name)							\
{									\
	char sub[160];							\
									\
	if (variant->set != set_nothing || variant->v6)			\
		return;	/* once is enough */				\
	SHIM_ATTACH();							\
	ASSERT_EQ(0, sandbox_cgroup(&self->sb, "sub", sub));		\
	rule(&self->set, 1, STACK);					\
	INSTALL(&self->set);						\
	under_filter(_metadata, self, self->sb.cgroup, self->sb.cgroup, at); \
	self->set.rules[0].id = 1;					\
	dmm_policy_stats_del(self->p, 1);				\
	INSTALL(&self->set);						\
	under_filter(_metadata, self, self->sb.cgroup, sub, at);	\
}

UNDER_FILTER(egress_programs, BPF_CGROUP_INET_EGRESS)
UNDER_FILTER(ingress_programs, BPF_CGROUP_INET_INGRESS)

/* With strict-filters, a namespace with hooks that could see the socket's packets. */
TEST_F(policy, netfilter)
{
	static const struct {
		int family;
		unsigned int hook;
		bool v4, v6;
	} tables[] = {
		{ NFPROTO_IPV4, NF_INET_PRE_ROUTING, true, false },
		{ NFPROTO_IPV4, NF_INET_LOCAL_IN, true, false },
		{ NFPROTO_IPV4, NF_INET_FORWARD, false, false },
		{ NFPROTO_IPV4, NF_INET_LOCAL_OUT, true, false },
		{ NFPROTO_IPV4, NF_INET_POST_ROUTING, true, false },
		{ NFPROTO_IPV6, NF_INET_LOCAL_OUT, false, true },
		{ NFPROTO_IPV6, NF_INET_LOCAL_IN, false, true },
		{ NFPROTO_INET, NF_INET_LOCAL_IN, true, true },
	};
	static const char * const addrs[] = { "127.0.0.1", "::1", "::ffff:127.0.0.1" };
	struct sockaddr_storage ss;
	socklen_t len;
	size_t i, k;
	bool seen;
	int fd;

	if (variant->set != set_nothing || variant->v6)
		return;		/* once is enough */
	SHIM_ATTACH();
	rule(&self->set, 1, STACK)->flags = DMM_RULE_F_STRICT_FILTERS;
	rejecting(&self->set.rules[0]);
	INSTALL(&self->set);
	for (i = 0; i <= ARRAY_SIZE(tables); i++) {
		bool none = i == ARRAY_SIZE(tables);

		if (!none)
			ASSERT_EQ(0, nft_filter(tables[i].family, tables[i].hook, 1));
		for (k = 0; k < ARRAY_SIZE(addrs); k++) {
			seen = !none && (k == 1 ? tables[i].v6 : tables[i].v4);
			fd = tcp(k ? AF_INET6 : AF_INET);
			EXPECT_EQ(0, mark(fd, 1));
			EXPECT_EQ(seen ? ENETDOWN : DMM_SHIM_TAKE, go(fd, addrs[k], 80))
				TH_LOG("table %zu, %s", i, addrs[k]);
			close(fd);
		}
		/* a listener on any address has both families */
		seen = !none && (tables[i].v4 || tables[i].v6);
		fd = tcp(AF_INET6);
		len = address(&ss, "::", 0);
		EXPECT_EQ(0, mark(fd, 1));
		EXPECT_EQ(seen ? -1 : 0, bind(fd, (struct sockaddr *)&ss, len));
		close(fd);
		/* without a shim likewise, by the module's programs */
		fd = tcp(AF_INET);
		seen = !none && tables[i].v4;
		k = counted(self->p, 1, DMM_FALLBACK_NETFILTER);
		EXPECT_EQ(ENETDOWN, go(fd, "127.0.0.1", 80));
		EXPECT_EQ(k + seen, counted(self->p, 1, DMM_FALLBACK_NETFILTER));
		close(fd);
		if (!none)
			ASSERT_EQ(0, nft_filter(tables[i].family, tables[i].hook, 0));
	}
	/* a chain where security modules have their hooks is a chain */
	ASSERT_EQ(0, nft_filter_at(NFPROTO_IPV4, NF_INET_POST_ROUTING, -225, 1));
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(ENETDOWN, go(fd, "127.0.0.1", 80));
	close(fd);
	ASSERT_EQ(0, nft_filter_at(NFPROTO_IPV4, NF_INET_POST_ROUTING, -225, 0));
	/* and without the flag they are not looked at */
	self->set.rules[0].flags = 0;
	INSTALL(&self->set);
	ASSERT_EQ(0, nft_filter(NFPROTO_INET, NF_INET_LOCAL_IN, 1));
	fd = tcp(AF_INET);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(DMM_SHIM_TAKE, go(fd, "127.0.0.1", 80));
	close(fd);
}

TEST_HARNESS_MAIN
