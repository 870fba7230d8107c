// SPDX-License-Identifier: Apache-2.0
/*
 * Connections between a client's slot and the plug-in: ops go one way, what the
 * plug-in reports the other.
 *
 * Reports are not messages yet. They set a bit and put the connection on its
 * channel's list; conn_events_run() makes messages of them at the end of a turn,
 * so that many reports make one message, an event index is looked at once, and a
 * full event ring loses nothing.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_mbuf.h>

#include <dmm/client.h>

#include "private.h"

#define SWEEP_LOOKS	1024	/* at an orphan's slots in a turn */
#define SWEEP_ENDS	16	/* of its connections */

static void conn_pend(struct dmm_conn *conn, uint32_t what)
{
	if (!conn->pend)
		STAILQ_INSERT_TAIL(&conn->ch->pend, conn, next_pend);
	conn->pend |= what;
}

/* The plug-in has said its last word. */
static void conn_end(struct dmm_conn *conn, uint32_t event, uint32_t error)
{
	conn->sc = NULL;
	conn->sl = NULL;
	conn->final = event;
	conn->error = error;
	conn_pend(conn, PEND_FINAL);
}

static void host_connected(struct dmm_conn *conn)
{
	conn_pend(conn, PEND_CONNECTED);
}

static int host_rx_put(struct dmm_conn *conn, const void *data, uint32_t len)
{
	conn_pend(conn, PEND_RX);
	return dmm_ring_write(conn->rx, data, len);
}

static int host_rx_freed(struct dmm_conn *conn)
{
	return dmm_ring_moved(conn->rx);
}

static bool host_rx_arm(struct dmm_conn *conn, uint32_t bytes)
{
	return dmm_ring_arm(conn->rx, bytes);
}

/* Of what a turn may do for a client, the part that this one gets. */
static uint32_t turn_share(const struct channel *ch, uint32_t most)
{
	if (!ch->w->contended)
		return most;
	return most / (ch->owner ? CONTENDED : MODULE_CONTENDED);
}

static uint32_t bytes_share(const struct channel *ch)
{
	return ch->w->contended ? BYTES_CONTENDED : BYTES_TURN;
}

/* What a client may send in a turn: the rest of it starves until the next. */
static int host_tx_peek(struct dmm_conn *conn, uint32_t off, const void **span)
{
	struct channel *ch = conn->ch;

	if (ch->bytes < bytes_share(ch))
		return dmm_ring_peek(conn->tx, off, span);
	if (!conn->starved)
		TAILQ_INSERT_TAIL(&ch->starved, conn, next_starved);
	conn->starved = true;
	return 0;
}

static void host_tx_acked(struct dmm_conn *conn, uint32_t len)
{
	dmm_ring_consume(conn->tx, len);
	conn_pend(conn, PEND_ROOM);
}

static bool host_tx_arm(struct dmm_conn *conn)
{
	return dmm_ring_arm(conn->tx, 0);
}

static int host_tx_used(struct dmm_conn *conn, bool *more)
{
	struct dmm_chan *chan = conn->ch->chan;
	uint32_t slot = conn - conn->ch->conns;
	int used = dmm_chan_tx_used(chan, slot, more);

	if (used > 0 && dmm_chan_opt_seq(chan, slot) != conn->opt_seq)
		return -EAGAIN;
	return used;
}

static void host_tx_sent(struct dmm_conn *conn, uint32_t len)
{
	struct channel *ch = conn->ch;
	uint32_t sent;

	sent = dmm_chan_tx_sent(ch->chan, conn - ch->conns, len);
	if ((int32_t)(sent - conn->sent) > 0)
		ch->bytes += sent - conn->sent;
	conn->sent = sent;
}

static void host_fin(struct dmm_conn *conn)
{
	conn_pend(conn, PEND_FIN);
}

static void host_fin_acked(struct dmm_conn *conn)
{
	conn_pend(conn, PEND_FIN_ACKED);
}

