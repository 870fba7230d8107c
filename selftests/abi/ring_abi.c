// SPDX-License-Identifier: Apache-2.0
/*
 * The channel's rules, by the functions of the UAPI header: what geometry is
 * accepted, where things lie, when a wake-up is due. Sizes and offsets are
 * asserted by layout.h when this is compiled.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kselftest_harness.h"
#include "layout.h"

static struct dmm_arena_hdr geometry(__u32 nslots, __u32 nops, __u32 nevents,
				     __u32 tx_size, __u32 rx_size)
{
	return (struct dmm_arena_hdr) {
		.magic = DMM_ARENA_MAGIC,
		.version = DMM_ABI_VERSION,
		.hdr_size = sizeof(struct dmm_arena_hdr),
		.nslots = nslots,
		.nops = nops,
		.nevents = nevents,
		.tx_size = tx_size,
		.rx_size = rx_size,
	};
}

/* A repeatable stream of numbers (xorshift32). */
static __u32 next_random(__u32 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* The rule in words: was @event one of the indices that the move consumed? */
static int passed_by(__u32 event, __u32 new_idx, __u32 old_idx)
{
	__u32 i;

	for (i = old_idx; i != new_idx; i++)
		if (i == event)
			return 1;
	return 0;
}

TEST(need_event_is_passing)
{
	static const __u32 bases[] = {
		0, 1, 64, 0x7fffffe0, 0x80000000, 0xffffffe0, 0xfffffffc, 0xffffffff,
	};
	unsigned int b;
	__u32 step;
	int d;

	for (b = 0; b < ARRAY_SIZE(bases); b++)
		for (step = 0; step <= 40; step++)
			for (d = -50; d <= 50; d++) {
				__u32 old_idx = bases[b];
				__u32 new_idx = old_idx + step;
				__u32 event = old_idx + d;

				ASSERT_EQ(passed_by(event, new_idx, old_idx),
					  dmm_need_event(event, new_idx, old_idx)) {
					TH_LOG("event %u, %u -> %u", event,
					       old_idx, new_idx);
				}
			}
}

TEST(need_event_without_move_is_silent)
{
	__u32 state = 1, i;

	for (i = 0; i < 100000; i++) {
		__u32 idx = next_random(&state);

		ASSERT_EQ(0, dmm_need_event(idx, idx, idx));
		ASSERT_EQ(0, dmm_need_event(next_random(&state), idx, idx));
	}
}

/* However a stretch is cut into moves, an event in it is heard exactly once. */
TEST(need_event_is_heard_once)
{
	__u32 state = 7, i;

	for (i = 0; i < 20000; i++) {
		__u32 old_idx = next_random(&state), idx = old_idx;
		__u32 total = next_random(&state) % 5000 + 1;
		__u32 event = old_idx + next_random(&state) % total;
		int heard = 0;

		while (idx != old_idx + total) {
			__u32 left = old_idx + total - idx;
			__u32 move = next_random(&state) % left + 1;

			heard += dmm_need_event(event, idx + move, idx);
			idx += move;
		}
		ASSERT_EQ(1, heard);
	}
}

/* A slot begins cleared, with every event at 0: the first move is heard. */
TEST(need_event_armed_at_birth)
{
	struct dmm_slot slot = {};

	EXPECT_EQ(1, dmm_need_event(slot.tx_event, 1, 0));
	EXPECT_EQ(1, dmm_need_event(slot.rx_event, DMM_RING_MAX, 0));
}

/* "Whoever never arms, never hears": an event left behind stays silent. */
TEST(need_event_left_behind)
{
	__u32 idx;

	for (idx = 1; idx < 3 * DMM_RING_MAX; idx += 4096)
		ASSERT_EQ(0, dmm_need_event(0, idx + 4096, idx));
}

TEST(geometry_limits)
{
	static const struct {
		size_t off;
		__u32 min, max;
	} limits[] = {
		{ offsetof(struct dmm_arena_hdr, nslots), 1, DMM_SLOTS_MAX },
		{ offsetof(struct dmm_arena_hdr, nops), DMM_MSGS_MIN, DMM_MSGS_MAX },
		{ offsetof(struct dmm_arena_hdr, nevents), DMM_MSGS_MIN, DMM_MSGS_MAX },
		{ offsetof(struct dmm_arena_hdr, tx_size), DMM_RING_MIN, DMM_RING_MAX },
		{ offsetof(struct dmm_arena_hdr, rx_size), DMM_RING_MIN, DMM_RING_MAX },
	};
	unsigned int i, bit;

	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		struct dmm_arena_hdr h = geometry(64, 256, 256, 65536, 65536);
		__u32 *field = (__u32 *)((char *)&h + limits[i].off);

		ASSERT_EQ(1, dmm_arena_geometry_ok(&h));
		*field = 0;
		EXPECT_EQ(0, dmm_arena_geometry_ok(&h));
		*field = UINT32_MAX;
		EXPECT_EQ(0, dmm_arena_geometry_ok(&h));
		for (bit = 0; bit < 32; bit++) {
			*field = 1U << bit;
			EXPECT_EQ(*field >= limits[i].min && *field <= limits[i].max,
				  dmm_arena_geometry_ok(&h)) {
				TH_LOG("field at %zu: %u", limits[i].off, *field);
			}
			*field = (1U << bit) | 3;
			if (bit > 1)
				EXPECT_EQ(0, dmm_arena_geometry_ok(&h));
		}
	}
}

