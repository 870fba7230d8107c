// SPDX-License-Identifier: Apache-2.0
/*
 * Connections: between the rings of a slot and a PCB of lwIP.
 *
 * Data to send is never copied before it becomes a packet: lwIP's segments point
 * into the transmit ring, whose space goes back when the peer has acknowledged.
 * Data received is copied once, into the receive ring; the window is that ring's
 * free space.
 *
 * lwIP frees a PCB in many places, most of them within its own input or timers.
 * It tells us by the ext-arg's destroy callback, which does nothing but forget
 * the PCB and put the connection on the dirty list; conn_run_dirty() then reports
 * the end, outside lwIP. The same walk notices TIME_WAIT, which lwIP enters
 * without a word.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "lwip/sys.h"

#include "lwip_stack.h"

#define POLL_TICKS	(1000 / TICK_MS)
/* Given to lwIP beyond what the window lets out, so that it never runs dry. */
#define AHEAD_SEGS	4
/* The longest that what does not fill a segment is kept back for more to come. */
#define CORK_MS		200
/* The smallest window that we keep to: lwIP tells of four segments, or not at all. */
#define RCV_LIMIT_MIN	(8 * TCP_MSS)
/* How long a closed connection waits for the peer's FIN, as Linux. */
#define FIN_TIMEOUT_MS	60000
/* A path that claims to take less than Linux believes is not believed. */
#define PATH_MTU4_MIN	552
#define PATH_MTU6_MIN	1280

/* Peers choose tuples, too, so the hash has to be a good one. */
static unsigned int tuple_hash(const struct dmm_tuple *t)
{
	return siphash(the_stack.key, t, offsetof(struct dmm_tuple, family)) >>
	       (64 - CONN_HASH_BITS);
}

struct dmm_stack_conn *conn_find(const struct dmm_tuple *t)
{
	struct dmm_stack_conn *sc;

	LIST_FOREACH(sc, &the_stack.conns[tuple_hash(t)], hash) {
		if (sc->tuple.family == t->family &&
		    !memcmp(&sc->tuple, t, offsetof(struct dmm_tuple, family)))
			return sc;
	}
	return NULL;
}

void conn_set_dirty(struct dmm_stack_conn *sc)
{
	if (!sc->dirty) {
		sc->dirty = true;
		STAILQ_INSERT_TAIL(&the_stack.dirty, sc, next_dirty);
	}
}

/* ------------------------------------------------------------------------- */

/* End it, with a RST or without. */
void conn_abandon(struct dmm_stack_conn *sc, bool reset)
{
	lwip_enter(sc);
	tcp_abandon(sc->pcb, reset);
	lwip_leave();
}

/* The client broke a ring's rules. In a callback of lwIP: return ERR_ABRT. */
static void conn_break(struct dmm_stack_conn *sc)
{
	sc->error = ECONNRESET;
	conn_abandon(sc, true);
}

/* A time that is never 0, which means none, and never in the future. */
static u32_t stamp(u32_t now)
{
	return now ? now : UINT32_MAX;
}

/* How often poll_cb() is wanted. */
static void conn_poll_often(struct dmm_stack_conn *sc)
{
	bool often = !sc->connected || sc->user_timeout || sc->held_ms;

	tcp_poll(sc->pcb, sc->pcb->poll, often ? 1 : POLL_TICKS);
}

/*
 * Of @n bytes that lwIP has not, how many to keep back: those that do not fill a
 * segment, for as long as the client says that more follows (but no more than 200
 * ms, as Linux), or as Nagle's algorithm says. lwIP's own is off: it waits for all
 * that is under way. As Linux, and Minshall, we wait for a small segment only.
 */
