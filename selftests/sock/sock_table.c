// SPDX-License-Identifier: Apache-2.0
/*
 * Every socket option there is: what dmm_opt.h says of it is what happens. A native
 * connection over loopback stands beside ours and is set the same: what the stack is
 * said to honour must be answered alike.
 */
#include "kselftest_harness.h"
#include <linux/bpf.h>
#include <linux/dmm_opt.h>
#include <linux/in6.h>
#include <linux/net_tstamp.h>
#include <linux/xfrm.h>
#include <net/if.h>

#include "rig.h"

/* not in each C library's headers */
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE	51
#endif

RIG_SUITE(table);

struct named {
	const char *name;
	int level, number;
};

/* What the kernel's headers name. */
static const struct named known[] = {
#include "optlist.h"
};

#define ROW(level)	ROW_##level
#define ROW_SOL_SOCKET(n, nr, h, v)	{ #n, SOL_SOCKET, nr },
#define ROW_TCP(n, nr, h, v)		{ #n, IPPROTO_TCP, nr },
#define ROW_IP(n, nr, h, v)		{ #n, IPPROTO_IP, nr },
#define ROW_IPV6(n, nr, h, v)		{ #n, IPPROTO_IPV6, nr },
static const struct named table[] = {
	DMM_OPTS_SOCKET(ROW_SOL_SOCKET)
	DMM_OPTS_TCP(ROW_TCP)
	DMM_OPTS_IP(ROW_IP)
	DMM_OPTS_IPV6(ROW_IPV6)
};

TEST(lacks_nothing)
{
	int i, lost = 0;

	for (i = 0; i < ARRAY_SIZE(known); i++) {
		if (dmm_opt_find(known[i].level, known[i].number).how)
			continue;
		lost++;
		TH_LOG("%s (%d) is not in dmm_opt.h", known[i].name,
		       known[i].number);
	}
	EXPECT_EQ(0, lost);
	EXPECT_LT(150, ARRAY_SIZE(known));
}

/* A name in the table is the headers' name for that number. */
TEST(names_are_right)
{
	int i, k, wrong = 0;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		for (k = 0; k < ARRAY_SIZE(known); k++)
			if (!strcmp(known[k].name, table[i].name) &&
			    (known[k].level == table[i].level ||
			     !strncmp(known[k].name, "MCAST_", 6)))
				break;
		/* the headers say IP_ORIGDSTADDR, and the other is the same */
		if (strstr(table[i].name, "RECVORIGDSTADDR"))
			continue;
		if (k < ARRAY_SIZE(known) &&
		    known[k].number == table[i].number)
			continue;
		wrong++;
		TH_LOG("%s is not %d", table[i].name, table[i].number);
	}
	EXPECT_EQ(0, wrong);
}

/* ---- values ---------------------------------------------------------------- */

/**
 * struct value - what an option is set to
 * @data, @len: for setsockopt()
 * @unread: getsockopt() gives no number, or another one for good reason
 */
struct value {
	char data[256];
	socklen_t len;
	bool unread;
};

static struct value number(int n)
{
	struct value v = { .len = sizeof(n) };

	memcpy(v.data, &n, sizeof(n));
	return v;
}

static struct value bytes(const void *data, socklen_t len)
{
	struct value v = { .len = len, .unread = true };

	memcpy(v.data, data, len);
	return v;
}

#define OBJECT(...)	bytes(&(__VA_ARGS__), sizeof(__VA_ARGS__))

static struct value cbpf(void)
{
	static struct sock_filter all = { BPF_RET | BPF_K, 0, 0, 0xffff };

	return OBJECT((struct sock_fprog) { 1, &all });
}

/* r0 = 65535; exit */
static struct value ebpf(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 0xffff },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (uintptr_t)insns,
		.insn_cnt = ARRAY_SIZE(insns),
		.license = (uintptr_t)"",
	};
	static int fd = -1;

	if (fd < 0)
		fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	return OBJECT(fd);
}

