// SPDX-License-Identifier: Apache-2.0
/*
 * epoll: the kernel's set stays what it is for all other descriptors; our sockets are
 * not in it, but in a list beside it. The set also holds the contexts' event fds, so who
 * sleeps on it, alone or in another set, is woken when something happens to a socket,
 * and then looks at the list.
 *
 * An item is on its epoll's ready list when it may have something to tell. Events put it
 * there (by way of the bitmap of sh_hdr); epoll_wait() looks and, where there is nothing,
 * or with EPOLLET, takes it off, after it asked the worker to tell of the next change.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shim.h"

#define KERNEL_TURNS	16	/* waits, after which the kernel's half is looked at */
#define IN_EVENTS	(EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLPRI)
#define OUT_EVENTS	(EPOLLOUT | EPOLLWRNORM)
#define MODES		(EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

/*
 * @v, @nested: what it is about; one of them
 * @fd: its number then, which is part of the name
 * @events: as given; 0 after EPOLLONESHOT
 * @seq_in, @seq_out: what of its changes was seen
 * @kernel: it is in the kernel's set, too
 */
struct item {
	LIST_ENTRY(item) on_sock;
	LIST_ENTRY(item) on_ep;
	TAILQ_ENTRY(item) on_ready;
	struct ep *ep;
	struct vsock *v;
	struct ep *nested;
	uint64_t data;
	int fd;
	uint32_t events;
	uint32_t seq_in, seq_out;
	bool ready;
	bool off;
	bool kernel;
};

static struct lock items_lock;
static struct ep *ep_pool;
static LIST_HEAD(, item) nesters;	/* items that are epolls; under items_lock */

void ep_fork(int step)
{
	int fd;

	fork_lock(&items_lock, step);
	for (fd = 0; step > 0 && fd < FD_MAX; fd++)
		if (fd_ep(fd))
			fd_ep(fd)->lock.word = 0;
}

/* ---- lists ---------------------------------------------------------------------------- */

static void ready_put(struct item *i)
{
	if (!lock(&i->ep->lock))
		return;
	if (!i->ready && !i->off) {
		TAILQ_INSERT_TAIL(&i->ep->ready, i, on_ready);
		i->ready = true;
	}
	unlock(&i->ep->lock);
}

/* Under its epoll's lock. */
static void ready_drop(struct item *i)
{
	TAILQ_REMOVE(&i->ep->ready, i, on_ready);
	i->ready = false;
}

/* Under items_lock. */
static void item_free(struct item *i)
{
	if (lock(&i->ep->lock)) {
		if (i->ready)
			ready_drop(i);
		unlock(&i->ep->lock);
	}
	LIST_REMOVE(i, on_sock);
	LIST_REMOVE(i, on_ep);
	free(i);
}

static struct item *item_find(struct ep *ep, struct vsock *v, struct ep *nested, int fd)
{
	struct item *i;

	if (v) {
		LIST_FOREACH(i, &v->items, on_sock)
			if (i->ep == ep && i->fd == fd)
				return i;
	} else {
		LIST_FOREACH(i, &nesters, on_sock)
			if (i->ep == ep && i->nested == nested && i->fd == fd)
				return i;
	}
	return NULL;
}

/* Did anything happen that it is about? Takes note of it. */
static bool item_stirred(struct item *i)
{
	uint32_t in = load_acquire(&i->v->s->seq_in);
	uint32_t out = load_acquire(&i->v->s->seq_out);
	bool stirred = !(i->events & EPOLLET);

	if (in != i->seq_in && (i->events & IN_EVENTS || out != i->seq_out))
		stirred = true;
	if (out != i->seq_out && (i->events & OUT_EVENTS || in != i->seq_in))
		stirred = true;
	i->seq_in = in;
	i->seq_out = out;
	return stirred;
}

static void slot_stirred(struct ctx *c, uint32_t slot)
{
	struct vsock *v = vsock_of(c, slot);
	struct item *i;

	if (!v)
		return;
	LIST_FOREACH(i, &v->items, on_sock)
		if (item_stirred(i))
			ready_put(i);
}

