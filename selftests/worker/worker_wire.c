// SPDX-License-Identifier: Apache-2.0
/*
 * What goes over the wire when it is bad, when peers misbehave or vanish, and when
 * routers complain.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "peer.h"
#include "rig.h"
#include "uclient.h"
#include "wire.h"

#define CHUNK	(64 * 1024)
#define PORT	8080

/* ---- bad wires ----------------------------------------------------------- */

FIXTURE(bad) {
	struct rig rig;
	struct uclient *uc;
	pid_t wire;
	char line[512];
};

FIXTURE_VARIANT(bad) {
	struct wire wire;
	const char *saddr;
	const char *daddr;
};

#define VARIANT4(name, ...)						\
	FIXTURE_VARIANT_ADD(bad, name) {				\
		.wire = { __VA_ARGS__ },				\
		.saddr = RIG_SADDR, .daddr = RIG_DADDR }

VARIANT4(loss_1, .loss = 10);
VARIANT4(loss_5, .loss = 50);
VARIANT4(delay, .delay_ms = 10);
VARIANT4(delay_loss_1, .delay_ms = 10, .loss = 10);
VARIANT4(reorder, .delay_ms = 10, .reorder = 100);
VARIANT4(duplicate, .duplicate = 100);
VARIANT4(corrupt, .corrupt = 20);
VARIANT4(all, .delay_ms = 5, .loss = 10, .reorder = 50, .duplicate = 20,
	 .corrupt = 10);
FIXTURE_VARIANT_ADD(bad, all_ipv6) {
	.wire = { .delay_ms = 5, .loss = 10, .reorder = 50, .duplicate = 20,
		  .corrupt = 10 },
	.saddr = RIG_SADDR6, .daddr = RIG_DADDR6,
};

FIXTURE_SETUP(bad)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_create(rig));
	self->wire = wire_start(rig, &variant->wire);
	ASSERT_LT(0, self->wire);
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line),
				      NULL)) {
		TH_LOG("%s", self->line);
	}
	self->uc = malloc(sizeof(*self->uc));
	ASSERT_EQ(0, uc_open(self->uc, rig->sock, variant->saddr,
			     rig->ifindex));
}

FIXTURE_TEARDOWN(bad)
{
	uc_close(self->uc);
	free(self->uc);
	rig_destroy(&self->rig);
	kill(self->wire, SIGKILL);
	waitpid(self->wire, NULL, 0);
}

/* Both ways, one after another: slow, and intact. */
TEST_F_TIMEOUT(bad, transfers, 180)
{
	struct uclient *uc = self->uc;
	const uint64_t len = 1 << 20;
	long t0 = uc_now_ms(), t1;
	int slot;

	slot = uc_connect(uc, variant->daddr, PEER_SOURCE);
	ASSERT_LE(0, slot);
	ASSERT_EQ((int64_t)len, uc_from_source(uc, slot, len));
	uc_op(uc, slot, DMM_OP_CLOSE);
	t1 = uc_now_ms();
	slot = uc_connect(uc, variant->daddr, PEER_SINK);
	ASSERT_LE(0, slot);
	ASSERT_EQ(len, uc_to_sink(uc, slot, len));
	uc_op(uc, slot, DMM_OP_CLOSE);
	TH_LOG("in %ld ms, out %ld ms, %ld segments again", t1 - t0,
	       uc_now_ms() - t1, rig_stat(&self->rig, "seg_retrans"));
	if (variant->wire.loss) {
		EXPECT_LT(0, rig_stat(&self->rig, "seg_retrans"));
	}
	if (variant->wire.corrupt) {
		EXPECT_LT(0, rig_stat(&self->rig, "bad_csum"));
	}
}

/* Many short ones: handshakes and ends get lost, too. */
TEST_F_TIMEOUT(bad, short_ones, 180)
{
	struct uclient *uc = self->uc;
	int slots[50], i;

	for (i = 0; i < 50; i++) {
		slots[i] = uc_connect_start(uc, variant->daddr, PEER_SINK, 0);
		ASSERT_LE(0, slots[i]);
	}
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(slots[i], uc_connected(uc, slots[i]));
		ASSERT_EQ(3000U, uc_to_sink(uc, slots[i], 3000)) {
			TH_LOG("connection %d: event %u, error %u, fin %d", i,
			       uc->conns[slots[i]].final,
			       uc->conns[slots[i]].error,
			       uc->conns[slots[i]].fin);
		}
		uc_op(uc, slots[i], DMM_OP_CLOSE);
	}
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slots[i], 30000));
	}
	EXPECT_EQ(0, rig_stat(&self->rig, "conns"));
}

