// SPDX-License-Identifier: GPL-2.0-only
/*
 * Generic netlink family "dmm", as told in uapi/linux/dmm.h: listing only.
 */
#include <net/genetlink.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>
#include <net/sock.h>

#include "arena.h"
#include "netlink.h"
#include "sock.h"
#include "stack.h"

static struct genl_family dmm_nl_family;

static int put_fallbacks(struct sk_buff *skb, const atomic64_t *counts)
{
	struct nlattr *list, *nest;
	int i;

	list = nla_nest_start(skb, DMM_NL_A_FALLBACKS);
	if (!list)
		return -EMSGSIZE;
	for (i = 0; i <= DMM_FALLBACK_MAX; i++) {
		u64 count = atomic64_read(&counts[i]);

		if (!count)
			continue;
		nest = nla_nest_start(skb, DMM_NL_A_FALLBACK);
		if (!nest ||
		    nla_put_u32(skb, DMM_NL_A_REASON, i) ||
		    nla_put_string(skb, DMM_NL_A_REASON_NAME,
				   dmm_fallback_name(i)) ||
		    nla_put_u64_64bit(skb, DMM_NL_A_COUNT, count,
				      DMM_NL_A_PAD))
			return -EMSGSIZE;
		nla_nest_end(skb, nest);
	}
	nla_nest_end(skb, list);
	return 0;
}

static int put_stack(struct sk_buff *skb, struct dmm_stack *stack)
{
	if (nla_put_u32(skb, DMM_NL_A_STACK_ID, stack->id) ||
	    nla_put_string(skb, DMM_NL_A_NAME, stack->name) ||
	    nla_put_u32(skb, DMM_NL_A_IFINDEX, stack->ifindex) ||
	    nla_put_u32(skb, DMM_NL_A_PID, stack->pid) ||
	    nla_put_u32(skb, DMM_NL_A_SOCKS, READ_ONCE(stack->nsocks)) ||
	    nla_put_u64_64bit(skb, DMM_NL_A_ADOPTED,
			      atomic64_read(&stack->adopted), DMM_NL_A_PAD) ||
	    nla_put_u64_64bit(skb, DMM_NL_A_BAD_EVENTS,
			      atomic64_read(&stack->bad_events),
			      DMM_NL_A_PAD) ||
	    nla_put_u64_64bit(skb, DMM_NL_A_STALE_EVENTS,
			      atomic64_read(&stack->stale_events),
			      DMM_NL_A_PAD))
		return -EMSGSIZE;
	return put_fallbacks(skb, stack->fallbacks);
}

/* Where a dump goes on: a stack's id, and a slot of it. */
struct dump_pos {
	u32 id;
	u32 slot;
};

static int stack_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct dump_pos *pos = (struct dump_pos *)cb->ctx;
	struct dmm_stack *stack;
	void *hdr;
	int err;

	while ((stack = dmm_stack_next(&pos->id))) {
		hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid,
				  cb->nlh->nlmsg_seq, &dmm_nl_family,
				  NLM_F_MULTI, DMM_NL_CMD_STACK_GET);
		err = hdr ? put_stack(skb, stack) : -EMSGSIZE;
		dmm_stack_put(stack);
		if (err) {
			if (hdr)
				genlmsg_cancel(skb, hdr);
			break;
		}
		genlmsg_end(skb, hdr);
		pos->id++;
	}
	return skb->len;
}

static u32 ring_fill(u32 n)
{
	return n == DMM_RING_BROKEN ? 0 : n;
}

static int put_addrs(struct sk_buff *skb, const struct sock *sk)
{
	const struct inet_sock *inet = inet_sk(sk);

	if (sk->sk_family == AF_INET6 &&
	    !ipv6_addr_v4mapped(&sk->sk_v6_daddr))
		return nla_put_u16(skb, DMM_NL_A_FAMILY, AF_INET6) ||
		       nla_put_in6_addr(skb, DMM_NL_A_SADDR,
					&sk->sk_v6_rcv_saddr) ||
		       nla_put_in6_addr(skb, DMM_NL_A_DADDR, &sk->sk_v6_daddr);
	return nla_put_u16(skb, DMM_NL_A_FAMILY, AF_INET) ||
	       nla_put_in_addr(skb, DMM_NL_A_SADDR, inet->inet_rcv_saddr) ||
	       nla_put_in_addr(skb, DMM_NL_A_DADDR, inet->inet_daddr);
}

/* As tcp_diag_get_info(). */
static void get_queues(const struct sock *sk, const struct dmm_sock *ds,
		       u32 *rxq, u32 *txq)
{
	if (inet_sk_state_load(sk) == TCP_LISTEN) {
		*rxq = READ_ONCE(sk->sk_ack_backlog);
		*txq = READ_ONCE(sk->sk_max_ack_backlog);
	} else {
		*rxq = ring_fill(dmm_sock_rx_avail(ds));
		*txq = ring_fill(dmm_sock_tx_used(ds));
	}
}

/* Without the socket's lock: each field is true, all together are a snapshot. */
static int put_sock(struct sk_buff *skb, struct dmm_stack *stack,
		    struct dmm_sock *ds, struct sock *sk)
{
	const struct inet_sock *inet = inet_sk(sk);
	u32 rxq, txq;

