// SPDX-License-Identifier: Apache-2.0
/*
 * Steering for listeners. The XDP program takes SYNs for {local address, port} only
 * if that very pair is in its map, so there is an entry for each address of the
 * network namespace that a listener listens on, and for none that is not the
 * namespace's: segments that are forwarded, or nobody's, stay the kernel's. The
 * addresses are followed by netlink.
 *
 * All of it is few: plain lists.
 */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <netlink/msg.h>

#include "private.h"

/* @seen: the dump that it was last in */
struct laddr {
	LIST_ENTRY(laddr) next;
	uint32_t word[4];
	uint8_t family;
	uint32_t seen;
};

/* What the plug-in asked for, and how often. */
struct lflow {
	LIST_ENTRY(lflow) next;
	struct dmm_tuple local;
	unsigned int refs;
};

/* @dump: number of the latest dump of addresses */
struct listen_table {
	LIST_HEAD(, laddr) addrs;
	LIST_HEAD(, lflow) flows;
	uint32_t dump;
};

static bool is_any(const uint32_t addr[4])
{
	return !(addr[0] | addr[1] | addr[2] | addr[3]);
}

static bool flow_covers(const struct lflow *f, const struct laddr *a)
{
	return f->local.family == a->family &&
	       (is_any(f->local.laddr) ||
		!memcmp(f->local.laddr, a->word, sizeof(a->word)));
}

static struct dmm_tuple entry(const struct lflow *f, const struct laddr *a)
{
	struct dmm_tuple t = f->local;

	memcpy(t.laddr, a->word, sizeof(t.laddr));
	return t;
}

static int entry_add(struct dmm_worker *w, const struct lflow *f,
		     const struct laddr *a)
{
	struct dmm_tuple t = entry(f, a);

	return xdp_flow_add(w, &t);
}

/* Unless another listener of that port wants it. */
static void entry_del(struct dmm_worker *w, const struct lflow *f,
		      const struct laddr *a)
{
	struct dmm_tuple t = entry(f, a);
	struct lflow *other;

	LIST_FOREACH(other, &w->listens->flows, next)
		if (other != f && other->local.lport == f->local.lport &&
		    flow_covers(other, a))
			return;
	xdp_flow_del(w, &t);
}

static struct lflow *flow_find(struct listen_table *t,
			       const struct dmm_tuple *local)
{
	struct lflow *f;

	LIST_FOREACH(f, &t->flows, next)
		if (f->local.family == local->family &&
		    f->local.lport == local->lport &&
		    !memcmp(f->local.laddr, local->laddr,
			    sizeof(local->laddr)))
			return f;
	return NULL;
}

