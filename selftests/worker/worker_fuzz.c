// SPDX-License-Identifier: Apache-2.0
/*
 * Hostile clients of several users that send whatever a seed says: ops good, bad and
 * senseless, wild indices, guards of every kind, floods; they come and go. The worker is
 * the one with ASan and UBSan. A good client's echoes go on meanwhile.
 *
 * DMM_FUZZ_MESSAGES=N for as many, DMM_FUZZ_SEED=N for what was seen, DMM_FUZZ_PLAIN=1
 * for the usual worker, whose speed says more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "peer.h"
#include "raw.h"
#include "rig.h"
#include "uclient.h"

#define MESSAGES	10000000
#define HOSTILES	4
#define USERS		2		/* of the hostiles, from UID on */
#define UID		65000
#define SLOTS		48		/* that they use most */
#define LIFE		200000		/* messages of a client, at most */
#define CLIENT_TURN	16		/* worker/private.h */
#define ALONE_SECS	2

static unsigned long setting(const char *name, unsigned long usual)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : usual;
}

/* splitmix64: the same everywhere */
static uint64_t rnd(uint64_t *state)
{
	uint64_t z = *state += 0x9E3779B97F4A7C15ULL;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
	return z ^ (z >> 31);
}

static uint32_t below(uint64_t *state, uint32_t n)
{
	return rnd(state) % n;
}

/* What a hostile process knows. @sent is shared with the test. */
struct hostile {
	const struct rig *rig;
	struct raw raw;
	uint64_t seed;
	unsigned long *sent;
	unsigned long life;
};

/* A message into the ring, and wait for room; false if the worker hung up, or seems to. */
static bool put(struct hostile *h, const struct dmm_op *op)
{
	struct raw *raw = &h->raw;
	int looks = 0;
	char c;

	while (raw->prod - __atomic_load_n(&raw->hdr->op_cons, __ATOMIC_ACQUIRE) >=
	       4096) {
		raw_ring(raw);
		sched_yield();
		if (++looks % 16 == 0 &&
		    (looks > 10000 || !recv(raw->sock, &c, 1, MSG_DONTWAIT)))
			return false;
	}
	raw->ops[raw->prod & 4095] = *op;
	__atomic_store_n(&raw->hdr->op_prod, ++raw->prod, __ATOMIC_RELEASE);
	if (!below(&h->seed, 64))
		raw_ring(raw);
	__atomic_add_fetch(h->sent, 1, __ATOMIC_RELAXED);
	h->life--;
	return true;
}

static struct dmm_op random_connect(struct hostile *h)
{
	static const uint16_t ports[] = {
		PEER_CLOSED, PEER_CLOSED, PEER_ECHO, PEER_DISCARD, PEER_FLOOD,
		PEER_RESET, PEER_HALF, PEER_SOURCE,
	};
	struct dmm_op op;

	op = raw_connect(h->rig, below(&h->seed, SLOTS), ports[below(&h->seed, 8)]);
	op.gen = 1 + below(&h->seed, 3);
	op.connect.sport = htons(1024 + below(&h->seed, 60000));
	if (below(&h->seed, 2))
		op.connect.daddr[0] = rig_addr(below(&h->seed, 2) ? RIG_MUTE :
								    RIG_ABSENT);
	return op;
}

static struct dmm_op random_listen(struct hostile *h)
{
	return (struct dmm_op) {
		.op = DMM_OP_LISTEN,
		.slot = below(&h->seed, SLOTS),
		.gen = 1 + below(&h->seed, 3),
		.listen = {
			.family = below(&h->seed, 2) ? AF_INET : AF_INET6,
			.port = htons(1 + below(&h->seed, 1000)),
			.backlog = rnd(&h->seed),
			.flags = below(&h->seed, 3),
			.ifindex = h->rig->ifindex,
		},
	};
}

static struct dmm_op random_op(struct hostile *h)
{
	uint32_t dice = below(&h->seed, 1000);
	struct dmm_op op;
	size_t i;

	if (dice < 1)
		return random_connect(h);
	if (dice < 10)
		return random_listen(h);
	for (i = 0; i < sizeof(op) / sizeof(uint32_t); i++)
		((uint32_t *)&op)[i] = rnd(&h->seed);
	if (dice < 60)
		return op;
	op.op = below(&h->seed, __DMM_OP_MAX + 1);
	op.slot = below(&h->seed, SLOTS);
	op.gen = 1 + below(&h->seed, 3);
	if (below(&h->seed, 2))
		op.flags = 0;
	if (op.op == DMM_OP_ATTACH && below(&h->seed, 2)) {
		memset(&op.attach, 0, sizeof(op.attach));
		op.attach.token = rnd(&h->seed);
		op.attach.listener = below(&h->seed, SLOTS);
	}
	return op;
}

