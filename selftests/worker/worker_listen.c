// SPDX-License-Identifier: Apache-2.0
/* Listeners of a worker, under connections from the kernel's TCP. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "dmm_bpf.h"
#include "kselftest_harness.h"
#include "peer.h"
#include "rig.h"
#include "uclient.h"

#define PORT	8080
#define QUEUED	1000

FIXTURE(listen) {
	struct rig rig;
	struct uclient *uc;
	char line[512];
};

FIXTURE_SETUP(listen)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_create(rig));
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line),
				      NULL)) {
		TH_LOG("%s", self->line);
	}
	self->uc = malloc(sizeof(*self->uc));
	ASSERT_EQ(0, uc_open(self->uc, rig->sock, RIG_SADDR,
			     rig->ifindex));
}

/* Whatever was done, nothing was malformed. */
FIXTURE_TEARDOWN(listen)
{
	EXPECT_EQ(0, rig_stat(&self->rig, "bad_ops"));
	EXPECT_EQ(0, rig_stat(&self->rig, "flow_errors"));
	uc_close(self->uc);
	free(self->uc);
	rig_destroy(&self->rig);
}

/* Any address, IPv4; in force when this returns. */
static int listen_any(struct uclient *uc, const struct rig *rig,
		      uint32_t backlog)
{
	long before = rig_stat(rig, "listeners");
	int slot = uc_listen(uc, AF_INET, NULL, PORT, backlog, 0);

	return rig_stat_wait(rig, "listeners", before + 1) == before + 1 ?
		       slot : -1;
}

/* Wait for an offer; a listener is also told that it is served. */
static int offered(struct uclient *uc)
{
	int ret = 0;

	while (!ret && !uc->noffers)
		ret = uc_wait(uc, 5000);
	return ret;
}

/* Both directions of an open connection. */
static int ping(struct uclient *uc, int slot, int fd)
{
	char buf[4];

	if (send(fd, "ping", 4, MSG_NOSIGNAL) != 4 ||
	    uc_recv(uc, slot, buf, 4) != 4 || memcmp(buf, "ping", 4) ||
	    uc_send(uc, slot, "pong", 4) ||
	    recv(fd, buf, 4, MSG_WAITALL) != 4 || memcmp(buf, "pong", 4))
		return -1;
	return 0;
}

/* The next thing that the peer reads: 0 for a FIN, or -errno. */
static int peer_end(int fd)
{
	char buf[64];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	return n < 0 ? -errno : (int)n;
}

TEST_F(listen, accept_and_close)
{
	struct uclient *uc = self->uc;
	int slot, fd;

	ASSERT_LE(0, listen_any(uc, &self->rig, 8));
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	slot = uc_accept(uc, -1, 5000);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, ping(uc, slot, fd));
	EXPECT_EQ(1, rig_stat(&self->rig, "conns"));
	EXPECT_EQ(0, rig_stat(&self->rig, "waiting"));

	/* the peer closes first */
	ASSERT_EQ(0, shutdown(fd, SHUT_WR));
	while (!uc->conns[slot].fin) {
		ASSERT_EQ(0, uc_wait(uc, 5000));
	}
	uc_op(uc, slot, DMM_OP_CLOSE);
	EXPECT_EQ(0, peer_end(fd));
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	close(fd);

	/* we close first: FIN, its acknowledgement, the peer's FIN */
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	slot = uc_accept(uc, -1, 5000);
	ASSERT_LE(0, slot);
	uc_op(uc, slot, DMM_OP_SHUTDOWN);
	EXPECT_EQ(0, peer_end(fd));
	while (!uc->conns[slot].fin_acked) {
		ASSERT_EQ(0, uc_wait(uc, 5000));
	}
	EXPECT_FALSE(uc->conns[slot].fin);
	close(fd);
	EXPECT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 5000));
	EXPECT_TRUE(uc->conns[slot].fin);
}

