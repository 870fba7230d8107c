// SPDX-License-Identifier: Apache-2.0
/*
 * What dmmctl is given and cannot do: one clear line on stderr, nothing on stdout,
 * exit 1 (2 when the words make no command), and nothing has changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"

#define NAME_300 \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

struct bad {
	int status;
	const char *says;
	const char *words[16];
};

FIXTURE(bad)
{
	struct env e;
	char *before[4];
};

/* All that could have changed. */
static void snapshot(struct env *e, char *shot[4])
{
	shot[0] = ctl(e, "-j", "stack", "list") ? NULL : strdup(e->out);
	shot[1] = ctl(e, "-j", "rule", "list") ? NULL : strdup(e->out);
	shot[2] = ctl(e, "-j", "cgroup", "list") ? NULL : strdup(e->out);
	shot[3] = slurp(e->state);
}

FIXTURE_SETUP(bad)
{
	ASSERT_EQ(0, env_enter(&self->e));
	ASSERT_EQ(0, dmmd_start(&self->e));
	ASSERT_EQ(0, ctl(&self->e, "stack", "add", "one", "type=fake", "dev=lo")) {
		TH_LOG("%s", self->e.err);
	}
	ASSERT_EQ(0, ctl(&self->e, "rule", "add", "cgroup", self->e.sb.cgroup, "dst",
			 "10.0.0.0/8", "stack", "one")) {
		TH_LOG("%s", self->e.err);
	}
	snapshot(&self->e, self->before);
	ASSERT_NE(NULL, self->before[3]);
}

FIXTURE_TEARDOWN(bad)
{
	char *after[4] = {};
	int i;

	if (self->before[3])
		snapshot(&self->e, after);
	for (i = 0; i < 4 && self->before[3]; i++) {
		EXPECT_NE(NULL, after[i]);
		if (after[i])
			EXPECT_STREQ(self->before[i], after[i]);
		free(self->before[i]);
		free(after[i]);
	}
	env_leave(&self->e);
}

#define CHECK(table) do {						\
	size_t __i;							\
									\
	for (__i = 0; __i < sizeof(table) / sizeof((table)[0]); __i++) { \
		const struct bad *__b = &(table)[__i];			\
									\
		EXPECT_EQ(__b->status, ctl_words(&self->e, __b->words))	\
			TH_LOG("case %zu", __i);			\
		EXPECT_TRUE(one_line(&self->e, __b->says))		\
			TH_LOG("expected \"%s\", got: %s", __b->says, self->e.err); \
		EXPECT_STREQ("", self->e.out);				\
	}								\
} while (0)