static u32_t conn_keep_back(struct dmm_stack_conn *sc, u32_t n, bool more)
{
	struct tcp_pcb *pcb = sc->pcb;
	bool small = TCP_SEQ_GT(sc->small_end, pcb->lastack) &&
		     TCP_SEQ_LEQ(sc->small_end, pcb->snd_nxt);
	u32_t now = sys_now(), held_ms = 0, tail = n % pcb->mss;

	/* what lwIP could not send takes the tail along */
	if (sc->fin_wanted || pcb->unsent)
		tail = 0;
	if (tail && (sc->corked || more)) {
		held_ms = sc->held_ms ? sc->held_ms : stamp(now);
		if (now - held_ms >= CORK_MS)
			held_ms = tail = 0;
	} else if (!small || sc->nodelay) {
		tail = 0;
	}
	if (!held_ms != !sc->held_ms) {
		sc->held_ms = held_ms;
		conn_poll_often(sc);
	}
	return tail;
}

/* Up to @n bytes into lwIP, as far as it takes them; false if the client cheats. */
static bool conn_write(struct dmm_stack_conn *sc, u32_t n)
{
	const struct dmm_host_ops *ops = the_stack.ops;
	struct tcp_pcb *pcb = sc->pcb;
	u32_t limit, step;
	const void *span;
	int ret;

	limit = LWIP_MIN(pcb->cwnd, pcb->snd_wnd) + AHEAD_SEGS * pcb->mss;
	limit = LWIP_MIN(limit, TCP_SND_BUF);
	for (; n; n -= step) {
		ret = ops->tx_peek(sc->host, sc->queued, &span);
		if (ret < 0)
			return false;
		/* a whole segment or nothing, unless nothing is under way */
		if (sc->queued && sc->queued + pcb->mss > limit)
			break;
		step = LWIP_MIN((u32_t)ret, n);
		step = LWIP_MIN(step, limit - sc->queued);
		step = LWIP_MIN(step, pcb->snd_buf);
		step = LWIP_MIN(step, 0xffffu - 0xffffu % pcb->mss);
		if (!step || tcp_write(pcb, span, step, step < n ?
				       TCP_WRITE_FLAG_MORE : 0) != ERR_OK)
			break;
		sc->queued += step;
	}
	return true;
}

/*
 * Give lwIP what is in the transmit ring, as far as the window lets it out and a
 * little more; acknowledgements bring us back for the rest. Only when all of it is
 * given or kept back do we ask to be told of more.
 */
static void conn_pump(struct dmm_stack_conn *sc)
{
	const struct dmm_host_ops *ops = the_stack.ops;
	struct tcp_pcb *pcb = sc->pcb;
	u32_t want, kept;
	bool more;
	int used;

	if (!pcb || !sc->host || !sc->connected || sc->fin_sent)
		return;
	do {
		used = ops->tx_used(sc->host, &more);
		if (used == -EAGAIN)
			break;
		if (used < 0)
			goto broken;
		want = used - sc->queued;
		kept = conn_keep_back(sc, want, more);
		if (want > kept && !conn_write(sc, want - kept))
			goto broken;
		if (used - sc->queued > kept)
			break;
		if (!kept && sc->fin_wanted) {
			pcb->tmr = tcp_ticks;
			sc->fin_sent = true;
			tcp_shutdown(pcb, 0, 1);
			return;
		}
	} while (ops->tx_arm(sc->host));
	tcp_output(pcb);
	ops->tx_sent(sc->host, LWIP_MIN(pcb->snd_nxt - pcb->lastack, sc->queued));
	return;

broken:
	conn_break(sc);
}

/* How much of the greatest window the client does not want (SO_RCVBUF). */
static u32_t window_unwanted(const struct dmm_stack_conn *sc)
{
	u32_t max = TCP_WND_MAX(sc->pcb);

	return sc->rcv_limit && sc->rcv_limit < max ? max - sc->rcv_limit : 0;
}

/*
 * The client took some: open the window, but for what it does not want. A window is
 * never drawn back. Returns -EPROTO if the client cheats.
 */
