// SPDX-License-Identifier: Apache-2.0
/*
 * Listeners, and their children until a client attaches them.
 *
 * lwIP has one listening PCB, a template that is shown to it for the one SYN that
 * listen_syn() passes in; which listener the SYN is for, whether its backlog has
 * room, and who gets it among several of the same port, is settled before. lwIP
 * tells of the new PCB by the ext-arg's passive_open callback, before the SYN-ACK
 * leaves, and of the handshake's end by the accept callback.
 *
 * What a child receives before it is attached stays in the mbufs it came in, a few
 * of them; the window is not opened again, so it closes by itself.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/random.h>

#include "lwip/sys.h"

#include "lwip_stack.h"

#define OFFERS_MAX	5
#define OFFER_MS	1000U	/* after the first one; then twice as long */
#define UNHEARD_MS	32000U	/* when the client hears of nothing at all */
#define EARLY_MAX	32	/* pbufs that are kept for a child */
#define DEFER_MAX	3600U	/* seconds */

static unsigned int port_hash(uint16_t port)
{
	return (port ^ port >> 8) % LISTEN_HASH;
}

static bool addr_any(const uint32_t addr[4])
{
	return !(addr[0] | addr[1] | addr[2] | addr[3]);
}

/* How well the listener suits: 0 not at all; its own address is best. */
static int score(const struct dmm_stack_listener *sl, const struct dmm_tuple *t)
{
	const struct dmm_tuple *l = &sl->local;

	if (l->lport != t->lport)
		return 0;
	if (l->family == t->family && !memcmp(l->laddr, t->laddr, 16))
		return 3;
	if (!addr_any(l->laddr))
		return 0;
	if (l->family == t->family)
		return 2;
	return l->family == AF_INET6 && !sl->v6only;
}

/* The listener for a SYN; one of several by a hash of the remote end. */
struct dmm_stack_listener *listen_find(const struct dmm_tuple *t)
{
	unsigned int h = port_hash(t->lport), n = 0;
	struct dmm_stack_listener *sl, *best = NULL;
	int sc, top = 0;

	LIST_FOREACH(sl, &the_stack.listeners[h], hash) {
		sc = score(sl, t);
		if (sc > top) {
			top = sc;
			best = sl;
			n = 1;
		} else if (sc && sc == top) {
			n++;
		}
	}
	if (n < 2)
		return best;
	n = siphash(the_stack.key, t->raddr, sizeof(t->raddr) +
		    sizeof(t->lport) + sizeof(t->rport)) % n;
	LIST_FOREACH(sl, &the_stack.listeners[h], hash)
		if (score(sl, t) == top && !n--)
			break;
	return sl;
}

/* ---- children ---------------------------------------------------------- */

static void child_unlink(struct dmm_stack_conn *sc)
{
	sc->listener->nwaiting--;
	count(&the_stack.stats.waiting, -1);
	LIST_REMOVE(sc, sibling);
	sc->listener = NULL;
	if (!sc->token)
		return;
	LIST_REMOVE(sc, by_token);
	TAILQ_REMOVE(&the_stack.offered, sc, next_offered);
}

/* The connection is at its end; the client need not know. */
void listen_forget(struct dmm_stack_conn *sc)
{
	if (sc->listener)
		child_unlink(sc);
	if (sc->early)
		pbuf_free(sc->early);
	sc->early = NULL;
}

/* Tell the client of a child; false when it cannot hear now. */
static bool child_offer(struct dmm_stack_conn *sc)
{
	struct dmm_ev_incoming ev = {
		.token = sc->token,
		.family = sc->tuple.family,
		.lport = sc->tuple.lport,
		.rport = sc->tuple.rport,
		.dscp = sc->syn_tos,
		.ttl = sc->syn_ttl,
	};

	memcpy(ev.laddr, sc->tuple.laddr, sizeof(ev.laddr));
	memcpy(ev.raddr, sc->tuple.raddr, sizeof(ev.raddr));
	if (!the_stack.ops->incoming(sc->listener->host, &ev))
		return false;
	sc->offers++;
	sc->offered_ms = sys_now();
	count(&the_stack.stats.offers, 1);
	return true;
}

/* Is the child one that the client does not want to hear of yet? */
static bool child_deferred(const struct dmm_stack_conn *sc)
{
	return !sc->offers && !sc->early && !sc->early_fin &&
	       sys_now() - sc->offered_ms < sc->listener->defer_ms;
}

/* Data or a FIN for a child that waits. Not ERR_OK: lwIP keeps it. */
err_t listen_keep(struct dmm_stack_conn *sc, struct pbuf *p)
{
	bool deferred = sc->token && child_deferred(sc);

	if (!p) {
		sc->early_fin = true;
		if (deferred)
			child_offer(sc);
		return ERR_OK;
	}
	if ((sc->early ? pbuf_clen(sc->early) : 0) + pbuf_clen(p) > EARLY_MAX ||
	    (sc->early && sc->early->tot_len > 0xffff - p->tot_len) ||
	    wire_memory_low())
		return ERR_MEM;
	if (sc->early)
		pbuf_cat(sc->early, p);
	else
		sc->early = p;
	if (deferred)
		child_offer(sc);
	return ERR_OK;
}

