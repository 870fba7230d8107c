// SPDX-License-Identifier: GPL-2.0-only
#include <linux/inet_diag.h>
#include <linux/slab.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "adopt.h"
#include "channel.h"
#include "proto.h"
#include "relisten.h"
#include "sock.h"
#include "stack.h"
#include "trace.h"

/*
 * Locks, outermost first:
 *
 *	lock_sock(sk)		what the program's calls do
 *	 sk_lock.slock		what events do; BH off
 *	  waiting_lock		listeners whose stack is away (relisten.c)
 *	  dmm_stack.slot_lock
 *	   dmm_stack.op_lock
 *
 * A worker's events never wait for lock_sock(): a program can hold it for as long
 * as it likes, by a page fault. They are left in ->pending and taken up when the
 * owner lets go, as TCP does with its timers (tcp_release_cb()).
 */

static void sock_free(struct dmm_sock *ds)
{
	struct dmm_stack *stack = ds->stack;

	if (ds->shm)
		dmm_stack_slot_free(stack, ds->slot);
	kfree(ds);
	dmm_stack_put(stack);
}

static void sock_free_work(struct work_struct *work)
{
	struct dmm_sock *ds = container_of(work, struct dmm_sock, free_work);

	dmm_ring_punch(ds->stack->arena, &ds->tx);
	dmm_ring_punch(ds->stack->arena, &ds->rx);
	sock_free(ds);
}

/* The pages that a short exchange took stay, warm for the next. */
#define PAGES_KEPT	2

static void sock_free_rcu(struct rcu_head *rcu)
{
	struct dmm_sock *ds = container_of(rcu, struct dmm_sock, rcu);
	u32 pages = ds->tx.npages + ds->rx.npages;

	dmm_ring_free(&ds->tx);
	dmm_ring_free(&ds->rx);
	if (pages <= PAGES_KEPT || READ_ONCE(ds->stack->dead)) {
		sock_free(ds);
		return;
	}
	INIT_WORK(&ds->free_work, sock_free_work);
	dmm_stack_queue(&ds->free_work);
}

/**
 * dmm_sock_put - give a reference back
 * @ds: the socket's state
 *
 * In any context.
 */
void dmm_sock_put(struct dmm_sock *ds)
{
	if (refcount_dec_and_test(&ds->refs))
		call_rcu(&ds->rcu, sock_free_rcu);
}

/**
 * dmm_sock_alloc - make the state for a socket to be adopted
 * @stack: the stack; referenced by the state
 * @sk: the socket
 * @conn: for a connection: the caller takes a slot before it publishes the state
 *
 * In any context. Return: the state, with a reference for the caller, not yet
 * with a slot; NULL without memory.
 */
struct dmm_sock *dmm_sock_alloc(struct dmm_stack *stack, struct sock *sk,
				bool conn)
{
	struct dmm_sock *ds;

	ds = kzalloc(sizeof(*ds), GFP_ATOMIC | __GFP_NOWARN | __GFP_ACCOUNT);
	if (!ds)
		return NULL;
	refcount_set(&ds->refs, 1);
	INIT_LIST_HEAD(&ds->op_node);
	INIT_LIST_HEAD(&ds->wait_node);
	ds->sk = sk;
	ds->conn = conn;
	refcount_inc(&stack->refs);
	ds->stack = stack;
	return ds;
}

/**
 * dmm_sock_rings - make the rings of a socket that has a slot usable
 * @ds: the socket's state
 * @gfp: how to allocate
 *
 * Return: 0 or -ENOMEM.
 */
int dmm_sock_rings(struct dmm_sock *ds, gfp_t gfp)
{
	const struct dmm_arena_hdr *geo = &ds->stack->arena->geo;
	int err;

	err = dmm_ring_init(&ds->tx, dmm_arena_tx_off(geo, ds->slot),
			    geo->tx_size, gfp);
	if (err)
		return err;
	return dmm_ring_init(&ds->rx, dmm_arena_rx_off(geo, ds->slot),
			     geo->rx_size, gfp);
}

