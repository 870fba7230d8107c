// SPDX-License-Identifier: Apache-2.0
/*
 * Next hops, from the kernel's tables.
 *
 * Which next hop: the kernel is asked once for each destination (RTM_GETROUTE,
 * as if bound to our device), and the answer is kept until any route, address,
 * rule or link changes. Which MAC: the device's neighbours are mirrored from
 * netlink. One that is not known is asked of the kernel, which resolves it and
 * tells us; frames wait meanwhile, a few of them. One that is stale and in use
 * is shown to the kernel now and then, so that it probes it: it does not see our
 * traffic.
 */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "private.h"

#define HASH_SIZE	4096
#define DSTS_MAX	65536
#define QUEUE_MAX	32
#define ASK_MS		1000	/* an unresolved one, at most this often */
#define REFRESH_MS	5000	/* a stale one */
#define NUD_USABLE	(NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | \
			 NUD_PROBE | NUD_STALE | NUD_DELAY)

struct addr {
	uint32_t word[4];
	uint8_t family;
};

/*
 * @state: NUD_*, 0 when the kernel has not told
 * @asked_ms: when the kernel was last asked
 * @queue: frames without link header, that wait for the MAC
 */
struct neigh {
	LIST_ENTRY(neigh) hash;
	struct addr addr;
	struct rte_ether_addr mac;
	uint16_t state;
	bool asked;
	uint32_t asked_ms;
	unsigned int nqueue;
	struct rte_mbuf *queue[QUEUE_MAX];
};

/* A destination: its next hop, or NULL and why, as of @generation. */
struct dst {
	LIST_ENTRY(dst) hash;
	struct addr addr;
	struct neigh *neigh;
	uint32_t generation;
	int error;
};

/*
 * @events: notifications, non-blocking
 * @query: requests and their answers
 * @generation: changes with every change of the routes
 * @last: the destination used last
 */
struct neigh_table {
	struct dmm_worker *w;
	struct nl_sock *events;
	struct nl_sock *query;
	uint32_t generation;
	unsigned int ndsts;
	struct dst *last;
	LIST_HEAD(, dst) dsts[HASH_SIZE];
	LIST_HEAD(, neigh) neighs[HASH_SIZE];
};

static size_t addr_len(uint8_t family)
{
	return family == AF_INET ? 4 : 16;
}

static void addr_set(struct addr *a, uint8_t family, const void *data)
{
	memset(a, 0, sizeof(*a));
	a->family = family;
	memcpy(a->word, data, addr_len(family));
}

static bool addr_eq(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && !memcmp(a->word, b->word, 16);
}

static unsigned int addr_hash(const struct addr *a)
{
	uint32_t h = a->word[0] ^ a->word[1] ^ a->word[2] ^ a->word[3];

	return (h * 0x9E3779B1u) >> 20;
}

/* ------------------------------------------------------------------------- */

static void neigh_drop_queue(struct neigh_table *t, struct neigh *n)
{
	stat_add(&t->w->stats.tx_no_neigh, n->nqueue);
	rte_pktmbuf_free_bulk(n->queue, n->nqueue);
	n->nqueue = 0;
}

static struct neigh *neigh_get(struct neigh_table *t, const struct addr *a)
{
	struct neigh *n;
	unsigned int h = addr_hash(a);

	LIST_FOREACH(n, &t->neighs[h], hash)
		if (addr_eq(&n->addr, a))
			return n;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->addr = *a;
	LIST_INSERT_HEAD(&t->neighs[h], n, hash);
	return n;
}

