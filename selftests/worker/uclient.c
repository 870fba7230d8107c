// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"
#include "rig.h"
#include "uclient.h"

#define WAIT_MS		20000

/* The family of an address' text; its bytes to @word. */
static int addr_parse(const char *text, uint32_t word[4])
{
	memset(word, 0, 16);
	if (inet_pton(AF_INET, text, word) == 1)
		return AF_INET;
	return inet_pton(AF_INET6, text, word) == 1 ? AF_INET6 : -EINVAL;
}

int uc_open(struct uclient *uc, const char *path, const char *saddr,
	    uint32_t ifindex)
{
	int ret;

	memset(uc, 0, sizeof(*uc));
	uc->family = addr_parse(saddr, uc->saddr);
	if (uc->family < 0)
		return uc->family;
	ret = dmm_client_open(&uc->client, path);
	if (ret)
		return ret;
	uc->chan = dmm_client_chan(uc->client);
	uc->ifindex = ifindex;
	uc->next_port = 20000;
	return 0;
}

void uc_close(struct uclient *uc)
{
	dmm_client_close(uc->client);
	uc->client = NULL;
}

void uc_put(struct uclient *uc, const struct dmm_op *op)
{
	while (dmm_chan_op_put(uc->chan, op) == -ENOSPC)
		dmm_client_submit(uc->client);
	dmm_client_submit(uc->client);
}

void uc_op(struct uclient *uc, uint32_t slot, uint32_t what)
{
	struct dmm_op op = {
		.op = what,
		.slot = slot,
		.gen = uc->conns[slot].gen,
	};

	uc_put(uc, &op);
}

int uc_slot(struct uclient *uc, struct dmm_op *op)
{
	uint32_t i;

	for (i = 0; i < UC_SLOTS; i++) {
		op->slot = uc->next_slot++ % UC_SLOTS;
		if (!uc->conns[op->slot].open)
			break;
	}
	if (i == UC_SLOTS)
		return -EMFILE;
	op->gen = ++uc->next_gen;
	uc->conns[op->slot] = (struct uc_conn) { .gen = op->gen, .open = true };
	dmm_chan_slot_open(uc->chan, op->slot);
	return op->slot;
}

int uc_connect_op(struct uclient *uc, struct dmm_op *op)
{
	int ret;

	op->op = DMM_OP_CONNECT;
	op->connect.ifindex = uc->ifindex;
	if (!op->connect.sport) {
		op->connect.sport = __builtin_bswap16(uc->next_port++);
		if (uc->next_port > 60000)
			uc->next_port = 20000;
	}
	ret = uc_slot(uc, op);
	if (ret >= 0)
		uc_put(uc, op);
	return ret;
}

int uc_connect_start(struct uclient *uc, const char *daddr, uint16_t dport,
		     uint16_t sport)
{
	struct dmm_op op = {
		.connect = {
			.family = uc->family,
			.sport = __builtin_bswap16(sport),
			.dport = __builtin_bswap16(dport),
		},
	};

	memcpy(op.connect.saddr, uc->saddr, sizeof(op.connect.saddr));
	if (addr_parse(daddr, op.connect.daddr) != uc->family)
		return -EINVAL;
	return uc_connect_op(uc, &op);
}

int uc_connected(struct uclient *uc, int slot)
{
	struct uc_conn *c;
	int ret;

	if (slot < 0)
		return slot;
	c = &uc->conns[slot];
	while (!c->connected && !c->final) {
		ret = uc_wait(uc, WAIT_MS);
		if (ret)
			return ret;
	}
	if (c->connected)
		return slot;
	c->open = false;
	return c->final == DMM_EV_ERROR ? -(int)c->error : -ECONNABORTED;
}

int uc_connect(struct uclient *uc, const char *daddr, uint16_t dport)
{
	return uc_connected(uc, uc_connect_start(uc, daddr, dport, 0));
}

