// SPDX-License-Identifier: Apache-2.0
/*
 * `load serve` as a client of a worker, without a shim: the same three services on
 * the rings themselves. What it reaches is what the worker gives; what a program
 * under the shim reaches less is the shim's.
 *
 *	ring_serve SOCKET DEVICE [PORT [SPIN_US]]
 *
 * It looks at its rings, gives the CPU away while there is nothing, and sleeps after
 * SPIN_US of that, as the shim does. One thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <dmm/chan.h>
#include <dmm/client.h>

#include "load.h"

#define BUF		65536
#define BACKLOG		4096

/* A slot. @service is the listener's; @closing: CLOSE is sent */
struct sock {
	uint32_t gen;
	enum service service;
	bool open;
	bool listener;
	bool closing;
};

static struct dmm_client *client;
static struct dmm_chan *chan;
static struct sock *socks;
static uint32_t nslots;
static uint32_t *unused;	/* slots, a stack of them */
static uint32_t nunused;
static uint32_t last_gen;
static char buf[BUF];

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "ring_serve: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	exit(EXIT_FAILURE);
}

static void op_put(const struct dmm_op *op)
{
	while (dmm_chan_op_put(chan, op) == -ENOSPC) {
		dmm_client_submit(client);
		sched_yield();
	}
}

static void op_simple(uint32_t slot, uint32_t what)
{
	struct dmm_op op = { .op = what, .slot = slot, .gen = socks[slot].gen };

	op_put(&op);
}

/* Take a slot, for an op that begins its life. */
static uint32_t slot_take(struct dmm_op *op, enum service service)
{
	if (!nunused)
		die("all %u slots are in use", nslots);
	op->slot = unused[--nunused];
	op->gen = ++last_gen;
	socks[op->slot] = (struct sock) { .gen = op->gen, .service = service,
					  .open = true };
	dmm_chan_slot_open(chan, op->slot);
	return op->slot;
}

static void listener_open(enum service service, uint16_t port, uint32_t ifindex)
{
	struct dmm_op op = {
		.op = DMM_OP_LISTEN,
		.listen = {
			.family = AF_INET,
			.port = htons(port + service),
			.backlog = BACKLOG,
			.ifindex = ifindex,
		},
	};

	socks[slot_take(&op, service)].listener = true;
	op_put(&op);
}

static void sock_close(uint32_t slot)
{
	if (!socks[slot].closing)
		op_simple(slot, DMM_OP_CLOSE);
	socks[slot].closing = true;
}

static void ring_write(uint32_t slot, const char *data, uint32_t len)
{
	struct dmm_ring *tx = dmm_chan_tx(chan, slot);

	if (dmm_ring_write(tx, data, len) < 0)
		die("the worker broke a ring");
	if (dmm_ring_due(tx))
		op_simple(slot, DMM_OP_TX);
}

/* Everything that is there; then ask to be told of more. */
static void serve_input(uint32_t slot)
{
	struct dmm_ring *rx = dmm_chan_rx(chan, slot);
	int n;

	do {
		while ((n = dmm_ring_read(rx, buf, sizeof(buf))) > 0)
			if (socks[slot].service == SERVE_ECHO)
				ring_write(slot, buf, n);
		if (n < 0)
			die("the worker broke a ring");
		if (dmm_ring_due(rx))
			op_simple(slot, DMM_OP_ROOM);
	} while (dmm_ring_arm(rx, 0));
}

static void serve_output(uint32_t slot)
{
	struct dmm_ring *tx = dmm_chan_tx(chan, slot);
	int n;

	do {
		while ((n = dmm_ring_space(tx, NULL)) > 0)
			ring_write(slot, buf, n < BUF ? n : BUF);
		if (n < 0)
			die("the worker broke a ring");
	} while (dmm_ring_arm(tx, dmm_ring_size(tx) / 4));
}

