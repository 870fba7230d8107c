// SPDX-License-Identifier: Apache-2.0
/*
 * dmmctl run: the program is in a cgroup of its own under a rule of its own, its
 * exit status comes back, and nothing stays behind.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"

FIXTURE(run)
{
	struct env e;
};

FIXTURE_SETUP(run)
{
	ASSERT_EQ(0, env_enter(&self->e));
	ASSERT_EQ(0, dmmd_start(&self->e));
	ASSERT_EQ(0, ctl(&self->e, "stack", "add", "a", "type=fake", "dev=lo")) {
		TH_LOG("%s", self->e.err);
	}
	ASSERT_EQ(0, cgroup_enter(self->e.sb.cgroup));
}

/* No rule, no cgroup. */
static bool clean(struct env *e)
{
	struct dirent *d;
	bool found = false;
	DIR *dir;

	if (ctl(e, "-j", "rule", "list") || strcmp(e->out, "[\n]\n"))
		return false;
	if (ctl(e, "-j", "cgroup", "list") || strcmp(e->out, "[\n]\n"))
		return false;
	dir = opendir(e->sb.cgroup);
	while ((d = readdir(dir)))
		found |= d->d_type == DT_DIR && *d->d_name != '.';
	closedir(dir);
	return !found;
}

FIXTURE_TEARDOWN(run)
{
	EXPECT_TRUE(clean(&self->e));
	cgroup_enter(self->e.sb.old_cgroup);
	env_leave(&self->e);
}

#define RUN(...) ctl(&self->e, "run", "stack", "a", "--", __VA_ARGS__)

TEST_F(run, exit_status)
{
	struct env *e = &self->e;

	EXPECT_EQ(0, RUN("true"));
	EXPECT_EQ(1, RUN("false"));
	EXPECT_EQ(2, RUN("sh", "-c", "exit 2"));
	EXPECT_EQ(42, RUN("sh", "-c", "exit 42"));
	EXPECT_EQ(128 + SIGKILL, RUN("sh", "-c", "kill -9 $$"));
	EXPECT_EQ(127, RUN("/no/such/program"));
	EXPECT_TRUE(one_line(e, "/no/such/program: No such file or directory"));
	EXPECT_EQ(126, RUN("/etc/passwd"));
	EXPECT_TRUE(one_line(e, "Permission denied"));
}

TEST_F(run, output_and_words)
{
	struct env *e = &self->e;

	EXPECT_EQ(0, RUN("echo", "-n", "--", "a  b", "-s"));
	EXPECT_STREQ("-- a  b -s", e->out);
	EXPECT_STREQ("", e->err);
}

TEST_F(run, a_rule_of_its_own_before_all)
{
	struct env *e = &self->e;
	char cmd[1400];

	ASSERT_EQ(0, ctl(e, "rule", "add", "dport", "1-65535", "stack", "kernel"));
	snprintf(cmd, sizeof(cmd),
		 "exec 2>/dev/null; (exec 3<>/dev/tcp/127.0.0.1/9); tail -n 1 /proc/self/cgroup; "
		 "%s/dmmctl -s %s rule list; %s/dmmctl -s %s stats",
		 e->bin, e->socket, e->bin, e->socket);
	EXPECT_EQ(0, RUN("bash", "-c", cmd));
	EXPECT_NE(NULL, strstr(e->out, strrchr(e->sb.cgroup, '/')));
	EXPECT_NE(NULL, strstr(e->out, "/dmm-run-"));
	/* The row of its rule: hits; of the other: none. */
	EXPECT_NE(NULL, strstr(e->out, " 2 cgroup ")) TH_LOG("%s", e->out);
	EXPECT_LT(strstr(e->out, " 2 cgroup "), strstr(e->out, " 1 dport"));
	EXPECT_NE(NULL, strstr(e->out, "stack-down=1")) TH_LOG("%s", e->out);
	EXPECT_EQ(0, rule_hits(e, 1));
	ASSERT_EQ(0, ctl(e, "rule", "flush"));
}

