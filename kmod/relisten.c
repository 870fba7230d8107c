// SPDX-License-Identifier: GPL-2.0-only
/*
 * Listeners whose stack went away, until it comes back.
 *
 * A listener outlives its worker: the kernel goes on serving it. When a stack of the
 * same id, name and namespace is attached again, the listener is offered to it, so
 * that a worker's restart costs a server its connections and nothing else.
 *
 * Meanwhile the listener has a state without a slot, whose stack is the dead one's
 * husk (dmm_stack.husk): the dead stack itself would keep its whole arena. The state
 * is on a list:
 *
 *	worker's death				attach
 *	put the state on the list (A)		publish the stack (B)
 *	look for the stack (B)			look through the list (A)
 *
 * (A) is under waiting_lock, so one of the two sees the other. Who takes the state
 * off the list offers the listener, under the socket's spinlock, when nobody owns the
 * socket; else its owner does, when it lets go (dmm_sock.pending). Both look whether
 * the state is still the socket's.
 */
#include <net/sock.h>

#include "adopt.h"
#include "listen.h"
#include "proto.h"
#include "protect.h"
#include "relisten.h"
#include "route.h"
#include "sock.h"
#include "stack.h"

/* By dmm_sock.wait_node. Inside a socket's spinlock; nothing is taken inside it. */
static LIST_HEAD(waiting);
static DEFINE_SPINLOCK(waiting_lock);

static bool same_stack(const struct dmm_stack *a, const struct dmm_stack *b)
{
	return a->id == b->id && net_eq(a->net, b->net) &&
	       !strcmp(a->name, b->name);
}

/* The live stack of that name, referenced, or NULL. */
static struct dmm_stack *find_again(const struct dmm_stack *husk)
{
	struct dmm_stack *stack = dmm_stack_lookup(husk->id);

	if (stack && !same_stack(stack, husk)) {
		dmm_stack_put(stack);
		stack = NULL;
	}
	return stack;
}

/* One state of the listener for another. */
static void exchange(struct sock *sk, struct dmm_sock *old, struct dmm_sock *ds)
{
	ds->strict = old->strict;
	rcu_assign_pointer(inet_csk(sk)->icsk_ulp_data, ds);
	WRITE_ONCE(old->sk, NULL);
	dmm_sock_put(old);
}

/**
 * dmm_listens_too - is it a listener that a stack serves too, or will again?
 * @sk: a socket; with its lock or without
 */
bool dmm_listens_too(const struct sock *sk)
{
	const struct dmm_sock *ds;
	bool ret = false;

	rcu_read_lock();
	if (dmm_is_listening(sk)) {
		ds = dmm_sk_rcu(sk);
		ret = ds && ds->stack != dmm_nobody;
	}
	rcu_read_unlock();
	return ret;
}

/**
 * dmm_listen_alone - the kernel goes on serving a listener without its stack
 * @sk: the listener, in TCP_LISTEN; the caller holds its spinlock, and nobody owns it,
 *	or the caller does
 * @ds: its state
 *
 * It keeps our operations while it listens: the stack's children may wait in its
 * queue, and TCP ends those by ->disconnect().
 */
void dmm_listen_alone(struct sock *sk, struct dmm_sock *ds)
{
	struct dmm_sock *none = dmm_sock_alloc(dmm_nobody, sk, false);

	dmm_relisten_forget(ds);
	dmm_sock_post_abort(ds);
	/* Without memory it keeps its slot. */
	if (none)
		exchange(sk, ds, none);
}

/*
 * Offer the listener to @stack. If that cannot be, the kernel serves it alone for
 * good, but for -ESHUTDOWN: the stack is gone already, @ds waits.
 */
