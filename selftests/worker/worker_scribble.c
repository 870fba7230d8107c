// SPDX-License-Identifier: Apache-2.0
/*
 * A client whose every word of its arena is scribbled over, header, rings and bytes,
 * while another client moves data and loses none. DMM_SCRIBBLE_SECS=60 for a minute.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "peer.h"
#include "raw.h"
#include "rig.h"
#include "uclient.h"

#define SLOTS	16	/* whose bytes are scribbled over, too */

static int scribble_secs(void)
{
	const char *text = getenv("DMM_SCRIBBLE_SECS");

	return text ? atoi(text) : 10;
}

/* The hostile one: when the worker throws it out, it comes again. */
static void scribble(const char *path, time_t end)
{
	unsigned int seed = getpid(), i;
	uint64_t one = 1;
	struct raw raw;
	uint32_t *base;
	size_t len, at;
	char c;

	while (time(NULL) < end) {
		if (raw_open(&raw, path))
			_exit(1);
		base = (uint32_t *)raw.hdr;
		/* all but the bytes of slots that are never used: they are too many */
		len = dmm_arena_tx_off(raw.hdr, SLOTS);
		for (i = 0; time(NULL) < end && i < 2000; i++) {
			/* the indices more often than their share of the words */
			at = rand_r(&seed) % (i % 2 ? len / 4 : 1024 + 64 * 64);
			base[at] = i % 3 ? (uint32_t)rand_r(&seed) % 100000 :
					   (uint32_t)rand_r(&seed) << 1;
			if (i % 16 == 0 && write(raw.bell, &one, sizeof(one)) < 0)
				break;
			if (i % 64 == 0 && recv(raw.sock, &c, 1, MSG_DONTWAIT) == 0)
				break;
		}
		raw_close(&raw);
	}
	_exit(0);
}

FIXTURE(scribble) {
	struct rig rig;
	struct uclient *good;
	char line[512];
};

FIXTURE_SETUP(scribble)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_create(rig));
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line), NULL)) {
		TH_LOG("%s", self->line);
	}
	self->good = malloc(sizeof(*self->good));
	ASSERT_EQ(0, uc_open(self->good, rig->sock, RIG_SADDR, rig->ifindex));
}

FIXTURE_TEARDOWN(scribble)
{
	uc_close(self->good);
	free(self->good);
	rig_destroy(&self->rig);
}

/* Echo after echo comes back as it was; nobody is thrown out but the other. */
TEST_F_TIMEOUT(scribble, another_loses_nothing, 600)
{
	static char out[20000], in[20000];
	time_t end = time(NULL) + scribble_secs();
	long rounds = 0;
	size_t i;
	int slot, status;
	pid_t pid;

	slot = uc_connect(self->good, RIG_DADDR, PEER_ECHO);
	ASSERT_LE(0, slot);
	pid = fork();
	if (!pid)
		scribble(self->rig.sock, end);
	while (time(NULL) < end) {
		for (i = 0; i < sizeof(out); i++)
			out[i] = rounds * 7 + i * 3 + (i >> 8);
		ASSERT_EQ(0, uc_send(self->good, slot, out, sizeof(out)));
		ASSERT_EQ((int)sizeof(in),
			  uc_recv(self->good, slot, in, sizeof(in)));
		ASSERT_EQ(0, memcmp(in, out, sizeof(in)));
		rounds++;
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, waitpid(self->rig.worker, NULL, WNOHANG));
	TH_LOG("%ld rounds, %ld times thrown out", rounds,
	       rig_stat(&self->rig, "bad_clients"));
	EXPECT_LT(0, rig_stat(&self->rig, "bad_clients"));
}

TEST_HARNESS_MAIN
