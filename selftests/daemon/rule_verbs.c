// SPDX-License-Identifier: Apache-2.0
/*
 * The rule commands, from the words to what sockets meet: every part of a match,
 * order, `fallback reject`, `rule explain`; and all of it again after dmmd was
 * killed and started.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"

FIXTURE(verbs)
{
	struct env e;
};

FIXTURE_SETUP(verbs)
{
	ASSERT_EQ(0, env_enter(&self->e));
	ASSERT_EQ(0, dmmd_start(&self->e));
	ASSERT_EQ(0, ctl(&self->e, "stack", "add", "a", "type=fake", "dev=lo")) {
		TH_LOG("%s", self->e.err);
	}
	ASSERT_EQ(0, ctl(&self->e, "cgroup", "attach", self->e.sb.cgroup));
	ASSERT_EQ(0, cgroup_enter(self->e.sb.cgroup));
}

FIXTURE_TEARDOWN(verbs)
{
	cgroup_enter(self->e.sb.old_cgroup);
	env_leave(&self->e);
}

#define CTL(...)							\
	ASSERT_EQ(0, ctl(&self->e, __VA_ARGS__)) TH_LOG("%s", self->e.err)

/* "3 1 2": the ids in their order. */
static const char *order(struct env *e)
{
	struct json_object *list = ctl_json(e, "rule", "list"), *v;
	static char buf[256];
	size_t i;

	*buf = 0;
	for (i = 0; list && i < json_object_array_length(list); i++) {
		json_object_object_get_ex(json_object_array_get_idx(list, i), "id", &v);
		sprintf(buf + strlen(buf), "%s%s", i ? " " : "", json_object_get_string(v));
	}
	json_object_put(list);
	return buf;
}

static int connect_errno(const char *addr, int port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, addr, port);
	int fd, ret;

	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ret = connect(fd, (struct sockaddr *)&ss, len) < 0 ? errno : 0;
	close(fd);
	return ret;
}

static int bind_errno(const char *addr, int port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, addr, port);
	int fd, ret;

	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ret = bind(fd, (struct sockaddr *)&ss, len) < 0 ? errno : 0;
	close(fd);
	return ret;
}

TEST_F(verbs, move)
{
	struct env *e = &self->e;

	CTL("rule", "add", "dport", "80", "stack", "kernel");
	CTL("rule", "add", "dport", "80", "stack", "kernel");
	CTL("rule", "add", "dport", "80", "stack", "kernel");
	CTL("rule", "move", "3", "before", "1");
	EXPECT_STREQ("3 1 2", order(e));
	CTL("rule", "move", "3", "before", "2");
	EXPECT_STREQ("1 3 2", order(e));
	CTL("rule", "move", "3", "before", "2");
	EXPECT_STREQ("1 3 2", order(e));
	CTL("rule", "move", "2", "before", "1");
	EXPECT_STREQ("2 1 3", order(e));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_EQ(1, rule_hits(e, 2));
	EXPECT_EQ(0, rule_hits(e, 1));
	ASSERT_EQ(0, dmmd_end(e, SIGKILL) ? 0 : -1);
	ASSERT_EQ(0, dmmd_start(e));
	EXPECT_STREQ("2 1 3", order(e));
}

TEST_F(verbs, flush)
{
	struct env *e = &self->e;

	CTL("rule", "flush");
	CTL("rule", "add", "dport", "80", "stack", "a");
	CTL("rule", "add", "cgroup", e->sb.cgroup, "stack", "kernel");
	CTL("rule", "flush");
	EXPECT_STREQ("", order(e));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	CTL("rule", "add", "dport", "80", "stack", "a");
	EXPECT_STREQ("3", order(e));
	EXPECT_EQ(0, rule_hits(e, 3));
	/* The stack is nobody's any more. */
	CTL("rule", "flush");
	CTL("stack", "del", "a");
}

