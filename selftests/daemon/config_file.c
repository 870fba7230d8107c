// SPDX-License-Identifier: Apache-2.0
/*
 * The whole configuration as a file: saved, checked, applied; all of it or
 * nothing; and every mistake told with its line.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"

FIXTURE(file)
{
	struct env e;
	char path[128];
};

FIXTURE_SETUP(file)
{
	ASSERT_EQ(0, env_enter(&self->e));
	ASSERT_EQ(0, dmmd_start(&self->e));
	ASSERT_EQ(0, system("ip link add v0 type veth peer name v1 && "
			    "ip link add v2 type veth peer name v3"));
	snprintf(self->path, sizeof(self->path), "%s/c.yaml", self->e.sb.dir);
}

FIXTURE_TEARDOWN(file)
{
	env_leave(&self->e);
}

#define CTL(...)							\
	ASSERT_EQ(0, ctl(&self->e, __VA_ARGS__)) TH_LOG("%s", self->e.err)

static void file_write(const char *path, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void file_write(const char *path, const char *fmt, ...)
{
	FILE *f = fopen(path, "w");
	va_list ap;

	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fclose(f);
}

/* All that there is; allocated. */
static char *shot(struct env *e)
{
	static const char * const what[] = { "stack", "cgroup", "rule" };
	char *all = calloc(1, 4 * sizeof(e->out));
	int i;

	for (i = 0; i < 3; i++)
		if (!ctl(e, "-j", what[i], "list"))
			strcat(all, e->out);
	return all;
}

TEST_F(file, there_and_back)
{
	struct env *e = &self->e;
	char *before, *after, *text;

	CTL("stack", "add", "a", "type=fake", "dev=lo");
	CTL("stack", "add", "b", "type=fake", "dev=v0", "route=own", "watchdog=9",
	    "strict-filters=on");
	CTL("cgroup", "attach", e->sb.cgroup);
	CTL("rule", "add", "cgroup", e->sb.cgroup, "uid", "0", "comm", "a: b #c", "proto",
	    "tcp", "dir", "connect", "src", "127.0.0.1", "dst", "127.0.0.0/8", "sport",
	    "1-1000", "dport", "80", "stack", "b", "fallback", "reject");
	CTL("rule", "add", "dir", "listen", "src", "::", "stack", "a");
	CTL("rule", "add", "dport", "80", "stack", "kernel");
	CTL("rule", "move", "3", "before", "2");
	CTL("save", self->path);
	CTL("check", self->path);
	before = shot(e);

	/* What is so already is left alone: same workers, same ids. */
	CTL("apply", self->path);
	after = shot(e);
	EXPECT_STREQ(before, after);
	free(after);
	free(before);

	CTL("save", "-");
	text = slurp(self->path);
	EXPECT_STREQ(text, e->out);
	free(text);

	CTL("rule", "flush");
	CTL("cgroup", "detach", e->sb.cgroup);
	CTL("stack", "del", "a");
	CTL("stack", "del", "b");
	CTL("apply", self->path);
	text = slurp(self->path);
	CTL("save", "-");
	EXPECT_STREQ(text, e->out);
	free(text);
	EXPECT_STREQ("up", stack_field(e, "a", "state"));
	EXPECT_STREQ("own", stack_field(e, "b", "route"));
	EXPECT_EQ(9, stack_number(e, "b", "watchdog"));
	EXPECT_STREQ("on", stack_field(e, "b", "strict-filters"));
}

TEST_F(file, rules_that_stay_keep_their_counters)
{
	struct env *e = &self->e;

	CTL("rule", "add", "cgroup", e->sb.cgroup, "dport", "80", "stack", "kernel");
	CTL("rule", "add", "cgroup", e->sb.cgroup, "dport", "81", "stack", "kernel");
	ASSERT_EQ(0, cgroup_enter(e->sb.cgroup));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	EXPECT_TRUE(try_connect("127.0.0.1", 81));
	file_write(self->path,
		   "rules:\n"
		   "- match: {dport: 9000-9010, proto: tcp}\n  stack: kernel\n"
		   "- match: {cgroup: %s, dport: 81}\n  stack: kernel\n", e->sb.cgroup);
	CTL("apply", self->path);
	EXPECT_EQ(-1, rule_hits(e, 1));
	EXPECT_EQ(1, rule_hits(e, 2));
	EXPECT_EQ(0, rule_hits(e, 3));
	EXPECT_TRUE(try_connect("127.0.0.1", 9001));
	EXPECT_EQ(1, rule_hits(e, 3));
	ASSERT_EQ(0, cgroup_enter(e->sb.old_cgroup));
}