static int conn_open_window(struct dmm_stack_conn *sc)
{
	const struct dmm_host_ops *ops = the_stack.ops;
	struct tcp_pcb *pcb = sc->pcb;
	u32_t freed, unwanted, step;
	int ret;

	for (;;) {
		ret = ops->rx_freed(sc->host);
		if (ret < 0 || (u32_t)ret > sc->unread)
			return -EPROTO;
		sc->unread -= ret;
		unwanted = window_unwanted(sc);
		freed = ret + sc->withheld;
		sc->withheld = LWIP_MIN(freed, unwanted);
		for (freed -= sc->withheld; freed; freed -= step) {
			step = LWIP_MIN(freed, 0xffffu);
			tcp_recved(pcb, step);
		}
		if (sc->unread < (TCP_WND_MAX(pcb) - unwanted) / 2) {
			sc->room_armed = false;
			return 0;
		}
		/* more than half is unread: hear when half of that is taken */
		if (sc->room_armed || !ops->rx_arm(sc->host, sc->unread / 2)) {
			sc->room_armed = true;
			return 0;
		}
	}
}

/* Once a tick, but what is new to people at once. */
static void conn_info(struct dmm_stack_conn *sc)
{
	struct tcp_pcb *pcb = sc->pcb;

	if (!sc->host || (sc->info_tick == tcp_ticks && sc->rtt_told &&
			  sc->info.mss == pcb->mss))
		return;
	sc->info_tick = tcp_ticks;
	sc->rtt_told = sc->info.srtt_us;
	sc->info.cwnd = pcb->cwnd;
	sc->info.mss = pcb->mss;
	the_stack.ops->info(sc->host, &sc->info);
}

/* ------------------------------------------------------------------------- */

static err_t connected_cb(void *arg, struct tcp_pcb *pcb, err_t err)
{
	struct dmm_stack_conn *sc = arg;

	sc->connected = true;
	/*
	 * lwIP goes on counting lost SYNs, and goes on timing the SYN until the
	 * first data is acknowledged: what was idle time would be round trip.
	 */
	pcb->nrtx = 0;
	pcb->rttest = 0;
	pcb->rto = SYN_RTO_MS / TICK_MS;
	/* beyond a SYN's 64 KiB nothing is promised yet */
	sc->withheld = window_unwanted(sc);
	pcb->rcv_wnd -= sc->withheld;
	pcb->rcv_ann_wnd = pcb->rcv_wnd;
	conn_poll_often(sc);
	if (sc->host)
		the_stack.ops->connected(sc->host);
	return ERR_OK;
}

static err_t recv_cb(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
	const struct dmm_host_ops *ops = the_stack.ops;
	struct dmm_stack_conn *sc = arg;
	struct pbuf *q;

	if (sc->listener)
		return listen_keep(sc, p);
	if (!p) {
		if (sc->host)
			ops->fin(sc->host);
		return ERR_OK;
	}
	if (!sc->host) {
		pbuf_free(p);
		return ERR_OK;
	}
	for (q = p; q; q = q->next) {
		if (ops->rx_put(sc->host, q->payload, q->len) != q->len)
			break;
		sc->unread += q->len;
	}
	pbuf_free(p);
	if (q || conn_open_window(sc)) {
		conn_break(sc);
		return ERR_ABRT;
	}
	if (sc->quickack)
		tcp_ack_now(pcb);
	return ERR_OK;
}

/*
 * lwIP leaves fast recovery with the first acknowledgement, and would find each
 * further loss of the same window by a timeout. As in RFC 6582: what a partial
 * acknowledgement does not cover was lost as well. Leaves after this segment.
 */
static void conn_recover(struct dmm_stack_conn *sc)
{
	struct tcp_pcb *pcb = sc->pcb;

	if (pcb->flags & TF_RTO || !pcb->unacked ||
	    TCP_SEQ_GEQ(pcb->lastack, sc->recover)) {
		sc->recovering = false;
		return;
	}
	if (tcp_rexmit(pcb) == ERR_OK)
		pcb->nrtx = 0;		/* there is progress */
}

