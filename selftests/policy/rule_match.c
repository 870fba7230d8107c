// SPDX-License-Identifier: Apache-2.0
/*
 * The policy program itself, loaded and attached by dmmd's own code, against real
 * connect() calls. It needs no module: a rule for a user-space stack then counts
 * the fallback "no-client". With the module, no stack is up: "stack-down".
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dmm.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "fixture.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

TEST_F(policy, no_rules)
{
	INSTALL(&self->set);
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
}

TEST_F(policy, nothing_installed)
{
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
}

TEST_F(policy, first_match_wins)
{
	with_dport(rule(&self->set, 1, STACK), 80, 80);
	with_dport(rule(&self->set, 2, STACK), 80, 90);
	rule(&self->set, 3, DMM_STACK_KERNEL);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.0.0.1", 80);
	EXPECT_RULE(2, "127.0.0.1", 81);
	EXPECT_RULE(3, "127.0.0.1", 91);
}

TEST_F(policy, prefixes)
{
	with_dst(rule(&self->set, 1, STACK), "127.1.2.3", 32);
	with_dst(rule(&self->set, 2, STACK), "127.1.2.2", 31);
	with_dst(rule(&self->set, 3, STACK), "127.1.0.0", 16);
	with_dst(rule(&self->set, 4, STACK), "10.0.0.0", 9);
	with_dst(rule(&self->set, 5, STACK), "128.0.0.0", 1);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.1.2.3", 1);
	EXPECT_RULE(2, "127.1.2.2", 1);
	EXPECT_RULE(3, "127.1.2.4", 1);
	EXPECT_RULE(3, "127.1.255.255", 1);
	EXPECT_RULE(0, "127.2.0.0", 1);
	EXPECT_RULE(4, "10.127.255.255", 1);
	EXPECT_RULE(0, "10.128.0.0", 1);
	EXPECT_RULE(5, "192.0.2.1", 1);
	EXPECT_RULE(0, "126.0.0.1", 1);
}

TEST_F(policy, prefix_of_length_zero)
{
	with_dst(rule(&self->set, 1, STACK), "0.0.0.0", 0);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.0.0.1", 1);
	EXPECT_RULE(1, "203.0.113.255", 65535);
}

TEST_F(policy, another_family_never_matches)
{
	struct dmm_rule *r = with_dst(rule(&self->set, 1, STACK), "0.0.0.0", 0);

	r->dst_family = AF_INET6;
	INSTALL(&self->set);
	EXPECT_RULE(0, "127.0.0.1", 1);
}

TEST_F(policy, ports)
{
	with_dport(rule(&self->set, 1, STACK), 1, 1);
	with_dport(rule(&self->set, 2, STACK), 8000, 8010);
	with_dport(rule(&self->set, 3, STACK), 65535, 65535);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.0.0.1", 1);
	EXPECT_RULE(0, "127.0.0.1", 2);
	EXPECT_RULE(0, "127.0.0.1", 7999);
	EXPECT_RULE(2, "127.0.0.1", 8000);
	EXPECT_RULE(2, "127.0.0.1", 8010);
	EXPECT_RULE(0, "127.0.0.1", 8011);
	EXPECT_RULE(0, "127.0.0.1", 65534);
	EXPECT_RULE(3, "127.0.0.1", 65535);
}

TEST_F(policy, all_parts_must_agree)
{
	with_dport(with_dst(with_cgroup(rule(&self->set, 1, STACK), &self->cg),
			    "127.5.0.0", 16), 80, 80);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.5.0.1", 80);
	EXPECT_RULE(0, "127.5.0.1", 81);
	EXPECT_RULE(0, "127.6.0.1", 80);
	ASSERT_EQ(0, cgroup_enter(self->sb.old_cgroup));
	EXPECT_RULE(0, "127.5.0.1", 80);
}

TEST_F(policy, nested_cgroups)
{
	struct dmm_cgroup inner, deep, beside;
	char path[256];

	ASSERT_EQ(0, sandbox_cgroup(&self->sb, "inner", path));
	ASSERT_EQ(0, dmm_cgroup_resolve(path, &inner, NULL, NULL));
	ASSERT_EQ(0, sandbox_cgroup(&self->sb, "inner/deep", path));
	ASSERT_EQ(0, dmm_cgroup_resolve(path, &deep, NULL, NULL));
	ASSERT_EQ(0, sandbox_cgroup(&self->sb, "beside", path));
	ASSERT_EQ(0, dmm_cgroup_resolve(path, &beside, NULL, NULL));
	EXPECT_EQ(self->cg.level + 1, inner.level);
	EXPECT_EQ(self->cg.level + 2, deep.level);
	EXPECT_TRUE(dmm_cgroup_above(&self->cg, &deep));
	EXPECT_FALSE(dmm_cgroup_above(&deep, &self->cg));
	EXPECT_FALSE(dmm_cgroup_above(&beside, &deep));
	EXPECT_FALSE(dmm_cgroup_above(&deep, &deep));

	with_cgroup(rule(&self->set, 1, STACK), &deep);
	with_cgroup(rule(&self->set, 2, STACK), &inner);
	with_cgroup(with_dport(rule(&self->set, 3, STACK), 80, 80), &self->cg);
	INSTALL(&self->set);

	EXPECT_RULE(3, "127.0.0.1", 80);
	EXPECT_RULE(0, "127.0.0.1", 81);
	ASSERT_EQ(0, cgroup_enter(inner.path));
	EXPECT_RULE(2, "127.0.0.1", 81);
	ASSERT_EQ(0, cgroup_enter(deep.path));
	EXPECT_RULE(1, "127.0.0.1", 80);
	ASSERT_EQ(0, cgroup_enter(beside.path));
	EXPECT_RULE(3, "127.0.0.1", 80);
	EXPECT_RULE(0, "127.0.0.1", 81);
	ASSERT_EQ(0, cgroup_enter(self->sb.old_cgroup));
	EXPECT_RULE(0, "127.0.0.1", 80);
}

TEST_F(policy, last_of_a_full_set)
{
	int i;

	for (i = 1; i < DMM_RULES_MAX; i++)
		with_dport(rule(&self->set, i, STACK), i, i);
	rule(&self->set, DMM_RULES_MAX, STACK);
	INSTALL(&self->set);
	EXPECT_TRUE(try_connect("127.0.0.1", 60000));
	EXPECT_TRUE(try_connect("127.0.0.1", 255));
	EXPECT_EQ(1, hits(self->p, DMM_RULES_MAX));
	EXPECT_EQ(1, hits(self->p, 255));
	EXPECT_EQ(0, hits(self->p, 1));
}

/* A count out of range, from whoever can write the map, stays within the map. */
TEST_F(policy, count_beyond_the_set)
{
	with_dport(rule(&self->set, 1, STACK), 80, 80);
	INSTALL(&self->set);
	self->set.count = ~0U;
	ASSERT_EQ(0, dmm_policy_install(self->p, &self->set, NULL));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(1, hits(self->p, 1));
}