void listen_offer_again(void)
{
	struct dmm_stack_conn *sc, *next;
	u32_t now = sys_now(), waited;

	for (sc = TAILQ_FIRST(&the_stack.offered); sc; sc = next) {
		next = TAILQ_NEXT(sc, next_offered);
		waited = now - sc->offered_ms;
		if (child_deferred(sc))
			continue;
		if (sc->offers && waited < OFFER_MS << (sc->offers - 1))
			continue;
		if (sc->offers < OFFERS_MAX &&
		    waited < UNHEARD_MS + sc->listener->defer_ms) {
			child_offer(sc);
			continue;
		}
		count(&the_stack.stats.unclaimed, 1);
		listen_forget(sc);
		conn_abandon(sc, true);
	}
	conn_run_dirty();
}

/* The handshake is done. */
static err_t accept_cb(void *arg, struct tcp_pcb *pcb, err_t err)
{
	struct dmm_stack_conn *sc = arg;

	if (!pcb)
		return ERR_OK;
	sc->connected = true;
	sc->token = ++the_stack.last_token;
	LIST_INSERT_HEAD(&the_stack.tokens[sc->token % TOKEN_HASH], sc,
			 by_token);
	TAILQ_INSERT_TAIL(&the_stack.offered, sc, next_offered);
	sc->offered_ms = sys_now();
	if (!child_deferred(sc))
		child_offer(sc);
	conn_set_dirty(sc);
	return ERR_OK;
}

/* What listen_syn() passes by lwIP to passive_open_cb(). */
struct syn {
	struct dmm_stack_listener *sl;
	struct dmm_tuple tuple;
	u8_t tos;
	u8_t ttl;
};

static err_t passive_open_cb(u8_t id, struct tcp_pcb_listen *lpcb,
			     struct tcp_pcb *pcb)
{
	const struct syn *syn = lpcb->callback_arg;
	struct dmm_stack_conn *sc;

	pcb->callback_arg = NULL;
	sc = conn_new(&syn->tuple);
	if (!sc)
		return ERR_MEM;
	sc->listener = syn->sl;
	sc->syn_tos = syn->tos;
	sc->syn_ttl = syn->ttl;
	LIST_INSERT_HEAD(&syn->sl->children, sc, sibling);
	syn->sl->nwaiting++;
	count(&the_stack.stats.waiting, 1);
	count(&the_stack.stats.children, 1);
	conn_own_pcb(sc, pcb);
	return ERR_OK;
}

static const struct tcp_ext_arg_callbacks listen_callbacks = {
	.destroy = conn_destroyed,
	.passive_open = passive_open_cb,
};

/* A SYN, @p, for @sl; lwIP's globals say who it is from. */
void listen_syn(struct dmm_stack_listener *sl, struct pbuf *p, u8_t tos,
		u8_t ttl)
{
	struct tcp_pcb_listen *lpcb = &the_stack.lpcb;
	const struct tcp_hdr *tcp = p->payload;
	struct syn syn = { .sl = sl, .tos = tos, .ttl = ttl };
	const ip_addr_t *laddr = ip_current_dest_addr();
	const ip_addr_t *raddr = ip_current_src_addr();

	/* as in Linux: one more than is asked for */
	if (sl->nwaiting > sl->backlog) {
		count(&the_stack.stats.backlog_drop, 1);
		pbuf_free(p);
		return;
	}
	if (IP_IS_V6(laddr)) {
		syn.tuple.family = AF_INET6;
		memcpy(syn.tuple.laddr, ip_2_ip6(laddr)->addr, 16);
		memcpy(syn.tuple.raddr, ip_2_ip6(raddr)->addr, 16);
	} else {
		syn.tuple.family = AF_INET;
		syn.tuple.laddr[0] = ip_2_ip4(laddr)->addr;
		syn.tuple.raddr[0] = ip_2_ip4(raddr)->addr;
	}
	syn.tuple.lport = tcp->dest;
	syn.tuple.rport = tcp->src;

	lpcb->callback_arg = &syn;
	lpcb->local_port = ntohs(tcp->dest);
	lpcb->next = NULL;
	tcp_listen_pcbs.listen_pcbs = lpcb;
	lwip_enter(NULL);
	tcp_input(p, &the_stack.netif);
	lwip_leave();
	tcp_listen_pcbs.listen_pcbs = NULL;
	lpcb->callback_arg = NULL;
}

/* ---- what the worker asks for ------------------------------------------- */