/* And such that peers open. */
TEST_F_TIMEOUT(bad, accepted, 180)
{
	struct uclient *uc = self->uc;
	static char out[200000], in[200000];
	int slot, fd, i;

	ASSERT_LE(0, uc_listen(uc, AF_INET6, NULL, PORT, 64, 0));
	ASSERT_EQ(1, rig_stat_wait(&self->rig, "listeners", 1));
	for (i = 0; i < 10; i++) {
		fd = rig_dial(&self->rig, variant->saddr, PORT);
		ASSERT_LE(0, fd);
		/* our SYN-ACK's acknowledgement may be lost, and come late */
		ASSERT_EQ(4, send(fd, "ping", 4, 0));
		slot = uc_accept(uc, -1, 20000);
		ASSERT_LE(0, slot);
		ASSERT_EQ(4, uc_recv(uc, slot, in, 4));
		pattern_fill(out, sizeof(out), i);
		ASSERT_EQ(0, uc_send(uc, slot, out, sizeof(out)));
		uc_op(uc, slot, DMM_OP_CLOSE);
		ASSERT_EQ((ssize_t)sizeof(in),
			  recv(fd, in, sizeof(in), MSG_WAITALL));
		ASSERT_EQ(0, pattern_check(in, sizeof(in), i));
		ASSERT_EQ(0, recv(fd, in, 1, 0));
		close(fd);
		ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 30000));
	}
}

/* ---- peers, and routers ---------------------------------------------------- */

FIXTURE(wire) {
	struct rig rig;
	struct uclient *uc;
	char line[512];
};

FIXTURE_VARIANT(wire) {
	const char *saddr;
	const char *daddr;
	const char *mute;
	int family;
};

FIXTURE_VARIANT_ADD(wire, ipv4) {
	.saddr = RIG_SADDR, .daddr = RIG_DADDR, .mute = RIG_MUTE,
	.family = AF_INET,
};

FIXTURE_VARIANT_ADD(wire, ipv6) {
	.saddr = RIG_SADDR6, .daddr = RIG_DADDR6, .mute = RIG_MUTE6,
	.family = AF_INET6,
};

FIXTURE_SETUP(wire)
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
}

FIXTURE_TEARDOWN(wire)
{
	uc_close(self->uc);
	free(self->uc);
	rig_destroy(&self->rig);
}

/* A connection that the peer opened: our slot, its socket. */
static int accepted(struct uclient *uc, struct rig *rig, const char *saddr,
		    int *fd)
{
	if (rig_stat(rig, "listeners") < 1) {
		uc_listen(uc, AF_INET6, NULL, PORT, 8, 0);
		rig_stat_wait(rig, "listeners", 1);
	}
	*fd = rig_dial(rig, saddr, PORT);
	return *fd < 0 ? *fd : uc_accept(uc, -1, 5000);
}

static int peer_end(int fd)
{
	char buf[64];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	return n < 0 ? -errno : (int)n;
}

/* Close without a word to us. */
static void vanish(int fd)
{
	int on = 1;

	setsockopt(fd, SOL_TCP, TCP_REPAIR, &on, sizeof(on));
	close(fd);
}

static void options(struct uclient *uc, int slot, struct dmm_op_options o)
{
	struct dmm_op op = {
		.op = DMM_OP_OPTIONS, .slot = slot,
		.gen = uc->conns[slot].gen, .options = o,
	};

	uc_put(uc, &op);
}

TEST_F(wire, abort_resets)
{
	int fd, slot = accepted(self->uc, &self->rig, variant->saddr, &fd);

	ASSERT_LE(0, slot);
	uc_op(self->uc, slot, DMM_OP_ABORT);
	EXPECT_EQ(-ECONNRESET, peer_end(fd));
	EXPECT_EQ(DMM_EV_GONE, uc_finish(self->uc, slot, 5000));
	close(fd);
}

