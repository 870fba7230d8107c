// SPDX-License-Identifier: Apache-2.0
/*
 * Where clients come from: the kernel module, by /dev/dmm, and processes, by a
 * unix socket. Each has an arena of its own, so none can harm another.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <dmm/client.h>
#include <dmm/device.h>

#include "private.h"

#define MODULE_SLOTS	16384
#define CLIENT_SLOTS	8192
#define BACKLOG		64
#define REST_MS		100U	/* not to listen, when nobody can be let in */

static struct channel *channel_find(struct dmm_worker *w, uint32_t id)
{
	struct channel *ch;

	TAILQ_FOREACH(ch, &w->channels, next)
		if (ch->id == id)
			break;
	return ch;
}

static uint32_t channel_id(struct dmm_worker *w)
{
	do {
		w->last_id++;
	} while (!w->last_id || channel_find(w, w->last_id));
	return w->last_id;
}

static int channel_create(struct dmm_worker *w, struct owner *owner,
			  uint32_t nslots, struct channel **chp)
{
	struct dmm_chan_opts opts = {
		.sz = sizeof(opts),
		.nslots = nslots,
		.tx_size = w->ops->tx_size,
		.rx_size = w->ops->rx_size,
	};
	struct channel *ch;
	int ret;

	ch = calloc(1, sizeof(*ch));
	if (!ch)
		return -ENOMEM;
	ch->w = w;
	ch->device_fd = -1;
	ch->client_fd = -1;
	ch->sock_fd = -1;
	ch->owner = owner;
	ch->id = channel_id(w);
	STAILQ_INIT(&ch->pend);
	TAILQ_INIT(&ch->hung);
	TAILQ_INIT(&ch->starved);
	ch->conns = calloc(nslots, sizeof(*ch->conns));
	if (!ch->conns) {
		ret = -ENOMEM;
		goto err_ch;
	}
	ret = dmm_chan_create(&ch->chan, &opts);
	if (ret)
		goto err_conns;
	ch->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ch->bell_fd < 0) {
		ret = -errno;
		goto err_chan;
	}
	/* edge-triggered: it wakes, and need not be read */
	ret = worker_epoll_add(w->epoll_fd, ch->bell_fd, EPOLLIN | EPOLLET,
			       WAKE_FAST);
	if (ret)
		goto err_bell;
	TAILQ_INSERT_TAIL(&w->channels, ch, next);
	dmm_chan_stack_cpu(ch->chan, w->cpu);
	if (owner) {
		owner->nchannels++;
		owner_count_fds(owner, 2);
		dmm_chan_full(ch->chan, owner->full);
	}
	stat_add(&w->stats.clients, 1);
	*chp = ch;
	return 0;

err_bell:
	close(ch->bell_fd);
err_chan:
	dmm_chan_destroy(ch->chan);
err_conns:
	free(ch->conns);
err_ch:
	free(ch);
	return ret;
}

/* What the client has as well: it may hold it open, so closing alone is not enough. */
static void channel_close_fds(struct channel *ch)
{
	struct owner *o = ch->owner;

	if (ch->bell_fd >= 0) {
		worker_epoll_del(ch->w->epoll_fd, ch->bell_fd);
		close(ch->bell_fd);
	}
	if (o && ch->bell_fd >= 0)
		owner_count_fds(o, -1);
	ch->bell_fd = -1;
	if (ch->client_fd >= 0) {
		close(ch->client_fd);
		owner_count_fds(o, -1);
	}
	ch->client_fd = -1;
	if (ch->sock_fd >= 0) {
		worker_epoll_del(o->epoll_fd, ch->sock_fd);
		owner_close(o, ch->sock_fd);
		owner_count_fds(o, -1);
	}
	ch->sock_fd = -1;
}

void channel_destroy(struct channel *ch)
{
	struct dmm_worker *w = ch->w;

	conn_abort_all(ch);
	TAILQ_REMOVE(&w->channels, ch, next);
	channel_close_fds(ch);
	if (ch->device_fd >= 0)
		close(ch->device_fd);
	stat_add(ch->orphan ? &w->stats.orphans : &w->stats.clients, -1);
	if (ch->owner) {
		ch->owner->norphans -= ch->orphan;
		ch->owner->nchannels--;
		owner_count_fds(ch->owner, -1);		/* the arena */
	}
	dmm_chan_destroy(ch->chan);
	free(ch->cgroup);
	free(ch->conns);
	free(ch);
}

