// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Steering: a stack's own flows go to its worker, all else goes on to the
 * kernel. On the stack's device, loaded by DPDK's net_af_xdp (xdp_prog=), which
 * wants the XSKMAP to be called xsks_map; pinned by the worker as dmm_bpf.h says.
 *
 * Only whole TCP segments over IPv4, or IPv6 without extension headers, can be
 * ours. Fragments, ICMP, ARP, ND and whatever does not parse pass.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "dmm_bpf.h"

#define ETH_P_IP	0x0800
#define ETH_P_IPV6	0x86DD
#define AF_INET		2
#define AF_INET6	10
#define IP_MF		0x2000
#define IP_OFFSET	0x1FFF
#define FLOWS_MAX	262144
#define QUEUES_MAX	64

/* @pos is what is parsed next; nothing is read at or beyond @end. */
struct cursor {
	void *pos;
	void *end;
};

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOWS_MAX);
	__type(key, struct dmm_flow);
	__type(value, struct dmm_flow_val);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, __DMM_XDP_STAT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} xdp_stats SEC(".maps");

static __always_inline void count(enum dmm_xdp_stat which)
{
	__u32 key = which;
	__u64 *n = bpf_map_lookup_elem(&xdp_stats, &key);

	if (n)
		(*n)++;
}

/* Each parser moves the cursor and returns 0, or is not pleased: -1. */
static __always_inline int parse_eth(struct cursor *c, __u16 *proto)
{
	struct ethhdr *eth = c->pos;

	if ((void *)(eth + 1) > c->end)
		return -1;
	*proto = bpf_ntohs(eth->h_proto);
	c->pos = eth + 1;
	return 0;
}

static __always_inline int parse_ipv4(struct cursor *c, struct dmm_flow *flow)
{
	struct iphdr *ip = c->pos;
	__u32 hdrlen;

	if ((void *)(ip + 1) > c->end)
		return -1;
	hdrlen = ip->ihl * 4;
	if (ip->version != 4 || hdrlen < sizeof(*ip) ||
	    ip->protocol != IPPROTO_TCP ||
	    ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return -1;
	flow->family = AF_INET;
	flow->raddr[0] = ip->saddr;
	flow->laddr[0] = ip->daddr;
	c->pos = (void *)ip + hdrlen;
	return 0;
}

static __always_inline int parse_ipv6(struct cursor *c, struct dmm_flow *flow)
{
	struct ipv6hdr *ip = c->pos;

	if ((void *)(ip + 1) > c->end)
		return -1;
	if (ip->version != 6 || ip->nexthdr != IPPROTO_TCP)
		return -1;
	flow->family = AF_INET6;
	__builtin_memcpy(flow->raddr, &ip->saddr, sizeof(flow->raddr));
	__builtin_memcpy(flow->laddr, &ip->daddr, sizeof(flow->laddr));
	c->pos = ip + 1;
	return 0;
}

/* @opens: set to whether it asks for a new connection */
static __always_inline int parse_tcp(struct cursor *c, struct dmm_flow *flow,
				     int *opens)
{
	struct tcphdr *tcp = c->pos;

	if ((void *)(tcp + 1) > c->end)
		return -1;
	flow->rport = tcp->source;
	flow->lport = tcp->dest;
	*opens = tcp->syn && !tcp->ack && !tcp->rst;
	return 0;
}

/*
 * The connection itself; else a listener, which only SYNs are for: the kernel may
 * have connections of its own on the same local port, older than the listener.
 */
static __always_inline int flow_is_ours(struct dmm_flow *flow, int opens)
{
	if (bpf_map_lookup_elem(&flows, flow))
		return 1;
	if (!opens)
		return 0;
	__builtin_memset(flow->raddr, 0, sizeof(flow->raddr));
	flow->rport = 0;
	return !!bpf_map_lookup_elem(&flows, flow);
}

SEC("xdp")
int dmm_xdp(struct xdp_md *ctx)
{
	struct cursor c = {
		.pos = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	struct dmm_flow flow = { .proto = IPPROTO_TCP };
	int ret, opens = 0;
	__u16 proto;

	if (parse_eth(&c, &proto))
		return XDP_PASS;
	if (proto == ETH_P_IP)
		ret = parse_ipv4(&c, &flow);
	else if (proto == ETH_P_IPV6)
		ret = parse_ipv6(&c, &flow);
	else
		return XDP_PASS;
	if (ret || parse_tcp(&c, &flow, &opens) || !flow_is_ours(&flow, opens))
		return XDP_PASS;

	/* The low bits of the flags are what to do when no socket is there. */
	ret = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
	count(ret == XDP_REDIRECT ? DMM_XDP_STEERED : DMM_XDP_NO_SOCKET);
	return ret;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
