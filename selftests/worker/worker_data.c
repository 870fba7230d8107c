// SPDX-License-Identifier: Apache-2.0
/* Bytes through a worker, to and from the kernel's TCP. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kselftest_harness.h"
#include "peer.h"
#include "rig.h"
#include "uclient.h"

#define MANY	200
#define CHUNK	(64 * 1024)

FIXTURE(data) {
	struct rig rig;
	struct uclient *uc;
	const char *daddr;
	char line[512];
};

/* @far: behind the peer, @net its network; @cmd: ip(8)'s option */
FIXTURE_VARIANT(data) {
	const char *saddr;
	const char *daddr;
	const char *absent;
	const char *mute;
	const char *far;
	const char *net;
	const char *cmd;
};

FIXTURE_VARIANT_ADD(data, ipv4) {
	.saddr = RIG_SADDR,
	.daddr = RIG_DADDR,
	.absent = RIG_ABSENT,
	.mute = RIG_MUTE,
	.far = "10.88.0.1",
	.net = "10.88.0.0/24",
	.cmd = "ip -4",
};

FIXTURE_VARIANT_ADD(data, ipv6) {
	.saddr = RIG_SADDR6,
	.daddr = RIG_DADDR6,
	.absent = RIG_ABSENT6,
	.mute = RIG_MUTE6,
	.far = "fd88::1",
	.net = "fd88::/64",
	.cmd = "ip -6",
};

FIXTURE_SETUP(data)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_create(rig));
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line),
				      NULL)) {
		TH_LOG("%s", self->line);
	}
	self->uc = malloc(sizeof(*self->uc));
	ASSERT_EQ(0, uc_open(self->uc, rig->sock, variant->saddr,
			     rig->ifindex));
	self->daddr = variant->daddr;
}

FIXTURE_TEARDOWN(data)
{
	uc_close(self->uc);
	free(self->uc);
	rig_destroy(&self->rig);
}

static const uint64_t sizes[] = { 1, 1000, 1460, 1461, 65535, 65536, 1 << 20 };

TEST_F_TIMEOUT(data, out_sizes, 60)
{
	size_t i;
	int slot;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		slot = uc_connect(self->uc, self->daddr, PEER_SINK);
		ASSERT_LE(0, slot);
		ASSERT_EQ(sizes[i], uc_to_sink(self->uc, slot, sizes[i]));
		uc_op(self->uc, slot, DMM_OP_CLOSE);
		ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(self->uc, slot, 5000));
	}
}

TEST_F_TIMEOUT(data, out_100m, 120)
{
	int slot = uc_connect(self->uc, self->daddr, PEER_SINK);

	ASSERT_LE(0, slot);
	ASSERT_EQ(100ULL << 20, uc_to_sink(self->uc, slot, 100ULL << 20));
}

TEST_F_TIMEOUT(data, in_sizes, 60)
{
	size_t i;
	int slot;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		slot = uc_connect(self->uc, self->daddr, PEER_SOURCE);
		ASSERT_LE(0, slot);
		ASSERT_EQ((int64_t)sizes[i],
			  uc_from_source(self->uc, slot, sizes[i]));
		/* the peer closed first, so we do not wait */
		uc_op(self->uc, slot, DMM_OP_CLOSE);
		ASSERT_EQ(DMM_EV_GONE, uc_finish(self->uc, slot, 5000));
	}
}

TEST_F_TIMEOUT(data, in_100m, 120)
{
	int slot = uc_connect(self->uc, self->daddr, PEER_SOURCE);

	ASSERT_LE(0, slot);
	ASSERT_EQ(100LL << 20, uc_from_source(self->uc, slot, 100ULL << 20));
}

/* Both directions at once on one connection. */
TEST_F_TIMEOUT(data, echo_duplex, 60)
{
	const uint64_t total = 16 << 20;
	struct uclient *uc = self->uc;
	uint64_t sent = 0, got = 0;
	static char out[CHUNK], in[CHUNK];
	uint32_t want;
	int slot, n;

	slot = uc_connect(uc, self->daddr, PEER_ECHO);
	ASSERT_LE(0, slot);
	while (got < total) {
		bool moved = false;

		if (sent < total) {
			want = total - sent < CHUNK ? total - sent : CHUNK;
			pattern_fill(out, want, sent);
			n = uc_send_some(uc, slot, out, want);
			ASSERT_LE(0, n);
			sent += n;
			moved |= n;
		}
		n = uc_recv_some(uc, slot, in, CHUNK);
		ASSERT_LE(0, n);
		ASSERT_EQ(0, pattern_check(in, n, got));
		got += n;
		moved |= n;
		if (moved)
			continue;
		if (sent < total &&
		    dmm_ring_arm(dmm_chan_tx(uc->chan, slot), 0))
			continue;
		if (!dmm_ring_arm(dmm_chan_rx(uc->chan, slot), 0))
			ASSERT_EQ(0, uc_wait(uc, 10000));
	}
}