static void collect(struct ctx *c)
{
	uint64_t *words = c->dirty + (size_t)c->proc * c->ndirty, bits;
	uint32_t w;

	if (c->proc >= PROCS) {		/* nobody marks ours: all may be */
		for (w = 0; w < c->geo.nslots; w++)
			if (c->by_slot[w])
				slot_stirred(c, w);
		return;
	}
	for (w = 0; w < c->ndirty; w++) {
		if (likely(!load_relaxed(&words[w])))
			continue;
		bits = __atomic_exchange_n(&words[w], 0, __ATOMIC_ACQUIRE);
		for (; bits; bits &= bits - 1)
			slot_stirred(c, w * 64 + __builtin_ctzll(bits));
	}
}

static bool ctx_died;	/* and nobody has told its items */

/* A worker died: under whatever lock. */
void ep_ctx_dead(void)
{
	store_release(&ctx_died, true);
}

/* All that the dead ones had may have something to tell. */
static void collect_dead(void)
{
	unsigned int k, n = load_acquire(&nctx);
	struct item *i;
	uint32_t slot;

	for (k = 0; k < n; k++)
		for (slot = 0; ctxs[k]->dead && slot < ctxs[k]->geo.nslots; slot++)
			if (ctxs[k]->by_slot[slot])
				LIST_FOREACH(i, &ctxs[k]->by_slot[slot]->items, on_sock)
					ready_put(i);
}

/* What happened goes to the ready lists. @wait: whoever is at it finishes first. */
void ep_collect(bool wait)
{
	unsigned int i, n = load_acquire(&nctx);

	if (wait ? !lock(&items_lock) : !trylock(&items_lock))
		return;
	if (unlikely(load_relaxed(&ctx_died)) &&
	    __atomic_exchange_n(&ctx_died, false, __ATOMIC_ACQUIRE))
		collect_dead();
	for (i = 0; i < n; i++)
		collect(ctxs[i]);
	unlock(&items_lock);
}

/* No number means the socket any more. */
void ep_forget_sock(struct vsock *v)
{
	if (LIST_EMPTY(&v->items) || !lock(&items_lock))
		return;
	while (!LIST_EMPTY(&v->items))
		item_free(LIST_FIRST(&v->items));
	unlock(&items_lock);
}

/*
 * @new is what @old was, to all numbers and epolls; NULL: the kernel's alone, which has
 * it in its own sets already. Return: false, @fd is not @old any more.
 */
bool ep_replace(int fd, struct vsock *old, struct vsock *new)
{
	struct item *i;
	bool any;

	if (!lock(&items_lock))
		return false;
	any = fd_sock(fd) == old &&
	      fd_replace(&old->o, new ? &new->o : NULL);
	while (any && new && (i = LIST_FIRST(&old->items))) {
		LIST_REMOVE(i, on_sock);
		LIST_INSERT_HEAD(&new->items, i, on_sock);
		i->v = new;
		ready_put(i);
	}
	unlock(&items_lock);
	return any;
}

/* No number means the epoll any more. */
void ep_forget(struct ep *ep)
{
	struct item *i, *next;

	if (!lock(&items_lock))
		return;
	while (!LIST_EMPTY(&ep->all))
		item_free(LIST_FIRST(&ep->all));
	for (i = LIST_FIRST(&nesters); i; i = next) {
		next = LIST_NEXT(i, on_sock);
		if (i->nested == ep)
			item_free(i);
	}
	ep->next_free = ep_pool;
	ep_pool = ep;
	unlock(&items_lock);
}

/* ---- epoll_ctl() ------------------------------------------------------------------------ */

/* Ours for @epfd, made at its first use; NULL with -errno, as for no epoll at all. */
static struct ep *ep_get(int epfd, int *err)
{
	struct ep *ep = fd_ep(epfd);
	unsigned int watched = 0, i;

