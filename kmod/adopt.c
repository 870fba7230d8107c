// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adoption in place: a cgroup/connect4 program calls bpf_dmm_assign(), which runs
 * inside tcp_v4_pre_connect(), under lock_sock(). The same struct sock gets other
 * operations; the file, the inode and the wait queue stay.
 *
 *	tcp_prot, inet_stream_ops
 *	   |  bpf_dmm_assign(): every reason to refuse is looked for here
 *	   v
 *	dmm_assigned_prot		as TCP's, but for pre_connect and connect
 *	   |  dmm_adopt_commit(), from ->connect()
 *	   v
 *	dmm_prot, dmm_stream_ops, a filter that drops all
 *	   |  dmm_adopt_undo(): connect() failed, or connect(AF_UNSPEC)
 *	   v
 *	tcp_prot, inet_stream_ops
 *
 * The module may go only when nobody can be in its code. A program can be asleep
 * in our recvmsg() while another thread disconnects the socket; so a socket that
 * was adopted once holds the module for the rest of its life, by
 * ->sk_prot_creator: the core puts that proto's owner as the very last thing in
 * sk_prot_free(). What remains are tasks on their way out of our functions; module
 * exit waits for those with synchronize_rcu_tasks().
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/filter.h>
#include <net/inet_common.h>
#include <net/route.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "adopt.h"
#include "proto.h"
#include "sock.h"
#include "stack.h"
#include "trace.h"

/*
 * Sits on each adopted socket: what reaches the kernel for it (a fragment, another
 * device, no worker) neither enters TCP nor draws a RST. The module has one
 * reference, each socket one; the last to go frees it, core code in either case.
 */
static struct sk_filter *drop_all;

static void filter_attach(struct sock *sk)
{
	refcount_inc(&drop_all->refcnt);
	atomic_add(bpf_prog_size(drop_all->prog->len), &sk->sk_omem_alloc);
	rcu_assign_pointer(sk->sk_filter, drop_all);
	/* A program cannot take it off or put its own in its place. */
	sock_set_flag(sk, SOCK_FILTER_LOCKED);
}

static void filter_detach(struct sock *sk)
{
	sock_reset_flag(sk, SOCK_FILTER_LOCKED);
	sk_detach_filter(sk);
}

static void set_ops(struct sock *sk, struct proto *prot,
		    const struct proto_ops *ops)
{
	/* Pairs with the READ_ONCE()s of IPV6_ADDRFORM and TLS. */
	WRITE_ONCE(sk->sk_prot, prot);
	if (sk->sk_socket)
		WRITE_ONCE(sk->sk_socket->ops, ops);
}

/**
 * dmm_adopt_commit - from assigned to adopted
 * @sk: an assigned socket, in TCP_CLOSE; the caller holds its lock
 */
void dmm_adopt_commit(struct sock *sk)
{
	set_ops(sk, &dmm_prot, &dmm_stream_ops);
	sk->sk_backlog_rcv = dmm_prot.backlog_rcv;
	filter_attach(sk);
}

/**
 * dmm_adopt_undo - give the socket back to TCP
 * @sk: an assigned or adopted socket, in TCP_CLOSE; the caller holds its lock
 */
void dmm_adopt_undo(struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);

	if (sk->sk_prot == &dmm_prot)
		filter_detach(sk);
	sk->sk_backlog_rcv = tcp_prot.backlog_rcv;
	set_ops(sk, &tcp_prot, &inet_stream_ops);
	dmm_ulp_ops.release(sk);
	icsk->icsk_ulp_ops = NULL;
}

/* What the socket is: can it be adopted at all? */
static enum dmm_fallback check_sock(const struct sock *sk)
{
	if (sk->sk_family != AF_INET)
		return DMM_FALLBACK_FAMILY;
	if (sk->sk_kern_sock || !sk->sk_socket || !sk->sk_socket->file)
		return DMM_FALLBACK_KERNEL_SOCK;
	if (sk->sk_type != SOCK_STREAM || sk->sk_protocol != IPPROTO_TCP ||
	    sk_is_mptcp(sk) || sk->sk_user_data)
		return DMM_FALLBACK_PROTO;
	if (inet_csk(sk)->icsk_ulp_ops)
		return DMM_FALLBACK_ULP;
	if (sk->sk_prot != &tcp_prot ||
	    READ_ONCE(sk->sk_socket->ops) != &inet_stream_ops ||
	    (sk->sk_prot_creator != &tcp_prot &&
	     sk->sk_prot_creator != &dmm_prot))
		return DMM_FALLBACK_PROTO;
	if (sk->sk_state != TCP_CLOSE)
		return DMM_FALLBACK_STATE;
	return DMM_FALLBACK_NONE;
}

/* What the program set on it: can the stack honour that? */
static enum dmm_fallback check_options(const struct sock *sk)
{
	const struct tcp_sock *tp = tcp_sk(sk);
	const struct inet_sock *inet = inet_sk(sk);

	if (rcu_access_pointer(sk->sk_filter) ||
	    sock_flag(sk, SOCK_FILTER_LOCKED))
		return DMM_FALLBACK_FILTER;
	if (tp->fastopen_req || tp->fastopen_connect)
		return DMM_FALLBACK_FASTOPEN;
	if (tp->repair || inet_test_bit(TRANSPARENT, sk) ||
	    rcu_access_pointer(inet->inet_opt) || READ_ONCE(sk->sk_tsflags))
		return DMM_FALLBACK_SOCKOPT;
#ifdef CONFIG_TCP_MD5SIG
	if (rcu_access_pointer(tp->md5sig_info))
		return DMM_FALLBACK_SOCKOPT;
#endif
#ifdef CONFIG_TCP_AO
	if (rcu_access_pointer(tp->ao_info))
		return DMM_FALLBACK_SOCKOPT;
#endif
	return DMM_FALLBACK_NONE;
}

