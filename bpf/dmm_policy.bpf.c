// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The policy: which stack serves a socket, decided when it connects or binds.
 *
 * Runs only in cgroups that somebody named. No rule that matches means: leave
 * the socket alone. Whatever goes wrong on the way to a stack ends in the kernel's
 * own, with a reason counted; a rule that forbids this (DMM_RULE_F_REJECT) has the
 * call fail instead.
 *
 * Who takes a socket that belongs to a stack? The shim if it marked the socket: it
 * asked; else the module; else nobody, which is the fallback "no-client".
 *
 * The kfunc is weak, so that the object loads with and without the module; a
 * program loaded before the module came does without for good and has to be
 * replaced.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>
#include <linux/dmm.h>
#include "dmm_bpf.h"
#include "dmm_match.h"

#define AF_INET		2
#define AF_INET6	10
#define EINVAL		22
#define ENOMEM		12
#define ENOPROTOOPT	92
#define EOPNOTSUPP	95

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
extern void *bpf_rdonly_cast(void *obj, __u32 btf_id) __ksym;
extern int bpf_dmm_assign(struct bpf_sock_addr_kern *ctx, __u32 stack,
			  __u64 flags) __ksym __weak;

/*
 * Does the kernel have bpf_dmm_assign()? The loader says so before it loads: libbpf
 * 1.1 cannot take the address of a module's kfunc, so the usual test for NULL would
 * not load with the module. While false, the verifier drops the call as dead code.
 */
const volatile bool have_kfunc = false;

/* By sizes: clang leaves the type of an inner map's value out of the BTF. */
struct dmm_ruleset_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct dmm_ruleset));
};

/* One entry: the set in force. Empty until somebody installs one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct dmm_ruleset_map);
} rules SEC(".maps");

/*
 * An entry is made before the rule's set comes into force and removed after the
 * set has gone, so both sets of a change need room at once.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 2 * DMM_RULES_MAX);
	__type(key, __u32);
	__type(value, struct dmm_rule_stats);
} rule_stats SEC(".maps");

/* Only sockets that the shim has marked have an entry; children do not get one. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dmm_sock_mark);
} socks SEC(".maps");

/* The search through a set, and its result. */
struct search {
	const struct dmm_ruleset *set;
	const struct dmm_rule *rule;	/* the first that matches, or NULL */
	struct dmm_sock_view view;
};

static __u64 dmm_match_ancestor(const struct dmm_sock_view *s, __u32 level)
{
	return bpf_get_current_ancestor_cgroup_id(level);
}

/* One step of bpf_loop(): 1 ends the search. */
static long rule_try(__u32 i, struct search *s)
{
	const struct dmm_rule *r;

	if (i >= DMM_RULES_MAX)
		return 1;
	r = &s->set->rules[i];
	if (dmm_rule_mismatch(r, &s->view))
		return 0;
	s->rule = r;
	return 1;
}

/* The set in force; NULL when there is nothing in it. */
static __always_inline const struct dmm_ruleset *rules_get(void)
{
	const struct dmm_ruleset *set;
	__u32 zero = 0;
	void *map;

	map = bpf_map_lookup_elem(&rules, &zero);
	if (!map)
		return NULL;
	set = bpf_map_lookup_elem(map, &zero);
	return set && set->count ? set : NULL;
}

static __always_inline bool is_mapped(const __u32 *a)
{
	return !a[0] && !a[1] && a[2] == bpf_htonl(0xffff);
}

static __always_inline void unmap(__u32 *a)
{
	a[0] = a[3];
	a[1] = 0;
	a[2] = 0;
	a[3] = 0;
}

/* The address that the call names: remote for connect(), local for bind(). */
static __always_inline void view_addr4(struct bpf_sock_addr *ctx, __u32 *addr)
{
	addr[0] = ctx->user_ip4;
}

static __always_inline void view_addr6(struct bpf_sock_addr *ctx, __u32 *addr)
{
	addr[0] = ctx->user_ip6[0];
	addr[1] = ctx->user_ip6[1];
	addr[2] = ctx->user_ip6[2];
	addr[3] = ctx->user_ip6[3];
}