static void host_failed(struct dmm_conn *conn, int error)
{
	stat_add(&conn->ch->w->stats.conns_failed, 1);
	conn_end(conn, DMM_EV_ERROR, error);
}

static void host_timewait(struct dmm_conn *conn)
{
	conn_end(conn, DMM_EV_TIMEWAIT, 0);
}

static void host_gone(struct dmm_conn *conn)
{
	conn_end(conn, DMM_EV_GONE, 0);
}

static void host_info(struct dmm_conn *conn, const struct dmm_stack_info *info)
{
	struct dmm_slot_info si = {
		.srtt_us = info->srtt_us,
		.snd_cwnd = info->cwnd,
		.snd_mss = info->mss,
		.retrans = info->retrans,
	};

	dmm_chan_slot_info(conn->ch->chan, conn - conn->ch->conns, &si);
}

/*
 * A message at once: the plug-in keeps those that do not fit, and there is nothing to
 * tell of a listener that this must not overtake.
 */
static bool host_incoming(struct dmm_conn *listener,
			  const struct dmm_ev_incoming *incoming)
{
	struct channel *ch = listener->ch;
	struct dmm_event event = {
		.ev = DMM_EV_INCOMING,
		.slot = listener - ch->conns,
		.gen = listener->gen,
		.incoming = *incoming,
	};
	int ret;

	ret = dmm_chan_event_put(ch->chan, &event);
	if (ret == -EPROTO)
		ch->broken = true;
	if (ret)
		return false;
	stat_add(&ch->w->stats.events, 1);
	return true;
}

/* To the plug-in, the worker is an opaque struct dmm_host. */
static struct dmm_worker *worker_of(struct dmm_host *host)
{
	return (struct dmm_worker *)host;
}

static void host_output(struct dmm_host *host, struct rte_mbuf *m,
			uint8_t family, const void *daddr)
{
	neigh_output(worker_of(host), m, family, daddr);
}

static int host_flow_add(struct dmm_host *host, const struct dmm_tuple *tuple)
{
	if (!tuple->rport)
		return listen_flow_add(worker_of(host), tuple);
	return xdp_flow_add(worker_of(host), tuple);
}

static void host_flow_del(struct dmm_host *host, const struct dmm_tuple *tuple)
{
	if (!tuple->rport)
		listen_flow_del(worker_of(host), tuple);
	else
		xdp_flow_del(worker_of(host), tuple);
}

static uint32_t host_now_ms(struct dmm_host *host)
{
	return worker_of(host)->now_ms;
}

static uint64_t host_now_us(struct dmm_host *host)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static struct rte_mempool *host_pool(struct dmm_host *host)
{
	return worker_of(host)->port.pool;
}

static uint16_t host_mtu(struct dmm_host *host)
{
	return worker_of(host)->port.mtu;
}

const struct dmm_host_ops worker_host_ops = {
	.abi = DMM_STACK_ABI,
	.size = sizeof(struct dmm_host_ops),
	.connected = host_connected,
	.rx_put = host_rx_put,
	.rx_freed = host_rx_freed,
	.rx_arm = host_rx_arm,
	.tx_peek = host_tx_peek,
	.tx_acked = host_tx_acked,
	.tx_arm = host_tx_arm,
	.tx_used = host_tx_used,
	.tx_sent = host_tx_sent,
	.fin = host_fin,
	.fin_acked = host_fin_acked,
	.failed = host_failed,
	.timewait = host_timewait,
	.gone = host_gone,
	.info = host_info,
	.incoming = host_incoming,
	.output = host_output,
	.flow_add = host_flow_add,
	.flow_del = host_flow_del,
	.now_ms = host_now_ms,
	.now_us = host_now_us,
	.pool = host_pool,
	.mtu = host_mtu,
	.log = worker_log,
};

/* ------------------------------------------------------------------------- */

/* An address of that family, four words of which IPv4 uses the first. */
static bool addr_ok(uint16_t family, const __be32 addr[4], bool any)
{
	if (family == AF_INET)
		return !(addr[1] | addr[2] | addr[3]) && (any || addr[0]);
	return family == AF_INET6 &&
	       (any || addr[0] | addr[1] | addr[2] | addr[3]);
}