/* What an offer says is what the peer knows. */
TEST_F(listen, offer_tells)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	struct uclient *uc = self->uc;
	struct dmm_ev_incoming *in = &uc->offers[0].in;
	int slot, fd;

	slot = listen_any(uc, &self->rig, 8);
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, offered(uc));
	ASSERT_EQ(1U, uc->noffers);
	ASSERT_EQ(0, getsockname(fd, (struct sockaddr *)&sin, &len));
	EXPECT_EQ((uint32_t)slot, uc->offers[0].slot);
	EXPECT_EQ(AF_INET, in->family);
	EXPECT_EQ(sin.sin_port, in->rport);
	EXPECT_EQ(sin.sin_addr.s_addr, in->raddr[0]);
	EXPECT_EQ(htons(PORT), in->lport);
	EXPECT_EQ(rig_addr(RIG_SADDR), in->laddr[0]);
	EXPECT_EQ(64, in->ttl);
	EXPECT_NE(0U, in->token);
	close(fd);
}

/* Data and FIN of a child that nobody has attached yet are kept. */
TEST_F(listen, early_data)
{
	struct uclient *uc = self->uc;
	char buf[64];
	int slot, fd;

	ASSERT_LE(0, listen_any(uc, &self->rig, 8));
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(5, send(fd, "hello", 5, 0));
	ASSERT_EQ(6, send(fd, " world", 6, 0));
	ASSERT_EQ(0, shutdown(fd, SHUT_WR));
	usleep(100000);
	slot = uc_accept(uc, -1, 5000);
	ASSERT_LE(0, slot);
	ASSERT_EQ(11, uc_recv(uc, slot, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, "hello world", 11));
	EXPECT_TRUE(uc->conns[slot].fin);
	ASSERT_EQ(0, uc_send(uc, slot, "bye", 3));
	uc_op(uc, slot, DMM_OP_CLOSE);
	EXPECT_EQ(3, peer_end(fd));
	EXPECT_EQ(0, peer_end(fd));
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	close(fd);
}

/* More of it than is kept: the window closes and opens again. */
TEST_F_TIMEOUT(listen, early_flood, 60)
{
	static char out[1 << 20], in[1 << 20];
	struct uclient *uc = self->uc;
	size_t sent = 0;
	int slot, fd;
	ssize_t n;

	ASSERT_LE(0, listen_any(uc, &self->rig, 8));
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	pattern_fill(out, sizeof(out), 0);
	n = send(fd, out, sizeof(out), MSG_DONTWAIT);
	ASSERT_LT(0, n);
	sent += n;
	usleep(300000);
	slot = uc_accept(uc, -1, 5000);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, shutdown(fd, SHUT_WR));
	ASSERT_EQ((long)sent, uc_recv(uc, slot, in, sizeof(in)));
	EXPECT_EQ(0, pattern_check(in, sent, 0));
	close(fd);
}

/* A thousand connect before anybody attaches: none is lost. */
TEST_F_TIMEOUT(listen, thousand_queued, 120)
{
	static int fds[QUEUED], slots[QUEUED];
	struct uclient *uc = self->uc;
	struct sockaddr_storage ss;
	socklen_t len = rig_sockaddr(&ss, RIG_SADDR, PORT, 0);
	long t0 = uc_now_ms();
	uint64_t id;
	int i;

	ASSERT_LE(0, listen_any(uc, &self->rig, 1024));
	for (i = 0; i < QUEUED; i++) {
		fds[i] = rig_socket(&self->rig, self->rig.web_fd, AF_INET,
				    SOCK_STREAM | SOCK_NONBLOCK, 0);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(-1, connect(fds[i], (struct sockaddr *)&ss, len));
		ASSERT_EQ(EINPROGRESS, errno);
	}
	for (i = 0; i < QUEUED; i++) {
		struct pollfd pfd = { .fd = fds[i], .events = POLLOUT };

		ASSERT_EQ(1, poll(&pfd, 1, 10000));
		ASSERT_EQ(POLLOUT, pfd.revents);
		id = i;
		ASSERT_EQ(8, send(fds[i], &id, 8, 0));
	}
	EXPECT_EQ(QUEUED, rig_stat_wait(&self->rig, "waiting", QUEUED));
	EXPECT_EQ(0, rig_stat(&self->rig, "backlog_drop"));
	for (i = 0; i < QUEUED; i++) {
		slots[i] = uc_accept(uc, -1, 5000);
		ASSERT_LE(0, slots[i]);
	}
	for (i = 0; i < QUEUED; i++) {
		ASSERT_EQ(8, uc_recv(uc, slots[i], &id, 8));
		ASSERT_GT(QUEUED, id);
		ASSERT_LE(0, fds[id]);
		/* each peer once */
		close(fds[id]);
		fds[id] = -1;
		uc_op(uc, slots[i], DMM_OP_CLOSE);
	}
	for (i = 0; i < QUEUED; i++) {
		ASSERT_EQ(DMM_EV_GONE, uc_finish(uc, slots[i], 5000));
	}
	EXPECT_EQ(0, rig_stat(&self->rig, "stack_conns"));
	TH_LOG("%ld ms", uc_now_ms() - t0);
}

