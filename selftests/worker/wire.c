// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"
#include "wire.h"

#define FRAME_MAX	2048
#define HELD_MAX	8192
#define ETH_LEN		14

struct held {
	uint64_t due;
	size_t len;
	int to;
	char data[FRAME_MAX];
};

/* Frames that are delayed, in the order they came. */
static struct held *held;
static unsigned int first, nheld;
static unsigned int seed = 1;

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static bool chance(unsigned int per_mille)
{
	return (unsigned int)rand_r(&seed) % 1000 < per_mille;
}

static void frame_send(int to, const void *data, size_t len)
{
	/* a full queue loses it, as wires do */
	if (send(to, data, len, MSG_DONTWAIT) < 0 && errno == EBADF)
		_exit(1);
}

static void frame_take(const struct wire *wire, int from, int to)
{
	struct held *h;
	char now[FRAME_MAX];
	ssize_t len;

	len = recv(from, now, sizeof(now), MSG_DONTWAIT | MSG_TRUNC);
	if (len <= ETH_LEN || len > FRAME_MAX)
		return;
	if (chance(wire->loss))
		return;
	if (chance(wire->corrupt))
		now[ETH_LEN + rand_r(&seed) % (len - ETH_LEN)] ^=
			1 << rand_r(&seed) % 8;
	if (chance(wire->duplicate))
		frame_send(to, now, len);
	if (!wire->delay_ms || chance(wire->reorder)) {
		frame_send(to, now, len);
		return;
	}
	if (nheld == HELD_MAX)
		return;
	h = &held[(first + nheld++) % HELD_MAX];
	h->due = now_us() + wire->delay_ms * 1000;
	h->len = len;
	h->to = to;
	memcpy(h->data, now, len);
}

static int packet_socket(const char *dev)
{
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(dev),
	};
	int fd, one = 1, buf = 8 << 20;

	/* no protocol until it is bound: only frames of that device */
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one,
		       sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buf, sizeof(buf)) ||
	    bind(fd, (struct sockaddr *)&sll, sizeof(sll)))
		return -1;
	return fd;
}

static void relay(const struct wire *wire, int ready)
{
	struct pollfd pfds[2] = {
		{ .fd = packet_socket("dmmt1"), .events = POLLIN },
		{ .fd = packet_socket("dmmt2"), .events = POLLIN },
	};
	struct timespec wait;
	uint64_t now;
	int i;

	held = calloc(HELD_MAX, sizeof(*held));
	if (pfds[0].fd < 0 || pfds[1].fd < 0 || !held ||
	    write(ready, "", 1) != 1)
		_exit(1);
	close(ready);
	for (;;) {
		now = now_us();
		while (nheld && held[first].due <= now) {
			frame_send(held[first].to, held[first].data,
				   held[first].len);
			first = (first + 1) % HELD_MAX;
			nheld--;
		}
		wait.tv_sec = 0;
		wait.tv_nsec = nheld ? (held[first].due - now) * 1000 : 0;
		if (ppoll(pfds, 2, nheld ? &wait : NULL, NULL) < 0)
			_exit(1);
		for (i = 0; i < 2; i++)
			if (pfds[i].revents & POLLIN)
				frame_take(wire, pfds[i].fd, pfds[!i].fd);
	}
}

static int wire_put(struct rig *rig, int *mid_fd)
{
	char mid[64];

	*mid_fd = rig_netns(mid, sizeof(mid));
	if (*mid_fd < 0 || setns(rig->app_fd, CLONE_NEWNET))
		return -errno;
	if (rig_run(rig->web_fd, "ip link set dmmt1 netns %s", mid) ||
	    rig_run(*mid_fd,
		    "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6;"
		    "ip link add dmmt2 type veth peer name dmmt3 netns %s &&"
		    "ip link set dmmt1 up && ip link set dmmt2 up", rig->web) ||
	    rig_run(rig->web_fd,
		    "ip addr add " RIG_DADDR "/24 dev dmmt3 &&"
		    "ip addr add " RIG_DADDR6 "/64 dev dmmt3 nodad &&"
		    "ip addr add " RIG_DLOCAL6 "/64 dev dmmt3 nodad &&"
		    "ethtool -K dmmt3 tx off tso off gso off gro off "
		    ">/dev/null && ip link set dmmt3 up"))
		return -EIO;
	return 0;
}

pid_t wire_start(struct rig *rig, const struct wire *wire)
{
	int mid_fd, fds[2], ret;
	pid_t pid;
	char c;

	ret = wire_put(rig, &mid_fd);
	if (ret)
		return ret;
	if (pipe(fds))
		return -errno;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[0]);
		if (!setns(mid_fd, CLONE_NEWNET))
			relay(wire, fds[1]);
		_exit(1);
	}
	close(fds[1]);
	if (pid > 0 && read(fds[0], &c, 1) != 1)
		pid = -EIO;
	close(fds[0]);
	close(mid_fd);
	return pid;
}
