/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The adopted socket's state, which hangs in its sock's ULP slot.
 *
 * Two references keep it: the sock's (while it is adopted) and the slot's (while
 * the worker may still speak of it). The slot becomes free when both are gone and
 * a grace period is over, for poll() looks at it under RCU alone.
 */
#ifndef DMM_KMOD_SOCK_H
#define DMM_KMOD_SOCK_H

#include <linux/dmm.h>
#include <net/inet_connection_sock.h>
#include <net/tcp.h>

#include "arena.h"
#include "option.h"
#include "proto.h"
#include "route.h"
#include "stack.h"

/**
 * struct dmm_sock - an adopted socket
 * @refs: see above
 * @rcu: freed after a grace period
 * @free_work: and by this, when much memory is to be given back
 * @sk: the sock, NULL once it is let go; written under its lock, whoever reads it
 *	without that lock takes a reference and looks again
 * @stack: referenced
 * @slot: its slot's number
 * @gen: its generation
 * @shm: the shared half of the slot; hostile
 * @conn: it is a connection's: @shm is there before anybody can find the state. A
 *	listener's comes when it listens, or never; none has rings
 * @path: whither, as the policy saw it, and whence, as the route lookup gave it;
 *	nothing for a listener
 *
 * Under the socket's lock:
 * @tx: transmit ring
 * @rx: receive ring
 * @tx_prod: bytes put into @tx, the truth of shm->tx_prod
 * @rx_cons: bytes taken out of @rx, the truth of shm->rx_cons
 * @opt_seq: dmm_op_options.seq of the last one posted
 * @opt_seen: what of the socket's options that told, and what it could not
 * @quickack: TCP_QUICKACK is on because the program says so
 * @seen_tx: shm->tx_sent, as of the last look; for `ss`, as are these:
 * @seen_acked: shm->tx_cons, likewise
 * @seen_rx: shm->rx_prod, likewise
 * @posted: CONNECT, LISTEN or ATTACH was posted: the worker knows of it. Set before
 *	the op is, so an event about a socket that has it not is a lie
 *
 * @strict: DMM_ASSIGN_F_STRICT
 *
 * Without a lock:
 * @barred: there is nothing to read, whatever the worker says; see protect.c
 * @rx_told: the index up to which whoever sleeps was told of received bytes
 *
 * @served: of a listener: the worker said that it serves it
 * @ended: the worker said that it knows the socket no more
 * @aborted: ABORT was posted: the worker will know it no more
 *
 * Of watch.c, under the socket's spinlock:
 * @moved: when something last moved, jiffies
 * @moved_cons: the worker's index, as it was then
 * @moved_state: the socket's, likewise
 * @idle_tx: this side's index, a second ago
 * @idle_rx: likewise
 *
 * Under the socket's spinlock:
 * @pending: events that came while somebody owned the socket, BIT(DMM_EV_*), and
 *	DMM_PEND_RELISTEN
 * @pending_err: the error of a pending DMM_EV_ERROR
 *
 * Under waiting_lock, see relisten.c:
 * @wait_node: a listener's, while its stack is not there
 *
 * Under dmm_stack.op_lock:
 * @op_node: in dmm_stack.op_backlog while @op_bits is not zero
 * @op_bits: ops that wait for room, BIT(DMM_OP_*)
 * @op_connect: for DMM_OP_CONNECT
 * @op_listen: for DMM_OP_LISTEN
 * @op_attach: for DMM_OP_ATTACH
 * @op_options: for DMM_OP_OPTIONS
 */
struct dmm_sock {
	refcount_t refs;
	struct rcu_head rcu;
	struct work_struct free_work;
	struct sock *sk;
	struct dmm_stack *stack;
	u32 slot;
	u32 gen;
	struct dmm_slot *shm;
	bool conn;
	struct dmm_path path;

