// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <dmm/chan.h>

#include "barrier.h"
#include "ring.h"

#define SEALS	(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/*
 * @geom: the geometry, copied and checked once
 * @hdr: the shared header
 * @len: bytes mapped
 * @out: ops on the client side, events on the stack side
 * @in: the reverse
 * @sleep_seq: stack: of the last sleep, in units of DMM_SLEEP_SEQ
 * @rung: client: the value of sleeping for which the doorbell was rung
 * @rings: tx and rx of each slot
 */
struct dmm_chan {
	struct dmm_arena_hdr geom;
	struct dmm_arena_hdr *hdr;
	size_t len;
	int fd;
	bool stack;
	__u32 sleep_seq;
	__u32 rung;
	struct msg_ring out;
	struct msg_ring in;
	struct dmm_ring *rings;
};

static struct dmm_slot *slot_of(struct dmm_chan *chan, __u32 slot)
{
	return (struct dmm_slot *)((__u8 *)chan->hdr +
				   dmm_arena_slots_off(&chan->geom)) + slot;
}

/* The stack consumes tx and produces rx. */
static void view_tx(struct dmm_chan *chan, __u32 slot, struct dmm_ring *r)
{
	struct dmm_slot *s = slot_of(chan, slot);
	bool producer = !chan->stack;

	*r = (struct dmm_ring) {
		.base = (__u8 *)chan->hdr + dmm_arena_tx_off(&chan->geom, slot),
		.size = chan->geom.tx_size,
		.producer = producer,
		.mine = producer ? &s->tx_prod : &s->tx_cons,
		.other = producer ? &s->tx_cons : &s->tx_prod,
		.my_event = producer ? &s->tx_room_event : &s->tx_event,
		.other_event = producer ? &s->tx_event : &s->tx_room_event,
	};
}

static void view_rx(struct dmm_chan *chan, __u32 slot, struct dmm_ring *r)
{
	struct dmm_slot *s = slot_of(chan, slot);
	bool producer = chan->stack;

	*r = (struct dmm_ring) {
		.base = (__u8 *)chan->hdr + dmm_arena_rx_off(&chan->geom, slot),
		.size = chan->geom.rx_size,
		.producer = producer,
		.mine = producer ? &s->rx_prod : &s->rx_cons,
		.other = producer ? &s->rx_cons : &s->rx_prod,
		.my_event = producer ? &s->rx_room_event : &s->rx_event,
		.other_event = producer ? &s->rx_event : &s->rx_room_event,
	};
}

/* Map @fd by the checked geometry in @chan->geom and set the views up. */
static int chan_map(struct dmm_chan *chan, int fd)
{
	struct dmm_arena_hdr *hdr;
	struct msg_ring *ops, *events;
	__u8 *base;

	chan->len = dmm_arena_size(&chan->geom);
	chan->rings = calloc(chan->geom.nslots, 2 * sizeof(*chan->rings));
	if (!chan->rings)
		return -ENOMEM;
	base = mmap(NULL, chan->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED) {
		free(chan->rings);
		return -errno;
	}
	hdr = (struct dmm_arena_hdr *)base;
	chan->hdr = hdr;

	ops = chan->stack ? &chan->in : &chan->out;
	events = chan->stack ? &chan->out : &chan->in;
	*ops = (struct msg_ring) {
		.base = base + DMM_ARENA_OPS_OFF,
		.n = chan->geom.nops,
		.mine = chan->stack ? &hdr->op_cons : &hdr->op_prod,
		.other = chan->stack ? &hdr->op_prod : &hdr->op_cons,
	};
	*events = (struct msg_ring) {
		.base = base + dmm_arena_events_off(&chan->geom),
		.n = chan->geom.nevents,
		.mine = chan->stack ? &hdr->ev_prod : &hdr->ev_cons,
		.other = chan->stack ? &hdr->ev_cons : &hdr->ev_prod,
	};
	return 0;
}

