// SPDX-License-Identifier: Apache-2.0
/*
 * Rules through dmmd, as sockets meet them: which cgroups the programs are put
 * on, for how long, and that a socket never meets them twice.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"

FIXTURE(cgroups)
{
	struct env e;
	char inner[160], deep[160];
};

FIXTURE_SETUP(cgroups)
{
	ASSERT_EQ(0, env_enter(&self->e));
	ASSERT_EQ(0, dmmd_start(&self->e));
	ASSERT_EQ(0, sandbox_cgroup(&self->e.sb, "inner", self->inner));
	ASSERT_EQ(0, sandbox_cgroup(&self->e.sb, "inner/deep", self->deep));
}

FIXTURE_TEARDOWN(cgroups)
{
	env_leave(&self->e);
}

/* What `cgroup list` says of @path: attached, covered, gone, or "" for nothing. */
static const char *state_of(struct env *e, const char *path)
{
	struct json_object *list = ctl_json(e, "cgroup", "list"), *o, *v;
	static char buf[32];
	size_t i;

	*buf = 0;
	for (i = 0; list && i < json_object_array_length(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (json_object_object_get_ex(o, "path", &v) &&
		    !strcmp(json_object_get_string(v), path) &&
		    json_object_object_get_ex(o, "state", &v))
			snprintf(buf, sizeof(buf), "%s", json_object_get_string(v));
	}
	json_object_put(list);
	return buf;
}

#define CTL(...)							\
	ASSERT_EQ(0, ctl(&self->e, __VA_ARGS__)) TH_LOG("%s", self->e.err)

TEST_F(cgroups, rules_attach_and_detach)
{
	struct env *e = &self->e;

	CTL("rule", "add", "cgroup", self->inner, "dport", "80", "stack", "kernel");
	CTL("rule", "add", "cgroup", self->inner, "dport", "81", "stack", "kernel");
	EXPECT_STREQ("attached", state_of(e, self->inner));
	CTL("rule", "del", "1");
	EXPECT_STREQ("attached", state_of(e, self->inner));
	CTL("rule", "del", "2");
	EXPECT_STREQ("", state_of(e, self->inner));

	ASSERT_EQ(0, cgroup_enter(self->inner));
	CTL("rule", "add", "dport", "80", "stack", "kernel");
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(0, rule_hits(e, 3));	/* attached nowhere */
	CTL("cgroup", "attach", self->inner);
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(1, rule_hits(e, 3));
	CTL("cgroup", "detach", self->inner);
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(1, rule_hits(e, 3));
}

TEST_F(cgroups, attached_by_name_stays)
{
	struct env *e = &self->e;

	CTL("cgroup", "attach", self->inner);
	EXPECT_EQ(1, ctl(e, "cgroup", "attach", self->inner));
	EXPECT_TRUE(one_line(e, "attached already"));
	CTL("rule", "add", "cgroup", self->inner, "stack", "kernel");
	CTL("rule", "del", "1");
	EXPECT_STREQ("attached", state_of(e, self->inner));
	CTL("cgroup", "detach", self->inner);
	EXPECT_STREQ("", state_of(e, self->inner));
}

/* One socket, one decision: also when rules name cgroups above each other. */
TEST_F(cgroups, nested_cgroups_count_once)
{
	struct env *e = &self->e;

	CTL("rule", "add", "cgroup", self->deep, "dport", "80", "stack", "kernel");
	CTL("rule", "add", "cgroup", e->sb.cgroup, "dport", "80-81", "stack", "kernel");
	CTL("rule", "add", "cgroup", self->inner, "dport", "82", "stack", "kernel");
	EXPECT_STREQ("covered", state_of(e, self->deep));
	EXPECT_STREQ("covered", state_of(e, self->inner));
	EXPECT_STREQ("attached", state_of(e, e->sb.cgroup));
	ASSERT_EQ(0, cgroup_enter(self->deep));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_TRUE(try_connect("127.0.0.1", 81));
	EXPECT_TRUE(try_connect("127.0.0.1", 82));
	EXPECT_EQ(1, rule_hits(e, 1));
	EXPECT_EQ(1, rule_hits(e, 2));
	EXPECT_EQ(1, rule_hits(e, 3));

	/* The top one goes: those below take over, without a gap in what they name. */
	CTL("rule", "del", "2");
	EXPECT_STREQ("attached", state_of(e, self->inner));
	EXPECT_STREQ("covered", state_of(e, self->deep));
	EXPECT_STREQ("", state_of(e, e->sb.cgroup));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(2, rule_hits(e, 1));
	CTL("rule", "del", "3");
	EXPECT_STREQ("attached", state_of(e, self->deep));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(3, rule_hits(e, 1));
}

TEST_F(cgroups, names_relative_to_the_mount)
{
	struct env *e = &self->e;
	const char *rel = strrchr(e->sb.cgroup, '/') + 1;
	char with_dots[256];

	CTL("rule", "add", "cgroup", rel, "stack", "kernel");
	EXPECT_STREQ("attached", state_of(e, e->sb.cgroup));
	snprintf(with_dots, sizeof(with_dots), "%s/inner/deep/..", rel);
	CTL("cgroup", "attach", with_dots);
	EXPECT_STREQ("covered", state_of(e, self->inner));
}

TEST_F(cgroups, order_and_before)
{
	struct env *e = &self->e;

	ASSERT_EQ(0, cgroup_enter(e->sb.cgroup));
	CTL("cgroup", "attach", e->sb.cgroup);
	CTL("rule", "add", "dport", "80", "stack", "kernel");
	CTL("rule", "add", "before", "1", "dst", "127.0.0.0/8", "stack", "kernel");
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(0, rule_hits(e, 1));
	EXPECT_EQ(1, rule_hits(e, 2));
	CTL("rule", "del", "2");
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(1, rule_hits(e, 1));
	EXPECT_EQ(-1, rule_hits(e, 2));
	CTL("rule", "add", "dport", "80", "stack", "kernel");
	EXPECT_EQ(0, rule_hits(e, 3));
}

TEST_F(cgroups, fallback_reason_is_named)
{
	struct env *e = &self->e;

	CTL("stack", "add", "a", "type=fake", "dev=lo");
	CTL("rule", "add", "cgroup", e->sb.cgroup, "proto", "tcp", "dir", "connect",
	    "stack", "a");
	ASSERT_EQ(0, cgroup_enter(e->sb.cgroup));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	CTL("stats");
	EXPECT_NE(NULL, strstr(e->out, access("/dev/dmm", F_OK) ? "no-client=1" :
			       "stack-down=1")) TH_LOG("%s", e->out);
	CTL("rule", "list");
	EXPECT_NE(NULL, strstr(e->out, e->sb.cgroup));
}

/* A cgroup of the same path is another cgroup. */
TEST_F(cgroups, removed_and_made_again)
{
	struct env *e = &self->e;

	CTL("rule", "add", "cgroup", self->deep, "stack", "kernel");
	ASSERT_EQ(0, rmdir(self->deep));
	EXPECT_STREQ("gone", state_of(e, self->deep));
	ASSERT_EQ(0, sandbox_cgroup(&e->sb, "inner/deep", self->deep));
	EXPECT_STREQ("gone", state_of(e, self->deep));
	CTL("rule", "list");
	EXPECT_NE(NULL, strstr(e->out, "(cgroup is gone)"));
	ASSERT_EQ(0, cgroup_enter(self->deep));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(0, rule_hits(e, 1));
	CTL("rule", "add", "cgroup", self->deep, "stack", "kernel");
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(1, rule_hits(e, 2));
	CTL("rule", "del", "1");
	EXPECT_STREQ("attached", state_of(e, self->deep));
}

TEST_HARNESS_MAIN
