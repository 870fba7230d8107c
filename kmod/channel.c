// SPDX-License-Identifier: GPL-2.0-only
#include <linux/eventfd.h>

#include "arena.h"
#include "channel.h"
#include "listen.h"
#include "sock.h"
#include "stack.h"
#include "trace.h"

/*
 * Barriers of the message rings. The other side is userlib/ (libdmm) or any
 * hostile program:
 *
 *	kernel				worker
 *	op[i] = ...
 *	store-release op_prod (A)	load-acquire op_prod (A)
 *					... op[i]
 *	load-acquire op_cons (B)	store-release op_cons (B)
 *	smp_mb() (C)			full barrier (C)
 *	load sleeping			store sleeping, look at op_prod again
 *
 *	store op_backlog		store op_cons
 *	smp_mb() (F)			full barrier (F)
 *	look at op_cons again		load op_backlog
 *
 *	load-acquire ev_prod (D)	store-release ev_prod (D)
 *	... event[i]
 *	store-release ev_cons (E)	load-acquire ev_cons (E)
 */

static bool op_ring_full(struct dmm_stack *stack)
{
	struct dmm_arena *arena = stack->arena;
	u32 used;

	lockdep_assert_held(&stack->op_lock);

	/* (B). A consumer index out of range counts as a full ring. */
	used = stack->op_prod - smp_load_acquire(&arena->hdr->op_cons);
	return used >= arena->geo.nops;
}

static void op_ring_put(struct dmm_stack *stack, struct dmm_sock *ds, u32 type)
{
	struct dmm_arena *arena = stack->arena;
	struct dmm_op op = {
		.op = type,
		.slot = ds->slot,
		.gen = ds->gen,
	};

	lockdep_assert_held(&stack->op_lock);

	switch (type) {
	case DMM_OP_CONNECT:
		op.connect = ds->op_connect;
		break;
	case DMM_OP_LISTEN:
		op.listen = ds->op_listen;
		break;
	case DMM_OP_ATTACH:
		op.attach = ds->op_attach;
		break;
	case DMM_OP_OPTIONS:
		op.options = ds->op_options;
		break;
	}

	arena->ops[stack->op_prod & (arena->geo.nops - 1)] = op;
	stack->op_prod++;
	smp_store_release(&arena->hdr->op_prod, stack->op_prod);	/* (A) */
}

/* Move what fits of a socket's ops, in the order of enum dmm_op_type. */
static bool op_move(struct dmm_stack *stack, struct dmm_sock *ds)
{
	u32 type;

	while (ds->op_bits) {
		if (op_ring_full(stack))
			return false;
		type = __ffs(ds->op_bits);
		op_ring_put(stack, ds, type);
		ds->op_bits &= ~BIT(type);
	}
	return true;
}

static void ring_doorbell(struct dmm_stack *stack)
{
	smp_mb();	/* (C) */
	if (READ_ONCE(stack->arena->hdr->sleeping))
		eventfd_signal(stack->doorbell);
}

/**
 * dmm_ops_post - send messages about a socket to its worker
 * @ds: the socket
 * @ops: BIT(DMM_OP_*) ...
 *
 * What finds no room waits, merged, until the worker has made some: nothing is
 * lost and nobody waits. In any context. Return: 0, or -ESHUTDOWN when the stack
 * went down; its sockets hear of that by themselves.
 */
int dmm_ops_post(struct dmm_sock *ds, u32 ops)
{
	struct dmm_stack *stack = ds->stack;
	bool room = false;

	spin_lock_bh(&stack->op_lock);
	if (stack->dead) {
		spin_unlock_bh(&stack->op_lock);
		return -ESHUTDOWN;
	}
	ds->op_bits |= ops;
	if (list_empty(&ds->op_node) &&
	    (!list_empty(&stack->op_backlog) || !op_move(stack, ds))) {
		refcount_inc(&ds->refs);
		list_add_tail(&ds->op_node, &stack->op_backlog);
		WRITE_ONCE(stack->arena->hdr->op_backlog, 1);
		/* (F). The worker may have emptied the ring and looked before. */
		smp_mb();
		room = !op_ring_full(stack);
	}
	spin_unlock_bh(&stack->op_lock);
	if (room)
		dmm_ops_flush(stack);

	ring_doorbell(stack);
	return 0;
}

/**
 * dmm_ops_flush - move ops that waited for room
 * @stack: the stack; a dead one's are dropped
 *
 * In any context.
 */
