// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adoption in place: a cgroup program of connect() or bind() calls bpf_dmm_assign(),
 * which runs inside tcp_v4_pre_connect() or inet_bind(), under lock_sock(). The
 * same struct sock gets other operations; the file, the inode and the wait queue
 * stay. Of struct dmm_family:
 *
 *	base
 *	   |  bpf_dmm_assign(): every reason to refuse is looked for here
 *	   v
 *	assigned			as TCP's, but for connect and listen
 *	   |  dmm_adopt_commit()	   |  dmm_adopt_listen()
 *	   v				   v
 *	adopted				listening
 *	   and a filter that drops all	   TCP's listener, and a stack's too
 *	   |				   |
 *	   |  dmm_adopt_undo(): connect() failed, connect(AF_UNSPEC), shutdown()
 *	   v				   v
 *	base
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
#include <net/ipv6.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "adopt.h"
#include "option.h"
#include "proto.h"
#include "protect.h"
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

/**
 * dmm_set_socket_ops - give a program's socket TCP's operations, or ours
 * @sock: the socket
 * @ops: the operations
 */
void dmm_set_socket_ops(struct socket *sock, const struct proto_ops *ops)
{
	WRITE_ONCE(sock->ops, ops);
	/* SOL_SOCKET comes to ours as well. */
	assign_bit(SOCK_CUSTOM_SOCKOPT, &sock->flags,
		   ops->setsockopt == dmm_setsockopt);
}

static void set_ops(struct sock *sk, struct proto *prot,
		    const struct proto_ops *ops)
{
	/* Pairs with the READ_ONCE()s of IPV6_ADDRFORM and TLS. */
	WRITE_ONCE(sk->sk_prot, prot);
	if (sk->sk_socket)
		dmm_set_socket_ops(sk->sk_socket, ops);
}

/* From now on, and until its end, the socket holds the module. */
static void hold_module(struct sock *sk)
{
	struct dmm_family *f = dmm_family(sk);

	if (sk->sk_prot_creator == &f->adopted)
		return;
	/* A program, a listener or the worker's file has a reference. */
	__module_get(THIS_MODULE);
	sk->sk_prot_creator = &f->adopted;
}

static void set_ulp(struct sock *sk, struct dmm_sock *ds)
{
	struct inet_connection_sock *icsk = inet_csk(sk);

	rcu_assign_pointer(icsk->icsk_ulp_data, ds);
	WRITE_ONCE(icsk->icsk_ulp_ops, &dmm_ulp_ops);
}

/**
 * dmm_adopt_commit - from assigned to adopted
 * @sk: an assigned socket, in TCP_CLOSE; the caller holds its lock
 */
void dmm_adopt_commit(struct sock *sk)
{
	struct dmm_family *f = dmm_family(sk);

	set_ops(sk, &f->adopted, &f->adopted_ops);
	sk->sk_backlog_rcv = f->adopted.backlog_rcv;
	filter_attach(sk);
	dmm_option_start(sk);
}

/**
 * dmm_adopt_listen - from assigned to listening
 * @sk: an assigned socket, in TCP_LISTEN; the caller holds its lock
 */
void dmm_adopt_listen(struct sock *sk)
{
	struct dmm_family *f = dmm_family(sk);

	set_ops(sk, &f->listening, &f->listening_ops);
}

/**
 * dmm_adopt_child - make a listener's fresh child the stack's
 * @sk: the child, plain TCP, nobody's socket yet; the caller holds its spinlock
 * @ds: its state; the caller's reference is consumed
 */
void dmm_adopt_child(struct sock *sk, struct dmm_sock *ds)
{
	hold_module(sk);
	set_ulp(sk, ds);
	/* Else the end of it would teach tcp_metrics what nobody measured. */
	__sk_dst_reset(sk);
	dmm_adopt_commit(sk);
}

/**
 * dmm_adopt_undo - give the socket back to TCP
 * @sk: an assigned socket, or an adopted or listening one in TCP_CLOSE; the caller
 *	holds its lock, or its spinlock and nobody owns it
 */
void dmm_adopt_undo(struct sock *sk)
{
	struct dmm_family *f = dmm_family(sk);

	if (dmm_is_adopted(sk)) {
		/* The worker's, of dmm_sock_sync(): TCP counts its own. */
		tcp_sk(sk)->packets_out = 0;
		dmm_option_stop(sk);
		filter_detach(sk);
		sk->sk_backlog_rcv = f->base->backlog_rcv;
	}
	set_ops(sk, f->base, f->base_ops);
	dmm_ulp_ops.release(sk);
	WRITE_ONCE(inet_csk(sk)->icsk_ulp_ops, NULL);
}

/* What the socket is: can it be adopted at all? */
static enum dmm_fallback check_sock(const struct sock *sk)
{
	struct dmm_family *f = dmm_family(sk);