static bool connect_ok(const struct dmm_worker *w, const struct dmm_op *op)
{
	const struct dmm_op_connect *c = &op->connect;

	return !op->flags && c->sport && c->dport &&
	       addr_ok(c->family, c->saddr, false) &&
	       addr_ok(c->family, c->daddr, false) &&
	       c->ifindex == (uint32_t)w->ifindex;
}

static bool listen_ok(const struct dmm_worker *w, const struct dmm_op *op)
{
	const struct dmm_op_listen *l = &op->listen;

	return !op->flags && l->port && addr_ok(l->family, l->addr, true) &&
	       !(l->flags & ~DMM_LISTEN_V6ONLY) &&
	       !(l->__reserved[0] | l->__reserved[1] | l->__reserved[2]) &&
	       l->ifindex == (uint32_t)w->ifindex;
}

/* Begin a slot's life. */
static struct dmm_conn *conn_open(struct channel *ch, const struct dmm_op *op)
{
	struct dmm_conn *conn = &ch->conns[op->slot];

	dmm_chan_slot_open(ch->chan, op->slot);
	*conn = (struct dmm_conn) {
		.ch = ch,
		.gen = op->gen,
		.live = true,
		.guard_fd = -1,
		.tx = dmm_chan_tx(ch->chan, op->slot),
		.rx = dmm_chan_rx(ch->chan, op->slot),
	};
	ch->nlive++;
	if (ch->owner)
		owner_count_slots(ch->owner, 1);
	return conn;
}

/* Has the client's owner all the slots that it may have? */
static bool slots_full(struct channel *ch)
{
	if (!ch->owner ||
	    !owner_has_share(ch->owner, ch->owner->nslots, SLOTS_MAX))
		return false;
	stat_add(&ch->w->stats.ops_refused, 1);
	return true;
}

static bool listeners_full(struct channel *ch)
{
	if (!ch->owner ||
	    !owner_has_share(ch->owner, ch->owner->nlisteners, LISTENERS_MAX))
		return slots_full(ch);
	stat_add(&ch->w->stats.ops_refused, 1);
	return true;
}

/* How many children may wait: no more than can be attached, and within its share. */
static void backlog_fit(struct dmm_conn *conn, struct dmm_op_listen *l)
{
	struct owner *o = conn->ch->owner;

	l->backlog = RTE_MIN(l->backlog, dmm_chan_nslots(conn->ch->chan));
	if (!o)
		return;
	o->nbacklog -= conn->backlog;
	l->backlog = owner_backlog(o, l->backlog);
	conn->backlog = l->backlog + 1;		/* as listen_syn() has it */
	o->nbacklog += conn->backlog;
}

static void conn_count(struct dmm_conn *conn)
{
	stat_add(&conn->ch->w->stats.conns, 1);
	stat_add(&conn->ch->w->stats.conns_total, 1);
}

static bool op_connect(struct channel *ch, const struct dmm_op *op)
{
	struct dmm_worker *w = ch->w;
	struct dmm_conn *conn;
	int ret = -ENOBUFS;
	bool full;

	if (ch->conns[op->slot].live || !op->gen || !connect_ok(w, op))
		return false;
	full = slots_full(ch);
	conn = conn_open(ch, op);
	conn_count(conn);
	if (!full)
		ret = w->ops->connect(w->stack, conn, &op->connect, &conn->sc);
	if (ret)
		host_failed(conn, -ret);
	return true;
}