/* When something last left, and came; TCP has a time for each segment. */
static void sync_times(struct sock *sk, struct dmm_sock *ds)
{
	u32 tx = READ_ONCE(ds->shm->tx_sent), rx = READ_ONCE(ds->shm->rx_prod);
	u32 acked = READ_ONCE(ds->shm->tx_cons);
	struct tcp_sock *tp = tcp_sk(sk);

	if (tx != ds->seen_tx)
		tp->lsndtime = tcp_jiffies32;
	if (acked != ds->seen_acked)
		tp->rcv_tstamp = tcp_jiffies32;
	if (rx != ds->seen_rx)
		inet_csk(sk)->icsk_ack.lrcvtime = tcp_jiffies32;
	ds->seen_tx = tx;
	ds->seen_acked = acked;
	ds->seen_rx = rx;
}

/**
 * dmm_sock_sync - show the stack's numbers where TCP's would be
 * @sk: the socket; the caller holds its lock
 * @ds: its state
 *
 * For TCP_INFO, `ss -ti` and its queue columns; nothing decides by them. snd_una
 * and snd_nxt stay as they are: tcp_v4_err() compares with those.
 */
void dmm_sock_sync(struct sock *sk, struct dmm_sock *ds)
{
	u32 mss = READ_ONCE(ds->shm->snd_mss), cwnd = READ_ONCE(ds->shm->snd_cwnd);
	u32 avail = dmm_sock_rx_avail(ds), used = dmm_sock_tx_used(ds);
	struct tcp_sock *tp = tcp_sk(sk);
	u32 unsent;

	sync_times(sk, ds);
	if (mss) {
		tp->mss_cache = min(mss, 65535U);
		tcp_snd_cwnd_set(tp, clamp(cwnd / tp->mss_cache, 1U, 1U << 20));
	}
	tp->srtt_us = min(READ_ONCE(ds->shm->srtt_us), 120U * USEC_PER_SEC) << 3;
	tp->total_retrans = READ_ONCE(ds->shm->retrans);
	if (avail != DMM_RING_BROKEN)
		WRITE_ONCE(tp->copied_seq, tp->rcv_nxt - avail);
	if (used == DMM_RING_BROKEN)
		return;
	WRITE_ONCE(tp->write_seq, tp->snd_una + used);
	unsent = min(dmm_sock_tx_unsent(ds), used);
	tp->packets_out = DIV_ROUND_UP(used - unsent, max(tp->mss_cache, 1U));
}

/**
 * dmm_sock_rx_avail - bytes to read
 * @ds: the socket's state, kept alive by the caller
 *
 * Return: bytes, or DMM_RING_BROKEN.
 */
u32 dmm_sock_rx_avail(const struct dmm_sock *ds)
{
	u32 avail;

	if (unlikely(READ_ONCE(ds->barred)))
		return 0;
	/* Pairs with the worker's store-release after it filled the ring. */
	avail = smp_load_acquire(&ds->shm->rx_prod) - READ_ONCE(ds->rx_cons);
	return avail <= ds->stack->arena->geo.rx_size ? avail : DMM_RING_BROKEN;
}

/**
 * dmm_sock_tx_used - bytes that were sent and not yet acknowledged by the peer
 * @ds: the socket's state, kept alive by the caller
 *
 * Return: bytes, or DMM_RING_BROKEN.
 */
u32 dmm_sock_tx_used(const struct dmm_sock *ds)
{
	u32 used;

	/* Pairs with the worker's store-release after it let go of the bytes. */
	used = READ_ONCE(ds->tx_prod) - smp_load_acquire(&ds->shm->tx_cons);
	return used <= ds->stack->arena->geo.tx_size ? used : DMM_RING_BROKEN;
}

/**
 * dmm_sock_tx_unsent - of these, the bytes that have not left yet
 * @ds: the socket's state, kept alive by the caller
 *
 * As the worker says; for information only. Return: bytes, or DMM_RING_BROKEN.
 */
u32 dmm_sock_tx_unsent(const struct dmm_sock *ds)
{
	u32 used = dmm_sock_tx_used(ds), unsent;

	if (used == DMM_RING_BROKEN)
		return used;
	/* More than there is: it was acknowledged since. */
	unsent = READ_ONCE(ds->tx_prod) - READ_ONCE(ds->shm->tx_sent);
	return unsent <= used ? unsent : 0;
}

