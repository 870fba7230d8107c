// SPDX-License-Identifier: Apache-2.0
/*
 * Clients that break the channel's rules. Each may lose its own connections; the
 * worker and its other clients go on.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "peer.h"
#include "rig.h"
#include "uclient.h"

/* A client without libdmm, that can write what it likes. */
struct raw {
	int sock;
	int bell;
	struct dmm_arena_hdr *hdr;
	struct dmm_op *ops;
	struct dmm_slot *slots;
	uint32_t prod;
};

FIXTURE(hostile) {
	struct rig rig;
	struct raw raw;
	struct uclient *good;
	char line[512];
};

static int raw_open(struct raw *raw, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct dmm_client_hello hello;
	char ctl[CMSG_SPACE(3 * sizeof(int))];
	struct iovec iov = { &hello, sizeof(hello) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ctl,
		.msg_controllen = sizeof(ctl),
	};
	int fds[3];
	char *base;

	strcpy(sun.sun_path, path);
	raw->sock = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	if (connect(raw->sock, (struct sockaddr *)&sun, sizeof(sun)) ||
	    recvmsg(raw->sock, &msg, 0) != sizeof(hello))
		return -errno;
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fds));
	base = mmap(NULL, lseek(fds[0], 0, SEEK_END), PROT_READ | PROT_WRITE,
		    MAP_SHARED, fds[0], 0);
	if (base == MAP_FAILED)
		return -errno;
	/* the arena cannot be cut off under the worker */
	if (!ftruncate(fds[0], 4096))
		return -EPERM;
	raw->bell = fds[1];
	raw->hdr = (struct dmm_arena_hdr *)base;
	raw->ops = (struct dmm_op *)(base + DMM_ARENA_OPS_OFF);
	raw->slots = (struct dmm_slot *)(base + dmm_arena_slots_off(raw->hdr));
	raw->prod = 0;
	return 0;
}

static void raw_ring(struct raw *raw)
{
	uint64_t one = 1;

	if (write(raw->bell, &one, sizeof(one)) < 0)
		abort();
}

static void raw_op(struct raw *raw, const struct dmm_op *op)
{
	raw->ops[raw->prod & (raw->hdr->nops - 1)] = *op;
	__atomic_store_n(&raw->hdr->op_prod, ++raw->prod, __ATOMIC_RELEASE);
	raw_ring(raw);
}

/* Wait until the worker has taken all ops; fails if it hung up. */
static int raw_settle(struct raw *raw)
{
	int i;

	for (i = 0; i < 5000; i++) {
		if (__atomic_load_n(&raw->hdr->op_cons, __ATOMIC_ACQUIRE) ==
		    raw->prod)
			return 0;
		usleep(1000);
	}
	return -ETIMEDOUT;
}

static bool raw_hung_up(struct raw *raw)
{
	struct pollfd pfd = { .fd = raw->sock, .events = POLLIN };

	return poll(&pfd, 1, 5000) == 1 && pfd.revents & POLLHUP;
}

static struct dmm_op op_connect(const struct rig *rig, uint32_t slot,
				uint16_t port)
{
	return (struct dmm_op) {
		.op = DMM_OP_CONNECT,
		.slot = slot,
		.gen = 1,
		.connect = {
			.family = AF_INET,
			.sport = __builtin_bswap16(30000 + slot),
			.dport = __builtin_bswap16(port),
			.ifindex = rig->ifindex,
			.saddr = { rig_addr(RIG_SADDR) },
			.daddr = { rig_addr(RIG_DADDR) },
		},
	};
}

FIXTURE_SETUP(hostile)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_create(rig));
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line),
				      NULL)) {
		TH_LOG("%s", self->line);
	}
	self->good = malloc(sizeof(*self->good));
	ASSERT_EQ(0, uc_open(self->good, rig->sock, rig_addr(RIG_SADDR),
			     rig->ifindex));
	ASSERT_EQ(0, raw_open(&self->raw, rig->sock));
}

