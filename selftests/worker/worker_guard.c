// SPDX-License-Identifier: Apache-2.0
/*
 * What a client can do with the descriptors that it shares with a worker, or sends
 * to it. The worker is the one with ASan and UBSan (make asan).
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "peer.h"
#include "raw.h"
#include "rig.h"
#include "uclient.h"

FIXTURE(guard) {
	struct rig rig;
	struct raw raw;
	struct uclient *good;
	char line[512];
};

FIXTURE_SETUP(guard)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_create(rig));
	rig_sanitized(rig);
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line),
				      NULL)) {
		TH_LOG("%s", self->line);
	}
	self->good = malloc(sizeof(*self->good));
	ASSERT_EQ(0, uc_open(self->good, rig->sock, RIG_SADDR,
			     rig->ifindex));
	ASSERT_EQ(0, raw_open(&self->raw, rig->sock));
}

FIXTURE_TEARDOWN(guard)
{
	EXPECT_EQ(0, waitpid(self->rig.worker, NULL, WNOHANG));
	EXPECT_EQ(0, uc_served(self->good));
	uc_close(self->good);
	free(self->good);
	rig_destroy(&self->rig);
}

/* Slots 0 to @n - 1 are connected. */
static int connect_all(struct raw *raw, const struct rig *rig, int n)
{
	struct dmm_op op;
	int i;

	for (i = 0; i < n; i++) {
		memset(&raw->slots[i], 0, sizeof(raw->slots[i]));
		op = raw_connect(rig, i, PEER_ECHO);
		raw_op(raw, &op);
	}
	return rig_stat_wait(rig, "conns", n) == n ? 0 : -ETIMEDOUT;
}

static bool sleeps(const struct rig *rig)
{
	long before = rig_cpu_ticks(rig->worker);

	sleep(1);
	return rig_cpu_ticks(rig->worker) - before < sysconf(_SC_CLK_TCK) / 4;
}

/* When its last holder is gone, the connection is closed. */
TEST_F(guard, hangs_up)
{
	int pair[2];

	ASSERT_EQ(0, connect_all(&self->raw, &self->rig, 1));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, raw_guards(&self->raw, 0, &pair[1], 1));
	close(pair[1]);
	close(pair[0]);
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "conns", 0));
}

/* The client keeps a copy, and the slot is over when the guard hangs up. */
TEST_F(guard, kept_beyond_slot)
{
	struct dmm_op op = { .op = DMM_OP_ABORT, .gen = 1 };
	int pair[2];

	ASSERT_EQ(0, connect_all(&self->raw, &self->rig, 1));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, raw_guards(&self->raw, 0, &pair[1], 1));
	ASSERT_EQ(0, uc_served(self->good));
	raw_op(&self->raw, &op);
	ASSERT_EQ(0, rig_stat_wait(&self->rig, "conns", 0));
	/* another life of the slot, whose guard this is not */
	op = raw_connect(&self->rig, 0, PEER_ECHO);
	op.gen = 2;
	op.connect.sport++;
	raw_op(&self->raw, &op);
	ASSERT_EQ(1, rig_stat_wait(&self->rig, "conns", 1));
	close(pair[0]);
	EXPECT_EQ(0, uc_served(self->good));
	EXPECT_TRUE(sleeps(&self->rig));
	EXPECT_EQ(1, rig_stat(&self->rig, "conns"));
	close(pair[1]);
}

/* Likewise, and the channel is gone. */
TEST_F(guard, kept_beyond_channel)
{
	int pair[2];

	ASSERT_EQ(0, connect_all(&self->raw, &self->rig, 1));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, raw_guards(&self->raw, 0, &pair[1], 1));
	raw_close(&self->raw);
	ASSERT_EQ(1, rig_stat_wait(&self->rig, "clients", 1));
	ASSERT_EQ(0, rig_stat_wait(&self->rig, "orphans", 0));
	ASSERT_EQ(0, uc_served(self->good));
	close(pair[0]);
	EXPECT_EQ(0, uc_served(self->good));
	EXPECT_TRUE(sleeps(&self->rig));
	close(pair[1]);
}

