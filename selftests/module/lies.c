// SPDX-License-Identifier: Apache-2.0
/*
 * A worker that says what is not so, about sockets and about ring indices: it is
 * dropped and counted, and costs at most the socket that was the worker's own.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "adopt.h"

ADOPT_SUITE(lies)

TEST_F(lies, others_sockets)
{
	__u32 slot, gen, type;
	char in[3];

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	for (type = 0; type <= __DMM_EV_MAX; type++) {
		EXPECT_EQ(1, send_event(self->p, type, slot, gen + 1));
		EXPECT_EQ(1, send_event(self->p, type, slot, gen - 1));
		EXPECT_EQ(1, send_event(self->p, type, slot + 1, gen));
		EXPECT_EQ(1, send_event(self->p, type, 256, gen));
		EXPECT_EQ(1, send_event(self->p, type, ~0U, gen));
	}
	EXPECT_EQ(1, send_event(self->p, __DMM_EV_MAX, slot, gen));
	EXPECT_EQ(1, send_event(self->p, ~0U, slot, gen));
	puppet_thaw(self->p);

	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(self->fd));
	ASSERT_EQ(3, write(self->fd, "abc", 3));
	EXPECT_EQ(3, recv(self->fd, in, 3, MSG_WAITALL));
}

/* The worker of another stack names the very slot and generation. */
TEST_F(lies, another_stacks_sockets)
{
	struct puppet_opts opts = { .name = "other", .id = WORLD_STACK + 1 };
	struct puppet *other;
	__u32 slot, gen, type;
	char in[3];

	opts.ifindex = world_ifindex(self->w);
	other = puppet_start(&opts);
	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_last(self->p, &slot, &gen);
	puppet_freeze(other);
	for (type = 0; type <= __DMM_EV_MAX; type++)
		EXPECT_EQ(1, send_event(other, type, slot, gen));
	puppet_kill(other);

	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(self->fd));
	ASSERT_EQ(3, write(self->fd, "abc", 3));
	EXPECT_EQ(3, recv(self->fd, in, 3, MSG_WAITALL));
}

/* It must not end what it has not heard of: connect() would wait for ever. */
TEST_F(lies, ends_a_socket_before_connect)
{
	__u32 type;

	world_deny(self->w, 1);
	ASSERT_EQ(-EPERM, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(1, world_adopted(self->fd));	/* assigned: it has a slot */
	puppet_freeze(self->p);
	for (type = 0; type < __DMM_EV_MAX; type++)
		EXPECT_EQ(1, send_event(self->p, type, 0, 1))
			TH_LOG("type %u", type);
	puppet_thaw(self->p);
	/* With nobody to judge anew, that verdict stands. */
	world_detach(self->w);
	set_timeout(self->fd, SO_SNDTIMEO, 10000);
	EXPECT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(1, world_adopted(self->fd));
}

/* Counted by the module, though taken from the ring: the socket was the worker's. */
#define EXPECT_BAD(n, what) do {					\
	__u64 before = world_bad_events();				\
	what;								\
	EXPECT_EQ(before + (n), world_bad_events());			\
} while (0)

TEST_F(lies, the_state)
{
	__u32 slot, gen;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	/* Out of place, changes nothing. */
	EXPECT_BAD(1, send_event(self->p, DMM_EV_CONNECTED, slot, gen));
	EXPECT_BAD(1, send_event(self->p, DMM_EV_FIN_ACKED, slot, gen));
	EXPECT_BAD(1, send_event(self->p, DMM_EV_INCOMING, slot, gen));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(self->fd));
	/* Nothing but a wake-up. */
	EXPECT_BAD(0, send_event(self->p, DMM_EV_RX, slot, gen));
	EXPECT_BAD(0, send_event(self->p, DMM_EV_ROOM, slot, gen));
	EXPECT_EQ(0, wait_for(self->fd, POLLIN, 0));
	/* The same twice. */
	EXPECT_BAD(0, send_event(self->p, DMM_EV_FIN, slot, gen));
	EXPECT_BAD(1, send_event(self->p, DMM_EV_FIN, slot, gen));
	EXPECT_EQ(TCP_CLOSE_WAIT, tcp_state(self->fd));
	EXPECT_BAD(1, send_event(self->p, DMM_EV_GONE, slot, gen));
	EXPECT_EQ(TCP_CLOSE, tcp_state(self->fd));
	/* And speaks of it afterwards. */
	EXPECT_EQ(1, send_event(self->p, DMM_EV_ERROR, slot, gen));
	EXPECT_EQ(1, send_event(self->p, DMM_EV_GONE, slot, gen));
	puppet_thaw(self->p);
}