int listen_flow_add(struct dmm_worker *w, const struct dmm_tuple *local)
{
	struct listen_table *t = w->listens;
	struct lflow *f = flow_find(t, local);
	struct laddr *a;
	int ret;

	if (f) {
		f->refs++;
		return 0;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->local = *local;
	f->refs = 1;
	LIST_INSERT_HEAD(&t->flows, f, next);
	LIST_FOREACH(a, &t->addrs, next) {
		if (!flow_covers(f, a))
			continue;
		ret = entry_add(w, f, a);
		if (ret) {
			listen_flow_del(w, local);
			return ret;
		}
	}
	return 0;
}

void listen_flow_del(struct dmm_worker *w, const struct dmm_tuple *local)
{
	struct listen_table *t = w->listens;
	struct lflow *f = flow_find(t, local);
	struct laddr *a;

	if (!f || --f->refs)
		return;
	LIST_FOREACH(a, &t->addrs, next)
		if (flow_covers(f, a))
			entry_del(w, f, a);
	LIST_REMOVE(f, next);
	free(f);
}

/* ------------------------------------------------------------------------- */

static void addr_add(struct dmm_worker *w, uint8_t family,
		     const uint32_t word[4])
{
	struct listen_table *t = w->listens;
	struct lflow *f;
	struct laddr *a;

	LIST_FOREACH(a, &t->addrs, next) {
		if (a->family == family && !memcmp(a->word, word, 16)) {
			a->seen = t->dump;
			return;
		}
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return;
	a->family = family;
	a->seen = t->dump;
	memcpy(a->word, word, sizeof(a->word));
	LIST_INSERT_HEAD(&t->addrs, a, next);
	LIST_FOREACH(f, &t->flows, next)
		if (flow_covers(f, a))
			entry_add(w, f, a);
}

static void addr_free(struct dmm_worker *w, struct laddr *a)
{
	struct lflow *f;

	LIST_REMOVE(a, next);
	LIST_FOREACH(f, &w->listens->flows, next) {
		struct dmm_tuple t = entry(f, a);

		/* several listeners share one entry: the first deletes it */
		if (flow_covers(f, a))
			xdp_flow_del_quietly(w, &t);
	}
	free(a);
}

static void addr_del(struct dmm_worker *w, uint8_t family,
		     const uint32_t word[4])
{
	struct laddr *a;

	LIST_FOREACH(a, &w->listens->addrs, next) {
		if (a->family == family && !memcmp(a->word, word, 16)) {
			addr_free(w, a);
			return;
		}
	}
}

/* An address that segments from the wire can be for. */
static bool usable(const struct dmm_worker *w, const struct ifaddrmsg *ifa,
		   uint32_t flags, const uint32_t word[4])
{
	const struct in6_addr *in6 = (const struct in6_addr *)word;

	if (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) &&
	    !(flags & IFA_F_OPTIMISTIC))
		return false;
	if (ifa->ifa_family == AF_INET)
		return ntohl(word[0]) >> 24 != IN_LOOPBACKNET;
	return !IN6_IS_ADDR_LOOPBACK(in6) &&
	       (!IN6_IS_ADDR_LINKLOCAL(in6) ||
		ifa->ifa_index == (uint32_t)w->ifindex);
}

/* RTM_NEWADDR, also of one that cannot be used yet, or any more. */
void listen_addr_event(struct dmm_worker *w, struct nlmsghdr *nlh)
{
	const struct ifaddrmsg *ifa = nlmsg_data(nlh);
	struct nlattr *tb[IFA_MAX + 1], *addr;
	uint32_t word[4] = { 0 }, flags;
	int len;

	if (nlmsg_parse(nlh, sizeof(*ifa), tb, IFA_MAX, NULL) ||
	    (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6))
		return;
	/* on a point-to-point link IFA_ADDRESS is the other end's */
	addr = tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS];
	len = ifa->ifa_family == AF_INET ? 4 : 16;
	if (!addr || nla_len(addr) != len)
		return;
	memcpy(word, nla_data(addr), len);
	flags = tb[IFA_FLAGS] ? nla_get_u32(tb[IFA_FLAGS]) : ifa->ifa_flags;
	if (usable(w, ifa, flags, word))
		addr_add(w, ifa->ifa_family, word);
	else
		addr_del(w, ifa->ifa_family, word);
}

/* Around a dump of all addresses: what was not in it is gone. */
void listen_dump_begin(struct dmm_worker *w)
{
	w->listens->dump++;
}

void listen_dump_end(struct dmm_worker *w)
{
	struct laddr *a, *next;

	for (a = LIST_FIRST(&w->listens->addrs); a; a = next) {
		next = LIST_NEXT(a, next);
		if (a->seen != w->listens->dump)
			addr_free(w, a);
	}
}

int listen_create(struct dmm_worker *w, char *err, size_t err_len)
{
	w->listens = calloc(1, sizeof(*w->listens));
	return w->listens ? 0 : fail(err, err_len, -ENOMEM, "no memory");
}

void listen_destroy(struct dmm_worker *w)
{
	struct listen_table *t = w->listens;
	struct lflow *f;
	struct laddr *a;

	if (!t)
		return;
	while ((f = LIST_FIRST(&t->flows))) {
		LIST_REMOVE(f, next);
		free(f);
	}
	while ((a = LIST_FIRST(&t->addrs))) {
		LIST_REMOVE(a, next);
		free(a);
	}
	free(t);
	w->listens = NULL;
}
