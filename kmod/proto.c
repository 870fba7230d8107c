// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the system calls of an adopted socket do. Each function here is the
 * counterpart of one in net/ipv4/tcp.c and keeps its order of checks, for programs
 * lean on it. All run under lock_sock() unless they say otherwise; each looks
 * dmm_conn() up again after it slept, for another thread may have made something
 * else of the socket.
 */
#include <linux/errqueue.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <net/inet_common.h>
#include <net/inet_hashtables.h>
#include <net/ipv6.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "adopt.h"
#include "channel.h"
#include "option.h"
#include "proto.h"
#include "protect.h"
#include "sock.h"
#include "stack.h"
#include "trace.h"

struct dmm_family dmm_inet;
struct dmm_family dmm_inet6;

/* ---- readiness; without a lock ---------------------------------------- */

static bool readable(struct sock *sk, u32 target)
{
	struct dmm_sock *ds;
	bool ret = true;

	rcu_read_lock();
	ds = dmm_conn_rcu(sk);
	if (ds) {
		/* More than the ring holds would never be there. */
		target = min(target, ds->stack->arena->geo.rx_size / 2);
		/* A broken ring is readable: recvmsg() tells why. */
		ret = dmm_sock_rx_avail(ds) >= target;
	}
	rcu_read_unlock();
	return ret;
}

/*
 * How much of the transmit ring a program may fill: what it asked for. SO_SNDBUF
 * counts what TCP's buffers cost, some two bytes for each.
 */
static u32 tx_limit(const struct sock *sk, const struct dmm_sock *ds)
{
	u32 size = ds->stack->arena->geo.tx_size;

	if (!(READ_ONCE(sk->sk_userlocks) & SOCK_SNDBUF_LOCK))
		return size;
	return clamp_t(u32, READ_ONCE(sk->sk_sndbuf) / 2, DMM_RING_MIN, size);
}

/* Of what a program may fill, how much TCP_NOTSENT_LOWAT keeps for later. */
static u32 tx_room(const struct sock *sk, const struct dmm_sock *ds, u32 used)
{
	u32 lowat = tcp_notsent_lowat(tcp_sk(sk)), limit = tx_limit(sk, ds);
	u32 room = used < limit ? limit - used : 0, unsent;

	if (lowat >= limit)
		return room;
	unsent = dmm_sock_tx_unsent(ds);
	return min(room, unsent < lowat ? lowat - unsent : 0);
}

/*
 * A quarter of that, so that a writer is not woken for each segment; with
 * TCP_NOTSENT_LOWAT, half of it, as TCP.
 */
static bool writeable(struct sock *sk)
{
	struct dmm_sock *ds;
	bool ret = true;

	rcu_read_lock();
	ds = dmm_conn_rcu(sk);
	if (ds) {
		u32 limit = tx_limit(sk, ds);
		u32 used = dmm_sock_tx_used(ds);
		u32 lowat = tcp_notsent_lowat(tcp_sk(sk));

		ret = used == DMM_RING_BROKEN ||
		      (used + limit / 4 <= limit &&
		       (lowat >= limit || dmm_sock_tx_unsent(ds) * 2 < lowat));
	}
	rcu_read_unlock();
	return ret;
}

/* Ask for events; whoever sleeps is woken if one is due already. */
static void arm_rx(struct sock *sk)
{
	struct dmm_sock *ds;

	rcu_read_lock();
	ds = dmm_conn_rcu(sk);
	if (ds && dmm_sock_arm_rx(ds))
		sk->sk_data_ready(sk);
	rcu_read_unlock();
}

static void arm_room(struct sock *sk)
{
	struct dmm_sock *ds;

	sk_set_bit(SOCKWQ_ASYNC_NOSPACE, sk);
	if (sk->sk_socket)
		set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
	rcu_read_lock();
	ds = dmm_conn_rcu(sk);
	if (ds) {
		u32 limit = tx_limit(sk, ds);

		/* What is acknowledged makes room for what was not sent. */
		dmm_sock_arm_room(ds, tcp_notsent_lowat(tcp_sk(sk)) < limit ?
				      1 : limit / 4);
	}
	rcu_read_unlock();
}

