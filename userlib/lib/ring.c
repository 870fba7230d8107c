// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>

#include "barrier.h"
#include "ring.h"

/*
 * Load the other side's index and check it. A producer's is never behind the
 * consumer's and at most a ring ahead; neither ever goes back.
 */
static int look(struct dmm_ring *r, __u32 *used)
{
	__u32 other = load_acquire(r->other);
	__u32 n = r->producer ? r->index - other : other - r->index;

	/* what was once shown as produced, or consumed, stays so */
	if (n > r->size ||
	    (r->producer ? n > r->index - r->seen : n < r->seen - r->index))
		return -EPROTO;
	r->seen = other;
	*used = n;
	return 0;
}

static __u32 min_u32(__u32 a, __u32 b)
{
	return a < b ? a : b;
}

__u32 dmm_ring_size(const struct dmm_ring *r)
{
	return r->size;
}

int dmm_ring_space(struct dmm_ring *r, void **span)
{
	__u32 at = r->index & (r->size - 1);
	__u32 used;
	int ret;

	ret = look(r, &used);
	if (ret)
		return ret;
	if (span)
		*span = r->base + at;
	return min_u32(r->size - used, r->size - at);
}

void dmm_ring_produce(struct dmm_ring *r, __u32 len)
{
	r->index += len;
	/* pairs with the acquire in the consumer's look() */
	store_release(r->mine, r->index);
}

int dmm_ring_write(struct dmm_ring *r, const void *data, __u32 len)
{
	const __u8 *from = data;
	__u32 at = r->index & (r->size - 1);
	__u32 used, first;
	int ret;

	ret = look(r, &used);
	if (ret)
		return ret;
	len = min_u32(len, r->size - used);
	first = min_u32(len, r->size - at);
	memcpy(r->base + at, from, first);
	memcpy(r->base, from + first, len - first);
	dmm_ring_produce(r, len);
	return len;
}

int dmm_ring_peek(struct dmm_ring *r, __u32 off, const void **span)
{
	__u32 at = (r->index + off) & (r->size - 1);
	__u32 used;
	int ret;

	ret = look(r, &used);
	if (ret)
		return ret;
	*span = r->base + at;
	if (off >= used)
		return 0;
	return min_u32(used - off, r->size - at);
}

void dmm_ring_consume(struct dmm_ring *r, __u32 len)
{
	r->index += len;
	/* pairs with the acquire in the producer's look() */
	store_release(r->mine, r->index);
}

int dmm_ring_read(struct dmm_ring *r, void *buf, __u32 len)
{
	__u8 *to = buf;
	__u32 at = r->index & (r->size - 1);
	__u32 used, first;
	int ret;

	ret = look(r, &used);
	if (ret)
		return ret;
	len = min_u32(len, used);
	first = min_u32(len, r->size - at);
	memcpy(to, r->base + at, first);
	memcpy(to + first, r->base, len - first);
	dmm_ring_consume(r, len);
	return len;
}

int dmm_ring_moved(struct dmm_ring *r)
{
	__u32 used, moved;
	int ret;

	ret = look(r, &used);
	if (ret)
		return ret;
	moved = r->seen - r->asked;
	r->asked = r->seen;
	return moved;
}

int dmm_ring_used(struct dmm_ring *r)
{
	__u32 used;
	int ret;

	ret = look(r, &used);
	return ret ? ret : (int)used;
}

bool dmm_ring_due(struct dmm_ring *r)
{
	__u32 old = r->told;

	if (r->index == old)
		return false;
	r->told = r->index;
	/* our index before the look at the event; pairs with dmm_ring_arm() */
	full_barrier();
	return dmm_need_event(load_relaxed(r->other_event), r->index, old);
}

bool dmm_ring_arm(struct dmm_ring *r, __u32 ahead)
{
	__u32 event = r->seen + ahead;
	__u32 old = r->seen;

	store_relaxed(r->my_event, event);
	/* the event before the look at the index; pairs with dmm_ring_due() */
	full_barrier();
	return dmm_need_event(event, load_acquire(r->other), old);
}

/* ------------------------------------------------------------------------- */

/* Add a message; -ENOSPC when full, -EPROTO on a wild index. */
int msg_ring_put(struct msg_ring *r, const void *msg)
{
	__u32 used = r->index - load_acquire(r->other);

	if (used > r->n)
		return -EPROTO;
	if (used == r->n)
		return -ENOSPC;
	memcpy(r->base + (size_t)(r->index & (r->n - 1)) * MSG_SIZE, msg,
	       MSG_SIZE);
	r->index++;
	return 0;
}

/* Publish what was added (producer) or taken (consumer); how many. */
__u32 msg_ring_flush(struct msg_ring *r)
{
	__u32 n = r->index - r->published;

	if (n) {
		/* pairs with the acquire in msg_ring_get(), msg_ring_put() */
		store_release(r->mine, r->index);
		r->published = r->index;
	}
	return n;
}

/* Take a copy of a message: 1, 0, or -EPROTO and all of it skipped. */
int msg_ring_get(struct msg_ring *r, void *msg)
{
	__u32 prod = load_acquire(r->other);
	__u32 used = prod - r->index;

	if (!used)
		return 0;
	/* what is taken but not yet given back counts as used, too */
	if (prod - r->published > r->n) {
		r->index = prod;
		return -EPROTO;
	}
	memcpy(msg, r->base + (size_t)(r->index & (r->n - 1)) * MSG_SIZE,
	       MSG_SIZE);
	r->index++;
	return 1;
}

bool msg_ring_pending(const struct msg_ring *r)
{
	return load_acquire(r->other) != r->index;
}

/* How many can be taken; of a wild index, as many as there can be. */
__u32 msg_ring_waiting(const struct msg_ring *r)
{
	return min_u32(load_acquire(r->other) - r->index, r->n);
}
