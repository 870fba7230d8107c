/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel: one side's view of an arena (linux/dmm.h tells what that is).
 *
 * The stack side creates the memory, the client side maps it. Both then send and
 * receive messages and reach the byte rings of each slot here. Everything that
 * the other side can write is loaded once and checked as a copy; what is out of
 * range gives -EPROTO, and nothing outside the arena is ever read or written.
 *
 * A channel belongs to one thread. Functions that can fail return 0 or a count,
 * or a negative errno.
 */
#ifndef DMM_CHAN_H
#define DMM_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/dmm.h>

#include <dmm/ring.h>

struct dmm_chan;

/**
 * struct dmm_chan_opts - geometry of a new arena; zero means the default
 * @sz: sizeof(struct dmm_chan_opts)
 * @nslots: sockets, a power of two; 16384
 * @nops: op ring, messages; 4096
 * @nevents: event ring, messages; 4096
 * @tx_size: transmit ring of a socket, bytes; 256 KiB
 * @rx_size: receive ring of a socket, bytes; 256 KiB
 */
struct dmm_chan_opts {
	size_t sz;
	__u32 nslots;
	__u32 nops;
	__u32 nevents;
	__u32 tx_size;
	__u32 rx_size;
};

/**
 * dmm_chan_create() - make an arena and be its stack side
 * @chanp: set to the channel, owned by the caller
 * @opts: geometry, or NULL
 *
 * The memory is a sealed memfd that is sparse: pages come when touched.
 *
 * Return: 0; -EINVAL, an impossible geometry or @opts->sz; -ENOMEM and what
 * memfd_create(2), ftruncate(2), mmap(2) say.
 */
int dmm_chan_create(struct dmm_chan **chanp, const struct dmm_chan_opts *opts);

/**
 * dmm_chan_map() - map another's arena and be its client side
 * @chanp: set to the channel, owned by the caller
 * @fd: the memfd; stays the caller's
 *
 * The geometry is copied and checked here, and never looked at again. The memfd
 * has to be sealed against shrinking, so that no access can fault.
 *
 * Return: 0; -EPROTO, another magic, version or geometry, another size than the
 * geometry's, or unsealed; -ENOMEM and what fstat(2), mmap(2) say.
 */
int dmm_chan_map(struct dmm_chan **chanp, int fd);

/** dmm_chan_destroy() - unmap and forget; NULL is fine */
void dmm_chan_destroy(struct dmm_chan *chan);

/** dmm_chan_fd() - the memfd, owned by the channel; -1 on the client side */
int dmm_chan_fd(const struct dmm_chan *chan);

/** dmm_chan_nslots() - number of slots */
__u32 dmm_chan_nslots(const struct dmm_chan *chan);

/**
 * dmm_chan_tx(), dmm_chan_rx() - this side's view of a slot's ring
 * @chan: the channel
 * @slot: below dmm_chan_nslots(); the caller checks
 *
 * The stack side consumes tx and produces rx, the client side the reverse.
 */
struct dmm_ring *dmm_chan_tx(struct dmm_chan *chan, __u32 slot);
struct dmm_ring *dmm_chan_rx(struct dmm_chan *chan, __u32 slot);

/**
 * dmm_chan_slot_open() - begin a slot's life on this side
 * @chan: the channel
 * @slot: below dmm_chan_nslots(); the caller checks
 *
 * The client calls it before it sends DMM_OP_CONNECT: the slot is cleared. The
 * stack calls it on receipt: its private indices start from zero again.
 */
void dmm_chan_slot_open(struct dmm_chan *chan, __u32 slot);

/**
 * dmm_chan_trim() - stack: give the memory of a slot's receive ring back
 * @chan: the channel
 * @slot: a slot in use
 *
 * If something was put there since, the ring is empty, and the client holds no page of
 * it (dmm_slot.rx_idle). Costs little where that is not so. Return: whether it was.
 */
bool dmm_chan_trim(struct dmm_chan *chan, __u32 slot);

/** struct dmm_slot_info - what dmm_chan_slot_info() shows to the client */
struct dmm_slot_info {
	__u32 srtt_us;
	__u32 snd_cwnd;
	__u32 snd_mss;
	__u32 retrans;
};

/** dmm_chan_slot_info() - stack: write a slot's information for people */
void dmm_chan_slot_info(struct dmm_chan *chan, __u32 slot,
			const struct dmm_slot_info *info);