/* The socket options of the shim are answered there. */
TEST_F(run, the_shim_is_answered)
{
	static const char ask[] =
		"import ctypes, socket, struct\n"
		"s = socket.socket()\n"
		"s.setsockopt(0x444d, 1, 1)\n"
		"to = struct.pack('=H6B8x', socket.AF_INET, 0, 9, 127, 0, 0, 1)\n"
		"print(ctypes.CDLL(None).connect(s.fileno(), to, 16))\n"
		"print(s.getsockopt(0x444d, 2))\n";

	/* the shim itself would answer first */
	EXPECT_EQ(0, RUN("env", "-u", "LD_PRELOAD", "python3", "-c", ask)) TH_LOG("%s", self->e.err);
	EXPECT_STREQ("78\n1\n", self->e.out);
}

TEST_F(run, what_still_runs_is_moved)
{
	struct env *e = &self->e;
	char now[512], path[64];
	FILE *f;
	int pid;

	EXPECT_EQ(0, RUN("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"));
	pid = atoi(e->out);
	ASSERT_LT(1, pid);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	f = fopen(path, "r");
	ASSERT_NE(NULL, f);
	while (fgets(now, sizeof(now), f) && strncmp(now, "0::", 3))
		;
	fclose(f);
	EXPECT_EQ(NULL, strstr(now, "dmm-run-")) TH_LOG("%s", now);
	EXPECT_NE(NULL, strstr(now, strrchr(e->sb.cgroup, '/')));
	kill(pid, SIGKILL);
	/* It is no child of ours. */
	EXPECT_TRUE(wait_for(5000, kill(pid, 0) < 0));
}

TEST_F(run, signals_are_passed_on)
{
	struct env *e = &self->e;
	char path[600], ready[128];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/dmmctl", e->bin);
	snprintf(ready, sizeof(ready), "trap 'exit 33' TERM; touch %s/ready; "
		 "while :; do sleep 0.05; done", e->sb.dir);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		execl(path, path, "-s", e->socket, "run", "stack", "a", "--", "sh", "-c",
		      ready, NULL);
		_exit(99);
	}
	snprintf(path, sizeof(path), "%s/ready", e->sb.dir);
	EXPECT_TRUE(wait_for(10000, !access(path, F_OK)));
	kill(pid, SIGTERM);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(33, WEXITSTATUS(status));
}

/* The shim is loaded only if it is there and the module is not. */
TEST_F(run, preload)
{
	struct env *e = &self->e;
	char cmd[1400], bin[512];
	bool module = !access("/dev/dmm", F_OK);

	snprintf(cmd, sizeof(cmd), "mkdir -p %s/bin %s/lib/dmm && cp %s/dmmctl %s/bin/",
		 e->sb.dir, e->sb.dir, e->bin, e->sb.dir);
	ASSERT_EQ(0, system(cmd));
	strcpy(bin, e->bin);
	snprintf(e->bin, sizeof(e->bin), "%s/bin", e->sb.dir);
	EXPECT_EQ(0, RUN("sh", "-c", "echo \"<$LD_PRELOAD>\""));
	EXPECT_STREQ("<>\n", e->out);

	snprintf(cmd, sizeof(cmd), "echo 'void nothing(void) {}' | "
		 "gcc -shared -fPIC -x c - -o %s/lib/dmm/libdmm-shim.so", e->sb.dir);
	ASSERT_EQ(0, system(cmd));
	EXPECT_EQ(0, RUN("sh", "-c", "echo \"<$LD_PRELOAD> <$DMM_RUNTIME_DIR>\""));
	if (module)
		snprintf(cmd, sizeof(cmd), "<> <>\n");
	else
		snprintf(cmd, sizeof(cmd), "<%s/lib/dmm/libdmm-shim.so> <%s>\n", e->sb.dir,
			 e->run);
	EXPECT_STREQ(cmd, e->out);
	EXPECT_STREQ("", e->err);
	strcpy(e->bin, bin);
}

TEST_F(run, a_stack_that_is_not_up)
{
	struct env *e = &self->e;

	ASSERT_EQ(0, system("ip link add v0 type veth peer name v1"));
	ASSERT_EQ(0, ctl(e, "stack", "add", "b", "type=fake", "dev=v0"));
	ASSERT_EQ(0, system("ip link del v0"));
	kill(stack_number(e, "b", "pid"), SIGKILL);
	EXPECT_TRUE(wait_for(5000, !strcmp(stack_field(e, "b", "state"), "down")));
	EXPECT_EQ(0, ctl(e, "run", "stack", "b", "--", "true"));
	EXPECT_TRUE(one_line(e, "stack b is down: the program gets the kernel's stack"));
}

TEST_HARNESS_MAIN
