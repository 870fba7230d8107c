// SPDX-License-Identifier: Apache-2.0
/*
 * A program of somebody else's that denies: whatever ours say of the socket, before it
 * or after it, the denial stands.
 */
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>

#include "kselftest_harness.h"
#include "fixture.h"
#include "shim.h"

#define INSN(c, d, s, o, i) \
	((struct bpf_insn) { .code = c, .dst_reg = d, .src_reg = s, .off = o, .imm = i })

/* One that ends with @ret; @retval, when it is not 0, is its own errno, negative. */
static int other_load(enum bpf_prog_type type, enum bpf_attach_type at, int ret,
		      int retval)
{
	struct bpf_insn all[] = {
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, retval),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_set_retval),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, ret),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = at);
	int skip = retval ? 0 : 2;

	return bpf_prog_load(type, "other", "GPL", all + skip, 4 - skip, &opts);
}

/* Ours is in the middle of the tree; the other is somewhere around it. */
FIXTURE_VARIANT(policy)
{
	const char *other;	/* below the sandbox's cgroup */
	bool first;		/* attached before ours */
	bool runs_before;
};

FIXTURE_VARIANT_ADD(policy, child) { .other = "mid/low", .runs_before = true };
FIXTURE_VARIANT_ADD(policy, before) {
	.other = "mid", .first = true, .runs_before = true
};
FIXTURE_VARIANT_ADD(policy, after) { .other = "mid" };
FIXTURE_VARIANT_ADD(policy, parent) { .other = "" };

#define PLACE(part, at, ret, retval) do {				\
	enum bpf_prog_type __t = (part) == DMM_POLICY_SHIM ?		\
		BPF_PROG_TYPE_CGROUP_SOCKOPT : BPF_PROG_TYPE_CGROUP_SOCK_ADDR; \
	int __prog = other_load(__t, at, ret, retval), __dir;		\
	char __mid[160], __low[160], __other[160];			\
									\
	ASSERT_LE(0, __prog);						\
	ASSERT_EQ(0, sandbox_cgroup(&self->sb, "mid", __mid));		\
	ASSERT_EQ(0, sandbox_cgroup(&self->sb, "mid/low", __low));	\
	ASSERT_EQ(0, sandbox_cgroup(&self->sb, variant->other, __other)); \
	dmm_policy_detach(self->p, part, self->cg.id);			\
	if (!variant->first)						\
		ATTACH(part, __mid);					\
	__dir = open(__other, O_RDONLY | O_CLOEXEC);			\
	ASSERT_EQ(0, bpf_prog_attach(__prog, __dir, at, BPF_F_ALLOW_MULTI)); \
	if (variant->first)						\
		ATTACH(part, __mid);					\
	if ((part) == DMM_POLICY_RULES)					\
		ATTACH(DMM_POLICY_SHIM, __mid);				\
	ASSERT_EQ(0, cgroup_enter(__low));				\
	close(__dir);							\
	close(__prog);							\
} while (0)

static bool is_bind(int at)
{
	return at == BPF_CGROUP_INET4_BIND || at == BPF_CGROUP_INET6_BIND;
}

/* The call that @at hooks, on a fresh socket. */
static int call(int at, int marked, int *fdp)
{
	bool v6 = at == BPF_CGROUP_INET6_BIND || at == BPF_CGROUP_INET6_CONNECT;
	const char *addr = v6 ? "::1" : "127.0.0.1";
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, addr, 0);
	int fd = tcp(v6 ? AF_INET6 : AF_INET), ret;

	if (marked && mark(fd, 1))
		return -1;
	if (is_bind(at))
		ret = bind(fd, (struct sockaddr *)&ss, len) < 0 ? errno : 0;
	else
		ret = go(fd, addr, 80);
	*fdp = fd;
	return ret;
}

static void denied(struct __test_metadata *_metadata, FIXTURE_DATA(policy) *self,
		   const FIXTURE_VARIANT(policy) *variant, int at, int retval)
{
	int marked, reject, fd, want = retval ? -retval : EPERM, ret;
	struct dmm_rule_stats st;

	PLACE(DMM_POLICY_RULES, at, 0, retval);
	for (reject = 0; reject < 2; reject++) {
		for (marked = 0; marked < 2; marked++) {
			self->set.count = 0;
			rule(&self->set, 1 + 2 * reject + marked, STACK);
			self->set.rules[0].flags = reject ? DMM_RULE_F_REJECT : 0;
			INSTALL(&self->set);
			ret = call(at, marked, &fd);
			/* two denials: a plain one leaves the errno of the first */
			EXPECT_EQ(!marked && reject && !variant->runs_before && !retval ?
				  ENETDOWN : want, ret);
			/* as the shim does then */
			if (marked)
				EXPECT_EQ(0, mark(fd, 0));
			st = stats_of(self->p, self->set.rules[0].id);
			EXPECT_EQ(0, st.adopted);
			EXPECT_EQ(0, st.shim);
			if (variant->runs_before)
				EXPECT_EQ(0, st.hits);
			close(fd);
		}
	}
}