	*err = 0;
	if (ep) {
		*err = watch(epfd, &ep->watched);
		return *err ? NULL : ep;
	}
	*err = (unsigned int)epfd >= FD_MAX ? -EMFILE : watch(epfd, &watched);
	if (*err)
		return NULL;
	if (!lock(&items_lock)) {
		*err = -EDEADLK;
		return NULL;
	}
	ep = ep_pool;
	if (ep)
		ep_pool = ep->next_free;
	else
		ep = malloc(sizeof(*ep));
	if (ep) {
		*ep = (struct ep) {
			.o = { .kind = OBJ_EPOLL },
			.watched = watched,
		};
		LIST_INIT(&ep->all);
		TAILQ_INIT(&ep->ready);
	}
	unlock(&items_lock);
	if (ep) {
		fd_install(epfd, &ep->o);
		for (i = 0; i < nctx; i++)	/* who sleeps there natively */
			kick(ctxs[i]);
	} else {
		*err = -ENOMEM;
	}
	return ep;
}

static void item_insert(struct item *i)
{
	if (i->v)
		LIST_INSERT_HEAD(&i->v->items, i, on_sock);
	else
		LIST_INSERT_HEAD(&nesters, i, on_sock);
	LIST_INSERT_HEAD(&i->ep->all, i, on_ep);
	if (i->nested)
		i->ep->nnested++;
	else if (unlikely(relisten_wanted(i->v)))
		relisten_lost();
	ready_put(i);
}

static int ctl_add(struct ep *ep, int epfd, int fd, struct vsock *v, struct ep *nested,
		   struct epoll_event *ev)
{
	struct item *i = calloc(1, sizeof(*i));
	int ret = 0;

	if (!i)
		return -ENOMEM;
	*i = (struct item) {
		.ep = ep, .v = v, .nested = nested, .fd = fd,
		.events = ev->events, .data = ev->data.u64,
		.kernel = nested || load_relaxed(&v->s->flags) & SF_LISTEN,
	};
	if (!lock(&items_lock)) {
		free(i);
		return -EDEADLK;
	}
	if (v)
		i->v = v = fd_sock(fd) ?: v;	/* ep_replace() */
	if (item_find(ep, v, nested, fd))
		ret = -EEXIST;
	else if (i->kernel && real.epoll_ctl(epfd, EPOLL_CTL_ADD, fd, ev))
		ret = -errno;
	if (!ret)
		item_insert(i);
	else
		free(i);
	unlock(&items_lock);
	return ret;
}

static int ctl_other(struct ep *ep, int epfd, int op, int fd, struct vsock *v,
		     struct ep *nested, struct epoll_event *ev)
{
	struct item *i;
	int ret = 0;

	if (!lock(&items_lock))
		return -EDEADLK;
	if (v)
		v = fd_sock(fd) ?: v;	/* ep_replace() */
	i = item_find(ep, v, nested, fd);
	if (!i)
		ret = -ENOENT;
	else if (i->kernel && real.epoll_ctl(epfd, op, fd, ev))
		ret = -errno;
	if (!ret && op == EPOLL_CTL_DEL) {
		if (nested)
			ep->nnested--;
		item_free(i);
	} else if (!ret) {
		i->events = ev->events;
		i->data = ev->data.u64;
		i->off = false;
		ready_put(i);
	}
	unlock(&items_lock);
	return ret;
}

static int ctl(int epfd, int op, int fd, struct vsock *v, struct ep *nested,
	       struct epoll_event *ev)
{
	struct ep *ep;
	int ret;

	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
		return -EINVAL;
	if (!ev && op != EPOLL_CTL_DEL)
		return -EFAULT;
	ep = op == EPOLL_CTL_ADD ? ep_get(epfd, &ret) : fd_ep(epfd);
	if (!ep)
		return op == EPOLL_CTL_ADD ? ret :
		       real.epoll_ctl(epfd, op, fd, ev) ? -errno : 0;
	if (nested == ep)
		return -EINVAL;
	ret = op == EPOLL_CTL_ADD ? ctl_add(ep, epfd, fd, v, nested, ev) :
				    ctl_other(ep, epfd, op, fd, v, nested, ev);
	/* one that sleeps there has to look again */
	if (!ret && op != EPOLL_CTL_DEL && v && load_relaxed(&v->ctx->sh->sleepers))
		kick(v->ctx);
	return ret;
}

