// SPDX-License-Identifier: Apache-2.0
/*
 * A socket's life and state, as kmod/sock.c and kmod/proto.c have it for adopted ones:
 * sh_sock.state is what TCP's would be, and every check stands in TCP's order.
 */
#include <sys/mman.h>
#include <stdlib.h>
#include <unistd.h>

#include "shim.h"

#define POOL_BYTES	65536
#define SHUT_MASK	3
#define RCV_SHUTDOWN	1
#define SEND_SHUTDOWN	2

/* ---- the private half -------------------------------------------------------------- */

static struct vsock *pool;
static struct lock pool_lock;

void sock_fork(int step)
{
	fork_lock(&pool_lock, step);
}

struct vsock *vsock_new(struct ctx *c, uint32_t slot)
{
	struct vsock *v;
	size_t i;

	if (!lock(&pool_lock))
		return NULL;
	if (!pool) {
		v = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (i = 0; v != MAP_FAILED && i < POOL_BYTES / sizeof(*v); i++) {
			v[i].next_free = pool;
			pool = &v[i];
		}
	}
	v = pool;
	if (v)
		pool = v->next_free;
	unlock(&pool_lock);
	if (!v)
		return NULL;
	v->o = (struct obj) { .kind = OBJ_SOCK };
	v->ctx = c;
	v->s = &c->socks[slot];
	v->slot = slot;
	v->gen = v->s->gen;
	v->shm = &c->slots[slot];
	v->tx = (uint8_t *)c->arena + dmm_arena_tx_off(&c->geo, slot);
	v->rx = (uint8_t *)c->arena + dmm_arena_rx_off(&c->geo, slot);
	v->kfd = -1;
	LIST_INIT(&v->items);
	store_release(&v->users, 1);
	store_release(&c->by_slot[slot], v);
	if (c->proc < PROCS)
		__atomic_fetch_or(&v->s->procs, 1ULL << c->proc, __ATOMIC_ACQ_REL);
	return v;
}

/* This process' half of a slot, if it has one. */
struct vsock *vsock_of(struct ctx *c, uint32_t slot)
{
	struct vsock *v = load_acquire(&c->by_slot[slot]);

	return v && v->gen == load_relaxed(&c->socks[slot].gen) ? v : NULL;
}

void vsock_free(struct vsock *v)
{
	if (load_relaxed(&v->ctx->by_slot[v->slot]) == v)
		store_relaxed(&v->ctx->by_slot[v->slot], NULL);
	if (!lock(&pool_lock))
		return;
	free(v->inherit);
	v->inherit = NULL;
	v->gen = 0;
	v->next_free = pool;
	pool = v;
	unlock(&pool_lock);
}

/* A slot is taken into use: both its halves start anew. */
void sock_slot_open(struct ctx *c, uint32_t slot)
{
	struct dmm_slot *shm = &c->slots[slot];
	struct sh_sock *s = &c->socks[slot];
	uint32_t gen;

	memset(shm, 0, sizeof(*shm));
	/* nobody waits for room in an empty ring */
	store_relaxed(&shm->tx_room_event, 1U << 31);
	memset((char *)s + sizeof(s->lock), 0, sizeof(*s) - sizeof(s->lock));
	s->rcvlowat = 1;
	s->peek_off = -1;
	s->nprocs = 1;
	s->keepidle = 7200;
	s->keepintvl = 75;
	s->keepcnt = 9;
	do {
		gen = __atomic_add_fetch(&c->sh->gen, 1, __ATOMIC_RELAXED);
	} while (!gen);
	store_release(&s->gen, gen);
}

/* ---- users and the end ------------------------------------------------------------- */

/* A call that may sleep has it: close() only takes the number. */
void sock_user(struct vsock *v)
{
	__atomic_add_fetch(&v->users, 1, __ATOMIC_ACQUIRE);
}

static bool must_abort(struct vsock *v)
{
	struct sh_sock *s = v->s;

	return s->state == TCP_SYN_SENT || sock_inq(v) || sock_rx_broken(v) ||
	       (s->linger_on && !s->linger_s);
}

static bool state_lingers(uint32_t state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_CLOSING || state == TCP_LAST_ACK;
}

/* SO_LINGER: until the peer has everything. */
static void linger(struct vsock *v)
{
	uint64_t deadline = deadline_in(v->s->linger_s * NSEC);
	struct epoll_event evs[8];
	int ep = thread_epoll(), i, n;
	unsigned int asleep;
	uint32_t state;

	while (ep >= 0) {
		asleep = sleep_begin();
		events_take_all(true);
		if (!lock(&v->s->lock)) {
			sleep_end(asleep);
			return;
		}
		sock_apply(v->ctx, v->s);
		state = v->s->state;
		unlock(&v->s->lock);
		n = -1;
		if (state_lingers(state)) {
			n = sleep_for(ep, evs, 8, deadline, NULL);
			for (i = 0; i < n; i++)
				watch_event(&evs[i]);
		}
		sleep_end(asleep);
		if (n <= 0)
			return;
	}
}

