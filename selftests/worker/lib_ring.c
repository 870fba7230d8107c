// SPDX-License-Identifier: Apache-2.0
/* libdmm's rings and arenas, both sides in one process. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <dmm/chan.h>

#include "kselftest_harness.h"

#define RING	4096

/* @raw: the memory as a hostile side sees it */
FIXTURE(chan) {
	struct dmm_chan *stack;
	struct dmm_chan *client;
	struct dmm_arena_hdr *raw;
	struct dmm_slot *slot;
	size_t len;
};

FIXTURE_SETUP(chan)
{
	struct dmm_chan_opts opts = {
		.sz = sizeof(opts),
		.nslots = 4,
		.nops = 64,
		.nevents = 64,
		.tx_size = RING,
		.rx_size = RING,
	};
	int fd;

	ASSERT_EQ(0, dmm_chan_create(&self->stack, &opts));
	fd = dmm_chan_fd(self->stack);
	ASSERT_EQ(0, dmm_chan_map(&self->client, fd));
	self->len = lseek(fd, 0, SEEK_END);
	self->raw = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_SHARED,
			 fd, 0);
	ASSERT_NE(MAP_FAILED, self->raw);
	self->slot = (void *)((char *)self->raw + dmm_arena_slots_off(self->raw));
	dmm_chan_slot_open(self->client, 0);
	dmm_chan_slot_open(self->stack, 0);
}

FIXTURE_TEARDOWN(chan)
{
	munmap(self->raw, self->len);
	dmm_chan_destroy(self->client);
	dmm_chan_destroy(self->stack);
}

TEST_F(chan, bytes_wrap)
{
	struct dmm_ring *in = dmm_chan_tx(self->client, 0);
	struct dmm_ring *out = dmm_chan_tx(self->stack, 0);
	char a[3000], b[3000];
	const void *span;
	int i, round;

	for (round = 0; round < 100; round++) {
		for (i = 0; i < (int)sizeof(a); i++)
			a[i] = i * 7 + round;
		ASSERT_EQ(3000, dmm_ring_write(in, a, sizeof(a)));
		ASSERT_EQ(3000, dmm_ring_used(out));
		ASSERT_LT(0, dmm_ring_peek(out, 0, &span));
		ASSERT_EQ(3000, dmm_ring_read(out, b, sizeof(b)));
		ASSERT_EQ(0, memcmp(a, b, sizeof(a)));
	}
}

TEST_F(chan, peek_spans)
{
	struct dmm_ring *in = dmm_chan_tx(self->client, 0);
	struct dmm_ring *out = dmm_chan_tx(self->stack, 0);
	char a[RING] = { 0 };
	const void *span, *start;
	void *room;

	ASSERT_EQ(0, dmm_ring_peek(out, 0, &start));
	ASSERT_EQ(RING, dmm_ring_space(in, &room));
	ASSERT_EQ(3000, dmm_ring_write(in, a, 3000));
	ASSERT_EQ(3000, dmm_ring_used(out));
	dmm_ring_consume(out, 3000);
	ASSERT_EQ(RING, dmm_ring_write(in, a, RING));
	EXPECT_EQ(0, dmm_ring_write(in, a, 1));
	EXPECT_EQ(0, dmm_ring_space(in, NULL));
	EXPECT_EQ(RING - 3000, dmm_ring_peek(out, 0, &span));
	EXPECT_EQ(3000, dmm_ring_peek(out, RING - 3000, &span));
	EXPECT_EQ(start, span);
	EXPECT_EQ(1, dmm_ring_peek(out, RING - 1, &span));
	EXPECT_EQ(0, dmm_ring_peek(out, RING, &span));
}