/* Write to what is shared. */
static void scribble(struct hostile *h)
{
	struct dmm_slot *s = &h->raw.slots[below(&h->seed, SLOTS)];
	struct dmm_arena_hdr *hdr = h->raw.hdr;

	switch (below(&h->seed, 12)) {
	case 0:
		((uint32_t *)s)[below(&h->seed, sizeof(*s) / 4)] = rnd(&h->seed);
		break;
	case 1:
		memset(s, 0, sizeof(*s));
		break;
	case 2:
		hdr->ev_polling = below(&h->seed, 2);
		hdr->client_cpu = hdr->stack_cpu;
		break;
	case 3:
		hdr->ev_cons = hdr->ev_prod;
		break;
	case 4:
		hdr->op_backlog = rnd(&h->seed);
		break;
	case 5:
		if (!below(&h->seed, 500))
			hdr->ev_cons = rnd(&h->seed);
		break;
	case 6:
		if (!below(&h->seed, 500))
			hdr->op_prod = rnd(&h->seed);
		break;
	case 7:
		s->rx_cons = s->rx_prod;
		s->rx_event = s->rx_prod + below(&h->seed, 3);
		break;
	case 8:
		s->opt_seq = below(&h->seed, 3);
		s->tx_more = s->tx_prod;
		break;
	default:
		s->tx_prod += below(&h->seed, 3000);
	}
}

/* Descriptors of all kinds as guards, and now and then nonsense. */
static void guards(struct hostile *h)
{
	int pair[2], fds[6], i, n = 1 + below(&h->seed, 6);
	ssize_t ret;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return;
	fcntl(h->raw.sock, F_SETFL, O_NONBLOCK);
	fds[0] = pair[1];
	fds[1] = pair[1];
	fds[2] = below(&h->seed, 2) ? h->raw.bell : h->raw.event_fd;
	fds[3] = below(&h->seed, 2) ? h->raw.sock : pair[1];
	fds[4] = epoll_create1(0);
	fds[5] = socket(AF_INET, SOCK_STREAM, 0);
	raw_guards(&h->raw, below(&h->seed, SLOTS), fds, n);
	if (!below(&h->seed, 50)) {
		ret = send(h->raw.sock, fds, below(&h->seed, 20),
			   MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)ret;
	}
	close(fds[4]);
	close(fds[5]);
	/* one end or the other, or a copy of it, stays open now and then */
	for (i = 0; i < 2; i++)
		if (below(&h->seed, 16) || pair[i] > 200)
			close(pair[i]);
	__atomic_add_fetch(h->sent, 1, __ATOMIC_RELAXED);
}

static void event_fd_fill(struct hostile *h)
{
	uint64_t n = UINT64_MAX - 1;

	if (below(&h->seed, 2)) {
		fcntl(h->raw.event_fd, F_SETFL, O_NONBLOCK);
		if (write(h->raw.event_fd, &n, sizeof(n)) < 0)
			return;
	}
	fcntl(h->raw.event_fd, F_SETFL, 0);
}

static void hostile_life(struct hostile *h)
{
	struct dmm_op op;
	uint32_t dice, n;

	for (h->life = 1 + below(&h->seed, LIFE); h->life; ) {
		dice = below(&h->seed, 10000);
		if (dice < 10) {
			guards(h);
		} else if (dice < 20) {
			event_fd_fill(h);
		} else if (dice < 30) {
			/* the same again and again */
			op = random_op(h);
			for (n = below(&h->seed, 5000); n; n--)
				if (!put(h, &op))
					return;
		} else if (dice < 1500) {
			scribble(h);
		} else {
			op = random_op(h);
			if (!put(h, &op))
				return;
		}
		if (h->life > LIFE)
			break;
	}
}

static void hostile_run(struct hostile *h, int number)
{
	int ret, fd;

	struct sched_param none = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* what it takes of the CPUs by itself is not the worker's to share out */
	if (sched_setscheduler(0, SCHED_IDLE, &none) ||
	    setuid(UID + number % USERS))
		_exit(1);
	h->seed += number * 0x123456789ULL;
	for (;;) {
		ret = raw_open(&h->raw, h->rig->sock);
		if (ret == -EPIPE || ret == -ECONNREFUSED || ret == -ENOENT)
			_exit(2);
		if (ret) {
			sched_yield();
			continue;
		}
		hostile_life(h);
		/* sometimes it goes without a word; what it sent as guards stays */
		raw_close(&h->raw);
		for (fd = 3; fd < 256; fd++)
			if (below(&h->seed, 2) && fd > 32)
				close(fd);
	}
}