	struct dmm_ring tx;
	struct dmm_ring rx;
	u32 tx_prod;
	u32 rx_cons;
	u32 opt_seq;
	struct dmm_opt_seen opt_seen;
	bool quickack;
	u32 seen_tx;
	u32 seen_acked;
	u32 seen_rx;
	bool posted;
	bool strict;
	bool barred;
	u32 rx_told;
	bool served;
	bool ended;
	bool aborted;

	unsigned long moved;
	u32 moved_cons;
	u8 moved_state;
	u32 idle_tx;
	u32 idle_rx;

	unsigned long pending;
	int pending_err;

	struct list_head wait_node;

	struct list_head op_node;
	u32 op_bits;
	union {
		struct dmm_op_connect op_connect;
		struct dmm_op_listen op_listen;
		struct dmm_op_attach op_attach;
	};
	struct dmm_op_options op_options;
};

/* In dmm_sock.pending, where no event is: the listener's stack is back. */
#define DMM_PEND_RELISTEN	BIT(DMM_EV_NONE)

extern const struct tcp_ulp_ops dmm_ulp_ops;

/* The state of @sk, NULL if it is not adopted; under @sk's lock. */
static inline struct dmm_sock *dmm_sk(const struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);

	if (icsk->icsk_ulp_ops != &dmm_ulp_ops)
		return NULL;
	return rcu_dereference_protected(icsk->icsk_ulp_data,
					 lockdep_sock_is_held(sk));
}

/*
 * The state of an adopted connection, with its rings, else NULL; under @sk's lock.
 * Whoever slept asks again: while it did, another thread may have ended the
 * connection and made anything of the socket, a listener as well.
 */
static inline struct dmm_sock *dmm_conn(const struct sock *sk)
{
	return dmm_is_adopted(sk) ? dmm_sk(sk) : NULL;
}

/* The state of @sk under rcu_read_lock(), for whoever has not the lock. */
static inline struct dmm_sock *dmm_sk_rcu(const struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);

	if (READ_ONCE(icsk->icsk_ulp_ops) != &dmm_ulp_ops)
		return NULL;
	return rcu_dereference(icsk->icsk_ulp_data);
}

/* Likewise, of a connection, adopted or about to be: its slot may be looked at. */
static inline struct dmm_sock *dmm_conn_rcu(const struct sock *sk)
{
	struct dmm_sock *ds = dmm_sk_rcu(sk);

	return ds && ds->conn ? ds : NULL;
}

struct dmm_sock *dmm_sock_alloc(struct dmm_stack *stack, struct sock *sk,
				bool conn);
int dmm_sock_rings(struct dmm_sock *ds, gfp_t gfp);
void dmm_sock_put(struct dmm_sock *ds);
struct sock *dmm_sock_hold_sk(struct dmm_sock *ds);
void dmm_sock_event(struct dmm_sock *ds, unsigned long events, int err);
void dmm_sock_pending(struct sock *sk);
void dmm_sock_fail(struct sock *sk, struct dmm_sock *ds, int err);
void dmm_sock_broken(struct sock *sk, struct dmm_sock *ds);
void dmm_sock_post(struct dmm_sock *ds, u32 op);
void dmm_sock_post_abort(struct dmm_sock *ds);
void dmm_sock_post_options(struct sock *sk, struct dmm_sock *ds,
			   bool keepalive);

void dmm_sock_sync(struct sock *sk, struct dmm_sock *ds);
u32 dmm_sock_rx_avail(const struct dmm_sock *ds);
u32 dmm_sock_tx_used(const struct dmm_sock *ds);
u32 dmm_sock_tx_unsent(const struct dmm_sock *ds);
void dmm_sock_ip_options(const struct sock *sk, u8 *tos, u8 *ttl);
bool dmm_sock_arm_rx(struct dmm_sock *ds);
void dmm_sock_arm_room(struct dmm_sock *ds, u32 bytes);

/* More than a ring can hold: the worker's index is out of range. */
#define DMM_RING_BROKEN		U32_MAX

#endif /* DMM_KMOD_SOCK_H */