static bool op_listen(struct channel *ch, const struct dmm_op *op)
{
	struct dmm_conn *conn = &ch->conns[op->slot];
	struct dmm_op_listen l = op->listen;
	struct dmm_worker *w = ch->w;
	int ret = -ENOBUFS;
	bool full;

	if (!op->gen || !listen_ok(w, op) || !w->ops->listen)
		return false;
	if (conn->live) {
		if (conn->gen != op->gen || !conn->listener)
			return false;
		if (conn->sl) {	/* else it has ended, and the client is being told */
			backlog_fit(conn, &l);
			w->ops->relisten(conn->sl, &l);
		}
		return true;
	}
	/* It crossed our last word. */
	if (conn->gen == op->gen) {
		stat_add(&w->stats.stale_ops, 1);
		return true;
	}
	full = listeners_full(ch);
	conn = conn_open(ch, op);
	conn->listener = true;
	if (ch->owner)
		ch->owner->nlisteners++;
	if (!full) {
		backlog_fit(conn, &l);
		ret = w->ops->listen(w->stack, conn, &l, &conn->sl);
	}
	stat_add(&w->stats.listeners, 1);	/* SYNs are steered to it by now */
	if (ret)
		conn_end(conn, DMM_EV_ERROR, -ret);
	else
		conn_pend(conn, PEND_CONNECTED);
	return true;
}

static bool op_attach(struct channel *ch, const struct dmm_op *op)
{
	const struct dmm_op_attach *a = &op->attach;
	struct dmm_worker *w = ch->w;
	struct dmm_conn *conn;
	int ret = -ENOBUFS;
	unsigned int i;
	bool full;

	if (ch->conns[op->slot].live || !op->gen || op->flags ||
	    a->listener >= dmm_chan_nslots(ch->chan) || !w->ops->attach)
		return false;
	for (i = 0; i < sizeof(a->__reserved) / sizeof(a->__reserved[0]); i++)
		if (a->__reserved[i])
			return false;
	full = slots_full(ch);
	conn = conn_open(ch, op);
	conn_count(conn);
	if (!full)
		ret = w->ops->attach(w->stack, a->token,
				     &ch->conns[a->listener], conn, &conn->sc);
	if (ret == -EINVAL) {
		stat_add(&w->stats.bad_tokens, 1);
		host_gone(conn);
	} else if (ret) {
		host_failed(conn, -ret);
	}
	return true;
}

/* What a listener can be told, apart from DMM_OP_LISTEN. */
static bool op_run_listener(struct dmm_conn *conn, const struct dmm_op *op)
{
	if (op->op != DMM_OP_ABORT)
		return false;
	conn->ch->w->ops->unlisten(conn->sl);
	host_gone(conn);
	return true;
}

static bool op_run(struct channel *ch, const struct dmm_op *op)
{
	const struct dmm_stack_ops *ops = ch->w->ops;
	struct dmm_conn *conn;

	if (op->slot >= dmm_chan_nslots(ch->chan))
		return false;
	if (op->op == DMM_OP_CONNECT)
		return op_connect(ch, op);
	if (op->op == DMM_OP_LISTEN)
		return op_listen(ch, op);
	if (op->op == DMM_OP_ATTACH)
		return op_attach(ch, op);
	conn = &ch->conns[op->slot];
	if (!conn->live || conn->gen != op->gen) {
		stat_add(&ch->w->stats.stale_ops, 1);
		return true;
	}
	if (conn->sl)
		return op_run_listener(conn, op);
	if (!conn->sc)		/* has ended, and the client is being told */
		return true;
	switch (op->op) {
	case DMM_OP_OPTIONS:
		conn->opt_seq = op->options.seq;
		ops->options(conn->sc, &op->options);
		return true;
	case DMM_OP_TX:
		ops->tx_ready(conn->sc);
		return true;
	case DMM_OP_ROOM:
		ops->rx_room(conn->sc);
		return true;
	case DMM_OP_SHUTDOWN:
		ops->shutdown(conn->sc);
		return true;
	case DMM_OP_CLOSE:
		ops->close(conn->sc);
		return true;
	case DMM_OP_ABORT:
		ops->abort(conn->sc);
		host_gone(conn);
		return true;
	default:
		return false;
	}
}

#define TRIM_MS		1000	/* in which all slots are looked at once */

/**
 * conn_trim() - give the memory of empty receive rings back
 * @ch: a channel of the module's, which says of which it holds no page
 * @ms: since the last call
 *
 * A part of the slots each time, so that no turn is long.
 */
