// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <dmm/chan.h>
#include <dmm/device.h>

#include "puppet.h"
#include "world.h"

/*
 * @gen: 0 when not connected
 * @sent: bytes that PORT_SOURCE sent
 * @client_fin: the program shut its side down
 * @peer_fin: we did
 */
struct conn {
	__u32 gen;
	__u16 port;
	__u32 sent;
	bool client_fin;
	bool peer_fin;
	bool listener;
};

/* @lock: everything; the thread holds it but while it sleeps. */
struct puppet {
	pthread_mutex_t lock;
	pthread_t thread;
	bool stop;
	bool frozen;
	struct dmm_chan *chan;
	struct dmm_arena_hdr *arena;	/* to scribble on: its head */
	size_t arena_len;
	int dev;
	int doorbell;
	struct conn *conns;
	__u32 last;
	struct puppet_stats stats;
};

static void event(struct puppet *p, __u32 slot, __u32 type, __u32 error)
{
	struct dmm_event ev = {
		.ev = type,
		.slot = slot,
		.gen = p->conns[slot].gen,
		.error = error,
	};

	while (dmm_chan_event_put(p->chan, &ev)) {
		dmm_chan_event_flush(p->chan);
		if (dmm_device_kick(p->dev, &p->stats.bad) < 0)
			return;
	}
	if (type == DMM_EV_ERROR || type == DMM_EV_TIMEWAIT ||
	    type == DMM_EV_GONE)
		p->conns[slot].gen = 0;
}

static void connected(struct puppet *p, const struct dmm_op *op)
{
	struct conn *c = &p->conns[op->slot];

	*c = (struct conn) {
		.gen = op->gen,
		.port = ntohs(op->connect.dport),
	};
	p->last = op->slot;
	p->stats.sport = ntohs(op->connect.sport);
	dmm_chan_slot_open(p->chan, op->slot);

	switch (c->port) {
	case PORT_REFUSED:
		event(p, op->slot, DMM_EV_ERROR, ECONNREFUSED);
		return;
	case PORT_TIMEOUT:
		event(p, op->slot, DMM_EV_ERROR, ETIMEDOUT);
		return;
	case PORT_SILENT:
		return;
	}
	event(p, op->slot, DMM_EV_CONNECTED, 0);
	if (c->port == PORT_HANGUP) {
		c->peer_fin = true;
		event(p, op->slot, DMM_EV_FIN, 0);
	}
}

/* The token of a child is what its peer does. */
static void attached(struct puppet *p, const struct dmm_op *op)
{
	p->conns[op->slot] = (struct conn) {
		.gen = op->gen,
		.port = op->attach.token,
	};
	p->last = op->slot;
	dmm_chan_slot_open(p->chan, op->slot);
}

static void listening(struct puppet *p, const struct dmm_op *op)
{
	bool first = p->conns[op->slot].gen != op->gen;

	p->conns[op->slot] = (struct conn) {
		.gen = op->gen,
		.port = ntohs(op->listen.port),
		.listener = true,
	};
	p->last = op->slot;
	p->stats.backlog = op->listen.backlog;
	if (first)
		event(p, op->slot, DMM_EV_CONNECTED, 0);
}

static void handle_op(struct puppet *p, const struct dmm_op *op)
{
	struct conn *c = &p->conns[op->slot];

	p->stats.ops[op->op & 15]++;
	if (op->op == DMM_OP_LISTEN) {
		listening(p, op);
		return;
	}
	if (op->op == DMM_OP_ATTACH) {
		attached(p, op);
		return;
	}
	if (op->op == DMM_OP_CONNECT) {
		connected(p, op);
		return;
	}
	if (c->gen != op->gen)
		return;

	switch (op->op) {
	case DMM_OP_OPTIONS:
		p->stats.nodelay = op->options.set & DMM_OPT_NODELAY;
		p->stats.keepalive = op->options.set & DMM_OPT_KEEPALIVE;
		p->stats.keepidle = op->options.keepidle;
		break;
	case DMM_OP_SHUTDOWN:
	case DMM_OP_CLOSE:
		c->client_fin = true;
		break;
	case DMM_OP_ABORT:
		event(p, op->slot, DMM_EV_GONE, 0);
		break;
	}
}

static bool serve_source(struct conn *c, struct dmm_ring *rx)
{
	unsigned char *span;
	int room = dmm_ring_space(rx, (void **)&span), i;

	if (room <= 0 || c->sent == SOURCE_BYTES)
		return false;
	if ((__u32)room > SOURCE_BYTES - c->sent)
		room = SOURCE_BYTES - c->sent;
	for (i = 0; i < room; i++)
		span[i] = SOURCE_BYTE(c->sent + i);
	dmm_ring_produce(rx, room);
	c->sent += room;
	return true;
}

static bool serve_echo(struct dmm_ring *tx, struct dmm_ring *rx)
{
	const void *from;
	void *to;
	int have = dmm_ring_peek(tx, 0, &from), room = dmm_ring_space(rx, &to);

	if (have <= 0 || room <= 0)
		return false;
	if (have > room)
		have = room;
	memcpy(to, from, have);
	dmm_ring_produce(rx, have);
	dmm_ring_consume(tx, have);
	return true;
}

