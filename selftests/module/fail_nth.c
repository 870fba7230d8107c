// SPDX-License-Identifier: Apache-2.0
/*
 * Each path of the module with its first, second, third ... allocation failing
 * (/proc/self/fail-nth, Documentation/fault-injection), until one run has none left
 * to fail. What a path returns does not matter; that the kernel stays whole does,
 * and that the path works again afterwards. Skips where the kernel has no fault
 * injection: scripts/test --debug has.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "puppet.h"
#include "world.h"

#define MOST	300	/* no path has that many allocations */

FIXTURE(fail_nth) {
	struct world *w;
	struct puppet *p;
	int fail;
};

FIXTURE_SETUP(fail_nth)
{
	struct puppet_opts opts = { .name = "puppet", .id = WORLD_STACK };

	self->fail = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
	if (self->fail < 0)
		SKIP(return, "no fault injection in this kernel");
	signal(SIGPIPE, SIG_IGN);
	/* All sleeping and atomic allocations, of slabs and of single pages. */
	system("cd /sys/kernel/debug/failslab && echo N >ignore-gfp-wait && "
	       "echo 0 >verbose; cd ../fail_page_alloc && echo 0 >min-order && "
	       "echo N >ignore-gfp-wait && echo N >ignore-gfp-highmem && "
	       "echo 0 >verbose");
	self->w = world_enter();
	ASSERT_NE(NULL, self->w);
	opts.ifindex = world_ifindex(self->w);
	self->p = puppet_start(&opts);
	ASSERT_NE(NULL, self->p);
}

FIXTURE_TEARDOWN(fail_nth)
{
	if (self->fail < 0)
		return;
	puppet_kill(self->p);
	world_leave(self->w);
	close(self->fail);
}

static void inject(int fail, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	if (pwrite(fail, text, len, 0) != len)
		abort();
}

/* Was the nth allocation reached? Also ends the injection. */
static bool injected(int fail)
{
	char text[16] = "";

	if (pread(fail, text, sizeof(text) - 1, 0) <= 0)
		abort();
	inject(fail, 0);
	return atoi(text) == 0;
}

static int socket_to(__u16 port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!world_connect(fd, port))
		return fd;
	close(fd);
	return -1;
}

TEST_F_TIMEOUT(fail_nth, connect, 600)
{
	int n, fd;

	for (n = 1; n < MOST; n++) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		inject(self->fail, n);
		world_connect(fd, PORT_ECHO);
		if (!injected(self->fail)) {
			close(fd);
			break;
		}
		close(fd);
	}
	EXPECT_LT(5, n);
	EXPECT_GT(MOST, n);
	fd = socket_to(PORT_ECHO);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, world_adopted(fd));
	close(fd);
}

TEST_F_TIMEOUT(fail_nth, transfer, 600)
{
	static char buf[30000];
	struct pollfd pfd;
	int n, fd;

	for (n = 1; n < MOST; n++) {
		fd = socket_to(PORT_ECHO);
		if (fd < 0 || !world_adopted(fd)) {
			close(fd);
			usleep(20000);
			n--;
			continue;
		}
		pfd = (struct pollfd) { .fd = fd, .events = POLLIN };
		inject(self->fail, n);
		write(fd, buf, sizeof(buf));
		poll(&pfd, 1, 50);
		recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		shutdown(fd, SHUT_WR);
		if (!injected(self->fail)) {
			close(fd);
			break;
		}
		close(fd);
	}
	EXPECT_GT(MOST, n);
}

TEST_F_TIMEOUT(fail_nth, closing, 600)
{
	int n, fd;

	for (n = 1; n < MOST; n++) {
		fd = socket_to(PORT_DISCARD);
		if (fd < 0 || !world_adopted(fd)) {
			close(fd);
			usleep(20000);
			n--;
			continue;
		}
		inject(self->fail, n);
		close(fd);
		if (!injected(self->fail))
			break;
	}
	EXPECT_GT(MOST, n);
}

/* The worker's calls are made here, by this thread: its ioctl makes the child. */
TEST_F_TIMEOUT(fail_nth, children, 600)
{
	struct puppet_caller caller = {
		.lport = 4000,
		.rport = 1024,
		.what = PORT_ECHO,
	};
	struct sockaddr_in me = {
		.sin_family = AF_INET,
		.sin_port = htons(4000),
	};
	int l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), n, fd;

	ASSERT_EQ(0, bind(l, (struct sockaddr *)&me, sizeof(me)));
	ASSERT_EQ(0, listen(l, 64));
	for (n = 1; n < MOST; n++) {
		bool hit;

		caller.rport++;
		inject(self->fail, n);
		puppet_call(self->p, &caller);
		fd = accept(l, NULL, NULL);
		hit = injected(self->fail);
		close(fd);
		if (!hit && n > 5)
			break;
	}
	EXPECT_GT(MOST, n);
	/* Sock, request, packet, state, two rings, struct socket, file ... */
	EXPECT_LT(8, n);
	/* and once more, whole */
	for (n = 0; n < 100; n++) {
		caller.rport++;
		if (!puppet_call(self->p, &caller))
			break;
		usleep(20000);
	}
	fd = accept(l, NULL, NULL);
	EXPECT_LE(0, fd);
	close(fd);
	close(l);
}

TEST_F_TIMEOUT(fail_nth, attach, 600)
{
	struct puppet_opts opts = { .name = "another", .id = WORLD_STACK + 1 };
	struct puppet *p;
	int n;

	opts.ifindex = world_ifindex(self->w);
	for (n = 1; n < MOST; n++) {
		inject(self->fail, n);
		p = puppet_start(&opts);
		if (!injected(self->fail)) {
			puppet_kill(p);
			break;
		}
		puppet_kill(p);
	}
	EXPECT_GT(MOST, n);
	p = puppet_start(&opts);
	EXPECT_NE(NULL, p);
	puppet_kill(p);
}

TEST_F_TIMEOUT(fail_nth, listing, 600)
{
	int n, fd = socket_to(PORT_ECHO);

	for (n = 1; n < MOST; n++) {
		inject(self->fail, n);
		world_fallbacks(DMM_FALLBACK_ROUTE);
		if (!injected(self->fail))
			break;
	}
	EXPECT_GT(MOST, n);
	close(fd);
}

TEST_HARNESS_MAIN