TEST_F(wire, data_after_close_resets)
{
	int fd, slot = accepted(self->uc, &self->rig, variant->saddr, &fd);

	struct pollfd pfd = { .fd = fd };
	socklen_t len = sizeof(int);
	int err = 0;

	ASSERT_LE(0, slot);
	uc_op(self->uc, slot, DMM_OP_CLOSE);
	EXPECT_EQ(0, peer_end(fd));
	ASSERT_EQ(4, send(fd, "late", 4, MSG_NOSIGNAL));
	EXPECT_EQ(DMM_EV_GONE, uc_finish(self->uc, slot, 5000));
	/* what Linux makes of a RST after a FIN */
	ASSERT_EQ(1, poll(&pfd, 1, 5000));
	EXPECT_EQ(POLLERR, pfd.revents & POLLERR);
	ASSERT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	EXPECT_EQ(EPIPE, err);
	close(fd);
}

/* The peer forgot the connection: our data draws its RST. */
TEST_F(wire, half_open_peer)
{
	struct uclient *uc = self->uc;
	int fd, slot = accepted(uc, &self->rig, variant->saddr, &fd);

	ASSERT_LE(0, slot);
	vanish(fd);
	ASSERT_EQ(0, uc_send(uc, slot, "x", 1));
	EXPECT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 5000));
	EXPECT_EQ(ECONNRESET, (int)uc->conns[slot].error);
}

/* It forgot, and opens again from the same port. */
TEST_F(wire, half_open_reopened)
{
	struct uclient *uc = self->uc;
	struct sockaddr_storage from, to;
	socklen_t len = rig_sockaddr(&to, variant->saddr, PORT, 0);
	int fd, one = 1, slot = accepted(uc, &self->rig, variant->saddr, &fd);
	char buf[4];

	ASSERT_LE(0, slot);
	ASSERT_EQ(0, getsockname(fd, (struct sockaddr *)&from, &len));
	vanish(fd);
	fd = rig_socket(&self->rig, self->rig.web_fd, variant->family,
			SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ASSERT_EQ(0, bind(fd, (struct sockaddr *)&from, len));
	ASSERT_EQ(0, connect(fd, (struct sockaddr *)&to, len));
	EXPECT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 5000));
	EXPECT_EQ(ECONNRESET, (int)uc->conns[slot].error);
	slot = uc_accept(uc, -1, 5000);
	ASSERT_LE(0, slot);
	ASSERT_EQ(4, send(fd, "ping", 4, 0));
	ASSERT_EQ(4, uc_recv(uc, slot, buf, 4));
	close(fd);
}

/* Nobody answers probes. */
TEST_F_TIMEOUT(wire, keepalive, 60)
{
	struct uclient *uc = self->uc;
	int fd, slot = accepted(uc, &self->rig, variant->saddr, &fd);
	long t0;

	ASSERT_LE(0, slot);
	options(uc, slot, (struct dmm_op_options) {
		.set = DMM_OPT_KEEPALIVE, .keepidle = 1, .keepintvl = 1,
		.keepcnt = 3,
	});
	/* a peer that answers stays */
	EXPECT_EQ(-ETIMEDOUT, uc_wait(uc, 6000));
	t0 = uc_now_ms();
	ASSERT_EQ(0, rig_run(self->rig.web_fd, "ip link set dmmt1 address "
			     "02:00:00:00:00:aa"));
	EXPECT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 20000));
	EXPECT_EQ(ETIMEDOUT, (int)uc->conns[slot].error);
	EXPECT_LE(2500, uc_now_ms() - t0);
	EXPECT_GE(6500, uc_now_ms() - t0);
	close(fd);
}