static bool serve_discard(struct dmm_ring *tx)
{
	const void *from;
	int have = dmm_ring_peek(tx, 0, &from);

	if (have > 0)
		dmm_ring_consume(tx, have);
	return have > 0;
}

static bool serve(struct puppet *p, __u32 slot)
{
	struct dmm_ring *tx = dmm_chan_tx(p->chan, slot);
	struct dmm_ring *rx = dmm_chan_rx(p->chan, slot);
	struct conn *c = &p->conns[slot];
	bool moved = false;

	switch (c->port) {
	case PORT_ECHO:
		moved = serve_echo(tx, rx);
		break;
	case PORT_SOURCE:
		moved = serve_source(c, rx);
		moved |= serve_discard(tx);
		break;
	case PORT_RESET:
		if (dmm_ring_used(tx) > 0) {
			event(p, slot, DMM_EV_ERROR, ECONNRESET);
			return true;
		}
		break;
	case PORT_DISCARD:
	case PORT_HANGUP:
		moved = serve_discard(tx);
		break;
	}
	dmm_chan_trim(p->chan, slot);
	if (dmm_ring_due(rx))
		event(p, slot, DMM_EV_RX, 0);
	if (dmm_ring_due(tx))
		event(p, slot, DMM_EV_ROOM, 0);
	if (moved)
		return true;

	if (c->port == PORT_SOURCE && c->sent == SOURCE_BYTES && !c->peer_fin) {
		c->peer_fin = true;
		event(p, slot, DMM_EV_FIN, 0);
		return true;
	}
	if (c->client_fin && c->port != PORT_DEAF && dmm_ring_used(tx) <= 0) {
		if (c->peer_fin)
			event(p, slot, DMM_EV_GONE, 0);
		else
			event(p, slot, DMM_EV_TIMEWAIT, 0);
		return true;
	}
	return false;
}

static bool pump(struct puppet *p)
{
	struct dmm_op op;
	bool moved = false;
	__u32 i;

	while (dmm_chan_op_get(p->chan, &op) == 1) {
		if (op.slot < dmm_chan_nslots(p->chan))
			handle_op(p, &op);
		moved = true;
	}
	dmm_chan_op_done(p->chan);
	for (i = 0; i < dmm_chan_nslots(p->chan); i++)
		if (p->conns[i].gen && !p->conns[i].listener)
			moved |= serve(p, i);
	if (dmm_chan_event_flush(p->chan) || dmm_chan_op_backlog(p->chan))
		dmm_device_kick(p->dev, &p->stats.bad);
	return moved;
}