int dmm_chan_create(struct dmm_chan **chanp, const struct dmm_chan_opts *opts)
{
	static const struct dmm_chan_opts none = { .sz = sizeof(none) };
	struct dmm_chan *chan;
	int ret;

	if (!opts)
		opts = &none;
	if (opts->sz != sizeof(*opts))
		return -EINVAL;
	chan = calloc(1, sizeof(*chan));
	if (!chan)
		return -ENOMEM;
	chan->stack = true;
	chan->geom = (struct dmm_arena_hdr) {
		.magic = DMM_ARENA_MAGIC,
		.version = DMM_ABI_VERSION,
		.hdr_size = sizeof(chan->geom),
		.nslots = opts->nslots ? opts->nslots : 16384,
		.nops = opts->nops ? opts->nops : 4096,
		.nevents = opts->nevents ? opts->nevents : 4096,
		.tx_size = opts->tx_size ? opts->tx_size : 256 << 10,
		.rx_size = opts->rx_size ? opts->rx_size : 256 << 10,
	};
	if (!dmm_arena_geometry_ok(&chan->geom)) {
		ret = -EINVAL;
		goto err_chan;
	}
	chan->fd = memfd_create("dmm-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (chan->fd < 0) {
		ret = -errno;
		goto err_chan;
	}
	if (ftruncate(chan->fd, dmm_arena_size(&chan->geom)) ||
	    fcntl(chan->fd, F_ADD_SEALS, SEALS)) {
		ret = -errno;
		goto err_fd;
	}
	ret = chan_map(chan, chan->fd);
	if (ret)
		goto err_fd;
	*chan->hdr = chan->geom;
	*chanp = chan;
	return 0;

err_fd:
	close(chan->fd);
err_chan:
	free(chan);
	return ret;
}

int dmm_chan_map(struct dmm_chan **chanp, int fd)
{
	struct dmm_chan *chan;
	struct stat st;
	int seals, ret;

	if (fstat(fd, &st))
		return -errno;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPROTO;
	chan = calloc(1, sizeof(*chan));
	if (!chan)
		return -ENOMEM;
	chan->fd = -1;
	/* the copy that is checked is the one that is used from now on */
	if (pread(fd, &chan->geom, sizeof(chan->geom), 0) !=
		    sizeof(chan->geom) ||
	    chan->geom.magic != DMM_ARENA_MAGIC ||
	    chan->geom.version != DMM_ABI_VERSION ||
	    !dmm_arena_geometry_ok(&chan->geom) ||
	    (__u64)st.st_size != dmm_arena_size(&chan->geom)) {
		ret = -EPROTO;
		goto err_chan;
	}
	ret = chan_map(chan, fd);
	if (ret)
		goto err_chan;
	*chanp = chan;
	return 0;

err_chan:
	free(chan);
	return ret;
}

void dmm_chan_destroy(struct dmm_chan *chan)
{
	if (!chan)
		return;
	munmap(chan->hdr, chan->len);
	if (chan->fd >= 0)
		close(chan->fd);
	free(chan->rings);
	free(chan);
}

int dmm_chan_fd(const struct dmm_chan *chan)
{
	return chan->fd;
}

__u32 dmm_chan_nslots(const struct dmm_chan *chan)
{
	return chan->geom.nslots;
}

struct dmm_ring *dmm_chan_tx(struct dmm_chan *chan, __u32 slot)
{
	return &chan->rings[2 * (size_t)slot];
}

struct dmm_ring *dmm_chan_rx(struct dmm_chan *chan, __u32 slot)
{
	return &chan->rings[2 * (size_t)slot + 1];
}

void dmm_chan_slot_open(struct dmm_chan *chan, __u32 slot)
{
	if (!chan->stack)
		memset(slot_of(chan, slot), 0, sizeof(struct dmm_slot));
	view_tx(chan, slot, dmm_chan_tx(chan, slot));
	view_rx(chan, slot, dmm_chan_rx(chan, slot));
}

void dmm_chan_slot_info(struct dmm_chan *chan, __u32 slot,
			const struct dmm_slot_info *info)
{
	struct dmm_slot *s = slot_of(chan, slot);

	store_relaxed(&s->srtt_us, info->srtt_us);
	store_relaxed(&s->snd_cwnd, info->snd_cwnd);
	store_relaxed(&s->snd_mss, info->snd_mss);
	store_relaxed(&s->retrans, info->retrans);
}

