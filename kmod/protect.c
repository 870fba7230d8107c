// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stack's packets never come by the kernel's guards. So what has one of these is
 * the kernel's:
 *
 *	before adoption	it stays native, with a reason; of a listener, at bind(),
 *			at listen(), and whenever the stack brings a child
 *	after		the calls that would set one are refused; a program that
 *			somebody attaches to the socket's cgroup ends the connection, at
 *			its next call or within a second (watch.c)
 *
 * Those that are options are in option.c, with all others that a stack cannot honour.
 *
 * What is no socket's (netfilter, tc, and xfrm of the device) is the policy's.
 */
#include <linux/cgroup.h>
#include <linux/bpf-cgroup.h>
#include <net/inet_sock.h>
#include <net/sock.h>

#include "option.h"
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

/**
 * dmm_protect_check - may a stack have the socket, as it is now?
 * @sk: the socket, which has not started, or listens
 * @listens: it is one to listen
 *
 * In any context, with or without the socket's lock. Return: DMM_FALLBACK_NONE or why
 * not.
 */
enum dmm_fallback dmm_protect_check(struct sock *sk, bool listens)
{
	if (sk->sk_user_data)		/* a sockmap's, or a kernel user's */
		return DMM_FALLBACK_PROTO;
	if (dmm_protect_forbids(sk))
		return DMM_FALLBACK_CGROUP_SKB;
	if (has_label(sk))
		return DMM_FALLBACK_LABEL;
	return dmm_option_check(sk, listens);
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