/* One socket for several connections: all of them are closed, each once. */
TEST_F(guard, one_for_several)
{
	int pair[2], fds[4];

	ASSERT_EQ(0, connect_all(&self->raw, &self->rig, 4));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	fds[0] = fds[1] = fds[2] = fds[3] = pair[1];
	ASSERT_EQ(0, raw_guards(&self->raw, 0, fds, 4));
	/* and again: a connection has one guard */
	ASSERT_EQ(0, raw_guards(&self->raw, 0, fds, 4));
	ASSERT_EQ(0, uc_served(self->good));
	EXPECT_EQ(4, rig_stat_wait(&self->rig, "conns", 4));
	close(pair[0]);
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "conns", 0));
	EXPECT_TRUE(sleeps(&self->rig));
	close(pair[1]);
}

/* What is no guard is closed, and the connection goes on without. */
TEST_F(guard, of_another_kind)
{
	int fds[8], sv[2], i;

	ASSERT_EQ(0, connect_all(&self->raw, &self->rig, 8));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	fds[0] = open("/dev/null", O_RDWR);
	fds[1] = eventfd(1, 0);
	fds[2] = epoll_create1(0);
	fds[3] = socket(AF_INET, SOCK_STREAM, 0);	/* HUP from the start */
	fds[4] = socket(AF_UNIX, SOCK_STREAM, 0);	/* likewise */
	fds[5] = dup(self->raw.bell);
	fds[6] = dup(self->raw.sock);
	fds[7] = open("/", O_PATH);
	ASSERT_EQ(0, raw_guards(&self->raw, 0, fds, 8));
	for (i = 0; i < 8; i++)
		close(fds[i]);
	/* of slots that are not there */
	ASSERT_EQ(0, raw_guards(&self->raw, 100, sv, 2));
	ASSERT_EQ(0, raw_guards(&self->raw, ~0U - 1, sv, 2));
	ASSERT_EQ(0, uc_served(self->good));
	EXPECT_EQ(7, rig_stat_wait(&self->rig, "conns", 7));
	EXPECT_TRUE(sleeps(&self->rig));
	close(sv[0]);
	close(sv[1]);
}

/*
 * Ops come without end while the worker is asked to look after those that came before
 * a guard: it must not wait for the end.
 */
TEST_F_TIMEOUT(guard, ops_without_end, 120)
{
	struct raw *raw = &self->raw;
	struct dmm_op op = { .op = DMM_OP_OPTIONS, .gen = 1 };
	uint32_t i, n = raw->hdr->nops;
	pid_t pid, flooder;
	int pair[2];

	ASSERT_EQ(0, connect_all(raw, &self->rig, 1));
	for (i = 0; i < n; i++)
		raw->ops[i] = op;
	flooder = fork();
	if (!flooder) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			__atomic_store_n(&raw->hdr->op_prod,
					 __atomic_load_n(&raw->hdr->op_cons,
							 __ATOMIC_ACQUIRE) + n,
					 __ATOMIC_RELEASE);
	}
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
		while (!raw_guards(raw, 500, pair, 2))
			;
		_exit(0);
	}
	for (i = 0; i < 20; i++)
		EXPECT_EQ(0, uc_served(self->good));
	kill(flooder, SIGKILL);
	kill(pid, SIGKILL);
	waitpid(flooder, NULL, 0);
	waitpid(pid, NULL, 0);
	TH_LOG("%ld ops, %ld bad", rig_stat(&self->rig, "ops"),
	       rig_stat(&self->rig, "bad_clients"));
	EXPECT_GE(16, rig_stat(&self->rig, "turn_ops_max"));
	EXPECT_LT(0, rig_stat(&self->rig, "turn_ops_max"));
}

