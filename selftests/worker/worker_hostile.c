// SPDX-License-Identifier: Apache-2.0
/*
 * Clients that break the channel's rules. Each may lose its own connections; the
 * worker and its other clients go on.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
#include "raw.h"
#include "rig.h"
#include "uclient.h"

FIXTURE(hostile) {
	struct rig rig;
	struct raw raw;
	struct uclient *good;
	char line[512];
};

static struct dmm_op op_listen(const struct rig *rig, uint32_t slot)
{
	return (struct dmm_op) {
		.op = DMM_OP_LISTEN,
		.slot = slot,
		.gen = 1,
		.listen = {
			.family = AF_INET,
			.port = __builtin_bswap16(8080),
			.backlog = 8,
			.ifindex = rig->ifindex,
		},
	};
}

static struct dmm_op op_attach(uint32_t slot, uint64_t token, uint32_t listener)
{
	return (struct dmm_op) {
		.op = DMM_OP_ATTACH,
		.slot = slot,
		.gen = 1,
		.attach = { .token = token, .listener = listener },
	};
}

/* Close without a word to the other end. */
static void vanish(int fd)
{
	int on = 1;

	setsockopt(fd, SOL_TCP, TCP_REPAIR, &on, sizeof(on));
	close(fd);
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
	ASSERT_EQ(0, uc_open(self->good, rig->sock, RIG_SADDR,
			     rig->ifindex));
	ASSERT_EQ(0, raw_open(&self->raw, rig->sock));
}

/* Whatever was done, the worker lives and the good client is served. */
FIXTURE_TEARDOWN(hostile)
{
	EXPECT_EQ(0, waitpid(self->rig.worker, NULL, WNOHANG));
	EXPECT_EQ(0, uc_served(self->good));
	uc_close(self->good);
	free(self->good);
	rig_destroy(&self->rig);
}

/*
 * How the worker slept at last, being told that we are on its CPU, awake or not, by a
 * client that now and then does something, or not.
 */
static uint32_t raw_slept(struct raw *raw, bool acts, bool awake, uint32_t how)
{
	struct dmm_op op = { .op = DMM_OP_TX, .gen = 1 };
	struct dmm_arena_hdr *hdr = raw->hdr;
	uint32_t sleeping = 0;
	int i;

	for (i = 0; i < 50000; i++) {
		if (acts && i % 1000 == 0)
			raw_op(raw, &op);
		__atomic_store_n(&hdr->ev_polling, awake, __ATOMIC_RELAXED);
		__atomic_store_n(&hdr->client_cpu,
				 __atomic_load_n(&hdr->stack_cpu, __ATOMIC_RELAXED),
				 __ATOMIC_RELAXED);
		sleeping = __atomic_load_n(&hdr->sleeping, __ATOMIC_RELAXED);
		if (sleeping % DMM_SLEEP_SEQ == how)
			break;
		usleep(100);
	}
	return sleeping;
}

/*
 * It leaves its CPU to a client that is there, and awake; asleep, the client says when.
 * Each sleep has a number of its own.
 */
TEST_F(hostile, cpu_is_left)
{
	uint32_t first, then;

	first = raw_slept(&self->raw, true, true, DMM_SLEEP_GAVE);
	EXPECT_EQ(DMM_SLEEP_GAVE, first % DMM_SLEEP_SEQ);
	then = raw_slept(&self->raw, true, false, DMM_SLEEP_OPS);
	EXPECT_EQ(DMM_SLEEP_OPS, then % DMM_SLEEP_SEQ);
	EXPECT_NE(first / DMM_SLEEP_SEQ, then / DMM_SLEEP_SEQ);
	then = raw_slept(&self->raw, true, true, DMM_SLEEP_GAVE);
	EXPECT_EQ(DMM_SLEEP_GAVE, then % DMM_SLEEP_SEQ);
	/* elsewhere it is nobody's business */
	self->raw.hdr->client_cpu = 0xffff;
	EXPECT_EQ(0, raw_settle(&self->raw));
}

/* One that says so and does nothing is not believed for long. */
TEST_F(hostile, cpu_is_not_left_for_ever)
{
	uint32_t slept;

	slept = raw_slept(&self->raw, true, true, DMM_SLEEP_GAVE);
	ASSERT_EQ(DMM_SLEEP_GAVE, slept % DMM_SLEEP_SEQ);
	slept = raw_slept(&self->raw, false, true, DMM_SLEEP_OPS);
	EXPECT_EQ(DMM_SLEEP_OPS, slept % DMM_SLEEP_SEQ);
	slept = raw_slept(&self->raw, true, true, DMM_SLEEP_GAVE);
	EXPECT_EQ(DMM_SLEEP_GAVE, slept % DMM_SLEEP_SEQ);
}