ENTRY(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *ev))
{
	struct obj *o = fd_obj(fd);
	int ret;

	if (likely(!o)) {
		ret = real.epoll_ctl(epfd, op, fd, ev);
		if (op == EPOLL_CTL_ADD && !ret && (unsigned int)fd < FD_MAX &&
		    !(fd_flags[fd] & FD_EPOLLED))
			fd_flags[fd] |= FD_EPOLLED;
		return ret;
	}
	ret = ctl(epfd, op, fd, o->kind == OBJ_SOCK ? (struct vsock *)o : NULL,
		  o->kind == OBJ_EPOLL ? (struct ep *)o : NULL, ev);
	if (ret) {
		errno = -ret;
		return -1;
	}
	return 0;
}

/* ---- sockets that come and go between the kernel's set and ours ------------------------ */

/* One line of fdinfo: "tfd: 5 events: 19 data: 5 ..." */
static void migrate_line(int epfd, const char *line, const int *fds, int n,
			 struct vsock *v, bool keep)
{
	struct epoll_event ev = { 0 };
	unsigned long long data;
	unsigned int events;
	struct item *i;
	struct ep *ep;
	int fd, k, err;

	if (sscanf(line, "tfd: %d events: %x data: %llx", &fd, &events, &data) != 3)
		return;
	for (k = 0; k < n && fds[k] != fd; k++)
		;
	if (k == n)
		return;
	ep = ep_get(epfd, &err);
	i = ep ? calloc(1, sizeof(*i)) : NULL;
	if (!i)
		return;
	if (!keep)
		real.epoll_ctl(epfd, EPOLL_CTL_DEL, fd, &ev);
	*i = (struct item) {
		.ep = ep, .v = v, .fd = fd, .data = data, .events = events,
		.kernel = keep,
	};
	if (!lock(&items_lock)) {
		free(i);
		return;
	}
	item_insert(i);
	unlock(&items_lock);
}

static void migrate_from(int epfd, const int *fds, int n, struct vsock *v, bool keep)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epfd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		migrate_line(epfd, line, fds, n, v, keep);
	if (f)
		fclose(f);
}

#define SAME_MAX	64

/*
 * @fd becomes ours and may be in the kernel's sets: what it was registered for there is
 * known to the kernel alone, and told by /proc. @keep: it stays in them, too.
 */
void ep_migrate(int fd, struct vsock *v, bool keep)
{
	static const char want[] = "anon_inode:[eventpoll]";
	int fds[SAME_MAX + 1], n = 1, err = errno, epfd;
	char path[64], what[64];
	struct dirent *d;
	DIR *dir;
	ssize_t len;

	fds[0] = fd;
	if (fd_flags[fd] & FD_DUPPED)
		n += fd_same(fd, fds + 1, SAME_MAX);
	dir = opendir("/proc/self/fd");
	while (dir && (d = readdir(dir))) {
		epfd = atoi(d->d_name);
		snprintf(path, sizeof(path), "/proc/self/fd/%.20s", d->d_name);
		len = readlink(path, what, sizeof(what));
		if (len == sizeof(want) - 1 && !memcmp(what, want, len) &&
		    !(epfd < FD_MAX && fd_flags[epfd] & FD_INTERNAL))
			migrate_from(epfd, fds, n, v, keep);
	}
	if (dir)
		closedir(dir);
	errno = err;
}

static int ep_number(struct ep *ep)
{
	int fd;

	for (fd = 0; fd < FD_MAX; fd++)
		if (fd_obj(fd) == &ep->o)
			return fd;
	return -1;
}

/* And the other way: what was registered with us is the kernel's again. */
void ep_restore(int fd, struct vsock *v)
{
	struct epoll_event ev;
	struct item *i;

	(void)fd;
	if (!lock(&items_lock))
		return;
	while ((i = LIST_FIRST(&v->items))) {
		ev = (struct epoll_event) { .events = i->events, .data.u64 = i->data };
		if (!i->kernel)
			real.epoll_ctl(ep_number(i->ep), EPOLL_CTL_ADD, i->fd, &ev);
		item_free(i);
	}
	unlock(&items_lock);
}

/* ---- epoll_wait() ------------------------------------------------------------------------- */

static uint32_t item_mask(struct item *i, bool arm)
{
	uint32_t want;

	if (i->nested)
		return ep_pollable(i->nested) ? i->events & EPOLLIN : 0;
	want = (i->events & ~MODES) | EPOLLERR | EPOLLHUP;
	return sock_mask(i->v, arm) & want;
}

