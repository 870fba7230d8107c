// SPDX-License-Identifier: Apache-2.0
/* Many connections at once, most of them idle, and what they leave behind. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "peer.h"
#include "rig.h"
#include "uclient.h"

#define PORT	8080
#define MANY	5000
#define BUSY	1000
#define ROUNDS	20000

FIXTURE(many) {
	struct rig rig;
	struct uclient *uc;
	char line[512];
};

FIXTURE_SETUP(many)
{
	struct rlimit files = { 16384, 16384 };
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	ASSERT_EQ(0, rig_create(rig));
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line),
				      NULL)) {
		TH_LOG("%s", self->line);
	}
	self->uc = malloc(sizeof(*self->uc));
	ASSERT_EQ(0, uc_open(self->uc, rig->sock, RIG_SADDR, rig->ifindex));
	ASSERT_LE(0, uc_listen(self->uc, AF_INET, NULL, PORT, 1024, 0));
	ASSERT_EQ(1, rig_stat_wait(rig, "listeners", 1));
}

FIXTURE_TEARDOWN(many)
{
	EXPECT_EQ(0, rig_stat(&self->rig, "bad_ops"));
	EXPECT_EQ(0, rig_stat(&self->rig, "flow_errors"));
	EXPECT_EQ(0, rig_stat(&self->rig, "no_mbuf"));
	uc_close(self->uc);
	free(self->uc);
	rig_destroy(&self->rig);
}

/* Memory that the process has of its own, KiB. */
static long memory_kib(pid_t pid)
{
	char path[64], line[128];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

/* Five thousand, of which four idle, do not slow the others down. */
TEST_F_TIMEOUT(many, at_once, 180)
{
	static int fds[MANY], slots[MANY];
	struct uclient *uc = self->uc;
	long before, grown, ticks;
	uint64_t id;
	double t0;
	int i, j;

	before = memory_kib(self->rig.worker);
	for (i = 0; i < MANY; i++) {
		fds[i] = rig_dial(&self->rig, RIG_SADDR, PORT);
		ASSERT_LE(0, fds[i]);
		slots[i] = uc_accept(uc, -1, 10000);
		ASSERT_LE(0, slots[i]);
	}
	EXPECT_EQ(MANY, rig_stat_wait(&self->rig, "conns", MANY));
	grown = memory_kib(self->rig.worker) - before;
	TH_LOG("%ld bytes a connection", grown * 1024 / MANY);
	EXPECT_GT(MANY * 2, grown);

	/* nobody says anything: hardly a CPU */
	ticks = rig_cpu_ticks(self->rig.worker);
	sleep(3);
	ticks = rig_cpu_ticks(self->rig.worker) - ticks;
	TH_LOG("idle: %.1f %% of a CPU", ticks * 100.0 / 3 /
	       sysconf(_SC_CLK_TCK));
	EXPECT_GE(3 * sysconf(_SC_CLK_TCK) * 10 / 100, ticks);

	/* a thousand do, all at once, ten times */
	t0 = now();
	for (j = 0; j < 10; j++) {
		for (i = 0; i < BUSY; i++) {
			id = i;
			ASSERT_EQ(8, send(fds[i], &id, 8, 0));
		}
		for (i = 0; i < BUSY; i++) {
			ASSERT_EQ(8, uc_recv(uc, slots[i], &id, 8));
			ASSERT_EQ((uint64_t)i, id);
			ASSERT_EQ(0, uc_send(uc, slots[i], &id, 8));
		}
		for (i = 0; i < BUSY; i++) {
			ASSERT_EQ(8, recv(fds[i], &id, 8, MSG_WAITALL));
			ASSERT_EQ((uint64_t)i, id);
		}
	}
	TH_LOG("%.0f round trips a second", 10 * BUSY / (now() - t0));
	/* the peer first, so that we have no TIME_WAIT */
	for (i = 0; i < MANY; i++)
		close(fds[i]);
	for (i = 0; i < MANY; i++) {
		while (!uc->conns[slots[i]].fin) {
			ASSERT_EQ(0, uc_wait(uc, 10000));
		}
		uc_op(uc, slots[i], DMM_OP_CLOSE);
	}
	for (i = 0; i < MANY; i++) {
		ASSERT_EQ(DMM_EV_GONE, uc_finish(uc, slots[i], 10000));
	}
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "stack_conns", 0));
}

/* A closed connection leaves nothing. */
TEST_F_TIMEOUT(many, one_after_another, 180)
{
	struct uclient *uc = self->uc;
	long first = 0, last;
	int i, fd, slot;
	double t0 = now();

	for (i = 0; i < ROUNDS; i++) {
		fd = rig_dial(&self->rig, RIG_SADDR, PORT);
		ASSERT_LE(0, fd);
		slot = uc_accept(uc, -1, 10000);
		ASSERT_LE(0, slot);
		close(fd);
		while (!uc->conns[slot].fin) {
			ASSERT_EQ(0, uc_wait(uc, 10000));
		}
		uc_op(uc, slot, DMM_OP_CLOSE);
		ASSERT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 10000));
		/* each slot was used once, and what is kept for it is there */
		if (i == UC_SLOTS)
			first = memory_kib(self->rig.worker);
	}
	last = memory_kib(self->rig.worker);
	TH_LOG("%.0f connections a second, %ld KiB more", ROUNDS / (now() - t0),
	       last - first);
	EXPECT_GT(256, last - first);
	EXPECT_EQ(0, rig_stat(&self->rig, "stack_conns"));
}

TEST_HARNESS_MAIN
