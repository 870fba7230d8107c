// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dual listen: one listener, served by the stack and by the kernel at once.
 *
 * A stack's child is made by TCP's own ->syn_recv_sock() from a made-up last ACK
 * of the handshake, as SYN cookies do (tcp_get_cookie_sock()), is adopted, and goes
 * into the listener's own accept queue. So accept(), poll(), the backlog, several
 * accepting processes and close() of a listener with waiting children are the
 * kernel's own code, and children of both sides come in the order they arrived.
 *
 * The listener's ULP clone op turns each child, whoever made it, into plain TCP.
 */
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/security.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <net/addrconf.h>
#include <net/inet6_hashtables.h>
#include <net/inet_common.h>
#include <net/inet_connection_sock.h>
#include <net/ipv6.h>
#include <net/request_sock.h>
#include <net/tcp.h>

#include "adopt.h"
#include "channel.h"
#include "listen.h"
#include "option.h"
#include "proto.h"
#include "protect.h"
#include "relisten.h"
#include "route.h"
#include "sock.h"
#include "stack.h"
#include "trace.h"

/* ---- the listener ----------------------------------------------------- */

/* TCP keeps it as the number of SYN-ACKs: after 1, 2, 4 ... seconds. */
static u32 defer_secs(struct sock *sk)
{
	u8 n = READ_ONCE(inet_csk(sk)->icsk_accept_queue.rskq_defer_accept);

	return min((1U << min(n, 16U)) - 1, TCP_RTO_MAX / HZ);
}

static void fill_op_listen(struct sock *sk, struct dmm_sock *ds)
{
	struct dmm_op_listen op = {
		.family = sk->sk_family,
		.port = inet_sk(sk)->inet_sport,
		.backlog = READ_ONCE(sk->sk_max_ack_backlog),
		.defer = defer_secs(sk),
		.ifindex = ds->stack->ifindex,
	};

	if (sk->sk_family == AF_INET) {
		op.addr[0] = inet_sk(sk)->inet_rcv_saddr;
	} else if (ipv6_addr_v4mapped(&sk->sk_v6_rcv_saddr)) {
		op.family = AF_INET;
		op.addr[0] = sk->sk_v6_rcv_saddr.s6_addr32[3];
	} else {
		memcpy(op.addr, &sk->sk_v6_rcv_saddr, sizeof(op.addr));
		if (ipv6_only_sock(sk))
			op.flags = DMM_LISTEN_V6ONLY;
	}

	spin_lock_bh(&ds->stack->op_lock);
	ds->op_listen = op;
	spin_unlock_bh(&ds->stack->op_lock);
}

/**
 * dmm_listen_post - tell a worker of a listener
 * @sk: the listener; the caller holds its lock
 * @ds: its state, with a slot that the worker does not know of yet
 *
 * In any context. Return: 0, or -ESHUTDOWN when the stack went down.
 */
int dmm_listen_post(struct sock *sk, struct dmm_sock *ds)
{
	struct dmm_stack *stack = ds->stack;
	int err;

	fill_op_listen(sk, ds);
	WRITE_ONCE(ds->posted, true);
	err = dmm_ops_post(ds, BIT(DMM_OP_LISTEN));
	if (err)
		return err;
	atomic64_inc(&stack->adopted);
	atomic64_inc(&dmm_totals.adopted);
	trace_dmm_adopt(sk, stack->id, ds->slot);
	return 0;
}

/* What a program may wait for its stack, when it listens and when it stops. */
#define ANSWER_TIMEOUT	(HZ / 5)

/*
 * A program may rely on what listen() and close() did when they return: who connects
 * after the one is accepted, after the other refused. So both wait for the worker to
 * have heard, without any lock, but not long, for it may be stuck: then the kernel
 * serves the listener meanwhile, or a connection may be reset instead of refused.
 * While it is stuck not each of them waits: a program with a thousand listeners exits.
 * Consumes a reference to @ds.
 */
