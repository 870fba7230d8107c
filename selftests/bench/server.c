// SPDX-License-Identifier: Apache-2.0
/* The server's side of the load generator: three services on three ports. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load.h"

#define BACKLOG		4096
#define EVENTS		256
#define ECHO_BUF	65536

/* What an epoll event leads to. */
struct end {
	int fd;
	enum service service;
	bool listener;
};

static char *data;		/* what is read is not looked at */
static unsigned int data_len;
static unsigned int write_len;	/* what the source gives to one call */

static int listener_open(const struct load *l, enum service service)
{
	struct sockaddr_storage addr = l->addr;
	in_port_t *port;
	int fd, one = 1;

	port = addr.ss_family == AF_INET ?
		       &((struct sockaddr_in *)&addr)->sin_port :
		       &((struct sockaddr_in6 *)&addr)->sin6_port;
	*port = htons(ntohs(*port) + service);
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, l->addr_len) ||
	    listen(fd, BACKLOG))
		die("port %u: cannot listen: %s", ntohs(*port),
		    strerror(errno));
	return fd;
}

/* An answer leaves at once; small writes of a stream may be joined. */
static int child_accept(const struct end *listener, int flags)
{
	int fd, one = 1;

	fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | flags);
	if (fd >= 0 && listener->service == SERVE_ECHO)
		setsockopt(fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* Write all of it, on a blocking socket or not; false when it is over. */
static bool write_all(int fd, const char *buf, size_t len)
{
	ssize_t n;

	while (len) {
		n = send(fd, buf, len, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (n > 0) {
			buf += n;
			len -= n;
		}
	}
	return true;
}

/* One turn of a service; false when the connection is over. */
static bool serve(int fd, enum service service)
{
	ssize_t n;

	if (service == SERVE_SOURCE)
		n = send(fd, data, write_len, MSG_NOSIGNAL);
	else
		n = recv(fd, data, data_len, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (!n)
		return false;
	return service != SERVE_ECHO || write_all(fd, data, n);
}

/* ------------------------------------------------------------------------- */

static void *conn_thread(void *arg)
{
	struct end *end = arg;

	while (serve(end->fd, end->service))
		;
	close(end->fd);
	free(end);
	return NULL;
}

static void *listener_thread(void *arg)
{
	struct end *listener = arg, *end;
	pthread_t thread;

	for (;;) {
		int fd = child_accept(listener, 0);

		if (fd < 0)
			continue;
		end = malloc(sizeof(*end));
		if (!end)
			die("no memory");
		*end = (struct end) { .fd = fd, .service = listener->service };
		if (pthread_create(&thread, NULL, conn_thread, end))
			die("cannot make a thread");
		pthread_detach(thread);
	}
	return NULL;
}

static void run_threads(struct end *listeners)
{
	pthread_t thread;
	int i;

	for (i = 1; i < SERVICES; i++)
		if (pthread_create(&thread, NULL, listener_thread,
				   &listeners[i]))
			die("cannot make a thread");
	listener_thread(&listeners[0]);
}

static void end_watch(int epoll_fd, struct end *end)
{
	struct epoll_event ev = {
		.events = !end->listener && end->service == SERVE_SOURCE ?
				  EPOLLOUT : EPOLLIN,
		.data.ptr = end,
	};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, end->fd, &ev))
		die("epoll_ctl: %s", strerror(errno));
}

/* All that wait to be accepted. */
static void accept_all(int epoll_fd, const struct end *listener)
{
	struct end *end;
	int fd;

	while ((fd = child_accept(listener, SOCK_NONBLOCK)) >= 0) {
		end = malloc(sizeof(*end));
		if (!end)
			die("no memory");
		*end = (struct end) { .fd = fd, .service = listener->service };
		end_watch(epoll_fd, end);
	}
}

static void run_epoll(struct end *listeners, int timeout)
{
	struct epoll_event evs[EVENTS];
	int epoll_fd, i, n;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1: %s", strerror(errno));
	for (i = 0; i < SERVICES; i++) {
		fcntl(listeners[i].fd, F_SETFL, O_NONBLOCK);
		end_watch(epoll_fd, &listeners[i]);
	}
	for (;;) {
		n = epoll_wait(epoll_fd, evs, EVENTS, timeout);
		for (i = 0; i < n; i++) {
			struct end *end = evs[i].data.ptr;

			if (end->listener) {
				accept_all(epoll_fd, end);
			} else if (!serve(end->fd, end->service)) {
				close(end->fd);
				free(end);
			}
		}
	}
}

void server_run(const struct load *l)
{
	struct end listeners[SERVICES];
	int i;

	write_len = l->size;
	data_len = write_len < ECHO_BUF ? ECHO_BUF : write_len;
	data = calloc(1, data_len);
	if (!data)
		die("no memory");
	for (i = 0; i < SERVICES; i++)
		listeners[i] = (struct end) {
			.fd = listener_open(l, i),
			.service = i,
			.listener = true,
		};
	printf("ready\n");
	fflush(stdout);
	if (l->wait == WAIT_BLOCK)
		run_threads(listeners);
	run_epoll(listeners, l->wait == WAIT_SPIN ? 0 : -1);
	exit(EXIT_FAILURE);
}
