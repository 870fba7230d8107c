// SPDX-License-Identifier: Apache-2.0
/*
 * Waiting: first a look around, for as long as that pays, then asleep in the kernel.
 *
 * Whoever sleeps does so on a set that has each context's event fd in it, edge
 * triggered and never read. So each ring of it wakes all sleepers, and each looks for
 * itself; none can take a wake-up from another. The worker rings only while somebody
 * said that he sleeps: sleep_begin(), then a last look, then sleep.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "shim.h"

#define SPIN_RETRY	64	/* sleeps, before spinning is tried again */
#define SPIN_LOOKS	8	/* between two looks at the clock */
#define WATCH_EVENTS	8

/*
 * A thread, as far as it waits.
 * @ep: its own epoll, if @made, since @forks
 * @watched: contexts in it
 * @spin_ns: for how long looking pays; 0 for not at all, tried again after a while
 * @since: sleeps without
 */
struct thread {
	int ep;
	unsigned int watched;
	uint32_t forks;
	uint32_t spin_ns;
	uint32_t since;
	bool made;
	bool spun;
};

static __thread struct thread me __attribute__((tls_model("initial-exec")));
static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;

/* What an epoll says of a context: an address of ours is nobody else's datum. */
static char marks[2 * CTX_MAX + 1];
#define RELISTEN_MARK	(&marks[2 * CTX_MAX])

int shim_spin_us = 20;

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

/* @ns from now; FOREVER stays that. */
uint64_t deadline_in(uint64_t ns)
{
	uint64_t now;

	if (ns == FOREVER)
		return FOREVER;
	if (!ns)
		return 0;
	now = now_ns();
	return ns > FOREVER - 1 - now ? FOREVER : now + ns;
}

/* As in dmm_arena_hdr: 0 for not known. */
uint32_t my_cpu(void)
{
	return sched_getcpu() + 1;
}

static bool worker_here(void)
{
	uint32_t cpu = my_cpu();
	unsigned int i, n = load_acquire(&nctx);

	for (i = 0; i < n; i++)
		if (!ctxs[i]->dead && load_relaxed(&ctxs[i]->arena->stack_cpu) == cpu)
			return true;
	return false;
}

/**
 * spin_until() - look at something until it is so, if experience says that it pays
 * @cond, @arg: what to look at
 * @deadline: when to end at the latest
 *
 * A worker on the same CPU never comes while we spin: where it says that it is there
 * nobody spins, and where it does not this finds out.
 */
bool spin_until(bool (*cond)(void *arg), void *arg, uint64_t deadline)
{
	uint32_t max_ns = shim_spin_us * 1000, budget;
	uint64_t end, now;
	int i;

	if (!max_ns || worker_here())
		return false;
	if (!me.spun) {
		me.spun = true;
		me.spin_ns = max_ns;
	}
	budget = me.spin_ns;
	if (!budget) {
		if (++me.since < SPIN_RETRY)
			return false;
		me.since = 0;
		budget = max_ns / 4;
	}
	now = now_ns();
	end = min(now + budget, deadline);
	while (now < end) {
		for (i = 0; i < SPIN_LOOKS; i++) {
			if (cond(arg)) {
				me.spin_ns = min(max_ns, max(2 * budget, max_ns / 8));
				return true;
			}
			cpu_relax();
		}
		now = now_ns();
	}
	me.spin_ns = budget / 2 < 1000 ? 0 : budget / 2;
	return false;
}

/*
 * This thread may sleep from now on: the workers are to ring. Return: for sleep_end(),
 * which leaves alone what another thread began to use meanwhile.
 */
unsigned int sleep_begin(void)
{
	unsigned int i, n = load_acquire(&nctx);
	uint32_t cpu = my_cpu();

	for (i = 0; i < n; i++) {
		struct ctx *c = ctxs[i];

		if (c->dead || !lock(&c->sh->sleep_lock))
			continue;
		if (!c->sh->sleepers++)
			store_relaxed(&c->arena->ev_polling, 0);
		store_relaxed(&c->arena->client_cpu, cpu);
		unlock(&c->sh->sleep_lock);
	}
	/* before the last look at the rings; pairs with dmm_chan_client_polls() */
	full_barrier();
	for (i = 0; i < n; i++)
		if (!ctxs[i]->dead)
			ops_release(ctxs[i]);
	return n;
}

void sleep_end(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct ctx *c = ctxs[i];

		if (c->dead || !lock(&c->sh->sleep_lock))
			continue;
		if (c->sh->sleepers && !--c->sh->sleepers)
			store_relaxed(&c->arena->ev_polling, 1);
		unlock(&c->sh->sleep_lock);
	}
}

/* ---- sets to sleep on ------------------------------------------------------------ */

static int watch_one(int epfd, int fd, uint32_t events, void *mark)
{
	struct epoll_event ev = { .events = events | EPOLLET, .data.ptr = mark };

	if (real.epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) && errno != EEXIST)
		return -errno;
	return 0;
}