static void answer_wait(struct dmm_sock *ds, const bool *answer)
{
	struct dmm_stack *stack = ds->stack;

	if (time_after_eq(jiffies, READ_ONCE(stack->deaf_until)) &&
	    !wait_event_killable_timeout(stack->answers,
					 READ_ONCE(*answer) ||
					 READ_ONCE(ds->ended), ANSWER_TIMEOUT))
		WRITE_ONCE(stack->deaf_until, jiffies + HZ);
	dmm_sock_put(ds);
}

/*
 * Offer a socket that listens, natively so far, to its stack as well. If that
 * cannot be, the kernel serves it alone, or nobody.
 */
static int listen_start(struct sock *sk, struct dmm_sock *ds)
{
	enum dmm_fallback reason = DMM_FALLBACK_NONE;
	struct dmm_stack *stack = ds->stack;
	bool strict = ds->strict;
	int err;

	/* Whatever was set since bind(). */
	reason = dmm_protect_check(sk, true);
	if (!reason && !dmm_listen_route(sk, stack))
		reason = DMM_FALLBACK_ROUTE;
	if (reason)
		goto fallback;
	err = dmm_stack_slot_take(stack, ds, sk);
	if (err) {
		reason = dmm_stack_slot_reason(err);
		goto fallback;
	}
	dmm_adopt_listen(sk);
	if (!dmm_listen_post(sk, ds))
		return 0;
	ds->posted = false;
	reason = DMM_FALLBACK_STACK_DOWN;

fallback:
	dmm_fallback(stack, sk, stack->id, reason);
	dmm_adopt_undo(sk);
	if (!strict)
		return 0;
	sk->sk_prot->disconnect(sk, O_NONBLOCK);
	return -ENETDOWN;
}

/* A verdict that an earlier bind() did not use is void. */
static int dmm_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)
{
	struct sock *sk = sock->sk;

	lock_sock(sk);
	/* Else there is a port, and this call is about to be refused. */
	if (dmm_is_assigned(sk) && !inet_sk(sk)->inet_num)
		dmm_adopt_undo(sk);
	release_sock(sk);
	return dmm_family(sk)->base_ops->bind(sock, uaddr, addr_len);
}

/* listen(), first and again: the kernel's, then the stack's. */
static int dmm_listen(struct socket *sock, int backlog)
{
	struct sock *sk = sock->sk;
	struct dmm_sock *ds, *new = NULL;
	int err;

	err = inet_listen(sock, backlog);
	if (err)
		return err;

	lock_sock(sk);
	ds = dmm_sk(sk);
	if (ds && sk->sk_state == TCP_LISTEN) {
		if (dmm_is_assigned(sk) && ds->conn) {
			/* A verdict for a connect() that failed early. */
			dmm_adopt_undo(sk);
		} else if (dmm_is_assigned(sk)) {
			err = listen_start(sk, ds);
			new = dmm_is_listening(sk) ? dmm_sk(sk) : NULL;
			if (new)
				refcount_inc(&new->refs);
		} else if (dmm_is_listening(sk)) {
			fill_op_listen(sk, ds);
			dmm_sock_post(ds, DMM_OP_LISTEN);
		}
	}
	release_sock(sk);
	if (new)
		answer_wait(new, &new->served);
	return err;
}

static int dmm_listen_setsockopt(struct sock *sk, int level, int optname,
				 sockptr_t optval, unsigned int optlen)
{
	struct proto *base = dmm_family(sk)->base;
	int err = base->setsockopt(sk, level, optname, optval, optlen);
	struct dmm_sock *ds;

	if (err || level != SOL_TCP || optname != TCP_DEFER_ACCEPT)
		return err;
	lock_sock(sk);
	ds = dmm_is_listening(sk) ? dmm_sk(sk) : NULL;
	if (ds) {
		fill_op_listen(sk, ds);
		dmm_sock_post(ds, DMM_OP_LISTEN);
	}
	release_sock(sk);
	return 0;
}

