// SPDX-License-Identifier: Apache-2.0
/* How a worker starts, stops, and says why it does not. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/if_link.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kselftest_harness.h"
#include "rig.h"

FIXTURE(cli) {
	struct rig rig;
	char line[1024];
};

FIXTURE_SETUP(cli)
{
	ASSERT_EQ(0, rig_create(&self->rig));
}

FIXTURE_TEARDOWN(cli)
{
	rig_destroy(&self->rig);
}

#define START(...)							\
	rig_worker_start(&self->rig, self->line, sizeof(self->line),	\
			 (const char *const []){ __VA_ARGS__, NULL })

/* One line that begins with "error: " and has @word in it. */
static bool says(const char *line, const char *word)
{
	const char *nl = strchr(line, '\n');

	return !strncmp(line, "error: ", 7) && nl && !nl[1] &&
	       strstr(line, word);
}

static bool xdp_is_on(int ifindex)
{
	__u32 id = 0;

	return !bpf_xdp_query_id(ifindex, 0, &id) && id;
}

TEST_F(cli, start_and_stop)
{
	char pins[128];
	int status;

	snprintf(pins, sizeof(pins), "/sys/fs/bpf/dmm/stack/%s/flows",
		 self->rig.name);
	ASSERT_EQ(0, START(NULL)) {
		TH_LOG("%s", self->line);
	}
	EXPECT_TRUE(xdp_is_on(self->rig.ifindex));
	EXPECT_EQ(0, access(pins, F_OK));
	EXPECT_EQ(0, rig_stat(&self->rig, "conns"));
	status = rig_worker_stop(&self->rig, SIGTERM);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_FALSE(xdp_is_on(self->rig.ifindex));
	EXPECT_NE(0, access(pins, F_OK));
	EXPECT_NE(0, access(self->rig.sock, F_OK));
}

TEST_F(cli, bad_device)
{
	EXPECT_EQ(1, START("--dev", "absent0"));
	EXPECT_TRUE(says(self->line, "absent0")) TH_LOG("%s", self->line);
}

TEST_F(cli, bad_netns)
{
	EXPECT_EQ(1, START("--netns", "/nowhere"));
	EXPECT_TRUE(says(self->line, "/nowhere")) TH_LOG("%s", self->line);
	EXPECT_EQ(1, START("--netns", "/dev/null"));
	EXPECT_TRUE(says(self->line, "/dev/null")) TH_LOG("%s", self->line);
}

TEST_F(cli, bad_type)
{
	EXPECT_EQ(1, START("--type", "nosuch"));
	EXPECT_TRUE(says(self->line, "nosuch")) TH_LOG("%s", self->line);
	EXPECT_FALSE(xdp_is_on(self->rig.ifindex));
}

TEST_F(cli, bad_plugin)
{
	char dir[64], cmd[256];

	snprintf(dir, sizeof(dir), "/tmp/dmm-test-%d.d", getpid());
	snprintf(cmd, sizeof(cmd),
		 "mkdir -p %s && echo 'struct { unsigned a[64]; } dmm_stack = { { 99, 8 } };' |"
		 "cc -shared -fPIC -x c -o %s/dmm-stack-old.so -", dir, dir);
	ASSERT_EQ(0, rig_run(self->rig.app_fd, "%s", cmd));
	EXPECT_EQ(1, START("--plugin-dir", dir, "--type", "old"));
	EXPECT_TRUE(says(self->line, "ABI 99")) TH_LOG("%s", self->line);
	rig_run(self->rig.app_fd, "rm -r %s", dir);
}

TEST_F(cli, no_module)
{
	if (!access("/dev/dmm", F_OK))
		SKIP(return, "the module is loaded");
	EXPECT_EQ(0, rig_run(self->rig.app_fd,
			     "%s --name %s --id 1 --type lwip --dev " RIG_DEV
			     " 2>&1 >/dev/null | grep -q 'module dmm is not loaded'",
			     self->rig.bin, self->rig.name));
	EXPECT_FALSE(xdp_is_on(self->rig.ifindex));
}