static struct value sol_socket(int opt)
{
	switch (opt) {
	case SO_PRIORITY:
		return number(5);
	case SO_MARK:
		return number(77);
	case SO_SNDBUF:
	case SO_RCVBUF:
	case SO_SNDBUFFORCE:
	case SO_RCVBUFFORCE:
		return number(40000);
	case SO_MAX_PACING_RATE:
		return number(1000000);
	case SO_INCOMING_CPU: {
		struct value v = number(0);

		v.unread = true;	/* TCP puts there what is so */
		return v;
	}
	case SO_LINGER:
		return OBJECT((struct linger) { 1, 1 });
	case SO_RCVTIMEO_OLD:
	case SO_SNDTIMEO_OLD:
		return OBJECT((struct timeval) { 7, 0 });
	case SO_RCVTIMEO_NEW:
	case SO_SNDTIMEO_NEW:
		return OBJECT((long long [2]) { 7, 0 });
	case SO_TIMESTAMPING_OLD:
	case SO_TIMESTAMPING_NEW:
		return number(SOF_TIMESTAMPING_TX_SOFTWARE |
			      SOF_TIMESTAMPING_SOFTWARE);
	case SO_TXTIME:
		return OBJECT((struct sock_txtime) { CLOCK_MONOTONIC, 0 });
	case SO_ATTACH_FILTER:
	case SO_ATTACH_REUSEPORT_CBPF:
		return cbpf();
	case SO_ATTACH_BPF:
	case SO_ATTACH_REUSEPORT_EBPF:
		return ebpf();
	case SO_BINDTODEVICE:
		return bytes("dmm-a", 6);
	case SO_BINDTOIFINDEX:
		return OBJECT((int) { if_nametoindex("dmm-a") });
	}
	return number(1);
}

static struct value sol_tcp(int opt, const struct addr *peer)
{
	struct tcp_md5sig md5 = { .tcpm_keylen = 3, .tcpm_key = "key" };

	switch (opt) {
	case TCP_MAXSEG:
		return number(700);
	case TCP_KEEPIDLE:
	case TCP_KEEPINTVL:
	case TCP_KEEPCNT:
	case TCP_SYNCNT:
	case TCP_LINGER2:
		return number(5);
	case TCP_USER_TIMEOUT:
		return number(5000);
	case TCP_WINDOW_CLAMP:
		return number(50000);
	case TCP_NOTSENT_LOWAT:
		return number(16384);
	case TCP_CONGESTION:
		return bytes("reno", 4);
	case TCP_ULP:
		return bytes("tls", 3);
	case TCP_MD5SIG:
	case TCP_MD5SIG_EXT:
		memcpy(&md5.tcpm_addr, peer, peer->len);
		return OBJECT(md5);
	case TCP_FASTOPEN_KEY:
		return bytes("0123456789abcdef", 16);
	}
	return number(1);
}

static struct value sol_ip(int opt)
{
	switch (opt) {
	case IP_TOS:
		return number(0x28);
	case IP_TTL:
		return number(33);
	case IP_MTU_DISCOVER:
		return number(IP_PMTUDISC_PROBE);
	case IP_OPTIONS:
		return bytes("\1\1\1\0", 4);
	case IP_LOCAL_PORT_RANGE:
		return number(40000 | 45000 << 16);
	case IP_XFRM_POLICY:
		return OBJECT((struct xfrm_userpolicy_info) {
			.sel.family = AF_INET,
			.dir = XFRM_POLICY_OUT,
			.lft = { -1ULL, -1ULL, -1ULL, -1ULL },
		});
	}
	return number(1);
}

static struct value sol_ipv6(int opt, enum rig_family family)
{
	static const char padding[8] = { 0, 0, 1, 4 };
	char room[CMSG_SPACE(sizeof(padding))] = { 0 };
	struct cmsghdr *c = (struct cmsghdr *)room;

	switch (opt) {
	case IPV6_ADDRFORM:
		return number(AF_INET);
	case IPV6_TCLASS:
		return number(0x28);
	case IPV6_UNICAST_HOPS:
		return number(33);
	case IPV6_MTU_DISCOVER:
		return number(IP_PMTUDISC_PROBE);
	case IPV6_MTU:
		return number(1400);
	case IPV6_V6ONLY:
		return number(family == RIG_V6);
	case IPV6_HOPOPTS:
	case IPV6_RTHDRDSTOPTS:
	case IPV6_DSTOPTS:
		return bytes(padding, sizeof(padding));
	case IPV6_2292PKTOPTIONS:
		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_DSTOPTS;
		c->cmsg_len = CMSG_LEN(sizeof(padding));
		memcpy(CMSG_DATA(c), padding, sizeof(padding));
		return bytes(room, sizeof(room));
	case IPV6_FLOWLABEL_MGR:
		return OBJECT((struct in6_flowlabel_req) {
			.flr_dst.s6_addr = { [15] = 1 },
			.flr_action = IPV6_FL_A_GET,
			.flr_flags = IPV6_FL_F_CREATE,
			.flr_share = IPV6_FL_S_ANY,
		});
	case IPV6_XFRM_POLICY:
		return OBJECT((struct xfrm_userpolicy_info) {
			.sel.family = AF_INET6,
			.dir = XFRM_POLICY_OUT,
			.lft = { -1ULL, -1ULL, -1ULL, -1ULL },
		});
	}
	return number(1);
}