/* One that the kernel serves alone has no ULP that a program should see. */
static int dmm_listen_getsockopt(struct sock *sk, int level, int optname,
				 char __user *optval, int __user *optlen)
{
	if (!dmm_listens_too(sk) && level == SOL_TCP && optname == TCP_ULP)
		return put_user(0, optlen);
	return dmm_family(sk)->base->getsockopt(sk, level, optname, optval,
						optlen);
}

static int dmm_accept(struct socket *sock, struct socket *newsock,
		      struct proto_accept_arg *arg)
{
	struct dmm_family *f;
	int err = inet_accept(sock, newsock, arg);

	if (err)
		return err;
	/* do_accept() gave it the listener's. */
	f = dmm_family(newsock->sk);
	dmm_set_socket_ops(newsock, dmm_is_adopted(newsock->sk) ?
				    &f->adopted_ops : f->base_ops);
	return 0;
}

/* The kernel's half ends; as tcp_close() and tcp_disconnect(). */
static void listen_stop(struct sock *sk)
{
	if (sk->sk_state != TCP_LISTEN)
		return;
	tcp_set_state(sk, TCP_CLOSE);
	/* Children that wait are ended by ->disconnect(), which is ours yet. */
	inet_csk_listen_stop(sk);
}

static void dmm_listen_close(struct sock *sk, long timeout)
{
	struct dmm_sock *old = NULL;

	lock_sock(sk);
	if (sk->sk_state == TCP_LISTEN)
		WRITE_ONCE(sk->sk_shutdown, SHUTDOWN_MASK);
	listen_stop(sk);
	/*
	 * It stays ours to its end: an incoming() that is on its way may bring a
	 * child still, and has it ended by our ->disconnect().
	 */
	old = dmm_is_listening(sk) ? dmm_sk(sk) : NULL;
	if (old) {
		refcount_inc(&old->refs);
		dmm_sock_post_abort(old);
	}
	release_sock(sk);
	/* One that waits for its stack, or has none, was never told of. */
	if (old && old->posted)
		answer_wait(old, &old->ended);
	else if (old)
		dmm_sock_put(old);
	dmm_family(sk)->base->close(sk, timeout);
}

/* Of the listener itself (shutdown()), and of children nobody accepted. */
static int dmm_listen_disconnect(struct sock *sk, int flags)
{
	struct proto *base = dmm_family(sk)->base;

	if (dmm_is_adopted(sk))
		return dmm_disconnect(sk, flags);
	if (dmm_is_listening(sk)) {
		listen_stop(sk);
		dmm_adopt_undo(sk);	/* and tells the worker */
	}
	return base->disconnect(sk, flags);
}

/* ---- children --------------------------------------------------------- */

/* Could a packet have come by the wire, from there to here? */
static bool incoming_valid_v4(struct net *net, const struct dmm_ev_incoming *in)
{
	return inet_addr_type(net, in->laddr[0]) == RTN_LOCAL &&
	       !ipv4_is_loopback(in->laddr[0]) &&
	       !ipv4_is_loopback(in->raddr[0]) &&
	       !ipv4_is_zeronet(in->raddr[0]) &&
	       !ipv4_is_lbcast(in->raddr[0]) &&
	       inet_addr_type(net, in->raddr[0]) == RTN_UNICAST;
}

static bool incoming_valid_v6(struct net *net, int ifindex,
			      const struct dmm_ev_incoming *in)
{
	const struct in6_addr *laddr = (const struct in6_addr *)in->laddr;
	const struct in6_addr *raddr = (const struct in6_addr *)in->raddr;
	int bad = IPV6_ADDR_MULTICAST | IPV6_ADDR_LOOPBACK | IPV6_ADDR_MAPPED;
	struct net_device *dev = dev_get_by_index_rcu(net, ifindex);

	return dev && !ipv6_addr_any(raddr) && !ipv6_addr_any(laddr) &&
	       !((ipv6_addr_type(raddr) | ipv6_addr_type(laddr)) & bad) &&
	       ipv6_chk_addr(net, laddr, dev, 0) &&
	       !ipv6_chk_addr(net, raddr, dev, 0);
}