/* Let the kernel resolve, or confirm, a neighbour; the answer is an event. */
static void neigh_ask(struct neigh_table *t, struct neigh *n)
{
	struct ndmsg ndm = {
		.ndm_family = n->addr.family,
		.ndm_ifindex = t->w->ifindex,
		.ndm_state = NUD_NONE,
		.ndm_flags = NTF_USE,
	};
	struct nl_msg *msg;

	n->asked = true;
	n->asked_ms = t->w->now_ms;
	stat_add(&t->w->stats.neigh_asked, 1);
	msg = nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_CREATE);
	if (!msg)
		return;
	if (!nlmsg_append(msg, &ndm, sizeof(ndm), NLMSG_ALIGNTO) &&
	    !nla_put(msg, NDA_DST, addr_len(n->addr.family), n->addr.word))
		nl_send_auto(t->query, msg);
	nlmsg_free(msg);
}

static void frame_send(struct neigh_table *t, struct neigh *n,
		       struct rte_mbuf *m)
{
	struct rte_ether_hdr *eth;

	eth = (struct rte_ether_hdr *)rte_pktmbuf_prepend(m, sizeof(*eth));
	if (!eth) {
		rte_pktmbuf_free(m);
		return;
	}
	eth->dst_addr = n->mac;
	eth->src_addr = t->w->port.mac;
	eth->ether_type = n->addr.family == AF_INET ?
				  RTE_BE16(RTE_ETHER_TYPE_IPV4) :
				  RTE_BE16(RTE_ETHER_TYPE_IPV6);
	port_send(t->w, m);
}

static void neigh_failed(struct neigh_table *t, struct neigh *n)
{
	struct dst *d;
	int i;

	neigh_drop_queue(t, n);
	for (i = 0; i < HASH_SIZE; i++)
		LIST_FOREACH(d, &t->dsts[i], hash)
			if (d->neigh == n)
				conn_unreachable(t->w, d->addr.family,
						 d->addr.word);
}

static void neigh_update(struct neigh_table *t, struct nlmsghdr *nlh)
{
	const struct ndmsg *ndm = nlmsg_data(nlh);
	struct nlattr *tb[NDA_MAX + 1];
	struct addr addr;
	struct neigh *n;
	unsigned int i;

	if (nlmsg_parse(nlh, sizeof(*ndm), tb, NDA_MAX, NULL) ||
	    ndm->ndm_ifindex != t->w->ifindex || !tb[NDA_DST] ||
	    (ndm->ndm_family != AF_INET && ndm->ndm_family != AF_INET6) ||
	    nla_len(tb[NDA_DST]) != (int)addr_len(ndm->ndm_family))
		return;
	addr_set(&addr, ndm->ndm_family, nla_data(tb[NDA_DST]));
	n = neigh_get(t, &addr);
	if (!n)
		return;
	n->state = nlh->nlmsg_type == RTM_DELNEIGH ? 0 : ndm->ndm_state;
	if (n->state & NUD_USABLE && tb[NDA_LLADDR] &&
	    nla_len(tb[NDA_LLADDR]) == RTE_ETHER_ADDR_LEN) {
		memcpy(&n->mac, nla_data(tb[NDA_LLADDR]), RTE_ETHER_ADDR_LEN);
		for (i = 0; i < n->nqueue; i++)
			frame_send(t, n, n->queue[i]);
		n->nqueue = 0;
	} else if (n->state & NUD_FAILED) {
		neigh_failed(t, n);
	} else {
		n->state &= ~NUD_USABLE;
	}
}

/* ------------------------------------------------------------------------- */

/*
 * @seq: the request's; the socket may also hold errors of neigh_ask()
 * @hop: the next hop, if @error is 0
 */
struct route_answer {
	const struct addr *dst;
	uint32_t seq;
	struct addr hop;
	int error;
	bool done;
};

