// SPDX-License-Identifier: Apache-2.0
/* The worker's life and its loop. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_pause.h>

#include "private.h"

#define SPIN_US		50	/* awake after the last work, if the CPU is ours */
#define SLOW_US		1000	/* sockets and netlink, at the latest, when busy */
#define RX_BURSTS	4	/* in one turn, so that ops are not starved */
#define DEAF_MS		10U	/* how often a full event ring is looked at */
/*
 * Likewise the rings of a client that has our CPU. Longer than a tick: a timer that comes
 * before it has to be set in hardware, which costs a virtual machine some 9 us.
 */
#define GAVE_MS		5U
#define BELIEVED_US	1000000	/* a client that says that it has, and does nothing */
#define ORPHAN_MS	1000U	/* how often orphans are looked at */
#define TURN_MS		500U	/* asleep: dmmd's watchdog wants to see it turn */
#define WAKE_EVENTS	16

void worker_log(struct dmm_host *host, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "dmm-worker: %s\n", line);
}

int worker_epoll_add(int epoll_fd, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* Before close(), of all that somebody else may have open as well. */
void worker_epoll_del(int epoll_fd, int fd)
{
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* As coarse as a tick, which is fine enough for timers of 50 ms. */
uint32_t worker_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int netns_enter(const struct dmm_worker_opts *opts, char *err,
		       size_t err_len)
{
	int fd, ret = 0;

	if (!opts->netns)
		return 0;
	fd = open(opts->netns, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(err, err_len, -errno,
			    "%s: cannot open the network namespace: %s",
			    opts->netns, strerror(errno));
	if (setns(fd, CLONE_NEWNET))
		ret = fail(err, err_len, -errno,
			   "%s: cannot enter the network namespace: %s",
			   opts->netns, strerror(errno));
	close(fd);
	return ret;
}

static int epolls_create(struct dmm_worker *w, char *err, size_t err_len)
{
	int ret = 0;

	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->slow_fd = epoll_create1(EPOLL_CLOEXEC);
	w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->spare_fd = eventfd(0, EFD_CLOEXEC);
	if (w->epoll_fd < 0 || w->slow_fd < 0 || w->stop_fd < 0 || w->spare_fd < 0)
		ret = -errno;
	if (!ret)
		ret = worker_epoll_add(w->epoll_fd, w->stop_fd, EPOLLIN,
				       WAKE_FAST);
	if (!ret)
		ret = worker_epoll_add(w->epoll_fd, w->slow_fd, EPOLLIN,
				       WAKE_SLOW);
	if (!ret)
		ret = worker_epoll_add(w->epoll_fd, w->port.xsk_fd, EPOLLIN,
				       WAKE_FAST);
	if (!ret)
		ret = worker_epoll_add(w->slow_fd, neigh_fd(w), EPOLLIN,
				       WAKE_NEIGH);
	if (!ret)
		ret = worker_epoll_add(w->slow_fd, w->icmp4_fd, EPOLLIN,
				       WAKE_ICMP);
	if (!ret && w->icmp6_fd >= 0)
		ret = worker_epoll_add(w->slow_fd, w->icmp6_fd, EPOLLIN,
				       WAKE_ICMP);
	if (ret)
		return fail(err, err_len, ret, "cannot set epoll up: %s",
			    strerror(-ret));
	return 0;
}

static int worker_start(struct dmm_worker *w, char *err, size_t err_len)
{
	const struct dmm_worker_opts *opts = w->opts;
	int ret;

	ret = netns_enter(opts, err, err_len);
	if (ret)
		return ret;
	w->ifindex = if_nametoindex(opts->dev);
	if (!w->ifindex)
		return fail(err, err_len, -ENODEV,
			    "device %s is not in %s", opts->dev,
			    opts->netns ? opts->netns : "this network namespace");
	if (telemetry_alive(opts->name))
		return fail(err, err_len, -EEXIST,
			    "a worker named '%s' runs already", opts->name);
	ret = plugin_load(w, err, err_len);
	if (!ret)
		ret = port_create(w, err, err_len);
	if (!ret)
		ret = listen_create(w, err, err_len);
	if (!ret)
		ret = neigh_create(w, err, err_len);
	if (!ret)
		ret = icmp_create(w, err, err_len);
	if (!ret)
		ret = epolls_create(w, err, err_len);
	if (ret)
		return ret;
	w->tsc_hz = rte_get_tsc_hz();
	ret = w->ops->create(&w->stack, &worker_host_ops, (struct dmm_host *)w);
	if (ret)
		return fail(err, err_len, ret,
			    "stack type '%s' cannot be started: %s", opts->type,
			    strerror(-ret));
	if (telemetry_register(w))
		return fail(err, err_len, -EIO,
			    "DPDK's telemetry does not take our commands");
	neigh_read(w);
	owners_init(w);
	if (opts->client_socket) {
		ret = bells_create(w, err, err_len);
		if (!ret)
			ret = channel_listen(w, err, err_len);
	}
	if (!ret && !opts->no_module)
		ret = channel_attach(w, err, err_len);
	return ret;
}

int dmm_worker_create(struct dmm_worker **workerp,
		      const struct dmm_worker_opts *opts, char *err,
		      size_t err_len)
{
	struct dmm_worker *w;
	int ret;

	if (opts->sz != sizeof(*opts))
		return fail(err, err_len, -EINVAL,
			    "options of another version of the library");
	w = calloc(1, sizeof(*w));
	if (!w)
		return fail(err, err_len, -ENOMEM, "no memory");
	w->opts = opts;
	w->port.xsk_fd = -1;
	w->port.prog_fd = -1;
	w->port.flows_fd = -1;
	w->icmp4_fd = -1;
	w->icmp6_fd = -1;
	w->listen_fd = -1;
	w->epoll_fd = -1;
	w->slow_fd = -1;
	w->stop_fd = -1;
	w->spare_fd = -1;
	w->now_ms = worker_now_ms();
	TAILQ_INIT(&w->channels);
	ret = worker_start(w, err, err_len);
	if (ret) {
		dmm_worker_destroy(w);
		return ret;
	}
	*workerp = w;
	return 0;
}

void dmm_worker_destroy(struct dmm_worker *w)
{
	struct channel *ch;

	while ((ch = TAILQ_FIRST(&w->channels)))
		channel_destroy(ch);
	owners_tidy(w, true);
	bells_destroy(w);
	if (w->listen_fd >= 0)
		close(w->listen_fd);
	if (w->listening)
		unlink(w->opts->client_socket);
	if (w->stack) {
		w->ops->destroy(w->stack);
		port_flush(w);	/* the RSTs of what was aborted */
	}
	icmp_destroy(w);
	neigh_destroy(w);
	listen_destroy(w);
	port_destroy(w);
	plugin_unload(w);
	if (w->spare_fd >= 0)
		close(w->spare_fd);
	if (w->stop_fd >= 0)
		close(w->stop_fd);
	if (w->slow_fd >= 0)
		close(w->slow_fd);
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	free(w);
}

/* ------------------------------------------------------------------------- */

static void owner_poll(struct dmm_worker *w, uid_t uid)
{
	struct owner *o = owner_find(w, uid);
	struct epoll_event evs[WAKE_EVENTS];
	int i, n;

	n = o ? epoll_wait(o->epoll_fd, evs, WAKE_EVENTS, 0) : 0;
	for (i = 0; i < n; i++)
		channel_event(w, evs[i].data.u64);
}

/* Clients that come and go, and what the kernel tells of neighbours. */
static void slow_poll(struct dmm_worker *w)
{
	struct epoll_event evs[WAKE_EVENTS];
	int i, n;

	n = epoll_wait(w->slow_fd, evs, WAKE_EVENTS, 0);
	for (i = 0; i < n; i++) {
		switch ((uint32_t)evs[i].data.u64) {
		case WAKE_NEIGH:
			neigh_read(w);
			break;
		case WAKE_ICMP:
			icmp_read(w);
			break;
		case WAKE_LISTEN:
			channel_accept(w);
			break;
		case WAKE_OWNER:
			owner_poll(w, evs[i].data.u64 >> 32);
			break;
		}
	}
	owners_tidy(w, false);
	channel_listen_again(w);
}

/* Where we run, for clients that are there as well. */
static void cpu_look(struct dmm_worker *w)
{
	uint32_t cpu = sched_getcpu() + 1;
	struct channel *ch;

	if (cpu == w->cpu)
		return;
	w->cpu = cpu;
	TAILQ_FOREACH(ch, &w->channels, next)
		dmm_chan_stack_cpu(ch->chan, cpu);
}

/* Has the client sent or been sent anything for @us? */
static bool channel_quiet(const struct dmm_worker *w, const struct channel *ch,
			  uint64_t now, uint32_t us)
{
	return now - ch->active >= w->tsc_hz / 1000000 * us;
}

/*
 * Is a client on our CPU, and awake, or about to be? Then it can do nothing while we
 * look for work. It says so itself: it is believed as long as it does something, and
 * others do not lose by it (cpu_is_wanted()).
 */
static bool channel_wants_cpu(const struct dmm_worker *w, const struct channel *ch,
			      uint64_t now)
{
	return !ch->orphan && ch->device_fd < 0 &&
	       dmm_chan_client_cpu(ch->chan) == w->cpu &&
	       (dmm_chan_event_unread(ch->chan) ||
		dmm_chan_client_polls(ch->chan)) &&
	       !channel_quiet(w, ch, now, BELIEVED_US);
}

/* By somebody, and nobody else, for whom we would go on looking, has just been served. */
static bool cpu_is_wanted(const struct dmm_worker *w, uint64_t now)
{
	const struct channel *ch;
	bool wanted = false;

	TAILQ_FOREACH(ch, &w->channels, next) {
		if (channel_wants_cpu(w, ch, now))
			wanted = true;
		else if (!channel_quiet(w, ch, now, SPIN_US))
			return false;
	}
	return wanted;
}

static void timers_poll(struct dmm_worker *w)
{
	uint32_t ms = w->now_ms - w->polled_ms;
	struct channel *ch;

	w->polled_ms = w->now_ms;
	w->timeout_ms = w->ops->poll(w->stack);
	TAILQ_FOREACH(ch, &w->channels, next)
		if (ch->device_fd >= 0)
			conn_trim(ch, ms);
}

/* A client that broke the rules goes; without the module we cannot go on. */
static void channel_break(struct dmm_worker *w, struct channel *ch)
{
	stat_add(&w->stats.bad_clients, 1);
	if (ch->device_fd >= 0) {
		worker_log(NULL, "the module broke the channel's rules");
		w->fatal = -EPROTO;
		channel_destroy(ch);
	} else {
		channel_orphan(ch);
	}
}

/* What it has is reset; it finds its new sockets native. */
static void channel_forbid(struct dmm_worker *w, struct channel *ch)
{
	stat_add(&w->stats.clients_filtered, 1);
	worker_log(NULL, "cgroup %s has come to filter packets: its connections are reset",
		   ch->cgroup);
	ch->broken = true;
	channel_orphan(ch);
}

/* Ops of all clients, as far as each one's share goes; another is first each time. */
static bool ops_run(struct dmm_worker *w, uint64_t now)
{
	struct channel *ch = TAILQ_FIRST(&w->channels);
	unsigned int active = 0;
	bool busy = false;

	w->turn++;
	if (ch && TAILQ_NEXT(ch, next)) {
		TAILQ_REMOVE(&w->channels, ch, next);
		TAILQ_INSERT_TAIL(&w->channels, ch, next);
	}
	TAILQ_FOREACH(ch, &w->channels, next) {
		if (ch->orphan) {
			busy |= channel_orphan_run(ch);
		} else if (conn_ops_run(ch)) {
			ch->active = now;
			busy = true;
		}
		active += !channel_quiet(w, ch, now, SLOW_US);
		if (!ch->broken && !ch->orphan && ch->owner)
			channel_due_run(ch);
	}
	w->contended = active > 1;
	return busy;
}

static bool events_run(struct dmm_worker *w, uint64_t now)
{
	struct channel *ch, *next;
	bool busy = false;

	for (ch = TAILQ_FIRST(&w->channels); ch; ch = next) {
		next = TAILQ_NEXT(ch, next);
		if (conn_events_run(ch)) {
			ch->active = now;
			busy = true;
		}
		if (ch->broken && !ch->orphan)
			channel_break(w, ch);
		else if (!ch->orphan && cgroup_forbids(ch))
			channel_forbid(w, ch);
		else if (ch->orphan && !ch->nlive)
			channel_destroy(ch);
	}
	return busy;
}

bool dmm_worker_poll(struct dmm_worker *w)
{
	struct rte_mbuf *pkts[RX_BURST];
	uint64_t now = rte_rdtsc();
	unsigned int i, n;
	bool busy = false;

	w->now_ms = worker_now_ms();
	if (now >= w->slow_at) {
		w->slow_at = now + w->tsc_hz / 1000000 * SLOW_US;
		slow_poll(w);
	}
	for (i = 0; i < RX_BURSTS; i++) {
		n = port_receive(w, pkts);
		if (!n)
			break;
		busy = true;
		w->ops->input(w->stack, pkts, n);
	}
	busy |= ops_run(w, now);
	if (w->now_ms != w->polled_ms) {
		cpu_look(w);
		timers_poll(w);
	}
	if (w->port.ntx)
		port_flush(w);
	return events_run(w, now) || busy;
}

/*
 * Tell all clients that we sleep, or no longer. Returns for how long we may,
 * milliseconds: not at all when ops are waiting, and not for long when a client
 * does not empty its event ring, since it rings no bell when it does.
 */
static uint32_t all_sleep(struct dmm_worker *w, bool sleeping)
{
	uint32_t ms = w->deaf ? DEAF_MS : UINT32_MAX, how;
	uint64_t now = rte_rdtsc();
	struct channel *ch;

	TAILQ_FOREACH(ch, &w->channels, next) {
		if (ch->orphan) {
			ms = RTE_MIN(ms, ORPHAN_MS);
			continue;
		}
		how = sleeping ? DMM_SLEEP_OPS : 0;
		if (sleeping && channel_wants_cpu(w, ch, now)) {
			how = DMM_SLEEP_GAVE;
			ms = RTE_MIN(ms, GAVE_MS);
		}
		/* the backlog is looked at after the barrier in there */
		if (dmm_chan_sleep(ch->chan, how) || channel_backlog(ch) ||
		    !TAILQ_EMPTY(&ch->starved))
			ms = 0;
		else if (!STAILQ_EMPTY(&ch->pend))
			ms = RTE_MIN(ms, DEAF_MS);
	}
	return ms;
}

void dmm_worker_wait(struct dmm_worker *w)
{
	struct epoll_event evs[WAKE_EVENTS];
	uint32_t ms;
	int i, n;

	w->now_ms = worker_now_ms();
	timers_poll(w);
	if (w->port.ntx)
		port_flush(w);
	ms = RTE_MIN(all_sleep(w, true), w->timeout_ms);
	if (ms) {
		n = epoll_wait(w->epoll_fd, evs, WAKE_EVENTS, RTE_MIN(ms, TURN_MS));
		stat_add(&w->stats.wakeups, 1);
		for (i = 0; i < n; i++)
			if (evs[i].data.u64 == WAKE_SLOW)
				w->slow_at = 0;
		cpu_look(w);
	}
	all_sleep(w, false);
}

void dmm_worker_stop(struct dmm_worker *w)
{
	uint64_t one = 1;

	__atomic_store_n(&w->stop, true, __ATOMIC_RELEASE);
	/* it cannot fail: the counter is far from full */
	if (write(w->stop_fd, &one, sizeof(one)) < 0)
		abort();
}

int dmm_worker_run(struct dmm_worker *w)
{
	uint64_t spin = w->tsc_hz / 1000000 * SPIN_US;
	uint64_t last = rte_rdtsc(), now;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE) && !w->fatal) {
		stat_add(&w->stats.turns, 1);
		if (dmm_worker_poll(w)) {
			last = rte_rdtsc();
			continue;
		}
		now = rte_rdtsc();
		if (now - last < spin && !cpu_is_wanted(w, now)) {
			rte_pause();
			continue;
		}
		dmm_worker_wait(w);
		last = rte_rdtsc();
	}
	if (w->fatal == -ENODEV)
		worker_log(NULL, "device %s is gone", w->opts->dev);
	return w->fatal;
}
