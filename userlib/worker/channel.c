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
#define CLIENTS_MAX	256
#define BACKLOG		64

static int channel_create(struct dmm_worker *w, uint32_t nslots,
			  struct channel **chp)
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
	STAILQ_INIT(&ch->pend);
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

void channel_destroy(struct channel *ch)
{
	conn_abort_all(ch);
	TAILQ_REMOVE(&ch->w->channels, ch, next);
	if (!ch->orphan)
		stat_add(&ch->w->stats.clients, -1);
	if (ch->device_fd >= 0)
		close(ch->device_fd);
	if (ch->sock_fd >= 0)
		close(ch->sock_fd);
	if (ch->client_fd >= 0)
		close(ch->client_fd);
	/* the client may hold it open, so closing alone would leave it there */
	if (ch->bell_fd >= 0) {
		epoll_ctl(ch->w->epoll_fd, EPOLL_CTL_DEL, ch->bell_fd, NULL);
		close(ch->bell_fd);
	}
	dmm_chan_destroy(ch->chan);
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
	uint64_t one = 1;
	__u64 bad = 0;
	int ret;

	if (ch->device_fd < 0) {
		if (dmm_chan_client_polls(ch->chan))
			return 0;
		stat_add(&ch->w->stats.kicks, 1);
		if (write(ch->client_fd, &one, sizeof(one)) < 0 &&
		    errno != EAGAIN)
			return -errno;
		return 0;
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

	ret = channel_create(w, MODULE_SLOTS, &ch);
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

/* Too many clients: the one that was gone first need not close in peace. */
static void orphan_drop(struct dmm_worker *w)
{
	struct channel *ch;

	TAILQ_FOREACH(ch, &w->channels, next)
		if (ch->orphan)
			break;
	if (ch)
		channel_destroy(ch);
}

void channel_accept(struct dmm_worker *w)
{
	struct channel *ch;
	int fd, ret;

	fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (w->stats.clients >= CLIENTS_MAX)
		orphan_drop(w);
	if (w->stats.clients >= CLIENTS_MAX ||
	    (ret = channel_create(w, CLIENT_SLOTS, &ch))) {
		close(fd);
		return;
	}
	ch->sock_fd = fd;
	ch->client_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = ch->client_fd < 0 ? -errno : hello_send(ch);
	if (!ret)
		ret = worker_epoll_add(w->slow_fd, fd, EPOLLIN | EPOLLRDHUP,
				       (uint64_t)(uintptr_t)ch);
	if (ret) {
		worker_log(NULL, "a client is turned away: %s", strerror(-ret));
		channel_destroy(ch);
	}
}

/*
 * The client has gone. What it said before is still done; then its connections are
 * closed, and the channel stays until the last one is.
 */
static void channel_orphan(struct channel *ch)
{
	struct dmm_worker *w = ch->w;

	while (!ch->broken && conn_ops_run(ch))
		;
	if (ch->broken) {
		channel_destroy(ch);
		return;
	}
	epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, ch->bell_fd, NULL);
	close(ch->bell_fd);
	close(ch->client_fd);
	close(ch->sock_fd);
	ch->bell_fd = -1;
	ch->client_fd = -1;
	ch->sock_fd = -1;
	ch->orphan = true;
	stat_add(&w->stats.clients, -1);
	conn_close_all(ch);
}

/* A message of guards, the end, or nonsense, which is the end as well. */
void channel_read(struct channel *ch)
{
	struct dmm_client_guard guards[DMM_CLIENT_GUARDS];
	int fds[DMM_CLIENT_GUARDS];
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(fds))];
	} ctl;
	struct iovec iov = { .iov_base = guards, .iov_len = sizeof(guards) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
	};
	struct cmsghdr *cmsg;
	size_t i, n = 0;
	ssize_t len;

	len = recvmsg(ch->sock_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (len < 0 && errno == EAGAIN)
		return;
	cmsg = len > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET &&
	    cmsg->cmsg_type == SCM_RIGHTS) {
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(cmsg), n * sizeof(int));
	}
	if (!n || (size_t)len != n * sizeof(guards[0])) {
		for (i = 0; i < n; i++)
			close(fds[i]);
		channel_orphan(ch);
		return;
	}
	/* the ops that opened them come first */
	while (!ch->broken && conn_ops_run(ch))
		;
	for (i = 0; i < n; i++)
		conn_guard(ch, &guards[i], fds[i]);
}