/* Do ops wait in the module for room in the ring? Processes wait by themselves. */
bool channel_backlog(struct channel *ch)
{
	return ch->device_fd >= 0 && dmm_chan_op_backlog(ch->chan);
}

int channel_notify(struct channel *ch)
{
	__u64 bad = 0;
	int ret;

	if (ch->device_fd < 0) {
		if (dmm_chan_client_polls(ch->chan))
			return 0;
		stat_add(&ch->w->stats.kicks, 1);
		return bell_ring(ch->w, ch->client_fd);
	}
	stat_add(&ch->w->stats.kicks, 1);
	ret = dmm_device_kick(ch->device_fd, &bad);
	stat_add(&ch->w->stats.bad_events, bad);
	if (ret < 0) {
		worker_log(NULL, "the module refuses our events: %s",
			   strerror(-ret));
		return ret;
	}
	return 0;
}

int channel_attach(struct dmm_worker *w, char *err, size_t err_len)
{
	struct dmm_device_opts opts = {
		.sz = sizeof(opts),
		.name = w->opts->name,
		.stack_id = w->opts->id,
		.ifindex = w->ifindex,
		.flags = w->opts->route_own ? DMM_ATTACH_F_ROUTE_OWN : 0,
	};
	struct channel *ch;
	int ret;

	ret = channel_create(w, NULL, MODULE_SLOTS, &ch);
	if (ret)
		return fail(err, err_len, ret, "cannot make the arena: %s",
			    strerror(-ret));
	opts.event_fd = ch->bell_fd;
	ret = dmm_device_attach(ch->chan, &opts);
	if (ret >= 0) {
		ch->device_fd = ret;
		return 0;
	}
	channel_destroy(ch);
	switch (ret) {
	case -ENOENT:
	case -ENXIO:
		return fail(err, err_len, ret,
			    "%s is not there: the module dmm is not loaded",
			    DMM_DEVICE_PATH);
	case -EEXIST:
		return fail(err, err_len, ret,
			    "a stack named '%s' or of id %u is attached already",
			    w->opts->name, w->opts->id);
	default:
		return fail(err, err_len, ret, "%s: cannot attach: %s",
			    DMM_DEVICE_PATH, strerror(-ret));
	}
}

/* The namespace's name among all; clients compare their sockets' with it. */
static uint64_t netns_cookie(void)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len))
		cookie = 0;
	if (fd >= 0)
		close(fd);
	return cookie;
}

int channel_listen(struct dmm_worker *w, char *err, size_t err_len)
{
	const char *path = w->opts->client_socket;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, ret;

	w->netns = netns_cookie();

	if (strlen(path) >= sizeof(sun.sun_path) - 1)	/* room for one more */
		return fail(err, err_len, -ENAMETOOLONG,
			    "client socket's path is longer than %zu characters",
			    sizeof(sun.sun_path) - 2);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(err, err_len, -errno, "cannot open a socket: %s",
			    strerror(errno));
	w->listen_fd = fd;
	/* a socket that a killed worker left is replaced; nothing else is */
	if (!lstat(path, &st) && !S_ISSOCK(st.st_mode))
		return fail(err, err_len, -EADDRINUSE,
			    "%s: cannot listen for clients there: it is no socket",
			    path);
	/*
	 * Clients whose worker died wait for the path to come: it comes when they can
	 * connect.
	 */
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s~", path);
	if (!lstat(sun.sun_path, &st) && S_ISSOCK(st.st_mode))
		unlink(sun.sun_path);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return fail(err, err_len, -errno,
			    "%s: cannot listen for clients there: %s", path,
			    strerror(errno));
	if (chmod(sun.sun_path, 0660) || listen(fd, BACKLOG) ||
	    rename(sun.sun_path, path)) {
		ret = -errno;
		unlink(sun.sun_path);
		return fail(err, err_len, ret,
			    "%s: cannot listen for clients: %s", path,
			    strerror(-ret));
	}
	w->listening = true;
	return worker_epoll_add(w->slow_fd, fd, EPOLLIN, WAKE_LISTEN);
}