bool dmm_chan_trim(struct dmm_chan *chan, __u32 slot)
{
	struct dmm_ring *rx = dmm_chan_rx(chan, slot);

	/* pairs with the release in let_go_if_idle() of kmod */
	if (rx->index == rx->trimmed ||
	    load_acquire(&slot_of(chan, slot)->rx_idle) != rx->index ||
	    dmm_ring_used(rx))
		return false;
	rx->trimmed = rx->index;
	return !fallocate(chan->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  dmm_arena_rx_off(&chan->geom, slot),
			  chan->geom.rx_size);
}

int dmm_chan_tx_used(struct dmm_chan *chan, __u32 slot, bool *more)
{
	struct dmm_ring *tx = dmm_chan_tx(chan, slot);
	int used = dmm_ring_used(tx);

	/* written before the index that dmm_ring_used() acquired */
	*more = load_relaxed(&slot_of(chan, slot)->tx_more) == tx->seen;
	return used;
}

__u32 dmm_chan_opt_seq(struct dmm_chan *chan, __u32 slot)
{
	return load_relaxed(&slot_of(chan, slot)->opt_seq);
}

__u32 dmm_chan_tx_sent(struct dmm_chan *chan, __u32 slot, __u32 len)
{
	__u32 sent = dmm_chan_tx(chan, slot)->index + len;

	store_relaxed(&slot_of(chan, slot)->tx_sent, sent);
	return sent;
}

int dmm_chan_op_get(struct dmm_chan *chan, struct dmm_op *op)
{
	return msg_ring_get(&chan->in, op);
}

__u32 dmm_chan_ops_waiting(const struct dmm_chan *chan)
{
	return msg_ring_waiting(&chan->in);
}

void dmm_chan_op_done(struct dmm_chan *chan)
{
	msg_ring_flush(&chan->in);
}

bool dmm_chan_op_backlog(struct dmm_chan *chan)
{
	/* op_cons before the look at op_backlog; pairs with dmm_ops_post() of kmod */
	full_barrier();
	return load_relaxed(&chan->hdr->op_backlog);
}

int dmm_chan_event_put(struct dmm_chan *chan, const struct dmm_event *ev)
{
	return msg_ring_put(&chan->out, ev);
}

__u32 dmm_chan_event_flush(struct dmm_chan *chan)
{
	return msg_ring_flush(&chan->out);
}

bool dmm_chan_event_unread(const struct dmm_chan *chan)
{
	return load_relaxed(&chan->hdr->ev_cons) != chan->out.published;
}

bool dmm_chan_client_polls(struct dmm_chan *chan)
{
	full_barrier();
	return load_relaxed(&chan->hdr->ev_polling);
}

void dmm_chan_stack_cpu(struct dmm_chan *chan, __u32 cpu)
{
	store_relaxed(&chan->hdr->stack_cpu, cpu);
}

__u32 dmm_chan_client_cpu(const struct dmm_chan *chan)
{
	return load_relaxed(&chan->hdr->client_cpu);
}

void dmm_chan_full(struct dmm_chan *chan, bool full)
{
	store_relaxed(&chan->hdr->full, full);
}

bool dmm_chan_sleep(struct dmm_chan *chan, __u32 how)
{
	if (how) {
		chan->sleep_seq += DMM_SLEEP_SEQ;
		how |= chan->sleep_seq;
	}
	store_relaxed(&chan->hdr->sleeping, how);
	if (!how)
		return false;
	/* sleeping before the look at op_prod; pairs with dmm_chan_op_flush() */
	full_barrier();
	return msg_ring_pending(&chan->in);
}

int dmm_chan_op_put(struct dmm_chan *chan, const struct dmm_op *op)
{
	return msg_ring_put(&chan->out, op);
}

bool dmm_chan_op_flush(struct dmm_chan *chan)
{
	__u32 sleeping;

	if (!msg_ring_flush(&chan->out))
		return false;
	/* op_prod before the look at sleeping; pairs with dmm_chan_sleep() */
	full_barrier();
	sleeping = load_relaxed(&chan->hdr->sleeping);
	if (!sleeping || sleeping == chan->rung)
		return false;
	chan->rung = sleeping;
	return true;
}

int dmm_chan_event_get(struct dmm_chan *chan, struct dmm_event *ev)
{
	return msg_ring_get(&chan->in, ev);
}

void dmm_chan_event_done(struct dmm_chan *chan)
{
	msg_ring_flush(&chan->in);
}