static __poll_t dmm_poll(struct file *file, struct socket *sock,
			 poll_table *wait)
{
	struct sock *sk = sock->sk;
	__poll_t mask = 0;
	u8 shutdown;
	int state;

	sock_poll_wait(file, sock, wait);

	state = inet_sk_state_load(sk);
	shutdown = READ_ONCE(sk->sk_shutdown);
	if (shutdown == SHUTDOWN_MASK || state == TCP_CLOSE)
		mask |= EPOLLHUP;
	if (shutdown & RCV_SHUTDOWN)
		mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;

	if (state != TCP_SYN_SENT) {
		int target = sock_rcvlowat(sk, 0, INT_MAX);

		if (state != TCP_CLOSE)
			arm_rx(sk);
		if (readable(sk, target))
			mask |= EPOLLIN | EPOLLRDNORM;

		if (shutdown & SEND_SHUTDOWN || writeable(sk)) {
			mask |= EPOLLOUT | EPOLLWRNORM;
		} else {
			arm_room(sk);
			if (writeable(sk))
				mask |= EPOLLOUT | EPOLLWRNORM;
		}
	}
	/* Pairs with smp_wmb() in sock_reset(). */
	smp_rmb();
	if (READ_ONCE(sk->sk_err) ||
	    !skb_queue_empty_lockless(&sk->sk_error_queue))
		mask |= EPOLLERR;
	return mask;
}

/* ---- connecting ------------------------------------------------------- */

/* A verdict that an earlier connect() or bind() did not use is void. */
static int dmm_assigned_pre_connect(struct sock *sk, struct sockaddr *uaddr,
				    int addr_len)
{
	dmm_adopt_undo(sk);
	return sk->sk_prot->pre_connect(sk, uaddr, addr_len);
}

static int connect_native(struct sock *sk, struct dmm_sock *ds,
			  struct sockaddr *uaddr, int addr_len,
			  enum dmm_fallback reason)
{
	bool strict = ds->strict;

	if (reason)
		dmm_fallback(ds->stack, sk, ds->stack->id, reason);
	dmm_adopt_undo(sk);
	if (reason && strict)
		return -ENETDOWN;
	return sk->sk_prot->connect(sk, uaddr, addr_len);
}

static void fill_op_connect(struct sock *sk, struct dmm_sock *ds)
{
	const struct inet_sock *inet = inet_sk(sk);
	struct dmm_op_connect op = {
		.family = ds->path.family,
		.sport = inet->inet_sport,
		.dport = inet->inet_dport,
		.ifindex = ds->stack->ifindex,
	};

	if (ds->path.family == AF_INET6) {
		memcpy(op.saddr, &sk->sk_v6_rcv_saddr, sizeof(op.saddr));
		memcpy(op.daddr, &sk->sk_v6_daddr, sizeof(op.daddr));
	} else {
		op.saddr[0] = inet->inet_saddr;
		op.daddr[0] = inet->inet_daddr;
	}
	dmm_sock_ip_options(sk, &op.dscp, &op.ttl);

	spin_lock_bh(&ds->stack->op_lock);
	ds->op_connect = op;
	spin_unlock_bh(&ds->stack->op_lock);
}

