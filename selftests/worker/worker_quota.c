// SPDX-License-Identifier: Apache-2.0
/*
 * One user may have at most its share of what clients use together. Here it is one
 * percent; root, as whom the good client runs, may have all of it.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "peer.h"
#include "raw.h"
#include "rig.h"
#include "uclient.h"

#define USER		65534
#define OTHER_USER	65533
#define CLIENTS		10	/* 1 % of CLIENTS_MAX, and so on: worker/private.h */
#define SLOTS		1310
#define LISTENERS	40
#define MANY_FDS	1024
#define PORT_MUTE	9000	/* nobody accepts, nobody reads */

FIXTURE(quota) {
	struct rig rig;
	struct uclient *good;
	int mute;
	char line[512];
};

FIXTURE_SETUP(quota)
{
	static const char *const args[] = {
		"--client-share", "1", "--orphan-time", "600", NULL,
	};
	struct rlimit files = { MANY_FDS, 20000 };
	struct rig *rig = &self->rig;
	struct sockaddr_storage ss;
	socklen_t len;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	ASSERT_EQ(0, rig_create(rig));
	rig_sanitized(rig);
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line), args)) {
		TH_LOG("%s", self->line);
	}
	ASSERT_EQ(0, chmod(rig->sock, 0666));
	self->good = malloc(sizeof(*self->good));
	ASSERT_EQ(0, uc_open(self->good, rig->sock, RIG_SADDR, rig->ifindex));
	self->mute = rig_socket(rig, rig->web_fd, AF_INET, SOCK_STREAM, 0);
	len = rig_sockaddr(&ss, RIG_DADDR, PORT_MUTE, 0);
	ASSERT_EQ(0, bind(self->mute, (struct sockaddr *)&ss, len));
	ASSERT_EQ(0, listen(self->mute, 1024));
}

FIXTURE_TEARDOWN(quota)
{
	EXPECT_EQ(0, waitpid(self->rig.worker, NULL, WNOHANG));
	EXPECT_EQ(0, uc_served(self->good));
	uc_close(self->good);
	free(self->good);
	close(self->mute);
	rig_destroy(&self->rig);
}

/* Whoever connects from now on is @uid; back to root with 0. */
static int be(uid_t uid)
{
	return seteuid(0) || seteuid(uid);
}

static int open_as(uid_t uid, struct raw *raw, const char *path)
{
	int ret;

	if (be(uid))
		return -errno;
	ret = raw_open(raw, path);
	be(0);
	return ret;
}

static struct dmm_op listen_op(const struct rig *rig, uint32_t slot)
{
	return (struct dmm_op) {
		.op = DMM_OP_LISTEN,
		.slot = slot,
		.gen = 1,
		.listen = {
			.family = AF_INET,
			.port = htons(10000 + slot),
			.backlog = 4096,
			.ifindex = rig->ifindex,
		},
	};
}

/* The next event; 0 when none comes. */
static uint32_t event_next(struct raw *raw, struct dmm_event *ev)
{
	struct dmm_event *events = (struct dmm_event *)
		((char *)raw->hdr + dmm_arena_events_off(raw->hdr));
	uint32_t at = raw->hdr->ev_cons;
	int i;

	for (i = 0; i < 2000; i++) {
		if (__atomic_load_n(&raw->hdr->ev_prod, __ATOMIC_ACQUIRE) != at) {
			*ev = events[at & (raw->hdr->nevents - 1)];
			__atomic_store_n(&raw->hdr->ev_cons, at + 1,
					 __ATOMIC_RELEASE);
			return ev->ev;
		}
		usleep(1000);
	}
	return 0;
}

/* A client too many hears why; another user and root get in. */
TEST_F(quota, clients)
{
	struct raw raws[CLIENTS], other, root;
	struct raw more;
	int i;

	for (i = 0; i < CLIENTS; i++)
		ASSERT_EQ(0, open_as(USER, &raws[i], self->rig.sock));
	EXPECT_EQ(-EDQUOT, open_as(USER, &more, self->rig.sock));
	EXPECT_EQ(-EDQUOT, open_as(USER, &more, self->rig.sock));
	EXPECT_EQ(2, rig_stat(&self->rig, "clients_refused"));
	EXPECT_EQ(0, open_as(OTHER_USER, &other, self->rig.sock));
	EXPECT_EQ(0, open_as(0, &root, self->rig.sock));
	EXPECT_EQ(0, uc_served(self->good));
	raw_close(&raws[3]);
	ASSERT_EQ(CLIENTS + 2, rig_stat_wait(&self->rig, "clients", CLIENTS + 2));
	EXPECT_EQ(0, open_as(USER, &more, self->rig.sock));
}