/* The ring is refilled by conn_run_dirty(), once for the batch. */
static err_t sent_cb(void *arg, struct tcp_pcb *pcb, u16_t len)
{
	struct dmm_stack_conn *sc = arg;
	uint64_t us;

	sc->queued -= len;
	if (sc->host)
		the_stack.ops->tx_acked(sc->host, len);
	if (sc->recovering)
		conn_recover(sc);
	if (sc->rtt_us && TCP_SEQ_GEQ(pcb->lastack, sc->rtt_seq)) {
		us = the_stack.ops->now_us(the_stack.host) - sc->rtt_us;
		sc->rtt_us = 0;
		if (!sc->info.srtt_us)
			sc->info.srtt_us = us;
		else
			sc->info.srtt_us += ((int64_t)us -
					     (int64_t)sc->info.srtt_us) / 8;
	}
	return ERR_OK;
}

/*
 * A closed connection whose peer does not send its FIN. lwIP would give up after 20
 * seconds; the clock is ours.
 */
static bool fin_overdue(struct dmm_stack_conn *sc, u32_t now)
{
	u32_t limit = sc->fin_timeout ? sc->fin_timeout : FIN_TIMEOUT_MS;

	if (sc->pcb->state != FIN_WAIT_2 || !sc->closing)
		return false;
	if (!sc->fin_wait_ms)
		sc->fin_wait_ms = stamp(now);
	sc->pcb->tmr = tcp_ticks;
	return now - sc->fin_wait_ms >= limit;
}

/*
 * Every tick while opening, with a user timeout or while something is kept back,
 * else every second. Doubles the SYN's timeout (lwIP does not), keeps
 * TCP_USER_TIMEOUT, retries what lacked memory.
 */
static err_t poll_cb(void *arg, struct tcp_pcb *pcb)
{
	struct dmm_stack_conn *sc = arg;
	u32_t now = sys_now();

	if (pcb->state == SYN_SENT)
		pcb->rto = (SYN_RTO_MS / TICK_MS) << LWIP_MIN(pcb->nrtx, 6);
	if (!pcb->nrtx && !pcb->persist_probe)
		sc->stalled_ms = 0;
	else if (!sc->stalled_ms)
		sc->stalled_ms = stamp(now);
	/* the timeout goes for probes of an idle connection as well */
	if (sc->user_timeout &&
	    ((sc->stalled_ms && now - sc->stalled_ms > sc->user_timeout) ||
	     (pcb->keep_cnt_sent &&
	      (tcp_ticks - pcb->tmr) * TICK_MS > sc->user_timeout))) {
		sc->error = ETIMEDOUT;
		conn_abandon(sc, true);
		return ERR_ABRT;
	}
	if (fin_overdue(sc, now)) {
		conn_abandon(sc, false);
		return ERR_ABRT;
	}
	conn_set_dirty(sc);
	return ERR_OK;
}

/* The PCB is freed already, or about to be. */
static void err_cb(void *arg, err_t err)
{
	struct dmm_stack_conn *sc = arg;

	if (sc->error)
		return;
	if (err == ERR_RST)
		sc->error = sc->connected ? ECONNRESET : ECONNREFUSED;
	else if (err == ERR_ABRT)
		sc->error = ETIMEDOUT;
}

/* The PCB is no more, whatever ended it. */
void conn_destroyed(u8_t id, void *data)
{
	struct dmm_stack_conn *sc = data;

	if (!sc)
		return;
	sc->pcb = NULL;
	conn_set_dirty(sc);
}

static const struct tcp_ext_arg_callbacks ext_callbacks = {
	.destroy = conn_destroyed,
};

/* ------------------------------------------------------------------------- */

struct dmm_stack_conn *conn_new(const struct dmm_tuple *tuple)
{
	struct dmm_stack *stack = &the_stack;
	struct dmm_stack_conn *sc;

	sc = calloc(1, sizeof(*sc));
	if (!sc)
		return NULL;
	sc->tuple = *tuple;
	if (stack->ops->flow_add(stack->host, tuple)) {
		free(sc);
		return NULL;
	}
	LIST_INSERT_HEAD(&stack->conns[tuple_hash(tuple)], sc, hash);
	count(&stack->stats.conns, 1);
	count(&stack->stats.conns_total, 1);
	return sc;
}