/* Whatever was done, the worker lives and the good client is served. */
FIXTURE_TEARDOWN(hostile)
{
	char buf[4];
	int slot;

	EXPECT_EQ(0, waitpid(self->rig.worker, NULL, WNOHANG));
	slot = uc_connect(self->good, rig_addr(RIG_DADDR), PEER_ECHO);
	EXPECT_LE(0, slot);
	if (slot >= 0) {
		EXPECT_EQ(0, uc_send(self->good, slot, "ping", 4));
		EXPECT_EQ(4, uc_recv(self->good, slot, buf, 4));
	}
	uc_close(self->good);
	free(self->good);
	rig_destroy(&self->rig);
}

TEST_F(hostile, wild_op_index)
{
	self->raw.hdr->op_prod = 0x80000000;
	raw_ring(&self->raw);
	EXPECT_TRUE(raw_hung_up(&self->raw));
	EXPECT_EQ(1, rig_stat(&self->rig, "bad_clients"));
}

TEST_F(hostile, op_index_goes_back)
{
	struct dmm_op op = { .op = DMM_OP_NONE };

	raw_op(&self->raw, &op);
	ASSERT_EQ(0, raw_settle(&self->raw));
	self->raw.hdr->op_prod = 0;
	raw_ring(&self->raw);
	EXPECT_TRUE(raw_hung_up(&self->raw));
}

TEST_F(hostile, bad_ops)
{
	struct dmm_op good = op_connect(&self->rig, 1, PEER_ECHO), op;
	struct raw *raw = &self->raw;
	int n = 0;

#define BAD(change) do { op = good; change; raw_op(raw, &op); n++; } while (0)
	BAD(op.slot = raw->hdr->nslots);
	BAD(op.slot = ~0U);
	BAD(op.gen = 0);
	BAD(op.flags = 1);
	BAD(op.connect.family = 10);
	BAD(op.connect.family = 0xffff);
	BAD(op.connect.sport = 0);
	BAD(op.connect.dport = 0);
	BAD(op.connect.saddr[0] = 0);
	BAD(op.connect.daddr[0] = 0);
	BAD(op.connect.ifindex++);
#undef BAD
	ASSERT_EQ(0, raw_settle(raw));
	EXPECT_EQ(n, rig_stat(&self->rig, "bad_ops"));
	EXPECT_EQ(0, rig_stat(&self->rig, "conns_total"));

	/* of a connection that is not there */
	for (op.op = DMM_OP_OPTIONS; op.op < __DMM_OP_MAX; op.op++) {
		op.slot = 2;
		op.gen = 7;
		raw_op(raw, &op);
	}
	ASSERT_EQ(0, raw_settle(raw));
	EXPECT_EQ(__DMM_OP_MAX - DMM_OP_OPTIONS,
		  rig_stat(&self->rig, "stale_ops"));

	/* of one that is, unknown, and opened twice */
	raw_op(raw, &good);
	raw_op(raw, &good);
	op = good;
	op.op = 0xdead;
	raw_op(raw, &op);
	ASSERT_EQ(0, raw_settle(raw));
	EXPECT_EQ(n + 2, rig_stat(&self->rig, "bad_ops"));
	EXPECT_EQ(1, rig_stat(&self->rig, "conns_total"));
}

static bool ended(struct raw *raw, const struct rig *rig)
{
	int i;

	for (i = 0; i < 5000; i++) {
		if (!rig_stat(rig, "stack_conns"))
			return true;
		usleep(1000);
	}
	return false;
}

/* The transmit index is wild: the connection is reset, nothing else. */
TEST_F(hostile, wild_tx_index)
{
	struct dmm_op op = op_connect(&self->rig, 1, PEER_DISCARD);
	struct raw *raw = &self->raw;
	const uint32_t wild[] = { 0x40001, 0x7fffffff, ~0U };
	size_t i;

	for (i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		memset(&raw->slots[1], 0, sizeof(raw->slots[1]));
		op.op = DMM_OP_CONNECT;
		op.gen = i + 1;
		op.connect.sport++;
		raw_op(raw, &op);
		raw->slots[1].tx_prod = wild[i];
		op.op = DMM_OP_TX;
		raw_op(raw, &op);
		ASSERT_EQ(0, raw_settle(raw));
		ASSERT_TRUE(ended(raw, &self->rig));
	}
	EXPECT_EQ(3, rig_stat(&self->rig, "conns_failed"));
}