void conn_trim(struct channel *ch, uint32_t ms)
{
	uint32_t nslots = dmm_chan_nslots(ch->chan);
	uint32_t looks = (uint64_t)nslots * RTE_MIN(ms, TRIM_MS) / TRIM_MS + 1;

	if (!ch->nlive)
		return;
	while (looks--) {
		ch->trim = (ch->trim + 1) & (nslots - 1);
		if (ch->conns[ch->trim].live && ch->conns[ch->trim].sc)
			dmm_chan_trim(ch->chan, ch->trim);
	}
}

static uint32_t op_cost(const struct dmm_op *op)
{
	switch (op->op) {
	case DMM_OP_CONNECT:
	case DMM_OP_LISTEN:
	case DMM_OP_ATTACH:
	case DMM_OP_CLOSE:
	case DMM_OP_ABORT:
		return OP_HEAVY;
	default:
		return 1;
	}
}

/* Those whose bytes had to wait for this turn, and may have to again. */
bool conn_starved_run(struct channel *ch)
{
	struct dmm_conn *conn;
	bool any = false;

	ch->bytes = 0;
	while (ch->bytes < bytes_share(ch) &&
	       (conn = TAILQ_FIRST(&ch->starved))) {
		TAILQ_REMOVE(&ch->starved, conn, next_starved);
		conn->starved = false;
		if (conn->sc)
			ch->w->ops->tx_ready(conn->sc);
		any = true;
	}
	return any;
}

/*
 * Take the ops that the turn has room for, of this client and of its owner; true if
 * there were any. What is left keeps the worker awake (all_sleep()).
 */
bool conn_ops_run(struct channel *ch)
{
	uint32_t left = turn_share(ch, CLIENT_TURN);
	struct dmm_worker_stats *stats = &ch->w->stats;
	bool any = conn_starved_run(ch);
	struct dmm_op op;
	uint32_t cost, n = 0;
	int ret;

	for (;;) {
		/* the most that the next one can cost */
		if (left < OP_HEAVY ||
		    (ch->owner && !owner_may_spend(ch->owner, OP_HEAVY))) {
			if (dmm_chan_ops_waiting(ch->chan))
				stat_add(&stats->ops_put_off, 1);
			break;
		}
		ret = dmm_chan_op_get(ch->chan, &op);
		if (!ret)
			break;
		if (ret < 0) {
			stat_add(&stats->bad_ops, 1);
			ch->broken = true;
			break;
		}
		n++;
		cost = op_cost(&op);
		left -= cost;
		if (ch->owner)
			owner_spend(ch->owner, cost);
		stat_add(&stats->ops, 1);
		if (!op_run(ch, &op))
			stat_add(&stats->bad_ops, 1);
	}
	ch->taken += n;
	if (n)
		dmm_chan_op_done(ch->chan);
	if (ch->owner && ch->w->contended && n > stats->turn_ops_max)
		stat_add(&stats->turn_ops_max, n - stats->turn_ops_max);
	return n || any;
}

/* ------------------------------------------------------------------------- */

static int event_put(struct dmm_conn *conn, uint32_t ev, uint32_t error)
{
	struct dmm_event event = {
		.ev = ev,
		.slot = conn - conn->ch->conns,
		.gen = conn->gen,
		.error = error,
	};
	int ret;

	ret = dmm_chan_event_put(conn->ch->chan, &event);
	if (!ret)
		stat_add(&conn->ch->w->stats.events, 1);
	return ret;
}

/* The client may have the file open still, so to close it alone is not enough. */
static void conn_unguard(struct dmm_conn *conn)
{
	struct owner *o = conn->ch->owner;

	if (conn->guard_fd < 0)
		return;
	worker_epoll_del(o->epoll_fd, conn->guard_fd);
	owner_close(o, conn->guard_fd);
	owner_count_fds(o, -1);
	conn->guard_fd = -1;
}