/* It looks every millisecond, so rings need not be armed, and are not. */
static void *run(void *arg)
{
	struct puppet *p = arg;
	struct pollfd pfd = { .fd = p->doorbell, .events = POLLIN };
	eventfd_t n;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		if (!p->frozen && pump(p))
			continue;
		dmm_chan_sleep(p->chan, true);
		pthread_mutex_unlock(&p->lock);
		if (poll(&pfd, 1, 1) > 0)
			eventfd_read(p->doorbell, &n);
		pthread_mutex_lock(&p->lock);
		dmm_chan_sleep(p->chan, false);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct puppet *puppet_start(const struct puppet_opts *opts)
{
	struct dmm_chan_opts geometry = {
		.sz = sizeof(geometry),
		.nslots = opts->nslots ? opts->nslots : 256,
		.nops = DMM_MSGS_MIN,
		.nevents = DMM_MSGS_MIN,
		.tx_size = opts->ring ? opts->ring : 65536,
		.rx_size = opts->ring ? opts->ring : 65536,
	};
	struct dmm_device_opts dev = {
		.sz = sizeof(dev),
		.name = opts->name,
		.stack_id = opts->id,
		.ifindex = opts->ifindex,
		.flags = opts->flags,
		.share = opts->share ? opts->share : 100,
	};
	struct puppet *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return NULL;
	p->conns = calloc(geometry.nslots, sizeof(*p->conns));
	pthread_mutex_init(&p->lock, NULL);
	p->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev.event_fd = p->doorbell;
	ret = dmm_chan_create(&p->chan, &geometry);
	if (ret)
		goto err;
	p->arena_len = sysconf(_SC_PAGESIZE) * 64 +
		       geometry.nslots * sizeof(struct dmm_slot);
	p->arena = mmap(NULL, p->arena_len, PROT_READ | PROT_WRITE, MAP_SHARED,
			dmm_chan_fd(p->chan), 0);
	if (p->arena == MAP_FAILED) {
		ret = -errno;
		dmm_chan_destroy(p->chan);
		goto err;
	}
	p->dev = dmm_device_attach(p->chan, &dev);
	if (p->dev < 0) {
		ret = p->dev;
		munmap(p->arena, p->arena_len);
		dmm_chan_destroy(p->chan);
		goto err;
	}
	pthread_create(&p->thread, NULL, run, p);
	return p;

err:
	close(p->doorbell);
	free(p->conns);
	free(p);
	errno = -ret;
	return NULL;
}

void puppet_kill(struct puppet *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	close(p->dev);
	munmap(p->arena, p->arena_len);
	dmm_chan_destroy(p->chan);
	close(p->doorbell);
	free(p->conns);
	free(p);
}

void puppet_freeze(struct puppet *p)
{
	pthread_mutex_lock(&p->lock);
	p->frozen = true;
	pthread_mutex_unlock(&p->lock);
}

void puppet_thaw(struct puppet *p)
{
	pthread_mutex_lock(&p->lock);
	p->frozen = false;
	pthread_mutex_unlock(&p->lock);
}

struct dmm_chan *puppet_chan(struct puppet *p)
{
	return p->chan;
}

int puppet_kick(struct puppet *p, __u64 *bad)
{
	dmm_chan_event_flush(p->chan);
	return dmm_device_kick(p->dev, bad);
}

static int find_listener(struct puppet *p, __u16 lport)
{
	__u32 i;

	for (i = 0; i < dmm_chan_nslots(p->chan); i++)
		if (p->conns[i].gen && p->conns[i].listener &&
		    p->conns[i].port == lport)
			return i;
	return -1;
}

int puppet_listener(struct puppet *p, __u16 lport, __u32 *slot, __u32 *gen)
{
	int i;

	pthread_mutex_lock(&p->lock);
	i = find_listener(p, lport);
	if (i >= 0) {
		*slot = i;
		*gen = p->conns[i].gen;
	}
	pthread_mutex_unlock(&p->lock);
	return i < 0 ? -1 : 0;
}

int puppet_call(struct puppet *p, const struct puppet_caller *caller)
{
	struct dmm_event ev = {
		.ev = DMM_EV_INCOMING,
		.incoming = {
			.token = caller->what,
			.family = caller->v6 ? AF_INET6 : AF_INET,
			.lport = htons(caller->lport),
			.rport = htons(caller->rport),
			.ttl = 64,
		},
	};
	int ret = -1, i;
	__u64 bad = 0;

	inet_pton(ev.incoming.family, caller->v6 ? WORLD_ADDR6 : WORLD_ADDR,
		  ev.incoming.laddr);
	inet_pton(ev.incoming.family, caller->v6 ? WORLD_PEER6 : WORLD_PEER,
		  ev.incoming.raddr);

	pthread_mutex_lock(&p->lock);
	i = find_listener(p, caller->lport);
	if (i >= 0) {
		ev.slot = i;
		ev.gen = p->conns[i].gen;
		dmm_chan_event_put(p->chan, &ev);
		dmm_chan_event_flush(p->chan);
		if (dmm_device_kick(p->dev, &bad) > 0 && !bad)
			ret = 0;
		p->stats.bad += bad;
	}
	pthread_mutex_unlock(&p->lock);
	return ret;
}

/* As the puppet's own process has it mapped. */
static void scribble(struct puppet *p, __u32 slot, __u32 more)
{
	struct dmm_slot *s = (struct dmm_slot *)((char *)p->arena +
			     dmm_arena_slots_off(p->arena)) + slot;

	switch (more & 3) {
	case 0:
		s->rx_prod = more;
		break;
	case 1:
		s->tx_cons = more;
		break;
	case 2:
		s->tx_event = more;
		break;
	case 3:
		s->rx_room_event = more;
		break;
	}
}

void puppet_lie(struct puppet *p, __u32 what, __u32 more)
{
	struct dmm_event ev = {
		.ev = what % (__DMM_EV_MAX + 1),
		.slot = (what >> 8) % (dmm_chan_nslots(p->chan) + 1),
		.error = more & 0xff,
	};
	unsigned int i;

	pthread_mutex_lock(&p->lock);
	if (ev.slot < dmm_chan_nslots(p->chan))
		ev.gen = p->conns[ev.slot].gen;
	if (!ev.gen || !(what >> 24 & 7))
		ev.gen = 1 + (more & 7);
	for (i = 0; i < sizeof(ev.raw) / sizeof(ev.raw[0]); i++)
		ev.raw[i] = more * (i + 1);
	if (!(what >> 27) && ev.slot < dmm_chan_nslots(p->chan))
		scribble(p, ev.slot, more);
	if (!dmm_chan_event_put(p->chan, &ev))
		dmm_chan_event_flush(p->chan);
	dmm_device_kick(p->dev, &p->stats.bad);
	pthread_mutex_unlock(&p->lock);
}

void puppet_last(struct puppet *p, __u32 *slot, __u32 *gen)
{
	pthread_mutex_lock(&p->lock);
	*slot = p->last;
	*gen = p->conns[p->last].gen;
	pthread_mutex_unlock(&p->lock);
}

void puppet_stats(struct puppet *p, struct puppet_stats *stats)
{
	pthread_mutex_lock(&p->lock);
	*stats = p->stats;
	pthread_mutex_unlock(&p->lock);
}

bool puppet_told(struct puppet *p, __u32 op, __u64 times)
{
	struct puppet_stats stats;
	int i;

	for (i = 0; i < 500; i++) {
		puppet_stats(p, &stats);
		if (stats.ops[op & 15] >= times)
			return true;
		usleep(10000);
	}
	return false;
}