static bool incoming_valid(const struct sock *sk, const struct dmm_sock *ds,
			   const struct dmm_ev_incoming *in)
{
	const struct in6_addr *laddr = (const struct in6_addr *)in->laddr;

	if (in->lport != inet_sk(sk)->inet_sport || !in->rport)
		return false;

	if (in->family == AF_INET) {
		if (!incoming_valid_v4(sock_net(sk), in))
			return false;
		if (sk->sk_family == AF_INET6 && ipv6_only_sock(sk))
			return false;
		return !inet_sk(sk)->inet_rcv_saddr ||
		       inet_sk(sk)->inet_rcv_saddr == in->laddr[0] ||
		       (sk->sk_family == AF_INET6 &&
			ipv6_addr_any(&sk->sk_v6_rcv_saddr));
	}
	if (in->family != AF_INET6 || sk->sk_family != AF_INET6)
		return false;
	if (!incoming_valid_v6(sock_net(sk), ds->stack->ifindex, in))
		return false;
	return ipv6_addr_any(&sk->sk_v6_rcv_saddr) ||
	       ipv6_addr_equal(&sk->sk_v6_rcv_saddr, laddr);
}

/* The ACK that would have ended the handshake. */
static struct sk_buff *incoming_skb(const struct dmm_ev_incoming *in,
				    int ifindex, u32 seq)
{
	unsigned int iplen = in->family == AF_INET ? sizeof(struct iphdr) :
						     sizeof(struct ipv6hdr);
	struct sk_buff *skb;
	struct tcphdr *th;

	skb = alloc_skb(iplen + sizeof(*th), GFP_ATOMIC | __GFP_NOWARN);
	if (!skb)
		return NULL;
	skb->skb_iif = ifindex;		/* for IP_PKTINFO */
	skb_reset_network_header(skb);
	if (in->family == AF_INET) {
		struct iphdr *iph = skb_put_zero(skb, sizeof(*iph));

		skb->protocol = htons(ETH_P_IP);
		iph->version = 4;
		iph->ihl = sizeof(*iph) / 4;
		iph->tos = in->dscp;
		iph->ttl = in->ttl;
		iph->protocol = IPPROTO_TCP;
		iph->saddr = in->raddr[0];
		iph->daddr = in->laddr[0];
	} else {
		struct ipv6hdr *ip6h = skb_put_zero(skb, sizeof(*ip6h));

		skb->protocol = htons(ETH_P_IPV6);
		ip6_flow_hdr(ip6h, in->dscp, 0);
		ip6h->hop_limit = in->ttl;
		ip6h->nexthdr = IPPROTO_TCP;
		memcpy(&ip6h->saddr, in->raddr, sizeof(ip6h->saddr));
		memcpy(&ip6h->daddr, in->laddr, sizeof(ip6h->daddr));
	}
	skb_set_transport_header(skb, iplen);
	th = skb_put_zero(skb, sizeof(*th));
	th->source = in->rport;
	th->dest = in->lport;
	th->ack = 1;
	th->doff = sizeof(*th) / 4;
	th->window = htons(U16_MAX);
	TCP_SKB_CB(skb)->seq = seq;
	TCP_SKB_CB(skb)->end_seq = seq;
	return skb;
}

/* Its peer is one of the stack's device, and only there. */
static bool is_link_local(const struct inet_request_sock *ireq)
{
	return ireq->ireq_family == AF_INET6 &&
	       ipv6_addr_type(&ireq->ir_v6_rmt_addr) & IPV6_ADDR_LINKLOCAL;
}