/* Is there anything ready in it that is ours? Takes nothing away. */
bool ep_pollable(struct ep *ep)
{
	struct item *i;
	bool found = false;

	events_take_all(false);
	ep_collect(true);
	if (!lock(&ep->lock))
		return false;
	TAILQ_FOREACH(i, &ep->ready, on_ready) {
		found = item_mask(i, true);
		if (found)
			break;
	}
	unlock(&ep->lock);
	return found;
}

/* Up to @max events of our items. */
static int harvest(struct ep *ep, struct epoll_event *evs, int max)
{
	struct item *i, *next, *last;
	uint32_t mask;
	int n = 0;

	if (TAILQ_EMPTY(&ep->ready) || !lock(&ep->lock))
		return 0;
	last = TAILQ_LAST(&ep->ready, item_ready);
	for (i = TAILQ_FIRST(&ep->ready); i && n < max; i = next) {
		next = i == last ? NULL : TAILQ_NEXT(i, on_ready);
		mask = item_mask(i, i->events & EPOLLET);
		if (!mask && !(i->events & EPOLLET) && !i->nested)
			mask = item_mask(i, true);
		if (!mask) {
			/* a nested one is looked at each time */
			if (!i->nested)
				ready_drop(i);
			continue;
		}
		evs[n++] = (struct epoll_event) { .events = mask, .data.u64 = i->data };
		if (i->events & EPOLLONESHOT) {
			i->off = true;
			ready_drop(i);
		} else if (i->events & EPOLLET) {
			ready_drop(i);
		} else if (next) {
			/* others come first next time */
			TAILQ_REMOVE(&ep->ready, i, on_ready);
			TAILQ_INSERT_TAIL(&ep->ready, i, on_ready);
		}
	}
	unlock(&ep->lock);
	return n;
}

/*
 * Is anything of the kernel's ready in it? Our own event fds would say so too, so they
 * are taken out, unless somebody sleeps there and needs them; he then finds out.
 */
bool ep_native_ready(struct ep *ep, int epfd)
{
	struct pollfd p = { .fd = epfd, .events = POLLIN };

	if (!load_relaxed(&ep->nsleep))
		unwatch(epfd, &ep->watched);
	return real.poll(&p, 1, 0) > 0;
}

/* An event of a nested epoll, of which only ours is behind it? */
static bool is_hollow(struct ep *ep, const struct epoll_event *ev)
{
	struct item *i;
	bool hollow = false;

	if (!lock(&items_lock))
		return false;
	LIST_FOREACH(i, &ep->all, on_ep)
		if (i->nested && i->data == ev->data.u64)
			hollow = !ep_native_ready(i->nested, i->fd);
	unlock(&items_lock);
	return hollow;
}

/*
 * The kernel's events at @evs + @mine, without what is ours: event fds, and what our
 * list has told already (a listener, a nested epoll). Return: how many are left.
 */
static int sieve(struct ep *ep, struct epoll_event *evs, int mine, int n, bool *woken)
{
	int i, k, out = mine;

	for (i = mine; i < mine + n; i++) {
		if (watch_event(&evs[i])) {
			*woken = true;
			continue;
		}
		for (k = 0; k < mine; k++)
			if (evs[k].data.u64 == evs[i].data.u64 &&
			    evs[k].events & evs[i].events)
				break;
		if (k < mine)
			continue;
		if (ep->nnested && is_hollow(ep, &evs[i]))
			*woken = true;
		else
			evs[out++] = evs[i];
	}
	return out - mine;
}

static bool any_waiting(void *arg)
{
	unsigned int i, n = load_acquire(&nctx);

	for (i = 0; i < n; i++)
		if (!ctxs[i]->dead && events_waiting(ctxs[i]))
			return true;
	return false;
}

/* One look at both halves; how many. */
static int gather(struct ep *ep, int epfd, struct epoll_event *evs, int max, bool wait)
{
	bool woken = false;
	int n, k;

	events_take_all(wait);
	ep_collect(wait);
	n = harvest(ep, evs, max);
	if (n && (n == max || ++ep->turns % KERNEL_TURNS))
		return n;
	if (!n && wait)
		return 0;
	k = real.epoll_wait(epfd, evs + n, max - n, 0);
	return k > 0 ? n + sieve(ep, evs, n, k, &woken) : n;
}

