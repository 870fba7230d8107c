// SPDX-License-Identifier: Apache-2.0
/*
 * What is set on a socket by others than its program: BPF, another socket of its
 * reuseport group. What the program sets itself is in ../sock/sock_table.c.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>

#include "adopt.h"

ADOPT_SUITE(option)

#define PORT	4000

/* Wait until @cond, five seconds at most; its last value. */
#define WAIT_FOR(cond) ({						\
	bool __ok;							\
	int __i;							\
									\
	for (__i = 0; !(__ok = !!(cond)) && __i < 500; __i++)		\
		usleep(10000);						\
	__ok;								\
})

static struct puppet_stats stats_of(struct puppet *p)
{
	struct puppet_stats stats;

	puppet_stats(p, &stats);
	return stats;
}

static int get_int(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int val = -1;

	return getsockopt(fd, level, name, &val, &len) ? -errno : val;
}

/* Which timer the kernel has armed for a connection: column "tr" of /proc/net/tcp. */
static int timer_of_port(__u16 port)
{
	FILE *f = fopen("/proc/net/tcp", "r");
	unsigned int lport, timer;
	int found = -1;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " %*d: %*x:%x %*x:%*x %*x %*x:%*x %x:", &lport,
			   &timer) == 2 && lport == port)
			found = timer;
	if (f)
		fclose(f);
	return found;
}

TEST_F(option, bpf_keepidle)
{
	int one = 1;
	__u64 sent;
	char c;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(0, setsockopt(self->fd, SOL_SOCKET, SO_KEEPALIVE, &one, 4));
	ASSERT_TRUE(WAIT_FOR(stats_of(self->p).keepalive));
	sent = stats_of(self->p).ops[DMM_OP_OPTIONS];
	EXPECT_EQ(0, world_bpf_set(self->w, self->fd, IPPROTO_TCP, TCP_KEEPIDLE,
				   1));
	EXPECT_EQ(1, get_int(self->fd, IPPROTO_TCP, TCP_KEEPIDLE));
	EXPECT_TRUE(WAIT_FOR(stats_of(self->p).keepidle == 1));
	EXPECT_TRUE(stats_of(self->p).keepalive);
	/* 2 is TCP's own, which would probe for a connection that it has not */
	EXPECT_EQ(0, timer_of_port(stats_of(self->p).sport));
	/* told once, not at each call */
	EXPECT_EQ(1, write(self->fd, "x", 1));
	EXPECT_EQ(1, read(self->fd, &c, 1));
	EXPECT_GE(sent + 2, stats_of(self->p).ops[DMM_OP_OPTIONS]);
}

TEST_F(option, bpf_nodelay)
{
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(0, world_bpf_set(self->w, self->fd, IPPROTO_TCP, TCP_NODELAY,
				   1));
	EXPECT_TRUE(WAIT_FOR(stats_of(self->p).nodelay));
}

/* Does the kernel's log get a line with @word? */
static bool logged(int kmsg, const char *word)
{
	char line[1024];
	ssize_t n;

	while ((n = read(kmsg, line, sizeof(line) - 1)) > 0) {
		line[n] = 0;
		if (strstr(line, word))
			return true;
	}
	return false;
}

/* Nobody can refuse it; but it is said. */
TEST_F(option, bpf_mark)
{
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char c;

	ASSERT_LE(0, kmsg);
	lseek(kmsg, 0, SEEK_END);
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(0, world_bpf_set(self->w, self->fd, SOL_SOCKET, SO_MARK, 7));
	EXPECT_TRUE(WAIT_FOR(logged(kmsg, "stack puppet cannot honour")));
	EXPECT_EQ(1, write(self->fd, "x", 1));
	EXPECT_EQ(1, read(self->fd, &c, 1));
	close(kmsg);
}

static void expect_native(struct __test_metadata *_metadata, int fd, __u64 before)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-EINPROGRESS, world_connect(fd, PORT_ECHO));
	EXPECT_EQ(0, world_adopted(fd));
	EXPECT_EQ(before + 1, world_fallbacks(DMM_FALLBACK_SOCKOPT));
}

