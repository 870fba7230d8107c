// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

#define BUF	(256 * 1024)

void pattern_fill(void *buf, size_t len, uint64_t from)
{
	uint8_t *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = pattern(from + i);
}

int pattern_check(const void *buf, size_t len, uint64_t from)
{
	const uint8_t *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != pattern(from + i))
			return -1;
	return 0;
}

struct job {
	int fd;
	int port;
};

static int send_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;
	ssize_t n;

	while (len) {
		n = send(fd, p, len, MSG_NOSIGNAL);
		if (n <= 0)
			return -1;
		p += n;
		len -= n;
	}
	return 0;
}

static uint64_t sink(int fd, char *buf)
{
	uint64_t total = 0;
	int broken = 0;
	ssize_t n;

	while ((n = recv(fd, buf, BUF, 0)) > 0) {
		broken |= pattern_check(buf, n, total);
		total += n;
	}
	return broken || n < 0 ? UINT64_MAX : total;
}

static void source(int fd, char *buf)
{
	uint64_t len, at, n;

	if (recv(fd, &len, sizeof(len), MSG_WAITALL) != sizeof(len))
		return;
	for (at = 0; at < len; at += n) {
		n = len - at < BUF ? len - at : BUF;
		pattern_fill(buf, n, at);
		if (send_all(fd, buf, n))
			return;
	}
}

static void *job_run(void *arg)
{
	struct linger linger = { .l_onoff = 1 };
	struct job *job = arg;
	int fd = job->fd;
	char *buf = malloc(BUF);
	uint64_t count;
	ssize_t n;

	switch (job->port) {
	case PEER_ECHO:
		while ((n = recv(fd, buf, BUF, 0)) > 0)
			if (send_all(fd, buf, n))
				break;
		break;
	case PEER_SLOW:
		sleep(1);
		/* fallthrough */
	case PEER_SINK:
		count = sink(fd, buf);
		send_all(fd, &count, sizeof(count));
		break;
	case PEER_SOURCE:
		source(fd, buf);
		break;
	case PEER_RESET:
		n = recv(fd, buf, 1, 0);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		break;
	case PEER_DISCARD:
		while (recv(fd, buf, BUF, 0) > 0)
			;
		break;
	case PEER_FLOOD:
		pattern_fill(buf, BUF, 0);
		while (!send_all(fd, buf, BUF))
			;
		break;
	case PEER_HALF:
		shutdown(fd, SHUT_WR);
		if (sink(fd, buf) == UINT64_MAX)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger,
				   sizeof(linger));
		break;
	}
	close(fd);
	free(buf);
	free(job);
	return NULL;
}

static int listen_on(int port)
{
	/* both families */
	struct sockaddr_in6 sin6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(port),
	};
	int fd, one = 1;

	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sin6, sizeof(sin6)) ||
	    listen(fd, 1024))
		return -1;
	return fd;
}

static void serve(int ready)
{
	struct pollfd pfds[PEER_LAST - PEER_ECHO];
	const int n = PEER_LAST - PEER_ECHO;
	pthread_attr_t attr;
	int i, one = 1;

	for (i = 0; i < n; i++) {
		pfds[i].fd = listen_on(PEER_ECHO + i);
		pfds[i].events = POLLIN;
		if (pfds[i].fd < 0)
			_exit(1);
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 128 * 1024);
	if (write(ready, "", 1) != 1)
		_exit(1);
	close(ready);
	while (poll(pfds, n, -1) > 0) {
		for (i = 0; i < n; i++) {
			struct job *job;
			pthread_t tid;

			if (!pfds[i].revents)
				continue;
			job = malloc(sizeof(*job));
			job->port = PEER_ECHO + i;
			job->fd = accept(pfds[i].fd, NULL, NULL);
			if (job->fd < 0 ||
			    setsockopt(job->fd, SOL_TCP, TCP_NODELAY, &one,
				       sizeof(one)) ||
			    pthread_create(&tid, &attr, job_run, job))
				free(job);
		}
	}
	_exit(1);
}

pid_t peer_start(const char *netns)
{
	int fds[2];
	pid_t pid;
	char c;
	int fd;

	if (pipe(fds))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid) {
		close(fds[1]);
		if (read(fds[0], &c, 1) != 1)
			pid = -EIO;
		close(fds[0]);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	close(fds[0]);
	fd = open(netns, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		_exit(1);
	serve(fds[1]);
	_exit(1);
}
