// SPDX-License-Identifier: Apache-2.0
/*
 * What a stack has is shared: its memory goes back, and no container takes all of its
 * slots.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "adopt.h"

ADOPT_SUITE(memory)

#define BYTES	60000	/* the puppet's ring has 64 KiB */

/* Of the arena, KiB; the message rings and slots in use are part of it. */
static long arena_kib(struct puppet *p)
{
	struct stat st;

	return fstat(dmm_chan_fd(puppet_chan(p)), &st) ? -1 : st.st_blocks / 2;
}

static bool shrinks_below(struct puppet *p, long kib)
{
	int i;

	for (i = 0; i < 200 && arena_kib(p) >= kib; i++)
		usleep(50000);
	return arena_kib(p) < kib;
}

/* There and back through the puppet, and what came is what went. */
static bool echo(int fd, unsigned char seed)
{
	static unsigned char out[BYTES], in[BYTES];
	int i;

	for (i = 0; i < BYTES; i++)
		out[i] = seed + i * 7;
	memset(in, 0, sizeof(in));
	return send(fd, out, BYTES, 0) == BYTES &&
	       recv(fd, in, BYTES, MSG_WAITALL) == BYTES &&
	       !memcmp(in, out, BYTES);
}

TEST_F_TIMEOUT(memory, of_an_idle_connection, 60)
{
	long before, i;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	before = arena_kib(self->p);
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(echo(self->fd, i));
		EXPECT_LT(before + 100, arena_kib(self->p));
		/* both rings, but for what is just being looked at */
		EXPECT_TRUE(shrinks_below(self->p, before + 16)) {
			TH_LOG("%ld KiB, %ld before", arena_kib(self->p), before);
		}
	}
	/* and what was taken away is not missed */
	EXPECT_TRUE(echo(self->fd, 99));
}

/* Bytes that nobody has read, or acknowledged, stay. */
TEST_F_TIMEOUT(memory, of_a_connection_with_bytes, 60)
{
	static unsigned char out[BYTES], in[BYTES];
	int deaf = tcp_socket(0);

	memset(out, 'b', BYTES);
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(0, world_connect(deaf, PORT_DEAF));
	ASSERT_EQ(BYTES, send(self->fd, out, BYTES, 0));
	ASSERT_EQ(BYTES, send(deaf, out, BYTES, MSG_DONTWAIT));
	sleep(4);
	ASSERT_EQ(BYTES, recv(self->fd, in, BYTES, MSG_WAITALL));
	EXPECT_EQ(0, memcmp(in, out, BYTES));
	close(deaf);
}

TEST_F_TIMEOUT(memory, of_closed_connections, 60)
{
	long before = arena_kib(self->p);
	int fds[16], i;

	for (i = 0; i < 16; i++) {
		fds[i] = tcp_socket(0);
		ASSERT_EQ(0, world_connect(fds[i], PORT_ECHO));
		ASSERT_TRUE(echo(fds[i], i));
	}
	for (i = 0; i < 16; i++)
		close(fds[i]);
	EXPECT_TRUE(shrinks_below(self->p, before + 128)) {
		TH_LOG("%ld KiB, %ld before", arena_kib(self->p), before);
	}
}

/* ---- shares ------------------------------------------------------------- */

#define SLOTS	16

static bool enter(const char *cgroup, const char *sub)
{
	char path[400], name[300];
	FILE *f;

	snprintf(name, sizeof(name), "%s/%s", cgroup, sub);
	mkdir(name, 0755);
	snprintf(path, sizeof(path), "%s/cgroup.procs", name);
	f = fopen(path, "w");
	return f && fputs("0", f) >= 0 && !fclose(f);
}

/* In a container of its own: how many of @n connect() calls are adopted. */
static int adopted_in(struct world *w, const char *sub, int n)
{
	int status = 0, got = 0, i;
	pid_t pid = fork();

	if (!pid) {
		if (!enter(world_cgroup(w), sub))
			_exit(255);
		for (i = 0; i < n; i++) {
			int fd = tcp_socket(SOCK_NONBLOCK);

			world_connect(fd, PORT_ECHO);
			got += world_adopted(fd) == 1;
		}
		_exit(got);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F_TIMEOUT(memory, no_container_has_all_slots, 60)
{
	struct puppet_opts opts = {
		.name = "shared",
		.id = WORLD_STACK,
		.ifindex = world_ifindex(self->w),
		.nslots = SLOTS,
		.share = 50,
	};
	__u64 before = world_fallbacks(DMM_FALLBACK_QUOTA);
	int i, fd, n = 0;

	puppet_kill(self->p);
	self->p = puppet_start(&opts);
	ASSERT_NE(NULL, self->p);

	/* A deeper cgroup is the container's that it is in. */
	EXPECT_EQ(SLOTS / 2, adopted_in(self->w, "a", SLOTS));
	EXPECT_EQ(before + SLOTS / 2, world_fallbacks(DMM_FALLBACK_QUOTA));
	for (i = 0; i < 500 && adopted_in(self->w, "a", 1) != 1; i++)
		usleep(10000);
	/* While one has its half, the other can have its own. */
	for (i = 0; i < SLOTS; i++) {
		fd = tcp_socket(SOCK_NONBLOCK);
		world_connect(fd, PORT_ECHO);
		n += world_adopted(fd) == 1;
	}
	EXPECT_EQ(SLOTS / 2, n);
	for (i = 0; i < 500 && adopted_in(self->w, "a", 1) != 1; i++)
		usleep(10000);
	EXPECT_GT(500, i);
}

TEST_HARNESS_MAIN