TEST_F(bad, stacks)
{
	static const struct bad table[] = {
		{ 1, "has 300 characters: expected 1..31",
		  { "stack", "add", NAME_300, "type=fake", "dev=lo" } },
		{ 1, "name is empty", { "stack", "add", "", "type=fake", "dev=lo" } },
		{ 1, "only letters, digits",
		  { "stack", "add", "a/b", "type=fake", "dev=lo" } },
		{ 1, "only letters, digits",
		  { "stack", "add", "two\nlines", "type=fake", "dev=lo" } },
		{ 1, "expected only letters, digits, _ and -",
		  { "stack", "add", "a.b", "type=fake", "dev=lo" } },
		{ 1, "must begin with",
		  { "--", "stack", "add", "-a", "type=fake", "dev=lo" } },
		{ 1, "the kernel's own stack has it",
		  { "stack", "add", "kernel", "type=fake", "dev=lo" } },
		{ 1, "stack one: exists already",
		  { "stack", "add", "one", "type=fake", "dev=lo" } },
		{ 1, "stack one is on it already",
		  { "stack", "add", "two", "type=fake", "dev=lo" } },
		{ 1, "type is missing", { "stack", "add", "two", "dev=lo" } },
		{ 1, "dev is missing", { "stack", "add", "two", "type=fake" } },
		{ 1, "there is no plug-in",
		  { "stack", "add", "two", "type=none", "dev=lo" } },
		{ 1, "stack type \"../../x\"",
		  { "stack", "add", "two", "type=../../x", "dev=lo" } },
		{ 1, "dev none0: no such device",
		  { "stack", "add", "two", "type=fake", "dev=none0" } },
		{ 1, "expected a device name of 1..15",
		  { "stack", "add", "two", "type=fake", "dev=" NAME_300 } },
		{ 1, "netns none:",
		  { "stack", "add", "two", "type=fake", "dev=lo", "netns=none" } },
		{ 1, "not a network namespace",
		  { "stack", "add", "two", "type=fake", "dev=lo", "netns=/dev/null" } },
		{ 1, "not a network namespace",
		  { "stack", "add", "two", "type=fake", "dev=lo",
		    "netns=/proc/self/ns/mnt" } },
		{ 1, "expected a name of /run/netns",
		  { "stack", "add", "two", "type=fake", "dev=lo", "netns=../x" } },
		{ 1, "expected route=own",
		  { "stack", "add", "two", "type=fake", "dev=lo", "route=other" } },
		{ 1, "watchdog \"1\": expected a number 2..3600",
		  { "stack", "add", "two", "type=fake", "dev=lo", "watchdog=1" } },
		{ 1, "watchdog \"x\": expected",
		  { "stack", "add", "two", "type=fake", "dev=lo", "watchdog=x" } },
		{ 1, "strict-filters=maybe: expected on or off",
		  { "stack", "add", "two", "type=fake", "dev=lo", "strict-filters=maybe" } },
		{ 1, "unknown \"colour\"; known: name type dev netns route strict-filters watchdog",
		  { "stack", "add", "two", "type=fake", "dev=lo", "colour=red" } },
		{ 2, "usage:", { "stack", "add", "two", "type=fake", "dev" } },
		{ 2, "usage:", { "stack", "add", "two", "dev=lo", "dev=lo" } },
		{ 2, "usage:", { "stack", "add" } },
		{ 1, "stack two: no such stack", { "stack", "del", "two" } },
		{ 1, "stack two: no such stack", { "stack", "restart", "two" } },
		{ 1, "stack two: no such stack", { "stack", "show", "two" } },
		{ 1, "stack kernel: no such stack", { "stack", "del", "kernel" } },
		{ 1, "rules name it: 1; delete them first", { "stack", "del", "one" } },
		{ 1, "stack two: no such stack", { "sock", "list", "stack", "two" } },
	};

	CHECK(table);
}

TEST_F(bad, stacks_that_do_not_start)
{
	static const struct bad table[] = {
		{ 1, "stack bad: the device has no queue to give",
		  { "stack", "add", "bad", "type=fake", "dev=eth0" } },
		{ 1, "stack dead: the worker exited with status 3",
		  { "stack", "add", "dead", "type=fake", "dev=eth0" } },
	};

	ASSERT_EQ(0, system("ip link add eth0 type veth peer name eth1"));
	CHECK(table);
}