int uc_listen(struct uclient *uc, int family, const uint32_t *addr,
	      uint16_t port, uint32_t backlog, uint32_t flags)
{
	struct dmm_op op = {
		.op = DMM_OP_LISTEN,
		.listen = {
			.family = family,
			.port = __builtin_bswap16(port),
			.flags = flags,
			.backlog = backlog,
			.ifindex = uc->ifindex,
		},
	};
	int ret;

	if (addr)
		memcpy(op.listen.addr, addr, family == AF_INET ? 4 : 16);
	ret = uc_slot(uc, &op);
	if (ret >= 0)
		uc_put(uc, &op);
	return ret;
}

int uc_listen_again(struct uclient *uc, int slot, uint16_t port,
		    uint32_t backlog)
{
	struct dmm_op op = {
		.op = DMM_OP_LISTEN,
		.slot = slot,
		.gen = uc->conns[slot].gen,
		.listen = {
			.family = AF_INET,
			.port = __builtin_bswap16(port),
			.backlog = backlog,
			.ifindex = uc->ifindex,
		},
	};

	uc_put(uc, &op);
	return 0;
}

int uc_attach(struct uclient *uc, uint64_t token, uint32_t listener)
{
	struct dmm_op op = {
		.op = DMM_OP_ATTACH,
		.attach = { .token = token, .listener = listener },
	};
	int ret = uc_slot(uc, &op);

	if (ret >= 0) {
		uc->conns[ret].connected = true;
		uc_put(uc, &op);
	}
	return ret;
}

int uc_accept(struct uclient *uc, int listener, int timeout_ms)
{
	struct uc_offer offer;
	unsigned int i;
	int ret;

	for (;;) {
		for (i = 0; i < uc->noffers; i++)
			if (listener < 0 ||
			    uc->offers[i].slot == (uint32_t)listener)
				break;
		if (i < uc->noffers)
			break;
		ret = uc_wait(uc, timeout_ms);
		if (ret)
			return ret;
	}
	offer = uc->offers[i];
	memmove(&uc->offers[i], &uc->offers[i + 1],
		(--uc->noffers - i) * sizeof(offer));
	return uc_attach(uc, offer.in.token, offer.slot);
}

static int events_take(struct uclient *uc)
{
	struct dmm_event ev;
	struct uc_conn *c;
	int n = 0;

	while (dmm_chan_event_get(uc->chan, &ev) == 1) {
		n++;
		if (ev.slot >= UC_SLOTS)
			continue;
		c = &uc->conns[ev.slot];
		if (!c->open || c->gen != ev.gen)
			continue;
		if (ev.ev == DMM_EV_CONNECTED)
			c->connected = true;
		else if (ev.ev == DMM_EV_INCOMING && uc->noffers < UC_OFFERS)
			uc->offers[uc->noffers++] = (struct uc_offer) {
				.slot = ev.slot, .in = ev.incoming,
			};
		else if (ev.ev == DMM_EV_FIN_ACKED)
			c->fin_acked = true;
		else if (ev.ev == DMM_EV_FIN)
			c->fin = true;
		else if (ev.ev >= DMM_EV_ERROR)
			c->final = ev.ev, c->error = ev.error;
	}
	if (n)
		dmm_chan_event_done(uc->chan);
	uc->events += n;
	return n;
}