TEST_F(lies, while_opening)
{
	static const __u32 types[] = {
		DMM_EV_FIN, DMM_EV_FIN_ACKED, DMM_EV_INCOMING,
	};
	__u32 slot, gen;
	size_t i;

	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	ASSERT_EQ(-EINPROGRESS, world_connect(self->fd, PORT_SILENT));
	for (i = 0; i < 500; i++) {
		struct puppet_stats stats;

		puppet_stats(self->p, &stats);
		if (stats.ops[DMM_OP_CONNECT])
			break;
		usleep(10000);
	}
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	for (i = 0; i < ARRAY_SIZE(types); i++)
		EXPECT_BAD(1, send_event(self->p, types[i], slot, gen));
	EXPECT_EQ(TCP_SYN_SENT, tcp_state(self->fd));
	puppet_thaw(self->p);
}

/* TIME_WAIT although nobody closed: the worker knows nothing of it any more. */
TEST_F(lies, time_wait)
{
	__u32 slot, gen;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	EXPECT_BAD(1, send_event(self->p, DMM_EV_TIMEWAIT, slot, gen));
	EXPECT_EQ(TCP_CLOSE, tcp_state(self->fd));
	EXPECT_EQ(ECONNRESET, so_error(self->fd));
	EXPECT_EQ(1, send_event(self->p, DMM_EV_TIMEWAIT, slot, gen));
	puppet_thaw(self->p);
}

/* The program has closed it; the worker ends it, and goes on speaking. */
TEST_F(lies, a_closed_socket)
{
	struct puppet_stats stats;
	__u32 slot, gen, type;
	int i;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_last(self->p, &slot, &gen);
	close(self->fd);
	self->fd = -1;
	for (i = 0; i < 500; i++) {
		__u32 s, g;

		puppet_last(self->p, &s, &g);
		if (!g)
			break;
		usleep(10000);
	}
	puppet_stats(self->p, &stats);
	EXPECT_EQ(0, stats.bad);
	puppet_freeze(self->p);
	for (type = 1; type < __DMM_EV_MAX; type++)
		EXPECT_EQ(1, send_event(self->p, type, slot, gen));
	puppet_thaw(self->p);
}

/* The arena as the puppet's process has it mapped. */
static struct dmm_slot *shared_slot(struct puppet *p, __u32 slot)
{
	static struct dmm_arena_hdr *hdr;

	hdr = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED,
		   dmm_chan_fd(puppet_chan(p)), 0);
	if (hdr == MAP_FAILED)
		return NULL;
	return (struct dmm_slot *)((char *)hdr + dmm_arena_slots_off(hdr)) + slot;
}

TEST_F(lies, receive_index_out_of_range)
{
	struct dmm_slot *s;
	__u32 slot, gen;
	char in[10];

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	s = shared_slot(self->p, slot);
	ASSERT_NE(NULL, s);
	s->rx_prod = 0x80000000;
	EXPECT_NE(0, wait_for(self->fd, POLLIN, 0));
	EXPECT_EQ(-1, read(self->fd, in, 10));
	EXPECT_EQ(ECONNRESET, errno);
	EXPECT_EQ(TCP_CLOSE, tcp_state(self->fd));
	puppet_thaw(self->p);
}

TEST_F(lies, send_index_out_of_range)
{
	struct dmm_slot *s;
	__u32 slot, gen;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	s = shared_slot(self->p, slot);
	ASSERT_NE(NULL, s);
	s->tx_cons = 1;		/* acknowledged what was never sent */
	EXPECT_EQ(-1, write(self->fd, "abc", 3));
	EXPECT_EQ(ECONNRESET, errno);
	EXPECT_EQ(TCP_CLOSE, tcp_state(self->fd));
	puppet_thaw(self->p);
}

/* The worker claims to have taken ops that were never there: as a full ring. */
TEST_F(lies, op_index_out_of_range)
{
	struct dmm_arena_hdr *hdr;
	__u32 cons, i;
	char in[3];

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_freeze(self->p);
	hdr = mmap(NULL, sizeof(*hdr), PROT_READ | PROT_WRITE, MAP_SHARED,
		   dmm_chan_fd(puppet_chan(self->p)), 0);
	ASSERT_NE(MAP_FAILED, hdr);
	cons = hdr->op_cons;
	hdr->op_cons = cons + 0x80000000;
	/* Each posts an op, more than the ring holds. */
	for (i = 0; i < 200; i++)
		ASSERT_EQ(0, setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY,
					&(int){ i % 2 }, sizeof(int)));
	ASSERT_EQ(3, write(self->fd, "abc", 3));
	hdr->op_cons = cons;
	munmap(hdr, sizeof(*hdr));
	puppet_thaw(self->p);
	EXPECT_EQ(3, recv(self->fd, in, 3, MSG_WAITALL));
}

TEST_HARNESS_MAIN
