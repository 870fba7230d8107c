// SPDX-License-Identifier: GPL-2.0-only
/*
 * What others read straight out of struct tcp_sock: inet_diag (`ss`) and
 * /proc/net/tcp show queues, round trip time and the like without a call of ours.
 * System calls of the program keep them fresh; for a program that makes none, once a
 * second does.
 */
#include <linux/workqueue.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "arena.h"
#include "proto.h"
#include "refresh.h"
#include "sock.h"
#include "stack.h"

static void refresh_sock(struct dmm_sock *ds)
{
	struct sock *sk = dmm_sock_hold_sk(ds);

	if (!sk)
		return;
	local_bh_disable();
	bh_lock_sock(sk);
	/* Whoever owns it is in a system call, and does it by himself. */
	if (dmm_sk(sk) == ds && dmm_is_adopted(sk) && sk->sk_state != TCP_CLOSE &&
	    !sock_owned_by_user(sk))
		dmm_sock_sync(sk, ds);
	bh_unlock_sock(sk);
	local_bh_enable();
	sock_put(sk);
}

/* Ends by itself when the last socket has gone, or the stack. */
static void refresh_work(struct work_struct *work)
{
	struct dmm_stack *stack = container_of(to_delayed_work(work),
					       struct dmm_stack, refresh);
	struct dmm_sock *ds;
	u32 i;

	for (i = 0; i < stack->arena->geo.nslots; i++) {
		rcu_read_lock();
		ds = rcu_dereference(stack->slots[i].ds);
		if (ds && READ_ONCE(ds->posted))
			refresh_sock(ds);
		rcu_read_unlock();
		if (!(i % 64))
			cond_resched();
	}

	spin_lock_bh(&stack->slot_lock);
	if (stack->nsocks)
		dmm_refresh_start(stack);
	spin_unlock_bh(&stack->slot_lock);
}

void dmm_refresh_init(struct dmm_stack *stack)
{
	INIT_DEFERRABLE_WORK(&stack->refresh, refresh_work);
}

/**
 * dmm_refresh_start - a stack has sockets
 * @stack: the stack; the caller holds its slot_lock. Nothing if it is down
 */
void dmm_refresh_start(struct dmm_stack *stack)
{
	lockdep_assert_held(&stack->slot_lock);
	if (!stack->dead)
		schedule_delayed_work(&stack->refresh, HZ);
}

/**
 * dmm_refresh_stop - a stack is down
 * @stack: the stack, dead
 *
 * Sleeps until it has ended.
 */
void dmm_refresh_stop(struct dmm_stack *stack)
{
	cancel_delayed_work_sync(&stack->refresh);
}
