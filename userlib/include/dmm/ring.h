/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte rings: the stream of one socket in one direction.
 *
 * A ring has one producer and one consumer, in two processes that need not trust
 * each other. A struct dmm_ring is one side's view of it: that side's own index is
 * kept privately (the copy in shared memory is only published, never read back),
 * the other's is loaded once per call and checked. A function that finds it out of
 * range, or moved backwards, returns -EPROTO and touches nothing.
 *
 * All sizes are in bytes. No function blocks, allocates or takes a lock; a view
 * belongs to one thread. Views come from dmm_chan_tx() and dmm_chan_rx() and live
 * as long as their channel.
 */
#ifndef DMM_RING_H
#define DMM_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

struct dmm_ring;

/**
 * dmm_ring_size() - the ring's size
 * @r: either side's view
 *
 * Return: bytes, a power of two.
 */
__u32 dmm_ring_size(const struct dmm_ring *r);

/**
 * dmm_ring_space() - where the producer may write
 * @r: the producer's view
 * @span: set to the first free byte; NULL if not wanted
 *
 * Return: free bytes that are contiguous at *@span (less than all that is free
 * when the ring wraps there), 0 if full, -EPROTO.
 */
int dmm_ring_space(struct dmm_ring *r, void **span);

/**
 * dmm_ring_produce() - publish what was written
 * @r: the producer's view
 * @len: bytes, at most what dmm_ring_space() last returned
 *
 * Pairs with the acquire in dmm_ring_peek().
 */
void dmm_ring_produce(struct dmm_ring *r, __u32 len);

/**
 * dmm_ring_write() - copy bytes in and publish them
 * @r: the producer's view
 * @data: the bytes
 * @len: how many
 *
 * Return: bytes taken, 0..@len, less when the ring fills up; -EPROTO.
 */
int dmm_ring_write(struct dmm_ring *r, const void *data, __u32 len);

/**
 * dmm_ring_peek() - what the consumer may read
 * @r: the consumer's view
 * @off: distance from the first byte not yet consumed
 * @span: set to the byte at @off
 *
 * The bytes stay the producer's to change: a consumer copies before it checks.
 *
 * Return: bytes that are contiguous at *@span, 0 if there are none at @off,
 * -EPROTO.
 */
int dmm_ring_peek(struct dmm_ring *r, __u32 off, const void **span);

/**
 * dmm_ring_consume() - give space back
 * @r: the consumer's view
 * @len: bytes, at most what is there
 *
 * Pairs with the acquire in dmm_ring_space().
 */
void dmm_ring_consume(struct dmm_ring *r, __u32 len);

/**
 * dmm_ring_read() - copy bytes out and give their space back
 * @r: the consumer's view
 * @buf: where to
 * @len: its size
 *
 * Return: bytes copied, 0..@len; -EPROTO.
 */
int dmm_ring_read(struct dmm_ring *r, void *buf, __u32 len);

/**
 * dmm_ring_moved() - how far the other side went since this was last asked
 * @r: either side's view
 *
 * Return: bytes produced (asked by the consumer) or consumed (asked by the
 * producer) since the last call, 0 for none; -EPROTO.
 */
int dmm_ring_moved(struct dmm_ring *r);

/**
 * dmm_ring_used() - bytes that are in the ring
 * @r: either side's view
 *
 * Return: bytes produced and not yet consumed; -EPROTO.
 */
int dmm_ring_used(struct dmm_ring *r);

/**
 * dmm_ring_due() - does the other side want to be told?
 * @r: either side's view
 *
 * Says whether our index, since the last call, passed the one that the other side
 * armed. Orders our publication before the look with a full barrier, which pairs
 * with the one in dmm_ring_arm().
 */
bool dmm_ring_due(struct dmm_ring *r);

/**
 * dmm_ring_arm() - ask to be told when the other side moves on
 * @r: either side's view
 * @ahead: how many bytes, beyond where it was last seen, it may move silently
 *
 * Orders the arming before another look at the other's index with a full
 * barrier, which pairs with the one in dmm_ring_due().
 *
 * Return: true if the other side is already beyond that point, so that no message
 * may come and the caller has to look by itself.
 */
bool dmm_ring_arm(struct dmm_ring *r, __u32 ahead);

#endif /* DMM_RING_H */