static struct value value(const struct rig *r, const struct named *o)
{
	switch (o->level) {
	case SOL_SOCKET:
		return sol_socket(o->number);
	case IPPROTO_TCP:
		return sol_tcp(o->number, &r->to);
	case IPPROTO_IP:
		return sol_ip(o->number);
	}
	return sol_ipv6(o->number, r->family);
}

/* The value that asks for nothing; false: there is none, or it takes more to say. */
static bool void_value(struct dmm_opt_rule rule, struct value *v)
{
	switch (rule.asks_nothing) {
	case DMM_OPT_VOID_ZERO:
		*v = number(0);
		return true;
	case DMM_OPT_VOID_ONES:
		*v = number(-1);
		return true;
	case DMM_OPT_VOID_EMPTY:
		*v = (struct value) { .len = 0 };
		return true;
	case DMM_OPT_VOID_PMTU:
		*v = number(IP_PMTUDISC_DO);
		return true;
	default:
		return false;
	}
}

static int set(int fd, const struct named *o, const struct value *v)
{
	return setsockopt(fd, o->level, o->number, v->data, v->len) ? -errno : 0;
}

/* ---- sockets --------------------------------------------------------------- */

/* SO_RESERVE_MEM, as long as it can, asks the cgroup: nothing of ours. */
static bool skipped(const struct named *o)
{
	return o->level == SOL_SOCKET && o->number == SO_RESERVE_MEM;
}

static struct addr loopback(const struct rig *r)
{
	struct addr a = rig_local(r, 0);

	if (r->family == RIG_V4)
		a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else if (r->family == RIG_V6)
		a.in6.sin6_addr = in6addr_loopback;
	else
		inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.in6.sin6_addr);
	return a;
}

static int listener(const struct rig *r, struct addr *at)
{
	int fd = rig_socket(r, 0);

	set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (bind(fd, &at->sa, at->len))
		return -errno;
	*at = sock_name(fd);
	return listen(fd, 64) ? -errno : fd;
}

/* One that no stack serves, as ours otherwise: connected to @lis, at @at, by @far. */
static int native_one(const struct rig *r, int lis, const struct addr *at,
		      int *far)
{
	int fd = rig_socket(r, 0);

	if (connect(fd, &at->sa, at->len))
		return -errno;
	*far = accept4(lis, NULL, NULL, SOCK_CLOEXEC);
	set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	return fd;
}

/* How many sockets stayed native for what they were set: the machine's counters. */
static long natives(void)
{
	static const char *const reasons[] = {
		"sockopt", "filter", "fastopen", "xfrm",
	};
	const char *command = getenv("DMM_STATS");
	static char text[1 << 16];
	FILE *f = popen(command, "r");
	size_t n = fread(text, 1, sizeof(text) - 1, f), i;
	long sum = 0;

	pclose(f);
	text[n] = 0;
	for (i = 0; i < ARRAY_SIZE(reasons); i++) {
		long most = 0, count;
		char key[32], *at = text;

		/* each is told for the rule, the stack and the module */
		snprintf(key, sizeof(key), "\"%s\":", reasons[i]);
		while ((at = strstr(at, key))) {
			at += strlen(key);
			count = strtol(at, NULL, 10);
			most = count > most ? count : most;
		}
		sum += most;
	}
	return sum;
}

/* ---- the walks ------------------------------------------------------------- */

/* Of each option alone: does the socket go where the table says? */
RIG_TEST(table, before_connect)
{
	struct rig *r = &self->r;
	long before = 0, expected = 0;
	int i, fd, far;

	if (r->adopted && getenv("DMM_STATS"))
		before = natives();
	fcntl(r->lis, F_SETFL, O_NONBLOCK);
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		const struct named *o = &table[i];
		struct dmm_opt_rule rule = dmm_opt_find(o->level, o->number);
		bool native = dmm_opt_keeps_native(rule.how, 0);
		struct value v = value(r, o);

		fd = rig_socket(r, SOCK_NONBLOCK);
		set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
		if (skipped(o) || set(fd, o, &v)) {
			close(fd);
			continue;
		}
		connect(fd, &r->to.sa, r->to.len);
		EXPECT_EQ(r->adopted && !native, rig_is_adopted(fd))
			TH_LOG("%s", o->name);
		expected += native;
		reset_now(fd);
		while ((far = accept(r->lis, NULL, NULL)) >= 0)
			reset_now(far);
	}
	EXPECT_LT(15, expected);
	if (r->adopted && getenv("DMM_STATS"))
		EXPECT_LE(before + expected, natives());
}