/* Nobody acknowledges data. */
TEST_F_TIMEOUT(wire, user_timeout, 60)
{
	struct uclient *uc = self->uc;
	int fd, slot = accepted(uc, &self->rig, variant->saddr, &fd);
	long t0 = uc_now_ms();

	ASSERT_LE(0, slot);
	options(uc, slot, (struct dmm_op_options) { .user_timeout = 2000 });
	ASSERT_EQ(0, rig_run(self->rig.web_fd, "ip link set dmmt1 address "
			     "02:00:00:00:00:aa"));
	ASSERT_EQ(0, uc_send(uc, slot, "x", 1));
	EXPECT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 20000));
	EXPECT_EQ(ETIMEDOUT, (int)uc->conns[slot].error);
	EXPECT_LE(2000, uc_now_ms() - t0);
	EXPECT_GE(5000, uc_now_ms() - t0);
	close(fd);
}

/* Time in which nobody said anything is no round trip: losses show soon. */
TEST_F(wire, loss_after_idle)
{
	struct uclient *uc = self->uc;
	struct rig *rig = &self->rig;
	char buf[4];
	long t0;
	int slot;

	ASSERT_EQ(0, rig_run(rig->web_fd, "ip link set dmmt1 address "
			     "02:00:00:00:00:01"));
	ASSERT_EQ(0, rig_run(rig->app_fd, "ip neigh replace %s lladdr "
			     "02:00:00:00:00:01 dev " RIG_DEV " nud permanent",
			     variant->daddr));
	/* one that only makes the stack's clock go */
	ASSERT_LE(0, uc_connect(uc, variant->daddr, PEER_ECHO));
	usleep(300000);
	slot = uc_connect(uc, variant->daddr, PEER_ECHO);
	ASSERT_LE(0, slot);
	sleep(5);
	ASSERT_EQ(0, uc_send(uc, slot, "ping", 4));
	ASSERT_EQ(4, uc_recv(uc, slot, buf, 4));
	ASSERT_EQ(0, rig_run(rig->web_fd, "ip link set dmmt1 address "
			     "02:00:00:00:00:aa"));
	t0 = uc_now_ms();
	ASSERT_EQ(0, uc_send(uc, slot, "ping", 4));
	usleep(200000);
	ASSERT_EQ(0, rig_run(rig->web_fd, "ip link set dmmt1 address "
			     "02:00:00:00:00:01"));
	ASSERT_EQ(4, uc_recv(uc, slot, buf, 4));
	EXPECT_GE(2500, uc_now_ms() - t0);
}

/* A window that stays shut for long, and a peer that says so: it goes on. */
TEST_F_TIMEOUT(wire, window_shut, 90)
{
	struct uclient *uc = self->uc;
	int fd, buf = 4096, slot = accepted(uc, &self->rig, variant->saddr, &fd);
	static char out[1 << 20], in[1 << 20];
	size_t sent = 0, got = 0;
	long t0 = uc_now_ms();
	ssize_t n;

	ASSERT_LE(0, slot);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buf, sizeof(buf));
	pattern_fill(out, sizeof(out), 0);
	do {
		n = uc_send_some(uc, slot, out + sent, sizeof(out) - sent);
		ASSERT_LE(0, n);
		sent += n;
		uc_wait(uc, 100);
	} while (uc_now_ms() - t0 < 2000);
	ASSERT_GT(sizeof(out), sent);
	/* probes after 0.3, 0.6, 1.2, 2.4, 4.8 seconds */
	EXPECT_EQ(-ETIMEDOUT, uc_wait(uc, 9000));
	EXPECT_EQ(0U, uc->conns[slot].final);
	while (got < sent) {
		n = recv(fd, in + got, sent - got, 0);
		ASSERT_LT(0, n);
		got += n;
	}
	EXPECT_EQ(0, pattern_check(in, sent, 0));
	close(fd);
}

/* ---- segments of our own making ------------------------------------------ */

/* All that comes to and leaves dmmt1. */
static int sniffer(struct rig *rig)
{
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = rig->web_ifindex,
	};
	struct timeval patience = { .tv_sec = 5 };
	int fd = rig_socket(rig, rig->web_fd, AF_PACKET, SOCK_DGRAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (bind(fd, (struct sockaddr *)&sll, sizeof(sll)))
		return -errno;
	return fd;
}

/* A TCP segment that was seen. */
struct seen {
	char ip[2048];
	ssize_t len;
	size_t iplen;
	struct tcphdr tcp;
};