TEST_F_TIMEOUT(data, many_at_once, 120)
{
	static char buf[CHUNK], back[CHUNK];
	struct uclient *uc = self->uc;
	int slots[MANY], i;

	for (i = 0; i < MANY; i++) {
		slots[i] = uc_connect_start(uc, self->daddr, PEER_ECHO, 0);
		ASSERT_LE(0, slots[i]);
	}
	for (i = 0; i < MANY; i++) {
		while (!uc->conns[slots[i]].connected) {
			ASSERT_EQ(0, uc->conns[slots[i]].final);
			ASSERT_EQ(0, uc_wait(uc, 10000));
		}
	}
	EXPECT_EQ(MANY, rig_stat(&self->rig, "conns"));
	for (i = 0; i < MANY; i++) {
		pattern_fill(buf, CHUNK, i);
		ASSERT_EQ(0, uc_send(uc, slots[i], buf, CHUNK));
		uc_op(uc, slots[i], DMM_OP_SHUTDOWN);
	}
	for (i = 0; i < MANY; i++) {
		ASSERT_EQ(CHUNK, uc_recv(uc, slots[i], back, CHUNK));
		ASSERT_EQ(0, pattern_check(back, CHUNK, i));
		ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slots[i], 10000));
	}
	EXPECT_EQ(0, rig_stat(&self->rig, "conns"));
}

TEST_F_TIMEOUT(data, one_after_another, 120)
{
	struct uclient *uc = self->uc;
	int i, slot;

	for (i = 0; i < 1000; i++) {
		slot = uc_connect(uc, self->daddr, PEER_SINK);
		ASSERT_LE(0, slot);
		ASSERT_EQ(100U, uc_to_sink(uc, slot, 100));
		uc_op(uc, slot, DMM_OP_CLOSE);
		ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 5000));
	}
	EXPECT_EQ(0, rig_stat(&self->rig, "bad_ops"));
	EXPECT_EQ(0, rig_stat(&self->rig, "flow_errors"));
}

/* Our own TIME_WAIT does not keep the client from using the port again. */
TEST_F(data, timewait_gives_way)
{
	struct uclient *uc = self->uc;
	int i, slot;

	for (i = 0; i < 3; i++) {
		slot = uc_connect_start(uc, self->daddr, PEER_SINK, 45678);
		ASSERT_LE(0, slot);
		while (!uc->conns[slot].connected) {
			ASSERT_EQ(0, uc->conns[slot].final);
			ASSERT_EQ(0, uc_wait(uc, 10000));
		}
		ASSERT_EQ(5000U, uc_to_sink(uc, slot, 5000));
		uc_op(uc, slot, DMM_OP_CLOSE);
		ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 5000));
	}
	EXPECT_EQ(1, rig_stat(&self->rig, "stack_conns"));
}

TEST_F(data, refused)
{
	EXPECT_EQ(-ECONNREFUSED,
		  uc_connect(self->uc, self->daddr, PEER_CLOSED));
	EXPECT_EQ(0, rig_stat(&self->rig, "conns"));
	EXPECT_EQ(1, rig_stat(&self->rig, "conns_failed"));
}

TEST_F(data, no_neighbour)
{
	EXPECT_EQ(-EHOSTUNREACH,
		  uc_connect(self->uc, variant->absent, PEER_ECHO));
	EXPECT_EQ(0, rig_stat(&self->rig, "stack_conns"));
}