int uc_wait(struct uclient *uc, int timeout_ms)
{
	struct pollfd pfds[] = {
		{ .fd = dmm_client_event_fd(uc->client), .events = POLLIN },
		{ .fd = dmm_client_sock(uc->client), .events = POLLIN },
	};
	struct timespec a, b;
	uint64_t n;
	int ret;

	clock_gettime(CLOCK_MONOTONIC, &a);
	while (!events_take(uc)) {
		ret = poll(pfds, 2, uc->spin ? 0 : timeout_ms);
		if (pfds[1].revents)
			return -EPIPE;
		clock_gettime(CLOCK_MONOTONIC, &b);
		if (!ret && (b.tv_sec - a.tv_sec) * 1000 +
		    (b.tv_nsec - a.tv_nsec) / 1000000 >= timeout_ms)
			return -ETIMEDOUT;
		if (pfds[0].revents &&
		    read(pfds[0].fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
			return -errno;
	}
	return 0;
}

int uc_send_some(struct uclient *uc, uint32_t slot, const void *buf,
		 uint32_t len)
{
	struct dmm_ring *tx = dmm_chan_tx(uc->chan, slot);
	int n = dmm_ring_write(tx, buf, len);

	if (n > 0 && dmm_ring_due(tx))
		uc_op(uc, slot, DMM_OP_TX);
	return n;
}

int uc_recv_some(struct uclient *uc, uint32_t slot, void *buf, uint32_t len)
{
	struct dmm_ring *rx = dmm_chan_rx(uc->chan, slot);
	int n = dmm_ring_read(rx, buf, len);

	if (n > 0 && dmm_ring_due(rx))
		uc_op(uc, slot, DMM_OP_ROOM);
	return n;
}

static int failure(const struct uc_conn *c)
{
	if (c->final == DMM_EV_ERROR)
		return -(int)c->error;
	return c->final ? -EPIPE : 0;
}

int uc_send(struct uclient *uc, uint32_t slot, const void *buf, size_t len)
{
	struct dmm_ring *tx = dmm_chan_tx(uc->chan, slot);
	struct uc_conn *c = &uc->conns[slot];
	const uint8_t *from = buf;
	int n;

	while (len) {
		if (failure(c))
			return failure(c);
		n = uc_send_some(uc, slot, from, len < 1 << 20 ? len : 1 << 20);
		if (n < 0)
			return n;
		from += n;
		len -= n;
		if (n || dmm_ring_arm(tx, dmm_ring_size(tx) / 4))
			continue;
		n = uc_wait(uc, WAIT_MS);
		if (n)
			return n;
	}
	return 0;
}

long uc_recv(struct uclient *uc, uint32_t slot, void *buf, size_t len)
{
	struct dmm_ring *rx = dmm_chan_rx(uc->chan, slot);
	struct uc_conn *c = &uc->conns[slot];
	uint8_t *to = buf;
	size_t got = 0;
	bool end;
	int n;

	while (got < len) {
		end = c->fin || c->final;
		n = uc_recv_some(uc, slot, to + got,
				 len - got < 1 << 20 ? len - got : 1 << 20);
		if (n < 0)
			return n;
		got += n;
		if (n)
			continue;
		if (end)
			return c->fin ? (long)got : failure(c);
		if (dmm_ring_arm(rx, 0))
			continue;
		n = uc_wait(uc, WAIT_MS);
		if (n)
			return n;
	}
	return got;
}

int uc_finish(struct uclient *uc, uint32_t slot, int timeout_ms)
{
	struct uc_conn *c = &uc->conns[slot];
	int ret;

	while (!c->final) {
		ret = uc_wait(uc, timeout_ms);
		if (ret)
			return ret;
	}
	c->open = false;
	return c->final;
}

#define CHUNK	(64 * 1024)

uint64_t uc_to_sink(struct uclient *uc, int slot, uint64_t len)
{
	static char buf[CHUNK];
	uint64_t at, n, count;

	for (at = 0; at < len; at += n) {
		n = len - at < CHUNK ? len - at : CHUNK;
		pattern_fill(buf, n, at);
		if (uc_send(uc, slot, buf, n))
			return 0;
	}
	uc_op(uc, slot, DMM_OP_SHUTDOWN);
	if (uc_recv(uc, slot, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

int64_t uc_from_source(struct uclient *uc, int slot, uint64_t len)
{
	static char buf[CHUNK];
	uint64_t got = 0;
	long n;

	if (uc_send(uc, slot, &len, sizeof(len)))
		return -1;
	while ((n = uc_recv(uc, slot, buf, CHUNK)) > 0) {
		if (pattern_check(buf, n, got))
			return -1;
		got += n;
		if (n < CHUNK)
			break;
	}
	return n < 0 ? n : (int64_t)got;
}

long uc_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int uc_served(struct uclient *uc)
{
	char buf[4];
	int slot, ret;

	slot = uc_connect(uc, RIG_DADDR, PEER_ECHO);
	if (slot < 0)
		return slot;
	ret = uc_send(uc, slot, "ping", 4);
	if (!ret)
		ret = uc_recv(uc, slot, buf, 4) == 4 ? 0 : -EIO;
	uc_op(uc, slot, DMM_OP_ABORT);
	return ret;
}