void dmm_ops_flush(struct dmm_stack *stack)
{
	struct dmm_sock *ds, *next;
	LIST_HEAD(done);

	spin_lock_bh(&stack->op_lock);
	list_for_each_entry_safe(ds, next, &stack->op_backlog, op_node) {
		if (!stack->dead && !op_move(stack, ds))
			break;
		list_move_tail(&ds->op_node, &done);
	}
	if (list_empty(&stack->op_backlog))
		WRITE_ONCE(stack->arena->hdr->op_backlog, 0);
	/* Back to "not waiting" under the lock, so that each may be posted again. */
	while ((ds = list_first_entry_or_null(&done, struct dmm_sock, op_node))) {
		list_del_init(&ds->op_node);
		dmm_sock_put(ds);
	}
	spin_unlock_bh(&stack->op_lock);
}

static struct dmm_sock *event_sock(struct dmm_stack *stack,
				   const struct dmm_event *ev)
{
	struct dmm_sock *ds;

	if (ev->slot >= stack->arena->geo.nslots)
		return NULL;

	rcu_read_lock();
	ds = rcu_dereference(stack->slots[ev->slot].ds);
	if (ds && ds->gen != ev->gen) {
		atomic64_inc(&stack->stale_events);
		ds = NULL;
	}
	/*
	 * It knows of none before the op that tells of it. Were its last word taken
	 * here, connect() would come to use a slot of which nobody will ever speak.
	 */
	if (ds && !READ_ONCE(ds->posted))
		ds = NULL;
	if (ds && !refcount_inc_not_zero(&ds->refs))
		ds = NULL;
	rcu_read_unlock();
	return ds;
}

static bool event_deliver(struct dmm_stack *stack, const struct dmm_event *ev)
{
	struct dmm_sock *ds;
	bool ok = true;

	if (ev->ev == DMM_EV_NONE || ev->ev >= __DMM_EV_MAX)
		return false;

	ds = event_sock(stack, ev);
	if (!ds)
		return false;
	if (ev->ev == DMM_EV_INCOMING)
		ok = dmm_listen_incoming(ds, &ev->incoming);
	else
		dmm_sock_event(ds, BIT(ev->ev), ev->error);
	dmm_sock_put(ds);
	return ok;
}

/**
 * dmm_events_consume - take the worker's events
 * @stack: the stack
 * @events: how many were consumed
 * @bad: how many of them were dropped
 *
 * One ring's worth at most, so that a worker cannot keep itself in here. May
 * sleep, but never on a socket's lock. Return: 0, or -EPROTO if the producer's
 * index was out of range.
 */
int dmm_events_consume(struct dmm_stack *stack, u32 *events, u32 *bad)
{
	struct dmm_arena *arena = stack->arena;
	u32 prod, mask = arena->geo.nevents - 1;
	const struct dmm_event *shm;
	struct dmm_event ev;
	unsigned int i;

	*events = 0;
	*bad = 0;

	guard(mutex)(&stack->ev_lock);

	prod = smp_load_acquire(&arena->hdr->ev_prod);	/* (D) */
	if (prod - stack->ev_cons > arena->geo.nevents) {
		WRITE_ONCE(arena->hdr->ev_prod, stack->ev_cons);
		atomic64_inc(&stack->bad_events);
		atomic64_inc(&dmm_totals.bad_events);
		return -EPROTO;
	}

	while (stack->ev_cons != prod) {
		/* The worker may write on: judge a copy. */
		shm = &arena->events[stack->ev_cons & mask];
		ev.ev = READ_ONCE(shm->ev);
		ev.slot = READ_ONCE(shm->slot);
		ev.gen = READ_ONCE(shm->gen);
		ev.error = READ_ONCE(shm->error);
		for (i = 0; i < ARRAY_SIZE(ev.raw); i++)
			ev.raw[i] = READ_ONCE(shm->raw[i]);
		stack->ev_cons++;
		if (!(++*events % 64))
			cond_resched();
		if (event_deliver(stack, &ev))
			continue;
		++*bad;
		atomic64_inc(&stack->bad_events);
		atomic64_inc(&dmm_totals.bad_events);
		trace_dmm_bad_event(stack->id, ev.ev, ev.slot, ev.gen);
	}
	smp_store_release(&arena->hdr->ev_cons, stack->ev_cons);	/* (E) */
	return 0;
}