TEST_F(chan, index_wraps)
{
	struct dmm_ring *in = dmm_chan_rx(self->stack, 0);
	struct dmm_ring *out = dmm_chan_rx(self->client, 0);
	uint64_t total = 0;
	char a[RING];

	memset(a, 'x', sizeof(a));
	while (total < (1ULL << 32) + 10 * RING) {
		ASSERT_EQ(RING, dmm_ring_write(in, a, RING));
		ASSERT_EQ(RING, dmm_ring_moved(out));
		dmm_ring_consume(out, RING);
		total += RING;
	}
	ASSERT_EQ(0, dmm_ring_used(out));
}

TEST_F(chan, armed_first_at_zero)
{
	struct dmm_ring *in = dmm_chan_tx(self->client, 0);
	struct dmm_ring *out = dmm_chan_tx(self->stack, 0);

	ASSERT_EQ(5, dmm_ring_write(in, "hello", 5));
	EXPECT_TRUE(dmm_ring_due(in));
	ASSERT_EQ(5, dmm_ring_write(in, "hello", 5));
	EXPECT_FALSE(dmm_ring_due(in));
	/* what is there already is not waited for */
	EXPECT_TRUE(dmm_ring_arm(out, 0));
	ASSERT_EQ(10, dmm_ring_moved(out));
	EXPECT_FALSE(dmm_ring_arm(out, 0));
	ASSERT_EQ(1, dmm_ring_write(in, "!", 1));
	EXPECT_TRUE(dmm_ring_due(in));
}

TEST_F(chan, armed_ahead)
{
	struct dmm_ring *in = dmm_chan_tx(self->client, 0);
	struct dmm_ring *out = dmm_chan_tx(self->stack, 0);
	char a[100] = { 0 };
	int i;

	dmm_ring_write(in, a, 1);
	dmm_ring_due(in);
	dmm_ring_moved(out);
	EXPECT_FALSE(dmm_ring_arm(out, 250));
	for (i = 0; i < 2; i++) {
		dmm_ring_write(in, a, 100);
		EXPECT_FALSE(dmm_ring_due(in));
	}
	dmm_ring_write(in, a, 100);
	EXPECT_TRUE(dmm_ring_due(in));
	dmm_ring_write(in, a, 100);
	EXPECT_FALSE(dmm_ring_due(in));
}

TEST_F(chan, hostile_producer)
{
	struct dmm_ring *out = dmm_chan_tx(self->stack, 0);
	const void *span;
	char b[16];

	self->slot->tx_prod = RING + 1;
	EXPECT_EQ(-EPROTO, dmm_ring_peek(out, 0, &span));
	EXPECT_EQ(-EPROTO, dmm_ring_used(out));
	EXPECT_EQ(-EPROTO, dmm_ring_moved(out));
	EXPECT_EQ(-EPROTO, dmm_ring_read(out, b, sizeof(b)));
	self->slot->tx_prod = ~0U;
	EXPECT_EQ(-EPROTO, dmm_ring_peek(out, 0, &span));
	self->slot->tx_prod = 100;
	EXPECT_EQ(100, dmm_ring_peek(out, 0, &span));
	/* what was shown may not be taken back */
	self->slot->tx_prod = 99;
	EXPECT_EQ(-EPROTO, dmm_ring_peek(out, 0, &span));
	self->slot->tx_prod = 101;
	EXPECT_EQ(101, dmm_ring_peek(out, 0, &span));
}

TEST_F(chan, hostile_consumer)
{
	struct dmm_ring *in = dmm_chan_rx(self->stack, 0);
	char a[100] = { 0 };

	ASSERT_EQ(100, dmm_ring_write(in, a, 100));
	self->slot->rx_cons = 101;
	EXPECT_EQ(-EPROTO, dmm_ring_write(in, a, 1));
	EXPECT_EQ(-EPROTO, dmm_ring_moved(in));
	EXPECT_EQ(-EPROTO, dmm_ring_space(in, NULL));
	self->slot->rx_cons = 50;
	EXPECT_EQ(50, dmm_ring_moved(in));
	self->slot->rx_cons = 40;
	EXPECT_EQ(-EPROTO, dmm_ring_moved(in));
	self->slot->rx_cons = 100;
	EXPECT_EQ(50, dmm_ring_moved(in));
}