/*
 * Ours is over; @abort_it: the connection, too. Under no lock. The slot is free as soon
 * as the stack has said its last word.
 */
void sock_forget(struct ctx *c, uint32_t slot, bool abort_it)
{
	struct sh_sock *s = &c->socks[slot];
	uint32_t final = 1U << DMM_EV_ERROR | 1U << DMM_EV_TIMEWAIT | 1U << DMM_EV_GONE;

	if (abort_it && !(load_relaxed(&s->flags) & SF_FINAL))
		op_post(c, s, DMM_OP_ABORT);
	__atomic_fetch_or(&s->flags, SF_CLOSED, __ATOMIC_ACQ_REL);
	if (load_relaxed(&s->flags) & SF_FINAL || load_relaxed(&c->sh->dead) ||
	    __atomic_fetch_and(&s->pending, ~final, __ATOMIC_ACQ_REL) & final)
		slot_free(c, slot);
}

/* The last of the family lets go, under the socket's lock. Return: to be aborted. */
static bool sock_close_state(struct vsock *v)
{
	struct sh_sock *s = v->s;

	sock_apply(v->ctx, s);
	if (s->state == TCP_CLOSE)
		return !(s->flags & SF_FINAL);
	if (must_abort(v)) {
		s->state = TCP_CLOSE;
		return true;
	}
	if (s->state == TCP_ESTABLISHED)
		s->state = TCP_FIN_WAIT1;
	else if (s->state == TCP_CLOSE_WAIT)
		s->state = TCP_LAST_ACK;
	s->shutdown = SHUT_MASK;
	op_post(v->ctx, s, DMM_OP_CLOSE);
	return false;
}

static void vsock_end(struct vsock *v)
{
	struct ctx *c = v->ctx;
	struct sh_sock *s = v->s;
	bool last, abort_it = false;
	int kfd = v->kfd;

	ep_forget_sock(v);
	if (!lock(&s->lock))
		return;
	if (s->gen != v->gen) {
		unlock(&s->lock);
		goto out;
	}
	if (c->proc < PROCS)
		__atomic_fetch_and(&s->procs, ~(1ULL << c->proc), __ATOMIC_ACQ_REL);
	if (s->nprocs)
		s->nprocs--;
	last = !s->nprocs && !(s->flags & SF_PASSED);
	if (last && s->flags & SF_LISTEN) {
		s->state = TCP_CLOSE;
		abort_it = true;
	} else if (last) {
		abort_it = sock_close_state(v);
	}
	unlock(&s->lock);
	if (last) {
		if (s->flags & SF_LISTEN) {
			listen_drain(c, s);
			op_post(c, s, DMM_OP_ABORT);
			op_settle(c);
			abort_it = false;
		}
		if (!(s->flags & SF_LISTEN) && !abort_it && s->linger_on && state_lingers(s->state))
			linger(v);
		sock_forget(c, v->slot, abort_it);
	}
out:
	if (kfd >= 0) {
		fd_unhide(kfd);
		real.close(kfd);
	}
	vsock_free(v);
}

void sock_unuser(struct vsock *v)
{
	if (!__atomic_sub_fetch(&v->users, 1, __ATOMIC_ACQ_REL))
		vsock_end(v);
}

/* No number of this process means it any more. */
void sock_let_go(struct vsock *v)
{
	int err = errno;

	ep_forget_sock(v);
	sock_unuser(v);
	errno = err;
}

/* ---- events ------------------------------------------------------------------------ */

static uint32_t error_checked(const struct sh_sock *s, uint32_t err)
{
	switch (err) {
	case ECONNREFUSED:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENOBUFS:
		return err;
	default:
		return s->state == TCP_CLOSE_WAIT ? EPIPE : ECONNRESET;
	}
}

/* The connection is no more; under the lock. */
void sock_reset(struct sh_sock *s, uint32_t err)
{
	if (s->state == TCP_CLOSE)
		return;
	s->err = error_checked(s, err);
	s->state = TCP_CLOSE;
	s->shutdown = SHUT_MASK;
}

static void apply_fin(struct sh_sock *s)
{
	if (s->state == TCP_ESTABLISHED)
		s->state = TCP_CLOSE_WAIT;
	else if (s->state == TCP_FIN_WAIT1)
		s->state = TCP_CLOSING;
	else if (s->state != TCP_FIN_WAIT2)
		return;
	s->shutdown |= RCV_SHUTDOWN;
	s->flags |= SF_DONE;
}

