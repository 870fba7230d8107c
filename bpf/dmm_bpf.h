/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The types of DMM's BPF maps, shared by the programs and whoever fills the maps
 * (dmmd for the policy, a worker for the flows). Plain C types, no includes: the
 * includer brings __u32 and friends (vmlinux.h or linux/types.h).
 *
 * Policy, pinned under /sys/fs/bpf/dmm/:
 *	prog/connect4, prog/connect6, prog/bind4, prog/bind6
 *			the decision, cgroup/NAME; what operators attach with bpftool
 *	prog/setsockopt, prog/getsockopt
 *			what the shim asks by SOL_DMM; for cgroups that run it
 *	map/rules	array of maps, one entry: the rule set in force. A change
 *			fills a second inner map, then replaces this pointer.
 *	map/rule_stats	per-CPU hash, rule id -> struct dmm_rule_stats
 *	map/socks	socket storage, struct dmm_sock_mark: sockets of the shim
 *	link/CGROUPID-PROG	a link for each cgroup that dmmd attached, and
 *			program
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

#define DMM_COMM_LEN		16	/* as the kernel's TASK_COMM_LEN */

/*
 * What a rule looks at; a rule with no bit matches every TCP socket, at connect()
 * and at bind(). dmm_match.h says how.
 */
#define DMM_MATCH_CGROUP	(1U << 0)
#define DMM_MATCH_DST		(1U << 1)	/* never a bind() */
#define DMM_MATCH_DPORT		(1U << 2)	/* never a bind() */
#define DMM_MATCH_SRC		(1U << 3)
#define DMM_MATCH_SPORT		(1U << 4)
#define DMM_MATCH_UID		(1U << 5)
#define DMM_MATCH_COMM		(1U << 6)
#define DMM_MATCH_DIR		(1U << 7)

#define DMM_DIR_CONNECT		(1U << 0)
#define DMM_DIR_LISTEN		(1U << 1)	/* bind(): what may come to listen */

/* A socket that would fall back gets DMM_REJECT_ERRNO instead. */
#define DMM_RULE_F_REJECT	(1U << 0)
/* A socket of a namespace with netfilter hooks falls back: `strict-filters=on`. */
#define DMM_RULE_F_STRICT_FILTERS (1U << 1)

/*
 * Neither TCP's connect() nor bind() gives it by itself. POSIX: "The local network
 * interface used to reach the destination is down."
 */
#define DMM_REJECT_ERRNO	100	/* ENETDOWN */

/*
 * One rule. A socket matches when all that @match names agrees.
 * @cgroup_id:	id of a cgroup2 directory; the socket's task is in it or below
 * @cgroup_level: that directory's depth below the root of the hierarchy
 * @stack:	where to; 0 is the kernel
 * @dst:	remote prefix, network order, already masked; AF_INET in dst[0]
 * @dst_mask:	its mask, network order
 * @dst_family:	AF_INET or AF_INET6; for v4-mapped addresses AF_INET
 * @dport_min, @dport_max: remote port, host order, inclusive
 * @src, @src_mask, @src_family, @sport_min, @sport_max: the local side, likewise
 * @uid:	real user id of the task, as the initial user namespace sees it
 * @dir:	DMM_DIR_* bits
 * @flags:	DMM_RULE_F_* bits
 * @comm:	the calling thread's name, padded with NULs
 */
struct dmm_rule {
	__u64 cgroup_id;
	__u32 id;
	__u32 match;
	__u32 cgroup_level;
	__u32 stack;
	__u32 dst[4];
	__u32 dst_mask[4];
	__u32 src[4];
	__u32 src_mask[4];
	__u16 dst_family;
	__u16 dport_min;
	__u16 dport_max;
	__u16 src_family;
	__u16 sport_min;
	__u16 sport_max;
	__u32 uid;
	__u16 dir;
	__u16 flags;
	__u32 __reserved;
	char comm[DMM_COMM_LEN];
};

/* A whole rule set, in order; the first match wins. */
struct dmm_ruleset {
	__u32 count;
	__u32 generation;
	struct dmm_rule rules[DMM_RULES_MAX];
};

/*
 * @hits:	sockets that the rule matched, at each connect() and bind()
 * @adopted:	of these, those that went to the stack
 * @shim:	of the adopted, those that the shim took, not the module
 * @rejected:	of those with a reason, those that got an errno (fallback reject)
 * @fallback:	indexed by enum dmm_fallback; [0] counts calls that the module
 *		refused with an errno, which no program of ours should ever see
 *
 * What the shim gives back with a reason is no longer counted as adopted.
 */
struct dmm_rule_stats {
	__u64 hits;
	__u64 adopted;
	__u64 shim;
	__u64 rejected;
	__u64 fallback[DMM_FALLBACK_SLOTS];
};

/*
 * A socket that the shim has marked (DMM_SO_SHIM).
 * @shim:	it is the shim's to serve; 2: it takes it
 * @stack:	the last verdict at bind() or connect(), 0 for the kernel
 * @rule:	the rule of that verdict, when it is a stack
 * @flags:	DMM_MARK_F_* bits
 * @why:	DMM_SO_FALLBACK: the reason that the next verdict counts, or 0
 */
struct dmm_sock_mark {
	__u32 shim;
	__u32 stack;
	__u32 rule;
	__u32 flags;
	__u32 why;
};

#define DMM_MARK_F_REJECT	(1U << 0)	/* @rule has DMM_RULE_F_REJECT */
#define DMM_MARK_F_ADOPTED	(1U << 1)	/* counted for @rule as the shim's */
#define DMM_MARK_F_ASKED	(1U << 2)	/* the next verdict is told to the shim */
#define DMM_MARK_F_CONNECT	(1U << 3)	/* @stack is of connect() */
#define DMM_MARK_F_STRICT	(1U << 4)	/* @rule has DMM_RULE_F_STRICT_FILTERS */

/*
 * A flow of the stack, as its own side sees it, all in network order; IPv4 in
 * the first word. A connection has both ends; a listener has remote address and
 * port zero, and an entry for each local address, of which only SYNs are taken.
 * Only whole four-tuples are taken from connections: the kernel shares a local
 * port among destinations, and between a listener and older connections.
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