/* Nor at the cost of one that does not say so: the worker goes on looking for that. */
TEST_F(hostile, cpu_is_not_taken_from_others)
{
	struct dmm_op op = { .op = DMM_OP_TX, .gen = 1 };
	struct dmm_arena_hdr *hdr = self->raw.hdr;
	struct timespec a, b;
	long before, slept;
	int i;

	ASSERT_EQ(DMM_SLEEP_GAVE, raw_slept(&self->raw, true, true, DMM_SLEEP_GAVE) %
				  DMM_SLEEP_SEQ);
	before = rig_stat(&self->rig, "wakeups");
	for (i = 0; i < 5000; i++) {
		hdr->client_cpu = hdr->stack_cpu;
		if (i % 1000 == 0)
			raw_op(&self->raw, &op);
		uc_put(self->good, &op);
		/* much less than the worker looks for */
		clock_gettime(CLOCK_MONOTONIC, &a);
		do {
			clock_gettime(CLOCK_MONOTONIC, &b);
		} while ((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec <
			 15000);
	}
	slept = rig_stat(&self->rig, "wakeups") - before;
	TH_LOG("slept %ld times", slept);
	EXPECT_GT(2500, slept);
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
	struct dmm_op good = raw_connect(&self->rig, 1, PEER_ECHO), op;
	struct raw *raw = &self->raw;
	int n = 0;

#define BAD(change) do { op = good; change; raw_op(raw, &op); n++; } while (0)
	BAD(op.slot = raw->hdr->nslots);
	BAD(op.slot = ~0U);
	BAD(op.gen = 0);
	BAD(op.flags = 1);
	BAD(op.connect.family = AF_INET6; memset(op.connect.saddr, 0, 16));
	BAD(op.connect.family = AF_INET6; memset(op.connect.daddr, 0, 16));
	BAD(op.connect.saddr[1] = 1);
	BAD(op.connect.daddr[3] = 1);
	BAD(op.connect.family = 0xffff);
	BAD(op.connect.sport = 0);
	BAD(op.connect.dport = 0);
	BAD(op.connect.saddr[0] = 0);
	BAD(op.connect.daddr[0] = 0);
	BAD(op.connect.ifindex++);
	good = op_listen(&self->rig, 1);
	BAD(op.gen = 0);
	BAD(op.slot = raw->hdr->nslots);
	BAD(op.flags = 1);
	BAD(op.listen.family = 0);
	BAD(op.listen.port = 0);
	BAD(op.listen.flags = 2);
	BAD(op.listen.ifindex = 0);
	BAD(op.listen.addr[2] = 1);
	BAD(op.listen.__reserved[2] = 1);
	good = op_attach(1, 1, 0);
	BAD(op.gen = 0);
	BAD(op.flags = 1);
	BAD(op.attach.listener = raw->hdr->nslots);
	BAD(op.attach.__reserved[8] = 1);
#undef BAD
	good = raw_connect(&self->rig, 1, PEER_ECHO);
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
	op = op_listen(&self->rig, 1);
	raw_op(raw, &op);
	op = op_attach(1, 1, 0);
	raw_op(raw, &op);
	ASSERT_EQ(0, raw_settle(raw));
	EXPECT_EQ(n + 4, rig_stat(&self->rig, "bad_ops"));
	EXPECT_EQ(1, rig_stat(&self->rig, "conns_total"));
	EXPECT_EQ(0, rig_stat(&self->rig, "listeners"));
}

/* A listener is told what only connections understand, and the reverse. */
TEST_F(hostile, wrong_kind)
{
	static const uint32_t ops[] = {
		DMM_OP_CONNECT, DMM_OP_OPTIONS, DMM_OP_TX, DMM_OP_ROOM,
		DMM_OP_SHUTDOWN, DMM_OP_CLOSE, 0xdead,
	};
	struct dmm_op op = op_listen(&self->rig, 3);
	struct raw *raw = &self->raw;
	size_t i;

	raw_op(raw, &op);
	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		op = raw_connect(&self->rig, 3, PEER_ECHO);
		op.op = ops[i];
		raw_op(raw, &op);
	}
	/* attached to itself, and to a slot that is no listener */
	op = op_attach(3, 1, 3);
	raw_op(raw, &op);
	op = op_attach(4, 1, 5);
	raw_op(raw, &op);
	ASSERT_EQ(0, raw_settle(raw));
	EXPECT_EQ((long)i + 1, rig_stat(&self->rig, "bad_ops"));
	EXPECT_EQ(1, rig_stat(&self->rig, "bad_tokens"));
	EXPECT_EQ(1, rig_stat(&self->rig, "listeners"));
	/* listening twice on one slot is a new backlog; another gen is not */
	op = op_listen(&self->rig, 3);
	raw_op(raw, &op);
	op.gen = 9;
	raw_op(raw, &op);
	ASSERT_EQ(0, raw_settle(raw));
	EXPECT_EQ((long)i + 2, rig_stat(&self->rig, "bad_ops"));
	EXPECT_EQ(1, rig_stat(&self->rig, "listeners"));
}

