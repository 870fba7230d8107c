// SPDX-License-Identifier: Apache-2.0
/*
 * The message rings. The barriers are those of kmod/channel.c and userlib/lib, whose
 * letters stand here; the worker is as hostile to us as we are to it.
 */
#include <sched.h>
#include <unistd.h>

#include "shim.h"

#define SETTLE_TRIES	200	/* times 50 us and more */
#define FULL_LOOKS	64	/* at a full op ring, before asking whether anybody is there */
#define HOLD_NS		200000	/* how long an op may wait for a worker that left us its CPU */
#define HASTY_SLEEPS	64	/* for so many sleeps none does, once one waited longer */
#define HASTY_MAX	(1U << 20)

/*
 * Ring, if the worker sleeps in one of these ways; once for each of its sleeps. After
 * a full barrier.
 */
static void bell_ring(struct ctx *c, uint32_t ways)
{
	uint32_t sleeping = load_relaxed(&c->arena->sleeping);
	uint64_t one = 1;
	int err = errno;

	if (!(sleeping & ways) || sleeping == load_relaxed(&c->rung))
		return;
	if (real.write(c->bell, &one, sizeof(one)) < 0) {
		/* EAGAIN: it is full, so it will wake */
	}
	errno = err;
	/* after it: another thread may not rely on what is still to come */
	store_relaxed(&c->rung, sleeping);
}

/* An op waited for long: none does for a while, four times as long each time. */
static void hurry(struct ctx *c)
{
	c->haste = c->haste ? min(4 * c->haste, (uint32_t)HASTY_MAX) : HASTY_SLEEPS;
	c->hasty = c->haste;
}

/*
 * The worker left us its CPU, and would take it back if it was rung for now. Whoever
 * sends mostly goes to sleep soon, or sends more: then one ring is enough for all of it.
 * Who did something else for long was found out, and does not get to wait.
 */
static bool may_hold(struct ctx *c)
{
	uint64_t now;

	if (load_relaxed(&c->arena->stack_cpu) != my_cpu() || c->hasty)
		return false;
	now = now_ns();
	if (!c->held_ns)
		c->held_ns = now;
	else if (now - c->last_ns > HOLD_NS)
		hurry(c);
	c->last_ns = now;
	if (now - c->held_ns <= HOLD_NS)
		return true;
	c->held_ns = 0;
	return false;
}

static void ops_ring(struct ctx *c)
{
	/* (C) op_prod before the look at sleeping */
	full_barrier();
	if (load_relaxed(&c->arena->sleeping) & DMM_SLEEP_GAVE && may_hold(c))
		return;
	bell_ring(c, DMM_SLEEP_OPS | DMM_SLEEP_GAVE);
}

/* A thread goes to sleep. After a full barrier. */
void ops_release(struct ctx *c)
{
	if (c->held_ns && now_ns() - c->last_ns > HOLD_NS)
		hurry(c);
	else if (c->hasty)
		c->hasty--;
	c->held_ns = 0;
	bell_ring(c, DMM_SLEEP_GAVE);
}

/* Wake all who sleep on this context's event fd. */
void kick(struct ctx *c)
{
	uint64_t one = 1;
	int err = errno;

	if (real.write(c->event_fd, &one, sizeof(one)) < 0) {
		/* as above */
	}
	errno = err;
}

static bool op_ring_room(struct ctx *c, unsigned int n)
{
	/* (B) A consumer's index out of range counts as a full ring. */
	return c->sh->op_prod - load_acquire(&c->arena->op_cons) <= c->geo.nops - n;
}

/**
 * op_send() - messages to the worker, which sees all of them at once
 * @c: the context
 * @op: copied
 * @n: how many
 *
 * Waits for room while the worker lives. Return: 0; -ESHUTDOWN, it does not;
 * -EDEADLK, in a signal handler that came upon another op.
 */
int op_send(struct ctx *c, const struct dmm_op *op, unsigned int n)
{
	struct sh_hdr *sh = c->sh;
	unsigned int looks = 0, i;

	if (load_relaxed(&sh->dead))
		return -ESHUTDOWN;
	if (!lock(&sh->op_lock))
		return -EDEADLK;
	while (unlikely(!op_ring_room(c, n))) {
		ops_ring(c);
		if (++looks % FULL_LOOKS == 0 && ctx_look(c)) {
			unlock(&sh->op_lock);
			return -ESHUTDOWN;
		}
		sched_yield();
	}
	for (i = 0; i < n; i++)
		c->ops[(sh->op_prod + i) & (c->geo.nops - 1)] = op[i];
	sh->op_prod += n;
	store_release(&c->arena->op_prod, sh->op_prod);		/* (A) */
	unlock(&sh->op_lock);
	ops_ring(c);
	return 0;
}

void op_post(struct ctx *c, struct sh_sock *s, uint32_t type)
{
	struct dmm_op op = {
		.op = type,
		.slot = s - c->socks,
		.gen = s->gen,
	};

	op_send(c, &op, 1);
}