/* So with libdmm. */
TEST_F(quota, clients_by_library)
{
	struct raw raws[CLIENTS];
	struct dmm_client *client;
	int i;

	for (i = 0; i < CLIENTS; i++)
		ASSERT_EQ(0, open_as(USER, &raws[i], self->rig.sock));
	ASSERT_EQ(0, be(USER));
	EXPECT_EQ(-EDQUOT, dmm_client_open(&client, self->rig.sock));
	ASSERT_EQ(0, be(0));
}

/* Of slots: the channel says that there are no more, and what is asked for fails. */
TEST_F_TIMEOUT(quota, slots, 60)
{
	struct dmm_event ev;
	struct raw raw;
	struct dmm_op op;
	uint32_t i;

	ASSERT_EQ(0, open_as(USER, &raw, self->rig.sock));
	EXPECT_EQ(0, raw.hdr->full);
	for (i = 0; i < SLOTS + 5; i++) {
		memset(&raw.slots[i], 0, sizeof(raw.slots[i]));
		op = raw_connect(&self->rig, i, 80);
		op.connect.daddr[0] = rig_addr(RIG_MUTE);
		raw_op(&raw, &op);
	}
	ASSERT_EQ(0, raw_settle(&raw));
	for (i = SLOTS; i < SLOTS + 5; i++) {
		ASSERT_EQ(DMM_EV_ERROR, event_next(&raw, &ev));
		EXPECT_EQ(i, ev.slot);
		EXPECT_EQ(ENOBUFS, ev.error);
	}
	EXPECT_EQ(5, rig_stat(&self->rig, "ops_refused"));
	EXPECT_EQ(1, raw.hdr->full);
	EXPECT_EQ(0, uc_served(self->good));
	/* enough of them are over, and it may again */
	op.op = DMM_OP_ABORT;
	for (op.slot = 0; op.slot < SLOTS / 4; op.slot++)
		raw_op(&raw, &op);
	ASSERT_EQ(0, raw_settle(&raw));
	ASSERT_EQ(SLOTS - SLOTS / 4,
		  rig_stat_wait(&self->rig, "conns", SLOTS - SLOTS / 4));
	EXPECT_EQ(0, raw.hdr->full);
}

TEST_F_TIMEOUT(quota, listeners, 60)
{
	struct dmm_event ev;
	struct raw raw;
	struct dmm_op op;
	uint32_t i, served_now = 0;

	ASSERT_EQ(0, open_as(USER, &raw, self->rig.sock));
	for (i = 0; i < LISTENERS + 3; i++) {
		memset(&raw.slots[i], 0, sizeof(raw.slots[i]));
		op = listen_op(&self->rig, i);
		raw_op(&raw, &op);
	}
	for (i = 0; i < LISTENERS + 3; i++)
		served_now += event_next(&raw, &ev) == DMM_EV_CONNECTED;
	EXPECT_EQ(LISTENERS, served_now);
	EXPECT_EQ(LISTENERS, rig_stat_wait(&self->rig, "listeners", LISTENERS));
	EXPECT_EQ(3, rig_stat(&self->rig, "ops_refused"));
}