void conn_free(struct dmm_stack_conn *sc)
{
	listen_forget(sc);
	the_stack.ops->flow_del(the_stack.host, &sc->tuple);
	LIST_REMOVE(sc, hash);
	count(&the_stack.stats.conns, -1);
	free(sc);
}

/* After lwIP ran: report what became of the connection, go on with it. */
static void conn_look_after(struct dmm_stack_conn *sc)
{
	const struct dmm_host_ops *ops = the_stack.ops;
	struct tcp_pcb *pcb = sc->pcb;
	struct dmm_conn *host = sc->host;

	if (!pcb) {
		sc->host = NULL;
		if (host && sc->error && !sc->closing)
			ops->failed(host, sc->error);
		else if (host)
			ops->gone(host);
		conn_free(sc);
		return;
	}
	if ((pcb->state == FIN_WAIT_2 || pcb->state == TIME_WAIT) &&
	    !sc->fin_acked) {
		sc->fin_acked = true;
		if (host)
			ops->fin_acked(host);
		/* lwIP counts from the last segment, we from now */
		if (pcb->state == FIN_WAIT_2)
			pcb->tmr = tcp_ticks;
	}
	if (pcb->state == TIME_WAIT) {
		sc->host = NULL;
		if (host)
			ops->timewait(host);
		return;
	}
	/* lwIP believes an MSS option wherever it sees one */
	if (sc->path_mss && pcb->mss > sc->path_mss)
		pcb->mss = sc->path_mss;
	conn_pump(sc);
	if (sc->pcb)
		conn_info(sc);
}

void conn_run_dirty(void)
{
	struct dmm_stack_conn *sc;

	while ((sc = STAILQ_FIRST(&the_stack.dirty))) {
		STAILQ_REMOVE_HEAD(&the_stack.dirty, next_dirty);
		sc->dirty = false;
		conn_look_after(sc);
	}
}

/* ------------------------------------------------------------------------- */

static int lwip_errno(err_t err)
{
	switch (err) {
	case ERR_MEM:
	case ERR_BUF:
		return -ENOBUFS;
	case ERR_RTE:
		return -ENETUNREACH;
	default:
		return -ECONNRESET;
	}
}

/* From now on lwIP calls us for @pcb. */
void conn_own_pcb(struct dmm_stack_conn *sc, struct tcp_pcb *pcb)
{
	pcb->rto = SYN_RTO_MS / TICK_MS;
	pcb->sv = SYN_RTO_MS / TICK_MS;
	tcp_arg(pcb, sc);
	tcp_recv(pcb, recv_cb);
	tcp_sent(pcb, sent_cb);
	tcp_err(pcb, err_cb);
	tcp_poll(pcb, poll_cb, 1);
	tcp_nagle_disable(pcb);
	tcp_ext_arg_set(pcb, the_stack.ext_id, sc);
	tcp_ext_arg_set_callbacks(pcb, the_stack.ext_id, &ext_callbacks);
	sc->pcb = pcb;
}

/* A child has a client now. */
void conn_begin(struct dmm_stack_conn *sc, struct dmm_conn *host)
{
	sc->host = host;
	tcp_poll(sc->pcb, poll_cb, POLL_TICKS);
}

static int conn_open(struct dmm_stack_conn *sc, const struct dmm_op_connect *op)
{
	struct tcp_pcb *pcb;
	ip_addr_t raddr;
	err_t err;

	pcb = tcp_new();
	if (!pcb)
		return -ENOBUFS;
	/* instead of tcp_bind(), which walks all PCBs for a clash */
	ip_set(&pcb->local_ip, op->family, op->saddr);
	ip_set(&pcb->remote_ip, op->family, op->daddr);
	pcb->local_port = ntohs(op->sport);
	pcb->tos = op->dscp;
	if (op->ttl)
		pcb->ttl = op->ttl;
	conn_own_pcb(sc, pcb);
	raddr = pcb->remote_ip;
	lwip_enter(NULL);
	err = tcp_connect(pcb, &raddr, ntohs(op->dport), connected_cb);
	lwip_leave();
	if (err == ERR_OK)
		return 0;
	tcp_ext_arg_set(pcb, the_stack.ext_id, NULL);
	tcp_err(pcb, NULL);
	pcb->local_port = 0;	/* not on the list of the bound */
	tcp_abandon(pcb, 0);
	return lwip_errno(err);
}