TEST_F(bad, rules)
{
	static const struct bad table[] = {
		{ 1, "dport 70000: expected a port 1..65535",
		  { "rule", "add", "dport", "70000", "stack", "one" } },
		{ 1, "dport 0: expected", { "rule", "add", "dport", "0", "stack", "one" } },
		{ 2, "unknown option -1", { "rule", "add", "dport", "-1", "stack", "one" } },
		{ 1, "dport -1: expected",
		  { "--", "rule", "add", "dport", "-1", "stack", "one" } },
		{ 1, "dport 80-: expected", { "rule", "add", "dport", "80-", "stack", "one" } },
		{ 1, "dport 80-90x: expected",
		  { "rule", "add", "dport", "80-90x", "stack", "one" } },
		{ 1, "the range ends before it begins",
		  { "rule", "add", "dport", "90-80", "stack", "one" } },
		{ 1, "dport 18446744073709551696: expected",
		  { "rule", "add", "dport", "18446744073709551696", "stack", "one" } },
		{ 1, "dst 10.0.0.0/33: the length of an IPv4 prefix is 0..32",
		  { "rule", "add", "dst", "10.0.0.0/33", "stack", "one" } },
		{ 1, "length of an IPv4 prefix",
		  { "rule", "add", "dst", "10.0.0.0/", "stack", "one" } },
		{ 1, "the prefix is 10.0.0.0/8",
		  { "rule", "add", "dst", "10.1.0.0/8", "stack", "one" } },
		{ 1, "expected a prefix such as 10.0.0.0/8 or 2001:db8::/32",
		  { "rule", "add", "dst", "10.0.0.256", "stack", "one" } },
		{ 1, "expected a prefix such as",
		  { "rule", "add", "dst", "", "stack", "one" } },
		{ 1, "expected a prefix such as 10.0.0.0/8 or 2001:db8::/32",
		  { "rule", "add", "dst", NAME_300, "stack", "one" } },
		{ 1, "the length of an IPv6 prefix is 0..128",
		  { "rule", "add", "dst", "2001:db8::/129", "stack", "one" } },
		{ 1, "the prefix is 2001:db8::/32",
		  { "rule", "add", "src", "2001:db8::1/32", "stack", "one" } },
		{ 1, "expected a prefix such as",
		  { "rule", "add", "src", "2001:db8:::", "stack", "one" } },
		{ 1, "matched as IPv4; the prefix is 10.0.0.0/8",
		  { "rule", "add", "dst", "::ffff:10.0.0.0/104", "stack", "one" } },
		{ 1, "src and dst: one is IPv4, the other is IPv6",
		  { "rule", "add", "src", "::1", "dst", "127.0.0.1", "stack", "one" } },
		{ 1, "sport 0: expected a port 1..65535",
		  { "rule", "add", "sport", "0", "stack", "one" } },
		{ 1, "proto udp: expected tcp",
		  { "rule", "add", "proto", "udp", "stack", "one" } },
		{ 1, "dir both: expected connect or listen",
		  { "rule", "add", "dir", "both", "stack", "one" } },
		{ 1, "a listener has no dst",
		  { "rule", "add", "dir", "listen", "dst", "::/0", "stack", "one" } },
		{ 1, "a listener has no dport",
		  { "rule", "add", "dport", "80", "dir", "listen", "stack", "one" } },
		{ 1, "uid \"root\": expected a number 0..4294967294",
		  { "rule", "add", "uid", "root", "stack", "one" } },
		{ 1, "expected a number 0..4294967294",
		  { "rule", "add", "uid", "4294967295", "stack", "one" } },
		{ 1, "has 16 characters: expected 1..15",
		  { "rule", "add", "comm", "sixteen-bytes-it", "stack", "one" } },
		{ 1, "has 0 characters", { "rule", "add", "comm", "", "stack", "one" } },
		{ 1, "unknown \"colour\"; known: cgroup uid comm proto dir src dst sport dport",
		  { "rule", "add", "colour", "red", "stack", "one" } },
		{ 1, "fallback never: expected kernel or reject",
		  { "rule", "add", "dport", "80", "stack", "one", "fallback", "never" } },
		{ 1, "has nothing to fall back from",
		  { "rule", "add", "dport", "80", "stack", "kernel", "fallback",
		    "reject" } },
		{ 1, "rule 99: no such rule", { "rule", "move", "99", "before", "1" } },
		{ 1, "rule 99: no such rule", { "rule", "move", "1", "before", "99" } },
		{ 1, "cannot stand before itself", { "rule", "move", "1", "before", "1" } },
		{ 2, "usage:", { "rule", "move", "1", "after", "1" } },
		{ 2, "usage:", { "rule", "move", "1" } },
		{ 2, "usage:", { "rule", "flush", "all" } },
		{ 2, "usage:", { "rule", "explain" } },
		{ 1, "expected src and dst without a length",
		  { "rule", "explain", "dst", "10.0.0.0/8" } },
		{ 1, "expected sport and dport without a range",
		  { "rule", "explain", "dport", "80-81" } },
		{ 1, "unknown \"stack\"", { "rule", "explain", "stack", "one" } },
		{ 1, "stack two: no such stack",
		  { "rule", "add", "dport", "80", "stack", "two" } },
		{ 1, "no such stack", { "rule", "add", "dport", "80", "stack", NAME_300 } },
		{ 1, "needs something to match", { "rule", "add", "stack", "one" } },
		{ 1, "stack is missing", { "rule", "add", "dport", "80" } },
		{ 1, "rule 99: no such rule",
		  { "rule", "add", "before", "99", "dport", "80", "stack", "one" } },
		{ 1, "rule \"x\": expected a number",
		  { "rule", "add", "before", "x", "dport", "80", "stack", "one" } },
		{ 2, "usage:", { "rule", "add", "dport", "80", "dport", "81", "stack", "one" } },
		{ 2, "usage:", { "rule", "add", "dport", "80", "stack" } },
		{ 2, "usage:", { "rule", "add" } },
		{ 1, "rule 99: no such rule", { "rule", "del", "99" } },
		{ 1, "rule \"0\": expected a number", { "rule", "del", "0" } },
		{ 1, "rule \"1x\": expected a number", { "rule", "del", "1x" } },
		{ 1, "rule \"4294967296\": expected", { "rule", "del", "4294967296" } },
		{ 2, "usage:", { "rule", "del" } },
		{ 1, "not a cgroup2 directory",
		  { "rule", "add", "cgroup", "/tmp", "stack", "one" } },
		{ 1, "No such file or directory",
		  { "rule", "add", "cgroup", "no/such/group", "stack", "one" } },
		{ 1, "Not a directory",
		  { "rule", "add", "cgroup", "/etc/passwd", "stack", "one" } },
		{ 1, "expected a directory of",
		  { "rule", "add", "cgroup", "", "stack", "one" } },
		{ 1, "not a cgroup2 directory", { "cgroup", "attach", "/proc" } },
		{ 1, "not a cgroup2 directory", { "cgroup", "detach", "/proc" } },
	};

	CHECK(table);
}