	get_queues(sk, ds, &rxq, &txq);
	if (nla_put_u32(skb, DMM_NL_A_STACK_ID, stack->id) ||
	    nla_put_string(skb, DMM_NL_A_NAME, stack->name) ||
	    nla_put_u32(skb, DMM_NL_A_SLOT, ds->slot) ||
	    nla_put_u8(skb, DMM_NL_A_STATE, inet_sk_state_load(sk)) ||
	    put_addrs(skb, sk) ||
	    nla_put_be16(skb, DMM_NL_A_SPORT, inet->inet_sport) ||
	    nla_put_be16(skb, DMM_NL_A_DPORT, inet->inet_dport) ||
	    nla_put_u32(skb, DMM_NL_A_RXQ, rxq) ||
	    nla_put_u32(skb, DMM_NL_A_TXQ, txq) ||
	    nla_put_u64_64bit(skb, DMM_NL_A_INODE, sock_i_ino(sk),
			      DMM_NL_A_PAD) ||
	    nla_put_u32(skb, DMM_NL_A_UID,
			from_kuid_munged(&init_user_ns, sock_i_uid(sk))))
		return -EMSGSIZE;
	return 0;
}

static int sock_dump_one(struct sk_buff *skb, struct netlink_callback *cb,
			 struct dmm_stack *stack, u32 slot)
{
	struct dmm_sock *ds;
	struct sock *sk;
	int err = 0;
	void *hdr;

	rcu_read_lock();
	ds = rcu_dereference(stack->slots[slot].ds);
	sk = ds ? dmm_sock_hold_sk(ds) : NULL;
	/* An assigned socket that has not connected yet is not adopted. */
	if (sk && READ_ONCE(ds->posted)) {
		hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid,
				  cb->nlh->nlmsg_seq, &dmm_nl_family,
				  NLM_F_MULTI, DMM_NL_CMD_SOCK_GET);
		err = hdr ? put_sock(skb, stack, ds, sk) : -EMSGSIZE;
		if (!err)
			genlmsg_end(skb, hdr);
		else if (hdr)
			genlmsg_cancel(skb, hdr);
	}
	rcu_read_unlock();
	if (sk)
		sock_put(sk);
	return err;
}

static int sock_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct dump_pos *pos = (struct dump_pos *)cb->ctx;
	struct dmm_stack *stack;
	u32 id = pos->id;

	while ((stack = dmm_stack_next(&pos->id))) {
		if (pos->id != id)
			pos->slot = 0;
		for (; pos->slot < stack->arena->geo.nslots; pos->slot++) {
			if (sock_dump_one(skb, cb, stack, pos->slot)) {
				dmm_stack_put(stack);
				return skb->len;
			}
		}
		dmm_stack_put(stack);
		pos->slot = 0;
		id = ++pos->id;
	}
	return skb->len;
}

static int stats_get(struct sk_buff *skb, struct genl_info *info)
{
	struct sk_buff *msg;
	void *hdr;

	msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!msg)
		return -ENOMEM;
	hdr = genlmsg_put_reply(msg, info, &dmm_nl_family, 0,
				DMM_NL_CMD_STATS_GET);
	if (!hdr ||
	    nla_put_u32(msg, DMM_NL_A_ABI, DMM_ABI_VERSION) ||
	    nla_put_u64_64bit(msg, DMM_NL_A_ADOPTED,
			      atomic64_read(&dmm_totals.adopted),
			      DMM_NL_A_PAD) ||
	    nla_put_u64_64bit(msg, DMM_NL_A_BAD_EVENTS,
			      atomic64_read(&dmm_totals.bad_events),
			      DMM_NL_A_PAD) ||
	    put_fallbacks(msg, dmm_totals.fallbacks)) {
		nlmsg_free(msg);
		return -EMSGSIZE;
	}
	genlmsg_end(msg, hdr);
	return genlmsg_reply(msg, info);
}

/* No request has attributes; strict validation refuses any. */
static const struct nla_policy dmm_nl_policy[] = {
	[DMM_NL_A_UNSPEC] = { .type = NLA_REJECT },
};

static const struct genl_ops dmm_nl_ops[] = {
	{
		.cmd	= DMM_NL_CMD_STACK_GET,
		.flags	= GENL_ADMIN_PERM,
		.dumpit	= stack_dump,
	},
	{
		.cmd	= DMM_NL_CMD_SOCK_GET,
		.flags	= GENL_ADMIN_PERM,
		.dumpit	= sock_dump,
	},
	{
		.cmd	= DMM_NL_CMD_STATS_GET,
		.flags	= GENL_ADMIN_PERM,
		.doit	= stats_get,
	},
};

static struct genl_family dmm_nl_family __ro_after_init = {
	.name		= DMM_NL_FAMILY,
	.version	= DMM_NL_VERSION,
	.maxattr	= DMM_NL_A_UNSPEC,
	.policy		= dmm_nl_policy,
	.ops		= dmm_nl_ops,
	.n_ops		= ARRAY_SIZE(dmm_nl_ops),
	.resv_start_op	= DMM_NL_CMD_UNSPEC + 1,
	.module		= THIS_MODULE,
};

int dmm_netlink_init(void)
{
	return genl_register_family(&dmm_nl_family);
}

void dmm_netlink_exit(void)
{
	genl_unregister_family(&dmm_nl_family);
}