/* As tcp_v4_connect() and tcp_v6_connect(). */
static int dmm_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)
{
	struct dmm_sock *ds = dmm_sk(sk);
	struct tcp_sock *tp = tcp_sk(sk);
	enum dmm_fallback reason;
	struct dmm_path path;
	int err;

	/* A verdict for listen(): no program judged this connect(). */
	if (!ds->shm)
		return connect_native(sk, ds, uaddr, addr_len,
				      DMM_FALLBACK_NONE);
	if (addr_len < (sk->sk_family == AF_INET ? sizeof(struct sockaddr_in) :
						   SIN6_LEN_RFC2133) ||
	    !dmm_path_parse(sk, uaddr, &path) ||
	    !dmm_path_same(&path, &ds->path))
		return connect_native(sk, ds, uaddr, addr_len,
				      DMM_FALLBACK_REWRITTEN);
	/* A later program may have set something. */
	reason = dmm_protect_check(sk, false);
	if (reason)
		return connect_native(sk, ds, uaddr, addr_len, reason);
	if (dmm_sock_rings(ds, GFP_KERNEL))
		return connect_native(sk, ds, uaddr, addr_len,
				      DMM_FALLBACK_NO_MEMORY);

	err = dmm_path_set(sk, &ds->path);
	if (err) {
		dmm_adopt_undo(sk);
		return err;
	}
	/* The filter is on before anybody can find the socket. */
	dmm_adopt_commit(sk);
	/*
	 * A forged ICMP error must guess this number to get past tcp_v4_err();
	 * what the worker sends has sequence numbers of its own.
	 */
	WRITE_ONCE(tp->write_seq, get_random_u32());
	tp->snd_nxt = tp->write_seq;
	tp->snd_una = tp->write_seq;

	inet_csk(sk)->icsk_pmtu_cookie = ds->path.mtu;
	/* As tcp_connect_init(): what an earlier connection left. */
	WRITE_ONCE(sk->sk_err, 0);
	sock_reset_flag(sk, SOCK_DONE);

	tcp_set_state(sk, TCP_SYN_SENT);
	err = dmm_path_hash(sk, &ds->path);
	if (err)
		goto err_close;

	fill_op_connect(sk, ds);
	ds->posted = true;
	err = dmm_ops_post(ds, BIT(DMM_OP_CONNECT));
	if (err) {
		/* It went down since the verdict: the kernel takes it. */
		ds->posted = false;
		tcp_set_state(sk, TCP_CLOSE);
		dmm_path_reset(sk);
		WRITE_ONCE(tp->write_seq, 0);
		return connect_native(sk, ds, uaddr, addr_len,
				      DMM_FALLBACK_STACK_DOWN);
	}
	dmm_sock_post_options(sk, ds, sock_flag(sk, SOCK_KEEPOPEN));

	atomic64_inc(&ds->stack->adopted);
	atomic64_inc(&dmm_totals.adopted);
	trace_dmm_adopt(sk, ds->stack->id, ds->slot);
	return 0;

err_close:
	tcp_set_state(sk, TCP_CLOSE);
	dmm_path_reset(sk);
	dmm_adopt_undo(sk);
	return err;
}

/* As tcp_disconnect(), which does the rest. */
int dmm_disconnect(struct sock *sk, int flags)
{
	struct dmm_sock *ds = dmm_conn(sk);

	if (sk->sk_state != TCP_CLOSE) {
		dmm_sock_post_abort(ds);
		WRITE_ONCE(sk->sk_err, ECONNRESET);
		tcp_set_state(sk, TCP_CLOSE);
	}
	dmm_adopt_undo(sk);
	return sk->sk_prot->disconnect(sk, flags);
}

/* ---- closing ---------------------------------------------------------- */

/* As tcp_close_state(): whether a FIN is due. */
static bool close_state(struct sock *sk)
{
	switch (sk->sk_state) {
	case TCP_ESTABLISHED:
		tcp_set_state(sk, TCP_FIN_WAIT1);
		return true;
	case TCP_CLOSE_WAIT:
		tcp_set_state(sk, TCP_LAST_ACK);
		return true;
	default:
		return false;
	}
}

static void dmm_shutdown(struct sock *sk, int how)
{
	if (how & SEND_SHUTDOWN && close_state(sk))
		dmm_sock_post(dmm_sk(sk), DMM_OP_SHUTDOWN);
}

/* Must the connection be torn down instead of closed? */
static bool close_aborts(struct sock *sk, struct dmm_sock *ds)
{
	if (sk->sk_state == TCP_SYN_SENT)
		return true;
	if (sk->sk_state == TCP_FIN_WAIT2 && tcp_sk(sk)->linger2 < 0)
		return true;
	/* Data that nobody will read: RFC 2525, section 2.17. */
	if (dmm_sock_rx_avail(ds))
		return true;
	return sock_flag(sk, SOCK_LINGER) && !sk->sk_lingertime;
}

/*
 * The connection outlives the program: as the second half of __tcp_close(), the
 * sock stays hashed and bound until the worker says that it is done.
 */
static void close_orphan(struct sock *sk)
{
	sock_hold(sk);
	sock_orphan(sk);

	local_bh_disable();
	bh_lock_sock(sk);
	this_cpu_inc(tcp_orphan_count);
	if (sk->sk_state == TCP_CLOSE)
		inet_csk_destroy_sock(sk);
	bh_unlock_sock(sk);
	local_bh_enable();
	/* May take up events and end the sock, but for the hold above. */
	release_sock(sk);
	sock_put(sk);
}