static void apply_end(struct sh_sock *s, uint32_t ev)
{
	bool closing = s->state == TCP_FIN_WAIT1 || s->state == TCP_FIN_WAIT2 ||
		       s->state == TCP_CLOSING || s->state == TCP_LAST_ACK;

	s->flags |= SF_FINAL;
	if (ev & 1U << DMM_EV_ERROR) {
		sock_reset(s, s->pending_err);
	} else if (closing) {
		s->state = TCP_CLOSE;
		s->shutdown = SHUT_MASK;
		s->flags |= SF_DONE;
	} else {
		sock_reset(s, ECONNRESET);
	}
}

/* Take up what events_take() left; under the lock. */
void sock_apply(struct ctx *c, struct sh_sock *s)
{
	uint32_t ev = 0;

	if (load_relaxed(&s->pending))
		ev = __atomic_exchange_n(&s->pending, 0, __ATOMIC_ACQUIRE);
	if (s->flags & SF_LISTEN)
		return;
	if (ev & 1U << DMM_EV_CONNECTED && s->state == TCP_SYN_SENT)
		s->state = TCP_ESTABLISHED;
	if (ev & 1U << DMM_EV_FIN_ACKED && s->state == TCP_FIN_WAIT1)
		s->state = TCP_FIN_WAIT2;
	if (ev & 1U << DMM_EV_FIN)
		apply_fin(s);
	if (ev & (1U << DMM_EV_ERROR | 1U << DMM_EV_TIMEWAIT | 1U << DMM_EV_GONE))
		apply_end(s, ev);
	if (unlikely(load_relaxed(&c->sh->dead)))
		sock_reset(s, ECONNRESET);
}

/*
 * Lock a socket and take up its events. False with *@err set: it is another's by now,
 * or this thread has it already (in a signal handler).
 */
bool sock_lock(struct vsock *v, int *err)
{
	struct sh_sock *s = v->s;

	if (unlikely(!lock(&s->lock))) {
		*err = -EDEADLK;
		return false;
	}
	if (unlikely(s->gen != v->gen)) {
		unlock(&s->lock);
		*err = -EBADF;
		return false;
	}
	if (unlikely(load_relaxed(&s->pending) || load_relaxed(&v->ctx->sh->dead)))
		sock_apply(v->ctx, s);
	return true;
}

/* ---- readiness --------------------------------------------------------------------- */

/*
 * Ask to hear of the next change of an index that the worker writes; as arm() of
 * kmod/sock.c, and with the same barriers.
 */
static void arm(uint32_t *event, uint32_t *index, uint32_t offset)
{
	int tries = 4;
	uint32_t seen;

	do {
		seen = load_relaxed(index);
		store_relaxed(event, seen + offset);
		full_barrier();
	} while (load_relaxed(index) != seen && --tries);
}

static bool readable(const struct vsock *v)
{
	uint32_t avail = load_acquire(&v->shm->rx_prod) - load_relaxed(&v->s->rx_cons);
	uint32_t want = min(load_relaxed(&v->s->rcvlowat), v->ctx->geo.rx_size / 2);

	/* a broken ring is readable: recv() tells why */
	return avail >= want;
}

/* A quarter of the ring, so that a writer is not woken for each segment. */
static bool writeable(const struct vsock *v)
{
	uint32_t limit = sock_tx_limit(v);
	uint32_t used = load_relaxed(&v->s->tx_prod) - load_acquire(&v->shm->tx_cons);

	return used > v->ctx->geo.tx_size || used + limit / 4 <= limit;
}

/**
 * sock_mask() - what poll() would say
 * @v: the socket, a listener's stack side included
 * @arm_it: ask the worker to tell of what is missing
 *
 * Without the lock, unless there are events to take up.
 */
uint32_t sock_mask(struct vsock *v, bool arm_it)
{
	struct sh_sock *s = v->s;
	uint32_t mask = 0, state, shut;
	int err;

	if (unlikely(load_relaxed(&s->pending) || load_relaxed(&v->ctx->sh->dead)) &&
	    sock_lock(v, &err))
		unlock(&s->lock);
	if (load_relaxed(&s->flags) & SF_LISTEN)
		return load_acquire(&s->qlen) ? EPOLLIN | EPOLLRDNORM : 0;

	state = load_acquire(&s->state);
	shut = load_relaxed(&s->shutdown);
	if (shut == SHUT_MASK || state == TCP_CLOSE)
		mask |= EPOLLHUP;
	if (shut & RCV_SHUTDOWN)
		mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
	if (state != TCP_SYN_SENT) {
		if (arm_it && state != TCP_CLOSE)
			arm(&v->shm->rx_event, &v->shm->rx_prod, 0);
		if (readable(v))
			mask |= EPOLLIN | EPOLLRDNORM;
		if (shut & SEND_SHUTDOWN || writeable(v)) {
			mask |= EPOLLOUT | EPOLLWRNORM;
		} else if (arm_it) {
			arm(&v->shm->tx_room_event, &v->shm->tx_cons,
			    sock_tx_limit(v) / 4 - 1);
			if (writeable(v))
				mask |= EPOLLOUT | EPOLLWRNORM;
		}
	}
	if (load_relaxed(&s->err) || load_relaxed(&s->zc_next) != load_relaxed(&s->zc_told))
		mask |= EPOLLERR;
	return mask;
}