/*
 * The eventfd toward the client is one file, its flags are the client's as well: a
 * full one that blocks does not block the worker.
 */
TEST_F_TIMEOUT(guard, event_fd_blocks, 60)
{
	struct raw *raw = &self->raw;
	uint64_t full = UINT64_MAX - 1;
	pid_t pid;

	ASSERT_EQ(0, fcntl(raw->event_fd, F_SETFL, 0));
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* whoever empties it is not quick enough */
		for (;;) {
			if (write(raw->event_fd, &full, sizeof(full)) < 0)
				_exit(1);
		}
	}
	ASSERT_EQ(0, connect_all(raw, &self->rig, 8));
	EXPECT_EQ(0, uc_served(self->good));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A TCP connection whose other end does not read, and that lingers for an hour. */
static int stuffed(void)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 3600 };
	static char buf[1 << 16];
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	int lfd, fd;

	lfd = socket(AF_INET, SOCK_STREAM, 0);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(lfd, (struct sockaddr *)&sin, sizeof(sin)) || listen(lfd, 1) ||
	    getsockname(lfd, (struct sockaddr *)&sin, &len))
		return -1;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)))
		return -1;
	while (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	return fd;
}

/* A socket whose close() waits for an hour, sent as a guard. */
TEST_F_TIMEOUT(guard, close_lingers, 60)
{
	int fd = stuffed();

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, connect_all(&self->raw, &self->rig, 1));
	/* it stops, so that the last to close is not we */
	ASSERT_EQ(0, kill(self->rig.worker, SIGSTOP));
	ASSERT_EQ(0, raw_guards(&self->raw, 0, &fd, 1));
	close(fd);
	ASSERT_EQ(0, kill(self->rig.worker, SIGCONT));
	EXPECT_EQ(0, uc_served(self->good));
	EXPECT_EQ(2, rig_stat_wait(&self->rig, "clients", 2));
}

/* The same, more than one message may have, so that the kernel closes the rest. */
TEST_F_TIMEOUT(guard, close_lingers_in_surplus, 60)
{
	struct dmm_client_guard guard[1] = { { 0, 1 } };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(40 * sizeof(int))];
	} ctl = { 0 };
	struct iovec iov = { guard, sizeof(guard) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
	};
	int fd = stuffed(), fds[40], i;

	ASSERT_LE(0, fd);
	for (i = 0; i < 39; i++)
		fds[i] = self->raw.bell;
	fds[39] = fd;
	ctl.align = (struct cmsghdr) {
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof(fds)),
	};
	memcpy(CMSG_DATA(&ctl.align), fds, sizeof(fds));
	ASSERT_EQ(0, kill(self->rig.worker, SIGSTOP));
	ASSERT_EQ((ssize_t)sizeof(guard), sendmsg(self->raw.sock, &msg, 0));
	close(fd);
	ASSERT_EQ(0, kill(self->rig.worker, SIGCONT));
	EXPECT_EQ(0, uc_served(self->good));
	EXPECT_EQ(1, rig_stat_wait(&self->rig, "clients", 1));
}

/* The same, in a message that the worker never reads. */
TEST_F_TIMEOUT(guard, close_lingers_unread, 60)
{
	int fd = stuffed();

	ASSERT_LE(0, fd);
	/* nonsense comes first, and is the end */
	ASSERT_EQ(0, kill(self->rig.worker, SIGSTOP));
	ASSERT_EQ(5, send(self->raw.sock, "hello", 5, 0));
	ASSERT_EQ(0, raw_guards(&self->raw, 0, &fd, 1));
	close(fd);
	ASSERT_EQ(0, kill(self->rig.worker, SIGCONT));
	EXPECT_EQ(0, uc_served(self->good));
	EXPECT_EQ(1, rig_stat_wait(&self->rig, "clients", 1));
}

TEST_HARNESS_MAIN
