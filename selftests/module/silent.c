// SPDX-License-Identifier: Apache-2.0
/*
 * A worker that attached, lives, and says nothing: what a program waits for ends all
 * the same, by the kernel's own timers (kmod/watch.c), which have sysctls and options.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "adopt.h"

ADOPT_SUITE(silent)

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* How many TCP sockets of the namespace have this remote port. */
static int sockets_to(int port)
{
	unsigned int rport;
	char line[256];
	FILE *f = fopen("/proc/self/net/tcp", "r");
	int n = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d: %*x:%*x %*x:%x", &rport) == 1 &&
		    (int)rport == port)
			n++;
	if (f)
		fclose(f);
	return n;
}

static bool gone(int port, int seconds)
{
	int i;

	for (i = 0; i < seconds * 20; i++) {
		if (!sockets_to(port))
			return true;
		usleep(50000);
	}
	return false;
}

static void fill(int fd)
{
	static char buf[65536];

	while (send(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
}

static void set_tcp(int fd, int opt, int val)
{
	setsockopt(fd, IPPROTO_TCP, opt, &val, sizeof(val));
}

TEST_F(silent, connect_times_out)
{
	double t;

	ASSERT_EQ(0, world_sysctl("ipv4/tcp_syn_retries", "1"));
	t = now();
	EXPECT_EQ(-ETIMEDOUT, world_connect(self->fd, PORT_SILENT));
	EXPECT_LT(2.5, now() - t);		/* a second, two */
	EXPECT_GT(8, now() - t);
	EXPECT_EQ(0, sockets_to(PORT_SILENT));
}

TEST_F(silent, connect_heeds_syncnt)
{
	double t;

	set_tcp(self->fd, TCP_SYNCNT, 1);
	t = now();
	EXPECT_EQ(-ETIMEDOUT, world_connect(self->fd, PORT_SILENT));
	EXPECT_LT(2.5, now() - t);
	EXPECT_GT(8, now() - t);
}

TEST_F(silent, connect_heeds_user_timeout)
{
	double t = now();

	set_tcp(self->fd, TCP_USER_TIMEOUT, 1500);
	EXPECT_EQ(-ETIMEDOUT, world_connect(self->fd, PORT_SILENT));
	EXPECT_LT(1.4, now() - t);
	EXPECT_GT(12, now() - t);
}

/* A full send() sleeps for as long as the program said. */
TEST_F(silent, send_heeds_user_timeout)
{
	double t;

	ASSERT_EQ(0, world_connect(self->fd, PORT_DEAF));
	set_tcp(self->fd, TCP_USER_TIMEOUT, 1500);
	puppet_freeze(self->p);
	fill(self->fd);
	t = now();
	EXPECT_EQ(-1, send(self->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(ETIMEDOUT, errno);
	EXPECT_GT(12, now() - t);
	EXPECT_EQ(0, sockets_to(PORT_DEAF));
}

/* Without it, none: a peer may close its window for ever. */
TEST_F(silent, send_waits_without_one)
{
	set_timeout(self->fd, SO_SNDTIMEO, 3500);
	ASSERT_EQ(0, world_connect(self->fd, PORT_DEAF));
	puppet_freeze(self->p);
	fill(self->fd);
	EXPECT_EQ(-1, send(self->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(1, sockets_to(PORT_DEAF));
}

TEST_F(silent, orphans_end)
{
	ASSERT_EQ(0, world_sysctl("ipv4/tcp_orphan_retries", "1"));
	ASSERT_EQ(0, world_connect(self->fd, PORT_DEAF));
	puppet_freeze(self->p);
	ASSERT_EQ(1, write(self->fd, "x", 1));
	close(self->fd);
	EXPECT_EQ(1, sockets_to(PORT_DEAF));
	EXPECT_TRUE(gone(PORT_DEAF, 15));
	self->fd = tcp_socket(0);
}

TEST_F(silent, orphans_in_fin_wait2_end)
{
	__u32 slot, gen;

	ASSERT_EQ(0, world_sysctl("ipv4/tcp_fin_timeout", "1"));
	ASSERT_EQ(0, world_connect(self->fd, PORT_DEAF));
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	close(self->fd);
	self->fd = tcp_socket(0);
	ASSERT_EQ(0, send_event(self->p, DMM_EV_FIN_ACKED, slot, gen));
	EXPECT_EQ(1, sockets_to(PORT_DEAF));
	EXPECT_TRUE(gone(PORT_DEAF, 15));
}

/* An orphan whose peer goes on taking bytes is none of these. */
TEST_F(silent, orphans_that_move_live)
{
	struct dmm_ring *tx;
	__u32 slot, gen;
	int i;

	ASSERT_EQ(0, world_sysctl("ipv4/tcp_orphan_retries", "3"));	/* 3 s */
	ASSERT_EQ(0, world_connect(self->fd, PORT_DEAF));
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	fill(self->fd);
	close(self->fd);
	self->fd = tcp_socket(0);
	tx = dmm_chan_tx(puppet_chan(self->p), slot);
	for (i = 0; i < 8; i++) {
		dmm_ring_consume(tx, 1000);
		usleep(800000);
	}
	EXPECT_EQ(1, sockets_to(PORT_DEAF));
	EXPECT_TRUE(gone(PORT_DEAF, 20));
}

/* Each waits for the worker to have heard; that it hears nothing one has seen. */
TEST_F(silent, many_listeners_close)
{
	int fds[30], i;
	double t;

	for (i = 0; i < 30; i++) {
		struct sockaddr_in any = {
			.sin_family = AF_INET,
			.sin_port = htons(4000 + i),
		};

		fds[i] = tcp_socket(0);
		ASSERT_EQ(0, bind(fds[i], (struct sockaddr *)&any, sizeof(any)));
		ASSERT_EQ(0, listen(fds[i], 4));
		ASSERT_EQ(1, world_adopted(fds[i]));
	}
	puppet_freeze(self->p);
	t = now();
	for (i = 0; i < 30; i++)
		close(fds[i]);
	EXPECT_GT(3, now() - t);		/* not 30 times 0.2 */
	puppet_thaw(self->p);
}

TEST_F(silent, linger_ends)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 1 };
	double t;

	ASSERT_EQ(0, world_connect(self->fd, PORT_DEAF));
	setsockopt(self->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	puppet_freeze(self->p);
	fill(self->fd);
	t = now();
	close(self->fd);
	EXPECT_GT(8, now() - t);
	self->fd = tcp_socket(0);
}

TEST_HARNESS_MAIN