/* Nobody answers; TCP_USER_TIMEOUT ends it. */
TEST_F(data, timed_out)
{
	struct dmm_op op = {
		.op = DMM_OP_OPTIONS,
		.options.user_timeout = 1500,
	};
	struct uclient *uc = self->uc;
	long t0 = uc_now_ms();
	int slot;

	slot = uc_connect_start(uc, variant->mute, PEER_ECHO, 0);
	ASSERT_LE(0, slot);
	op.slot = slot;
	op.gen = uc->conns[slot].gen;
	ASSERT_EQ(0, dmm_chan_op_put(uc->chan, &op));
	dmm_client_submit(uc->client);
	ASSERT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 10000));
	EXPECT_EQ(ETIMEDOUT, (int)uc->conns[slot].error);
	EXPECT_LE(1500, uc_now_ms() - t0);
	EXPECT_LE(1, rig_stat(&self->rig, "seg_retrans"));
}

/* We are done sending, the peer is not. */
TEST_F(data, half_close)
{
	struct uclient *uc = self->uc;
	uint64_t len = 1 << 20;
	static char buf[1 << 20];
	int slot;

	slot = uc_connect(uc, self->daddr, PEER_SOURCE);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, uc_send(uc, slot, &len, sizeof(len)));
	uc_op(uc, slot, DMM_OP_SHUTDOWN);
	ASSERT_EQ((long)len, uc_recv(uc, slot, buf, len));
	ASSERT_EQ(0, pattern_check(buf, len, 0));
	ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 5000));
}

/* The peer is done sending, we are not. */
TEST_F(data, peer_half_close)
{
	struct uclient *uc = self->uc;
	static char buf[1 << 20];
	int slot;
	char c;

	slot = uc_connect(uc, self->daddr, PEER_HALF);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, uc_recv(uc, slot, &c, 1));
	pattern_fill(buf, sizeof(buf), 0);
	ASSERT_EQ(0, uc_send(uc, slot, buf, sizeof(buf)));
	uc_op(uc, slot, DMM_OP_CLOSE);
	ASSERT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
}

TEST_F(data, reset)
{
	struct uclient *uc = self->uc;
	int slot;

	slot = uc_connect(uc, self->daddr, PEER_RESET);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, uc_send(uc, slot, "x", 1));
	ASSERT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 5000));
	EXPECT_EQ(ECONNRESET, (int)uc->conns[slot].error);
}

/* The peer's window closes and opens again. */
TEST_F_TIMEOUT(data, peer_window, 60)
{
	int slot = uc_connect(self->uc, self->daddr, PEER_SLOW);

	ASSERT_LE(0, slot);
	ASSERT_EQ(16ULL << 20, uc_to_sink(self->uc, slot, 16ULL << 20));
}

/* Our window closes and opens again. */
TEST_F_TIMEOUT(data, own_window, 60)
{
	const uint64_t len = 8 << 20;
	struct uclient *uc = self->uc;
	struct dmm_ring *rx;
	static char buf[CHUNK];
	uint64_t got = 0;
	long n, t0;
	int slot;

	slot = uc_connect(uc, self->daddr, PEER_SOURCE);
	ASSERT_LE(0, slot);
	rx = dmm_chan_rx(uc->chan, slot);
	ASSERT_EQ(0, uc_send(uc, slot, &len, sizeof(len)));
	for (t0 = uc_now_ms(); dmm_ring_used(rx) < (int)dmm_ring_size(rx) - 2000;
	     usleep(1000))
		ASSERT_GT(10000, uc_now_ms() - t0);
	/* shut for longer than the peer's first probes */
	usleep(700000);
	ASSERT_GE((int)dmm_ring_size(rx), dmm_ring_used(rx));
	while (got < len) {
		n = uc_recv(uc, slot, buf, CHUNK);
		ASSERT_LT(0, n);
		ASSERT_EQ(0, pattern_check(buf, n, got));
		got += n;
	}
}

/* Nobody reads any more: data draws a RST. */
TEST_F(data, close_under_data)
{
	struct uclient *uc = self->uc;
	int slot;
	char c;

	slot = uc_connect(uc, self->daddr, PEER_FLOOD);
	ASSERT_LE(0, slot);
	ASSERT_EQ(1, uc_recv(uc, slot, &c, 1));
	uc_op(uc, slot, DMM_OP_CLOSE);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	EXPECT_EQ(0, rig_stat(&self->rig, "stack_conns"));
}

/* What was sent before the close arrives, all of it. */
TEST_F(data, close_with_data_in_flight)
{
	struct uclient *uc = self->uc;
	static char buf[200000];
	int slot;

	slot = uc_connect(uc, self->daddr, PEER_HALF);
	ASSERT_LE(0, slot);
	pattern_fill(buf, sizeof(buf), 0);
	ASSERT_EQ(0, uc_send(uc, slot, buf, sizeof(buf)));
	uc_op(uc, slot, DMM_OP_CLOSE);
	/* the peer resets if what came was not the pattern */
	ASSERT_LE(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 5000));
}