FIXTURE(fuzz) {
	struct rig rig;
	struct uclient *good;
	unsigned long *sent;
	char line[512];
};

FIXTURE_SETUP(fuzz)
{
	struct rlimit files = { 4096, 20000 };
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	ASSERT_EQ(0, rig_create(rig));
	if (!setting("DMM_FUZZ_PLAIN", 0))
		rig_sanitized(rig);
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line), NULL)) {
		TH_LOG("%s", self->line);
	}
	ASSERT_EQ(0, chmod(rig->sock, 0666));
	self->good = malloc(sizeof(*self->good));
	ASSERT_EQ(0, uc_open(self->good, rig->sock, RIG_SADDR, rig->ifindex));
	self->sent = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->sent);
}

FIXTURE_TEARDOWN(fuzz)
{
	EXPECT_EQ(0, waitpid(self->rig.worker, NULL, WNOHANG));
	uc_close(self->good);
	free(self->good);
	rig_destroy(&self->rig);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

/* There and back, 1,000 bytes; 0 if they are what they were. */
static int echo(struct uclient *uc, int slot, unsigned long round)
{
	char out[1000], in[1000];
	size_t i;
	int ret;

	for (i = 0; i < sizeof(out); i++)
		out[i] = round * 7 + i * 3;
	ret = uc_send(uc, slot, out, sizeof(out));
	if (ret)
		return ret;
	ret = uc_recv(uc, slot, in, sizeof(in));
	if (ret != sizeof(in))
		return ret < 0 ? ret : -EIO;
	return memcmp(in, out, sizeof(in)) ? -EILSEQ : 0;
}

TEST_F_TIMEOUT(fuzz, another_is_served, 900)
{
	unsigned long messages = setting("DMM_FUZZ_MESSAGES", MESSAGES);
	unsigned long seed = setting("DMM_FUZZ_SEED", getpid() ^ time(NULL));
	unsigned long alone = 0, rounds = 0;
	struct rig *rig = &self->rig;
	struct hostile h = { .rig = rig, .seed = seed, .sent = self->sent };
	pid_t pids[HOSTILES];
	double t0, alone_s;
	int slot, i;

	TH_LOG("DMM_FUZZ_SEED=%lu", seed);
	slot = uc_connect(self->good, RIG_DADDR, PEER_ECHO);
	ASSERT_LE(0, slot);
	for (t0 = now(); now() - t0 < ALONE_SECS; alone++)
		ASSERT_EQ(0, echo(self->good, slot, alone));
	alone_s = now() - t0;

	for (i = 0; i < HOSTILES; i++) {
		pids[i] = fork();
		if (!pids[i])
			hostile_run(&h, i);
	}
	for (t0 = now();
	     __atomic_load_n(self->sent, __ATOMIC_RELAXED) < messages; rounds++) {
		ASSERT_EQ(0, echo(self->good, slot, rounds));
	}
	t0 = now() - t0;
	for (i = 0; i < HOSTILES; i++) {
		/* nothing has ended it before */
		EXPECT_EQ(0, waitpid(pids[i], NULL, WNOHANG));
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	TH_LOG("%lu messages in %.0f s; %.0f round trips a second, %.2f of %.0f alone",
	       *self->sent, t0, rounds / t0, rounds / t0 * alone_s / alone,
	       alone / alone_s);
	TH_LOG("%ld ops, %ld bad, %ld stale; %ld conns, %ld clients thrown out, %ld turned away",
	       rig_stat(rig, "ops"), rig_stat(rig, "bad_ops"),
	       rig_stat(rig, "stale_ops"), rig_stat(rig, "conns_total"),
	       rig_stat(rig, "bad_clients"), rig_stat(rig, "clients_refused"));
	/* no turn did more for one of them than its share, whatever came */
	EXPECT_GE(CLIENT_TURN, rig_stat(rig, "turn_ops_max"));
	EXPECT_LT(0, rig_stat(rig, "ops_put_off"));
	EXPECT_LT(0, rig_stat(rig, "bad_clients"));
	/* and nothing is left of them */
	EXPECT_EQ(1, rig_stat_wait(rig, "clients", 1));
	EXPECT_EQ(0, echo(self->good, slot, rounds));
}

TEST_HARNESS_MAIN