static void dmm_close(struct sock *sk, long timeout)
{
	struct dmm_sock *ds;

	lock_sock(sk);
	ds = dmm_conn(sk);
	if (!ds || sk->sk_state == TCP_CLOSE || close_aborts(sk, ds)) {
		if (ds) {
			if (sk->sk_state != TCP_CLOSE) {
				dmm_sock_post_abort(ds);
				tcp_set_state(sk, TCP_CLOSE);
			}
			dmm_adopt_undo(sk);
		}
		release_sock(sk);
		sk->sk_prot->close(sk, timeout);
		return;
	}

	WRITE_ONCE(sk->sk_shutdown, SHUTDOWN_MASK);
	close_state(sk);
	dmm_sock_post(ds, DMM_OP_CLOSE);
	sk_stream_wait_close(sk, timeout);
	close_orphan(sk);
}

/* `ss -K`, bpf_sock_destroy(); as tcp_abort(). */
static int dmm_abort(struct sock *sk, int err)
{
	struct dmm_sock *ds;
	int ret = -ENOENT;

	if (!has_current_bpf_ctx())
		lock_sock(sk);
	ds = dmm_conn(sk);
	if (ds && sk->sk_state != TCP_CLOSE) {
		dmm_sock_post_abort(ds);
		local_bh_disable();
		bh_lock_sock(sk);
		WRITE_ONCE(sk->sk_err, err);
		/* Pairs with smp_rmb() in dmm_poll(). */
		smp_wmb();
		tcp_done(sk);
		if (!sock_flag(sk, SOCK_DEAD))
			sk_error_report(sk);
		bh_unlock_sock(sk);
		local_bh_enable();
		ret = 0;
	}
	if (!has_current_bpf_ctx())
		release_sock(sk);
	return ret;
}

/* Its cgroup has come to filter packets: a stack's would go past that. */
static void end_if_forbidden(struct sock *sk)
{
	struct dmm_sock *ds = dmm_conn(sk);

	if (likely(!dmm_protect_forbids(sk)) || !ds)
		return;
	local_bh_disable();
	bh_lock_sock(sk);
	dmm_protect_end(sk, ds);
	bh_unlock_sock(sk);
	local_bh_enable();
}

/* ---- sending ---------------------------------------------------------- */

/* Wait until there is room; 0, or why not. */
static int wait_room(struct sock *sk, long *timeo)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	int done;

	if (!*timeo)
		return -EAGAIN;
	if (signal_pending(current))
		return sock_intr_errno(*timeo);

	add_wait_queue(sk_sleep(sk), &wait);
	sk->sk_write_pending++;
	done = sk_wait_event(sk, timeo,
			     READ_ONCE(sk->sk_err) ||
			     READ_ONCE(sk->sk_shutdown) & SEND_SHUTDOWN ||
			     writeable(sk), &wait);
	sk->sk_write_pending--;
	remove_wait_queue(sk_sleep(sk), &wait);
	return done < 0 ? done : 0;
}

/* Give @len more bytes to the worker; @more will follow. */
static void tx_publish(struct dmm_sock *ds, u32 len, bool more)
{
	u32 old = ds->tx_prod;

	if (more)
		WRITE_ONCE(ds->shm->tx_more, old + len);
	WRITE_ONCE(ds->tx_prod, old + len);
	/* Pairs with the worker's load-acquire before it reads the bytes. */
	smp_store_release(&ds->shm->tx_prod, old + len);
	/* Pairs with its barrier between arming and looking again. */
	smp_mb();
	if (dmm_need_event(READ_ONCE(ds->shm->tx_event), old + len, old))
		dmm_sock_post(ds, DMM_OP_TX);
}

/* Copy what fits now; bytes, 0 when full, or an error. */
static ssize_t tx_copy(struct sock *sk, struct msghdr *msg)
{
	struct dmm_sock *ds = dmm_conn(sk);
	u32 used, room;
	ssize_t n;

	if (!ds)
		return -EPIPE;
	used = dmm_sock_tx_used(ds);
	if (used == DMM_RING_BROKEN) {
		dmm_sock_broken(sk, ds);
		return -EPIPE;
	}
	room = tx_room(sk, ds, used);
	if (!room)
		return 0;
	/* By pieces, so that the worker begins while the rest is copied. */
	n = min3((size_t)room, msg_data_left(msg), (size_t)SZ_64K);
	n = dmm_ring_from_iter(sk, ds->stack->arena, &ds->tx, ds->tx_prod, n,
			       &msg->msg_iter);
	if (n < 0)
		return n == -ENOMEM ? -ENOBUFS : n;
	tx_publish(ds, n, msg->msg_flags & MSG_MORE && !msg_data_left(msg));
	return n;
}