static int hello_send(struct channel *ch)
{
	struct dmm_client_hello hello = {
		.size = sizeof(hello),
		.version = DMM_ABI_VERSION,
		.ifindex = ch->w->ifindex,
		.flags = ch->w->opts->route_own ? DMM_ATTACH_F_ROUTE_OWN : 0,
		.netns = ch->w->netns,
	};
	int fds[] = { dmm_chan_fd(ch->chan), ch->bell_fd, ch->client_fd };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(fds))];
	} ctl = { 0 };
	struct iovec iov = { .iov_base = &hello, .iov_len = sizeof(hello) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cmsg), fds, sizeof(fds));
	return sendmsg(ch->sock_fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Turned away; the client hears whether it is for what its user has already. */
static void hello_refuse(struct dmm_worker *w, int fd, bool quota)
{
	struct dmm_client_hello hello = {
		.size = sizeof(hello),
		.version = DMM_ABI_VERSION,
		.flags = quota ? DMM_CLIENT_F_QUOTA : 0,
	};

	stat_add(&w->stats.clients_refused, 1);
	if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		/* then it hears nothing, and that is a refusal as well */
	}
}

/* The orphan that has waited longest need not close in peace; of any owner: NULL. */
static void orphan_reset(struct dmm_worker *w, const struct owner *o)
{
	struct channel *ch, *oldest = NULL;

	TAILQ_FOREACH(ch, &w->channels, next) {
		if (!ch->orphan || ch->abort || (o && ch->owner != o))
			continue;
		if (!oldest || (int32_t)(ch->orphan_ms - oldest->orphan_ms) < 0)
			oldest = ch;
	}
	if (!oldest)
		return;
	oldest->abort = true;
	oldest->sweep = 0;
	stat_add(&w->stats.orphans_reset, 1);
}

/*
 * May there be one client more? Otherwise an orphan makes room for the next one.
 * Returns 0; -EDQUOT, the owner has its share; -EUSERS, all have what there is.
 */
static int client_fits(struct owner *o)
{
	struct dmm_worker *w = o->w;

	if (owner_has_share(o, o->nchannels, CLIENTS_MAX) || owner_fds_full(o) ||
	    !owner_may_receive(o)) {
		orphan_reset(w, o);
		return -EDQUOT;
	}
	if (w->stats.clients + w->stats.orphans < CLIENTS_MAX)
		return 0;
	orphan_reset(w, NULL);
	return -EUSERS;
}

static int client_begin(struct owner *o, int fd, pid_t pid)
{
	struct channel *ch;
	int ret;

	ret = channel_create(o->w, o, CLIENT_SLOTS, &ch);
	if (ret) {
		owner_close(o, fd);
		return ret;
	}
	ch->cgroup = cgroup_of(pid);
	ch->sock_fd = fd;
	owner_count_fds(o, 1);
	ch->client_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ch->client_fd < 0) {
		ret = -errno;
		goto err;
	}
	owner_count_fds(o, 1);
	ret = hello_send(ch);
	if (!ret)
		ret = worker_epoll_add(o->epoll_fd, fd, EPOLLIN | EPOLLRDHUP,
				       (uint64_t)ch->id << 32 | WAKE_SOCK);
	if (!ret)
		return 0;
err:
	channel_destroy(ch);
	return ret;
}

static struct ucred peer_cred(int fd)
{
	struct ucred cred = { .uid = -1 };
	socklen_t len = sizeof(cred);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	return cred;
}

/* Nobody can be let in, and whoever waits would wake us for ever. */
static void listen_deaf(struct dmm_worker *w)
{
	struct epoll_event ev = { .data.u64 = WAKE_LISTEN };

	epoll_ctl(w->slow_fd, EPOLL_CTL_MOD, w->listen_fd, &ev);
	w->deaf = true;
	w->deaf_ms = w->now_ms;
}

void channel_listen_again(struct dmm_worker *w)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = WAKE_LISTEN };

	if (!w->deaf || w->now_ms - w->deaf_ms < REST_MS)
		return;
	w->deaf = false;
	epoll_ctl(w->slow_fd, EPOLL_CTL_MOD, w->listen_fd, &ev);
}

/* No descriptor is left: the spare one lets us tell the client so. */
static void accept_spare(struct dmm_worker *w)
{
	struct owner *o;
	int fd;

	if (w->spare_fd >= 0)
		close(w->spare_fd);
	fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		hello_refuse(w, fd, false);
		o = owner_find(w, peer_cred(fd).uid);
		if (o)
			owner_close(o, fd);
		else
			close(fd);
	} else {
		listen_deaf(w);
	}
	w->spare_fd = eventfd(0, EFD_CLOEXEC);
}