/*
 * Ask to hear of the next change of an index that the worker writes. Several
 * threads may do so at once, without a lock; one may put an older index over a
 * newer one. So each looks again after a full barrier (it pairs with the worker's,
 * between its index and its look at the event index) until the index stands still.
 * It moves for ever only if the worker wants it so.
 *
 * Return: whether it stood still; @seen is where.
 */
static bool arm(u32 *event, u32 *index, u32 offset, u32 *seen)
{
	int tries = 4;

	do {
		*seen = READ_ONCE(*index);
		WRITE_ONCE(*event, *seen + offset);
		/* Pairs with the worker's, between index and event index. */
		smp_mb();
		if (READ_ONCE(*index) == *seen)
			return true;
	} while (--tries);
	return false;
}

/**
 * dmm_sock_arm_rx - ask for an event at the next byte received
 * @ds: the socket's state, kept alive by the caller
 *
 * Bytes that came before this, and that no event told of because nothing was
 * armed, would go unnoticed by an edge-triggered epoll: the program may have asked
 * how much there is (FIONREAD), read that much, and wait for an edge.
 *
 * Return: whether there are such bytes; the caller then wakes whoever sleeps.
 */
bool dmm_sock_arm_rx(struct dmm_sock *ds)
{
	u32 seen;
	bool still = arm(&ds->shm->rx_event, &ds->shm->rx_prod, 0, &seen);

	return xchg(&ds->rx_told, seen) != seen || !still;
}

/**
 * dmm_sock_arm_room - ask for an event when some of the ring became free
 * @ds: the socket's state, kept alive by the caller
 * @bytes: how much; the ring holds at least that
 *
 * The caller looks at the room again afterwards.
 */
void dmm_sock_arm_room(struct dmm_sock *ds, u32 bytes)
{
	u32 seen;

	arm(&ds->shm->tx_room_event, &ds->shm->tx_cons, bytes - 1, &seen);
}

static void sock_write_space(struct sock *sk)
{
	struct socket_wq *wq;

	rcu_read_lock();
	wq = rcu_dereference(sk->sk_wq);
	if (wq) {
		struct socket *sock = container_of(wq, struct socket, wq);

		clear_bit(SOCK_NOSPACE, &sock->flags);
		if (skwq_has_sleeper(wq))
			wake_up_interruptible_poll(&wq->wait, EPOLLOUT |
						   EPOLLWRNORM | EPOLLWRBAND);
		sk_wake_async_rcu(sk, SOCK_WAKE_SPACE, POLL_OUT);
	}
	rcu_read_unlock();
}

static int error_checked(const struct sock *sk, int err)
{
	switch (err) {
	case ECONNREFUSED:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENOBUFS:
		return err;
	default:
		return sk->sk_state == TCP_CLOSE_WAIT ? EPIPE : ECONNRESET;
	}
}

/* The connection is no more; as tcp_done_with_error(). */
static void sock_done(struct sock *sk, int err)
{
	if (sk->sk_state == TCP_CLOSE)
		return;

	WRITE_ONCE(sk->sk_err, err);
	/* Pairs with smp_rmb() in dmm_poll(). */
	smp_wmb();
	tcp_done(sk);
	if (!sock_flag(sk, SOCK_DEAD))
		sk_error_report(sk);
}

/* The worker says so: it may say much. */
static void sock_reset(struct sock *sk, int err)
{
	sock_done(sk, error_checked(sk, err));
}

static bool sock_connected(struct sock *sk)
{
	if (sk->sk_state != TCP_SYN_SENT)
		return false;

	tcp_set_state(sk, TCP_ESTABLISHED);
	sk->sk_state_change(sk);
	sk_wake_async(sk, SOCK_WAKE_IO, POLL_OUT);
	return true;
}

static bool sock_fin_acked(struct sock *sk)
{
	switch (sk->sk_state) {
	case TCP_FIN_WAIT1:
		/* Closed, and the program wants no FIN_WAIT2 (TCP_LINGER2). */
		if (sock_flag(sk, SOCK_DEAD) && tcp_sk(sk)->linger2 < 0) {
			dmm_sock_post_abort(dmm_sk(sk));
			tcp_done(sk);
			return true;
		}
		tcp_set_state(sk, TCP_FIN_WAIT2);
		WRITE_ONCE(sk->sk_shutdown, sk->sk_shutdown | SEND_SHUTDOWN);
		if (!sock_flag(sk, SOCK_DEAD))
			sk->sk_state_change(sk);
		return true;
	case TCP_CLOSING:	/* TIMEWAIT follows */
	case TCP_LAST_ACK:	/* GONE follows */
		return true;
	default:
		return false;
	}
}