static int sendmsg_locked(struct sock *sk, struct msghdr *msg, size_t size)
{
	long timeo = sock_sndtimeo(sk, msg->msg_flags & MSG_DONTWAIT);
	int flags = msg->msg_flags, copied = 0, err;

	if (flags & MSG_FASTOPEN)
		return sk->sk_state == TCP_SYN_SENT ? -EALREADY : -EISCONN;
	if (flags & MSG_OOB)
		return -EOPNOTSUPP;

	if ((1 << sk->sk_state) & TCPF_SYN_SENT) {
		err = sk_stream_wait_connect(sk, &timeo);
		if (err)
			goto out_err;
	}
	err = dmm_option_send(sk, msg);
	if (err)
		goto out_err;
	sk_clear_bit(SOCKWQ_ASYNC_NOSPACE, sk);

	err = -EPIPE;
	if (sk->sk_err || sk->sk_shutdown & SEND_SHUTDOWN)
		goto out_err;

	while (msg_data_left(msg)) {
		ssize_t n = tx_copy(sk, msg);

		if (n > 0) {
			copied += n;
			continue;
		}
		err = n;
		if (err)
			goto out_err;
		arm_room(sk);
		if (writeable(sk))
			continue;
		err = wait_room(sk, &timeo);
		if (err)
			goto out_err;
		err = -EPIPE;
		if (sk->sk_err || sk->sk_shutdown & SEND_SHUTDOWN)
			goto out_err;
	}
	return copied;

out_err:
	return copied ?: sk_stream_error(sk, flags, err);
}

static int dmm_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)
{
	struct ubuf_info *uarg = NULL;
	struct dmm_sock *ds;
	int ret;

	lock_sock(sk);
	if (!dmm_conn(sk)) {
		release_sock(sk);
		return dmm_family(sk)->base->sendmsg(sk, msg, size);
	}

	end_if_forbidden(sk);
	/* The bytes are copied; the notification says so, as TCP's may. */
	if (msg->msg_flags & MSG_ZEROCOPY && size && !msg->msg_ubuf &&
	    sock_flag(sk, SOCK_ZEROCOPY)) {
		uarg = msg_zerocopy_realloc(sk, size, NULL);
		if (!uarg) {
			release_sock(sk);
			return -ENOBUFS;
		}
		uarg_to_msgzc(uarg)->zerocopy = 0;
	}
	ret = sendmsg_locked(sk, msg, size);
	ds = dmm_conn(sk);
	if (ds)
		dmm_sock_sync(sk, ds);
	if (ret > 0)
		net_zcopy_put(uarg);
	else
		net_zcopy_put_abort(uarg, true);
	release_sock(sk);
	return ret;
}

/* ---- receiving -------------------------------------------------------- */

static int wait_data(struct sock *sk, long *timeo, u32 target)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	int done;

	add_wait_queue(sk_sleep(sk), &wait);
	sk_set_bit(SOCKWQ_ASYNC_WAITDATA, sk);
	arm_rx(sk);
	done = sk_wait_event(sk, timeo,
			     READ_ONCE(sk->sk_err) ||
			     READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN ||
			     inet_sk_state_load(sk) == TCP_CLOSE ||
			     readable(sk, target), &wait);
	sk_clear_bit(SOCKWQ_ASYNC_WAITDATA, sk);
	remove_wait_queue(sk_sleep(sk), &wait);
	return done < 0 ? done : 0;
}

static void rx_consume(struct dmm_sock *ds, u32 len)
{
	u32 old = ds->rx_cons;

	WRITE_ONCE(ds->rx_cons, old + len);
	/* Pairs with the worker's load-acquire before it fills the room. */
	smp_store_release(&ds->shm->rx_cons, old + len);
	/* Pairs with its barrier between arming and looking again. */
	smp_mb();
	if (dmm_need_event(READ_ONCE(ds->shm->rx_room_event), old + len, old))
		dmm_sock_post(ds, DMM_OP_ROOM);
}

/*
 * Copy what is there, from @skip bytes on; bytes, 0 when there is nothing, or an
 * error. MSG_TRUNC throws the bytes away instead, MSG_PEEK leaves them.
 */
