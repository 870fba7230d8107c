/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The types of DMM's BPF maps, shared by the programs and whoever fills the maps
 * (dmmd for the policy, a worker for the flows). Plain C types, no includes: the
 * includer brings __u32 and friends (vmlinux.h or linux/types.h).
 *
 * Policy, pinned under /sys/fs/bpf/dmm/:
 *	prog/connect4	cgroup/connect4, what operators attach with bpftool
 *	map/rules	array of maps, one entry: the rule set in force. A change
 *			fills a second inner map, then replaces this pointer.
 *	map/rule_stats	per-CPU hash, rule id -> struct dmm_rule_stats
 *	link/CGROUPID-connect4	a link for each cgroup that dmmd attached
 *
 * Steering, for each stack, pinned by its worker under
 * /sys/fs/bpf/dmm/stack/NAME/:
 *	prog		the XDP program on the stack's device
 *	flows		hash, struct dmm_flow -> struct dmm_flow_val
 *	xsks		the XSKMAP
 *	xdp_stats	per-CPU array, enum dmm_xdp_stat -> __u64
 */
#ifndef DMM_BPF_H
#define DMM_BPF_H

#define DMM_BPF_DIR		"/sys/fs/bpf/dmm"
#define DMM_RULES_MAX		256
#define DMM_FALLBACK_SLOTS	32	/* room for enum dmm_fallback */

/* What a rule looks at; a rule with no bit matches every socket. */
#define DMM_MATCH_CGROUP	(1U << 0)
#define DMM_MATCH_DST		(1U << 1)
#define DMM_MATCH_DPORT		(1U << 2)

/*
 * One rule. A socket matches when all that @match names agrees.
 * @cgroup_id:	id of a cgroup2 directory; the socket's task is in it or below
 * @cgroup_level: that directory's depth below the root of the hierarchy
 * @dst:	prefix in network order, already masked; AF_INET in dst[0]
 * @dst_mask:	its mask, network order
 * @dport_min, @dport_max: host order, inclusive
 * @stack:	where to; 0 is the kernel
 */
struct dmm_rule {
	__u64 cgroup_id;
	__u32 id;
	__u32 match;
	__u32 cgroup_level;
	__u32 stack;
	__u32 dst[4];
	__u32 dst_mask[4];
	__u16 dst_family;
	__u16 dport_min;
	__u16 dport_max;
	__u16 __reserved;
};

/* A whole rule set, in order; the first match wins. */
struct dmm_ruleset {
	__u32 count;
	__u32 generation;
	struct dmm_rule rules[DMM_RULES_MAX];
};

/*
 * @fallback is indexed by enum dmm_fallback; [0] counts calls that the module
 * refused with an errno, which no program of ours should ever see.
 */
struct dmm_rule_stats {
	__u64 hits;
	__u64 adopted;
	__u64 fallback[DMM_FALLBACK_SLOTS];
};

/*
 * A flow of the stack, as its own side sees it, all in network order; IPv4 in
 * the first word. A connection has both ends; a listener has remote address and
 * port zero, and local address zero for any. Only whole four-tuples are taken
 * from connections: the kernel shares a local port among destinations.
 */
struct dmm_flow {
	__u32 laddr[4];
	__u32 raddr[4];
	__u16 lport;
	__u16 rport;
	__u8 proto;
	__u8 family;
	__u16 __reserved;
};

struct dmm_flow_val {
	__u32 slot;	/* for information */
	__u32 gen;
};

enum dmm_xdp_stat {
	DMM_XDP_STEERED,	/* to the worker */
	DMM_XDP_NO_SOCKET,	/* flow known, no worker on the queue: passed */
	__DMM_XDP_STAT_MAX
};

#endif /* DMM_BPF_H */