void channel_accept(struct dmm_worker *w)
{
	struct ucred peer;
	struct owner *o;
	int fd, ret;

	fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EMFILE)
			accept_spare(w);
		else if (errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			listen_deaf(w);
		return;
	}
	peer = peer_cred(fd);
	ret = owner_get(w, peer.uid, &o);
	if (ret) {
		hello_refuse(w, fd, false);
		close(fd);
	} else {
		ret = client_fits(o);
		if (!ret) {
			ret = client_begin(o, fd, peer.pid);
		} else {
			hello_refuse(w, fd, ret == -EDQUOT);
			owner_close(o, fd);
		}
		/* it has left already; or it may come again and again */
		if (ret == -EPIPE || (ret && o->logged))
			return;
		o->logged = ret;
	}
	if (ret)
		worker_log(NULL, "a client of uid %u is turned away: %s", peer.uid,
			   ret == -EDQUOT ? "it has its share (--client-share)" :
					    strerror(-ret));
}

/*
 * The client has gone, or broke the rules. What it said before was done; its
 * connections are closed, or reset, and the channel stays until the last one is.
 */
void channel_orphan(struct channel *ch)
{
	struct dmm_worker *w = ch->w;
	struct owner *o = ch->owner;

	channel_close_fds(ch);
	ch->due = false;
	ch->orphan = true;
	ch->abort = ch->broken;
	ch->orphan_ms = w->now_ms;
	stat_add(&w->stats.clients, -1);
	stat_add(&w->stats.orphans, 1);
	if (owner_has_share(o, 2 * ++o->norphans, CLIENTS_MAX))
		orphan_reset(w, o);
}

/* A turn of an orphan's; true if there was anything to do. */
bool channel_orphan_run(struct channel *ch)
{
	uint32_t patience = ch->w->opts->orphan_time * 1000;
	bool any = conn_starved_run(ch);

	if (!ch->abort && ch->w->now_ms - ch->orphan_ms >= patience) {
		ch->abort = true;
		ch->sweep = 0;
		stat_add(&ch->w->stats.orphans_reset, 1);
	}
	return conn_sweep(ch) || any;
}

#define CTL_SPACE	CMSG_SPACE(RECEIVED_MAX * sizeof(int))

/*
 * All descriptors of the message, so that none is left for the kernel to close, which
 * may take for ever; how many.
 */
static size_t fds_of(struct msghdr *msg, int *fds)
{
	struct cmsghdr *cmsg;
	size_t n = 0, more;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		more = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(&fds[n], CMSG_DATA(cmsg), more * sizeof(int));
		n += more;
	}
	return n;
}

/* A message of guards, the end, or nonsense, which is the end as well. */
static void channel_read(struct channel *ch)
{
	struct dmm_client_guard guards[DMM_CLIENT_GUARDS];
	int fds[CTL_SPACE / sizeof(int)];
	union {
		struct cmsghdr align;
		char buf[CTL_SPACE];
	} ctl;
	struct iovec iov = { .iov_base = guards, .iov_len = sizeof(guards) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
	};
	size_t i, n;
	ssize_t len;

	if (!owner_may_receive(ch->owner)) {
		channel_orphan(ch);
		return;
	}
	len = recvmsg(ch->sock_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (len < 0 && errno == EAGAIN)
		return;
	n = len >= 0 ? fds_of(&msg, fds) : 0;
	if (!n || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
	    n > DMM_CLIENT_GUARDS || (size_t)len != n * sizeof(guards[0])) {
		for (i = 0; i < n; i++)
			owner_close(ch->owner, fds[i]);
		channel_orphan(ch);
		return;
	}
	for (i = 0; i < n; i++)
		conn_guard(ch, &guards[i], fds[i]);
}

/*
 * Of an owner's clients: a guard hung up, or the socket is to be read. The ops that are
 * there come first, in turns as ever: a client may never stop to send some.
 */
void channel_event(struct dmm_worker *w, uint64_t data)
{
	struct channel *ch = channel_find(w, data >> 32);
	uint32_t slot = data;

	if (!ch)
		return;
	if (slot != WAKE_SOCK) {
		conn_guard_event(&ch->conns[slot]);
	} else if (!ch->due && !ch->orphan) {
		ch->due = true;
		ch->due_at = ch->taken + dmm_chan_ops_waiting(ch->chan);
	}
}

void channel_due_run(struct channel *ch)
{
	conn_hung_run(ch);
	if (ch->due && (int32_t)(ch->taken - ch->due_at) >= 0) {
		ch->due = false;
		channel_read(ch);
	}
}