/* One more than the backlog may wait; the rest come when there is room. */
TEST_F_TIMEOUT(listen, backlog, 60)
{
	struct uclient *uc = self->uc;
	struct sockaddr_storage ss;
	socklen_t len = rig_sockaddr(&ss, RIG_SADDR, PORT, 0);
	int fds[10], slots[10], i, open = 0, lslot;
	struct pollfd pfds[10];

	lslot = listen_any(uc, &self->rig, 3);
	ASSERT_LE(0, lslot);
	for (i = 0; i < 10; i++) {
		fds[i] = rig_socket(&self->rig, self->rig.web_fd, AF_INET,
				    SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fds[i], (struct sockaddr *)&ss, len);
		pfds[i] = (struct pollfd) { .fd = fds[i], .events = POLLOUT };
	}
	usleep(300000);
	ASSERT_LE(0, poll(pfds, 10, 0));
	for (i = 0; i < 10; i++)
		open += !!(pfds[i].revents & POLLOUT);
	EXPECT_EQ(4, open);
	EXPECT_EQ(4, rig_stat(&self->rig, "waiting"));
	EXPECT_LE(6, rig_stat(&self->rig, "backlog_drop"));
	/* a new backlog, for the same slot */
	uc_listen_again(uc, lslot, PORT, 16);
	for (i = 0; i < 10; i++) {
		slots[i] = uc_accept(uc, lslot, 10000);
		ASSERT_LE(0, slots[i]);
	}
	EXPECT_EQ(1, rig_stat(&self->rig, "listeners"));
	for (i = 0; i < 10; i++)
		close(fds[i]);
}

/* Offered again and again; one that is late is told so. */
TEST_F_TIMEOUT(listen, offered_again, 60)
{
	struct uclient *uc = self->uc;
	long t0, t1, t2;
	uint64_t token;
	int lslot, slot, fd;

	lslot = listen_any(uc, &self->rig, 8);
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	while (uc->noffers < 1) {
		ASSERT_EQ(0, uc_wait(uc, 5000));
	}
	t0 = uc_now_ms();
	while (uc->noffers < 2) {
		ASSERT_EQ(0, uc_wait(uc, 5000));
	}
	t1 = uc_now_ms();
	while (uc->noffers < 3) {
		ASSERT_EQ(0, uc_wait(uc, 5000));
	}
	t2 = uc_now_ms();
	EXPECT_LE(900, t1 - t0);
	EXPECT_LE(1900, t2 - t1);
	token = uc->offers[0].in.token;
	EXPECT_EQ(token, uc->offers[1].in.token);
	EXPECT_EQ(token, uc->offers[2].in.token);
	slot = uc_attach(uc, token, lslot);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, ping(uc, slot, fd));
	/* twice is once too often */
	slot = uc_attach(uc, token, lslot);
	EXPECT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 5000));
	EXPECT_EQ(ECONNRESET, (int)uc->conns[slot].error);
	close(fd);
}

