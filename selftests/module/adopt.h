/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of an adopted socket against a puppet stack share. */
#ifndef MODULE_ADOPT_H
#define MODULE_ADOPT_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <dmm/chan.h>

#include "kselftest_harness.h"
#include "puppet.h"
#include "world.h"

static inline int tcp_socket(int flags)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

static inline int wait_for(int fd, short events, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, ms) > 0 ? pfd.revents : 0;
}

static inline int so_error(int fd)
{
	socklen_t len = sizeof(int);
	int err = -1;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err;
}

static inline int tcp_state(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info.tcpi_state;
}

static inline void set_timeout(int fd, int opt, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, opt, &tv, sizeof(tv));
}

/* An event as the worker would send it; how many the module dropped. */
static inline int send_event(struct puppet *p, __u32 type, __u32 slot, __u32 gen)
{
	struct dmm_event ev = { .ev = type, .slot = slot, .gen = gen };
	__u64 bad = 0;

	dmm_chan_event_put(puppet_chan(p), &ev);
	return puppet_kick(p, &bad) < 0 ? -1 : (int)bad;
}

/* A world, a puppet that serves it, and a socket that is not connected yet. */
#define ADOPT_SUITE(suite)						\
FIXTURE(suite) {							\
	struct world *w;						\
	struct puppet *p;						\
	int fd;								\
};									\
FIXTURE_SETUP(suite)							\
{									\
	struct puppet_opts opts = { .name = "puppet", .id = WORLD_STACK };	\
	signal(SIGPIPE, SIG_IGN);					\
	self->w = world_enter();					\
	ASSERT_NE(NULL, self->w);					\
	opts.ifindex = world_ifindex(self->w);				\
	self->p = puppet_start(&opts);					\
	ASSERT_NE(NULL, self->p) TH_LOG("puppet: %s", strerror(errno));	\
	self->fd = tcp_socket(0);					\
	ASSERT_LE(0, self->fd);						\
}									\
FIXTURE_TEARDOWN(suite)							\
{									\
	close(self->fd);						\
	puppet_kill(self->p);						\
	world_leave(self->w);						\
}

#endif /* MODULE_ADOPT_H */