/* The slot's life is over; the client may begin another. */
static void conn_close(struct dmm_conn *conn)
{
	struct channel *ch = conn->ch;
	struct dmm_worker_stats *stats = &ch->w->stats;

	conn->live = false;
	ch->nlive--;
	conn_unguard(conn);
	if (conn->hung)
		TAILQ_REMOVE(&ch->hung, conn, next_hung);
	if (conn->starved)
		TAILQ_REMOVE(&ch->starved, conn, next_starved);
	conn->hung = false;
	conn->starved = false;
	if (ch->owner) {
		owner_count_slots(ch->owner, -1);
		ch->owner->nlisteners -= conn->listener;
		ch->owner->nbacklog -= conn->backlog;
	}
	stat_add(conn->listener ? &stats->listeners : &stats->conns, -1);
}

/*
 * Tell what is pending, in order. What an event index says nobody waits for is
 * dropped; what does not fit in the ring stays pending.
 */
static int conn_tell(struct dmm_conn *conn)
{
	static const struct {
		uint32_t pend;
		uint32_t ev;
	} order[] = {
		{ PEND_CONNECTED, DMM_EV_CONNECTED },
		{ PEND_RX, DMM_EV_RX },
		{ PEND_ROOM, DMM_EV_ROOM },
		{ PEND_FIN_ACKED, DMM_EV_FIN_ACKED },
		{ PEND_FIN, DMM_EV_FIN },
	};
	size_t i;
	int ret;

	if (conn->pend & PEND_RX && !conn->rx_due)
		conn->rx_due = dmm_ring_due(conn->rx);
	if (conn->pend & PEND_ROOM && !conn->room_due)
		conn->room_due = dmm_ring_due(conn->tx);
	for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		if (!(conn->pend & order[i].pend))
			continue;
		if ((order[i].pend == PEND_RX && !conn->rx_due) ||
		    (order[i].pend == PEND_ROOM && !conn->room_due)) {
			conn->pend &= ~order[i].pend;
			continue;
		}
		ret = event_put(conn, order[i].ev, 0);
		if (ret)
			return ret;
		conn->pend &= ~order[i].pend;
		if (order[i].pend == PEND_RX)
			conn->rx_due = false;
		else if (order[i].pend == PEND_ROOM)
			conn->room_due = false;
	}
	if (conn->pend & PEND_FINAL) {
		ret = event_put(conn, conn->final, conn->error);
		if (ret)
			return ret;
		conn->pend = 0;
		conn_close(conn);
	}
	return 0;
}

/* Nobody is there to be told. */
static bool conn_events_drop(struct channel *ch)
{
	bool any = !STAILQ_EMPTY(&ch->pend);
	struct dmm_conn *conn;

	while ((conn = STAILQ_FIRST(&ch->pend))) {
		STAILQ_REMOVE_HEAD(&ch->pend, next_pend);
		if (conn->pend & PEND_FINAL)
			conn_close(conn);
		conn->pend = 0;
	}
	return any;
}

/*
 * Make messages of what is pending, as far as they fit, and wake the client; true
 * if there were any. A kick also lets the module put ops in that did not fit.
 */
bool conn_events_run(struct channel *ch)
{
	struct dmm_conn *conn;
	unsigned int n = 0;
	bool any = false;
	int ret = 0;

	if (ch->orphan)
		return conn_events_drop(ch);
	while ((conn = STAILQ_FIRST(&ch->pend)) && n++ < EVENTS_TURN) {
		ret = conn_tell(conn);
		if (ret)
			break;
		any = true;
		STAILQ_REMOVE_HEAD(&ch->pend, next_pend);
	}
	if (ret == -EPROTO)
		ch->broken = true;
	if (dmm_chan_event_flush(ch->chan) || channel_backlog(ch)) {
		any = true;
		if (channel_notify(ch))
			ch->broken = true;
	}
	return any;
}

void conn_abort_all(struct channel *ch)
{
	uint32_t i, n = dmm_chan_nslots(ch->chan);

	for (i = 0; i < n; i++) {
		struct dmm_conn *conn = &ch->conns[i];

		if (!conn->live)
			continue;
		if (conn->sl)
			ch->w->ops->unlisten(conn->sl);
		if (conn->sc)
			ch->w->ops->abort(conn->sc);
		conn->sl = NULL;
		conn->sc = NULL;
		conn_close(conn);
	}
	STAILQ_INIT(&ch->pend);
}