static int offer(struct sock *sk, struct dmm_sock *ds, struct dmm_stack *stack)
{
	enum dmm_fallback reason = DMM_FALLBACK_NONE;
	struct dmm_sock *new = NULL;
	int err = 0;

	if (sk->sk_state != TCP_LISTEN)
		return 0;
	reason = dmm_protect_check(sk, true);
	if (!reason && !dmm_listen_route(sk, stack))
		reason = DMM_FALLBACK_ROUTE;
	if (reason)
		goto fallback;
	new = dmm_sock_alloc(stack, sk, false);
	if (!new) {
		reason = DMM_FALLBACK_NO_MEMORY;
		goto fallback;
	}
	err = dmm_stack_slot_take(stack, new, sk);
	if (err) {
		if (err != -ESHUTDOWN)
			reason = dmm_stack_slot_reason(err);
		goto fallback;
	}

	exchange(sk, ds, new);
	/* Should this fail: dmm_stack_down() comes by this slot, and sends ERROR. */
	dmm_listen_post(sk, new);
	return 0;

fallback:
	if (new)
		dmm_sock_put(new);
	if (!reason)
		return err;
	dmm_fallback(stack, sk, stack->id, reason);
	dmm_listen_alone(sk, ds);
	return 0;
}

/**
 * dmm_relisten_wait - a listener's stack is not there: wait, or go on with a new one
 * @sk: the listener, with one of our states; the caller holds its spinlock, and
 *	nobody owns it
 */
void dmm_relisten_wait(struct sock *sk)
{
	struct dmm_sock *ds = dmm_sk(sk), *new;
	struct dmm_stack *stack = ds->stack;
	int err;

	if (sk->sk_state != TCP_LISTEN)
		return;		/* It is being closed. */
	if (ds->shm) {
		/*
		 * Ended by a worker that lives: the kernel's alone. The acquire pairs
		 * with the release in dmm_stack_down().
		 */
		if (!smp_load_acquire(&stack->dead) || !stack->husk) {
			dmm_listen_alone(sk, ds);
			return;
		}
		new = dmm_sock_alloc(stack->husk, sk, false);
		if (!new) {
			dmm_fallback(NULL, sk, stack->id,
				     DMM_FALLBACK_NO_MEMORY);
			dmm_listen_alone(sk, ds);
			return;
		}
		exchange(sk, ds, new);
		ds = new;
	}

	do {
		spin_lock_bh(&waiting_lock);		/* (A) */
		if (list_empty(&ds->wait_node))
			list_add_tail(&ds->wait_node, &waiting);
		spin_unlock_bh(&waiting_lock);

		stack = find_again(ds->stack);		/* (B) */
		if (!stack)
			return;
		dmm_relisten_forget(ds);
		err = offer(sk, ds, stack);
		dmm_stack_put(stack);
	} while (err == -ESHUTDOWN);
}

/**
 * dmm_relisten_forget - a state is let go, or no longer waits
 * @ds: the state, maybe not on the list
 *
 * In any context.
 */
void dmm_relisten_forget(struct dmm_sock *ds)
{
	spin_lock_bh(&waiting_lock);
	list_del_init(&ds->wait_node);
	spin_unlock_bh(&waiting_lock);
}

/* The next one that waits for @stack, taken off the list, referenced. */
static struct dmm_sock *take_next(const struct dmm_stack *stack)
{
	struct dmm_sock *ds;

	spin_lock_bh(&waiting_lock);
	list_for_each_entry(ds, &waiting, wait_node) {
		if (!same_stack(ds->stack, stack))
			continue;
		list_del_init(&ds->wait_node);
		/* Its socket has a reference until dmm_relisten_forget(). */
		refcount_inc(&ds->refs);
		spin_unlock_bh(&waiting_lock);
		return ds;
	}
	spin_unlock_bh(&waiting_lock);
	return NULL;
}

/**
 * dmm_relisten_attached - offer a stack the listeners that wait for it
 * @stack: the stack, published; the caller has a reference
 *
 * In process context; never sleeps on a socket's lock.
 */
void dmm_relisten_attached(struct dmm_stack *stack)
{
	struct dmm_sock *ds;
	struct sock *sk;

	while ((ds = take_next(stack))) {
		sk = dmm_sock_hold_sk(ds);
		if (sk) {
			local_bh_disable();
			bh_lock_sock(sk);
			if (dmm_sk(sk) != ds)
				;
			else if (sock_owned_by_user(sk))
				ds->pending |= DMM_PEND_RELISTEN;
			else
				dmm_relisten_wait(sk);
			bh_unlock_sock(sk);
			local_bh_enable();
			sock_put(sk);
		}
		dmm_sock_put(ds);
	}
}