TEST_F(cli, same_name_twice)
{
	pid_t first;

	ASSERT_EQ(0, START(NULL));
	first = self->rig.worker;
	EXPECT_EQ(1, START(NULL));
	EXPECT_TRUE(says(self->line, "runs already")) TH_LOG("%s", self->line);
	EXPECT_TRUE(xdp_is_on(self->rig.ifindex));
	self->rig.worker = first;
}

TEST_F(cli, device_taken_by_other_stack)
{
	char other[64];
	pid_t first;

	ASSERT_EQ(0, START(NULL));
	first = self->rig.worker;
	snprintf(other, sizeof(other), "%s-b", self->rig.name);
	EXPECT_EQ(1, START("--name", other));
	EXPECT_TRUE(says(self->line, "served by stack")) TH_LOG("%s", self->line);
	EXPECT_TRUE(xdp_is_on(self->rig.ifindex));
	self->rig.worker = first;
}

/* Somebody else's XDP program is left alone. */
TEST_F(cli, foreign_xdp)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0,
		  .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	__u32 before = 0, after = 0;
	int fd;

	fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody", "GPL", insns, 2, NULL);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, bpf_xdp_attach(self->rig.ifindex, fd, 0, NULL));
	ASSERT_EQ(0, bpf_xdp_query_id(self->rig.ifindex, 0, &before));
	EXPECT_EQ(1, START(NULL));
	EXPECT_TRUE(says(self->line, "somebody")) TH_LOG("%s", self->line);
	ASSERT_EQ(0, bpf_xdp_query_id(self->rig.ifindex, 0, &after));
	EXPECT_EQ(before, after);
}

TEST_F(cli, client_socket_is_a_file)
{
	ASSERT_EQ(0, rig_run(self->rig.app_fd, "echo precious >%s",
			     self->rig.sock));
	EXPECT_EQ(1, START(NULL));
	EXPECT_TRUE(says(self->line, self->rig.sock)) TH_LOG("%s", self->line);
	EXPECT_EQ(0, rig_run(self->rig.app_fd, "grep -q precious %s",
			     self->rig.sock));
}

TEST_F(cli, client_socket_mode)
{
	struct stat st;

	ASSERT_EQ(0, START(NULL));
	ASSERT_EQ(0, stat(self->rig.sock, &st));
	EXPECT_EQ(0660U, st.st_mode & 0777);
}

/* The device goes away: so does the worker, with an error. */
TEST_F(cli, device_removed)
{
	int status;

	ASSERT_EQ(0, START(NULL));
	ASSERT_EQ(0, rig_run(self->rig.app_fd, "ip link del " RIG_DEV));
	ASSERT_EQ(self->rig.worker, waitpid(self->rig.worker, &status, 0));
	self->rig.worker = 0;
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(1, WEXITSTATUS(status));
}

/* Each is one line on stderr that says what was expected, and exit status 2. */
TEST_F(cli, usage)
{
	static const char *const bad[] = {
		"",
		"--name x --id 1 --type lwip",
		"--name x --id 0 --type lwip --dev d",
		"--name x --id 1024 --type lwip --dev d",
		"--name x --id 1x --type lwip --dev d",
		"--name x/y --id 1 --type lwip --dev d",
		"--name a.b --id 1 --type lwip --dev d",
		"--name .. --id 1 --type lwip --dev d",
		"--name $(printf %0300d) --id 1 --type lwip --dev d",
		"--name x --id 1 --type ../lwip --dev d",
		"--name x --id 1 --type lwip --dev d,xdp_prog=/x",
		"--name x --id 1 --type lwip --dev toolongdevicename",
		"--name x --id 1 --type lwip --dev d --route mine",
		"--name x --id 1 --type lwip --dev d --ready-fd -1",
		"--name x --id 1 --type lwip --dev d --no-module",
		"--name x --id 1 --type lwip --dev d extra",
		"--nonsense",
	};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		EXPECT_EQ(0, rig_run(self->rig.app_fd,
				     "e=$(%s %s 2>&1); test $? = 2 && test $(echo \"$e\" | wc -l) = 1",
				     self->rig.bin, bad[i])) {
			TH_LOG("case %zu", i);
		}
	EXPECT_EQ(0, rig_run(self->rig.app_fd, "%s --help | grep -q -- --dev",
			     self->rig.bin));
}

TEST_HARNESS_MAIN
