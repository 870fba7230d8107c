/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy programs in a sandbox, loaded and attached by dmmd's own code, and
 * rules for them. For one program each, after kselftest_harness.h.
 */
#ifndef DMM_TEST_POLICY_FIXTURE_H
#define DMM_TEST_POLICY_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <linux/dmm.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cgroup.h"
#include "parse.h"
#include "policy.h"
#include "sandbox.h"

#define STACK 7

FIXTURE(policy)
{
	struct sandbox sb;
	struct dmm_policy *p;
	struct dmm_ruleset set;		/* built up, then installed */
	char bpf_dir[96];
	struct dmm_cgroup cg;
};

FIXTURE_SETUP(policy)
{
	struct dmm_err err = {};
	int fd;

	ASSERT_EQ(0, sandbox_enter(&self->sb));
	snprintf(self->bpf_dir, sizeof(self->bpf_dir), "%s/dmm", self->sb.bpf);
	ASSERT_EQ(0, dmm_policy_open(&self->p, self->bpf_dir, &err)) TH_LOG("%s", err.msg);
	ASSERT_EQ(0, dmm_cgroup_resolve(self->sb.cgroup, &self->cg, &fd, &err)) {
		TH_LOG("%s", err.msg);
	}
	ASSERT_EQ(0, dmm_policy_attach(self->p, DMM_POLICY_RULES, fd, self->cg.id, &err)) {
		TH_LOG("%s", err.msg);
	}
	close(fd);
	ASSERT_EQ(0, cgroup_enter(self->sb.cgroup));
}

FIXTURE_TEARDOWN(policy)
{
	if (self->p) {
		dmm_policy_remove(self->p);
		dmm_policy_close(self->p);
	}
	EXPECT_NE(0, access(self->bpf_dir, F_OK));
	dmm_cgroup_release(&self->cg);
	sandbox_leave(&self->sb);
}

/* Rules, each with an id of its own. */
static inline struct dmm_rule *rule(struct dmm_ruleset *set, __u32 id, __u32 stack)
{
	struct dmm_rule *r = &set->rules[set->count++];

	memset(r, 0, sizeof(*r));
	r->id = id;
	r->stack = stack;
	return r;
}

static inline struct dmm_rule *with_dst(struct dmm_rule *r, const char *addr, int len)
{
	struct dmm_prefix p;
	char text[80];

	snprintf(text, sizeof(text), "%s/%d", addr, len);
	if (dmm_parse_prefix("dst", text, &p, NULL))
		return NULL;
	r->match |= DMM_MATCH_DST;
	r->dst_family = p.family;
	memcpy(r->dst, p.addr, sizeof(p.addr));
	memcpy(r->dst_mask, p.mask, sizeof(p.mask));
	return r;
}

static inline struct dmm_rule *with_src(struct dmm_rule *r, const char *addr, int len)
{
	struct dmm_prefix p;
	char text[80];

	snprintf(text, sizeof(text), "%s/%d", addr, len);
	if (dmm_parse_prefix("src", text, &p, NULL))
		return NULL;
	r->match |= DMM_MATCH_SRC;
	r->src_family = p.family;
	memcpy(r->src, p.addr, sizeof(p.addr));
	memcpy(r->src_mask, p.mask, sizeof(p.mask));
	return r;
}

static inline struct dmm_rule *with_dport(struct dmm_rule *r, int min, int max)
{
	r->match |= DMM_MATCH_DPORT;
	r->dport_min = min;
	r->dport_max = max;
	return r;
}

static inline struct dmm_rule *with_sport(struct dmm_rule *r, int min, int max)
{
	r->match |= DMM_MATCH_SPORT;
	r->sport_min = min;
	r->sport_max = max;
	return r;
}

static inline struct dmm_rule *with_dir(struct dmm_rule *r, __u16 dir)
{
	r->match |= DMM_MATCH_DIR;
	r->dir = dir;
	return r;
}

static inline struct dmm_rule *with_uid(struct dmm_rule *r, __u32 uid)
{
	r->match |= DMM_MATCH_UID;
	r->uid = uid;
	return r;
}

static inline struct dmm_rule *with_comm(struct dmm_rule *r, const char *comm)
{
	r->match |= DMM_MATCH_COMM;
	memcpy(r->comm, comm, strnlen(comm, DMM_COMM_LEN - 1));
	return r;
}

static inline struct dmm_rule *with_cgroup(struct dmm_rule *r,
					   const struct dmm_cgroup *cg)
{
	r->match |= DMM_MATCH_CGROUP;
	r->cgroup_id = cg->id;
	r->cgroup_level = cg->level;
	return r;
}

static inline struct dmm_rule *rejecting(struct dmm_rule *r)
{
	r->flags |= DMM_RULE_F_REJECT;
	return r;
}

static inline struct dmm_rule_stats stats_of(struct dmm_policy *p, __u32 id)
{
	struct dmm_rule_stats st;

	if (dmm_policy_stats_get(p, id, &st))
		st.hits = ~0ULL;
	return st;
}

static inline __u64 hits(struct dmm_policy *p, __u32 id)
{
	return stats_of(p, id).hits;
}

/* What a stack that is not up costs a socket here. */
static inline int reason_here(void)
{
	return access("/dev/dmm", F_OK) ? DMM_FALLBACK_NO_CLIENT :
					  DMM_FALLBACK_STACK_DOWN;
}

/* Make counters for the rules, and put the set in force. */
#define INSTALL(set) do {						\
	struct dmm_err __err = {};					\
	__u32 __i;							\
									\
	for (__i = 0; __i < (set)->count; __i++)			\
		dmm_policy_stats_add(self->p, (set)->rules[__i].id, NULL); \
	ASSERT_EQ(0, dmm_policy_install(self->p, set, &__err))		\
		TH_LOG("%s", __err.msg);				\
} while (0)

/* @call adds one hit to rule @want, none to the others; 0 is "no rule". */
#define EXPECT_RULE_OF(want, call) do {					\
	__u64 __before[16];						\
	__u32 __i, __n = self->set.count;				\
									\
	ASSERT_LE(__n, 16);						\
	for (__i = 0; __i < __n; __i++)					\
		__before[__i] = hits(self->p, self->set.rules[__i].id);	\
	EXPECT_TRUE(call);						\
	for (__i = 0; __i < __n; __i++) {				\
		__u32 __id = self->set.rules[__i].id;			\
									\
		EXPECT_EQ(__before[__i] + (__id == (want)), hits(self->p, __id)) \
			TH_LOG("%s, rule %u", #call, __id);		\
	}								\
} while (0)

#define EXPECT_RULE(want, addr, port)					\
	EXPECT_RULE_OF(want, try_connect(addr, port))

#endif
