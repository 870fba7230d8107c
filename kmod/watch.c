// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is looked after once a second, for whatever the worker does or does not:
 *
 *  - Time-outs. A worker has TCP's timers, but one that is stopped, in a loop or in a
 *    debugger has none; then the kernel's own end a connect(), what the program gave
 *    a TCP_USER_TIMEOUT, and what it has closed. They are those of tcp_timer.c, to the
 *    second.
 *  - Guards that came later, see protect.c.
 *  - Memory of rings that are empty.
 *  - What others read straight out of struct tcp_sock: inet_diag (`ss`) and
 *    /proc/net/tcp show queues, round trip time and the like without a call of ours.
 *    System calls of the program keep them fresh; for one that makes none, this does.
 */
#include <linux/log2.h>
#include <linux/workqueue.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "arena.h"
#include "option.h"
#include "proto.h"
#include "protect.h"
#include "sock.h"
#include "stack.h"
#include "watch.h"

/* How long @retries after the first time-out of @base take; tcp_model_timeout(). */
static unsigned long backoff_time(unsigned int retries, unsigned long base)
{
	unsigned int doubles = ilog2(TCP_RTO_MAX / base);

	if (retries <= doubles)
		return ((2UL << retries) - 1) * base;
	return ((2UL << doubles) - 1) * base +
	       (retries - doubles) * TCP_RTO_MAX;
}

/*
 * As tcp_write_timeout() has it for a SYN: tcp_syn_linear_timeouts makes for more of
 * them, not for more time.
 */
static unsigned long syn_time(const struct sock *sk)
{
	const struct net *net = sock_net(sk);
	unsigned int retries = READ_ONCE(inet_csk(sk)->icsk_syn_retries) ?:
			       READ_ONCE(net->ipv4.sysctl_tcp_syn_retries);

	return backoff_time(min(retries, MAX_TCP_SYNCNT), TCP_TIMEOUT_INIT);
}

static unsigned long orphan_time(const struct sock *sk)
{
	/* As tcp_orphan_retries() for one that was alive just now. */
	unsigned int retries =
		READ_ONCE(sock_net(sk)->ipv4.sysctl_tcp_orphan_retries) ?: 8;

	if (sk->sk_state == TCP_FIN_WAIT2)
		return tcp_fin_time(sk);
	return backoff_time(retries, TCP_RTO_MIN);
}

/* How long the worker may be silent about a connection in its state; 0: for ever. */
static unsigned long patience(const struct sock *sk, const struct dmm_sock *ds)
{
	unsigned long user =
		msecs_to_jiffies(READ_ONCE(inet_csk(sk)->icsk_user_timeout));
	unsigned long limit = 0;

	if (sk->sk_state == TCP_SYN_SENT)
		limit = syn_time(sk);
	else if (sock_flag(sk, SOCK_DEAD))
		limit = orphan_time(sk);
	else if (!dmm_sock_tx_used(ds))
		return 0;
	return user && limit ? min(user, limit) : user ?: limit;
}

/* Since the state or the peer's acknowledgements last moved. */
static bool timed_out(const struct sock *sk, struct dmm_sock *ds)
{
	u32 cons = READ_ONCE(ds->shm->tx_cons);
	unsigned long limit = patience(sk, ds);

	if (!limit || cons != ds->moved_cons || sk->sk_state != ds->moved_state) {
		ds->moved = jiffies;
		ds->moved_cons = cons;
		ds->moved_state = sk->sk_state;
		return false;
	}
	return time_after(jiffies, ds->moved + limit);
}

/*
 * A connection that has nothing in its rings, and had no more a second ago, holds no
 * page of them. What this side fills it gives back itself (dmm_ring_trim()); of the
 * other ring the worker has to know that nobody reads there.
 */
static void let_go_if_idle(struct dmm_sock *ds)
{
	bool idle = ds->tx_prod == ds->idle_tx && ds->rx_cons == ds->idle_rx &&
		    !dmm_sock_tx_used(ds) && !dmm_sock_rx_avail(ds);

	if (idle && ds->tx.npages)
		dmm_ring_let_go(&ds->tx);
	if (idle && ds->rx.npages)
		dmm_ring_let_go(&ds->rx);
	ds->idle_tx = ds->tx_prod;
	ds->idle_rx = ds->rx_cons;
	/* Orders the last look at a page before it. */
	smp_store_release(&ds->shm->rx_idle, ds->rx_cons - !idle);
}

static void watch_locked(struct sock *sk, struct dmm_sock *ds)
{
	if (dmm_protect_forbids(sk)) {
		dmm_protect_end(sk, ds);
	} else if (timed_out(sk, ds)) {
		__NET_INC_STATS(sock_net(sk), LINUX_MIB_TCPABORTONTIMEOUT);
		dmm_sock_fail(sk, ds, ETIMEDOUT);
	} else {
		dmm_sock_sync(sk, ds);
		dmm_option_look(sk, ds);
		let_go_if_idle(ds);
	}
}

static void watch_sock(struct dmm_sock *ds)
{
	struct sock *sk = dmm_sock_hold_sk(ds);

	if (!sk)
		return;
	local_bh_disable();
	bh_lock_sock(sk);
	/* Whoever owns it is in a system call; the next second comes. */
	if (dmm_sk(sk) == ds && dmm_is_adopted(sk) && sk->sk_state != TCP_CLOSE &&
	    !sock_owned_by_user(sk))
		watch_locked(sk, ds);
	bh_unlock_sock(sk);
	local_bh_enable();
	sock_put(sk);
}

/* Ends by itself when the last socket has gone, or the stack. */
static void watch_work(struct work_struct *work)
{
	struct dmm_stack *stack = container_of(to_delayed_work(work),
					       struct dmm_stack, watch);
	struct dmm_sock *ds;
	u32 i;

	for (i = 0; i < stack->arena->geo.nslots; i++) {
		rcu_read_lock();
		ds = rcu_dereference(stack->slots[i].ds);
		if (ds && (!READ_ONCE(ds->posted) ||
			   !refcount_inc_not_zero(&ds->refs)))
			ds = NULL;
		rcu_read_unlock();
		if (ds) {
			watch_sock(ds);
			dmm_ring_trim(stack->arena, &ds->tx);
			dmm_sock_put(ds);
		}
		if (!(i % 64))
			cond_resched();
	}

	spin_lock_bh(&stack->slot_lock);
	if (stack->nsocks)
		dmm_watch_start(stack);
	spin_unlock_bh(&stack->slot_lock);
}

void dmm_watch_init(struct dmm_stack *stack)
{
	INIT_DELAYED_WORK(&stack->watch, watch_work);
}

/**
 * dmm_watch_start - a stack has sockets
 * @stack: the stack; the caller holds its slot_lock. Nothing if it is down
 */
void dmm_watch_start(struct dmm_stack *stack)
{
	lockdep_assert_held(&stack->slot_lock);
	if (!stack->dead)
		schedule_delayed_work(&stack->watch, HZ);
}

/**
 * dmm_watch_stop - a stack is down
 * @stack: the stack, dead
 *
 * Sleeps until it has ended.
 */
void dmm_watch_stop(struct dmm_stack *stack)
{
	cancel_delayed_work_sync(&stack->watch);
}