/* What the socket is bound to already, if anything. */
static __always_inline void view_bound(struct bpf_sock *sk, bool v6,
				       struct dmm_sock_view *v)
{
	v->sport = sk->src_port;
	if (!v6) {
		v->src[0] = sk->src_ip4;
		return;
	}
	v->src[0] = sk->src_ip6[0];
	v->src[1] = sk->src_ip6[1];
	v->src[2] = sk->src_ip6[2];
	v->src[3] = sk->src_ip6[3];
}

static __always_inline void view_fill(struct bpf_sock_addr *ctx,
				      struct bpf_sock *sk, __u32 dir, bool v6,
				      struct dmm_sock_view *v)
{
	__u16 port = bpf_ntohs(ctx->user_port);
	__u32 *named = dir == DMM_DIR_CONNECT ? v->dst : v->src;

	v->dir = dir;
	v->uid = bpf_get_current_uid_gid();
	v->family = v6 ? AF_INET6 : AF_INET;
	bpf_get_current_comm(v->comm, sizeof(v->comm));

	if (v6)
		view_addr6(ctx, named);
	else
		view_addr4(ctx, named);
	if (dir == DMM_DIR_CONNECT) {
		v->dport = port;
		view_bound(sk, v6, v);
	} else {
		v->sport = port;
	}
	if (v6 && is_mapped(named)) {
		v->family = AF_INET;
		unmap(named);
		/* Unbound, or bound to a mapped address as well. */
		if (dir == DMM_DIR_CONNECT)
			unmap(v->src);
	}
}

/*
 * The statistics are per CPU, but a program may be preempted by another run of
 * itself on the same CPU, so the additions are atomic.
 */
static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

/* @reason keeps the socket from its stack: 1 lets the kernel have it, 0 refuses. */
static __always_inline int fall_back(bool reject, struct dmm_rule_stats *stats,
				     int reason)
{
	__u32 slot = reason;	/* an errno becomes a large number */

	if (slot >= DMM_FALLBACK_SLOTS)
		slot = 0;
	if (stats) {
		/* Where the verifier sees the bound, the compiler must not. */
		barrier_var(slot);
		count(&stats->fallback[slot % DMM_FALLBACK_SLOTS]);
		if (reject)
			count(&stats->rejected);
	}
	if (!reject)
		return 1;
	bpf_set_retval(-DMM_REJECT_ERRNO);
	return 0;
}

/* Not every kernel has TCP-AO, nor the headers that this is built with. */
struct tcp_sock___ao {
	void *ao_info;
} __attribute__((preserve_access_index));

static __always_inline bool cgroup_filters(struct cgroup *cgroup)
{
	/* ingress and egress: programs of the cgroup and of those above it */
	return cgroup->bpf.effective[0]->items[0].prog ||
	       cgroup->bpf.effective[1]->items[0].prog;
}

static __always_inline bool has_keys(struct tcp_sock *tp)
{
	struct tcp_sock___ao *ao = (void *)tp;

	return (bpf_core_field_exists(tp->md5sig_info) && tp->md5sig_info) ||
	       (bpf_core_field_exists(ao->ao_info) && ao->ao_info);
}

static __always_inline bool has_min_ttl(struct inet_sock *inet)
{
	return inet->min_ttl || (inet->pinet6 && inet->pinet6->min_hopcount);
}

/*
 * What the kernel would do to the packets of a socket, and what a stack cannot: the
 * reason, enum dmm_fallback, for which the shim's sockets stay native. The module looks
 * at those that it adopts by itself.
 */
static __always_inline int protected_by(struct sock *sk)
{
	struct tcp_sock *tp;
	struct inet_sock *inet;

	tp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	inet = &tp->inet_conn.icsk_inet;
	if (cgroup_filters(inet->sk.sk_cgrp_data.cgroup))
		return DMM_FALLBACK_CGROUP_SKB;
	if (has_keys(tp) || has_min_ttl(inet) || inet->inet_opt)
		return DMM_FALLBACK_SOCKOPT;
	if (inet->sk.sk_filter)
		return DMM_FALLBACK_FILTER;
	if (inet->sk.sk_user_data)
		return DMM_FALLBACK_PROTO;	/* a sockmap's */
	if (inet->sk.sk_policy[0] || inet->sk.sk_policy[1])
		return DMM_FALLBACK_XFRM;
	return DMM_FALLBACK_NONE;
}

/*
 * AppArmor, SELinux and Smack have hooks in every namespace, for labels; nobody else uses
 * these priorities, but chains of nftables may.
 */
