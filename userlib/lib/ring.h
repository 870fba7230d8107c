/* SPDX-License-Identifier: Apache-2.0 */
/* What is inside the opaque ring views; private to libdmm. */
#ifndef DMM_LIB_RING_H
#define DMM_LIB_RING_H

#include <stdbool.h>
#include <linux/dmm.h>

#include <dmm/ring.h>

/*
 * @base: the ring's bytes, @size of them
 * @mine: our index as the other side sees it; written, never read
 * @other: the other side's index
 * @my_event: where we arm
 * @other_event: where the other side arms
 * @index: our index
 * @seen: the other's index when last loaded and found good
 * @asked: the other's index when dmm_ring_moved() was last called
 * @told: our index when dmm_ring_due() was last called
 * @trimmed: our index when the ring's memory was last given back
 * @producer: which side we are
 */
struct dmm_ring {
	__u8 *base;
	__u32 *mine;
	const __u32 *other;
	__u32 *my_event;
	const __u32 *other_event;
	__u32 size;
	__u32 index;
	__u32 seen;
	__u32 asked;
	__u32 told;
	__u32 trimmed;
	bool producer;
};

/* A ring of 64-byte messages; the words mean the same. */
struct msg_ring {
	__u8 *base;
	__u32 *mine;
	const __u32 *other;
	__u32 n;
	__u32 index;
	__u32 published;
};

#define MSG_SIZE	DMM_LINE

int msg_ring_put(struct msg_ring *r, const void *msg);
__u32 msg_ring_flush(struct msg_ring *r);
int msg_ring_get(struct msg_ring *r, void *msg);
__u32 msg_ring_waiting(const struct msg_ring *r);
bool msg_ring_pending(const struct msg_ring *r);

#endif /* DMM_LIB_RING_H */