/* Nobody wants it: reset in the end. */
TEST_F_TIMEOUT(listen, unclaimed, 90)
{
	struct timeval patience = { .tv_sec = 40 };
	struct uclient *uc = self->uc;
	int fd, lslot;
	long t0;

	lslot = listen_any(uc, &self->rig, 8);
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	t0 = uc_now_ms();
	EXPECT_EQ(-ECONNRESET, peer_end(fd));
	EXPECT_LE(30000, uc_now_ms() - t0);
	EXPECT_EQ(1, rig_stat(&self->rig, "unclaimed"));
	EXPECT_EQ(5, rig_stat(&self->rig, "offers"));
	EXPECT_EQ(0, rig_stat(&self->rig, "waiting"));
	EXPECT_EQ(0, rig_stat(&self->rig, "stack_conns"));
	/* and there is room for the next */
	close(fd);
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	uc_wait(uc, 1000);
	uc->offers[0] = uc->offers[uc->noffers - 1];
	uc->noffers = 1;
	ASSERT_LE(0, uc_accept(uc, lslot, 5000));
	close(fd);
}

TEST_F(listen, tokens)
{
	struct linger linger = { .l_onoff = 1 };
	struct uclient *uc = self->uc;
	int a, b, slot, fd;
	uint64_t token;

	a = listen_any(uc, &self->rig, 8);
	b = uc_listen(uc, AF_INET, NULL, PORT + 1, 8, 0);
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, offered(uc));
	token = uc->offers[0].in.token;

	/* never given, another listener's, of no listener */
	slot = uc_attach(uc, token + 1000, a);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	slot = uc_attach(uc, 0, a);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	slot = uc_attach(uc, token, b);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	slot = uc_attach(uc, token, 4000);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	EXPECT_EQ(4, rig_stat(&self->rig, "bad_tokens"));

	/* the child did not suffer; then it dies, and is forgotten */
	EXPECT_EQ(1, rig_stat(&self->rig, "waiting"));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "waiting", 0));
	EXPECT_EQ(0, rig_stat(&self->rig, "stack_conns"));
	slot = uc_attach(uc, token, a);
	EXPECT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 5000));
	EXPECT_EQ(ECONNRESET, (int)uc->conns[slot].error);
	EXPECT_EQ(4, rig_stat(&self->rig, "bad_tokens"));
	EXPECT_EQ(0, rig_stat(&self->rig, "conns"));
}

/* Stopping resets who waits, spares who is attached, and refuses who comes. */
TEST_F(listen, stop)
{
	struct uclient *uc = self->uc;
	int lslot, slot, kept, waits, gen;
	long bad;

	lslot = listen_any(uc, &self->rig, 8);
	kept = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, kept);
	slot = uc_accept(uc, lslot, 5000);
	waits = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, waits);
	ASSERT_EQ(1, rig_stat_wait(&self->rig, "waiting", 1));
	gen = uc->conns[lslot].gen;
	uc_op(uc, lslot, DMM_OP_ABORT);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, lslot, 5000));
	EXPECT_EQ(-ECONNRESET, peer_end(waits));
	EXPECT_EQ(0, rig_stat(&self->rig, "listeners"));
	EXPECT_EQ(-ECONNREFUSED, rig_dial(&self->rig, RIG_SADDR, PORT));
	ASSERT_EQ(0, ping(uc, slot, kept));
	close(kept);
	close(waits);

	/* listen() once more, which crossed the end: nobody's listener */
	bad = rig_stat(&self->rig, "bad_ops");
	uc_listen_again(uc, lslot, PORT, 8);
	EXPECT_EQ(1, rig_stat_wait(&self->rig, "stale_ops", 1));
	EXPECT_EQ(0, rig_stat(&self->rig, "listeners"));
	EXPECT_EQ(-ECONNREFUSED, rig_dial(&self->rig, RIG_SADDR, PORT));

	/* the slot at once for another */
	uc->noffers = 0;
	uc->next_slot = lslot;
	slot = listen_any(uc, &self->rig, 8);
	EXPECT_EQ(lslot, slot);
	EXPECT_NE(gen, (int)uc->conns[slot].gen);
	kept = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, kept);
	slot = uc_accept(uc, lslot, 5000);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, ping(uc, slot, kept));
	EXPECT_EQ(bad, rig_stat(&self->rig, "bad_ops"));
	close(kept);
}