TEST_F(data, abort)
{
	struct uclient *uc = self->uc;
	int slot;

	slot = uc_connect(uc, self->daddr, PEER_ECHO);
	ASSERT_LE(0, slot);
	uc_op(uc, slot, DMM_OP_ABORT);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	slot = uc_connect_start(uc, variant->mute, PEER_ECHO, 0);
	ASSERT_LE(0, slot);
	uc_op(uc, slot, DMM_OP_ABORT);
	EXPECT_EQ(DMM_EV_GONE, uc_finish(uc, slot, 5000));
	EXPECT_EQ(0, rig_stat(&self->rig, "stack_conns"));
}

/* A client that dies takes its connections with it, and nobody else's. */
TEST_F(data, client_dies)
{
	struct uclient *uc = self->uc, *other = malloc(sizeof(*other));
	int slot, i;
	long t0;

	ASSERT_EQ(0, uc_open(other, self->rig.sock, variant->saddr,
			     self->rig.ifindex));
	other->next_port = 40000;
	slot = uc_connect(uc, self->daddr, PEER_SINK);
	ASSERT_LE(0, slot);
	for (i = 0; i < 10; i++)
		ASSERT_LE(0, uc_connect(other, self->daddr, PEER_FLOOD));
	EXPECT_EQ(11, rig_stat(&self->rig, "conns"));
	uc_close(other);
	for (t0 = uc_now_ms(); rig_stat(&self->rig, "clients") != 1; usleep(1000))
		ASSERT_GT(5000, uc_now_ms() - t0);
	EXPECT_EQ(1, rig_stat_wait(&self->rig, "conns", 1));
	EXPECT_EQ(1, rig_stat_wait(&self->rig, "stack_conns", 1));
	ASSERT_EQ(10000U, uc_to_sink(uc, slot, 10000));
	free(other);
}

/* The route may change under a connection. */
TEST_F(data, route_changes)
{
	struct uclient *uc = self->uc;
	char buf[4];
	int slot;

	ASSERT_EQ(0, rig_run(self->rig.web_fd, "%s addr add %s dev lo",
			     variant->cmd, variant->far));
	ASSERT_EQ(0, rig_run(self->rig.app_fd, "%s route add %s via %s",
			     variant->cmd, variant->net, variant->absent));
	slot = uc_connect_start(uc, variant->far, PEER_ECHO, 0);
	ASSERT_LE(0, slot);
	ASSERT_EQ(-ETIMEDOUT, uc_wait(uc, 200));
	ASSERT_EQ(0, rig_run(self->rig.app_fd, "%s route replace %s via %s",
			     variant->cmd, variant->net, variant->daddr));
	while (!uc->conns[slot].connected) {
		ASSERT_EQ(0, uc->conns[slot].final);
		ASSERT_EQ(0, uc_wait(uc, 10000));
	}
	ASSERT_EQ(0, uc_send(uc, slot, "ping", 4));
	ASSERT_EQ(4, uc_recv(uc, slot, buf, 4));
}

/* The peer's MAC may change under a connection. */
TEST_F_TIMEOUT(data, neighbour_changes, 60)
{
	struct uclient *uc = self->uc;
	char buf[4];
	int slot;

	slot = uc_connect(uc, self->daddr, PEER_ECHO);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, rig_run(self->rig.web_fd,
			     "ip link set dmmt1 address 02:00:00:00:00:77"));
	ASSERT_EQ(0, rig_run(self->rig.app_fd, "ip neigh replace %s "
			     "lladdr 02:00:00:00:00:77 dev " RIG_DEV,
			     self->daddr));
	ASSERT_EQ(0, uc_send(uc, slot, "ping", 4));
	ASSERT_EQ(4, uc_recv(uc, slot, buf, 4));
}

/* Native traffic of the same device, of the same ports, stays the kernel's. */
TEST_F(data, others_pass)
{
	struct sockaddr_storage ss;
	socklen_t len = rig_sockaddr(&ss, self->daddr, PEER_ECHO, 0);
	long before = rig_stat(&self->rig, "rx_frames");
	char buf[4];
	int fd;

	fd = socket(ss.ss_family, SOCK_STREAM, 0);
	ASSERT_EQ(0, connect(fd, (struct sockaddr *)&ss, len));
	ASSERT_EQ(4, send(fd, "ping", 4, 0));
	ASSERT_EQ(4, recv(fd, buf, 4, MSG_WAITALL));
	close(fd);
	EXPECT_EQ(before, rig_stat(&self->rig, "rx_frames"));
}

