// SPDX-License-Identifier: Apache-2.0
/*
 * Owners: the users whose processes are clients. Each may have at most its share of
 * what all of them use together (channels, slots, listeners, descriptors) and of a
 * turn, however many processes it has.
 *
 * What a client sends us is a file of its choice, and to close one may take for ever:
 * a TCP socket that lingers, or a message of the client's socket that holds such a
 * one. So each owner has a thread that closes for it, and waits alone.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "private.h"

#define CLOSER_STACK	(64 * 1024)
/* So many descriptors are neither the clients' nor counted: EAL's, ours. */
#define FDS_OURS	256
/* Beyond its share, closed and not gone yet; whoever has more is let go. */
#define CLOSING_MAX	1024U

/*
 * @lock: guards what follows; held for a moment only
 * @n, @size: of @fds, which wait to be closed
 * @closing: of them, and the one at which the thread is
 * @end: the owner is gone; the thread frees this
 */
struct closer {
	pthread_mutex_t lock;
	pthread_cond_t more;
	unsigned int n;
	unsigned int size;
	unsigned int closing;
	bool end;
	int *fds;
};

static void *closer_run(void *arg)
{
	struct closer *c = arg;
	int fd;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (!c->n && !c->end)
			pthread_cond_wait(&c->more, &c->lock);
		if (!c->n)
			break;
		fd = c->fds[--c->n];
		pthread_mutex_unlock(&c->lock);
		close(fd);
		pthread_mutex_lock(&c->lock);
		c->closing--;
	}
	pthread_mutex_unlock(&c->lock);
	pthread_cond_destroy(&c->more);
	pthread_mutex_destroy(&c->lock);
	free(c->fds);
	free(c);
	return NULL;
}

static int closer_create(struct closer **cp)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	struct closer *c;
	int ret;

	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->more, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, CLOSER_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&thread, &attr, closer_run, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (!ret) {
		*cp = c;
		return 0;
	}
	pthread_cond_destroy(&c->more);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return -ret;
}

static unsigned int closer_closing(struct closer *c)
{
	unsigned int n;

	pthread_mutex_lock(&c->lock);
	n = c->closing;
	pthread_mutex_unlock(&c->lock);
	return n;
}

/* Takes @fd over; nothing in the worker refers to it any more. */
void owner_close(struct owner *o, int fd)
{
	struct closer *c = o->closer;
	unsigned int size;
	int *fds;

	if (fd < 0)
		return;
	pthread_mutex_lock(&c->lock);
	if (c->n == c->size) {
		size = c->size ? 2 * c->size : 64;
		fds = realloc(c->fds, size * sizeof(*fds));
		/* without memory it stays open: better than to wait for it here */
		if (!fds)
			goto out;
		c->fds = fds;
		c->size = size;
	}
	c->fds[c->n++] = fd;
	c->closing++;
	pthread_cond_signal(&c->more);
out:
	pthread_mutex_unlock(&c->lock);
}

/* ------------------------------------------------------------------------- */

/* What one owner may have of @total; root may have all of it. */
static uint32_t share_of(const struct owner *o, uint32_t total)
{
	return o->uid ? (uint64_t)total * o->w->opts->client_share / 100 : total;
}

bool owner_has_share(const struct owner *o, uint32_t used, uint32_t total)
{
	return used >= share_of(o, total);
}

/* May a message be read that has as many descriptors as fit in one? */
bool owner_may_receive(struct owner *o)
{
	struct dmm_worker *w = o->w;
	unsigned int closing = closer_closing(o->closer);

	return closing < CLOSING_MAX &&
	       w->nfds + closing + FDS_OURS + RECEIVED_MAX < w->fds_max;
}

bool owner_fds_full(const struct owner *o)
{
	uint32_t max = o->w->fds_max;

	return owner_has_share(o, o->nfds, max - RTE_MIN(max, 2U * FDS_OURS));
}

/* How many of @backlog children may wait: ever less of what is left. */
uint32_t owner_backlog(const struct owner *o, uint32_t backlog)
{
	uint32_t max = share_of(o, BACKLOGS_MAX);
	uint32_t left = max - RTE_MIN(max, o->nbacklog);

	return RTE_MIN(backlog, RTE_MAX(left / 4, BACKLOG_MIN));
}

void owner_count_fds(struct owner *o, int n)
{
	o->nfds += n;
	o->w->nfds += n;
}

/* Its channels say whether it may open more, so that clients need not find out. */
static void owner_show_full(struct owner *o, bool full)
{
	struct channel *ch;

	o->full = full;
	TAILQ_FOREACH(ch, &o->w->channels, next)
		if (ch->owner == o)
			dmm_chan_full(ch->chan, full);
}

void owner_count_slots(struct owner *o, int n)
{
	uint32_t max = share_of(o, SLOTS_MAX);

	o->nslots += n;
	if (!o->full && o->nslots >= max)
		owner_show_full(o, true);
	else if (o->full && o->nslots < max - max / 16)
		owner_show_full(o, false);
}

struct owner *owner_find(struct dmm_worker *w, uid_t uid)
{
	struct owner *o;

	LIST_FOREACH(o, &w->owners, next)
		if (o->uid == uid)
			break;
	return o;
}

/* The owner of a new client, which counts what it has. */
int owner_get(struct dmm_worker *w, uid_t uid, struct owner **op)
{
	struct owner *o = owner_find(w, uid);
	int ret;

	if (o) {
		*op = o;
		return 0;
	}
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->w = w;
	o->uid = uid;
	o->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ret = o->epoll_fd < 0 ? -errno :
	      worker_epoll_add(w->slow_fd, o->epoll_fd, EPOLLIN,
			       WAKE_OWNER | (uint64_t)uid << 32);
	if (!ret)
		ret = closer_create(&o->closer);
	if (ret) {
		if (o->epoll_fd >= 0)
			close(o->epoll_fd);
		free(o);
		return ret;
	}
	LIST_INSERT_HEAD(&w->owners, o, next);
	owner_count_fds(o, 1);
	*op = o;
	return 0;
}

static void owner_free(struct owner *o)
{
	struct closer *c = o->closer;

	pthread_mutex_lock(&c->lock);
	c->end = true;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	/* nobody else has it, so that it leaves the other set, too */
	close(o->epoll_fd);
	owner_count_fds(o, -1);
	LIST_REMOVE(o, next);
	free(o);
}

/* Those who have nothing any more. */
void owners_tidy(struct dmm_worker *w, bool all)
{
	struct owner *o, *next;

	for (o = LIST_FIRST(&w->owners); o; o = next) {
		next = LIST_NEXT(o, next);
		if (all || (!o->nchannels && !closer_closing(o->closer)))
			owner_free(o);
	}
}

/* Of what the owner has in this turn, is there @cost left? */
bool owner_may_spend(struct owner *o, uint32_t cost)
{
	if (o->turn != o->w->turn) {
		o->turn = o->w->turn;
		o->left = OWNER_TURN / (o->w->contended ? CONTENDED : 1);
	}
	return o->left >= cost;
}

void owner_spend(struct owner *o, uint32_t cost)
{
	o->left -= cost;
}

/* As many descriptors as we may have; some are kept for ourselves. */
void owners_init(struct dmm_worker *w)
{
	struct rlimit files;

	LIST_INIT(&w->owners);
	if (getrlimit(RLIMIT_NOFILE, &files))
		files.rlim_cur = files.rlim_max = 1024;
	if (files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &files))
			getrlimit(RLIMIT_NOFILE, &files);
	}
	w->fds_max = RTE_MIN(files.rlim_cur, FDS_MAX);
}