/* The receive index is wild: likewise. */
TEST_F(hostile, wild_rx_index)
{
	struct dmm_op op = op_connect(&self->rig, 1, PEER_FLOOD);
	struct raw *raw = &self->raw;
	const uint32_t wild[] = { 0x7fffffff, ~0U, 0x10000000 };
	size_t i;

	for (i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		memset(&raw->slots[1], 0, sizeof(raw->slots[1]));
		op.op = DMM_OP_CONNECT;
		op.gen = i + 1;
		op.connect.sport++;
		raw_op(raw, &op);
		raw->slots[1].rx_cons = wild[i];
		op.op = DMM_OP_ROOM;
		raw_op(raw, &op);
		ASSERT_TRUE(ended(raw, &self->rig));
	}
}

/* Scribble over all that the client can write, while data flows. */
TEST_F_TIMEOUT(hostile, scribble, 60)
{
	struct raw *raw = &self->raw;
	uint32_t i, n = raw->hdr->nslots;
	struct dmm_op op;
	unsigned int seed = 1;
	struct timespec ts;
	time_t end;

	for (i = 0; i < 16; i++) {
		memset(&raw->slots[i], 0, sizeof(raw->slots[i]));
		op = op_connect(&self->rig, i, i & 1 ? PEER_FLOOD : PEER_ECHO);
		raw_op(raw, &op);
	}
	ASSERT_EQ(0, raw_settle(raw));
	clock_gettime(CLOCK_MONOTONIC, &ts);
	for (end = ts.tv_sec + 5; ts.tv_sec < end;
	     clock_gettime(CLOCK_MONOTONIC, &ts)) {
		uint32_t *words = (uint32_t *)&raw->slots[rand_r(&seed) % 16];

		words[rand_r(&seed) % (sizeof(struct dmm_slot) / 4)] =
			rand_r(&seed) % 3 ? (uint32_t)rand_r(&seed) % 300000 :
					    (uint32_t)rand_r(&seed) << 1;
		memset(&op, 0, sizeof(op));
		for (i = 0; i < sizeof(op) / 4; i++)
			((uint32_t *)&op)[i] = rand_r(&seed);
		op.op %= __DMM_OP_MAX + 1;
		op.slot %= rand_r(&seed) % 2 ? 16 : n + 2;
		op.gen %= 4;
		if (rand_r(&seed) % 2)
			op.flags = 0;
		if (op.op == DMM_OP_CONNECT && rand_r(&seed) % 4) {
			op = op_connect(&self->rig, op.slot % 16, PEER_FLOOD);
			op.gen = rand_r(&seed) % 4;
		}
		raw_op(raw, &op);
		raw->hdr->nslots = n;
		if (!(rand_r(&seed) % 64))
			raw_settle(raw);
	}
}

/* The event ring is never emptied: nothing is lost for others. */
TEST_F(hostile, deaf)
{
	struct raw *raw = &self->raw;
	struct dmm_op op;
	long before;
	int i;

	for (i = 0; i < 3000; i++) {
		memset(&raw->slots[i], 0, sizeof(raw->slots[i]));
		op = op_connect(&self->rig, i, PEER_CLOSED);
		raw_op(raw, &op);
		ASSERT_EQ(0, raw_settle(raw));
	}
	for (i = 0; i < 3000; i++) {
		op = op_connect(&self->rig, i, PEER_CLOSED);
		op.gen = 2;
		raw_op(raw, &op);
		ASSERT_EQ(0, raw_settle(raw));
	}
	/* its ring is full, so the last ones wait in the worker, who sleeps */
	EXPECT_EQ(self->raw.hdr->nevents, self->raw.hdr->ev_prod);
	before = rig_cpu_ticks(self->rig.worker);
	sleep(3);
	EXPECT_GE(3 * sysconf(_SC_CLK_TCK) * 2 / 100,
		  rig_cpu_ticks(self->rig.worker) - before);
}

/* A client that sends something, or more than it should, is let go. */
TEST_F(hostile, talks)
{
	ASSERT_EQ(5, send(self->raw.sock, "hello", 5, 0));
	EXPECT_TRUE(raw_hung_up(&self->raw));
}

TEST_HARNESS_MAIN