/* The values that ask for nothing cost nothing. */
RIG_TEST(table, nothing_before_connect)
{
	struct rig *r = &self->r;
	int i, fd = rig_socket(r, 0);
	struct value v;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		const struct named *o = &table[i];

		if (void_value(dmm_opt_find(o->level, o->number), &v))
			set(fd, o, &v);
	}
	ASSERT_EQ(0, connect(fd, &r->to.sa, r->to.len));
	EXPECT_EQ(r->adopted, rig_is_adopted(fd));
	close(fd);
}

/* Set later: as on a native one, or refused. */
RIG_TEST(table, after_connect)
{
	struct rig *r = &self->r;
	struct addr at = loopback(r);
	int lis = listener(r, &at), i, beside, far, want, got;
	struct value v;
	char c;

	ASSERT_LE(0, lis);
	CONNECT(r);
	set_int(r->fd, SOL_SOCKET, SO_REUSEPORT, 1);
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		const struct named *o = &table[i];
		struct dmm_opt_rule rule = dmm_opt_find(o->level, o->number);

		/* those that take a device: see bound_later() */
		if (skipped(o) || rule.asks_nothing == DMM_OPT_VOID_SAME)
			continue;
		beside = native_one(r, lis, &at, &far);
		ASSERT_LE(0, beside);
		if (r->adopted && void_value(rule, &v) &&
		    dmm_opt_is_refused(rule.how, 0))
			EXPECT_EQ(set(beside, o, &v), set(r->fd, o, &v))
				TH_LOG("%s, nothing", o->name);
		v = value(r, o);
		want = set(beside, o, &v);
		if (!r->adopted) {
			reset_now(beside);
			close(far);
			continue;
		}
		got = set(r->fd, o, &v);
		if (dmm_opt_is_refused(rule.how, 0) &&
		    (o->level != IPPROTO_IPV6 || r->family != RIG_V4)) {
			EXPECT_EQ(-EOPNOTSUPP, got) TH_LOG("%s", o->name);
		} else if (rule.how == DMM_OPT_START) {
			EXPECT_TRUE(got < 0 || got == want)
				TH_LOG("%s: %d, not %d", o->name, got, want);
		} else {
			EXPECT_EQ(want, got) TH_LOG("%s", o->name);
			if (!got && !v.unread)
				EXPECT_EQ(get_int(beside, o->level, o->number),
					  get_int(r->fd, o->level, o->number))
					TH_LOG("%s", o->name);
		}
		EXPECT_EQ(r->adopted, rig_is_adopted(r->fd))
			TH_LOG("%s", o->name);
		reset_now(beside);
		close(far);
	}
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
	EXPECT_EQ(1, send(r->far, "y", 1, 0));
	set_timeout(r->fd, SO_RCVTIMEO, 5000);
	set_int(r->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	EXPECT_EQ(1, read_all(r->fd, &c, 1));
	close(lis);
}

RIG_TEST(table, bound_later)
{
	struct rig *r = &self->r;
	int lo = if_nametoindex("lo"), dev = if_nametoindex("dmm-a");

	CONNECT(r);
	EXPECT_EQ(0, set_int(r->fd, SOL_SOCKET, SO_BINDTOIFINDEX, 0));
	if (r->adopted) {
		EXPECT_EQ(-EOPNOTSUPP,
			  set_int(r->fd, SOL_SOCKET, SO_BINDTOIFINDEX, lo));
		EXPECT_EQ(-1, setsockopt(r->fd, SOL_SOCKET, SO_BINDTODEVICE,
					 "lo", 3));
		EXPECT_EQ(EOPNOTSUPP, errno);
		EXPECT_EQ(0, get_int(r->fd, SOL_SOCKET, SO_BINDTOIFINDEX));
	}
	EXPECT_EQ(0, setsockopt(r->fd, SOL_SOCKET, SO_BINDTODEVICE, "dmm-a", 6));
	EXPECT_EQ(dev, get_int(r->fd, SOL_SOCKET, SO_BINDTOIFINDEX));
	EXPECT_EQ(-1, setsockopt(r->fd, SOL_SOCKET, SO_BINDTODEVICE, "none", 5));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(r->adopted, rig_is_adopted(r->fd));
}