/* Put the contexts into an epoll, from *@watched on. */
int watch(int epfd, unsigned int *watched)
{
	unsigned int n = load_acquire(&nctx);
	int err = errno, ret = 0, fd = relisten_fd();

	if (unlikely(fd >= 0))	/* what fails there is another occasion's */
		watch_one(epfd, fd, EPOLLIN, RELISTEN_MARK);
	for (; *watched < n && !ret; ++*watched) {
		struct ctx *c = ctxs[*watched];

		if (c->dead)
			continue;
		ret = watch_one(epfd, c->event_fd, EPOLLIN, &marks[2 * *watched]);
		if (!ret)
			ret = watch_one(epfd, c->sock, EPOLLRDHUP,
					&marks[2 * *watched + 1]);
	}
	errno = err;
	return ret;
}

/* Take them out again: nobody sleeps there. */
void unwatch(int epfd, unsigned int *watched)
{
	struct epoll_event ev;
	int err = errno, fd = relisten_fd();

	if (unlikely(fd >= 0))
		real.epoll_ctl(epfd, EPOLL_CTL_DEL, fd, &ev);
	while (*watched) {
		struct ctx *c = ctxs[--*watched];

		real.epoll_ctl(epfd, EPOLL_CTL_DEL, c->event_fd, &ev);
		real.epoll_ctl(epfd, EPOLL_CTL_DEL, c->sock, &ev);
	}
	errno = err;
}

/* Is it one of ours? A worker that has gone is seen to. */
bool watch_event(const struct epoll_event *ev)
{
	const char *mark = ev->data.ptr;

	if (mark < marks || mark >= marks + sizeof(marks))
		return false;
	if (mark == RELISTEN_MARK)
		relisten_woken();
	else if ((mark - marks) & 1)
		ctx_look(ctxs[(mark - marks) / 2]);
	return true;
}

static void thread_exit(void *arg)
{
	if (me.made && me.forks == fd_forks) {
		fd_unhide(me.ep);
		real.close(me.ep);
		me.made = false;
	}
}

static void thread_key_make(void)
{
	pthread_key_create(&thread_key, thread_exit);
}

/* This thread's own epoll, with all contexts in it; -errno. */
int thread_epoll(void)
{
	int ret;

	if (me.made && me.forks != fd_forks) {
		/* the parent's: what we take from it, it would miss */
		fd_unhide(me.ep);
		real.close(me.ep);
		me.made = false;
	}
	if (!me.made) {
		ret = epoll_create1(EPOLL_CLOEXEC);
		if (ret < 0)
			return -errno;
		me.ep = fd_hide(ret);
		me.watched = 0;
		me.forks = fd_forks;
		me.made = true;
		pthread_once(&thread_once, thread_key_make);
		pthread_setspecific(thread_key, &me);
	}
	ret = watch(me.ep, &me.watched);
	return ret ? ret : me.ep;
}

/* Its edges are used up, so that it may be slept on again. */
void thread_epoll_read(void)
{
	struct epoll_event evs[WATCH_EVENTS];
	int i, n, err = errno;

	n = real.epoll_wait(me.ep, evs, WATCH_EVENTS, 0);
	for (i = 0; i < n; i++)
		watch_event(&evs[i]);
	errno = err;
}

static struct timespec *time_left(uint64_t deadline, struct timespec *ts)
{
	uint64_t now;

	if (deadline == FOREVER)
		return NULL;
	now = deadline ? now_ns() : 0;
	*ts = (struct timespec) { 0 };
	if (deadline > now) {
		ts->tv_sec = (deadline - now) / NSEC;
		ts->tv_nsec = (deadline - now) % NSEC;
	}
	return ts;
}

/* epoll_pwait() until a deadline, 0 for none at all; a count or -errno */
int sleep_for(int epfd, struct epoll_event *evs, int n, uint64_t deadline,
	      const sigset_t *mask)
{
	struct timespec ts, *t = time_left(deadline, &ts);
	int ret;

	if (!t)
		ret = real.epoll_pwait(epfd, evs, n, -1, mask);
	else if (!t->tv_sec && !t->tv_nsec)
		ret = real.epoll_pwait(epfd, evs, n, 0, mask);
	else
		ret = real.epoll_pwait2(epfd, evs, n, t, mask);
	if (ret < 0 && errno == ENOSYS && t)
		ret = real.epoll_pwait(epfd, evs, n,
				       min(t->tv_sec, (time_t)1000000) * 1000 +
					       (t->tv_nsec + 999999) / 1000000, mask);
	return ret < 0 ? -errno : ret;
}

int poll_for(struct pollfd *p, nfds_t n, uint64_t deadline, const sigset_t *mask)
{
	struct timespec ts;
	int ret = real.ppoll(p, n, time_left(deadline, &ts), mask);

	return ret < 0 ? -errno : ret;
}

/*
 * A signal ended a sleep. Would the kernel have gone on? It would after a handler with
 * SA_RESTART; which of them ran, nobody says, so all of them must have it.
 */
bool signals_restart(void)
{
	struct sigaction sa;
	bool any = false;
	int sig, err = errno;

	for (sig = 1; sig < 65; sig++) {
		if (sigaction(sig, NULL, &sa) || sa.sa_handler == SIG_DFL ||
		    sa.sa_handler == SIG_IGN)
			continue;
		any = true;
		if (!(sa.sa_flags & SA_RESTART)) {
			errno = err;
			return false;
		}
	}
	errno = err;
	return any;
}