TEST(geometry_header_size)
{
	struct dmm_arena_hdr h = geometry(64, 256, 256, 65536, 65536);

	h.hdr_size = sizeof(h) - 1;
	EXPECT_EQ(0, dmm_arena_geometry_ok(&h));
	h.hdr_size = sizeof(h) + 1;
	EXPECT_EQ(0, dmm_arena_geometry_ok(&h));
	h.hdr_size = 0;
	EXPECT_EQ(0, dmm_arena_geometry_ok(&h));
}

static void check_layout(struct __test_metadata *_metadata,
			 const struct dmm_arena_hdr *h)
{
	__u64 pair = (__u64)h->tx_size + h->rx_size;
	__u32 last = h->nslots - 1;

	ASSERT_EQ(1, dmm_arena_geometry_ok(h));
	ASSERT_LE(sizeof(*h), DMM_ARENA_OPS_OFF);
	ASSERT_EQ(DMM_ARENA_OPS_OFF + (__u64)h->nops * 64,
		  dmm_arena_events_off(h));
	ASSERT_EQ(dmm_arena_events_off(h) + (__u64)h->nevents * 64,
		  dmm_arena_slots_off(h));
	ASSERT_LE(dmm_arena_slots_off(h) + (__u64)h->nslots * 192,
		  dmm_arena_data_off(h));
	ASSERT_EQ(0, dmm_arena_slots_off(h) % DMM_LINE);
	ASSERT_EQ(0, dmm_arena_data_off(h) % DMM_PAGE);

	/* rings: one after the other, none beyond the end */
	ASSERT_EQ(dmm_arena_data_off(h), dmm_arena_tx_off(h, 0));
	ASSERT_EQ(dmm_arena_tx_off(h, 0) + h->tx_size, dmm_arena_rx_off(h, 0));
	ASSERT_EQ(dmm_arena_data_off(h) + last * pair,
		  dmm_arena_tx_off(h, last));
	ASSERT_EQ(dmm_arena_rx_off(h, last) + h->rx_size, dmm_arena_size(h));
}

TEST(offsets_do_not_overlap)
{
	__u32 nslots, msgs, ring;

	for (nslots = 1; nslots <= DMM_SLOTS_MAX; nslots *= 2)
		for (msgs = DMM_MSGS_MIN; msgs <= DMM_MSGS_MAX; msgs *= 2)
			for (ring = DMM_RING_MIN; ring <= DMM_RING_MAX; ring *= 2) {
				struct dmm_arena_hdr h;

				h = geometry(nslots, msgs, DMM_MSGS_MIN, ring,
					     DMM_RING_MIN);
				check_layout(_metadata, &h);
				h = geometry(nslots, DMM_MSGS_MAX, msgs,
					     DMM_RING_MAX, ring);
				check_layout(_metadata, &h);
			}
}

/* The largest arena is beyond 32 bits; nothing wraps. */
TEST(largest_arena)
{
	struct dmm_arena_hdr h = geometry(DMM_SLOTS_MAX, DMM_MSGS_MAX, DMM_MSGS_MAX,
					  DMM_RING_MAX, DMM_RING_MAX);

	EXPECT_EQ(0x1000ULL + 2 * 0x400000 + 0xc00000 + 0x8000000000ULL,
		  dmm_arena_size(&h));
}

/* One writer to a line: no line of 64 bytes holds fields of both sides. */
TEST(lines_have_one_writer)
{
#define LINE_OF(type, field)	(offsetof(struct type, field) / DMM_LINE)
	static const size_t client[] = {
		LINE_OF(dmm_arena_hdr, op_prod), LINE_OF(dmm_arena_hdr, op_backlog),
		LINE_OF(dmm_arena_hdr, ev_cons),
	};
	static const size_t stack[] = {
		LINE_OF(dmm_arena_hdr, op_cons), LINE_OF(dmm_arena_hdr, ev_prod),
		LINE_OF(dmm_arena_hdr, sleeping), LINE_OF(dmm_arena_hdr, magic),
	};
	static const size_t slot_client[] = {
		LINE_OF(dmm_slot, tx_prod), LINE_OF(dmm_slot, rx_cons),
		LINE_OF(dmm_slot, rx_event), LINE_OF(dmm_slot, tx_room_event),
	};
	static const size_t slot_stack[] = {
		LINE_OF(dmm_slot, tx_cons), LINE_OF(dmm_slot, rx_prod),
		LINE_OF(dmm_slot, tx_event), LINE_OF(dmm_slot, rx_room_event),
		LINE_OF(dmm_slot, srtt_us), LINE_OF(dmm_slot, retrans),
	};
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(client); i++)
		for (j = 0; j < ARRAY_SIZE(stack); j++)
			EXPECT_NE(client[i], stack[j]);
	for (i = 0; i < ARRAY_SIZE(slot_client); i++)
		for (j = 0; j < ARRAY_SIZE(slot_stack); j++)
			EXPECT_NE(slot_client[i], slot_stack[j]);
}

TEST(fallback_words)
{
#define WORD(code, word)	[DMM_FALLBACK_##code] = word,
	static const char *const words[] = { DMM_FALLBACK_REASONS(WORD) };
	unsigned int i, j;

	ASSERT_EQ(DMM_FALLBACK_MAX + 1, ARRAY_SIZE(words));
	for (i = 0; i < ARRAY_SIZE(words); i++) {
		ASSERT_NE(NULL, words[i]);
		EXPECT_EQ(strlen(words[i]),
			  strspn(words[i], "abcdefghijklmnopqrstuvwxyz-"));
		for (j = 0; j < i; j++)
			EXPECT_NE(0, strcmp(words[i], words[j]));
	}
}

TEST_HARNESS_MAIN