/* As tcp_fin(). */
static bool sock_fin(struct sock *sk)
{
	switch (sk->sk_state) {
	case TCP_ESTABLISHED:
		tcp_set_state(sk, TCP_CLOSE_WAIT);
		break;
	case TCP_FIN_WAIT1:
		tcp_set_state(sk, TCP_CLOSING);
		break;
	case TCP_FIN_WAIT2:
		break;
	default:
		return false;
	}

	WRITE_ONCE(sk->sk_shutdown, sk->sk_shutdown | RCV_SHUTDOWN);
	sock_set_flag(sk, SOCK_DONE);
	if (!sock_flag(sk, SOCK_DEAD)) {
		sk->sk_state_change(sk);
		if (sk->sk_shutdown == SHUTDOWN_MASK)
			sk_wake_async(sk, SOCK_WAKE_WAITD, POLL_HUP);
		else
			sk_wake_async(sk, SOCK_WAKE_WAITD, POLL_IN);
	}
	return true;
}

/*
 * The kernel's own TIME_WAIT keeps the four-tuple from being used again; the
 * worker answers for it on the wire. It outlives the sock and must not keep this
 * module, which inet_twsk_alloc() would do by ->sk_prot_creator.
 */
static bool sock_timewait(struct sock *sk)
{
	struct proto *creator = sk->sk_prot_creator;

	if (!((1 << sk->sk_state) & (TCPF_FIN_WAIT1 | TCPF_FIN_WAIT2 |
				     TCPF_CLOSING))) {
		sock_reset(sk, ECONNRESET);	/* as sock_gone() */
		return false;
	}

	WRITE_ONCE(sk->sk_shutdown, SHUTDOWN_MASK);
	sock_set_flag(sk, SOCK_DONE);
	sk->sk_prot_creator = dmm_family(sk)->base;
	tcp_time_wait(sk, TCP_TIME_WAIT, 0);
	sk->sk_prot_creator = creator;
	return true;
}

static bool sock_gone(struct sock *sk)
{
	if ((1 << sk->sk_state) & (TCPF_LAST_ACK | TCPF_CLOSING |
				   TCPF_FIN_WAIT1 | TCPF_FIN_WAIT2)) {
		tcp_done(sk);
		return true;
	}
	/* Out of place: whatever it means, there is no connection any more. */
	sock_reset(sk, ECONNRESET);
	return false;
}

static void count_bad(struct dmm_sock *ds, unsigned long events)
{
	atomic64_inc(&ds->stack->bad_events);
	atomic64_inc(&dmm_totals.bad_events);
	trace_dmm_bad_event(ds->stack->id, events, ds->slot, ds->gen);
}

#define FINAL_EVENTS	(BIT(DMM_EV_ERROR) | BIT(DMM_EV_TIMEWAIT) | \
			 BIT(DMM_EV_GONE))
#define WAKE_EVENTS	(BIT(DMM_EV_RX) | BIT(DMM_EV_ROOM))

/* INCOMING does not come this way. */
static void listen_events_apply(struct sock *sk, struct dmm_sock *ds,
				unsigned long events)
{
	if (events & BIT(DMM_EV_CONNECTED) && !ds->served) {
		WRITE_ONCE(ds->served, true);
		wake_up_all(&ds->stack->answers);
		events &= ~BIT(DMM_EV_CONNECTED);
	}
	if (events & ~(BIT(DMM_EV_ERROR) | BIT(DMM_EV_GONE) |
		       DMM_PEND_RELISTEN))
		count_bad(ds, events);
	if (events & (FINAL_EVENTS | DMM_PEND_RELISTEN))
		dmm_relisten_wait(sk);
}

/*
 * What events do to a socket; in the order of enum dmm_event_type, which is the
 * order in which they can have come. Under the socket's spinlock, not owned by
 * anybody, or by the caller.
 */