/* The way must leave by the stack's device. Notes the local address. */
static enum dmm_fallback check_route(struct sock *sk, struct dmm_stack *stack,
				     const struct sockaddr_in *to,
				     __be32 *saddr)
{
	struct inet_sock *inet = inet_sk(sk);
	int oif = sk->sk_bound_dev_if;
	struct flowi4 fl4;
	struct rtable *rt;
	bool ok;

	if (!oif && (stack->flags & DMM_ATTACH_F_ROUTE_OWN))
		oif = stack->ifindex;
	rt = ip_route_connect(&fl4, to->sin_addr.s_addr, inet->inet_saddr, oif,
			      IPPROTO_TCP, inet->inet_sport, to->sin_port, sk);
	if (IS_ERR(rt))
		return DMM_FALLBACK_ROUTE;
	ok = rt->dst.dev->ifindex == stack->ifindex &&
	     rt->rt_type == RTN_UNICAST && fl4.daddr == to->sin_addr.s_addr &&
	     !dst_xfrm(&rt->dst);
	*saddr = fl4.saddr;
	ip_rt_put(rt);
	return ok ? DMM_FALLBACK_NONE : DMM_FALLBACK_ROUTE;
}

static enum dmm_fallback assign(struct sock *sk, struct dmm_stack *stack,
				const struct sockaddr_in *to)
{
	struct inet_connection_sock *icsk = inet_csk(sk);
	enum dmm_fallback reason;
	struct dmm_sock *ds;
	__be32 saddr;
	int err;

	reason = check_sock(sk) ?: check_options(sk);
	if (reason)
		return reason;
	if (!net_eq(sock_net(sk), stack->net))
		return DMM_FALLBACK_NETNS;
	reason = check_route(sk, stack, to, &saddr);
	if (reason)
		return reason;

	ds = dmm_sock_alloc(stack, sk);
	if (!ds)
		return DMM_FALLBACK_NO_MEMORY;
	err = dmm_stack_slot_take(stack, ds);
	if (err) {
		dmm_sock_put(ds);
		return err == -ENOSPC ? DMM_FALLBACK_NO_SLOT :
					DMM_FALLBACK_STACK_DOWN;
	}
	ds->connected_to = *to;
	ds->saddr = saddr;

	if (sk->sk_prot_creator != &dmm_prot) {
		/* The program that calls us holds the module. */
		__module_get(THIS_MODULE);
		sk->sk_prot_creator = &dmm_prot;
	}
	rcu_assign_pointer(icsk->icsk_ulp_data, ds);
	WRITE_ONCE(icsk->icsk_ulp_ops, &dmm_ulp_ops);
	WRITE_ONCE(sk->sk_prot, &dmm_assigned_prot);
	return DMM_FALLBACK_NONE;
}

__bpf_kfunc_start_defs();

/**
 * bpf_dmm_assign - have a connecting socket served by a stack
 * @ctx: the context of a cgroup/connect4 program, from bpf_cast_to_kern_ctx()
 * @stack: the stack's id
 * @flags: 0
 *
 * Of several calls in one connect() the first that succeeds stands.
 *
 * Return: 0 adopted; > 0 the socket stays with the kernel, enum dmm_fallback says
 * why, and it is counted; -EINVAL for @flags.
 */
__bpf_kfunc int bpf_dmm_assign(struct bpf_sock_addr_kern *ctx, u32 stack,
			       u64 flags)
{
	const struct sockaddr_in *to = (struct sockaddr_in *)ctx->uaddr;
	struct sock *sk = ctx->sk;
	enum dmm_fallback reason;
	struct dmm_stack *s;

	if (flags)
		return -EINVAL;
	if (sk->sk_prot == &dmm_assigned_prot)
		return 0;
	/* An IPv6 program type is not let in, but its sockets could be. */
	if (sk->sk_family != AF_INET || to->sin_family != AF_INET)
		return dmm_fallback(NULL, sk, stack, DMM_FALLBACK_FAMILY);

	s = dmm_stack_lookup(stack);
	if (!s)
		return dmm_fallback(NULL, sk, stack, DMM_FALLBACK_STACK_DOWN);

	reason = assign(sk, s, to);
	if (reason)
		dmm_fallback(s, sk, stack, reason);
	dmm_stack_put(s);
	return reason;
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(dmm_kfuncs)
BTF_ID_FLAGS(func, bpf_dmm_assign, KF_TRUSTED_ARGS)
BTF_KFUNCS_END(dmm_kfuncs)

static const struct btf_kfunc_id_set dmm_kfunc_set = {
	.owner	= THIS_MODULE,
	.set	= &dmm_kfuncs,
};

int dmm_adopt_init(void)
{
	struct sock_filter ret0 = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog_kern fprog = { .len = 1, .filter = &ret0 };
	int err;

	drop_all = kzalloc(sizeof(*drop_all), GFP_KERNEL);
	if (!drop_all)
		return -ENOMEM;
	refcount_set(&drop_all->refcnt, 1);
	err = bpf_prog_create(&drop_all->prog, &fprog);
	if (err)
		goto err_free;

	err = register_btf_kfunc_id_set(BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
					&dmm_kfunc_set);
	if (err)
		goto err_destroy;
	return 0;

err_destroy:
	bpf_prog_destroy(drop_all->prog);
err_free:
	kfree(drop_all);
	return err;
}

void dmm_adopt_exit(void)
{
	/* A sock is freed, filter included, after it has let go of the module. */
	if (!refcount_dec_and_test(&drop_all->refcnt))
		return;
	bpf_prog_destroy(drop_all->prog);
	kfree(drop_all);
}