/* What a socket is already, it may be set to be. */
RIG_TEST(table, the_same_again)
{
	static const int opts[] = { SO_PRIORITY, SO_MARK };
	struct rig *r = &self->r;
	char cc[16] = "";
	socklen_t len = sizeof(cc);
	int i;

	CONNECT(r);
	for (i = 0; i < ARRAY_SIZE(opts); i++) {
		int has = get_int(r->fd, SOL_SOCKET, opts[i]);

		EXPECT_EQ(0, set_int(r->fd, SOL_SOCKET, opts[i], has));
		EXPECT_EQ(r->adopted ? -EOPNOTSUPP : 0,
			  set_int(r->fd, SOL_SOCKET, opts[i], has + 1));
	}
	EXPECT_EQ(0, getsockopt(r->fd, IPPROTO_TCP, TCP_CONGESTION, cc, &len));
	EXPECT_EQ(0, setsockopt(r->fd, IPPROTO_TCP, TCP_CONGESTION, cc,
				strlen(cc)));
	EXPECT_EQ(r->adopted ? -1 : 0,
		  setsockopt(r->fd, IPPROTO_TCP, TCP_CONGESTION,
			     strcmp(cc, "reno") ? "reno" : "cubic", 4));
	/* a priority that comes of the type of service is no wish of its own */
	close(r->fd);
	close(r->far);
	r->fd = rig_socket(r, 0);
	if (r->family != RIG_V6)
		ASSERT_EQ(0, set_int(r->fd, IPPROTO_IP, IP_TOS, 0x10));
	CONNECT(r);
}

/* One that the kernel does not know, and one that only we do not. */
RIG_TEST(table, unknown)
{
	static const int levels[] = {
		SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6,
	};
	struct rig *r = &self->r;
	int i;

	CONNECT(r);
	for (i = 0; i < ARRAY_SIZE(levels); i++)
		EXPECT_EQ(-ENOPROTOOPT, set_int(r->fd, levels[i], 4242, 1));
	EXPECT_EQ(-ENOPROTOOPT, set_int(r->fd, 4242, 1, 1));
}

/* Of each option alone: who serves a listener that was set it? */
RIG_TEST(table, before_listen)
{
	struct rig *r = &self->r;
	bool adopted = rig_expects("listen-", r->family);
	int i, fd;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		const struct named *o = &table[i];
		struct dmm_opt_rule rule = dmm_opt_find(o->level, o->number);
		bool native = dmm_opt_keeps_native(rule.how, 1);
		struct addr at = rig_local(r, 0);
		struct value v = value(r, o);

		fd = rig_socket(r, 0);
		set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
		ASSERT_EQ(0, bind(fd, &at.sa, at.len));
		if (skipped(o) || set(fd, o, &v)) {
			close(fd);
			continue;
		}
		ASSERT_EQ(0, listen(fd, 4)) TH_LOG("%s", o->name);
		EXPECT_EQ(adopted && !native, rig_is_adopted(fd))
			TH_LOG("%s", o->name);
		close(fd);
	}
}

RIG_TEST(table, after_listen)
{
	struct rig *r = &self->r;
	bool adopted = rig_expects("listen-", r->family);
	struct addr at, there = rig_local(r, 0);
	int fd = listener(r, &there), i, beside, want, got;
	struct value v;

	ASSERT_LE(0, fd);
	EXPECT_EQ(adopted, rig_is_adopted(fd));
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		const struct named *o = &table[i];
		struct dmm_opt_rule rule = dmm_opt_find(o->level, o->number);

		if (skipped(o) || rule.asks_nothing == DMM_OPT_VOID_SAME)
			continue;
		at = loopback(r);
		beside = listener(r, &at);
		ASSERT_LE(0, beside);
		v = value(r, o);
		want = set(beside, o, &v);
		close(beside);
		if (!adopted)
			continue;
		got = set(fd, o, &v);
		if (dmm_opt_is_refused(rule.how, 1) &&
		    (o->level != IPPROTO_IPV6 || r->family != RIG_V4))
			want = -EOPNOTSUPP;
		EXPECT_EQ(want, got) TH_LOG("%s", o->name);
		EXPECT_TRUE(rig_is_adopted(fd)) TH_LOG("%s", o->name);
	}
	close(fd);
}

TEST_HARNESS_MAIN