TEST_F(file, stacks_come_and_go)
{
	struct env *e = &self->e;

	CTL("stack", "add", "old", "type=fake", "dev=v0");
	CTL("stack", "add", "stays", "type=fake", "dev=lo");
	file_write(self->path,
		   "stacks:\n"
		   "- {name: stays, type: fake, dev: lo}\n"
		   "- {name: new, type: fake, dev: v2}\n"
		   "rules:\n"
		   "- match: {dport: 80}\n  stack: new\n");
	CTL("apply", self->path);
	EXPECT_STREQ("", stack_field(e, "old", "state"));
	EXPECT_STREQ("up", stack_field(e, "stays", "state"));
	EXPECT_STREQ("up", stack_field(e, "new", "state"));
	CTL("rule", "list");
	EXPECT_NE(NULL, strstr(e->out, "new"));
	/* And the daemon serves on. */
	CTL("rule", "flush");
	CTL("stack", "restart", "new");
	CTL("stack", "del", "new");
}

/* One of two new stacks cannot start: the other goes again, nothing has changed. */
TEST_F(file, all_or_nothing)
{
	static const char * const bad[] = { "bad", "dead", "odd" };
	struct env *e = &self->e;
	char *before, *after;
	size_t i;

	CTL("stack", "add", "old", "type=fake", "dev=lo");
	CTL("cgroup", "attach", e->sb.cgroup);
	CTL("rule", "add", "dport", "80", "stack", "old");
	before = shot(e);
	for (i = 0; i < 3; i++) {
		file_write(self->path,
			   "stacks:\n"
			   "- {name: good, type: fake, dev: v0}\n"
			   "- {name: %s, type: fake, dev: v2}\n"
			   "rules:\n"
			   "- match: {dport: 81}\n  stack: good\n", bad[i]);
		EXPECT_EQ(0, ctl(e, "check", self->path)) TH_LOG("%s", e->err);
		EXPECT_EQ(1, ctl(e, "apply", self->path));
		EXPECT_TRUE(one_line(e, bad[i])) TH_LOG("%s", e->err);
		after = shot(e);
		EXPECT_STREQ(before, after);
		free(after);
	}
	free(before);
	EXPECT_EQ(NULL, strstr(slurp(e->state), "good"));
}

/* While new stacks come up nothing else is changed, and all can be asked. */
TEST_F(file, others_wait)
{
	struct env *e = &self->e, other = *e;
	int status;
	pid_t pid;

	CTL("rule", "add", "dport", "80", "stack", "kernel");
	file_write(self->path,
		   "stacks:\n- {name: slow, type: fake, dev: lo}\n"
		   "rules:\n- match: {dport: 81}\n  stack: slow\n");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(ctl(&other, "apply", self->path));
	EXPECT_TRUE(wait_for(5000, !strcmp(stack_field(e, "slow", "state"), "starting")));
	EXPECT_EQ(1, ctl(e, "rule", "add", "dport", "80", "stack", "kernel"));
	EXPECT_TRUE(one_line(e, "a configuration is being applied just now"));
	EXPECT_EQ(1, ctl(e, "rule", "flush"));
	EXPECT_EQ(1, ctl(e, "stack", "add", "b", "type=fake", "dev=v0"));
	EXPECT_EQ(1, ctl(e, "stack", "del", "slow"));
	EXPECT_EQ(1, ctl(e, "cgroup", "attach", e->sb.cgroup));
	EXPECT_EQ(1, ctl(e, "apply", self->path));
	CTL("rule", "explain", "dport", "80");
	EXPECT_NE(NULL, strstr(e->out, "rule 1"));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_STREQ("up", stack_field(e, "slow", "state"));
	CTL("rule", "explain", "dport", "80");
	EXPECT_NE(NULL, strstr(e->out, "no rule takes it"));
	CTL("rule", "flush");
}

/* dmmd is told to end in the middle of it. */
TEST_F(file, shutdown_meanwhile)
{
	struct env *e = &self->e, other = *e;
	int status;
	pid_t pid;

	CTL("stack", "add", "old", "type=fake", "dev=v0");
	file_write(self->path, "stacks:\n- {name: slow, type: fake, dev: lo}\n"
		   "- {name: slow2, type: fake, dev: v2}\n");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(ctl(&other, "apply", self->path));
	EXPECT_TRUE(wait_for(5000, !strcmp(stack_field(e, "slow2", "state"), "starting")));
	CTL("shutdown");
	ASSERT_EQ(e->dmmd, waitpid(e->dmmd, &status, 0));
	EXPECT_EQ(0, status);
	e->dmmd = 0;
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(1, WEXITSTATUS(status));
}