/* A backlog is no more than a share, whatever the client says, or how often. */
TEST_F_TIMEOUT(quota, backlog, 120)
{
	int i, j, fd, fds[300], open = 0, refused = 0;
	struct raw raw;
	struct dmm_op op;

	ASSERT_EQ(0, open_as(USER, &raw, self->rig.sock));
	op = listen_op(&self->rig, 0);
	for (i = 0; i < 3; i++)
		raw_op(&raw, &op);
	ASSERT_EQ(0, raw_settle(&raw));
	/* a quarter of 1 % of BACKLOGS_MAX, and one */
	for (i = 0; i < 300; i++) {
		struct sockaddr_storage ss;
		socklen_t len = rig_sockaddr(&ss, RIG_SADDR, 10000, 0);

		fd = rig_socket(&self->rig, self->rig.web_fd, AF_INET,
				SOCK_STREAM | SOCK_NONBLOCK, 0);
		ASSERT_LE(0, fd);
		fds[i] = fd;
		connect(fd, (struct sockaddr *)&ss, len);
	}
	/* those that get in do so at once */
	ASSERT_LT(0, rig_stat_wait(&self->rig, "waiting", 655 / 4 + 1));
	for (j = 0; j < 300; j++) {
		struct pollfd p = { .fd = fds[j], .events = POLLOUT };

		if (poll(&p, 1, 0) == 1)
			open++;
		else
			refused++;
		close(fds[j]);
	}
	EXPECT_GE(655 / 4 + 1, open);
	EXPECT_LT(100, open);
	EXPECT_LT(0, refused);
}

static int nobody_reads(const struct rig *rig, struct raw *raw)
{
	struct dmm_event ev;
	struct dmm_op op;
	int ret;

	ret = raw_open(raw, rig->sock);
	if (ret)
		return ret;
	memset(&raw->slots[0], 0, sizeof(raw->slots[0]));
	op = raw_connect(rig, 0, PORT_MUTE);
	op.connect.sport = htons(20000 + getpid() % 20000);
	raw_op(raw, &op);
	if (event_next(raw, &ev) != DMM_EV_CONNECTED)
		return -ECONNREFUSED;
	raw->slots[0].tx_prod = 256 * 1024;
	op.op = DMM_OP_TX;
	raw_op(raw, &op);
	return raw_settle(raw);
}

/* A process of @USER that leaves a connection which cannot end by itself. */
static int leave_orphan(struct rig *rig)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		struct raw raw;

		if (setuid(USER))
			_exit(1);
		_exit(-nobody_reads(rig, &raw));
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -EIO;
	return -WEXITSTATUS(status);
}

/* As many as half of its clients; then the oldest is reset. */
TEST_F_TIMEOUT(quota, orphans, 60)
{
	int i, orphans;

	for (i = 1; i <= 12; i++) {
		ASSERT_EQ(0, leave_orphan(&self->rig));
		orphans = i < CLIENTS / 2 ? i : CLIENTS / 2 - 1;
		ASSERT_EQ(orphans, rig_stat_wait(&self->rig, "orphans", orphans));
		EXPECT_EQ(i - orphans, rig_stat(&self->rig, "orphans_reset"));
	}
	EXPECT_EQ(CLIENTS / 2 - 1,
		  rig_stat_wait(&self->rig, "conns", CLIENTS / 2 - 1));
}

/* Not for ever either. */
TEST_F_TIMEOUT(quota, orphan_time, 60)
{
	static const char *const args[] = { "--orphan-time", "1", NULL };

	uc_close(self->good);
	rig_worker_stop(&self->rig, SIGTERM);
	ASSERT_EQ(0, rig_worker_start(&self->rig, self->line, sizeof(self->line),
				      args));
	ASSERT_EQ(0, chmod(self->rig.sock, 0666));
	ASSERT_EQ(0, uc_open(self->good, self->rig.sock, RIG_SADDR,
			     self->rig.ifindex));
	ASSERT_EQ(0, leave_orphan(&self->rig));
	EXPECT_EQ(1, rig_stat_wait(&self->rig, "orphans_reset", 1));
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "orphans", 0));
	EXPECT_EQ(0, rig_stat_wait(&self->rig, "conns", 0));
}