void listen_init(struct dmm_stack *stack)
{
	struct tcp_pcb_listen *lpcb = &stack->lpcb;
	uint32_t start = 0;

	TAILQ_INIT(&stack->offered);
	/* tokens of a worker that died are not good for the next one */
	getrandom(&start, sizeof(start), 0);
	stack->first_token = (uint64_t)start << 24;
	stack->last_token = stack->first_token;
	lpcb->state = LISTEN;
	lpcb->prio = TCP_PRIO_NORMAL;
	lpcb->accept = accept_cb;
	IP_SET_TYPE_VAL(lpcb->local_ip, IPADDR_TYPE_ANY);
	lpcb->ext_args[stack->ext_id].callbacks = &listen_callbacks;
}

/* Steering: the listener's own family, and IPv4 for both. */
static bool serves_both(const struct dmm_stack_listener *sl)
{
	return sl->local.family == AF_INET6 && !sl->v6only &&
	       addr_any(sl->local.laddr);
}

static struct dmm_tuple as_v4(const struct dmm_stack_listener *sl)
{
	return (struct dmm_tuple) {
		.family = AF_INET, .lport = sl->local.lport,
	};
}

static int flows_add(struct dmm_stack_listener *sl)
{
	const struct dmm_host_ops *ops = the_stack.ops;
	struct dmm_tuple v4 = as_v4(sl);
	int ret;

	ret = ops->flow_add(the_stack.host, &sl->local);
	if (ret || !serves_both(sl))
		return ret;
	ret = ops->flow_add(the_stack.host, &v4);
	if (ret)
		ops->flow_del(the_stack.host, &sl->local);
	return ret;
}

void listen_change(struct dmm_stack_listener *sl,
		   const struct dmm_op_listen *op)
{
	sl->backlog = op->backlog;
	sl->defer_ms = LWIP_MIN(op->defer, DEFER_MAX) * 1000;
}

int listen_open(struct dmm_stack *stack, struct dmm_conn *host,
		const struct dmm_op_listen *op, struct dmm_stack_listener **slp)
{
	struct dmm_stack_listener *sl;
	int ret;

	sl = calloc(1, sizeof(*sl));
	if (!sl)
		return -ENOBUFS;
	sl->host = host;
	sl->local.family = op->family;
	sl->local.lport = op->port;
	memcpy(sl->local.laddr, op->addr, sizeof(sl->local.laddr));
	sl->v6only = op->flags & DMM_LISTEN_V6ONLY;
	listen_change(sl, op);
	LIST_INIT(&sl->children);
	ret = flows_add(sl);
	if (ret) {
		free(sl);
		return -ENOBUFS;
	}
	LIST_INSERT_HEAD(&stack->listeners[port_hash(op->port)], sl, hash);
	*slp = sl;
	return 0;
}

void listen_close(struct dmm_stack_listener *sl)
{
	const struct dmm_host_ops *ops = the_stack.ops;
	struct dmm_tuple v4 = as_v4(sl);
	struct dmm_stack_conn *sc;

	LIST_REMOVE(sl, hash);
	ops->flow_del(the_stack.host, &sl->local);
	if (serves_both(sl))
		ops->flow_del(the_stack.host, &v4);
	while ((sc = LIST_FIRST(&sl->children))) {
		listen_forget(sc);
		/* as Linux: nobody tells a peer whose handshake is not done */
		if (sc->pcb)
			conn_abandon(sc, sc->connected);
	}
	conn_run_dirty();
	free(sl);
}

/* The child's data goes where it belongs. Returns false if that ended it. */
static bool early_deliver(struct dmm_stack_conn *sc)
{
	struct pbuf *p = sc->early;

	sc->early = NULL;
	if (p && sc->pcb->recv(sc, sc->pcb, p, ERR_OK) == ERR_ABRT)
		return false;
	if (sc->early_fin)
		sc->pcb->recv(sc, sc->pcb, NULL, ERR_OK);
	return true;
}

int listen_attach(struct dmm_stack *stack, uint64_t token,
		  struct dmm_conn *listener, struct dmm_conn *host,
		  struct dmm_stack_conn **scp)
{
	struct dmm_stack_conn *sc;

	LIST_FOREACH(sc, &stack->tokens[token % TOKEN_HASH], by_token)
		if (sc->token == token)
			break;
	if (!sc || !sc->pcb)
		return token > stack->first_token &&
		       token <= stack->last_token ? -ECONNRESET : -EINVAL;
	if (sc->listener->host != listener)
		return -EINVAL;
	child_unlink(sc);
	*scp = sc;
	conn_begin(sc, host);
	lwip_enter(sc);
	if (early_deliver(sc) && sc->pcb->refused_data)
		tcp_process_refused_data(sc->pcb);
	lwip_leave();
	conn_set_dirty(sc);
	conn_run_dirty();
	return 0;
}