TEST_F(file, mistakes_have_lines)
{
	static const struct {
		const char *text, *says;
	} table[] = {
		{ "", "empty; expected stacks, cgroups, rules" },
		{ "rules:\n- match: {dport: 80\n", ":3: not YAML: " },
		{ "\tx", ":1: not YAML: " },
		{ "rules: 5\n", ":1: Expecting SEQUENCE" },
		{ "colours: []\n", ":1: Unexpected key: colours" },
		{ "rules:\n- match:\n    colour: red\n  stack: a\n",
		  ":3: Unexpected key: colour" },
		{ "rules:\n- match: {dport: 80}\n", ":2: Missing required" },
		{ "rules:\n- stack: kernel\n", ":2: Missing required" },
		{ "rules:\n- match: {}\n  stack: kernel\n", ":2: a rule needs something" },
		{ "rules:\n- match:\n    dst: 10.0.0.0/8\n    dport: 70000\n  stack: kernel\n",
		  ":4: dport 70000: expected a port" },
		{ "# one\nrules:\n- match: {dport: 1}\n  stack: kernel\n"
		  "- match:\n    src: 10.1.0.0/8\n  stack: kernel\n",
		  ":6: src 10.1.0.0/8: bits are set" },
		{ "rules:\n- match: {dport: 1}\n  stack: none\n",
		  ":3: stack none: is not among the stacks" },
		{ "rules:\n- match: {dport: 1}\n  stack: kernel\n  fallback: x\n",
		  ":4: fallback x: expected kernel or reject" },
		{ "rules:\n- match: {dport: 1}\n  stack: kernel\n  fallback: reject\n",
		  ":4: fallback reject: " },
		{ "cgroups:\n- no/such/group\n", ":2: cgroup " },
		{ "cgroups:\n- /tmp\n", ":2: cgroup /tmp: not a cgroup2" },
		{ "stacks:\n- {name: a, type: fake}\n", ":2: Missing required" },
		{ "stacks:\n- {name: a.b, type: fake, dev: lo}\n",
		  ":2: stack name \"a.b\": expected only" },
		{ "stacks:\n- {name: a, type: fake, dev: none0}\n",
		  ":2: dev none0: no such device" },
		{ "stacks:\n- {name: a, type: fake, dev: v0}\n"
		  "- {name: a, type: fake, dev: v2}\n", ":3: stack a: named twice" },
		{ "stacks:\n- {name: a, type: fake, dev: lo}\n",
		  ":2: dev lo: stack one is on it already" },
		{ "stacks:\n- {name: a, type: fake, dev: v0}\n"
		  "- {name: b, type: fake, dev: v0}\n", ":3: dev v0: stack a is on it" },
		{ "stacks:\n- {name: one, type: fake, dev: v0}\n",
		  ":2: stack one: runs already, as type=fake dev=lo; delete it first" },
		{ "x: &a [*a]\n", ":1: " },
	};
	struct env *e = &self->e;
	char *before, *after;
	size_t i;

	CTL("stack", "add", "one", "type=fake", "dev=lo");
	before = shot(e);
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		file_write(self->path, "%s", table[i].text);
		EXPECT_EQ(1, ctl(e, "check", self->path)) TH_LOG("case %zu", i);
		EXPECT_TRUE(one_line(e, table[i].says)) {
			TH_LOG("expected \"%s\", got: %s", table[i].says, e->err);
		}
		EXPECT_EQ(1, ctl(e, "apply", self->path)) TH_LOG("case %zu", i);
		EXPECT_TRUE(one_line(e, table[i].says));
	}
	after = shot(e);
	EXPECT_STREQ(before, after);
	free(before);
	free(after);
}

/* As many rules as there can be, each with much to say; and one more. */
TEST_F(file, a_full_set)
{
	struct env *e = &self->e;
	FILE *f;
	int i, n;

	for (n = 256; n <= 257; n++) {
		f = fopen(self->path, "w");
		fprintf(f, "rules:\n");
		for (i = 0; i < n; i++)
			fprintf(f, "- match:\n    cgroup: %s\n    comm: application-%d\n"
				"    src: 2001:db8:1111:2222:3333:4444:5555:6666\n"
				"    dst: 2001:db8:1111:2222:3333:4444:5555:7777\n"
				"    sport: 10000-20000\n    dport: %d\n    uid: 1000000\n"
				"    dir: connect\n    proto: tcp\n  stack: kernel\n",
				e->sb.cgroup, i, i + 1);
		fclose(f);
		EXPECT_EQ(n > 256, ctl(e, "apply", self->path)) TH_LOG("%s", e->err);
	}
	EXPECT_TRUE(one_line(e, "more than 256 rules"));
	CTL("status");
	EXPECT_NE(NULL, strstr(e->out, "rules     256"));
}

TEST_HARNESS_MAIN