/* Another client's children are not to be had, whatever token is guessed. */
TEST_F_TIMEOUT(hostile, stolen_token, 60)
{
	struct uclient *good = self->good;
	struct raw *raw = &self->raw;
	struct dmm_op op;
	uint64_t token;
	int fd, slot, i;
	char buf[4];

	slot = uc_listen(good, AF_INET, NULL, 8080, 8, 0);
	ASSERT_EQ(1, rig_stat_wait(&self->rig, "listeners", 1));
	fd = rig_dial(&self->rig, RIG_SADDR, 8080);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, uc_wait(good, 5000));
	token = good->offers[0].in.token;
	op = op_listen(&self->rig, slot);
	raw_op(raw, &op);
	for (i = 0; i < 200; i++) {
		op = op_attach(10 + i, token - 100 + i, slot);
		raw_op(raw, &op);
	}
	ASSERT_EQ(0, raw_settle(raw));
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "conns", 0));
	EXPECT_EQ(1, rig_stat(&self->rig, "waiting"));
	slot = uc_accept(good, -1, 5000);
	ASSERT_EQ(4, send(fd, "ping", 4, 0));
	ASSERT_EQ(4, uc_recv(good, slot, buf, 4));
	close(fd);
}

/* A listener that never takes events: who connects waits, and is let go. */
TEST_F_TIMEOUT(hostile, deaf_listener, 60)
{
	struct dmm_op op = op_listen(&self->rig, 1);
	struct raw *raw = &self->raw;
	int fd, i;

	op.listen.backlog = 1 << 20;
	raw_op(raw, &op);
	ASSERT_EQ(1, rig_stat_wait(&self->rig, "listeners", 1));
	/* more than the event ring holds */
	for (i = 0; i < 6000; i++) {
		fd = rig_dial(&self->rig, RIG_SADDR, 8080);
		ASSERT_LE(0, fd);
		if (i % 2)
			vanish(fd);
		else
			close(fd);
	}
	EXPECT_GE((long)raw->hdr->nevents, raw->hdr->ev_prod);
	EXPECT_LT(2000, rig_stat(&self->rig, "waiting"));
	op.op = DMM_OP_ABORT;
	raw_op(raw, &op);
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "waiting", 0));
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "stack_conns", 0));
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
	struct dmm_op op = raw_connect(&self->rig, 1, PEER_DISCARD);
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
	struct dmm_op op = raw_connect(&self->rig, 1, PEER_FLOOD);
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

/* Seconds; a minute and more by hand. */
static int scribble_secs(void)
{
	const char *text = getenv("DMM_SCRIBBLE_SECS");

	return text ? atoi(text) : 5;
}

/* Scribble over all that the client can write, while data flows. */
TEST_F_TIMEOUT(hostile, scribble, 300)
{
	struct raw *raw = &self->raw;
	uint32_t i, n = raw->hdr->nslots;
	struct dmm_op op;
	unsigned int seed = 1;
	struct timespec ts;
	time_t end;

	for (i = 0; i < 16; i++) {
		memset(&raw->slots[i], 0, sizeof(raw->slots[i]));
		op = raw_connect(&self->rig, i, i & 1 ? PEER_FLOOD : PEER_ECHO);
		raw_op(raw, &op);
	}
	ASSERT_EQ(0, raw_settle(raw));
	clock_gettime(CLOCK_MONOTONIC, &ts);
	for (end = ts.tv_sec + scribble_secs(); ts.tv_sec < end;
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
			op = raw_connect(&self->rig, op.slot % 16, PEER_FLOOD);
			op.gen = rand_r(&seed) % 4;
		} else if (op.op == DMM_OP_LISTEN && rand_r(&seed) % 4) {
			op = op_listen(&self->rig, op.slot % 16);
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
		op = raw_connect(&self->rig, i, PEER_CLOSED);
		raw_op(raw, &op);
		ASSERT_EQ(0, raw_settle(raw));
	}
	for (i = 0; i < 3000; i++) {
		op = raw_connect(&self->rig, i, PEER_CLOSED);
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