static void sock_events_apply(struct sock *sk, struct dmm_sock *ds,
			      unsigned long events, int err)
{
	bool ok = true;

	if (dmm_is_listening(sk)) {
		listen_events_apply(sk, ds, events);
		return;
	}
	/* In TCP_CLOSE they have crossed our ABORT. */
	if (!dmm_is_adopted(sk) || sk->sk_state == TCP_CLOSE)
		return;

	if (events & BIT(DMM_EV_CONNECTED))
		ok &= sock_connected(sk);
	if (events & BIT(DMM_EV_FIN_ACKED))
		ok &= sock_fin_acked(sk);
	if (sk->sk_state == TCP_CLOSE)
		return;		/* which may end it, by an ABORT */
	if (events & BIT(DMM_EV_FIN))
		ok &= sock_fin(sk);
	if (events & BIT(DMM_EV_ERROR))
		sock_reset(sk, err);
	else if (events & BIT(DMM_EV_TIMEWAIT))
		ok &= sock_timewait(sk);
	else if (events & BIT(DMM_EV_GONE))
		ok &= sock_gone(sk);

	if (!ok)
		count_bad(ds, events);
}

/**
 * dmm_sock_pending - take up what came while somebody owned the socket
 * @sk: an adopted socket; from ->release_cb(), under its spinlock
 */
void dmm_sock_pending(struct sock *sk)
{
	struct dmm_sock *ds = dmm_sk(sk);
	unsigned long events;

	if (!ds || !ds->pending)
		return;
	events = ds->pending;
	ds->pending = 0;
	sock_events_apply(sk, ds, events, ds->pending_err);
}

/**
 * dmm_sock_hold_sk - the sock of a state that may be let go at any moment
 * @ds: the state, kept alive by the caller
 *
 * In any context. Return: the sock, referenced, or NULL.
 */
struct sock *dmm_sock_hold_sk(struct dmm_sock *ds)
{
	struct sock *sk;

	rcu_read_lock();
	sk = READ_ONCE(ds->sk);
	/* Its memory stays a sock's (SLAB_TYPESAFE_BY_RCU), maybe another's. */
	if (sk && !refcount_inc_not_zero(&sk->sk_refcnt))
		sk = NULL;
	if (sk && READ_ONCE(ds->sk) != sk) {
		sock_put(sk);
		sk = NULL;
	}
	rcu_read_unlock();
	return sk;
}

/*
 * Whoever stays in the wait queue (epoll, a multishot poll) or wants SIGIO is told
 * of each arrival, read or not. A reader that was woken arms by itself.
 */
static void sock_rearm(struct sock *sk, struct dmm_sock *ds)
{
	struct socket_wq *wq;

	rcu_read_lock();
	wq = rcu_dereference(sk->sk_wq);
	if (wq && (skwq_has_sleeper(wq) || wq->fasync_list) &&
	    dmm_sock_arm_rx(ds))
		sk->sk_data_ready(sk);
	rcu_read_unlock();
}

/**
 * dmm_sock_event - the worker says something about a socket
 * @ds: its state, kept alive by the caller
 * @events: BIT(DMM_EV_*)
 * @err: for DMM_EV_ERROR
 *
 * In process context; never sleeps on the socket's lock.
 */
void dmm_sock_event(struct dmm_sock *ds, unsigned long events, int err)
{
	struct sock *sk = dmm_sock_hold_sk(ds);

	if (events & FINAL_EVENTS) {
		dmm_stack_slot_done(ds->stack, ds);
		WRITE_ONCE(ds->ended, true);
		if (wq_has_sleeper(&ds->stack->answers))
			wake_up_all(&ds->stack->answers);
	}
	if (!sk)
		return;

	/* Bytes and room only wake: that needs no lock. */
	if (events & BIT(DMM_EV_RX)) {
		WRITE_ONCE(ds->rx_told, READ_ONCE(ds->shm->rx_prod));
		sk->sk_data_ready(sk);
		sock_rearm(sk, ds);
	}
	if (events & BIT(DMM_EV_ROOM))
		sock_write_space(sk);

	if (!dmm_is_listening(sk))
		events &= ~WAKE_EVENTS;
	if (events) {
		local_bh_disable();
		bh_lock_sock(sk);
		/* Let go, or adopted anew, before we had the lock? */
		if (dmm_sk(sk) != ds) {
			;
		} else if (sock_owned_by_user(sk)) {
			ds->pending |= events;
			if (events & BIT(DMM_EV_ERROR))
				ds->pending_err = err;
		} else {
			sock_events_apply(sk, ds, events, err);
		}
		bh_unlock_sock(sk);
		local_bh_enable();
	}
	sock_put(sk);
}