static const int hooks[] = { BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT,
			     BPF_CGROUP_INET4_BIND, BPF_CGROUP_INET6_BIND };

#define DENIED(name, hook)						\
TEST_F(policy, name)							\
{									\
	denied(_metadata, self, variant, hook, 0);			\
}									\
TEST_F(policy, name##_with_an_errno)					\
{									\
	denied(_metadata, self, variant, hook, -EACCES);		\
}

DENIED(connect4, BPF_CGROUP_INET4_CONNECT)
DENIED(connect6, BPF_CGROUP_INET6_CONNECT)
DENIED(bind4, BPF_CGROUP_INET4_BIND)
DENIED(bind6, BPF_CGROUP_INET6_BIND)

/* One that lets all pass changes nothing. */
TEST_F(policy, others_that_allow)
{
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		PLACE(DMM_POLICY_RULES, hooks[i], 1, 0);
		self->set.count = 0;
		rule(&self->set, 1, STACK);
		INSTALL(&self->set);
		EXPECT_EQ(is_bind(hooks[i]) ? 0 : DMM_SHIM_TAKE, call(hooks[i], 1, &fd));
		EXPECT_EQ(STACK, ask(fd, DMM_SO_STACK));
		close(fd);
	}
}

/* connect() as the system call gives it: no errno that a denial could hide behind. */
TEST_F(policy, the_verdict_is_no_error)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, "127.0.0.1", 80);
	int fd;

	PLACE(DMM_POLICY_RULES, BPF_CGROUP_INET4_CONNECT, 1, 0);
	fd = tcp(AF_INET);
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	EXPECT_EQ(0, mark(fd, 1));
	EXPECT_EQ(DMM_SHIM_TAKE, connect(fd, (struct sockaddr *)&ss, len));
	/* asked once, answered once: who did not ask is not told */
	EXPECT_EQ(ECONNREFUSED, go(fd, "127.0.0.1", 80));
	close(fd);
}

/* sendto() connects as well, and what it returns are bytes. */
TEST_F(policy, a_send_that_connects_is_not_told)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, "127.0.0.1", 0);
	int fd, port, lfd;

	PLACE(DMM_POLICY_RULES, BPF_CGROUP_INET4_CONNECT, 1, 0);
	fd = tcp(AF_INET);
	lfd = listener(AF_INET, &port);
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	EXPECT_EQ(0, mark(fd, 1));
	ASSERT_EQ(0, bind(fd, (struct sockaddr *)&ss, len));
	address(&ss, "127.0.0.1", port);
	EXPECT_EQ(4, sendto(fd, "four", 4, MSG_FASTOPEN, (struct sockaddr *)&ss, len));
	close(fd);
	close(lfd);
}

TEST_F(policy, setsockopt)
{
	int fd;

	PLACE(DMM_POLICY_SHIM, BPF_CGROUP_SETSOCKOPT, 0, 0);
	fd = tcp(AF_INET);
	EXPECT_EQ(-EPERM, mark(fd, 1));
	EXPECT_EQ(!variant->runs_before, ask(fd, DMM_SO_SHIM));
	/* an errno of ours does not take the place of theirs */
	EXPECT_EQ(variant->runs_before ? -EPERM : -EINVAL, mark(fd, 99));
	close(fd);
}

TEST_F(policy, setsockopt_with_an_errno)
{
	int fd;

	PLACE(DMM_POLICY_SHIM, BPF_CGROUP_SETSOCKOPT, 0, -EACCES);
	fd = tcp(AF_INET);
	EXPECT_EQ(-EACCES, mark(fd, 1));
	EXPECT_EQ(!variant->runs_before, ask(fd, DMM_SO_SHIM));
	EXPECT_EQ(-EACCES, mark(fd, 99));
	close(fd);
}

/*
 * A program before ours that only returns 0 cannot be seen: SOL_DMM is an error of the
 * kernel's by itself, so that the kernel notes nothing.
 */
TEST_F(policy, getsockopt)
{
	int fd;

	PLACE(DMM_POLICY_SHIM, BPF_CGROUP_GETSOCKOPT, 0, 0);
	fd = tcp(AF_INET);
	EXPECT_EQ(variant->runs_before ? 0 : -EPERM, ask(fd, DMM_SO_STACK));
	EXPECT_EQ(-EPERM, ({
		socklen_t len = sizeof(int);
		int v;

		getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len) < 0 ? -errno : 0;
	}));
	close(fd);
}

TEST_F(policy, getsockopt_with_an_errno)
{
	int fd;

	PLACE(DMM_POLICY_SHIM, BPF_CGROUP_GETSOCKOPT, 0, -EACCES);
	fd = tcp(AF_INET);
	EXPECT_EQ(-EACCES, ask(fd, DMM_SO_STACK));
	close(fd);
}

TEST_HARNESS_MAIN