/* Our own index in shared memory is published, never believed. */
TEST_F(chan, own_index_not_read)
{
	struct dmm_ring *in = dmm_chan_rx(self->stack, 0);
	char a[100] = { 0 };

	ASSERT_EQ(100, dmm_ring_write(in, a, 100));
	self->slot->rx_prod = 0x12345678;
	ASSERT_EQ(100, dmm_ring_write(in, a, 100));
	EXPECT_EQ(200, self->slot->rx_prod);
}

TEST_F(chan, ops_and_events)
{
	struct dmm_op op = { .op = DMM_OP_TX, .slot = 1, .gen = 1 }, got;
	struct dmm_event ev = { .ev = DMM_EV_RX, .slot = 2, .gen = 3 }, heard;
	int i;

	EXPECT_EQ(0, dmm_chan_op_get(self->stack, &got));
	for (i = 0; i < 64; i++) {
		op.gen = i + 1;
		ASSERT_EQ(0, dmm_chan_op_put(self->client, &op));
	}
	EXPECT_EQ(-ENOSPC, dmm_chan_op_put(self->client, &op));
	EXPECT_EQ(0, dmm_chan_op_get(self->stack, &got));
	EXPECT_FALSE(dmm_chan_op_flush(self->client));
	for (i = 0; i < 64; i++) {
		ASSERT_EQ(1, dmm_chan_op_get(self->stack, &got));
		ASSERT_EQ((__u32)i + 1, got.gen);
	}
	EXPECT_EQ(0, dmm_chan_op_get(self->stack, &got));
	EXPECT_EQ(-ENOSPC, dmm_chan_op_put(self->client, &op));
	dmm_chan_op_done(self->stack);
	EXPECT_EQ(0, dmm_chan_op_put(self->client, &op));

	ASSERT_EQ(0, dmm_chan_event_put(self->stack, &ev));
	EXPECT_EQ(0, dmm_chan_event_get(self->client, &heard));
	EXPECT_EQ(1U, dmm_chan_event_flush(self->stack));
	EXPECT_EQ(0U, dmm_chan_event_flush(self->stack));
	ASSERT_EQ(1, dmm_chan_event_get(self->client, &heard));
	EXPECT_EQ(0, memcmp(&ev, &heard, sizeof(ev)));
}

TEST_F(chan, sleep_protocol)
{
	struct dmm_op op = { .op = DMM_OP_TX, .gen = 1 };

	EXPECT_FALSE(dmm_chan_sleep(self->stack, DMM_SLEEP_OPS));
	dmm_chan_op_put(self->client, &op);
	EXPECT_TRUE(dmm_chan_op_flush(self->client));
	/* once is enough, for each sleep */
	dmm_chan_op_put(self->client, &op);
	EXPECT_FALSE(dmm_chan_op_flush(self->client));
	EXPECT_FALSE(dmm_chan_sleep(self->stack, 0));
	/* an op that came before is seen instead of slept over */
	EXPECT_TRUE(dmm_chan_sleep(self->stack, DMM_SLEEP_OPS));
	dmm_chan_op_put(self->client, &op);
	EXPECT_TRUE(dmm_chan_op_flush(self->client));
}

TEST_F(chan, events_unread)
{
	struct dmm_event ev = { .ev = DMM_EV_RX };

	EXPECT_FALSE(dmm_chan_event_unread(self->stack));
	ASSERT_EQ(0, dmm_chan_event_put(self->stack, &ev));
	EXPECT_FALSE(dmm_chan_event_unread(self->stack));
	dmm_chan_event_flush(self->stack);
	EXPECT_TRUE(dmm_chan_event_unread(self->stack));
	ASSERT_EQ(1, dmm_chan_event_get(self->client, &ev));
	dmm_chan_event_done(self->client);
	EXPECT_FALSE(dmm_chan_event_unread(self->stack));
}

