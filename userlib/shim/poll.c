// SPDX-License-Identifier: Apache-2.0
/* poll() and select() of sets that have sockets of ours in them. */
#include <stdlib.h>

#include "shim.h"

#define ON_STACK	64

/*
 * @p, @n: the program's set
 * @k: the same for the kernel, without our streams, and with this thread's epoll after it
 * @nkernel: how many of @k mean something
 */
struct set {
	struct pollfd *p;
	struct pollfd *k;
	nfds_t n;
	nfds_t nkernel;
};

/* The part of our own; how many are ready. */
static int look(struct set *set, bool arm)
{
	struct obj *o;
	int ready = 0;
	nfds_t i;

	for (i = 0; i < set->n; i++) {
		struct pollfd *p = &set->p[i];

		p->revents = 0;
		o = fd_obj(p->fd);
		if (!o)
			continue;
		if (o->kind == OBJ_SOCK)
			p->revents = sock_mask((struct vsock *)o, arm) &
				     (p->events | POLLERR | POLLHUP);
		else if (p->events & POLLIN && ep_pollable((struct ep *)o))
			p->revents = POLLIN;
		ready += !!p->revents;
	}
	return ready;
}

/* Put the kernel's answers in; how many are ready in all. */
static int merge(struct set *set)
{
	int ready = 0;
	nfds_t i;

	for (i = 0; i < set->n; i++) {
		if (set->k[i].fd >= 0) {
			struct obj *o = fd_obj(set->p[i].fd);

			/* an epoll may be readable by our event fds alone */
			if (!set->k[i].revents || !o || o->kind == OBJ_SOCK ||
			    ep_native_ready((struct ep *)o, set->p[i].fd))
				set->p[i].revents |= set->k[i].revents;
		}
		ready += !!set->p[i].revents;
	}
	return ready;
}

static void prepare(struct set *set)
{
	nfds_t i;

	set->nkernel = 0;
	for (i = 0; i < set->n; i++) {
		set->k[i] = set->p[i];
		if (fd_stream(set->p[i].fd))
			set->k[i].fd = -1;
		else
			set->nkernel += set->p[i].fd >= 0;
	}
}

static bool any_waiting(void *arg)
{
	unsigned int i, n = load_acquire(&nctx);

	for (i = 0; i < n; i++)
		if (!ctxs[i]->dead && events_waiting(ctxs[i]))
			return true;
	return false;
}

/* A listener, or an epoll that may have one: is its stack there again? */
static void relisten_polled(const struct set *set)
{
	struct obj *o;
	nfds_t i;

	for (i = 0; i < set->n; i++) {
		o = fd_obj(set->p[i].fd);
		if (o && o->kind == OBJ_SOCK)
			relisten_one(set->p[i].fd, (struct vsock *)o);
		else if (o)
			relisten_all();
	}
}

static int set_poll(struct set *set, uint64_t deadline, const sigset_t *mask)
{
	struct timespec zero = { 0 };
	unsigned int asleep;
	int ep, ret;

	prepare(set);
	for (;;) {
		if (unlikely(load_relaxed(&relisten_due)))
			relisten_polled(set);
		events_take_all(false);
		ret = look(set, false);
		if ((ret || !deadline) && set->nkernel) {
			real.ppoll(set->k, set->n, &zero, NULL);
			ret = merge(set);
		}
		if (ret || !deadline)
			return ret;
		if (!set->nkernel && !mask && spin_until(any_waiting, NULL, deadline))
			continue;
		ep = thread_epoll();
		if (ep < 0)
			return ep;
		asleep = sleep_begin();
		events_take_all(true);
		ret = look(set, true);
		if (!ret) {
			set->k[set->n] = (struct pollfd) { .fd = ep, .events = POLLIN };
			ret = poll_for(set->k, set->n + 1, deadline, mask);
			sleep_end(asleep);
			if (ret <= 0) {
				events_take_all(false);
				return ret < 0 ? ret : look(set, false);
			}
			if (set->k[set->n].revents)
				thread_epoll_read();
			events_take_all(false);
			look(set, false);
			ret = merge(set);
			if (ret)
				return ret;
		} else {
			sleep_end(asleep);
		}
	}
}

static int do_poll(struct pollfd *p, nfds_t n, uint64_t ns, const sigset_t *mask)
{
	struct pollfd room[ON_STACK + 1];
	struct set set = { .p = p, .k = room, .n = n };
	int ret;

	if (n > ON_STACK) {
		set.k = malloc((n + 1) * sizeof(*p));
		if (!set.k)
			return -ENOMEM;
	}
	ret = set_poll(&set, deadline_in(ns), mask);
	if (set.k != room)
		free(set.k);
	return ret;
}

/* The price that a native set pays. */
static bool has_ours(const struct pollfd *p, nfds_t n)
{
	nfds_t i;

	if (!load_relaxed(&nctx))
		return false;
	for (i = 0; i < n; i++)
		if (unlikely(fd_obj(p[i].fd)))
			return true;
	return false;
}