TEST_F(bad, not_attached_by_name)
{
	EXPECT_EQ(1, ctl(&self->e, "cgroup", "detach", self->e.sb.cgroup));
	EXPECT_TRUE(one_line(&self->e, "not attached by name"));
}

TEST_F(bad, words)
{
	static const struct bad table[] = {
		{ 2, "what to do?", { NULL } },
		{ 2, "unknown object \"frob\"", { "frob" } },
		{ 2, "stack needs a verb", { "stack" } },
		{ 2, "unknown verb \"frob\" for stack", { "stack", "frob" } },
		{ 2, "usage:", { "status", "now" } },
		{ 2, "usage:", { "stack", "list", "all" } },
		{ 2, "usage:", { "sock", "list", "one" } },
		{ 2, "usage:", { "shutdown", "now" } },
		{ 2, "usage:", { "monitor", "it" } },
		{ 2, "usage:", { "apply" } },
		{ 2, "usage:", { "save", "a", "b" } },
		{ 2, "usage:", { "run", "stack", "one", "true" } },
		{ 2, "usage:", { "--", "run", "one", "true" } },
		{ 1, "stack two: no such stack", { "--", "run", "stack", "two", "true" } },
		{ 1, "none.yaml: No such file or directory", { "apply", "/none.yaml" } },
		{ 1, "Is a directory", { "check", "/" } },
		{ 1, "cannot write /none/x: No such file", { "save", "/none/x" } },
	};

	CHECK(table);
	EXPECT_EQ(2, ctl(&self->e, "--frob"));
	EXPECT_TRUE(one_line(&self->e, "unknown option --frob"));
	EXPECT_EQ(2, ctl(&self->e, "-s"));
	EXPECT_TRUE(one_line(&self->e, "-s needs a value"));
	EXPECT_EQ(0, ctl(&self->e, "--help"));
	EXPECT_NE(NULL, strstr(self->e.out, "dmmctl rule add"));
	EXPECT_EQ(0, ctl(&self->e, "--version"));
}

