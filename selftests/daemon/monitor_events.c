// SPDX-License-Identifier: Apache-2.0
/* Live events: each change is told once, to whoever asked and to nobody else. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"

#define MS 10000

FIXTURE(monitor)
{
	struct env e;
	int fd;
};

static bool ask(int fd, const char *method)
{
	char text[128], *line;
	bool ok;

	snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\"}\n",
		 method);
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		return false;
	line = rpc_line(fd, MS);
	ok = line && strstr(line, "\"result\"");
	free(line);
	return ok;
}

FIXTURE_SETUP(monitor)
{
	ASSERT_EQ(0, env_enter(&self->e));
	ASSERT_EQ(0, dmmd_start(&self->e));
	self->fd = rpc_connect(&self->e);
	ASSERT_LE(0, self->fd);
	ASSERT_TRUE(ask(self->fd, "monitor"));
}

FIXTURE_TEARDOWN(monitor)
{
	close(self->fd);
	env_leave(&self->e);
}

/* The next event's params, to be put; NULL when none comes. */
static struct json_object *next(int fd, int ms)
{
	struct json_object *msg, *params = NULL, *v;
	char *line = rpc_line(fd, ms);

	if (!line)
		return NULL;
	msg = json_tokener_parse(line);
	free(line);
	if (json_object_object_get_ex(msg, "method", &v) &&
	    !strcmp(json_object_get_string(v), "event") &&
	    json_object_object_get_ex(msg, "params", &params))
		json_object_get(params);
	json_object_put(msg);
	return params;
}

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : "";
}

#define EXPECT_STACK(_name, _state) do {				\
	struct json_object *__o = next(self->fd, MS);			\
									\
	ASSERT_NE(NULL, __o);						\
	EXPECT_STREQ("stack", str(__o, "event"));			\
	EXPECT_STREQ(_name, str(__o, "name"));				\
	EXPECT_STREQ(_state, str(__o, "state"));			\
	json_object_put(__o);						\
} while (0)

TEST_F(monitor, stacks)
{
	struct env *e = &self->e;

	ASSERT_EQ(0, ctl(e, "stack", "add", "a", "type=fake", "dev=lo"));
	EXPECT_STACK("a", "starting");
	EXPECT_STACK("a", "up");
	kill(stack_number(e, "a", "pid"), SIGKILL);
	EXPECT_STACK("a", "backoff");
	EXPECT_STACK("a", "starting");
	EXPECT_STACK("a", "up");
	ASSERT_EQ(0, ctl(e, "stack", "del", "a"));
	EXPECT_STACK("a", "stopping");
	EXPECT_STACK("a", "gone");
	EXPECT_EQ(1, ctl(e, "stack", "add", "bad", "type=fake", "dev=lo"));
	EXPECT_STACK("bad", "starting");
	EXPECT_STACK("bad", "gone");
}

TEST_F(monitor, rules_and_counters)
{
	struct env *e = &self->e;
	struct json_object *o, *v;

	ASSERT_EQ(0, ctl(e, "rule", "add", "cgroup", e->sb.cgroup, "stack", "kernel"));
	o = next(self->fd, MS);
	EXPECT_STREQ("rules", str(o, "event"));
	ASSERT_TRUE(json_object_object_get_ex(o, "rules", &v));
	EXPECT_EQ(1, json_object_array_length(v));
	json_object_put(o);

	ASSERT_EQ(0, cgroup_enter(e->sb.cgroup));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	o = next(self->fd, MS);
	EXPECT_STREQ("counters", str(o, "event"));
	EXPECT_STREQ("1", str(o, "rule"));
	EXPECT_STREQ("kernel", str(o, "stack"));
	EXPECT_STREQ("1", str(o, "hits"));
	json_object_put(o);
	/* Told once: the next is the next change. */
	EXPECT_TRUE(try_connect("::1", 80));
	o = next(self->fd, MS);
	EXPECT_STREQ("2", str(o, "hits"));
	json_object_put(o);
	EXPECT_EQ(NULL, next(self->fd, 1500));
	ASSERT_EQ(0, cgroup_enter(e->sb.old_cgroup));
	/* The connection still takes requests. */
	EXPECT_TRUE(ask(self->fd, "status"));
}

/* What was counted before somebody listened is no news. */
TEST_F(monitor, old_counts_are_no_news)
{
	struct env *e = &self->e;
	int fd;

	ASSERT_EQ(0, ctl(e, "rule", "add", "cgroup", e->sb.cgroup, "stack", "kernel"));
	close(self->fd);
	ASSERT_EQ(0, cgroup_enter(e->sb.cgroup));
	usleep(1200 * 1000);	/* one look, which finds nobody */
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	ASSERT_EQ(0, cgroup_enter(e->sb.old_cgroup));
	fd = rpc_connect(e);
	ASSERT_TRUE(ask(fd, "monitor"));
	EXPECT_EQ(NULL, next(fd, 1500));
	self->fd = fd;
}

TEST_F(monitor, only_who_asked)
{
	struct env *e = &self->e;
	int other = rpc_connect(e), i;

	ASSERT_TRUE(ask(other, "status"));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, ctl(e, "rule", "add", "dport", "80", "stack", "kernel"));
	for (i = 0; i < 3; i++)
		json_object_put(next(self->fd, MS));
	EXPECT_EQ(NULL, next(other, 100));
	close(other);
}

/* One who does not read is cut off in the end, and disturbs nobody. */
TEST_F(monitor, deaf_listeners)
{
	struct env *e = &self->e;
	int deaf[8], i;

	for (i = 0; i < 8; i++) {
		deaf[i] = rpc_connect(e);
		ASSERT_TRUE(ask(deaf[i], "monitor"));
	}
	for (i = 0; i < 150; i++)
		ASSERT_EQ(0, ctl(e, "rule", "add", "dport", "80", "stack", "kernel"));
	for (i = 0; i < 150; i++)
		json_object_put(next(self->fd, MS));
	ASSERT_EQ(0, ctl(e, "status"));
	for (i = 0; i < 8; i++)
		close(deaf[i]);
	ASSERT_EQ(0, ctl(e, "rule", "flush"));
	json_object_put(next(self->fd, MS));
}

TEST_F(monitor, as_lines)
{
	struct env *e = &self->e;
	char cmd[800], line[256] = "";
	FILE *f;

	snprintf(cmd, sizeof(cmd), "exec timeout 20 %s/dmmctl -s %s monitor 2>/dev/null",
		 e->bin, e->socket);
	f = popen(cmd, "r");
	ASSERT_NE(NULL, f);
	/* It may not listen yet. */
	while (!strstr(line, " rules ")) {
		ASSERT_EQ(0, ctl(e, "rule", "add", "dport", "80", "stack", "kernel"));
		ASSERT_EQ(0, ctl(e, "stack", "add", "a", "type=fake", "dev=lo"));
		ASSERT_EQ(0, ctl(e, "stack", "del", "a"));
		usleep(50 * 1000);
		if (fgets(line, sizeof(line), f))
			break;
	}
	EXPECT_EQ(':', line[2]);
	while (!strstr(line, "stack a gone") && fgets(line, sizeof(line), f))
		;
	EXPECT_NE(NULL, strstr(line, "stack a gone"));
	ASSERT_EQ(0, ctl(e, "shutdown"));
	pclose(f);
	waitpid(e->dmmd, NULL, 0);
	e->dmmd = 0;
}

TEST_HARNESS_MAIN