/* Before it starts, what bpf_setsockopt() set is as good as the program's own. */
TEST_F(option, bpf_before_connect)
{
	__u64 before = world_fallbacks(DMM_FALLBACK_SOCKOPT);

	EXPECT_EQ(0, world_bpf_set(self->w, self->fd, IPPROTO_TCP,
				   1001 /* TCP_BPF_IW */, 20));
	expect_native(_metadata, self->fd, before);
}

/* Programs that the stack never calls: from its start on, and later for children. */
TEST_F(option, sockops)
{
	__u64 before = world_fallbacks(DMM_FALLBACK_SOCKOPT);
	int link = world_sockops(self->w), fd;

	ASSERT_LE(0, link);
	expect_native(_metadata, self->fd, before);
	close(link);
	fd = tcp_socket(0);
	EXPECT_EQ(0, world_connect(fd, PORT_ECHO));
	EXPECT_EQ(1, world_adopted(fd));
	close(fd);
}

static int bound(int port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
	};
	int fd = tcp_socket(0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	return bind(fd, (struct sockaddr *)&at, sizeof(at)) ? -errno : fd;
}

static struct puppet_caller caller = {
	.lport = PORT, .rport = 1024, .what = PORT_ECHO,
};

TEST_F(option, sockops_of_a_listener)
{
	__u64 before = world_fallbacks(DMM_FALLBACK_SOCKOPT);
	int lis = bound(PORT), link;

	ASSERT_LE(0, lis);
	ASSERT_EQ(0, listen(lis, 8));
	EXPECT_EQ(1, world_adopted(lis));
	link = world_sockops(self->w);
	ASSERT_LE(0, link);
	EXPECT_TRUE(WAIT_FOR(!puppet_call(self->p, &caller)));
	/* no child, and from now on none is looked for */
	EXPECT_EQ(0, wait_for(lis, POLLIN, 100));
	EXPECT_EQ(before + 1, world_fallbacks(DMM_FALLBACK_SOCKOPT));
	EXPECT_TRUE(WAIT_FOR(stats_of(self->p).ops[DMM_OP_ABORT] == 1));
	close(link);
	close(lis);
}

/* The program is the group's, whoever brought it. */
TEST_F(option, reuseport_program_of_another)
{
	struct sock_filter first = { BPF_RET | BPF_K, 0, 0, 0 };
	struct sock_fprog prog = { 1, &first };
	__u64 before = world_fallbacks(DMM_FALLBACK_SOCKOPT);
	int lis = bound(PORT), other;

	ASSERT_LE(0, lis);
	ASSERT_EQ(0, listen(lis, 8));
	EXPECT_EQ(1, world_adopted(lis));
	world_rule(self->w, 0);
	other = bound(PORT);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, listen(other, 8));
	EXPECT_EQ(0, world_adopted(other));
	ASSERT_EQ(0, setsockopt(other, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF,
				&prog, sizeof(prog)));
	EXPECT_TRUE(WAIT_FOR(!puppet_call(self->p, &caller)));
	EXPECT_EQ(0, wait_for(lis, POLLIN, 100));
	EXPECT_EQ(before + 1, world_fallbacks(DMM_FALLBACK_SOCKOPT));
	close(other);
	close(lis);
}

/* It would be found there by programs that steer what the stack never shows them. */
TEST_F(option, no_sockmap)
{
	int map = bpf_map_create(BPF_MAP_TYPE_SOCKMAP, NULL, 4, 4, 2, NULL);
	int lis = bound(PORT), key = 0;

	ASSERT_LE(0, map);
	ASSERT_LE(0, lis);
	ASSERT_EQ(0, listen(lis, 8));
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(-EOPNOTSUPP, bpf_map_update_elem(map, &key, &lis, BPF_ANY));
	EXPECT_EQ(-EOPNOTSUPP, bpf_map_update_elem(map, &key, &self->fd, BPF_ANY));
	EXPECT_EQ(1, world_adopted(lis));
	EXPECT_EQ(1, world_adopted(self->fd));
	close(lis);
	close(map);
}

TEST_HARNESS_MAIN