/**
 * dmm_chan_tx_used() - stack: what a slot's transmit ring holds
 * @chan: the channel
 * @slot: an open slot
 * @more: set to whether the client said (MSG_MORE) that more follows its last byte
 *
 * Return: bytes, those that wait for their acknowledgement included, or -EPROTO.
 */
int dmm_chan_tx_used(struct dmm_chan *chan, __u32 slot, bool *more);

/** dmm_chan_opt_seq() - stack: the slot's opt_seq, as of the bytes last looked at */
__u32 dmm_chan_opt_seq(struct dmm_chan *chan, __u32 slot);

/**
 * dmm_chan_tx_sent() - stack: the first @len of these bytes left at least once
 * @chan: the channel
 * @slot: an open slot
 * @len: bytes from the first that is not consumed
 *
 * Return: the index that they reach.
 */
__u32 dmm_chan_tx_sent(struct dmm_chan *chan, __u32 slot, __u32 len);

/**
 * dmm_chan_op_get() - stack: take an op
 * @chan: the channel
 * @op: filled with a copy
 *
 * Return: 1; 0, there is none; -EPROTO, the producer's index is out of range (the
 * ring is then skipped up to it).
 */
int dmm_chan_op_get(struct dmm_chan *chan, struct dmm_op *op);

/** dmm_chan_ops_waiting() - stack: how many ops there are now */
__u32 dmm_chan_ops_waiting(const struct dmm_chan *chan);

/** dmm_chan_op_done() - stack: give the space of the ops taken back */
void dmm_chan_op_done(struct dmm_chan *chan);

/** dmm_chan_op_backlog() - stack: does the client wait for room in the op ring? */
bool dmm_chan_op_backlog(struct dmm_chan *chan);

/**
 * dmm_chan_event_put() - stack: add an event, not yet visible
 * @chan: the channel
 * @ev: copied
 *
 * Return: 0; -ENOSPC, the ring is full; -EPROTO, the consumer's index is out of
 * range.
 */
int dmm_chan_event_put(struct dmm_chan *chan, const struct dmm_event *ev);

/** dmm_chan_event_flush() - stack: make all added events visible; how many */
__u32 dmm_chan_event_flush(struct dmm_chan *chan);

/** dmm_chan_event_unread() - stack: are there events that the client has not taken? */
bool dmm_chan_event_unread(const struct dmm_chan *chan);

/**
 * dmm_chan_client_polls() - stack: will the client see events without a doorbell?
 * @chan: the channel
 *
 * To be asked after dmm_chan_event_flush(). A full barrier stands before the look;
 * it pairs with the client's, between its ev_polling = 0 and its look at ev_prod.
 */
bool dmm_chan_client_polls(struct dmm_chan *chan);

/** dmm_chan_stack_cpu() - stack: say where it runs: a CPU's number plus one, 0: not said */
void dmm_chan_stack_cpu(struct dmm_chan *chan, __u32 cpu);

/** dmm_chan_full() - stack: say whether its user has all the slots it may have */
void dmm_chan_full(struct dmm_chan *chan, bool full);

/** dmm_chan_client_cpu() - stack: where the client says that it slept last, likewise */
__u32 dmm_chan_client_cpu(const struct dmm_chan *chan);

/**
 * dmm_chan_sleep() - stack: about to sleep, or awake again
 * @chan: the channel
 * @how: DMM_SLEEP_*: what to be woken for; 0, awake again
 *
 * Going to sleep, a full barrier follows that pairs with the one in
 * dmm_chan_op_flush().
 *
 * Return: true if ops are waiting, so that the caller must not sleep.
 */
bool dmm_chan_sleep(struct dmm_chan *chan, __u32 how);

/** dmm_chan_op_put() - client: add an op, not yet visible; 0, -ENOSPC, -EPROTO */
int dmm_chan_op_put(struct dmm_chan *chan, const struct dmm_op *op);

/**
 * dmm_chan_op_flush() - client: make all added ops visible
 * @chan: the channel
 *
 * Return: true if the stack sleeps and its doorbell has to be rung; once for each sleep.
 */
bool dmm_chan_op_flush(struct dmm_chan *chan);

/** dmm_chan_event_get() - client: take an event; 1, 0 or -EPROTO */
int dmm_chan_event_get(struct dmm_chan *chan, struct dmm_event *ev);

/** dmm_chan_event_done() - client: give the space of the events taken back */
void dmm_chan_event_done(struct dmm_chan *chan);

#endif /* DMM_CHAN_H */