struct look {
	struct vsock *v;
	uint32_t want;
};

static bool look(void *arg)
{
	struct look *l = arg;

	return events_waiting(l->v->ctx) || sock_mask(l->v, false) & l->want;
}

/**
 * sock_wait() - sleep until a socket may be ready
 * @v: the socket; the caller is its user and holds no lock
 * @want: EPOLL*, beside errors
 * @deadline: ns, or FOREVER
 * @fd: also wait for this to be readable; -1
 *
 * Return: 0, look again; -ETIMEDOUT; -EINTR; or why it cannot sleep.
 */
int sock_wait(struct vsock *v, uint32_t want, uint64_t deadline, int fd)
{
	struct look l = { .v = v, .want = want | EPOLLERR | EPOLLHUP };
	struct epoll_event evs[8];
	struct pollfd p[2];
	unsigned int asleep;
	int ep, i, n;

	if (fd < 0 && spin_until(look, &l, deadline)) {
		events_take(v->ctx, false);
		return 0;
	}
	ep = thread_epoll();
	if (ep < 0)
		return ep;
	asleep = sleep_begin();
	events_take_all(true);
	if (sock_mask(v, true) & l.want) {
		sleep_end(asleep);
		return 0;
	}
	if (fd < 0) {
		n = sleep_for(ep, evs, 8, deadline, NULL);
		for (i = 0; i < n; i++)
			watch_event(&evs[i]);
	} else {
		p[0] = (struct pollfd) { .fd = fd, .events = POLLIN };
		p[1] = (struct pollfd) { .fd = ep, .events = POLLIN };
		n = poll_for(p, 2, deadline, NULL);
		if (n > 0 && p[1].revents)
			thread_epoll_read();
	}
	sleep_end(asleep);
	if (!n)
		return -ETIMEDOUT;
	events_take(v->ctx, false);
	return n < 0 ? n : 0;
}

/* ---- shutdown ---------------------------------------------------------------------- */

/* What changed is no message's doing: wake all who wait for it. */
static void sock_changed(struct vsock *v)
{
	sock_dirty(v->ctx, v->s, true, true);
	kick(v->ctx);
}

/* As inet_shutdown() and tcp_shutdown(). */
int sock_shutdown(int fd, struct vsock *v, int how)
{
	struct sh_sock *s = v->s;
	int ret = 0, err;

	how++;
	if (how & ~SHUT_MASK || !how)
		return -EINVAL;
	if (load_relaxed(&s->flags) & SF_LISTEN) {
		ret = real.shutdown(kernel_fd(v, fd), how - 1) ? -errno : 0;
		if (!ret && how & RCV_SHUTDOWN) {
			/* the listener is no more: the socket is as before listen() */
			sock_dirty(v->ctx, s, true, true);
			if (sock_lock(v, &err)) {
				s->state = TCP_CLOSE;
				unlock(&s->lock);
			}
			op_post(v->ctx, s, DMM_OP_ABORT);
			op_settle(v->ctx);
			listen_drain(v->ctx, s);
			kick(v->ctx);
		}
		return ret;
	}
	if (!sock_lock(v, &err))
		return err;
	if (s->state == TCP_SYN_SENT) {
		op_post(v->ctx, s, DMM_OP_ABORT);
		s->err = ECONNRESET;
		s->state = TCP_CLOSE;
		s->shutdown = SHUT_MASK;
	} else {
		if (s->state == TCP_CLOSE)
			ret = -ENOTCONN;
		s->shutdown |= how;
		if (how & SEND_SHUTDOWN && s->state == TCP_ESTABLISHED)
			s->state = TCP_FIN_WAIT1;
		else if (how & SEND_SHUTDOWN && s->state == TCP_CLOSE_WAIT)
			s->state = TCP_LAST_ACK;
		else
			how &= ~SEND_SHUTDOWN;
		if (how & SEND_SHUTDOWN)
			op_post(v->ctx, s, DMM_OP_SHUTDOWN);
	}
	unlock(&s->lock);
	sock_changed(v);
	return ret;
}