/* One rule for each part, in force, and again after dmmd came back. */
TEST_F(verbs, all_parts_and_back)
{
	struct env *e = &self->e;
	char *before;
	int round;

	CTL("rule", "add", "dst", "2001:db8::/32", "dport", "80-90", "stack", "a");
	CTL("rule", "add", "dir", "listen", "src", "::1", "sport", "8080", "stack", "a",
	    "fallback", "reject");
	CTL("rule", "add", "uid", "12345", "stack", "a");
	CTL("rule", "add", "comm", "no such name", "stack", "a");
	CTL("rule", "add", "dir", "connect", "proto", "tcp", "dst", "127.0.0.0/8", "stack",
	    "a", "fallback", "kernel");
	CTL("-j", "rule", "list");
	for (round = 1; round <= 2; round++) {
		EXPECT_TRUE(try_connect("2001:db8::1", 85));
		EXPECT_EQ(ENETDOWN, bind_errno("::1", 8080));
		EXPECT_EQ(0, bind_errno("127.0.0.1", 8080));
		EXPECT_TRUE(try_connect("127.0.0.1", 80));
		EXPECT_TRUE(try_connect("::1", 80));
		EXPECT_EQ(round, rule_hits(e, 1));
		EXPECT_EQ(round, rule_hits(e, 2));
		EXPECT_EQ(0, rule_hits(e, 3));
		EXPECT_EQ(0, rule_hits(e, 4));
		EXPECT_EQ(round, rule_hits(e, 5));
		CTL("rule", "list");
		EXPECT_NE(NULL, strstr(e->out, "dst 2001:db8::/32 dport 80-90"));
		EXPECT_NE(NULL, strstr(e->out, "dir listen src ::1 sport 8080"));
		EXPECT_NE(NULL, strstr(e->out, "comm no such name"));
		before = strdup(e->out);
		if (round == 1) {
			dmmd_end(e, SIGKILL);
			ASSERT_EQ(0, dmmd_start(e));
			CTL("rule", "list");
			EXPECT_STREQ(before, e->out);
		}
		free(before);
	}
	CTL("stats");
	EXPECT_NE(NULL, strstr(e->out, "REJECTED"));
}

TEST_F(verbs, reject)
{
	struct env *e = &self->e;
	struct json_object *o, *rules, *v;

	CTL("rule", "add", "dport", "81", "stack", "a", "fallback", "reject");
	EXPECT_EQ(ENETDOWN, connect_errno("127.0.0.1", 81));
	EXPECT_EQ(ENETDOWN, connect_errno("::1", 81));
	EXPECT_EQ(ECONNREFUSED, connect_errno("127.0.0.1", 82));
	o = ctl_json(e, "stats");
	ASSERT_TRUE(json_object_object_get_ex(o, "rules", &rules));
	rules = json_object_array_get_idx(rules, 0);
	ASSERT_TRUE(json_object_object_get_ex(rules, "rejected", &v));
	EXPECT_EQ(2, json_object_get_int(v));
	ASSERT_TRUE(json_object_object_get_ex(rules, "fallbacks", &v));
	ASSERT_TRUE(json_object_object_get_ex(v, access("/dev/dmm", F_OK) ? "no-client" :
					      "stack-down", &v));
	EXPECT_EQ(2, json_object_get_int(v));
	json_object_put(o);
	CTL("rule", "flush");
	EXPECT_EQ(ECONNREFUSED, connect_errno("127.0.0.1", 81));
}

/* The rule that `rule explain` names; 0 for none. */
static int explained(struct json_object *o, const char **differs)
{
	struct json_object *v, *tried;
	size_t n;
	int id = 0;

	if (json_object_object_get_ex(o, "rule", &v) && v)
		id = json_object_get_int(v);
	json_object_object_get_ex(o, "tried", &tried);
	n = json_object_array_length(tried);
	*differs = "";
	if (n && json_object_object_get_ex(json_object_array_get_idx(tried, 0), "differs",
					   &v))
		*differs = json_object_get_string(v);
	return id;
}