/* Several of one port share what comes. */
TEST_F_TIMEOUT(listen, reuseport, 60)
{
	struct uclient *uc = self->uc;
	int lslots[4], fds[100], got[4] = { 0 }, i, j;

	for (i = 0; i < 4; i++)
		lslots[i] = listen_any(uc, &self->rig, 128);
	for (i = 0; i < 100; i++) {
		fds[i] = rig_dial(&self->rig, RIG_SADDR, PORT);
		ASSERT_LE(0, fds[i]);
	}
	while (uc->noffers < 100) {
		ASSERT_EQ(0, uc_wait(uc, 5000));
	}
	for (i = 0; i < 100; i++)
		for (j = 0; j < 4; j++)
			got[j] += uc->offers[i].slot == (uint32_t)lslots[j];
	EXPECT_EQ(100, got[0] + got[1] + got[2] + got[3]);
	for (i = 0; i < 4; i++) {
		EXPECT_LT(5, got[i]);
	}
	/* one goes; the others go on */
	uc_op(uc, lslots[0], DMM_OP_ABORT);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, lslots[0], 5000));
	for (i = 0; i < 20; i++) {
		close(fds[i]);
		fds[i] = rig_dial(&self->rig, RIG_SADDR, PORT);
		EXPECT_LE(0, fds[i]);
	}
	for (i = 0; i < 100; i++)
		close(fds[i]);
}

/* Connect to @text and attach; whether the stack had it. */
static bool reaches(struct uclient *uc, const struct rig *rig, const char *text)
{
	int fd = rig_dial(rig, text, PORT), slot;
	bool ok;

	if (fd < 0)
		return false;
	slot = uc_accept(uc, -1, 3000);
	ok = slot >= 0 && !ping(uc, slot, fd);
	close(fd);
	return ok;
}

TEST_F(listen, families)
{
	struct uclient *uc = self->uc;
	struct rig *rig = &self->rig;
	uint32_t addr6[4], addr = rig_addr(RIG_SADDR);
	int slot;

	/* IPv6 any is both */
	slot = uc_listen(uc, AF_INET6, NULL, PORT, 8, 0);
	ASSERT_EQ(1, rig_stat_wait(rig, "listeners", 1));
	EXPECT_TRUE(reaches(uc, rig, RIG_SADDR));
	EXPECT_TRUE(reaches(uc, rig, RIG_SADDR6));
	EXPECT_TRUE(reaches(uc, rig, RIG_SLOCAL6));
	uc_op(uc, slot, DMM_OP_ABORT);
	ASSERT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	EXPECT_EQ(-ECONNREFUSED, rig_dial(rig, RIG_SADDR6, PORT));

	/* unless it says that it is not */
	slot = uc_listen(uc, AF_INET6, NULL, PORT, 8, DMM_LISTEN_V6ONLY);
	ASSERT_EQ(1, rig_stat_wait(rig, "listeners", 1));
	EXPECT_EQ(-ECONNREFUSED, rig_dial(rig, RIG_SADDR, PORT));
	EXPECT_TRUE(reaches(uc, rig, RIG_SADDR6));
	uc_op(uc, slot, DMM_OP_ABORT);
	ASSERT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));

	/* one address, of either family */
	rig_addr6(RIG_SADDR6, addr6);
	slot = uc_listen(uc, AF_INET6, addr6, PORT, 8, 0);
	ASSERT_EQ(1, rig_stat_wait(rig, "listeners", 1));
	EXPECT_EQ(-ECONNREFUSED, rig_dial(rig, RIG_SLOCAL6, PORT));
	EXPECT_EQ(-ECONNREFUSED, rig_dial(rig, RIG_SADDR, PORT));
	EXPECT_TRUE(reaches(uc, rig, RIG_SADDR6));
	slot = uc_listen(uc, AF_INET, &addr, PORT, 8, 0);
	ASSERT_EQ(2, rig_stat_wait(rig, "listeners", 2));
	EXPECT_TRUE(reaches(uc, rig, RIG_SADDR));
}