TEST_F(policy, only_tcp_sockets)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(80) };
	int fd;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, connect(fd, (struct sockaddr *)&sin, sizeof(sin)));
	close(fd);
	EXPECT_EQ(0, hits(self->p, 1));
}

TEST_F(policy, reasons_are_counted)
{
	struct dmm_rule_stats st;
	int reason = access("/dev/dmm", F_OK) ? DMM_FALLBACK_NO_CLIENT :
						DMM_FALLBACK_STACK_DOWN;

	with_dport(rule(&self->set, 1, STACK), 80, 80);
	rule(&self->set, 2, DMM_STACK_KERNEL);
	INSTALL(&self->set);
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_TRUE(try_connect("127.0.0.1", 81));
	ASSERT_EQ(0, dmm_policy_stats_get(self->p, 1, &st));
	EXPECT_EQ(2, st.hits);
	EXPECT_EQ(0, st.adopted);
	EXPECT_EQ(2, st.fallback[reason]);
	ASSERT_EQ(0, dmm_policy_stats_get(self->p, 2, &st));
	EXPECT_EQ(1, st.hits);
	EXPECT_EQ(0, st.fallback[reason]);
}

/* A rule without counters still decides; the program must not mind. */
TEST_F(policy, no_counters)
{
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	dmm_policy_stats_del(self->p, 1);
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(~0ULL, hits(self->p, 1));
}

TEST_F(policy, native_connect_works_under_it)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	int lfd, fd;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	lfd = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_EQ(0, bind(lfd, (struct sockaddr *)&sin, sizeof(sin)));
	ASSERT_EQ(0, listen(lfd, 1));
	ASSERT_EQ(0, getsockname(lfd, (struct sockaddr *)&sin, &len));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	EXPECT_EQ(0, connect(fd, (struct sockaddr *)&sin, sizeof(sin)));
	EXPECT_EQ(2, hits(self->p, 1));	/* bind() and connect() */
	close(fd);
	close(lfd);
}

/* ------------------------------------------------------------------------- */

struct storm {
	atomic_bool stop;
	atomic_ulong tried;
};

static void *storm_thread(void *data)
{
	struct storm *s = data;

	while (!atomic_load(&s->stop))
		if (try_connect("127.0.0.1", 1000))
			atomic_fetch_add(&s->tried, 1);
	return NULL;
}

/*
 * Set A: port 1000 -> 1, else -> 2. Set B: port 2000 -> 3, else -> 4. Connects to
 * port 1000 meet 1 (A) or 4 (B); 2 or 3, or none, would be a mix of both.
 */