static int route_valid_cb(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *nlh = nlmsg_hdr(msg);
	const struct rtmsg *rtm = nlmsg_data(nlh);
	struct route_answer *a = arg;
	struct nlattr *tb[RTA_MAX + 1];

	if (nlh->nlmsg_type != RTM_NEWROUTE || nlh->nlmsg_seq != a->seq ||
	    nlmsg_parse(nlh, sizeof(*rtm), tb, RTA_MAX, NULL))
		return NL_SKIP;
	if (rtm->rtm_type != RTN_UNICAST) {
		a->error = -EHOSTUNREACH;
		return NL_SKIP;
	}
	a->hop = *a->dst;
	if (tb[RTA_GATEWAY] &&
	    nla_len(tb[RTA_GATEWAY]) == (int)addr_len(rtm->rtm_family)) {
		addr_set(&a->hop, rtm->rtm_family, nla_data(tb[RTA_GATEWAY]));
	} else if (tb[RTA_VIA]) {
		const struct rtvia *via = nla_data(tb[RTA_VIA]);

		if (nla_len(tb[RTA_VIA]) >= (int)(sizeof(*via) + 16) &&
		    via->rtvia_family == AF_INET6)
			addr_set(&a->hop, AF_INET6, via->rtvia_addr);
	}
	a->error = 0;
	return NL_SKIP;
}

static int route_error_cb(struct sockaddr_nl *sa, struct nlmsgerr *e, void *arg)
{
	struct route_answer *a = arg;

	if (e->msg.nlmsg_seq != a->seq)
		return NL_SKIP;
	a->error = e->error;
	a->done = true;
	return NL_STOP;
}

static int route_ack_cb(struct nl_msg *msg, void *arg)
{
	struct route_answer *a = arg;

	a->done = nlmsg_hdr(msg)->nlmsg_seq == a->seq;
	return NL_STOP;
}

static int seq_ok_cb(struct nl_msg *msg, void *arg)
{
	return NL_OK;
}

/* Ask the kernel which way @d->addr goes. Local, so it does not take long. */
static void dst_resolve(struct neigh_table *t, struct dst *d)
{
	struct rtmsg rtm = {
		.rtm_family = d->addr.family,
		.rtm_dst_len = 8 * addr_len(d->addr.family),
	};
	struct route_answer a = { .dst = &d->addr, .error = -EIO };
	struct nl_msg *msg;
	struct nl_cb *cb;

	d->generation = t->generation;
	d->neigh = NULL;
	d->error = -ENOBUFS;
	stat_add(&t->w->stats.route_asked, 1);
	msg = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_ACK);
	cb = nl_cb_alloc(NL_CB_DEFAULT);
	if (!msg || !cb)
		goto out;
	nl_cb_set(cb, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, seq_ok_cb, NULL);
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, route_valid_cb, &a);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, route_ack_cb, &a);
	nl_cb_err(cb, NL_CB_CUSTOM, route_error_cb, &a);
	if (nlmsg_append(msg, &rtm, sizeof(rtm), NLMSG_ALIGNTO) ||
	    nla_put(msg, RTA_DST, addr_len(d->addr.family), d->addr.word) ||
	    nla_put_u32(msg, RTA_OIF, t->w->ifindex))
		goto out;
	nl_complete_msg(t->query, msg);
	a.seq = nlmsg_hdr(msg)->nlmsg_seq;
	if (nl_send(t->query, msg) < 0)
		goto out;
	while (!a.done && nl_recvmsgs(t->query, cb) >= 0)
		;
	d->error = a.error;
	if (!a.error)
		d->neigh = neigh_get(t, &a.hop);
out:
	nl_cb_put(cb);
	nlmsg_free(msg);
}

static void dsts_forget(struct neigh_table *t)
{
	struct dst *d;
	int i;

	for (i = 0; i < HASH_SIZE; i++) {
		while ((d = LIST_FIRST(&t->dsts[i]))) {
			LIST_REMOVE(d, hash);
			free(d);
		}
	}
	t->ndsts = 0;
	t->last = NULL;
}

static struct dst *dst_get(struct neigh_table *t, const struct addr *a)
{
	unsigned int h = addr_hash(a);
	struct dst *d = t->last;