static struct request_sock *incoming_req(struct sock *sk,
					 const struct dmm_ev_incoming *in,
					 const struct dmm_stack *stack, u32 seq)
{
	/* Its route is looked up as if bound to the device, as connect()'s is. */
	int own_ifindex = stack->flags & DMM_ATTACH_F_ROUTE_OWN ?
			  stack->ifindex : 0;
	struct inet_request_sock *ireq;
	struct request_sock *req;

	req = inet_reqsk_alloc(dmm_family(sk)->base->rsk_prot, sk, false);
	if (!req)
		return NULL;
	ireq = inet_rsk(req);
	tcp_rsk(req)->rcv_isn = seq - 1;
	tcp_rsk(req)->snt_isn = get_random_u32();
	tcp_rsk(req)->snt_synack = 0;
	tcp_rsk(req)->ts_off = 0;
	tcp_rsk(req)->txhash = net_tx_rndhash();
	tcp_rsk(req)->tfo_listener = false;
	tcp_rsk(req)->req_usec_ts = false;
	tcp_rsk(req)->syn_tos = in->dscp;
#if IS_ENABLED(CONFIG_MPTCP)
	tcp_rsk(req)->is_mptcp = 0;
#endif
#ifdef CONFIG_TCP_AO
	tcp_rsk(req)->used_tcp_ao = false;
#endif
	tcp_rsk(req)->af_specific = NULL;
	req->secid = 0;
	req->peer_secid = 0;
	req->mss = TCP_MSS_DEFAULT;
	req->rsk_rcv_wnd = U16_MAX;
	/* The child's, which the worker is told. */
	req->rsk_window_clamp = READ_ONCE(tcp_sk(sk)->window_clamp);
	ireq->ir_num = ntohs(in->lport);
	ireq->ir_rmt_port = in->rport;
	ireq->ir_mark = READ_ONCE(sk->sk_mark);
	ireq->ir_iif = sk->sk_bound_dev_if ?: own_ifindex;
	if (in->family == AF_INET) {
		sk_rcv_saddr_set(req_to_sk(req), in->laddr[0]);
		sk_daddr_set(req_to_sk(req), in->raddr[0]);
		ireq->ireq_family = AF_INET;
	} else {
		memcpy(&ireq->ir_v6_loc_addr, in->laddr,
		       sizeof(ireq->ir_v6_loc_addr));
		memcpy(&ireq->ir_v6_rmt_addr, in->raddr,
		       sizeof(ireq->ir_v6_rmt_addr));
		ireq->ireq_family = AF_INET6;
		if (is_link_local(ireq))
			ireq->ir_iif = stack->ifindex;
	}
	ireq->snd_wscale = 0;
	ireq->rcv_wscale = 0;
	ireq->wscale_ok = 0;
	ireq->tstamp_ok = 0;
	ireq->sack_ok = 0;
	ireq->ecn_ok = 0;
	ireq->acked = 1;
	ireq->no_srccheck = 0;
	ireq->smc_ok = 0;
	return req;
}

/* TCP's part of a child: in the tables, in TCP_SYN_RECV, its spinlock held. */
static struct sock *incoming_child(struct sock *sk, struct sk_buff *skb,
				   struct request_sock *req)
{
	const struct inet_connection_sock_af_ops *ops =
		READ_ONCE(inet_csk(sk)->icsk_af_ops);
	bool own_req = false;
	struct sock *child;

#ifdef DMM_HAVE_OPT_CHILD_INIT
	child = ops->syn_recv_sock(sk, skb, req, NULL, NULL, &own_req, NULL);
#else
	child = ops->syn_recv_sock(sk, skb, req, NULL, NULL, &own_req);
#endif
	/* It was for the route alone. */
	if (child && !is_link_local(inet_rsk(req)))
		WRITE_ONCE(child->sk_bound_dev_if, sk->sk_bound_dev_if);
	/* Without a request to take the place of, one that is taken gives NULL. */
	WARN_ON_ONCE(child && !own_req);
	return child;
}