/* The listener of the address itself is preferred to that of any. */
TEST_F(listen, own_address_first)
{
	struct uclient *uc = self->uc;
	uint32_t addr = rig_addr(RIG_SADDR);
	int any, own, fd;

	any = listen_any(uc, &self->rig, 8);
	own = uc_listen(uc, AF_INET, &addr, PORT, 8, 0);
	ASSERT_EQ(2, rig_stat_wait(&self->rig, "listeners", 2));
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, offered(uc));
	EXPECT_EQ((uint32_t)own, uc->offers[0].slot);
	close(fd);
	uc->noffers = 0;
	/* both want the same segments; one of them goes */
	uc_op(uc, own, DMM_OP_ABORT);
	ASSERT_EQ(DMM_EV_GONE, uc_finish(uc, own, 5000));
	fd = rig_dial(&self->rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, offered(uc));
	EXPECT_EQ((uint32_t)any, uc->offers[0].slot);
	close(fd);
}

/* Does the device's program take SYNs to that IPv4 address? */
static bool steered(const struct rig *rig, const char *addr)
{
	struct dmm_flow flow = {
		.laddr = { rig_addr(addr) },
		.lport = htons(PORT),
		.proto = IPPROTO_TCP,
		.family = AF_INET,
	};
	struct dmm_flow_val val;
	char path[128];
	bool ret;
	int fd;

	snprintf(path, sizeof(path), DMM_BPF_DIR "/stack/%s/flows", rig->name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		abort();
	ret = !bpf_map_lookup_elem(fd, &flow, &val);
	close(fd);
	return ret;
}

/* Any address means those that the namespace has now. */
TEST_F(listen, addresses_come_and_go)
{
	struct uclient *uc = self->uc;
	struct rig *rig = &self->rig;
	int i;

	uc_listen(uc, AF_INET6, NULL, PORT, 8, 0);
	ASSERT_EQ(1, rig_stat_wait(rig, "listeners", 1));
	ASSERT_EQ(0, rig_run(rig->app_fd,
			     "ip addr add 10.77.0.7/24 dev " RIG_DEV
			     " && ip addr add fd77::7/64 dev " RIG_DEV " nodad"
			     " && ip addr add 10.99.0.1/32 dev lo"));
	ASSERT_EQ(0, rig_run(rig->web_fd,
			     "ip route add 10.99.0.1 via " RIG_SADDR));
	/* a turn of the worker's, to hear of it */
	for (i = 0; i < 100 && !reaches(uc, rig, "10.99.0.1"); i++)
		usleep(10000);
	EXPECT_TRUE(reaches(uc, rig, "10.77.0.7"));
	EXPECT_TRUE(reaches(uc, rig, "fd77::7"));
	EXPECT_TRUE(reaches(uc, rig, "10.99.0.1"));
	EXPECT_TRUE(steered(rig, "10.77.0.7"));
	ASSERT_EQ(0, rig_run(rig->app_fd,
			     "ip addr del 10.77.0.7/24 dev " RIG_DEV));
	for (i = 0; i < 100 && steered(rig, "10.77.0.7"); i++)
		usleep(10000);
	EXPECT_FALSE(steered(rig, "10.77.0.7"));
	EXPECT_FALSE(steered(rig, "127.0.0.1"));
	EXPECT_FALSE(steered(rig, "0.0.0.0"));
	EXPECT_TRUE(steered(rig, RIG_SADDR));
	EXPECT_TRUE(reaches(uc, rig, "fd77::7"));
}

/* The kernel's connections of the same port stay its own. */
TEST_F(listen, native_ones_stay)
{
	struct uclient *uc = self->uc;
	struct rig *rig = &self->rig;
	struct sockaddr_storage ss;
	socklen_t len = rig_sockaddr(&ss, "0.0.0.0", PORT, 0);
	int native, child, fd, slot, one = 1;
	char buf[4];
	long before;

	native = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(native, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ASSERT_EQ(0, bind(native, (struct sockaddr *)&ss, len));
	ASSERT_EQ(0, listen(native, 8));
	fd = rig_dial(rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	child = accept(native, NULL, NULL);
	ASSERT_LE(0, child);
	ASSERT_LE(0, listen_any(uc, rig, 8));
	before = rig_stat(rig, "rx_frames");
	ASSERT_EQ(4, send(fd, "ping", 4, 0));
	ASSERT_EQ(4, recv(child, buf, 4, MSG_WAITALL));
	ASSERT_EQ(4, send(child, "pong", 4, 0));
	ASSERT_EQ(4, recv(fd, buf, 4, MSG_WAITALL));
	EXPECT_EQ(before, rig_stat(rig, "rx_frames"));
	/* and a new one comes by the stack */
	EXPECT_TRUE(reaches(uc, rig, RIG_SADDR));
	/* the listener goes, its child outlives it */
	close(fd);
	fd = rig_dial(rig, RIG_SADDR, PORT);
	slot = uc_accept(uc, -1, 5000);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, ping(uc, slot, fd));
	close(fd);
	close(child);
	close(native);
}

/* The peer may open again from the port of a connection in TIME_WAIT. */
TEST_F_TIMEOUT(listen, timewait_gives_way, 60)
{
	struct uclient *uc = self->uc;
	struct rig *rig = &self->rig;
	struct sockaddr_storage from, to;
	socklen_t flen = rig_sockaddr(&from, RIG_DADDR, 33333, 0);
	socklen_t tlen = rig_sockaddr(&to, RIG_SADDR, PORT, 0);
	struct linger linger = { .l_onoff = 1 };
	int i, fd, slot, one = 1;

	ASSERT_LE(0, listen_any(uc, rig, 8));
	for (i = 0; i < 5; i++) {
		fd = rig_socket(rig, rig->web_fd, AF_INET, SOCK_STREAM, 0);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		ASSERT_EQ(0, bind(fd, (struct sockaddr *)&from, flen));
		ASSERT_EQ(0, connect(fd, (struct sockaddr *)&to, tlen));
		slot = uc_accept(uc, -1, 5000);
		ASSERT_LE(0, slot);
		ASSERT_EQ(0, ping(uc, slot, fd));
		uc_op(uc, slot, DMM_OP_CLOSE);
		ASSERT_EQ(0, peer_end(fd));
		ASSERT_EQ(0, shutdown(fd, SHUT_WR));
		ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 5000));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(fd);
	}
	EXPECT_EQ(1, rig_stat(rig, "stack_conns"));
}