	if (d && addr_eq(&d->addr, a) && d->generation == t->generation)
		return d;
	LIST_FOREACH(d, &t->dsts[h], hash)
		if (addr_eq(&d->addr, a))
			break;
	if (!d) {
		if (t->ndsts >= DSTS_MAX)
			dsts_forget(t);
		d = calloc(1, sizeof(*d));
		if (!d)
			return NULL;
		d->addr = *a;
		d->generation = t->generation - 1;
		LIST_INSERT_HEAD(&t->dsts[h], d, hash);
		t->ndsts++;
	}
	if (d->generation != t->generation)
		dst_resolve(t, d);
	t->last = d;
	return d;
}

/* Send @m, which begins with the IP header, toward @daddr. */
void neigh_output(struct dmm_worker *w, struct rte_mbuf *m, uint8_t family,
		  const void *daddr)
{
	struct neigh_table *t = w->neighs;
	struct neigh *n = NULL;
	struct addr addr;
	struct dst *d;

	addr_set(&addr, family, daddr);
	d = dst_get(t, &addr);
	if (d)
		n = d->neigh;
	if (!n) {
		stat_add(&w->stats.tx_no_neigh, 1);
		rte_pktmbuf_free(m);
		return;
	}
	if (n->state & NUD_USABLE) {
		if (n->state & NUD_STALE &&
		    w->now_ms - n->asked_ms > REFRESH_MS)
			neigh_ask(t, n);
		frame_send(t, n, m);
		return;
	}
	if (n->nqueue == QUEUE_MAX) {
		stat_add(&w->stats.tx_no_neigh, 1);
		rte_pktmbuf_free(n->queue[0]);
		memmove(n->queue, n->queue + 1,
			(QUEUE_MAX - 1) * sizeof(n->queue[0]));
		n->nqueue--;
	}
	n->queue[n->nqueue++] = m;
	if (!n->asked || w->now_ms - n->asked_ms > ASK_MS)
		neigh_ask(t, n);
}

/* ------------------------------------------------------------------------- */

static int addr_cb(struct nl_msg *msg, void *arg)
{
	struct neigh_table *t = arg;

	if (nlmsg_hdr(msg)->nlmsg_type == RTM_NEWADDR)
		listen_addr_event(t->w, nlmsg_hdr(msg));
	return NL_OK;
}

static int done_cb(struct nl_msg *msg, void *arg)
{
	bool *done = arg;

	*done = true;
	return NL_STOP;
}

/* All local addresses, at once: until then no listener is served. */
static int addrs_dump(struct neigh_table *t)
{
	struct ifaddrmsg ifa = { .ifa_family = AF_UNSPEC };
	bool done = false;
	struct nl_cb *cb;
	int ret;

	cb = nl_cb_alloc(NL_CB_DEFAULT);
	if (!cb)
		return -ENOMEM;
	nl_cb_set(cb, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, seq_ok_cb, NULL);
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, addr_cb, t);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, done_cb, &done);
	listen_dump_begin(t->w);
	ret = nl_send_simple(t->query, RTM_GETADDR, NLM_F_DUMP, &ifa,
			     sizeof(ifa));
	while (ret >= 0 && !done)
		ret = nl_recvmsgs(t->query, cb);
	if (done)
		listen_dump_end(t->w);
	nl_cb_put(cb);
	return done ? 0 : -EIO;
}

static int event_cb(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *nlh = nlmsg_hdr(msg);
	struct neigh_table *t = arg;

	switch (nlh->nlmsg_type) {
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		neigh_update(t, nlh);
		break;
	case RTM_NEWLINK:
	case RTM_DELLINK: {
		const struct ifinfomsg *ifi = nlmsg_data(nlh);
		struct nlattr *mac;

		if (!nlmsg_valid_hdr(nlh, sizeof(*ifi)) ||
		    ifi->ifi_index != t->w->ifindex)
			break;
		t->generation++;
		if (nlh->nlmsg_type == RTM_DELLINK) {
			t->w->fatal = -ENODEV;
			break;
		}
		mac = nlmsg_find_attr(nlh, sizeof(*ifi), IFLA_ADDRESS);
		if (mac && nla_len(mac) == RTE_ETHER_ADDR_LEN)
			memcpy(&t->w->port.mac, nla_data(mac),
			       RTE_ETHER_ADDR_LEN);
		break;
	}
	case RTM_NEWADDR:
		listen_addr_event(t->w, nlh);
		t->generation++;
		break;
	case RTM_DELADDR:
		/* another device may have the same one */
		addrs_dump(t);
		t->generation++;
		break;
	default:	/* a route, a rule */
		t->generation++;
	}
	return NL_OK;
}