#define EXPLAIN(_id, _differs, ...) do {				\
	struct json_object *__o = ctl_json(&self->e, "rule", "explain", __VA_ARGS__); \
	const char *__d;						\
									\
	ASSERT_NE(NULL, __o) TH_LOG("%s", self->e.err);			\
	EXPECT_EQ(_id, explained(__o, &__d)) TH_LOG("%s", self->e.out);	\
	EXPECT_STREQ(_differs, __d);					\
	json_object_put(__o);						\
} while (0)

TEST_F(verbs, explain)
{
	struct env *e = &self->e;
	char inner[160];

	ASSERT_EQ(0, sandbox_cgroup(&e->sb, "inner", inner));
	CTL("rule", "add", "cgroup", inner, "dst", "10.0.0.0/8", "dport", "80-90", "stack",
	    "a", "fallback", "reject");
	CTL("rule", "add", "dir", "listen", "stack", "kernel");
	EXPLAIN(1, "", "cgroup", inner, "dst", "10.1.2.3", "dport", "85");
	EXPLAIN(0, "dport", "cgroup", inner, "dst", "10.1.2.3", "dport", "91");
	EXPLAIN(0, "dport", "cgroup", inner, "dst", "10.1.2.3");
	EXPLAIN(0, "dst", "cgroup", inner, "dst", "11.1.2.3", "dport", "85");
	EXPLAIN(0, "dst", "cgroup", inner, "dst", "::a01:203", "dport", "85");
	EXPLAIN(0, "cgroup", "cgroup", e->sb.cgroup, "dst", "10.1.2.3", "dport", "85");
	EXPLAIN(0, "cgroup", "dst", "10.1.2.3", "dport", "85");
	EXPLAIN(2, "dport", "dir", "listen", "src", "::", "sport", "80");
	EXPLAIN(0, "", "cgroup", e->sb.old_cgroup, "dst", "10.1.2.3", "dport", "85");

	CTL("rule", "explain", "cgroup", inner, "dst", "10.1.2.3", "dport", "85");
	EXPECT_NE(NULL, strstr(e->out, "takes it"));
	EXPECT_NE(NULL, strstr(e->out, "stack a, which is up: rule 1, fallback reject"));
	CTL("rule", "explain", "cgroup", e->sb.old_cgroup, "dport", "85");
	EXPECT_STREQ("stack kernel: the cgroup is not under DMM, so no rule is asked\n",
		     e->out);
	CTL("rule", "explain", "dport", "85");
	EXPECT_NE(NULL, strstr(e->out, "it asks for dst, which was not said"));
	EXPECT_NE(NULL, strstr(e->out, "no: another dir"));
	EXPECT_NE(NULL, strstr(e->out, "stack kernel: no rule takes it"));
}

/* Where the shim and tests find the worker. */
TEST_F(verbs, client_socket)
{
	struct env *e = &self->e;
	char path[160], want[200], args[4096];
	struct stat st;
	size_t n, i;
	FILE *f;

	snprintf(path, sizeof(path), "%s/client", e->run);
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(02750, st.st_mode & 07777);
	ASSERT_EQ(0, stat(e->run, &st));
	snprintf(path, sizeof(path), "/proc/%ld/cmdline", stack_number(e, "a", "pid"));
	f = fopen(path, "r");
	ASSERT_NE(NULL, f);
	n = fread(args, 1, sizeof(args) - 1, f);
	fclose(f);
	args[n] = 0;
	for (i = 0; i < n; i++)
		if (!args[i])
			args[i] = ' ';
	snprintf(want, sizeof(want), "--client-socket %s/client/1.sock", e->run);
	EXPECT_NE(NULL, strstr(args, want)) TH_LOG("%s", args);
	EXPECT_EQ(!!access("/dev/dmm", F_OK), !!strstr(args, "--no-module"));
}

TEST_HARNESS_MAIN