#define LSM_PRIORITY	225	/* NF_IP_PRI_SELINUX_LAST, and _FIRST is its negative */
#define LSM_HOOKS_MAX	4

static __always_inline bool is_lsm(struct nf_hook_ops *ops)
{
	int priority = BPF_CORE_READ(ops, priority);

	return (priority == LSM_PRIORITY || priority == -LSM_PRIORITY) &&
	       BPF_CORE_READ_BITFIELD_PROBED(ops, hook_ops_type) == NF_HOOK_OP_UNDEFINED;
}

/* Is anything but a security module at this hook? As nf_hook_entries_get_hook_ops(). */
static __always_inline bool hook_filters(struct nf_hook_entries *e)
{
	struct nf_hook_ops *ops = NULL;
	const char *all;
	int i, n;

	if (!e)
		return false;
	n = BPF_CORE_READ(e, num_hook_entries);
	if (n > LSM_HOOKS_MAX)
		return true;
	all = (const char *)e + bpf_core_field_offset(e->hooks) +
	      n * bpf_core_type_size(struct nf_hook_entry);
	for (i = 0; i < LSM_HOOKS_MAX && i < n; i++)
		if (bpf_probe_read_kernel(&ops, sizeof(ops), all + i * sizeof(ops)) ||
		    !is_lsm(ops))
			return true;
	return false;
}

/*
 * Could nftables or iptables see a packet of the socket? Rules have hooks; forwarding,
 * hook 2, is none of its ways.
 */
static __always_inline bool netfilter_sees(struct sock *sk, bool v6)
{
	struct netns_nf *nf = &sk->__sk_common.skc_net.net->nf;

	if (v6)
		return hook_filters(nf->hooks_ipv6[0]) || hook_filters(nf->hooks_ipv6[1]) ||
		       hook_filters(nf->hooks_ipv6[3]) || hook_filters(nf->hooks_ipv6[4]);
	return hook_filters(nf->hooks_ipv4[0]) || hook_filters(nf->hooks_ipv4[1]) ||
	       hook_filters(nf->hooks_ipv4[3]) || hook_filters(nf->hooks_ipv4[4]);
}

/* A listener on any address of IPv6 has IPv4's as well. */
static __always_inline bool netfilter_keeps(struct sock *sk,
					    const struct dmm_sock_view *v)
{
	bool any = !(v->src[0] | v->src[1] | v->src[2] | v->src[3]);

	return netfilter_sees(sk, v->family == AF_INET6) ||
	       (v->dir == DMM_DIR_LISTEN && v->family == AF_INET6 && any &&
		netfilter_sees(sk, false));
}

/* connect() by sendto(MSG_FASTOPEN): what that returns are bytes. */
static __always_inline bool is_send(struct bpf_sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	return tp && tp->fastopen_req;
}

