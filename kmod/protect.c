// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stack's packets never come by the kernel's guards. So what has one of these is
 * the kernel's:
 *
 *	before adoption	it stays native, with a reason; of a listener, at bind(),
 *			at listen(), and whenever the stack brings a child
 *	after		the calls that would set one are refused (option.c); a
 *			program that somebody attaches to the socket's cgroup ends the
 *			connection, at its next call or within a second (watch.c)
 *
 * What is no socket's (netfilter, tc, and xfrm of the device) is the policy's.
 */
#include <linux/cgroup.h>
#include <linux/bpf-cgroup.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "protect.h"
#include "sock.h"
#include "stack.h"

#if IS_ENABLED(CONFIG_CGROUP_BPF) && IS_ENABLED(CONFIG_SOCK_CGROUP_DATA)

static bool has_progs(const struct sock *sk, enum cgroup_bpf_attach_type type)
{
	const struct bpf_prog_array *progs;
	bool ret;

	if (!cgroup_bpf_enabled(type))
		return false;
	rcu_read_lock();
	progs = rcu_dereference(sk->sk_cgrp_data.cgroup->bpf.effective[type]);
	ret = progs && READ_ONCE(progs->items[0].prog);
	rcu_read_unlock();
	return ret;
}

/**
 * dmm_protect_forbids - does the socket's cgroup, or one above it, filter packets?
 * @sk: the socket
 *
 * By BPF, with IPAddressDeny= of systemd for one. In any context; cheap while
 * nobody on the machine does.
 */
bool dmm_protect_forbids(const struct sock *sk)
{
	return has_progs(sk, CGROUP_INET_EGRESS) ||
	       has_progs(sk, CGROUP_INET_INGRESS);
}

#else

bool dmm_protect_forbids(const struct sock *sk)
{
	return false;
}

#endif

static bool has_keys(const struct tcp_sock *tp)
{
#ifdef CONFIG_TCP_MD5SIG
	if (rcu_access_pointer(tp->md5sig_info))
		return true;
#endif
#ifdef CONFIG_TCP_AO
	if (rcu_access_pointer(tp->ao_info))
		return true;
#endif
	return false;
}

static bool has_xfrm(const struct sock *sk)
{
#ifdef CONFIG_XFRM
	return rcu_access_pointer(sk->sk_policy[0]) ||
	       rcu_access_pointer(sk->sk_policy[1]);
#else
	return false;
#endif
}

/* A label of netlabel's is an IP option that no program set. */
static bool has_label(const struct sock *sk)
{
	const struct ip_options_rcu *opt;
	bool ret;

	rcu_read_lock();
	opt = rcu_dereference(inet_sk(sk)->inet_opt);
	ret = opt && opt->opt.cipso;
	rcu_read_unlock();
	return ret;
}

static bool has_options6(const struct sock *sk)
{
	return sk->sk_family == AF_INET6 &&
	       (rcu_access_pointer(inet6_sk(sk)->opt) ||
		READ_ONCE(inet6_sk(sk)->min_hopcount));
}

/**
 * dmm_protect_check - may a stack have the socket, as it is now?
 * @sk: the socket
 *
 * In any context, without a lock if need be. Return: DMM_FALLBACK_NONE or why not.
 */
enum dmm_fallback dmm_protect_check(const struct sock *sk)
{
	const struct tcp_sock *tp = tcp_sk(sk);
	const struct inet_sock *inet = inet_sk(sk);

	if (sk->sk_user_data)		/* a sockmap's, or a kernel user's */
		return DMM_FALLBACK_PROTO;
	if (rcu_access_pointer(sk->sk_filter) ||
	    sock_flag(sk, SOCK_FILTER_LOCKED))
		return DMM_FALLBACK_FILTER;
	if (dmm_protect_forbids(sk))
		return DMM_FALLBACK_CGROUP_SKB;
	if (has_xfrm(sk))
		return DMM_FALLBACK_XFRM;
	if (has_label(sk))
		return DMM_FALLBACK_LABEL;
	if (tp->fastopen_req || tp->fastopen_connect)
		return DMM_FALLBACK_FASTOPEN;
	if (tp->repair || inet_test_bit(TRANSPARENT, sk) ||
	    rcu_access_pointer(inet->inet_opt) || READ_ONCE(inet->min_ttl) ||
	    has_options6(sk) || READ_ONCE(sk->sk_tsflags) ||
	    sock_flag(sk, SOCK_RCVTSTAMP) || tp->rx_opt.user_mss || has_keys(tp))
		return DMM_FALLBACK_SOCKOPT;
	return DMM_FALLBACK_NONE;
}

/**
 * dmm_protect_end - end a connection whose cgroup has come to filter packets
 * @sk: an adopted socket; the caller holds its spinlock, and nobody owns it, or the
 *	caller
 * @ds: its state
 *
 * Nothing more is read or written; the program gets ECONNABORTED.
 */
void dmm_protect_end(struct sock *sk, struct dmm_sock *ds)
{
	if (sk->sk_state == TCP_CLOSE)
		return;
	dmm_fallback(ds->stack, sk, ds->stack->id, DMM_FALLBACK_CGROUP_SKB);
	WRITE_ONCE(ds->barred, true);
	dmm_sock_fail(sk, ds, ECONNABORTED);
}
