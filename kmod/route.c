// SPDX-License-Identifier: GPL-2.0-only
#include <linux/in6.h>
#include <linux/inetdevice.h>
#include <net/addrconf.h>
#include <net/inet6_hashtables.h>
#include <net/transp_v6.h>
#include <net/inet_hashtables.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/route.h>
#include <net/tcp.h>

#include "route.h"
#include "stack.h"

/* The last word, so that a mapped address needs no more than its family. */
static void set_v4(struct in6_addr *to, __be32 addr)
{
	ipv6_addr_set(to, 0, 0, 0, addr);
}

static __be32 get_v4(const struct in6_addr *addr)
{
	return addr->s6_addr32[3];
}

/**
 * dmm_path_put - write an address as the UAPI has it
 * @to: four words
 * @family: its family
 * @addr: the address, as in struct dmm_path
 */
void dmm_path_put(__be32 to[4], u16 family, const struct in6_addr *addr)
{
	memset(to, 0, sizeof(*addr));
	if (family == AF_INET)
		to[0] = get_v4(addr);
	else
		memcpy(to, addr, sizeof(*addr));
}

/**
 * dmm_path_parse - what a program's address means for its socket
 * @sk: the socket
 * @uaddr: a whole sockaddr_in or sockaddr_in6
 * @path: filled but for saddr
 *
 * Return: whether it is one that a stack may serve; to port 0 none can connect.
 */
bool dmm_path_parse(const struct sock *sk, const struct sockaddr *uaddr,
		    struct dmm_path *path)
{
	const struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)uaddr;
	const struct sockaddr_in *sin = (struct sockaddr_in *)uaddr;

	memset(path, 0, sizeof(*path));
	if (uaddr->sa_family != sk->sk_family)
		return false;

	if (sk->sk_family == AF_INET) {
		path->family = AF_INET;
		path->port = sin->sin_port;
		set_v4(&path->daddr, sin->sin_addr.s_addr);
		return path->port;
	}

	path->port = sin6->sin6_port;
	if (!path->port)
		return false;
	if (ipv6_addr_v4mapped(&sin6->sin6_addr)) {
		path->family = AF_INET;
		set_v4(&path->daddr, sin6->sin6_addr.s6_addr32[3]);
		return !ipv6_only_sock(sk);
	}
	path->family = AF_INET6;
	path->daddr = sin6->sin6_addr;
	if (ipv6_addr_type(&path->daddr) & IPV6_ADDR_LINKLOCAL)
		path->scope = sin6->sin6_scope_id;
	/* A flow label asked for: the stack knows none. */
	return !(inet6_test_bit(SNDFLOW, sk) &&
		 sin6->sin6_flowinfo & IPV6_FLOWINFO_MASK);
}

/* Do both lead to the same place? */
bool dmm_path_same(const struct dmm_path *a, const struct dmm_path *b)
{
	return a->family == b->family && a->port == b->port &&
	       a->scope == b->scope && ipv6_addr_equal(&a->daddr, &b->daddr);
}

static bool route_v4(struct sock *sk, const struct dmm_stack *stack,
		     struct dmm_path *path, int oif)
{
	struct inet_sock *inet = inet_sk(sk);
	__be32 daddr = get_v4(&path->daddr);
	struct flowi4 fl4;
	struct rtable *rt;
	bool ok;

	/* Bound to an IPv6 address, and now to IPv4: TCP's to refuse. */
	if (sk->sk_family == AF_INET6 &&
	    !ipv6_addr_any(&sk->sk_v6_rcv_saddr) &&
	    !ipv6_addr_v4mapped(&sk->sk_v6_rcv_saddr))
		return false;

	rt = ip_route_connect(&fl4, daddr, inet->inet_saddr, oif, IPPROTO_TCP,
			      inet->inet_sport, path->port, sk);
	if (IS_ERR(rt))
		return false;
	ok = rt->dst.dev->ifindex == stack->ifindex &&
	     rt->rt_type == RTN_UNICAST && fl4.daddr == daddr &&
	     !dst_xfrm(&rt->dst);
	set_v4(&path->saddr, fl4.saddr);
	path->mtu = dst_mtu(&rt->dst);
	ip_rt_put(rt);
	return ok;
}

static bool route_v6(struct sock *sk, const struct dmm_stack *stack,
		     struct dmm_path *path, int oif)
{
	struct ipv6_pinfo *np = inet6_sk(sk);
	int type = ipv6_addr_type(&path->daddr);
	struct flowi6 fl6 = {
		.flowi6_proto = IPPROTO_TCP,
		.daddr = path->daddr,
		.saddr = sk->sk_v6_rcv_saddr,
		.flowlabel = ip6_make_flowinfo(np->tclass, 0),
		.flowi6_mark = sk->sk_mark,
		.fl6_dport = path->port,
		.fl6_sport = inet_sk(sk)->inet_sport,
		.flowi6_uid = sk->sk_uid,
	};
	struct dst_entry *dst;
	bool ok;