static int result(int ret)
{
	if (ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}

static uint64_t ms_to_ns(int ms)
{
	return ms < 0 ? FOREVER : ms * (NSEC / 1000);
}

static uint64_t ts_to_ns(const struct timespec *ts)
{
	return ts ? ts->tv_sec * NSEC + ts->tv_nsec : FOREVER;
}

ENTRY(int, poll, (struct pollfd *p, nfds_t n, int ms))
{
	if (likely(!has_ours(p, n)))
		return real.poll(p, n, ms);
	return result(do_poll(p, n, ms_to_ns(ms), NULL));
}

ENTRY(int, __poll_chk, (struct pollfd *p, nfds_t n, int ms, size_t size))
{
	if (size / sizeof(*p) < n || likely(!has_ours(p, n)))
		return real.__poll_chk(p, n, ms, size);
	return result(do_poll(p, n, ms_to_ns(ms), NULL));
}

ENTRY(int, ppoll, (struct pollfd *p, nfds_t n, const struct timespec *ts,
		   const sigset_t *mask))
{
	if (likely(!has_ours(p, n)))
		return real.ppoll(p, n, ts, mask);
	return result(do_poll(p, n, ts_to_ns(ts), mask));
}

ENTRY(int, __ppoll_chk, (struct pollfd *p, nfds_t n, const struct timespec *ts,
			 const sigset_t *mask, size_t size))
{
	if (size / sizeof(*p) < n || likely(!has_ours(p, n)))
		return real.__ppoll_chk(p, n, ts, mask, size);
	return result(do_poll(p, n, ts_to_ns(ts), mask));
}

/* ---- select() ----------------------------------------------------------------------------- */

typedef unsigned long word_t;
#define BITS		(8 * sizeof(word_t))

/* By hand: a set may be larger than FD_SETSIZE, which FD_ISSET() does not allow. */
static bool bit(const fd_set *set, int fd)
{
	return set && ((const word_t *)set)[fd / BITS] >> fd % BITS & 1;
}

static void put(fd_set *set, int fd)
{
	((word_t *)set)[fd / BITS] |= 1UL << fd % BITS;
}

static bool select_ours(int n, const fd_set *r, const fd_set *w, const fd_set *e)
{
	int fd;

	if (!load_relaxed(&nctx))
		return false;
	for (fd = 0; fd < n; fd++)
		if (fd_obj(fd) && (bit(r, fd) || bit(w, fd) || bit(e, fd)))
			return true;
	return false;
}

static void clear(fd_set *set, int n)
{
	if (set)
		memset(set, 0, (n + BITS - 1) / BITS * sizeof(word_t));
}

/* As the kernel makes select() of poll(). */
#define SEL_IN	(POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)
#define SEL_OUT	(POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)

static int do_select(int n, fd_set *r, fd_set *w, fd_set *e, uint64_t ns,
		     const sigset_t *mask)
{
	struct pollfd room[ON_STACK], *p = room;
	int fd, k = 0, i, ret, count = 0;

	if (n > ON_STACK)
		p = malloc(n * sizeof(*p));
	if (!p)
		return -ENOMEM;
	for (fd = 0; fd < n; fd++) {
		short ev = (bit(r, fd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) |
			   (bit(w, fd) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) |
			   (bit(e, fd) ? POLLPRI : 0);

		if (ev)
			p[k++] = (struct pollfd) { .fd = fd, .events = ev };
	}
	ret = do_poll(p, k, ns, mask);
	for (i = 0; ret > 0 && i < k; i++)
		if (p[i].revents & POLLNVAL)
			ret = -EBADF;
	if (ret < 0)
		goto out;
	for (i = 0; i < k; i++) {
		/* what was asked for, before the sets are cleared */
		p[i].events = (bit(r, p[i].fd) ? 1 : 0) | (bit(w, p[i].fd) ? 2 : 0) |
			      (bit(e, p[i].fd) ? 4 : 0);
	}
	clear(r, n);
	clear(w, n);
	clear(e, n);
	for (i = 0; i < k; i++) {
		if (p[i].events & 1 && p[i].revents & SEL_IN) {
			put(r, p[i].fd);
			count++;
		}
		if (p[i].events & 2 && p[i].revents & SEL_OUT) {
			put(w, p[i].fd);
			count++;
		}
		if (p[i].events & 4 && p[i].revents & POLLPRI) {
			put(e, p[i].fd);
			count++;
		}
	}
	ret = count;
out:
	if (p != room)
		free(p);
	return ret;
}

ENTRY(int, select, (int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv))
{
	uint64_t ns = FOREVER, start = 0, gone;
	int ret;

	if (n < 0 || likely(!select_ours(n, r, w, e)))
		return real.select(n, r, w, e, tv);
	if (tv) {
		if (tv->tv_sec < 0 || tv->tv_usec < 0)
			return result(-EINVAL);
		ns = tv->tv_sec * NSEC + tv->tv_usec * 1000ULL;
		start = now_ns();
	}
	ret = do_select(n, r, w, e, ns, NULL);
	if (tv) {
		gone = now_ns() - start;
		ns = gone < ns ? ns - gone : 0;
		tv->tv_sec = ns / NSEC;
		tv->tv_usec = ns % NSEC / 1000;
	}
	return result(ret);
}

ENTRY(int, pselect, (int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *ts,
		     const sigset_t *mask))
{
	if (n < 0 || likely(!select_ours(n, r, w, e)))
		return real.pselect(n, r, w, e, ts, mask);
	return result(do_select(n, r, w, e, ts_to_ns(ts), mask));
}