static int ep_wait(struct ep *ep, int epfd, struct epoll_event *evs, int max,
		   uint64_t deadline, const sigset_t *mask)
{
	unsigned int asleep;
	bool woken;
	int n, ret;

	for (;;) {
		if (unlikely(load_relaxed(&relisten_due)))
			relisten_all();
		/* the kernel is asked only where our half is empty, or now and then */
		events_take_all(false);
		ep_collect(false);
		n = harvest(ep, evs, max);
		if (n && n < max && !(++ep->turns % KERNEL_TURNS)) {
			ret = real.epoll_wait(epfd, evs + n, max - n, 0);
			if (ret > 0)
				n += sieve(ep, evs, n, ret, &woken);
		}
		if (n)
			return n;
		if (!deadline)
			return gather(ep, epfd, evs, max, false);
		if (!mask && spin_until(any_waiting, NULL, deadline))
			continue;
		__atomic_add_fetch(&ep->nsleep, 1, __ATOMIC_RELAXED);
		ret = watch(epfd, &ep->watched);
		asleep = sleep_begin();
		n = ret ?: gather(ep, epfd, evs, max, true);
		if (!n)
			ret = sleep_for(epfd, evs, max, deadline, mask);
		sleep_end(asleep);
		__atomic_sub_fetch(&ep->nsleep, 1, __ATOMIC_RELAXED);
		if (n)
			return n;
		if (ret < 0)
			return ret;
		woken = false;
		n = ret ? sieve(ep, evs, 0, ret, &woken) : 0;
		if (n)
			return n;
		if (!ret || !woken)
			return gather(ep, epfd, evs, max, false);
	}
}

static int ep_wait_ns(int epfd, struct ep *ep, struct epoll_event *evs, int max,
		      uint64_t ns, const sigset_t *mask)
{
	int ret = ep_wait(ep, epfd, evs, max, deadline_in(ns), mask);

	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return ret;
}

/*
 * A native wait ended. If the set got one of ours meanwhile, by another thread, what
 * woke it may have been our event fd: then it goes on as the set now is.
 */
static int native_woken(int epfd, struct epoll_event *evs, int n, int max, uint64_t ns,
			const sigset_t *mask)
{
	struct ep *ep = fd_ep(epfd);
	bool woken = false;

	if (n <= 0 || !ep)
		return n;
	n = sieve(ep, evs, 0, n, &woken);
	return n ? n : ep_wait_ns(epfd, ep, evs, max, ns, mask);
}

static uint64_t ms_to_ns(int ms)
{
	return ms < 0 ? FOREVER : ms * (NSEC / 1000);
}

ENTRY(int, epoll_wait, (int epfd, struct epoll_event *evs, int max, int ms))
{
	struct ep *ep = fd_ep(epfd);

	if (likely(!ep) || max <= 0)
		return native_woken(epfd, evs, real.epoll_wait(epfd, evs, max, ms), max,
				    ms_to_ns(ms), NULL);
	return ep_wait_ns(epfd, ep, evs, max, ms_to_ns(ms), NULL);
}

ENTRY(int, epoll_pwait, (int epfd, struct epoll_event *evs, int max, int ms,
			 const sigset_t *mask))
{
	struct ep *ep = fd_ep(epfd);

	if (likely(!ep) || max <= 0)
		return native_woken(epfd, evs,
				    real.epoll_pwait(epfd, evs, max, ms, mask), max,
				    ms_to_ns(ms), mask);
	return ep_wait_ns(epfd, ep, evs, max, ms_to_ns(ms), mask);
}

ENTRY(int, epoll_pwait2, (int epfd, struct epoll_event *evs, int max,
			  const struct timespec *ts, const sigset_t *mask))
{
	struct ep *ep = fd_ep(epfd);

	if (likely(!ep) || max <= 0 || (ts && (ts->tv_sec < 0 || ts->tv_nsec < 0)))
		return real.epoll_pwait2(epfd, evs, max, ts, mask);
	return ep_wait_ns(epfd, ep, evs, max,
			  ts ? ts->tv_sec * NSEC + ts->tv_nsec : FOREVER, mask);
}