/**
 * dmm_sock_fail - this side ends a connection
 * @sk: the socket; the caller holds its spinlock, and nobody owns it, or the caller
 * @ds: its state
 * @err: what the program hears, positive
 */
void dmm_sock_fail(struct sock *sk, struct dmm_sock *ds, int err)
{
	dmm_sock_post_abort(ds);
	sock_done(sk, err);
}

/**
 * dmm_sock_broken - the worker wrote an impossible index: the socket is lost
 * @sk: the socket; the caller holds lock_sock()
 * @ds: its state
 */
void dmm_sock_broken(struct sock *sk, struct dmm_sock *ds)
{
	count_bad(ds, 0);
	local_bh_disable();
	bh_lock_sock(sk);
	dmm_sock_fail(sk, ds, error_checked(sk, ECONNRESET));
	bh_unlock_sock(sk);
	local_bh_enable();
}

/**
 * dmm_sock_post - send one message to the worker
 * @ds: the socket's state
 * @op: DMM_OP_*, one without parameters
 *
 * In any context.
 */
void dmm_sock_post(struct dmm_sock *ds, u32 op)
{
	dmm_ops_post(ds, BIT(op));
}

/**
 * dmm_sock_post_abort - the worker is to forget the socket
 * @ds: its state; what the worker never heard of, or ended itself, it is not told of
 *
 * In any context.
 */
void dmm_sock_post_abort(struct dmm_sock *ds)
{
	if (READ_ONCE(ds->posted) && !READ_ONCE(ds->ended) &&
	    !xchg(&ds->aborted, true))
		dmm_sock_post(ds, DMM_OP_ABORT);
}

/**
 * dmm_sock_ip_options - what the program wants in the IP header
 * @sk: the socket; the caller holds its lock
 * @tos: type of service, or traffic class
 * @ttl: time to live, or hop limit
 */
void dmm_sock_ip_options(const struct sock *sk, u8 *tos, u8 *ttl)
{
	const struct inet_sock *inet = inet_sk(sk);
	int val = READ_ONCE(inet->uc_ttl);

	*tos = READ_ONCE(inet->tos);
	if (sk->sk_family == AF_INET6 && !ipv6_addr_v4mapped(&sk->sk_v6_daddr)) {
		*tos = inet6_sk(sk)->tclass;
		val = READ_ONCE(inet6_sk(sk)->hop_limit);
		if (val < 0)
			val = READ_ONCE(sock_net(sk)->ipv6.devconf_all->hop_limit);
	} else if (val < 0) {
		val = READ_ONCE(sock_net(sk)->ipv4.sysctl_ip_default_ttl);
	}
	*ttl = val;
}

/* How long a FIN is waited for; what is to be none was none before. */
static u32 fin_timeout_ms(const struct sock *sk)
{
	int val = READ_ONCE(tcp_sk(sk)->linger2) ?:
		  READ_ONCE(sock_net(sk)->ipv4.sysctl_tcp_fin_timeout);

	return max(jiffies_to_msecs(max(val, 0)), 1U);
}

/**
 * dmm_sock_post_options - tell the worker the options as they now are
 * @sk: the socket; the caller holds its lock
 * @ds: its state
 * @keepalive: SO_KEEPALIVE
 */