/* Make the child the stack's; in TCP_ESTABLISHED, still not accepted. */
static bool incoming_adopt(struct sock *child, struct dmm_sock *listener,
			   const struct dmm_ev_incoming *in)
{
	struct dmm_stack *stack = listener->stack;
	struct dmm_sock *ds;
	int err;

	ds = dmm_sock_alloc(stack, child, true);
	if (!ds)
		return false;
	err = dmm_stack_slot_take(stack, ds, child);
	if (err) {
		dmm_fallback(stack, child, stack->id,
			     dmm_stack_slot_reason(err));
		dmm_sock_put(ds);
		return false;
	}
	if (dmm_sock_rings(ds, GFP_ATOMIC | __GFP_NOWARN)) {
		dmm_stack_slot_done(stack, ds);
		dmm_sock_put(ds);
		return false;
	}
	ds->op_attach.token = in->token;
	ds->op_attach.listener = listener->slot;
	dmm_adopt_child(child, ds);
	tcp_set_state(child, TCP_ESTABLISHED);

	ds->posted = true;
	if (dmm_ops_post(ds, BIT(DMM_OP_ATTACH))) {
		ds->posted = false;
		return false;
	}
	dmm_sock_post_options(child, ds, sock_flag(child, SOCK_KEEPOPEN));
	atomic64_inc(&stack->adopted);
	atomic64_inc(&dmm_totals.adopted);
	trace_dmm_adopt(child, stack->id, ds->slot);
	return true;
}

/*
 * End a child that nobody will accept, without a word to its peer; as
 * inet_child_forget(). It is in the kernel's tables, with the port that it has from
 * its listener: as long as that is its number, it leaves them under the right locks.
 */
static void incoming_drop(struct sock *child)
	__releases(&child->sk_lock.slock)
{
	tcp_set_state(child, TCP_CLOSE);
	if (dmm_is_adopted(child))
		dmm_adopt_undo(child);
	sock_orphan(child);
	this_cpu_inc(tcp_orphan_count);
	inet_csk_destroy_sock(child);
	bh_unlock_sock(child);
	sock_put(child);
}

/* From TCP's child to the accept queue; without slot or memory, no child. */
static void incoming_deliver(struct sock *sk, struct dmm_sock *ds,
			     const struct dmm_ev_incoming *in,
			     struct request_sock *req, struct sock *child)
	__releases(&child->sk_lock.slock)
{
	refcount_set(&req->rsk_refcnt, 1);
	if (!incoming_adopt(child, ds, in)) {
		tcp_listendrop(sk);
		incoming_drop(child);
		reqsk_put(req);
		return;
	}
	if (inet_csk_reqsk_queue_add(sk, req, child))
		sk->sk_data_ready(sk);
	else
		reqsk_put(req);
	bh_unlock_sock(child);
	sock_put(child);
}

/* Whoever has the four-tuple; referenced. */
static struct sock *incoming_lookup(const struct sock *sk, int ifindex,
				    const struct dmm_ev_incoming *in)
{
	struct net *net = sock_net(sk);
	struct inet_hashinfo *hashinfo = net->ipv4.tcp_death_row.hashinfo;
	u16 lport = ntohs(in->lport);

#if IS_ENABLED(CONFIG_IPV6)
	if (in->family == AF_INET6)
		return __inet6_lookup_established(net, hashinfo,
				(const struct in6_addr *)in->raddr, in->rport,
				(const struct in6_addr *)in->laddr, lport,
				ifindex, 0);
#endif
	return __inet_lookup_established(net, hashinfo, in->raddr[0], in->rport,
					 in->laddr[0], lport, ifindex, 0);
}

/*
 * Who took a SYN for an old connection's TIME_WAIT (RFC 6191) is the stack: that the
 * four-tuple is free again the kernel hears by this. Return: whether it is taken.
 */
static bool incoming_taken(const struct sock *sk, const struct dmm_sock *ds,
			   const struct dmm_ev_incoming *in)
{
	struct sock *other = incoming_lookup(sk, ds->stack->ifindex, in);

	if (!other)
		return false;
	if (other->sk_state == TCP_TIME_WAIT) {
		inet_twsk_deschedule_put(inet_twsk(other));
		return false;
	}
	sock_gen_put(other);
	return true;
}