static ssize_t rx_copy(struct sock *sk, struct msghdr *msg, size_t len,
		       u32 skip, int flags)
{
	struct dmm_sock *ds = dmm_conn(sk);
	u32 avail;
	ssize_t n;

	if (!ds)
		return 0;
	avail = dmm_sock_rx_avail(ds);
	if (avail == DMM_RING_BROKEN) {
		dmm_sock_broken(sk, ds);
		return 0;
	}
	if (avail <= skip || !len)
		return 0;

	n = min_t(size_t, len, avail - skip);
	if (!(flags & MSG_TRUNC)) {
		n = dmm_ring_to_iter(sk, ds->stack->arena, &ds->rx,
				     ds->rx_cons + skip, n, &msg->msg_iter);
		if (n < 0)
			return n;
	}
	if (!(flags & MSG_PEEK))
		rx_consume(ds, n);
	return n;
}

/* Peeking, there is no more to see than the ring holds. */
static u32 peek_limit(struct sock *sk)
{
	struct dmm_sock *ds = dmm_conn(sk);

	return ds ? ds->rx.size : 0;
}

/* Why there is nothing to read: 1 wait, 0 the end, or an error. */
static int rx_nothing(struct sock *sk, long timeo)
{
	if (sock_flag(sk, SOCK_DONE))
		return 0;
	if (sk->sk_err)
		return sock_error(sk);
	if (sk->sk_shutdown & RCV_SHUTDOWN)
		return 0;
	if (sk->sk_state == TCP_CLOSE)
		return -ENOTCONN;
	if (!timeo)
		return -EAGAIN;
	if (signal_pending(current))
		return sock_intr_errno(timeo);
	return 1;
}

static int recvmsg_locked(struct sock *sk, struct msghdr *msg, size_t len,
			  int flags)
{
	long timeo = sock_rcvtimeo(sk, flags & MSG_DONTWAIT);
	int target = sock_rcvlowat(sk, flags & MSG_WAITALL, len);
	int copied = 0, err = 0;
	u32 skip = 0;

	if (flags & MSG_OOB)
		return -EINVAL;
	if (flags & MSG_PEEK)
		skip = max(sk_peek_offset(sk, flags), 0);

	do {
		ssize_t n = rx_copy(sk, msg, len, skip, flags);

		if (n < 0) {
			err = n;
			break;
		}
		if (n) {
			copied += n;
			len -= n;
			if (flags & MSG_PEEK)
				skip += n;
			continue;
		}
		/* Nothing is wanted, and there is something: as TCP, 0. */
		if (!len && readable(sk, 1))
			break;
		if (copied >= target || skip >= peek_limit(sk))
			break;
		if (copied) {
			if (sk->sk_err || sk->sk_state == TCP_CLOSE ||
			    sk->sk_shutdown & RCV_SHUTDOWN || !timeo ||
			    signal_pending(current))
				break;
		} else {
			err = rx_nothing(sk, timeo);
			if (err <= 0)
				break;
		}
		err = wait_data(sk, &timeo,
				skip + min_t(size_t, len, target - copied));
		if (err)
			break;
	} while (len);
	if (copied) {
		if (flags & MSG_PEEK)
			sk_peek_offset_fwd(sk, copied);
		else
			sk_peek_offset_bwd(sk, copied);
	}
	return copied ?: err;
}

/* As tcp_inq_hint(): after the FIN never 0, for there is an end to read. */
static int rx_left(const struct sock *sk, const struct dmm_sock *ds)
{
	u32 avail = ds ? dmm_sock_rx_avail(ds) : 0;

	if (avail == DMM_RING_BROKEN)
		avail = 0;
	return avail ?: sock_flag(sk, SOCK_DONE);
}

static int dmm_recvmsg(struct sock *sk, struct msghdr *msg, size_t len,
		       int flags, int *addr_len)
{
	struct dmm_sock *ds;
	bool tell = false;
	int ret;

	if (unlikely(flags & MSG_ERRQUEUE))
		return inet_recv_error(sk, msg, len, addr_len);

	lock_sock(sk);
	if (!dmm_conn(sk)) {
		release_sock(sk);
		return dmm_family(sk)->base->recvmsg(sk, msg, len, flags, addr_len);
	}
	end_if_forbidden(sk);
	ret = recvmsg_locked(sk, msg, len, flags);
	ds = dmm_conn(sk);
	if (ds)
		dmm_sock_sync(sk, ds);
	if (ret >= 0 && (tcp_sk(sk)->recvmsg_inq || msg->msg_get_inq)) {
		msg->msg_inq = rx_left(sk, ds);
		tell = tcp_sk(sk)->recvmsg_inq;
	}
	/* An edge for each arrival, as native: epoll's EPOLLET leans on it. */
	arm_rx(sk);
	release_sock(sk);
	if (tell)
		put_cmsg(msg, SOL_TCP, TCP_CM_INQ, sizeof(msg->msg_inq),
			 &msg->msg_inq);
	return ret;
}