static int neighs_dump(struct neigh_table *t)
{
	struct ndmsg ndm = { .ndm_ifindex = t->w->ifindex };

	return nl_send_simple(t->events, RTM_GETNEIGH, NLM_F_DUMP, &ndm,
			      sizeof(ndm));
}

void neigh_read(struct dmm_worker *w)
{
	struct neigh_table *t = w->neighs;
	int ret;

	do {
		ret = nl_recvmsgs_default(t->events);
		if (ret == -NLE_NOMEM) {
			/* some were lost: begin anew */
			t->generation++;
			neighs_dump(t);
			addrs_dump(t);
			ret = 0;
		}
	} while (ret >= 0);
}

int neigh_fd(const struct dmm_worker *w)
{
	return nl_socket_get_fd(w->neighs->events);
}

static struct nl_sock *route_socket(void)
{
	struct nl_sock *sk = nl_socket_alloc();

	if (!sk)
		return NULL;
	nl_socket_disable_auto_ack(sk);
	nl_socket_disable_seq_check(sk);
	if (nl_connect(sk, NETLINK_ROUTE)) {
		nl_socket_free(sk);
		return NULL;
	}
	return sk;
}

int neigh_create(struct dmm_worker *w, char *err, size_t err_len)
{
	struct timeval patience = { .tv_sec = 1 };
	struct neigh_table *t;

	t = calloc(1, sizeof(*t));
	if (!t)
		return fail(err, err_len, -ENOMEM, "no memory");
	w->neighs = t;
	t->w = w;
	t->events = route_socket();
	t->query = route_socket();
	if (!t->events || !t->query)
		return fail(err, err_len, -EIO, "cannot open a netlink socket");
	/* the kernel answers at once; if ever it did not, we would go on */
	if (setsockopt(nl_socket_get_fd(t->query), SOL_SOCKET, SO_RCVTIMEO,
		       &patience, sizeof(patience)))
		return fail(err, err_len, -errno, "cannot set a netlink socket up");
	nl_socket_set_buffer_size(t->events, 1 << 20, 0);
	nl_socket_modify_cb(t->events, NL_CB_VALID, NL_CB_CUSTOM, event_cb, t);
	if (nl_socket_add_memberships(t->events, RTNLGRP_NEIGH, RTNLGRP_LINK,
				      RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_IFADDR,
				      RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE,
				      RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_RULE,
				      0) ||
	    nl_socket_set_nonblocking(t->events) || neighs_dump(t) < 0 ||
	    addrs_dump(t))
		return fail(err, err_len, -EIO,
			    "cannot listen to the kernel's neighbours, routes and addresses");
	return 0;
}

void neigh_destroy(struct dmm_worker *w)
{
	struct neigh_table *t = w->neighs;
	struct neigh *n;
	int i;

	if (!t)
		return;
	dsts_forget(t);
	for (i = 0; i < HASH_SIZE; i++) {
		while ((n = LIST_FIRST(&t->neighs[i]))) {
			neigh_drop_queue(t, n);
			LIST_REMOVE(n, hash);
			free(n);
		}
	}
	if (t->query)
		nl_socket_free(t->query);
	if (t->events)
		nl_socket_free(t->events);
	free(t);
	w->neighs = NULL;
}