int conn_connect(struct dmm_stack *stack, struct dmm_conn *host,
		 const struct dmm_op_connect *op, struct dmm_stack_conn **scp)
{
	struct dmm_tuple tuple = {
		.lport = op->sport,
		.rport = op->dport,
		.family = op->family,
	};
	struct dmm_stack_conn *sc;
	int ret;

	memcpy(tuple.laddr, op->saddr, sizeof(tuple.laddr));
	memcpy(tuple.raddr, op->daddr, sizeof(tuple.raddr));
	sc = conn_find(&tuple);
	if (sc) {
		if (sc->pcb && sc->pcb->state != TIME_WAIT)
			return -ECONNRESET;
		if (sc->pcb)
			conn_abandon(sc, false);
		conn_run_dirty();
	}
	sc = conn_new(&tuple);
	if (!sc)
		return -ENOBUFS;
	sc->host = host;
	*scp = sc;
	ret = conn_open(sc, op);
	if (ret) {
		*scp = NULL;
		conn_free(sc);
	}
	return ret;
}

void conn_tx_ready(struct dmm_stack_conn *sc)
{
	conn_pump(sc);
	conn_run_dirty();
}

void conn_rx_room(struct dmm_stack_conn *sc)
{
	sc->room_armed = false;
	if (sc->pcb && !sc->closing && conn_open_window(sc))
		conn_break(sc);
	conn_run_dirty();
}

void conn_shutdown(struct dmm_stack_conn *sc)
{
	sc->fin_wanted = true;
	conn_pump(sc);
	conn_run_dirty();
}

/*
 * Nobody reads any more. A window that is shut would keep the data away that is to
 * draw a RST, so all of it is opened.
 */
static void conn_drain(struct dmm_stack_conn *sc)
{
	u32_t freed = sc->unread + sc->withheld, step;

	sc->unread = 0;
	sc->withheld = 0;
	for (; freed; freed -= step) {
		step = LWIP_MIN(freed, 0xffffu);
		tcp_recved(sc->pcb, step);
	}
}

void conn_close(struct dmm_stack_conn *sc)
{
	if (!sc->pcb)
		return;
	sc->closing = true;
	if (!sc->connected) {
		conn_abandon(sc, false);
	} else {
		tcp_shutdown(sc->pcb, 1, 0);
		sc->pcb->tmr = tcp_ticks;
		conn_drain(sc);
		sc->fin_wanted = true;
		conn_pump(sc);
	}
	conn_run_dirty();
}

void conn_abort(struct dmm_stack_conn *sc)
{
	sc->host = NULL;
	if (sc->pcb)
		conn_abandon(sc, sc->connected);
	conn_run_dirty();
}

void conn_options(struct dmm_stack_conn *sc, const struct dmm_op_options *opts)
{
	struct tcp_pcb *pcb = sc->pcb;

	if (!pcb)
		return;
	sc->nodelay = opts->set & DMM_OPT_NODELAY;
	sc->corked = opts->set & DMM_OPT_CORK;
	sc->quickack = opts->set & DMM_OPT_QUICKACK;
	pcb->tos = opts->dscp;
	pcb->ttl = opts->ttl ? opts->ttl : TCP_TTL;
	if (opts->set & DMM_OPT_KEEPALIVE)
		ip_set_option(pcb, SOF_KEEPALIVE);
	else
		ip_reset_option(pcb, SOF_KEEPALIVE);
	/* seconds, at most 32767 of them (as in Linux); lwIP has milliseconds */
	if (opts->keepidle && opts->keepidle <= 32767)
		pcb->keep_idle = opts->keepidle * 1000;
	if (opts->keepintvl && opts->keepintvl <= 32767)
		pcb->keep_intvl = opts->keepintvl * 1000;
	if (opts->keepcnt && opts->keepcnt <= 127)
		pcb->keep_cnt = opts->keepcnt;
	sc->user_timeout = opts->user_timeout;
	sc->fin_timeout = opts->fin_timeout;
	sc->rcv_limit = opts->rcvbuf ? LWIP_MAX(opts->rcvbuf, RCV_LIMIT_MIN) : 0;
	/* a greater window than before is told at once */
	if (sc->connected && conn_open_window(sc)) {
		conn_break(sc);
		conn_run_dirty();
		return;
	}
	conn_poll_often(sc);
	/* what was kept back may go now */
	conn_pump(sc);
	conn_run_dirty();
}