TEST_F(bad, too_many_rules)
{
	int i;

	for (i = 1; i < 256; i++)
		ASSERT_EQ(0, ctl(&self->e, "rule", "add", "dport", "80", "stack", "kernel")) {
			TH_LOG("%s", self->e.err);
		}
	EXPECT_EQ(1, ctl(&self->e, "rule", "add", "dport", "80", "stack", "kernel"));
	EXPECT_TRUE(one_line(&self->e, "there are 256 rules already"));
	/* This test did change something. */
	for (i = 0; i < 4; i++)
		free(self->before[i]);
	self->before[3] = NULL;
}

TEST_F(bad, without_the_module)
{
	if (!access("/dev/dmm", F_OK))
		SKIP(return, "the module is loaded");
	EXPECT_EQ(1, ctl(&self->e, "sock", "list"));
	EXPECT_TRUE(one_line(&self->e, "the module is not loaded"));
	EXPECT_EQ(0, ctl(&self->e, "status"));
	EXPECT_NE(NULL, strstr(self->e.out, "module    not loaded"));
}

/* Sockets that are not there, not ours, or not dmmd's. */
TEST_F(bad, control_sockets)
{
	struct env *e = &self->e;
	char good[sizeof(e->socket)];
	int status;
	pid_t pid;

	strcpy(good, e->socket);
	strcpy(e->socket, "/nonexistent/dmmd.sock");
	EXPECT_EQ(1, ctl(e, "status"));
	EXPECT_TRUE(one_line(e, "No such file or directory; is dmmd running?"));
	strcpy(e->socket, "/dev/null");
	EXPECT_EQ(1, ctl(e, "status"));
	EXPECT_TRUE(one_line(e, "cannot reach dmmd at /dev/null"));
	strcpy(e->socket, good);

	/* Somebody who may not even come near it. */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char cmd[800];

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(9);
		snprintf(cmd, sizeof(cmd), "%s/dmmctl", e->bin);
		if (access(cmd, X_OK))
			_exit(0);	/* cannot even run it here */
		if (ctl(e, "status") != 1)
			_exit(1);
		_exit(one_line(e, "it takes root or group dmm") ? 0 : 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* A second daemon, a state that cannot be read, options that do not exist. */
TEST_F(bad, daemon)
{
	struct env *e = &self->e;
	struct env other = *e;
	char cmd[1024], *log;
	int fd, i;

	snprintf(cmd, sizeof(cmd), "%s/dmmd --runtime-dir %s --bpf-dir %s 2>>%s", e->bin,
		 e->run, e->bpf, e->log);
	EXPECT_EQ(1, WEXITSTATUS(system(cmd)));
	log = slurp(e->log);
	EXPECT_NE(NULL, strstr(log, "another dmmd, pid"));
	free(log);
	snprintf(cmd, sizeof(cmd), "%s/dmmd --frob 2>/dev/null", e->bin);
	EXPECT_EQ(2, WEXITSTATUS(system(cmd)));

	snprintf(cmd, sizeof(cmd), "%s/other", e->sb.dir);
	strcpy(other.run, cmd);
	ASSERT_EQ(0, mkdir(other.run, 0755));
	snprintf(cmd, sizeof(cmd), "%s/state.json", other.run);
	fd = open(cmd, O_WRONLY | O_CREAT, 0600);
	ASSERT_LE(0, fd);
	EXPECT_EQ(3, write(fd, "{[,", 3));
	close(fd);
	snprintf(cmd, sizeof(cmd), "%s/dmmd --runtime-dir %s --bpf-dir %s/two 2>>%s", e->bin,
		 other.run, e->sb.bpf, e->log);
	EXPECT_EQ(1, WEXITSTATUS(system(cmd)));
	log = slurp(e->log);
	EXPECT_NE(NULL, strstr(log, "cannot be read as JSON: move it away"));
	free(log);
	for (i = 0; i < 4; i++)
		EXPECT_NE(NULL, self->before[i]);
}

TEST_HARNESS_MAIN