static __always_inline int decide(struct bpf_sock_addr *ctx, __u32 dir, bool v6)
{
	struct bpf_sock_addr_kern *kctx;
	struct dmm_rule_stats *stats;
	struct dmm_sock_mark *mark;
	struct search s = {};
	struct bpf_sock *sk;
	__u32 nr, id, stack;
	bool asked = false;
	int ret;

	/* MPTCP, SMC and SCTP have stream sockets, too. */
	if (ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
		return 1;
	/* An address of another family: the kernel has an errno for it. */
	if (ctx->user_family != (v6 ? AF_INET6 : AF_INET))
		return 1;
	sk = ctx->sk;
	/* An MPTCP socket binds by a subflow of TCP. */
	if (!sk || bpf_skc_to_mptcp_sock(sk))
		return 1;
	mark = bpf_sk_storage_get(&socks, sk, 0, 0);
	if (mark) {
		/* The shim reserves the port of a socket that it takes. */
		if (dir == DMM_DIR_LISTEN && mark->shim == 2) {
			mark->shim = 1;
			return 1;
		}
		asked = mark->shim && mark->flags & DMM_MARK_F_ASKED &&
			!is_send(sk);
		mark->stack = DMM_STACK_KERNEL;
		mark->flags = 0;
	}
	/* Another program's denial stands: there is nothing left to decide. */
	if (bpf_get_retval())
		return 1;

	s.set = rules_get();
	if (!s.set)
		return 1;
	nr = s.set->count;
	if (nr > DMM_RULES_MAX)
		nr = DMM_RULES_MAX;
	view_fill(ctx, sk, dir, v6, &s.view);
	bpf_loop(nr, rule_try, &s, 0);
	if (!s.rule)
		return 1;

	id = s.rule->id;
	stack = s.rule->stack;
	stats = bpf_map_lookup_elem(&rule_stats, &id);
	if (stats)
		count(&stats->hits);
	if (stack == DMM_STACK_KERNEL)
		return 1;

	kctx = bpf_cast_to_kern_ctx(ctx);
	ret = DMM_FALLBACK_NONE;
	if (s.rule->flags & DMM_RULE_F_STRICT_FILTERS && netfilter_keeps(kctx->sk, &s.view))
		ret = DMM_FALLBACK_NETFILTER;
	else if (asked)
		ret = protected_by(kctx->sk);
	if (ret)
		return fall_back(s.rule->flags & DMM_RULE_F_REJECT, stats, ret);
	if (mark && asked) {
		mark->stack = stack;
		mark->rule = id;
		mark->flags = s.rule->flags & DMM_RULE_F_REJECT ? DMM_MARK_F_REJECT : 0;
		if (s.rule->flags & DMM_RULE_F_STRICT_FILTERS)
			mark->flags |= DMM_MARK_F_STRICT;
		if (stats) {
			count(&stats->adopted);
			count(&stats->shim);
			mark->flags |= DMM_MARK_F_ADOPTED;
		}
		/*
		 * Not an error: one would hide the denial of a program that comes
		 * after this one, which makes an errno of a value that is none.
		 */
		if (dir == DMM_DIR_CONNECT) {
			mark->flags |= DMM_MARK_F_CONNECT;
			bpf_set_retval(DMM_SHIM_TAKE);
		}
		return 1;
	}

	if (have_kfunc)
		ret = bpf_dmm_assign(kctx, stack,
				     (dir == DMM_DIR_LISTEN ?
				      DMM_ASSIGN_F_LISTEN : 0) |
				     (s.rule->flags & DMM_RULE_F_REJECT ?
				      DMM_ASSIGN_F_STRICT : 0));
	else
		ret = mark && mark->why ? mark->why : DMM_FALLBACK_NO_CLIENT;
	if (ret)
		return fall_back(s.rule->flags & DMM_RULE_F_REJECT, stats, ret);
	if (stats)
		count(&stats->adopted);
	return 1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return decide(ctx, DMM_DIR_CONNECT, false);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return decide(ctx, DMM_DIR_CONNECT, true);
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx)
{
	return decide(ctx, DMM_DIR_LISTEN, false);
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *ctx)
{
	return decide(ctx, DMM_DIR_LISTEN, true);
}

/* ------------------------------------------------------------------------- */

/*
 * These two run at every setsockopt() and getsockopt() of their cgroups. What is
 * not ours goes on as if they were not there; that takes care with large values,
 * of which a program sees only the first page: a length of 0 means that the caller's
 * own buffer counts.
 */
#define SOCKOPT_PAGE 4096

static __always_inline bool is_ours(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (ctx->level == SOL_DMM && sk && sk->type == SOCK_STREAM &&
	    sk->protocol == IPPROTO_TCP)
		return true;
	if (ctx->optlen > SOCKOPT_PAGE)
		ctx->optlen = 0;
	return false;
}

static __always_inline int refuse(int err)
{
	bpf_set_retval(err);
	return 0;
}

/* The shim gives a socket back that was counted as adopted. Its rule's counters. */
static __always_inline struct dmm_rule_stats *give_back(struct dmm_sock_mark *mark)
{
	struct dmm_rule_stats *stats;
	__u32 id = mark->rule;

	stats = bpf_map_lookup_elem(&rule_stats, &id);
	if (stats && mark->flags & DMM_MARK_F_ADOPTED) {
		__sync_fetch_and_add(&stats->adopted, -1);
		__sync_fetch_and_add(&stats->shim, -1);
	}
	mark->flags &= ~DMM_MARK_F_ADOPTED;
	return stats;
}

/* DMM_SO_SHIM: 0 or -errno. */
static __always_inline int set_shim(struct bpf_sock *sk, __u32 val)
{
	struct dmm_sock_mark *mark;

	if (val > 2)
		return -EINVAL;
	mark = bpf_sk_storage_get(&socks, sk, NULL,
				  val == 1 ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (val == 2) {
		if (!mark || !mark->shim || !(mark->flags & DMM_MARK_F_CONNECT))
			return -EINVAL;
		mark->shim = 2;
		return 0;
	}
	if (!mark)
		return val ? -ENOMEM : 0;
	if (!val && mark->stack)
		give_back(mark);
	mark->shim = val;
	mark->stack = DMM_STACK_KERNEL;
	mark->flags = val ? DMM_MARK_F_ASKED : 0;
	mark->why = 0;
	return 0;
}

static __always_inline int set_fallback(struct bpf_sock *sk, __u32 why)
{
	struct dmm_sock_mark *mark;

	mark = bpf_sk_storage_get(&socks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mark)
		return -ENOMEM;
	if (mark->stack)
		give_back(mark);
	mark->shim = 0;
	mark->stack = DMM_STACK_KERNEL;
	mark->why = why;
	return 0;
}

static __always_inline int set_listen(struct bpf_sock *sk, __u32 why)
{
	struct dmm_sock_mark *mark;

	mark = bpf_sk_storage_get(&socks, sk, NULL, 0);
	if (!mark || !mark->shim || !mark->stack)
		return 0;
	return fall_back(mark->flags & DMM_MARK_F_REJECT, give_back(mark), why) ?
		       0 : -DMM_REJECT_ERRNO;
}

SEC("cgroup/setsockopt")
int setsockopt(struct bpf_sockopt *ctx)
{
	__u32 *val, v;
	int ret;

	if (!is_ours(ctx) || ctx->optname < DMM_SO_SHIM || ctx->optname == DMM_SO_STACK ||
	    ctx->optname > DMM_SO_LISTEN)
		return 1;
	/* what another program refused stays so */
	if (bpf_get_retval())
		return 1;
	val = ctx->optval;
	if (ctx->optlen != sizeof(*val) || (void *)(val + 1) > ctx->optval_end)
		return refuse(-EINVAL);
	v = *val;
	if (ctx->optname == DMM_SO_SHIM)
		ret = set_shim(ctx->sk, v);
	else if (!v || v > DMM_FALLBACK_MAX)
		ret = -EINVAL;
	else if (ctx->optname == DMM_SO_FALLBACK)
		ret = set_fallback(ctx->sk, v);
	else
		ret = set_listen(ctx->sk, v);
	if (ret)
		return refuse(ret);
	ctx->optlen = -1;	/* done; the kernel is not asked */
	return 1;
}

/* What was set since bind() counts at listen() as well. */
static __always_inline int why_native(struct bpf_sockopt_kern *kctx,
				      struct dmm_sock_mark *mark)
{
	struct dmm_sock_view v = { .dir = DMM_DIR_LISTEN };
	struct sock *sk = kctx->sk;

	if (mark && mark->flags & DMM_MARK_F_STRICT) {
		v.family = sk->__sk_common.skc_family;
		if (netfilter_keeps(sk, &v))
			return DMM_FALLBACK_NETFILTER;
	}
	return protected_by(sk);
}

SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *ctx)
{
	struct dmm_sock_mark *mark;
	__u32 *val;
	int ret;

	if (!is_ours(ctx))
		return 1;
	if (ctx->optname != DMM_SO_SHIM && ctx->optname != DMM_SO_STACK &&
	    ctx->optname != DMM_SO_WHY)
		return 1;
	/* Neither IPv4's answer to an unknown level nor IPv6's: another program's. */
	ret = bpf_get_retval();
	if (ret != -EOPNOTSUPP && ret != -ENOPROTOOPT)
		return 1;
	val = ctx->optval;
	if (ctx->optlen < (int)sizeof(*val) || (void *)(val + 1) > ctx->optval_end)
		return refuse(-EINVAL);
	mark = bpf_sk_storage_get(&socks, ctx->sk, NULL, 0);
	if (ctx->optname == DMM_SO_SHIM)
		*val = mark ? mark->shim : 0;
	else if (ctx->optname == DMM_SO_WHY)
		*val = why_native(bpf_cast_to_kern_ctx(ctx), mark);
	else
		*val = mark && mark->shim ? mark->stack : DMM_STACK_KERNEL;
	ctx->optlen = sizeof(*val);
	bpf_set_retval(0);
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
