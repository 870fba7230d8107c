// SPDX-License-Identifier: Apache-2.0
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>

#include "wire.h"

int wire_open(const struct rig *r)
{
	int fd = rig_peer_socket(r, AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC,
				 htons(ETH_P_ALL));
	struct ifreq ifr = { .ifr_name = "dmm-p" };
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
	};

	if (fd < 0)
		return fd;
	if (ioctl(fd, SIOCGIFINDEX, &ifr))
		return -errno;
	at.sll_ifindex = ifr.ifr_ifindex;
	set_int(fd, SOL_SOCKET, SO_RCVBUF, 4 << 20);
	return bind(fd, (struct sockaddr *)&at, sizeof(at)) ? -errno : fd;
}

static uint16_t be16(const unsigned char *p)
{
	return p[0] << 8 | p[1];
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static uint16_t option_mss(const unsigned char *p, const unsigned char *end)
{
	while (p < end && *p) {
		if (*p == 1) {
			p++;
			continue;
		}
		if (p + 1 >= end || p[1] < 2 || p + p[1] > end)
			break;
		if (*p == 2 && p[1] == 4)
			return be16(p + 2);
		p += p[1];
	}
	return 0;
}

static bool parse(const unsigned char *p, size_t n, struct seg *seg)
{
	const unsigned char *t;
	size_t len;

	if (n >= 40 && p[0] >> 4 == 4) {
		t = p + (p[0] & 15) * 4;
		len = be16(p + 2) - (t - p);
		seg->tos = p[1];
		seg->ttl = p[8];
		if (p[9] != IPPROTO_TCP)
			return false;
	} else if (n >= 60 && p[0] >> 4 == 6) {
		t = p + 40;
		len = be16(p + 4);
		seg->tos = be16(p) >> 4;
		seg->ttl = p[7];
		if (p[6] != IPPROTO_TCP)
			return false;
	} else {
		return false;
	}
	seg->sport = be16(t);
	seg->dport = be16(t + 2);
	seg->seq = be32(t + 4);
	seg->ack = be32(t + 8);
	seg->len = len - (t[12] >> 4) * 4;
	seg->flags = t[13];
	seg->win = be16(t + 14);
	seg->mss = option_mss(t + 20, t + (t[12] >> 4) * 4);
	return true;
}

int wire_next(int wire, const struct rig *r, struct seg *seg, int ms)
{
	struct sockaddr_ll from;
	unsigned char buf[128];
	double end = now() + ms * 1e-3;
	int left = ms;

	do {
		socklen_t len = sizeof(from);
		ssize_t n;

		if (!polled(wire, POLLIN, left))
			break;
		n = recvfrom(wire, buf, sizeof(buf), 0,
			     (struct sockaddr *)&from, &len);
		seg->ours = from.sll_pkttype != PACKET_OUTGOING;
		if (n > 0 && parse(buf, n, seg) &&
		    (seg->ours ? seg->dport : seg->sport) == addr_port(&r->to))
			return 0;
		left = (end - now()) * 1e3;
	} while (left >= 0);
	return -ETIME;
}

int wire_find(int wire, const struct rig *r, uint8_t flags, struct seg *seg)
{
	do {
		if (wire_next(wire, r, seg, 5000))
			return -ETIME;
	} while (!seg->ours || (seg->flags & flags) != flags);
	return 0;
}

int wire_count(int wire, const struct rig *r, size_t *bytes)
{
	struct seg seg;
	int n = 0;

	*bytes = 0;
	while (!wire_next(wire, r, &seg, QUIET)) {
		if (!seg.ours || !seg.len)
			continue;
		n++;
		*bytes += seg.len;
	}
	return n;
}
