// SPDX-License-Identifier: Apache-2.0
/*
 * Listeners whose worker went away, until one comes back; kmod/relisten.c does the same
 * for adopted ones.
 *
 * The kernel's half of a listener goes on meanwhile. A worker that starts puts its
 * socket where clients look for it, in a directory that we have watched (inotify) since
 * then: its descriptor is in the sets that threads sleep on, beside the contexts' own.
 * Whoever waits for such a listener, in accept(), poll() or an epoll that it is in,
 * looks here first. Nobody else does: of the processes that share a listener each takes
 * a listener of its own from the new worker, and one that never asks for connections
 * should not be given any.
 *
 * Where the directory cannot be watched, those calls alone are the occasions. A worker
 * that is there but does not answer is tried less and less often.
 *
 * The new half is another slot in another context, so it is another struct vsock; it
 * takes over the numbers and the epoll items of the old one, which ends as if closed.
 */
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "shim.h"

#define RETRY_MIN	(NSEC / 4)
#define RETRY_MAX	(30 * NSEC)
#define AT_ONCE		64	/* listeners, at one occasion; the next does the rest */

bool relisten_due;		/* a listener's stack is not there */
static struct lock relisten_lock;
static int notify_fd = -1;	/* under relisten_lock; never closed but after fork() */
static uint64_t scan_at;	/* not before, ns */

void relisten_fork(int step)
{
	fork_lock(&relisten_lock, step);
	if (step <= 0 || notify_fd < 0)
		return;
	/* the parent's: what is read there, it would miss */
	fd_unhide(notify_fd);
	real.close(notify_fd);
	notify_fd = -1;
}

/* What a thread that may wait for a listener is to be woken by; -1 for nothing. */
int relisten_fd(void)
{
	return load_relaxed(&relisten_due) ? load_relaxed(&notify_fd) : -1;
}

/* A context was found dead, or an epoll has another lost one: under whatever lock. */
void relisten_lost(void)
{
	store_relaxed(&scan_at, 0);
	store_release(&relisten_due, true);
}

static void watch_dir(void)
{
	char dir[108];
	int fd;

	if (notify_fd >= 0 || client_path(dir, sizeof(dir), 0))
		return;
	fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0)
		return;
	if (inotify_add_watch(fd, dir, IN_MOVED_TO | IN_ONLYDIR) < 0)
		real.close(fd);
	else
		store_relaxed(&notify_fd, fd_hide(fd));
}

/* A worker has started: nothing is put off any more. */
void relisten_woken(void)
{
	char events[4096];
	unsigned int i, n = load_acquire(&nctx);
	int fd = load_relaxed(&notify_fd), err = errno;

	while (fd >= 0 && real.read(fd, events, sizeof(events)) > 0)
		;
	for (i = 0; i < n; i++)
		store_relaxed(&ctxs[i]->retry_at, 0);
	store_relaxed(&scan_at, 0);
	errno = err;
}

/* A listener whose worker has gone? */
bool relisten_wanted(const struct vsock *v)
{
	return load_relaxed(&v->ctx->sh->dead) && load_relaxed(&v->s->flags) & SF_LISTEN &&
	       load_relaxed(&v->s->state) == TCP_LISTEN;
}

/* The worker of a dead context's stack, if there is one again. */
static struct ctx *successor(struct ctx *dead)
{
	uint64_t now = now_ns(), wait;
	struct ctx *c;
	int err;

	if (now < load_relaxed(&dead->retry_at))
		return NULL;
	c = ctx_get(dead->stack_id, &err);
	wait = c ? 0 : min(max(2 * dead->retry_ns, RETRY_MIN), RETRY_MAX);
	dead->retry_ns = wait;
	store_relaxed(&dead->retry_at, wait ? now_ns() + wait : 0);
	return c;
}

/* The kernel's alone, for good. */
static void give_up(int fd, struct vsock *v, enum dmm_fallback why)
{
	listen_fell_back(fd, why);
	if (ep_replace(fd, v, NULL))
		sock_let_go(v);
}

static void offer(int fd, struct vsock *v)
{
	struct ctx *c = successor(v->ctx);
	enum dmm_fallback why;
	struct vsock *new;

	if (!c)
		return;
	why = listen_prepare(fd, c, load_relaxed(&v->s->backlog), &new);
	if (why) {
		give_up(fd, v, why);
		return;
	}
	if (!ep_replace(fd, v, new)) {	/* closed meanwhile */
		sock_let_go(new);
		return;
	}
	listen_go(fd, new);
	note(fd, "listens with the stack", "its worker is back");
	sock_let_go(v);
}

/**
 * relisten_one() - offer a listener to the stack that it had, if that is there again
 * @fd: its number
 * @v: the listener; the caller then looks whether the number means another
 *
 * Under no lock.
 */
void relisten_one(int fd, struct vsock *v)
{
	int err = errno;

	if (!relisten_wanted(v) || !lock(&relisten_lock))
		return;
	watch_dir();
	if (fd_sock(fd) == v)
		offer(fd, v);
	unlock(&relisten_lock);
	errno = err;
}

struct scan {
	int fds[AT_ONCE];
	struct vsock *v[AT_ONCE];
	int n;
	bool any;
};

static bool scan_fd(int fd, struct vsock *v, void *arg)
{
	struct scan *s = arg;
	int i;

	if (!relisten_wanted(v))
		return true;
	s->any = true;
	if (LIST_EMPTY(&v->items))
		return true;
	for (i = 0; i < s->n; i++)
		if (s->v[i] == v)
			return true;
	if (s->n < AT_ONCE) {
		s->v[s->n] = v;
		s->fds[s->n++] = fd;
	}
	return true;
}

/* As relisten_one(), for all that are in an epoll; while relisten_due. */
void relisten_all(void)
{
	struct scan s = { .n = 0 };
	int i, err = errno;
	uint64_t now = now_ns();

	if (now < load_relaxed(&scan_at) || !lock(&relisten_lock))
		return;
	watch_dir();
	/* whoever says meanwhile that there is more is heard the next time */
	store_relaxed(&scan_at, now + RETRY_MIN);
	store_relaxed(&relisten_due, false);
	full_barrier();
	fd_each(scan_fd, &s);
	for (i = 0; i < s.n; i++)
		offer(s.fds[i], s.v[i]);
	if (s.any)
		store_relaxed(&relisten_due, true);
	unlock(&relisten_lock);
	errno = err;
}