	if (sk->sk_kern_sock || !sk->sk_socket || !sk->sk_socket->file)
		return DMM_FALLBACK_KERNEL_SOCK;
	if (sk->sk_type != SOCK_STREAM || sk->sk_protocol != IPPROTO_TCP ||
	    sk_is_mptcp(sk))
		return DMM_FALLBACK_PROTO;
	if (inet_csk(sk)->icsk_ulp_ops)
		return DMM_FALLBACK_ULP;
	if (sk->sk_prot != f->base ||
	    READ_ONCE(sk->sk_socket->ops) != f->base_ops ||
	    (sk->sk_prot_creator != f->base &&
	     sk->sk_prot_creator != &f->adopted))
		return DMM_FALLBACK_PROTO;
	if (sk->sk_state != TCP_CLOSE)
		return DMM_FALLBACK_STATE;
	return DMM_FALLBACK_NONE;
}

/* Note the verdict on the socket; connect() or listen() will act on it. */
static void set_assigned(struct sock *sk, struct dmm_sock *ds)
{
	struct dmm_family *f = dmm_family(sk);

	hold_module(sk);
	set_ulp(sk, ds);
	set_ops(sk, &f->assigned, &f->assigned_ops);
}

static enum dmm_fallback assign_connect(struct sock *sk,
					struct dmm_stack *stack,
					const struct sockaddr *uaddr, u64 flags)
{
	struct dmm_path path;
	struct dmm_sock *ds;
	int err;

	if (!dmm_path_parse(sk, uaddr, &path))
		return DMM_FALLBACK_FAMILY;
	if (!dmm_path_route(sk, stack, &path))
		return DMM_FALLBACK_ROUTE;

	ds = dmm_sock_alloc(stack, sk, true);
	if (!ds)
		return DMM_FALLBACK_NO_MEMORY;
	err = dmm_stack_slot_take(stack, ds, sk);
	if (err) {
		dmm_sock_put(ds);
		return dmm_stack_slot_reason(err);
	}
	ds->path = path;
	ds->strict = flags & DMM_ASSIGN_F_STRICT;
	set_assigned(sk, ds);
	return DMM_FALLBACK_NONE;
}

/* What the stack cannot bring is found out at listen(), when all is known. */
static enum dmm_fallback assign_listen(struct sock *sk,
				       struct dmm_stack *stack, u64 flags)
{
	struct dmm_sock *ds;

	ds = dmm_sock_alloc(stack, sk, false);
	if (!ds)
		return DMM_FALLBACK_NO_MEMORY;
	ds->strict = flags & DMM_ASSIGN_F_STRICT;
	set_assigned(sk, ds);
	return DMM_FALLBACK_NONE;
}

static enum dmm_fallback assign(struct sock *sk, struct dmm_stack *stack,
				const struct sockaddr *uaddr, u64 flags)
{
	enum dmm_fallback reason = check_sock(sk) ?:
				   dmm_protect_check(sk, false);

	if (reason)
		return reason;
	if (!net_eq(sock_net(sk), stack->net))
		return DMM_FALLBACK_NETNS;
	if (flags & DMM_ASSIGN_F_LISTEN)
		return assign_listen(sk, stack, flags);
	return assign_connect(sk, stack, uaddr, flags);
}

__bpf_kfunc_start_defs();

/**
 * bpf_dmm_assign - have a connecting socket served by a stack
 * @ctx: the context of a cgroup/connect4, connect6, bind4 or bind6 program, from
 *	bpf_cast_to_kern_ctx()
 * @stack: the stack's id
 * @flags: DMM_ASSIGN_F_LISTEN in the bind programs and only there;
 *	DMM_ASSIGN_F_STRICT for a rule that lets nothing go to the kernel
 *
 * Of several calls in one connect() or bind() the first that succeeds stands.
 *
 * Return: 0 adopted; > 0 the socket stays with the kernel, enum dmm_fallback says
 * why, and it is counted; -EINVAL for @flags.
 */
__bpf_kfunc int bpf_dmm_assign(struct bpf_sock_addr_kern *ctx, u32 stack,
			       u64 flags)
{
	struct sock *sk = ctx->sk;
	enum dmm_fallback reason;
	struct dmm_stack *s;

	if (flags & ~(u64)__DMM_ASSIGN_F_ALL)
		return -EINVAL;
	if (sk->sk_family != AF_INET && sk->sk_family != AF_INET6)
		return dmm_fallback(NULL, sk, stack, DMM_FALLBACK_FAMILY);
	if (dmm_is_assigned(sk)) {
		/* One for connect() is none for bind(), and the reverse. */
		if (dmm_sk(sk)->conn == !(flags & DMM_ASSIGN_F_LISTEN))
			return 0;
		dmm_adopt_undo(sk);
	}

	s = dmm_stack_lookup(stack);
	if (!s)
		return dmm_fallback(NULL, sk, stack, DMM_FALLBACK_STACK_DOWN);

	reason = assign(sk, s, ctx->uaddr, flags);
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