/* The next segment that the stack (@out: the peer) sent to or from @port. */
static int sniff(int fd, bool out, uint16_t port, struct seen *s)
{
	struct sockaddr_ll from;
	socklen_t flen;

	for (;;) {
		flen = sizeof(from);
		s->len = recvfrom(fd, s->ip, sizeof(s->ip), 0,
				  (struct sockaddr *)&from, &flen);
		if (s->len < 0)
			return -errno;
		if ((from.sll_pkttype == PACKET_OUTGOING) != out)
			continue;
		s->iplen = s->ip[0] >> 4 == 4 ? 20 : 40;
		if (s->len < (ssize_t)(s->iplen + sizeof(s->tcp)) ||
		    s->ip[s->iplen == 20 ? 9 : 6] != IPPROTO_TCP)
			continue;
		memcpy(&s->tcp, s->ip + s->iplen, sizeof(s->tcp));
		if (s->tcp.source == htons(port) || s->tcp.dest == htons(port))
			return 0;
	}
}

static uint16_t csum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i + 1 < len; i += 2)
		sum += p[i] << 8 | p[i + 1];
	if (len & 1)
		sum += p[len - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

/* An error about the segment @s, from the peer's address. */
static int icmp_send(struct rig *rig, const char *to, int type, int code,
		     uint32_t mtu, const struct seen *s)
{
	struct {
		uint8_t type;
		uint8_t code;
		uint16_t csum;
		uint32_t mtu;
		char about[40 + 20];
	} msg = { .type = type, .code = code, .mtu = htonl(mtu) };
	size_t len = 8 + s->iplen + 20;
	struct sockaddr_storage ss;
	socklen_t slen = rig_sockaddr(&ss, to, 0, 0);
	bool v4 = ss.ss_family == AF_INET;
	int fd, ret;

	memcpy(msg.about, s->ip, s->iplen + 20);
	if (v4)
		msg.csum = csum(&msg, len);
	fd = rig_socket(rig, rig->web_fd, ss.ss_family, SOCK_RAW,
			v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	ret = sendto(fd, &msg, len, 0, (struct sockaddr *)&ss, slen);
	close(fd);
	return ret == (int)len ? 0 : -errno;
}

static const struct {
	int type4, code4, type6, code6;
	int error;
} refusals[] = {
	{ ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMP6_DST_UNREACH,
	  ICMP6_DST_UNREACH_NOPORT, ECONNREFUSED },
	{ ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, ICMP6_DST_UNREACH,
	  ICMP6_DST_UNREACH_ADDR, EHOSTUNREACH },
	{ ICMP_DEST_UNREACH, ICMP_NET_UNREACH, ICMP6_DST_UNREACH,
	  ICMP6_DST_UNREACH_NOROUTE, ENETUNREACH },
	{ ICMP_TIME_EXCEEDED, 0, ICMP6_TIME_EXCEEDED, 0, EHOSTUNREACH },
};

/* Opening, a router says no; what it says has to be about our SYN. */
TEST_F(wire, icmp_refuses)
{
	struct uclient *uc = self->uc;
	struct rig *rig = &self->rig;
	int slot, fd = sniffer(rig);
	bool v4 = variant->family == AF_INET;
	struct seen s, wrong;
	size_t i;

	ASSERT_LE(0, fd);
	for (i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		slot = uc_connect_start(uc, variant->mute, PORT, 0);
		ASSERT_LE(0, slot);
		ASSERT_EQ(0, sniff(fd, false, PORT, &s));
		wrong = s;
		wrong.ip[s.iplen + 4] ^= 0x55;	/* the sequence number */
		ASSERT_EQ(0, icmp_send(rig, variant->saddr,
				       v4 ? refusals[i].type4 : refusals[i].type6,
				       v4 ? refusals[i].code4 : refusals[i].code6,
				       0, &wrong));
		ASSERT_EQ((long)i + 1, rig_stat_wait(rig, "icmp_bad", i + 1));
		ASSERT_EQ(0, icmp_send(rig, variant->saddr,
				       v4 ? refusals[i].type4 : refusals[i].type6,
				       v4 ? refusals[i].code4 : refusals[i].code6,
				       0, &s));
		ASSERT_EQ(DMM_EV_ERROR, uc_finish(uc, slot, 5000));
		EXPECT_EQ(refusals[i].error, (int)uc->conns[slot].error);
	}
	close(fd);
}

/* Once open, the same is not fatal. */
TEST_F(wire, icmp_soft)
{
	struct uclient *uc = self->uc;
	struct rig *rig = &self->rig;
	int slot, sn = sniffer(rig);
	bool v4 = variant->family == AF_INET;
	struct seen s;
	char buf[4];

	slot = uc_connect(uc, variant->daddr, PEER_ECHO);
	ASSERT_LE(0, slot);
	ASSERT_EQ(0, uc_send(uc, slot, "ping", 4));
	do {
		ASSERT_EQ(0, sniff(sn, false, PEER_ECHO, &s));
	} while (s.tcp.syn);
	ASSERT_EQ(4, uc_recv(uc, slot, buf, 4));
	/* not under way any more, then the next number */
	ASSERT_EQ(0, icmp_send(rig, variant->saddr,
			       v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH,
			       v4 ? ICMP_PORT_UNREACH : ICMP6_DST_UNREACH_NOPORT,
			       0, &s));
	EXPECT_EQ(1, rig_stat_wait(rig, "icmp_seen", 1));
	ASSERT_EQ(0, uc_send(uc, slot, "ping", 4));
	ASSERT_EQ(4, uc_recv(uc, slot, buf, 4));
	s.tcp.seq = htonl(ntohl(s.tcp.seq) + 8);
	memcpy(s.ip + s.iplen, &s.tcp, sizeof(s.tcp));
	ASSERT_EQ(0, icmp_send(rig, variant->saddr,
			       v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH,
			       v4 ? ICMP_PORT_UNREACH : ICMP6_DST_UNREACH_NOPORT,
			       0, &s));
	EXPECT_EQ(1, rig_stat_wait(rig, "icmp_soft", 1));
	ASSERT_EQ(0, uc_send(uc, slot, "ping", 4));
	ASSERT_EQ(4, uc_recv(uc, slot, buf, 4));
	close(sn);
}

/* A narrow link behind the peer: bulk gets through, after a complaint. */
TEST_F_TIMEOUT(wire, path_mtu, 60)
{
	struct rig *rig = &self->rig;
	struct uclient *uc = self->uc;
	bool v4 = variant->family == AF_INET;
	const char *far = v4 ? "10.88.0.2" : "fd88::2";
	char path[64];
	pid_t peer;
	int fd, slot;

	fd = rig_netns(path, sizeof(path));
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, setns(rig->app_fd, CLONE_NEWNET));
	ASSERT_EQ(0, rig_run(rig->web_fd,
			     "sysctl -qw net.ipv4.ip_forward=1 "
			     "net.ipv6.conf.all.forwarding=1 &&"
			     "ip link add n0 mtu 1300 type veth peer name n1 "
			     "mtu 1300 netns %s &&"
			     "ip addr add 10.88.0.1/24 dev n0 &&"
			     "ip addr add fd88::1/64 dev n0 nodad &&"
			     "ip link set n0 up", path));
	ASSERT_EQ(0, rig_run(fd, "ip addr add 10.88.0.2/24 dev n1 &&"
			     "ip addr add fd88::2/64 dev n1 nodad &&"
			     "ip link set n1 up &&"
			     "ip route add default via 10.88.0.1 &&"
			     "ip -6 route add default via fd88::1"));
	ASSERT_EQ(0, rig_run(rig->app_fd,
			     "ip route add 10.88.0.0/24 via " RIG_DADDR " &&"
			     "ip -6 route add fd88::/64 via " RIG_DADDR6));
	/* the far end says 1460, as if it knew of no narrow link */
	ASSERT_EQ(0, rig_run(fd, "ip route change default via 10.88.0.1 "
			     "advmss 1460 && ip -6 route change default "
			     "via fd88::1 advmss 1440"));
	peer = peer_start(path);
	ASSERT_LT(0, peer);
	slot = uc_connect(uc, far, PEER_SINK);
	ASSERT_LE(0, slot);
	ASSERT_EQ(4U << 20, uc_to_sink(uc, slot, 4 << 20));
	EXPECT_LT(0, rig_stat(rig, "icmp_mtu"));
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	close(fd);
}

/* In TIME_WAIT, the peer's FIN again is acknowledged again. */
TEST_F(wire, timewait_answers)
{
	struct uclient *uc = self->uc;
	struct rig *rig = &self->rig;
	int fd, raw, sn, slot;
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_ifindex = rig->web_ifindex,
		.sll_protocol = htons(variant->family == AF_INET ?
				      ETH_P_IP : ETH_P_IPV6),
		.sll_halen = 6,
		.sll_addr = "\xff\xff\xff\xff\xff\xff",
	};
	struct seen fin, ack;

	sn = sniffer(rig);
	slot = accepted(uc, rig, variant->saddr, &fd);
	ASSERT_LE(0, slot);
	uc_op(uc, slot, DMM_OP_CLOSE);
	ASSERT_EQ(0, peer_end(fd));
	close(fd);
	ASSERT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 5000));
	do {
		ASSERT_EQ(0, sniff(sn, true, PORT, &fin));
	} while (!fin.tcp.fin);
	do {
		ASSERT_EQ(0, sniff(sn, false, PORT, &ack));
	} while (ack.tcp.ack_seq != htonl(ntohl(fin.tcp.seq) + 1));
	/* the very same frame; its checksum may be unfinished, which is fine */
	raw = rig_socket(rig, rig->web_fd, AF_PACKET, SOCK_DGRAM, 0);
	ASSERT_EQ(fin.len, sendto(raw, fin.ip, fin.len, 0,
				  (struct sockaddr *)&to, sizeof(to)));
	ASSERT_EQ(0, sniff(sn, false, PORT, &ack));
	EXPECT_EQ(htonl(ntohl(fin.tcp.seq) + 1), ack.tcp.ack_seq);
	EXPECT_TRUE(ack.tcp.ack && !ack.tcp.rst && !ack.tcp.syn);
	EXPECT_EQ(1, rig_stat(rig, "stack_conns"));
	close(raw);
	close(sn);
}

