// SPDX-License-Identifier: Apache-2.0
/*
 * ICMP errors about our segments. They go to the kernel, which knows no segment of
 * ours; raw sockets give us a copy. What they say is only as good as anybody on the
 * way could make it: the plug-in believes it when the segment is under way.
 */
#include <errno.h>
#include <net/if.h>	/* before linux/icmp.h, which makes way for it */

#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "private.h"

#define BURST		64	/* in one look, so that a flood starves nobody */
#define RCVBUF		(256 * 1024)

/* As icmp_err_convert[], within what struct dmm_event can say. */
static const int unreach4[] = {
	[ICMP_NET_UNREACH] = ENETUNREACH,
	[ICMP_HOST_UNREACH] = EHOSTUNREACH,
	[ICMP_PROT_UNREACH] = ECONNREFUSED,
	[ICMP_PORT_UNREACH] = ECONNREFUSED,
	[ICMP_FRAG_NEEDED] = EMSGSIZE,
	[ICMP_SR_FAILED] = EHOSTUNREACH,
	[ICMP_NET_UNKNOWN] = ENETUNREACH,
	[ICMP_HOST_UNKNOWN] = EHOSTUNREACH,
	[ICMP_HOST_ISOLATED] = EHOSTUNREACH,
	[ICMP_NET_ANO] = ENETUNREACH,
	[ICMP_HOST_ANO] = EHOSTUNREACH,
	[ICMP_NET_UNR_TOS] = ENETUNREACH,
	[ICMP_HOST_UNR_TOS] = EHOSTUNREACH,
	[ICMP_PKT_FILTERED] = EHOSTUNREACH,
	[ICMP_PREC_VIOLATION] = EHOSTUNREACH,
	[ICMP_PREC_CUTOFF] = EHOSTUNREACH,
};

/* As icmpv6_err_convert(), likewise. */
static const int unreach6[] = {
	[ICMPV6_NOROUTE] = ENETUNREACH,
	[ICMPV6_ADM_PROHIBITED] = EHOSTUNREACH,
	[ICMPV6_NOT_NEIGHBOUR] = EHOSTUNREACH,
	[ICMPV6_ADDR_UNREACH] = EHOSTUNREACH,
	[ICMPV6_PORT_UNREACH] = ECONNREFUSED,
	[ICMPV6_POLICY_FAIL] = EHOSTUNREACH,
	[ICMPV6_REJECT_ROUTE] = EHOSTUNREACH,
};

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* The ports and the sequence number, all that is sure to be there of TCP. */
struct tcp_start {
	__be16 source;
	__be16 dest;
	__be32 seq;
};

static bool tcp_start_get(const void *data, size_t len, size_t off,
			  struct dmm_stack_icmp *ev)
{
	struct tcp_start tcp;

	if (len < off + sizeof(tcp))
		return false;
	memcpy(&tcp, (const char *)data + off, sizeof(tcp));
	ev->tuple.lport = tcp.source;
	ev->tuple.rport = tcp.dest;
	ev->seq = ntohl(tcp.seq);
	return true;
}

/* @data: the IP header, ICMP's, and what it is about. */
static bool parse4(const void *data, size_t len, struct dmm_stack_icmp *ev)
{
	struct icmphdr icmp;
	struct iphdr ip;
	size_t off;

	if (len < sizeof(ip))
		return false;
	memcpy(&ip, data, sizeof(ip));
	off = ip.ihl * 4;
	if (len < off + sizeof(icmp) + sizeof(ip))
		return false;
	memcpy(&icmp, (const char *)data + off, sizeof(icmp));
	off += sizeof(icmp);
	memcpy(&ip, (const char *)data + off, sizeof(ip));
	if (icmp.type == ICMP_DEST_UNREACH && icmp.code < ARRAY_SIZE(unreach4))
		ev->error = unreach4[icmp.code];
	else if (icmp.type == ICMP_TIME_EXCEEDED)
		ev->error = EHOSTUNREACH;
	else
		return false;
	if (ip.version != 4 || ip.ihl < 5 || ip.protocol != IPPROTO_TCP)
		return false;
	ev->mtu = ntohs(icmp.un.frag.mtu);
	ev->tuple.family = AF_INET;
	ev->tuple.laddr[0] = ip.saddr;
	ev->tuple.raddr[0] = ip.daddr;
	return tcp_start_get(data, len, off + ip.ihl * 4, ev);
}