/* Out by a link-local address. */
TEST_F(listen, link_local_out)
{
	struct uclient *other = malloc(sizeof(*other));
	char buf[4];
	int slot;

	ASSERT_EQ(0, uc_open(other, self->rig.sock, RIG_SLOCAL6,
			     self->rig.ifindex));
	slot = uc_connect(other, RIG_DLOCAL6, PEER_ECHO);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, uc_send(other, slot, "ping", 4));
	ASSERT_EQ(4, uc_recv(other, slot, buf, 4));
	uc_close(other);
	free(other);
}

/* A client that dies: its listeners and who waits for them end with it. */
TEST_F(listen, client_dies)
{
	struct uclient *other = malloc(sizeof(*other));
	struct rig *rig = &self->rig;
	int fd;

	ASSERT_EQ(0, uc_open(other, rig->sock, RIG_SADDR,
			     rig->ifindex));
	ASSERT_LE(0, listen_any(other, rig, 8));
	fd = rig_dial(rig, RIG_SADDR, PORT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, rig_stat_wait(rig, "waiting", 1));
	uc_close(other);
	EXPECT_EQ(-ECONNRESET, peer_end(fd));
	EXPECT_EQ(0, rig_stat_wait(rig, "listeners", 0));
	EXPECT_EQ(-ECONNREFUSED, rig_dial(rig, RIG_SADDR, PORT));
	close(fd);
	free(other);
}

TEST_HARNESS_MAIN