/* Under the socket's lock, or before anybody else knows it. */
void op_fill_options(struct ctx *c, struct sh_sock *s, struct dmm_op *op)
{
	struct dmm_slot *shm = &c->slots[s - c->socks];

	*op = (struct dmm_op) {
		.op = DMM_OP_OPTIONS,
		.slot = s - c->socks,
		.gen = s->gen,
		.options = {
			.set = s->opt_set,
			.keepidle = s->keepidle,
			.keepintvl = s->keepintvl,
			.keepcnt = s->keepcnt,
			.user_timeout = s->user_timeout,
			.fin_timeout = s->fin_timeout,
			.rcvbuf = s->rcvbuf,
			.seq = ++s->opt_seq,
			.dscp = s->dscp,
			.ttl = s->ttl,
		},
	};

	/* before the op, and before the bytes that are to wait for it */
	store_release(&shm->opt_seq, s->opt_seq);
}

/* Under the socket's lock. */
void op_post_options(struct ctx *c, struct sh_sock *s)
{
	struct dmm_op op;

	op_fill_options(c, s, &op);
	op_send(c, &op, 1);
}

/* Until the worker has done what it was told, if it does so soon. */
void op_settle(struct ctx *c)
{
	const struct timespec ts = { .tv_nsec = 50000 };
	uint32_t prod = load_relaxed(&c->sh->op_prod);
	int tries, err = errno;

	for (tries = 0; tries < SETTLE_TRIES && !load_relaxed(&c->sh->dead); tries++) {
		if ((int32_t)(load_acquire(&c->arena->op_cons) - prod) >= 0)
			break;
		nanosleep(&ts, NULL);
	}
	errno = err;
}

#define FINAL_EVENTS	(1U << DMM_EV_ERROR | 1U << DMM_EV_TIMEWAIT | 1U << DMM_EV_GONE)

static bool event_deliver(struct ctx *c, const struct dmm_event *ev)
{
	struct sh_sock *s;

	if (ev->ev == DMM_EV_NONE || ev->ev >= __DMM_EV_MAX ||
	    ev->slot >= c->geo.nslots || !ev->gen)
		return false;
	s = &c->socks[ev->slot];
	if (load_relaxed(&s->gen) != ev->gen)
		return false;
	if (ev->ev == DMM_EV_INCOMING)
		return listen_incoming(c, ev->slot, ev);
	/* Nobody has it any more: all that matters is that it is over. */
	if (load_relaxed(&s->flags) & SF_CLOSED) {
		if (1U << ev->ev & FINAL_EVENTS)
			slot_free(c, ev->slot);
		return true;
	}
	if (ev->ev == DMM_EV_RX) {
		sock_dirty(c, s, true, false);
		return true;
	}
	if (ev->ev == DMM_EV_ROOM) {
		sock_dirty(c, s, false, true);
		return true;
	}
	if (ev->ev == DMM_EV_ERROR)
		store_relaxed(&s->pending_err, ev->error);
	__atomic_fetch_or(&s->pending, 1U << ev->ev, __ATOMIC_RELEASE);
	/* its client closed meanwhile, and did not see what we left there */
	if (load_acquire(&s->flags) & SF_CLOSED && 1U << ev->ev & FINAL_EVENTS &&
	    __atomic_fetch_and(&s->pending, ~(1U << ev->ev), __ATOMIC_ACQ_REL) &
		    1U << ev->ev) {
		slot_free(c, ev->slot);
		return true;
	}
	sock_dirty(c, s, true, true);
	return true;
}

static void events_read(struct ctx *c)
{
	struct sh_hdr *sh = c->sh;
	uint32_t prod = load_acquire(&c->arena->ev_prod);	/* (D) */
	struct dmm_event ev;

	if (prod - sh->ev_cons > c->geo.nevents) {
		/* It lost its senses, and with them its sockets. */
		sh->bad_events++;
		real.shutdown(c->sock, SHUT_RDWR);
		ctx_dead(c);
		store_relaxed(&sh->ev_cons, prod);
		return;
	}
	while (sh->ev_cons != prod) {
		memcpy(&ev, &c->events[sh->ev_cons & (c->geo.nevents - 1)],
		       sizeof(ev));
		/* the copy is what is judged: the compiler may not go back for more */
		__asm__ __volatile__("" : "+m"(ev));
		if (!event_deliver(c, &ev))
			sh->bad_events++;
		store_relaxed(&sh->ev_cons, sh->ev_cons + 1);
	}
	store_release(&c->arena->ev_cons, sh->ev_cons);		/* (E) */
}

/**
 * events_take() - take what the worker said
 * @c: the context
 * @wait: not only if nobody else is at it: return after whoever is has finished
 *
 * No lock of a socket may be held. Return: whether there was anything.
 */
bool events_take(struct ctx *c, bool wait)
{
	struct sh_hdr *sh = c->sh;

	if (!wait && !events_waiting(c))
		return false;
	if (wait ? !lock(&sh->ev_lock) : !trylock(&sh->ev_lock))
		return false;
	events_read(c);
	unlock(&sh->ev_lock);
	return true;
}

void events_take_all(bool wait)
{
	unsigned int i, n = load_acquire(&nctx);

	for (i = 0; i < n; i++)
		if (!ctxs[i]->dead)
			events_take(ctxs[i], wait);
}