/* While opening: it fails. @sc is looked after later. */
static void conn_refuse(struct dmm_stack_conn *sc, int error)
{
	sc->error = error;
	conn_abandon(sc, false);
}

void conn_unreachable(struct dmm_stack *stack, uint8_t family,
		      const void *daddr)
{
	size_t len = family == AF_INET ? 4 : 16;
	struct dmm_stack_conn *sc;
	unsigned int i;

	for (i = 0; i < 1U << CONN_HASH_BITS; i++) {
		LIST_FOREACH(sc, &stack->conns[i], hash) {
			if (sc->tuple.family == family && sc->pcb &&
			    !memcmp(sc->tuple.raddr, daddr, len) &&
			    sc->pcb->state == SYN_SENT)
				conn_refuse(sc, EHOSTUNREACH);
		}
	}
	conn_run_dirty();
}

/* ------------------------------------------------------------------------- */

/*
 * Cut what is queued into segments of at most the PCB's MSS. What cannot be cut
 * for lack of memory stays as it is, for the retransmission timer.
 */
static void conn_cut(struct tcp_pcb *pcb)
{
	struct tcp_seg *done = NULL, **tail = &done, *seg;

	while ((seg = pcb->unsent)) {
		if (seg->len > pcb->mss &&
		    tcp_split_unsent_seg(pcb, pcb->mss) != ERR_OK)
			break;
		pcb->unsent = seg->next;
		*tail = seg;
		tail = &seg->next;
	}
	*tail = pcb->unsent;
	pcb->unsent = done;
}

/* The path takes less than we thought: send what is under way again, smaller. */
static void conn_path_mtu(struct dmm_stack_conn *sc, uint32_t mtu)
{
	bool v4 = sc->tuple.family == AF_INET;
	struct tcp_pcb *pcb = sc->pcb;
	uint32_t mss;

	mtu = LWIP_MAX(mtu, v4 ? PATH_MTU4_MIN : PATH_MTU6_MIN);
	mss = mtu - (v4 ? 40 : 60);
	if (mss >= pcb->mss)
		return;
	count(&the_stack.stats.icmp_mtu, 1);
	sc->path_mss = mss;
	pcb->mss = mss;
	if (pcb->unacked && tcp_rexmit_rto_prepare(pcb) != ERR_OK)
		return;
	conn_cut(pcb);
	conn_set_dirty(sc);
	tcp_output(pcb);
}

void conn_icmp(struct dmm_stack *stack, const struct dmm_stack_icmp *icmp)
{
	struct dmm_stack_conn *sc = conn_find(&icmp->tuple);
	struct tcp_pcb *pcb = sc ? sc->pcb : NULL;

	if (!pcb || pcb->state == TIME_WAIT ||
	    !TCP_SEQ_BETWEEN(icmp->seq, pcb->lastack, pcb->snd_nxt)) {
		count(&stack->stats.icmp_bad, 1);
		return;
	}
	if (icmp->error == EMSGSIZE) {
		if (sc->connected)
			conn_path_mtu(sc, icmp->mtu);
	} else if (pcb->state == SYN_SENT) {
		conn_refuse(sc, icmp->error);
	} else {
		count(&stack->stats.icmp_soft, 1);
	}
	conn_run_dirty();
}