/*
 * Without the listener's lock, as TCP's own: what counts is checked again, under
 * the accept queue's lock.
 */
static bool incoming(struct sock *sk, struct dmm_sock *ds,
		     const struct dmm_ev_incoming *in)
{
	u32 seq = get_random_u32();
	enum dmm_fallback reason;
	struct request_sock *req;
	struct sk_buff *skb;
	struct sock *child;

	if (sk->sk_state != TCP_LISTEN)
		return true;	/* it crossed our ABORT */
	if (!incoming_valid(sk, ds, in))
		return false;
	/*
	 * Not by setsockopt(): by BPF, by another socket of its reuseport group, on
	 * its cgroup. The kernel goes on alone.
	 */
	reason = dmm_protect_check(sk, true);
	if (reason) {
		dmm_fallback(ds->stack, sk, ds->stack->id, reason);
		dmm_sock_post_abort(ds);
		return true;
	}
	/* Full: the worker offers it again, as a peer repeats its ACK. */
	if (sk_acceptq_is_full(sk)) {
		NET_INC_STATS(sock_net(sk), LINUX_MIB_LISTENOVERFLOWS);
		tcp_listendrop(sk);
		return true;
	}

	/* Offered twice, or a native one's. */
	if (incoming_taken(sk, ds, in))
		return false;
	skb = incoming_skb(in, ds->stack->ifindex, seq);
	req = incoming_req(sk, in, ds->stack, seq);
	child = NULL;
	if (skb && req && !security_inet_conn_request(sk, skb, req))
		child = incoming_child(sk, skb, req);
	kfree_skb(skb);
	if (!child) {
		/* No memory, no room, or a security module's no: no lie. */
		tcp_listendrop(sk);
		if (req)
			__reqsk_free(req);
		return true;
	}
	__acquire(&child->sk_lock.slock);	/* by ->syn_recv_sock() */
	incoming_deliver(sk, ds, in, req, child);
	return true;
}

/**
 * dmm_listen_incoming - the worker has a connection for a listener
 * @ds: the listener's state, kept alive by the caller
 * @in: a copy of what the worker says
 *
 * In process context; never sleeps on the socket's lock. Return: whether it made
 * sense.
 */
bool dmm_listen_incoming(struct dmm_sock *ds, const struct dmm_ev_incoming *in)
{
	struct sock *sk;
	bool ok = true;

	if (ds->conn)
		return false;
	sk = dmm_sock_hold_sk(ds);
	if (!sk)
		return true;	/* it crossed our ABORT */
	local_bh_disable();
	rcu_read_lock();
	if (dmm_sk_rcu(sk) == ds)
		ok = incoming(sk, ds, in);
	rcu_read_unlock();
	local_bh_enable();
	sock_put(sk);
	return ok;
}

void dmm_listen_proto_init(struct dmm_family *f)
{
	f->assigned_ops.bind = dmm_bind;
	f->assigned_ops.listen = dmm_listen;
	/* It may have begun before the socket was the stack's, too. */
	f->assigned_ops.accept = dmm_accept;

	f->listening = *f->base;
	f->listening.owner = THIS_MODULE;
	f->listening.close = dmm_listen_close;
	f->listening.disconnect = dmm_listen_disconnect;
	f->listening.release_cb = dmm_release_cb;
	f->listening.setsockopt = dmm_listen_setsockopt;
	f->listening.getsockopt = dmm_listen_getsockopt;
#ifdef CONFIG_BPF_SYSCALL
	f->listening.psock_update_sk_prot = NULL;	/* no sockmap */
#endif

	f->listening_ops = *f->base_ops;
	f->listening_ops.listen = dmm_listen;
	f->listening_ops.accept = dmm_accept;
	f->listening_ops.setsockopt = dmm_setsockopt;
}