/* More guards than descriptors that one may have: the connections go on without. */
TEST_F_TIMEOUT(quota, guards, 60)
{
	int pairs[320][2], fds[DMM_CLIENT_GUARDS], i, j;
	struct raw raw, other;
	struct dmm_op op;
	long refused;

	ASSERT_EQ(0, open_as(USER, &raw, self->rig.sock));
	for (i = 0; i < 320; i++) {
		memset(&raw.slots[i], 0, sizeof(raw.slots[i]));
		op = raw_connect(&self->rig, i, PEER_DISCARD);
		raw_op(&raw, &op);
	}
	ASSERT_EQ(320, rig_stat_wait(&self->rig, "conns", 320));
	for (i = 0; i < 320; i++)
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]));
	for (i = 0; i < 320; i += DMM_CLIENT_GUARDS) {
		for (j = 0; j < DMM_CLIENT_GUARDS; j++)
			fds[j] = pairs[i + j][1];
		ASSERT_EQ(0, raw_guards(&raw, i, fds, DMM_CLIENT_GUARDS));
	}
	for (i = 0; i < 5000; i++) {
		refused = rig_stat(&self->rig, "guards_refused");
		if (refused > 100)
			break;
		usleep(1000);
	}
	TH_LOG("%ld refused, %ld clients", refused, rig_stat(&self->rig, "clients"));
	EXPECT_LT(100, refused);
	EXPECT_GT(320, refused);
	EXPECT_EQ(320, rig_stat(&self->rig, "conns"));
	/* another user's is taken */
	ASSERT_EQ(0, open_as(OTHER_USER, &other, self->rig.sock));
	memset(&other.slots[400], 0, sizeof(other.slots[400]));
	op = raw_connect(&self->rig, 400, PEER_DISCARD);
	raw_op(&other, &op);
	ASSERT_EQ(321, rig_stat_wait(&self->rig, "conns", 321));
	ASSERT_EQ(0, raw_guards(&other, 400, fds, 1));
	ASSERT_EQ(0, uc_served(self->good));
	for (i = 0; i < 320; i++)
		close(pairs[i][0]);
	/* all that had one are closed */
	EXPECT_EQ(refused, rig_stat_wait(&self->rig, "conns", refused));
}

/* The highest number in use. */
static int fd_last(pid_t pid)
{
	struct dirent *de;
	char path[32];
	int last = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (de = readdir(dir)))
		if (atoi(de->d_name) > last)
			last = atoi(de->d_name);
	if (dir)
		closedir(dir);
	return last;
}

/* The lowest number that is not. */
static int fd_free(pid_t pid)
{
	struct stat st;
	char path[64];
	int fd = -1;

	do {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, ++fd);
	} while (!lstat(path, &st));
	return fd;
}

/* Have the worker use one, for as long as we live. */
static int fd_take(const struct rig *rig)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path),
		 "/var/run/dpdk/dmm-%s/dpdk_telemetry.v2", rig->name);
	return connect(fd, (struct sockaddr *)&sun, sizeof(sun));
}

/* Without a descriptor left the worker serves those it has, and sleeps. */
TEST_F_TIMEOUT(quota, no_descriptor, 60)
{
	struct rlimit files, few;
	struct raw raw;
	long ticks;
	int i, ret = 0, status = 0;
	pid_t pid;

	few.rlim_cur = fd_last(self->rig.worker) + 1;
	few.rlim_max = 20000;
	ASSERT_EQ(0, prlimit(self->rig.worker, RLIMIT_NOFILE, &few, &files));
	/* there may be room below it */
	for (i = 0; i < 300 && !ret; i++)
		ret = raw_open(&raw, self->rig.sock);
	EXPECT_EQ(-EPROTO, ret);
	/* until there is none, not even for accept() */
	for (i = 0; i < 2000 && fd_free(self->rig.worker) < (int)few.rlim_cur; i++)
		if (i % 100 || fd_take(&self->rig))
			usleep(1000);
	ASSERT_GT(2000, i);
	pid = fork();
	if (!pid)
		_exit(raw_open(&raw, self->rig.sock) != -EPROTO);
	for (i = 0; i < 2000 && !waitpid(pid, &status, WNOHANG); i++)
		usleep(1000);
	EXPECT_GT(2000, i);
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, uc_served(self->good));
	ticks = rig_cpu_ticks(self->rig.worker);
	sleep(1);
	EXPECT_GE(sysconf(_SC_CLK_TCK) / 4,
		  rig_cpu_ticks(self->rig.worker) - ticks);
	kill(pid, SIGKILL);
	ASSERT_EQ(0, prlimit(self->rig.worker, RLIMIT_NOFILE, &files, NULL));
	EXPECT_EQ(0, raw_open(&raw, self->rig.sock));
}

TEST_HARNESS_MAIN