/* ---- the rest --------------------------------------------------------- */

/* The filter lets nothing through; this is for what was on its way already. */
static int dmm_backlog_rcv(struct sock *sk, struct sk_buff *skb)
{
	kfree_skb(skb);
	return 0;
}

/*
 * A child is made by whatever accept() the listener had when that was called, and
 * the listener may have become something else while it slept: a native one, even
 * another one. inet_accept() lets go of the child's lock after it gave it its
 * struct socket, before anybody else can have that.
 */
static void fix_ops(struct sock *sk)
{
	struct dmm_family *f = dmm_family(sk);
	struct socket *sock = sk->sk_socket;

	if (dmm_is_adopted(sk) && sock &&
	    unlikely(READ_ONCE(sock->ops) != &f->adopted_ops))
		dmm_set_socket_ops(sock, &f->adopted_ops);
	/* A child that was cloned while its listener was given back to TCP. */
	if (unlikely(dmm_is_listening(sk) && !dmm_sk(sk)))
		WRITE_ONCE(sk->sk_prot, f->base);
}

/* TCP's part gives back what tcp_v4_err() may have deferred. */
void dmm_release_cb(struct sock *sk)
{
	dmm_family(sk)->base->release_cb(sk);
	fix_ops(sk);
	dmm_sock_pending(sk);
	dmm_option_release(sk);
}

static void family_init(struct dmm_family *f, struct proto *base,
			const struct proto_ops *base_ops)
{
	struct proto *prot = &f->adopted;
	struct proto_ops *ops = &f->adopted_ops;

	f->base = base;
	f->base_ops = base_ops;

	f->assigned = *base;
	f->assigned.owner = THIS_MODULE;
	f->assigned.pre_connect = dmm_assigned_pre_connect;
	f->assigned.connect = dmm_connect;
#ifdef CONFIG_BPF_SYSCALL
	f->assigned.psock_update_sk_prot = NULL;	/* no sockmap */
#endif
	/* Its owner stays: __sock_release() puts what __sock_create() got. */
	f->assigned_ops = *base_ops;

	*prot = *base;
	prot->owner = THIS_MODULE;
	prot->close = dmm_close;
	prot->disconnect = dmm_disconnect;
	prot->ioctl = dmm_ioctl;
	prot->shutdown = dmm_shutdown;
	prot->getsockopt = dmm_getsockopt;
	prot->keepalive = dmm_keepalive;
	prot->recvmsg = dmm_recvmsg;
	prot->sendmsg = dmm_sendmsg;
	prot->splice_eof = NULL;
	prot->backlog_rcv = dmm_backlog_rcv;
	prot->release_cb = dmm_release_cb;
	prot->diag_destroy = dmm_abort;
#ifdef CONFIG_BPF_SYSCALL
	prot->psock_update_sk_prot = NULL;	/* no sockmap */
#endif

	*ops = *base_ops;
	ops->poll = dmm_poll;
	ops->mmap = sock_no_mmap;
	ops->splice_read = NULL;	/* copy_splice_read() serves */
	ops->read_sock = NULL;		/* no KCM, no in-kernel reader */
	ops->read_skb = NULL;
	ops->sendmsg_locked = NULL;
	ops->peek_len = NULL;
	ops->setsockopt = dmm_setsockopt;
	ops->set_rcvlowat = dmm_set_rcvlowat;

	dmm_listen_proto_init(f);
}

/* inet6_stream_ops is not exported: a socket knows it. */
int dmm_proto_init(void)
{
	struct socket *sock;
	int err;

	family_init(&dmm_inet, &tcp_prot, &inet_stream_ops);

	err = sock_create_kern(&init_net, AF_INET6, SOCK_STREAM, IPPROTO_TCP,
			       &sock);
	if (err == -EAFNOSUPPORT)	/* ipv6.disable=1 */
		return 0;
	if (err)
		return err;
	family_init(&dmm_inet6, sock->sk->sk_prot, sock->ops);
	sock_release(sock);
	return 0;
}