TEST_F(policy, change_is_atomic)
{
	struct dmm_ruleset *b = calloc(1, sizeof(*b));
	struct storm s = {};
	pthread_t t[2];
	int i;

	ASSERT_NE(NULL, b);
	with_dport(rule(&self->set, 1, STACK), 1000, 1000);
	rule(&self->set, 2, STACK);
	with_dport(rule(b, 3, STACK), 2000, 2000);
	rule(b, 4, STACK);
	INSTALL(b);
	INSTALL(&self->set);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&t[i], NULL, storm_thread, &s));
	for (i = 0; i < 60; i++)
		ASSERT_EQ(0, dmm_policy_install(self->p, i % 2 ? &self->set : b, NULL));
	atomic_store(&s.stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(t[i], NULL);

	EXPECT_LT(0, hits(self->p, 1));
	EXPECT_LT(0, hits(self->p, 4));
	EXPECT_EQ(0, hits(self->p, 2));
	EXPECT_EQ(0, hits(self->p, 3));
	EXPECT_EQ(atomic_load(&s.tried), hits(self->p, 1) + hits(self->p, 4));
	TH_LOG("%lu connects during 60 changes", atomic_load(&s.tried));
	free(b);
}

/* A new daemon takes over maps, counters and links; no connect goes unseen. */
TEST_F(policy, reload_is_seamless)
{
	struct dmm_err err = {};
	struct storm s = {};
	__u64 *ids, seen;
	pthread_t t;
	int i;

	with_dport(rule(&self->set, 1, STACK), 1000, 1000);
	INSTALL(&self->set);
	ASSERT_EQ(0, pthread_create(&t, NULL, storm_thread, &s));
	for (i = 0; i < 5; i++) {
		dmm_policy_close(self->p);
		self->p = NULL;
		ASSERT_EQ(0, dmm_policy_open(&self->p, self->bpf_dir, &err)) {
			TH_LOG("%s", err.msg);
		}
		ASSERT_EQ(0, dmm_policy_reload(self->p, &err));
	}
	atomic_store(&s.stop, true);
	pthread_join(t, NULL);
	seen = hits(self->p, 1);
	EXPECT_LT(0, seen);
	EXPECT_EQ(atomic_load(&s.tried), seen);
	EXPECT_EQ(1, dmm_policy_links(self->p, DMM_POLICY_RULES, &ids));
	EXPECT_EQ(self->cg.id, ids[0]);
	free(ids);
}

TEST_F(policy, detach_is_immediate)
{
	rule(&self->set, 1, STACK);
	INSTALL(&self->set);
	EXPECT_RULE(1, "127.0.0.1", 1);
	EXPECT_TRUE(dmm_policy_attached(self->p, DMM_POLICY_RULES, self->cg.id));
	EXPECT_EQ(0, dmm_policy_detach(self->p, DMM_POLICY_RULES, self->cg.id));
	EXPECT_FALSE(dmm_policy_attached(self->p, DMM_POLICY_RULES, self->cg.id));
	EXPECT_RULE(0, "127.0.0.1", 1);
}

TEST_F(policy, links_of_removed_cgroups_are_dropped)
{
	struct dmm_cgroup sub;
	char path[256];
	__u64 *ids;
	int fd;

	ASSERT_EQ(0, sandbox_cgroup(&self->sb, "sub", path));
	ASSERT_EQ(0, dmm_cgroup_resolve(path, &sub, &fd, NULL));
	ASSERT_EQ(0, dmm_policy_attach(self->p, DMM_POLICY_RULES, fd, sub.id, NULL));
	close(fd);
	EXPECT_EQ(2, dmm_policy_links(self->p, DMM_POLICY_RULES, &ids));
	free(ids);
	ASSERT_EQ(0, rmdir(path));
	/* The kernel lets go of the program when it frees the cgroup. */
	EXPECT_TRUE(wait_for(5000, !dmm_policy_reload(self->p, NULL) &&
			     !dmm_policy_attached(self->p, DMM_POLICY_RULES, sub.id)));
	EXPECT_EQ(-ENOENT, dmm_cgroup_open(&sub));
	dmm_cgroup_release(&sub);
}

TEST_F(policy, not_on_a_bpffs)
{
	struct dmm_policy *p;
	struct dmm_err err;
	char dir[128];

	snprintf(dir, sizeof(dir), "%s/none", self->sb.dir);
	EXPECT_EQ(-EINVAL, dmm_policy_open(&p, dir, &err));
	EXPECT_NE(NULL, strstr(err.msg, "is not on a bpffs"));
	EXPECT_NE(0, access(dir, F_OK));
}

TEST_HARNESS_MAIN