static void serve(uint32_t slot)
{
	if (socks[slot].closing)
		return;
	if (socks[slot].service == SERVE_SOURCE)
		serve_output(slot);
	else
		serve_input(slot);
}

static void child_attach(const struct dmm_event *ev)
{
	struct dmm_op op = {
		.op = DMM_OP_ATTACH,
		.attach = { .token = ev->incoming.token, .listener = ev->slot },
	};
	struct dmm_op options = {
		.op = DMM_OP_OPTIONS,
		.options = { .set = DMM_OPT_NODELAY },
	};
	uint32_t slot = slot_take(&op, socks[ev->slot].service);

	op_put(&op);
	options.slot = slot;
	options.gen = op.gen;
	if (socks[slot].service == SERVE_ECHO)
		op_put(&options);
	serve(slot);
}

static void event_run(const struct dmm_event *ev)
{
	struct sock *s;

	if (ev->slot >= nslots)
		die("the worker named slot %u of %u", ev->slot, nslots);
	s = &socks[ev->slot];
	if (!s->open || s->gen != ev->gen)
		return;
	switch (ev->ev) {
	case DMM_EV_INCOMING:
		child_attach(ev);
		break;
	case DMM_EV_RX:
	case DMM_EV_ROOM:
		serve(ev->slot);
		break;
	case DMM_EV_FIN:
		serve(ev->slot);
		sock_close(ev->slot);
		break;
	case DMM_EV_ERROR:
	case DMM_EV_TIMEWAIT:
	case DMM_EV_GONE:
		if (s->listener)
			die("port %d: the worker does not listen: %s",
			    s->service, strerror(ev->error));
		s->open = false;
		unused[nunused++] = ev->slot;
		break;
	}
}

static bool turn(void)
{
	struct dmm_event ev;
	int ret, n;

	for (n = 0; (ret = dmm_chan_event_get(chan, &ev)) == 1; n++)
		event_run(&ev);
	if (ret < 0)
		die("the worker broke the event ring");
	if (n)
		dmm_chan_event_done(chan);
	dmm_client_submit(client);
	return n;
}

static void doorbell_wait(void)
{
	struct pollfd pfds[] = {
		{ .fd = dmm_client_event_fd(client), .events = POLLIN },
		{ .fd = dmm_client_sock(client), .events = POLLIN },
	};
	uint64_t n;

	poll(pfds, 2, -1);
	if (pfds[1].revents)
		exit(EXIT_SUCCESS);	/* the worker has ended */
	if (pfds[0].revents && read(pfds[0].fd, &n, sizeof(n)) < 0 &&
	    errno != EAGAIN)
		die("doorbell: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	uint16_t port = argc > 3 ? atoi(argv[3]) : 7100;
	uint64_t spin_ns = (argc > 4 ? atoi(argv[4]) : 50) * 1000ULL, last;
	uint32_t ifindex, i;
	int ret;

	if (argc < 3)
		die("usage: ring_serve SOCKET DEVICE [PORT [SPIN_US]]");
	ifindex = if_nametoindex(argv[2]);
	if (!ifindex)
		die("device %s: %s", argv[2], strerror(errno));
	ret = dmm_client_open(&client, argv[1]);
	if (ret)
		die("%s: %s", argv[1], strerror(-ret));
	chan = dmm_client_chan(client);
	nslots = dmm_chan_nslots(chan);
	socks = calloc(nslots, sizeof(*socks));
	unused = calloc(nslots, sizeof(*unused));
	if (!socks || !unused)
		die("no memory");
	for (i = nslots; i > 0; i--)
		unused[nunused++] = i - 1;
	for (i = 0; i < SERVICES; i++)
		listener_open(i, port, ifindex);
	dmm_client_submit(client);
	printf("ready\n");
	fflush(stdout);
	for (last = now_ns();;) {
		if (turn())
			last = now_ns();
		else if (now_ns() - last < spin_ns)
			sched_yield();
		else
			doorbell_wait();
	}
}