void dmm_sock_post_options(struct sock *sk, struct dmm_sock *ds, bool keepalive)
{
	struct tcp_sock *tp = tcp_sk(sk);
	struct dmm_op_options opts = {
		.keepidle = keepalive_time_when(tp) / HZ,
		.keepintvl = keepalive_intvl_when(tp) / HZ,
		.keepcnt = keepalive_probes(tp),
		.user_timeout = READ_ONCE(inet_csk(sk)->icsk_user_timeout),
		.fin_timeout = fin_timeout_ms(sk),
	};

	dmm_sock_ip_options(sk, &opts.dscp, &opts.ttl);
	if (sk->sk_userlocks & SOCK_RCVBUF_LOCK)
		opts.rcvbuf = tcp_win_from_space(sk, READ_ONCE(sk->sk_rcvbuf));
	if (tp->window_clamp)
		opts.rcvbuf = min_not_zero(opts.rcvbuf, tp->window_clamp);
	if (tp->nonagle & TCP_NAGLE_OFF)
		opts.set |= DMM_OPT_NODELAY;
	if (tp->nonagle & TCP_NAGLE_CORK)
		opts.set |= DMM_OPT_CORK;
	if (keepalive)
		opts.set |= DMM_OPT_KEEPALIVE;

	if (ds->quickack)
		opts.set |= DMM_OPT_QUICKACK;
	dmm_option_told(sk, ds);

	opts.seq = ++ds->opt_seq;
	WRITE_ONCE(ds->shm->opt_seq, opts.seq);
	spin_lock_bh(&ds->stack->op_lock);
	ds->op_options = opts;
	spin_unlock_bh(&ds->stack->op_lock);
	dmm_sock_post(ds, DMM_OP_OPTIONS);
}

/* From tcp_v4_destroy_sock(): the sock is at its end. */
static void ulp_release(struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);
	struct dmm_sock *ds;

	ds = rcu_replace_pointer(icsk->icsk_ulp_data, NULL, true);
	if (!ds)
		return;
	WRITE_ONCE(ds->sk, NULL);
	dmm_relisten_forget(ds);
	/*
	 * One that the worker never heard of it never names. One that TCP ended by
	 * itself (a child that waited, when its listener went) it is to forget.
	 */
	if (!ds->posted && ds->shm)
		dmm_stack_slot_done(ds->stack, ds);
	else
		dmm_sock_post_abort(ds);
	dmm_sock_put(ds);
}

/*
 * `ss` shows nothing of a ULP that it does not know but the name, which stands at
 * @skb's end when we are called: "dmm" becomes "dmm:STACK". It cannot be so in the
 * ops, which inet_diag reads with no lock that would keep a stack's alive.
 */
static int ulp_get_info(struct sock *sk, struct sk_buff *skb)
{
	char name[sizeof("dmm:") + DMM_NAME_MAX] = "";
	int len = nla_total_size(sizeof("dmm"));
	const struct nlattr *last;
	struct dmm_sock *ds;

	rcu_read_lock();
	ds = dmm_sk_rcu(sk);
	if (ds)
		snprintf(name, sizeof(name), "dmm:%s", ds->stack->name);
	rcu_read_unlock();

	last = (const struct nlattr *)(skb_tail_pointer(skb) - len);
	if (!name[0] || skb->len < len || last->nla_type != INET_ULP_INFO_NAME ||
	    nla_total_size(nla_len(last)) != len)
		return 0;
	nlmsg_trim(skb, last);
	return nla_put_string(skb, INET_ULP_INFO_NAME, name);
}

static size_t ulp_get_info_size(const struct sock *sk)
{
	return nla_total_size(sizeof("dmm:") + DMM_NAME_MAX);
}

/*
 * A child of a listener is plain TCP, whoever made it. It was born of the
 * listener's proto and took a reference to this module with it.
 */
static void ulp_clone(const struct request_sock *req, struct sock *newsk,
		      const gfp_t priority)
{
	struct inet_connection_sock *icsk = inet_csk(newsk);
	struct proto *base = dmm_family(newsk)->base;

	RCU_INIT_POINTER(icsk->icsk_ulp_data, NULL);
	icsk->icsk_ulp_ops = NULL;
	WRITE_ONCE(newsk->sk_prot, base);
	if (newsk->sk_prot_creator != base) {
		newsk->sk_prot_creator = base;
		module_put(THIS_MODULE);	/* the listener has one */
	}
}

/*
 * Not registered: setsockopt(TCP_ULP) cannot ask for it. The module is held by
 * ->sk_prot_creator, not by @owner, see adopt.c.
 */
const struct tcp_ulp_ops dmm_ulp_ops = {
	.name		= "dmm",
	.release	= ulp_release,
	.clone		= ulp_clone,
	.get_info	= ulp_get_info,
	.get_info_size	= ulp_get_info_size,
};