TEST_F(chan, hostile_messages)
{
	struct dmm_event ev = { .ev = DMM_EV_RX };
	struct dmm_op op;

	self->raw->op_prod = 65;
	EXPECT_EQ(-EPROTO, dmm_chan_op_get(self->stack, &op));
	EXPECT_EQ(0, dmm_chan_op_get(self->stack, &op));
	self->raw->op_prod = 0xffffff00;
	EXPECT_EQ(-EPROTO, dmm_chan_op_get(self->stack, &op));
	self->raw->ev_cons = 1;
	EXPECT_EQ(-EPROTO, dmm_chan_event_put(self->stack, &ev));
	self->raw->ev_cons = 0;
	EXPECT_EQ(0, dmm_chan_event_put(self->stack, &ev));
}

/* The geometry is copied once; what is written there later means nothing. */
TEST_F(chan, geometry_is_a_copy)
{
	struct dmm_ring *in;
	char a[RING] = { 0 };

	self->raw->tx_size = 1U << 31;
	self->raw->nslots = 1U << 31;
	dmm_chan_slot_open(self->client, 3);
	in = dmm_chan_tx(self->client, 3);
	EXPECT_EQ(4U, dmm_chan_nslots(self->client));
	EXPECT_EQ(RING, dmm_ring_write(in, a, RING));
	EXPECT_EQ(0, dmm_ring_write(in, a, RING));
}

TEST(create_bad_geometry)
{
	struct dmm_chan_opts opts = { .sz = sizeof(opts) - 1 };
	struct dmm_chan *chan;

	EXPECT_EQ(-EINVAL, dmm_chan_create(&chan, &opts));
	opts.sz = sizeof(opts);
	opts.nslots = 3;
	EXPECT_EQ(-EINVAL, dmm_chan_create(&chan, &opts));
	opts.nslots = 4;
	opts.tx_size = 2048;
	EXPECT_EQ(-EINVAL, dmm_chan_create(&chan, &opts));
	opts.tx_size = 8U << 20;
	EXPECT_EQ(-EINVAL, dmm_chan_create(&chan, &opts));
	opts.tx_size = RING;
	opts.nops = 32;
	EXPECT_EQ(-EINVAL, dmm_chan_create(&chan, &opts));
}

/* What a client may be given instead of an arena. */
TEST(map_bad_arena)
{
	struct dmm_arena_hdr h = {
		.magic = DMM_ARENA_MAGIC,
		.version = DMM_ABI_VERSION,
		.hdr_size = sizeof(h),
		.nslots = 1,
		.nops = 64,
		.nevents = 64,
		.tx_size = RING,
		.rx_size = RING,
	};
	struct dmm_chan *chan;
	int fd;

	fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, dmm_arena_size(&h)));
	ASSERT_EQ((ssize_t)sizeof(h), pwrite(fd, &h, sizeof(h), 0));
	/* could be cut short under us */
	EXPECT_EQ(-EPROTO, dmm_chan_map(&chan, fd));
	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	ASSERT_EQ(0, dmm_chan_map(&chan, fd));
	dmm_chan_destroy(chan);

	h.magic++;
	ASSERT_EQ((ssize_t)sizeof(h), pwrite(fd, &h, sizeof(h), 0));
	EXPECT_EQ(-EPROTO, dmm_chan_map(&chan, fd));
	h.magic--;
	h.nslots = 2;
	ASSERT_EQ((ssize_t)sizeof(h), pwrite(fd, &h, sizeof(h), 0));
	EXPECT_EQ(-EPROTO, dmm_chan_map(&chan, fd));
	h.nslots = 0;
	ASSERT_EQ((ssize_t)sizeof(h), pwrite(fd, &h, sizeof(h), 0));
	EXPECT_EQ(-EPROTO, dmm_chan_map(&chan, fd));
	close(fd);
	EXPECT_EQ(-EBADF, dmm_chan_map(&chan, fd));
}

TEST_HARNESS_MAIN