/* Idle, with and without an open connection: less than 2 % of a CPU. */
TEST_F_TIMEOUT(data, idle, 60)
{
	long before, limit = 4 * sysconf(_SC_CLK_TCK) * 2 / 100;

	before = rig_cpu_ticks(self->rig.worker);
	sleep(4);
	EXPECT_GE(limit, rig_cpu_ticks(self->rig.worker) - before);
	ASSERT_LE(0, uc_connect(self->uc, self->daddr, PEER_ECHO));
	before = rig_cpu_ticks(self->rig.worker);
	sleep(4);
	EXPECT_GE(limit, rig_cpu_ticks(self->rig.worker) - before);
}

/* A killed worker: its clients hear; the next one takes the device over. */
TEST_F_TIMEOUT(data, worker_killed, 60)
{
	struct uclient *uc = self->uc;
	int slot, ret;
	char c;

	slot = uc_connect(uc, self->daddr, PEER_FLOOD);
	ASSERT_LE(0, slot);
	ASSERT_EQ(1, uc_recv(uc, slot, &c, 1));
	kill(self->rig.worker, SIGKILL);
	while (!(ret = uc_wait(uc, 5000)))
		;
	EXPECT_EQ(-EPIPE, ret);
	uc_close(uc);
	waitpid(self->rig.worker, NULL, 0);
	ASSERT_EQ(0, rig_run(self->rig.app_fd,
			     "ip link show " RIG_DEV " | grep -q prog/xdp"));
	ASSERT_EQ(0, rig_worker_start(&self->rig, self->line,
				      sizeof(self->line), NULL)) {
		TH_LOG("%s", self->line);
	}
	ASSERT_EQ(0, uc_open(uc, self->rig.sock, variant->saddr,
			     self->rig.ifindex));
	uc->next_port = 50000;
	slot = uc_connect(uc, self->daddr, PEER_SINK);
	ASSERT_LE(0, slot);
	ASSERT_EQ(100000U, uc_to_sink(uc, slot, 100000));
}

/* A classifier that drops one segment in 64. */
static int drop_some(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_prandom_u32 },
		{ .code = BPF_ALU64 | BPF_AND | BPF_K, .dst_reg = BPF_REG_0,
		  .imm = 63 },
		{ .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = BPF_REG_0,
		  .imm = 0, .off = 2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0,
		  .imm = TC_ACT_OK },
		{ .code = BPF_JMP | BPF_EXIT },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0,
		  .imm = TC_ACT_SHOT },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "drop_some", "GPL", insns,
			     sizeof(insns) / sizeof(insns[0]), NULL);
}

static int drop_on(int ifindex, enum bpf_tc_attach_point where)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = drop_some());
	int ret;

	ret = bpf_tc_hook_create(&hook);
	if (ret && ret != -EEXIST)
		return ret;
	hook.attach_point = where;
	return bpf_tc_attach(&hook, &opts);
}

/* A wire that loses segments costs time and nothing else. */
TEST_F_TIMEOUT(data, lossy_wire, 120)
{
	struct uclient *uc = self->uc;
	int slot, ifindex;

	ASSERT_EQ(0, setns(self->rig.web_fd, CLONE_NEWNET));
	ifindex = if_nametoindex("dmmt1");
	ASSERT_EQ(0, drop_on(ifindex, BPF_TC_EGRESS));
	ASSERT_EQ(0, drop_on(ifindex, BPF_TC_INGRESS));
	ASSERT_EQ(0, setns(self->rig.app_fd, CLONE_NEWNET));
	slot = uc_connect(uc, self->daddr, PEER_SOURCE);
	ASSERT_LE(0, slot);
	ASSERT_EQ(4 << 20, uc_from_source(uc, slot, 4 << 20));
	slot = uc_connect(uc, self->daddr, PEER_SINK);
	ASSERT_LE(0, slot);
	ASSERT_EQ(4U << 20, uc_to_sink(uc, slot, 4 << 20));
	EXPECT_LT(0, rig_stat(&self->rig, "seg_retrans"));
}

TEST_HARNESS_MAIN