/*
 * Whoever had it is gone without a word: as TCP's close(). Its index says whether
 * there are bytes that it never read; a wild one is a reason to abort as well.
 */
static void conn_forsaken(struct dmm_conn *conn)
{
	const struct dmm_stack_ops *ops = conn->ch->w->ops;

	if (conn->sl) {
		ops->unlisten(conn->sl);
		host_gone(conn);
	} else if (conn->sc && dmm_ring_used(conn->rx)) {
		ops->abort(conn->sc);
		host_gone(conn);
	} else if (conn->sc) {
		ops->close(conn->sc);
	}
}

static void conn_abort(struct dmm_conn *conn)
{
	const struct dmm_stack_ops *ops = conn->ch->w->ops;

	if (conn->sl)
		ops->unlisten(conn->sl);
	else if (conn->sc)
		ops->abort(conn->sc);
	if (conn->sl || conn->sc)
		host_gone(conn);
}

/*
 * End what an orphan has left, a few at a time: there may be thousands. True if there
 * is more to do.
 */
bool conn_sweep(struct channel *ch)
{
	uint32_t n = dmm_chan_nslots(ch->chan), looks = 0, ends = 0;
	struct dmm_conn *conn;

	for (; ch->sweep < n && looks < SWEEP_LOOKS && ends < SWEEP_ENDS;
	     ch->sweep++, looks++) {
		conn = &ch->conns[ch->sweep];
		if (!conn->live)
			continue;
		ends++;
		if (ch->abort)
			conn_abort(conn);
		else
			conn_forsaken(conn);
	}
	return ch->sweep < n;
}

/* Of the kind that the shim makes: to ask a file what it is may take for ever. */
static bool guard_ok(int fd)
{
	int domain = 0, type = 0;
	socklen_t len = sizeof(int);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) &&
	       domain == AF_UNIX && type == SOCK_STREAM;
}

/* Takes @fd over. */
void conn_guard(struct channel *ch, const struct dmm_client_guard *guard, int fd)
{
	struct owner *o = ch->owner;
	struct dmm_conn *conn = NULL;
	bool full = owner_fds_full(o);

	if (full)
		stat_add(&ch->w->stats.guards_refused, 1);
	if (guard->slot < dmm_chan_nslots(ch->chan))
		conn = &ch->conns[guard->slot];
	if (full || !conn || !conn->live || conn->gen != guard->gen || !conn->sc ||
	    conn->guard_fd >= 0 || conn->hung || !guard_ok(fd) ||
	    worker_epoll_add(o->epoll_fd, fd, 0 /* EPOLLHUP */,
			     (uint64_t)ch->id << 32 | guard->slot)) {
		owner_close(o, fd);
		return;
	}
	conn->guard_fd = fd;
	owner_count_fds(o, 1);
}

/* It hung up. What the last one said before it closed is done before it is. */
void conn_guard_event(struct dmm_conn *conn)
{
	struct channel *ch = conn->ch;

	if (conn->guard_fd < 0)
		return;
	conn_unguard(conn);
	conn->hung = true;
	conn->hung_at = ch->taken + dmm_chan_ops_waiting(ch->chan);
	TAILQ_INSERT_TAIL(&ch->hung, conn, next_hung);
}

void conn_hung_run(struct channel *ch)
{
	struct dmm_conn *conn;

	while ((conn = TAILQ_FIRST(&ch->hung)) &&
	       (int32_t)(ch->taken - conn->hung_at) >= 0) {
		TAILQ_REMOVE(&ch->hung, conn, next_hung);
		conn->hung = false;
		conn_forsaken(conn);
	}
}

void conn_unreachable(struct dmm_worker *w, uint8_t family, const void *daddr)
{
	w->ops->unreachable(w->stack, family, daddr);
}