	if (type & (IPV6_ADDR_MULTICAST | IPV6_ADDR_LOOPBACK) ||
	    type == IPV6_ADDR_ANY)
		return false;
	if (type & IPV6_ADDR_LINKLOCAL) {
		if (oif && path->scope && oif != path->scope)
			return false;
		oif = oif ?: path->scope;
		if (!oif)
			return false;
	}
	if (ipv6_addr_any(&fl6.saddr))
		fl6.saddr = np->saddr;
	fl6.flowi6_oif = oif;

	security_sk_classify_flow(sk, flowi6_to_flowi_common(&fl6));
	dst = ip6_dst_lookup_flow(sock_net(sk), sk, &fl6, NULL);
	if (IS_ERR(dst))
		return false;
	ok = dst->dev->ifindex == stack->ifindex && !dst_xfrm(dst) &&
	     !(dst_rt6_info(dst)->rt6i_flags & (RTF_LOCAL | RTF_REJECT));
	path->saddr = fl6.saddr;
	path->mtu = dst_mtu(dst);
	dst_release(dst);
	return ok;
}

/**
 * dmm_path_route - does the way leave by the stack's device?
 * @sk: the socket; the caller holds its lock
 * @stack: the stack
 * @path: parsed; its saddr is filled
 *
 * In any context.
 */
bool dmm_path_route(struct sock *sk, const struct dmm_stack *stack,
		    struct dmm_path *path)
{
	int oif = sk->sk_bound_dev_if;

	if (!oif && (stack->flags & DMM_ATTACH_F_ROUTE_OWN))
		oif = stack->ifindex;
	if (path->family == AF_INET)
		return route_v4(sk, stack, path, oif);
	return route_v6(sk, stack, path, oif);
}

/**
 * dmm_path_set - give a socket both addresses and the remote port
 * @sk: the socket; the caller holds its lock
 * @path: where it goes
 *
 * As the first half of tcp_v4_connect() and tcp_v6_connect(). May sleep.
 * Return: 0 or -errno; then as before.
 */
int dmm_path_set(struct sock *sk, const struct dmm_path *path)
{
	struct inet_sock *inet = inet_sk(sk);
	__be32 saddr = get_v4(&path->saddr);
	struct in6_addr saddr6 = path->saddr;
	int err;

	if (path->family == AF_INET) {
		if (!inet->inet_saddr) {
			err = inet_bhash2_update_saddr(sk, &saddr, AF_INET);
			if (err)
				return err;
		} else {
			sk_rcv_saddr_set(sk, inet->inet_saddr);
		}
		sk_daddr_set(sk, get_v4(&path->daddr));
		if (sk->sk_family == AF_INET6)
			inet6_sk(sk)->saddr = sk->sk_v6_rcv_saddr;
	} else {
		if (path->scope)
			sk->sk_bound_dev_if = path->scope;
		sk->sk_v6_daddr = path->daddr;
		if (ipv6_addr_any(&sk->sk_v6_rcv_saddr)) {
			err = inet_bhash2_update_saddr(sk, &saddr6, AF_INET6);
			if (err)
				return err;
		}
		inet6_sk(sk)->saddr = sk->sk_v6_rcv_saddr;
		inet->inet_rcv_saddr = LOOPBACK4_IPV6;
	}
	inet->inet_dport = path->port;
	return 0;
}

/**
 * dmm_path_hash - find a local port and enter the kernel's tables
 * @sk: the socket, in TCP_SYN_SENT, after dmm_path_set(); its lock is held
 * @path: where it goes
 *
 * May sleep. Return: 0, -EADDRNOTAVAIL, -ENOMEM.
 */
int dmm_path_hash(struct sock *sk, const struct dmm_path *path)
{
	struct inet_timewait_death_row *row = &sock_net(sk)->ipv4.tcp_death_row;

	if (path->family == AF_INET)
		return inet_hash_connect(row, sk);
	return inet6_hash_connect(row, sk);
}

/**
 * dmm_path_reset - undo dmm_path_set()
 * @sk: the socket, in TCP_CLOSE; its lock is held
 */
void dmm_path_reset(struct sock *sk)
{
	inet_bhash2_reset_saddr(sk);
	inet_sk(sk)->inet_dport = 0;
}

/**
 * dmm_listen_route - can the stack's device bring connections to a listener?
 * @sk: the listener; its lock is held
 * @stack: the stack
 *
 * It listens on any address, or on one that is not the loopback's.
 */
bool dmm_listen_route(struct sock *sk, const struct dmm_stack *stack)
{
	if (sk->sk_bound_dev_if && sk->sk_bound_dev_if != stack->ifindex)
		return false;
	if (sk->sk_family == AF_INET)
		return !ipv4_is_loopback(inet_sk(sk)->inet_rcv_saddr);
	if (ipv6_addr_v4mapped(&sk->sk_v6_rcv_saddr))
		return !ipv4_is_loopback(sk->sk_v6_rcv_saddr.s6_addr32[3]);
	return !ipv6_addr_loopback(&sk->sk_v6_rcv_saddr);
}