/* ---- both at once ---------------------------------------------------------- */

FIXTURE(slow) {
	struct rig rig;
	struct uclient *uc;
	pid_t wire;
	char line[512];
};

FIXTURE_SETUP(slow)
{
	static const struct wire wire = { .delay_ms = 100 };
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_create(rig));
	self->wire = wire_start(rig, &wire);
	ASSERT_LT(0, self->wire);
	ASSERT_EQ(0, rig_worker_start(rig, self->line, sizeof(self->line),
				      NULL)) {
		TH_LOG("%s", self->line);
	}
	self->uc = malloc(sizeof(*self->uc));
	ASSERT_EQ(0, uc_open(self->uc, rig->sock, RIG_SADDR, rig->ifindex));
}

FIXTURE_TEARDOWN(slow)
{
	uc_close(self->uc);
	free(self->uc);
	rig_destroy(&self->rig);
	kill(self->wire, SIGKILL);
	waitpid(self->wire, NULL, 0);
}

/* FINs that cross: FIN, then FIN_ACKED, then TIME_WAIT on both sides. */
TEST_F(slow, simultaneous_close)
{
	struct uclient *uc = self->uc;
	int fd, slot = accepted(uc, &self->rig, RIG_SADDR, &fd);

	ASSERT_LE(0, slot);
	usleep(300000);
	uc_op(uc, slot, DMM_OP_CLOSE);
	ASSERT_EQ(0, shutdown(fd, SHUT_WR));
	while (!uc->conns[slot].fin) {
		ASSERT_EQ(0, uc_wait(uc, 5000));
	}
	EXPECT_FALSE(uc->conns[slot].fin_acked);
	EXPECT_EQ(0, peer_end(fd));
	EXPECT_EQ(DMM_EV_TIMEWAIT, uc_finish(uc, slot, 5000));
	EXPECT_TRUE(uc->conns[slot].fin_acked);
	EXPECT_EQ(0, rig_stat(&self->rig, "seg_retrans"));
	close(fd);
}

TEST_HARNESS_MAIN
