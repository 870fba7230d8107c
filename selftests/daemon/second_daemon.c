// SPDX-License-Identifier: Apache-2.0
/*
 * A second dmmd on this machine: with places of its own it runs beside the first; where
 * it shares one it says who has it, and touches nothing.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"

FIXTURE(second)
{
	struct env e;		/* the first */
	struct env b;		/* the second's places, and what it says */
};

FIXTURE_SETUP(second)
{
	struct env *e = &self->e, *b = &self->b;

	ASSERT_EQ(0, env_enter(e));
	ASSERT_EQ(0, dmmd_start(e));
	*b = *e;
	b->dmmd = 0;
	snprintf(b->run, sizeof(b->run), "%s/run2", e->sb.dir);
	snprintf(b->socket, sizeof(b->socket), "%s/dmmd.sock", b->run);
	snprintf(b->bpf, sizeof(b->bpf), "%s/dmm2", e->sb.bpf);
	snprintf(b->log, sizeof(b->log), "%s/log2", e->sb.dir);
	/* something to lose */
	ASSERT_EQ(0, ctl(e, "rule", "add", "cgroup", e->sb.cgroup, "dport", "80",
			 "stack", "kernel"));
	ASSERT_EQ(0, cgroup_enter(e->sb.cgroup));
}

FIXTURE_TEARDOWN(second)
{
	if (self->b.dmmd) {
		EXPECT_EQ(0, ctl(&self->b, "shutdown"));
		waitpid(self->b.dmmd, NULL, 0);
	}
	env_leave(&self->e);
}

/* The first has all that it had. */
#define EXPECT_UNTOUCHED() do {						\
	long __hits = rule_hits(&self->e, 1);				\
									\
	EXPECT_LE(0, __hits);						\
	EXPECT_TRUE(try_connect("127.0.0.1", 80));			\
	EXPECT_EQ(__hits + 1, rule_hits(&self->e, 1));			\
	EXPECT_EQ(0, ctl(&self->e, "cgroup", "list"));			\
	EXPECT_NE(NULL, strstr(self->e.out, "attached"));		\
} while (0)

/* It ends with one line, which names @what and the first's pid. */
#define EXPECT_REFUSED(what) do {					\
	char *__log, __pid[24];						\
									\
	EXPECT_EQ(1, dmmd_start(&self->b));				\
	__log = slurp(self->b.log);					\
	ASSERT_NE(NULL, __log);						\
	snprintf(__pid, sizeof(__pid), "pid %d", self->e.dmmd);		\
	EXPECT_NE(NULL, strstr(__log, what)) TH_LOG("%s", __log);	\
	EXPECT_NE(NULL, strstr(__log, __pid)) TH_LOG("%s", __log);	\
	EXPECT_UNTOUCHED();						\
	free(__log);							\
} while (0)

TEST_F(second, same_bpf_dir)
{
	strcpy(self->b.bpf, self->e.bpf);
	EXPECT_REFUSED(self->e.bpf);
}

TEST_F(second, same_bpf_dir_by_another_path)
{
	char other[80];

	snprintf(other, sizeof(other), "%s/alias", self->e.sb.dir);
	ASSERT_EQ(0, mkdir(other, 0700));
	ASSERT_EQ(0, mount(self->e.sb.bpf, other, NULL, MS_BIND, NULL));
	snprintf(self->b.bpf, sizeof(self->b.bpf), "%s/dmm", other);
	EXPECT_REFUSED(self->b.bpf);
	umount2(other, MNT_DETACH);
}

TEST_F(second, same_runtime_dir)
{
	strcpy(self->b.run, self->e.run);
	strcpy(self->b.socket, self->e.run);
	strcat(self->b.socket, "/other.sock");
	EXPECT_REFUSED(self->e.run);
}

TEST_F(second, same_socket)
{
	strcpy(self->b.socket, self->e.socket);
	/* who asks there is answered by the first: that is no start of the second */
	self->b.dmmd = -1;
	EXPECT_REFUSED(self->e.socket);
}

TEST_F(second, places_of_its_own)
{
	struct env *b = &self->b;

	ASSERT_EQ(0, dmmd_start(b));
	EXPECT_UNTOUCHED();
	ASSERT_EQ(0, ctl(b, "rule", "add", "cgroup", b->sb.cgroup, "dport", "81",
			 "stack", "kernel"));
	EXPECT_UNTOUCHED();
	EXPECT_EQ(0, ctl(b, "shutdown"));
	waitpid(b->dmmd, NULL, 0);
	b->dmmd = 0;
	EXPECT_UNTOUCHED();
}

/* The lock dies with its process; the first's heir is whoever comes first. */
TEST_F(second, the_first_is_killed)
{
	strcpy(self->b.bpf, self->e.bpf);
	dmmd_end(&self->e, SIGKILL);
	EXPECT_EQ(0, dmmd_start(&self->b));
	EXPECT_EQ(0, ctl(&self->b, "shutdown"));
	waitpid(self->b.dmmd, NULL, 0);
	self->b.dmmd = 0;
	EXPECT_NE(0, access(self->e.bpf, F_OK));
}

TEST_HARNESS_MAIN