/* @data: ICMPv6's header, and what it is about. */
static bool parse6(const void *data, size_t len, struct dmm_stack_icmp *ev)
{
	struct icmp6hdr icmp;
	struct ipv6hdr ip6;

	if (len < sizeof(icmp) + sizeof(ip6))
		return false;
	memcpy(&icmp, data, sizeof(icmp));
	memcpy(&ip6, (const char *)data + sizeof(icmp), sizeof(ip6));
	if (icmp.icmp6_type == ICMPV6_PKT_TOOBIG)
		ev->error = EMSGSIZE;
	else if (icmp.icmp6_type == ICMPV6_TIME_EXCEED)
		ev->error = EHOSTUNREACH;
	else if (icmp.icmp6_type == ICMPV6_DEST_UNREACH &&
		 icmp.icmp6_code < ARRAY_SIZE(unreach6))
		ev->error = unreach6[icmp.icmp6_code];
	else
		return false;
	if (ip6.version != 6 || ip6.nexthdr != IPPROTO_TCP)
		return false;
	ev->mtu = ntohl(icmp.icmp6_mtu);
	ev->tuple.family = AF_INET6;
	memcpy(ev->tuple.laddr, &ip6.saddr, 16);
	memcpy(ev->tuple.raddr, &ip6.daddr, 16);
	return tcp_start_get(data, len, sizeof(icmp) + sizeof(ip6), ev);
}

static void icmp_read_fd(struct dmm_worker *w, int fd,
			 bool (*parse)(const void *data, size_t len,
				       struct dmm_stack_icmp *ev))
{
	char buf[512];
	ssize_t len;
	int i;

	for (i = 0; i < BURST; i++) {
		struct dmm_stack_icmp ev = { 0 };

		len = recv(fd, buf, sizeof(buf), 0);
		if (len < 0)
			break;
		stat_add(&w->stats.icmp_seen, 1);
		if (parse(buf, len, &ev) && w->ops->icmp)
			w->ops->icmp(w->stack, &ev);
	}
}

void icmp_read(struct dmm_worker *w)
{
	if (w->icmp4_fd >= 0)
		icmp_read_fd(w, w->icmp4_fd, parse4);
	if (w->icmp6_fd >= 0)
		icmp_read_fd(w, w->icmp6_fd, parse6);
}

static int icmp4_open(void)
{
	struct icmp_filter filter = {
		.data = ~(1U << ICMP_DEST_UNREACH | 1U << ICMP_TIME_EXCEEDED),
	};
	int fd, buf = RCVBUF, ret;

	fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    IPPROTO_ICMP);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof(filter))) {
		ret = -errno;
		close(fd);
		return ret;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buf, sizeof(buf));
	return fd;
}

static int icmp6_open(void)
{
	/* a bit is what is not wanted */
	struct icmp6_filter filter;
	int fd, buf = RCVBUF, ret;

	memset(&filter, 0xff, sizeof(filter));
	filter.data[0] &= ~(1U << ICMPV6_DEST_UNREACH |
			    1U << ICMPV6_PKT_TOOBIG | 1U << ICMPV6_TIME_EXCEED);
	fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    IPPROTO_ICMPV6);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_ICMPV6, ICMPV6_FILTER, &filter,
		       sizeof(filter))) {
		ret = -errno;
		close(fd);
		return ret;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buf, sizeof(buf));
	return fd;
}

/* IPv6 may be switched off: then there are no such errors. */
int icmp_create(struct dmm_worker *w, char *err, size_t err_len)
{
	int ret;

	ret = icmp4_open();
	if (ret < 0)
		return fail(err, err_len, ret,
			    "cannot open a raw socket for ICMP: %s",
			    strerror(-ret));
	w->icmp4_fd = ret;
	ret = icmp6_open();
	if (ret < 0 && ret != -EAFNOSUPPORT)
		return fail(err, err_len, ret,
			    "cannot open a raw socket for ICMPv6: %s",
			    strerror(-ret));
	w->icmp6_fd = ret < 0 ? -1 : ret;
	return 0;
}

void icmp_destroy(struct dmm_worker *w)
{
	if (w->icmp4_fd >= 0)
		close(w->icmp4_fd);
	if (w->icmp6_fd >= 0)
		close(w->icmp6_fd);
}
