/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What becomes of each socket option on a socket that a stack serves: the one table
 * that module, shim and tests share.
 *
 *	FN(name, number, how, void)
 *
 * @how is what happens before the socket starts, by connect() or listen(), and later:
 *
 *	DONE		it takes effect, by us or because the kernel's own code is
 *			enough: for a socket of the program's own, for bind(), for the
 *			route, or since it has no effect on TCP. What the kernel
 *			refuses by itself is refused
 *	TOLD		likewise, and the worker is told
 *	NATIVE		set before, the socket stays native; later it is refused
 *	LISTENER	as NATIVE for a socket that listens, as DONE for another
 *	START		as NATIVE, but on a live connection the kernel's own code is
 *			enough: it refuses, or there is no effect any more
 *	LATE		as DONE before; later it is refused. A flow label counts by
 *			what connect() says, and one to be reflected as NATIVE
 *
 * Refused is EOPNOTSUPP. @void is the value that asks for nothing, so that a program
 * may set it at any time, and the socket need not stay native for it:
 *
 *	NONE		every value asks for something
 *	ZERO, ONES	0, or all bits
 *	EMPTY		no bytes at all
 *	SAME		what it is already; of a device, the stack's own, too
 *	PMTU		IP_PMTUDISC_WANT and IP_PMTUDISC_DO
 *
 * An option that is not here is one of a newer kernel: it is refused later, as by an
 * older kernel (ENOPROTOOPT). selftests/sock compares with the kernel's headers.
 * Numbers are the generic architectures'; the module's build compares them.
 */
#ifndef _UAPI_LINUX_DMM_OPT_H
#define _UAPI_LINUX_DMM_OPT_H

#define DMM_OPTS_SOCKET(FN)						\
	FN(SO_DEBUG,			1,	DONE,		NONE)	\
	FN(SO_REUSEADDR,		2,	DONE,		NONE)	\
	FN(SO_TYPE,			3,	DONE,		NONE)	\
	FN(SO_ERROR,			4,	DONE,		NONE)	\
	FN(SO_DONTROUTE,		5,	NATIVE,		ZERO)	\
	FN(SO_BROADCAST,		6,	DONE,		NONE)	\
	FN(SO_SNDBUF,			7,	DONE,		NONE)	\
	FN(SO_RCVBUF,			8,	TOLD,		NONE)	\
	FN(SO_KEEPALIVE,		9,	TOLD,		NONE)	\
	FN(SO_OOBINLINE,		10,	DONE,		NONE)	\
	FN(SO_NO_CHECK,			11,	DONE,		NONE)	\
	FN(SO_PRIORITY,			12,	NATIVE,		SAME)	\
	FN(SO_LINGER,			13,	DONE,		NONE)	\
	FN(SO_BSDCOMPAT,		14,	DONE,		NONE)	\
	FN(SO_REUSEPORT,		15,	DONE,		NONE)	\
	FN(SO_PASSCRED,			16,	DONE,		NONE)	\
	FN(SO_PEERCRED,			17,	DONE,		NONE)	\
	FN(SO_RCVLOWAT,			18,	DONE,		NONE)	\
	FN(SO_SNDLOWAT,			19,	DONE,		NONE)	\
	FN(SO_RCVTIMEO_OLD,		20,	DONE,		NONE)	\
	FN(SO_SNDTIMEO_OLD,		21,	DONE,		NONE)	\
	FN(SO_SECURITY_AUTHENTICATION,	22,	DONE,		NONE)	\
	FN(SO_SECURITY_ENCRYPTION_TRANSPORT, 23, DONE,		NONE)	\
	FN(SO_SECURITY_ENCRYPTION_NETWORK, 24,	DONE,		NONE)	\
	FN(SO_BINDTODEVICE,		25,	LATE,		SAME)	\
	FN(SO_ATTACH_FILTER,		26,	NATIVE,		NONE)	\
	FN(SO_DETACH_FILTER,		27,	DONE,		NONE)	\
	FN(SO_PEERNAME,			28,	DONE,		NONE)	\
	FN(SO_TIMESTAMP_OLD,		29,	NATIVE,		ZERO)	\
	FN(SO_ACCEPTCONN,		30,	DONE,		NONE)	\
	FN(SO_PEERSEC,			31,	DONE,		NONE)	\
	FN(SO_SNDBUFFORCE,		32,	DONE,		NONE)	\
	FN(SO_RCVBUFFORCE,		33,	TOLD,		NONE)	\
	FN(SO_PASSSEC,			34,	DONE,		NONE)	\
	FN(SO_TIMESTAMPNS_OLD,		35,	NATIVE,		ZERO)	\
	FN(SO_MARK,			36,	NATIVE,		SAME)	\
	FN(SO_TIMESTAMPING_OLD,		37,	NATIVE,		ZERO)	\
	FN(SO_PROTOCOL,			38,	DONE,		NONE)	\
	FN(SO_DOMAIN,			39,	DONE,		NONE)	\
	FN(SO_RXQ_OVFL,			40,	DONE,		NONE)	\
	FN(SO_WIFI_STATUS,		41,	DONE,		NONE)	\
	FN(SO_PEEK_OFF,			42,	DONE,		NONE)	\
	FN(SO_NOFCS,			43,	DONE,		NONE)	\
	FN(SO_LOCK_FILTER,		44,	NATIVE,		ZERO)	\
	FN(SO_SELECT_ERR_QUEUE,		45,	DONE,		NONE)	\
	FN(SO_BUSY_POLL,		46,	DONE,		NONE)	\
	FN(SO_MAX_PACING_RATE,		47,	NATIVE,		ONES)	\
	FN(SO_BPF_EXTENSIONS,		48,	DONE,		NONE)	\
	FN(SO_INCOMING_CPU,		49,	LISTENER,	ONES)	\
	FN(SO_ATTACH_BPF,		50,	NATIVE,		NONE)	\
	FN(SO_ATTACH_REUSEPORT_CBPF,	51,	NATIVE,		NONE)	\
	FN(SO_ATTACH_REUSEPORT_EBPF,	52,	NATIVE,		NONE)	\
	FN(SO_CNX_ADVICE,		53,	LATE,		ZERO)	\
	FN(SO_MEMINFO,			55,	DONE,		NONE)	\
	FN(SO_INCOMING_NAPI_ID,		56,	DONE,		NONE)	\
	FN(SO_COOKIE,			57,	DONE,		NONE)	\
	FN(SO_PEERGROUPS,		59,	DONE,		NONE)	\
	FN(SO_ZEROCOPY,			60,	DONE,		NONE)	\
	FN(SO_TXTIME,			61,	DONE,		NONE)	\
	FN(SO_BINDTOIFINDEX,		62,	LATE,		SAME)	\
	FN(SO_TIMESTAMP_NEW,		63,	NATIVE,		ZERO)	\
	FN(SO_TIMESTAMPNS_NEW,		64,	NATIVE,		ZERO)	\
	FN(SO_TIMESTAMPING_NEW,		65,	NATIVE,		ZERO)	\
	FN(SO_RCVTIMEO_NEW,		66,	DONE,		NONE)	\
	FN(SO_SNDTIMEO_NEW,		67,	DONE,		NONE)	\
	FN(SO_DETACH_REUSEPORT_BPF,	68,	DONE,		NONE)	\
	FN(SO_PREFER_BUSY_POLL,		69,	DONE,		NONE)	\
	FN(SO_BUSY_POLL_BUDGET,		70,	DONE,		NONE)	\
	FN(SO_NETNS_COOKIE,		71,	DONE,		NONE)	\
	FN(SO_BUF_LOCK,			72,	TOLD,		NONE)	\
	FN(SO_RESERVE_MEM,		73,	DONE,		NONE)	\
	FN(SO_TXREHASH,			74,	DONE,		NONE)	\
	FN(SO_RCVMARK,			75,	DONE,		NONE)	\
	FN(SO_PASSPIDFD,		76,	DONE,		NONE)	\
	FN(SO_PEERPIDFD,		77,	DONE,		NONE)	\
	FN(SO_DEVMEM_LINEAR,		78,	DONE,		NONE)	\
	FN(SO_DEVMEM_DMABUF,		79,	DONE,		NONE)	\
	FN(SO_DEVMEM_DONTNEED,		80,	DONE,		NONE)

#define DMM_OPTS_TCP(FN)						\
	FN(TCP_NODELAY,			1,	TOLD,		NONE)	\
	FN(TCP_MAXSEG,			2,	START,		ZERO)	\
	FN(TCP_CORK,			3,	TOLD,		NONE)	\
	FN(TCP_KEEPIDLE,		4,	TOLD,		NONE)	\
	FN(TCP_KEEPINTVL,		5,	TOLD,		NONE)	\
	FN(TCP_KEEPCNT,			6,	TOLD,		NONE)	\
	FN(TCP_SYNCNT,			7,	LISTENER,	NONE)	\
	FN(TCP_LINGER2,			8,	TOLD,		NONE)	\
	FN(TCP_DEFER_ACCEPT,		9,	TOLD,		NONE)	\
	FN(TCP_WINDOW_CLAMP,		10,	TOLD,		NONE)	\
	FN(TCP_INFO,			11,	DONE,		NONE)	\
	FN(TCP_QUICKACK,		12,	TOLD,		NONE)	\
	FN(TCP_CONGESTION,		13,	NATIVE,		SAME)	\
	FN(TCP_MD5SIG,			14,	NATIVE,		NONE)	\
	FN(TCP_THIN_LINEAR_TIMEOUTS,	16,	NATIVE,		ZERO)	\
	FN(TCP_THIN_DUPACK,		17,	DONE,		NONE)	\
	FN(TCP_USER_TIMEOUT,		18,	TOLD,		NONE)	\
	FN(TCP_REPAIR,			19,	NATIVE,		NONE)	\
	FN(TCP_REPAIR_QUEUE,		20,	NATIVE,		NONE)	\
	FN(TCP_QUEUE_SEQ,		21,	NATIVE,		NONE)	\
	FN(TCP_REPAIR_OPTIONS,		22,	NATIVE,		NONE)	\
	FN(TCP_FASTOPEN,		23,	LISTENER,	ZERO)	\
	FN(TCP_TIMESTAMP,		24,	NATIVE,		NONE)	\
	FN(TCP_NOTSENT_LOWAT,		25,	DONE,		NONE)	\
	FN(TCP_CC_INFO,			26,	DONE,		NONE)	\
	FN(TCP_SAVE_SYN,		27,	LISTENER,	ZERO)	\
	FN(TCP_SAVED_SYN,		28,	DONE,		NONE)	\
	FN(TCP_REPAIR_WINDOW,		29,	NATIVE,		NONE)	\
	FN(TCP_FASTOPEN_CONNECT,	30,	START,		ZERO)	\
	FN(TCP_ULP,			31,	START,		NONE)	\
	FN(TCP_MD5SIG_EXT,		32,	NATIVE,		NONE)	\
	FN(TCP_FASTOPEN_KEY,		33,	DONE,		NONE)	\
	FN(TCP_FASTOPEN_NO_COOKIE,	34,	DONE,		NONE)	\
	FN(TCP_ZEROCOPY_RECEIVE,	35,	DONE,		NONE)	\
	FN(TCP_INQ,			36,	DONE,		NONE)	\
	FN(TCP_TX_DELAY,		37,	NATIVE,		ZERO)	\
	FN(TCP_AO_ADD_KEY,		38,	NATIVE,		NONE)	\
	FN(TCP_AO_DEL_KEY,		39,	NATIVE,		NONE)	\
	FN(TCP_AO_INFO,			40,	NATIVE,		NONE)	\
	FN(TCP_AO_GET_KEYS,		41,	DONE,		NONE)	\
	FN(TCP_AO_REPAIR,		42,	NATIVE,		NONE)	\
	FN(TCP_IS_MPTCP,		43,	DONE,		NONE)

/* What bpf_setsockopt() alone can set, of SOL_TCP; setsockopt() knows none of them. */
#define DMM_OPTS_BPF(FN)						\
	FN(TCP_BPF_IW,			1001,	NATIVE,		NONE)	\
	FN(TCP_BPF_SNDCWND_CLAMP,	1002,	NATIVE,		NONE)	\
	FN(TCP_BPF_DELACK_MAX,		1003,	NATIVE,		NONE)	\
	FN(TCP_BPF_RTO_MIN,		1004,	NATIVE,		NONE)	\
	FN(TCP_BPF_SYN,			1005,	DONE,		NONE)	\
	FN(TCP_BPF_SYN_IP,		1006,	DONE,		NONE)	\
	FN(TCP_BPF_SYN_MAC,		1007,	DONE,		NONE)	\
	FN(TCP_BPF_SOCK_OPS_CB_FLAGS,	1008,	NATIVE,		ZERO)

#define DMM_OPTS_IP(FN)							\
	FN(IP_TOS,			1,	TOLD,		NONE)	\
	FN(IP_TTL,			2,	TOLD,		NONE)	\
	FN(IP_HDRINCL,			3,	DONE,		NONE)	\
	FN(IP_OPTIONS,			4,	NATIVE,		EMPTY)	\
	FN(IP_ROUTER_ALERT,		5,	DONE,		NONE)	\
	FN(IP_RECVOPTS,			6,	DONE,		NONE)	\
	FN(IP_RETOPTS,			7,	DONE,		NONE)	\
	FN(IP_PKTINFO,			8,	DONE,		NONE)	\
	FN(IP_PKTOPTIONS,		9,	DONE,		NONE)	\
	FN(IP_MTU_DISCOVER,		10,	NATIVE,		PMTU)	\
	FN(IP_RECVERR,			11,	NATIVE,		ZERO)	\
	FN(IP_RECVTTL,			12,	DONE,		NONE)	\
	FN(IP_RECVTOS,			13,	DONE,		NONE)	\
	FN(IP_MTU,			14,	DONE,		NONE)	\
	FN(IP_FREEBIND,			15,	DONE,		NONE)	\
	FN(IP_IPSEC_POLICY,		16,	NATIVE,		NONE)	\
	FN(IP_XFRM_POLICY,		17,	NATIVE,		NONE)	\
	FN(IP_PASSSEC,			18,	DONE,		NONE)	\
	FN(IP_TRANSPARENT,		19,	NATIVE,		ZERO)	\
	FN(IP_RECVORIGDSTADDR,		20,	DONE,		NONE)	\
	FN(IP_MINTTL,			21,	NATIVE,		ZERO)	\
	FN(IP_NODEFRAG,			22,	DONE,		NONE)	\
	FN(IP_CHECKSUM,			23,	DONE,		NONE)	\
	FN(IP_BIND_ADDRESS_NO_PORT,	24,	DONE,		NONE)	\
	FN(IP_RECVFRAGSIZE,		25,	DONE,		NONE)	\
	FN(IP_RECVERR_RFC4884,		26,	DONE,		NONE)	\
	FN(IP_MULTICAST_IF,		32,	DONE,		NONE)	\
	FN(IP_MULTICAST_TTL,		33,	DONE,		NONE)	\
	FN(IP_MULTICAST_LOOP,		34,	DONE,		NONE)	\
	FN(IP_ADD_MEMBERSHIP,		35,	DONE,		NONE)	\
	FN(IP_DROP_MEMBERSHIP,		36,	DONE,		NONE)	\
	FN(IP_UNBLOCK_SOURCE,		37,	DONE,		NONE)	\
	FN(IP_BLOCK_SOURCE,		38,	DONE,		NONE)	\
	FN(IP_ADD_SOURCE_MEMBERSHIP,	39,	DONE,		NONE)	\
	FN(IP_DROP_SOURCE_MEMBERSHIP,	40,	DONE,		NONE)	\
	FN(IP_MSFILTER,			41,	DONE,		NONE)	\
	DMM_OPTS_MCAST(FN)						\
	FN(IP_MULTICAST_ALL,		49,	DONE,		NONE)	\
	FN(IP_UNICAST_IF,		50,	DONE,		NONE)	\
	FN(IP_LOCAL_PORT_RANGE,		51,	DONE,		NONE)	\
	FN(IP_PROTOCOL,			52,	DONE,		NONE)

#define DMM_OPTS_MCAST(FN)						\
	FN(MCAST_JOIN_GROUP,		42,	DONE,		NONE)	\
	FN(MCAST_BLOCK_SOURCE,		43,	DONE,		NONE)	\
	FN(MCAST_UNBLOCK_SOURCE,	44,	DONE,		NONE)	\
	FN(MCAST_LEAVE_GROUP,		45,	DONE,		NONE)	\
	FN(MCAST_JOIN_SOURCE_GROUP,	46,	DONE,		NONE)	\
	FN(MCAST_LEAVE_SOURCE_GROUP,	47,	DONE,		NONE)	\
	FN(MCAST_MSFILTER,		48,	DONE,		NONE)

#define DMM_OPTS_IPV6(FN)						\
	FN(IPV6_ADDRFORM,		1,	LATE,		NONE)	\
	FN(IPV6_2292PKTINFO,		2,	NATIVE,		ZERO)	\
	FN(IPV6_2292HOPOPTS,		3,	NATIVE,		ZERO)	\
	FN(IPV6_2292DSTOPTS,		4,	NATIVE,		ZERO)	\
	FN(IPV6_2292RTHDR,		5,	NATIVE,		ZERO)	\
	FN(IPV6_2292PKTOPTIONS,		6,	NATIVE,		EMPTY)	\
	FN(IPV6_CHECKSUM,		7,	DONE,		NONE)	\
	FN(IPV6_2292HOPLIMIT,		8,	NATIVE,		ZERO)	\
	FN(IPV6_NEXTHOP,		9,	DONE,		NONE)	\
	FN(IPV6_AUTHHDR,		10,	DONE,		NONE)	\
	FN(IPV6_FLOWINFO,		11,	NATIVE,		ZERO)	\
	FN(IPV6_UNICAST_HOPS,		16,	TOLD,		NONE)	\
	FN(IPV6_MULTICAST_IF,		17,	DONE,		NONE)	\
	FN(IPV6_MULTICAST_HOPS,		18,	DONE,		NONE)	\
	FN(IPV6_MULTICAST_LOOP,		19,	DONE,		NONE)	\
	FN(IPV6_ADD_MEMBERSHIP,		20,	DONE,		NONE)	\
	FN(IPV6_DROP_MEMBERSHIP,	21,	DONE,		NONE)	\
	FN(IPV6_ROUTER_ALERT,		22,	DONE,		NONE)	\
	FN(IPV6_MTU_DISCOVER,		23,	NATIVE,		PMTU)	\
	FN(IPV6_MTU,			24,	NATIVE,		ZERO)	\
	FN(IPV6_RECVERR,		25,	NATIVE,		ZERO)	\
	FN(IPV6_V6ONLY,			26,	DONE,		NONE)	\
	FN(IPV6_JOIN_ANYCAST,		27,	DONE,		NONE)	\
	FN(IPV6_LEAVE_ANYCAST,		28,	DONE,		NONE)	\
	FN(IPV6_MULTICAST_ALL,		29,	DONE,		NONE)	\
	FN(IPV6_ROUTER_ALERT_ISOLATE,	30,	DONE,		NONE)	\
	FN(IPV6_RECVERR_RFC4884,	31,	DONE,		NONE)	\
	FN(IPV6_FLOWLABEL_MGR,		32,	LATE,		NONE)	\
	FN(IPV6_FLOWINFO_SEND,		33,	DONE,		NONE)	\
	FN(IPV6_IPSEC_POLICY,		34,	NATIVE,		NONE)	\
	FN(IPV6_XFRM_POLICY,		35,	NATIVE,		NONE)	\
	FN(IPV6_HDRINCL,		36,	DONE,		NONE)	\
	DMM_OPTS_MCAST(FN)						\
	FN(IPV6_RECVPKTINFO,		49,	NATIVE,		ZERO)	\
	FN(IPV6_PKTINFO,		50,	DONE,		NONE)	\
	FN(IPV6_RECVHOPLIMIT,		51,	NATIVE,		ZERO)	\
	FN(IPV6_HOPLIMIT,		52,	DONE,		NONE)	\
	FN(IPV6_RECVHOPOPTS,		53,	NATIVE,		ZERO)	\
	FN(IPV6_HOPOPTS,		54,	NATIVE,		EMPTY)	\
	FN(IPV6_RTHDRDSTOPTS,		55,	NATIVE,		EMPTY)	\
	FN(IPV6_RECVRTHDR,		56,	NATIVE,		ZERO)	\
	FN(IPV6_RTHDR,			57,	NATIVE,		EMPTY)	\
	FN(IPV6_RECVDSTOPTS,		58,	NATIVE,		ZERO)	\
	FN(IPV6_DSTOPTS,		59,	NATIVE,		EMPTY)	\
	FN(IPV6_RECVPATHMTU,		60,	NATIVE,		ZERO)	\
	FN(IPV6_PATHMTU,		61,	DONE,		NONE)	\
	FN(IPV6_DONTFRAG,		62,	DONE,		NONE)	\
	FN(IPV6_RECVTCLASS,		66,	NATIVE,		ZERO)	\
	FN(IPV6_TCLASS,			67,	TOLD,		NONE)	\
	FN(IPV6_AUTOFLOWLABEL,		70,	NATIVE,		ZERO)	\
	FN(IPV6_ADDR_PREFERENCES,	72,	DONE,		NONE)	\
	FN(IPV6_MINHOPCOUNT,		73,	NATIVE,		ZERO)	\
	FN(IPV6_RECVORIGDSTADDR,	74,	NATIVE,		ZERO)	\
	FN(IPV6_TRANSPARENT,		75,	NATIVE,		ZERO)	\
	FN(IPV6_UNICAST_IF,		76,	DONE,		NONE)	\
	FN(IPV6_RECVFRAGSIZE,		77,	NATIVE,		ZERO)	\
	FN(IPV6_FREEBIND,		78,	DONE,		NONE)

/* To compare with the headers: static_assert(!(0 DMM_OPTS_TCP(DMM_OPT_DIFFERS))) */
#define DMM_OPT_DIFFERS(name, number, how, nothing)	|| (name) != (number)

enum dmm_opt_how {
	DMM_OPT_UNKNOWN,
	DMM_OPT_DONE,
	DMM_OPT_TOLD,
	DMM_OPT_NATIVE,
	DMM_OPT_LISTENER,
	DMM_OPT_START,
	DMM_OPT_LATE,
};

enum dmm_opt_void {
	DMM_OPT_VOID_NONE,
	DMM_OPT_VOID_ZERO,
	DMM_OPT_VOID_ONES,
	DMM_OPT_VOID_EMPTY,
	DMM_OPT_VOID_SAME,
	DMM_OPT_VOID_PMTU,
};

struct dmm_opt_rule {
	enum dmm_opt_how how;
	enum dmm_opt_void asks_nothing;
};

#define DMM_OPT_CASE(name, number, how, nothing)			\
	case number: {							\
		return (struct dmm_opt_rule) {				\
			DMM_OPT_##how, DMM_OPT_VOID_##nothing		\
		};							\
	}

/* What becomes of an option; DMM_OPT_DONE for a level that TCP does not have. */
static inline struct dmm_opt_rule dmm_opt_find(int level, int name)
{
	switch (level) {
	case 1:		/* SOL_SOCKET */
		switch (name) {
		DMM_OPTS_SOCKET(DMM_OPT_CASE)
		}
		break;
	case 6:		/* SOL_TCP */
		switch (name) {
		DMM_OPTS_TCP(DMM_OPT_CASE)
		}
		break;
	case 0:		/* SOL_IP */
		switch (name) {
		DMM_OPTS_IP(DMM_OPT_CASE)
		}
		break;
	case 41:	/* SOL_IPV6 */
		switch (name) {
		DMM_OPTS_IPV6(DMM_OPT_CASE)
		}
		break;
	default:
		return (struct dmm_opt_rule) {
			DMM_OPT_DONE, DMM_OPT_VOID_NONE
		};
	}
	return (struct dmm_opt_rule) { DMM_OPT_UNKNOWN, DMM_OPT_VOID_NONE };
}

/* Does it keep a socket that has not started native? @listens: for listen(). */
static inline int dmm_opt_keeps_native(enum dmm_opt_how how, int listens)
{
	return how == DMM_OPT_NATIVE || how == DMM_OPT_START ||
	       (how == DMM_OPT_LISTENER && listens);
}

/* Is it refused on one that has started? */
static inline int dmm_opt_is_refused(enum dmm_opt_how how, int listens)
{
	return how == DMM_OPT_NATIVE || how == DMM_OPT_LATE ||
	       ((how == DMM_OPT_START || how == DMM_OPT_LISTENER) && listens);
}

#endif /* _UAPI_LINUX_DMM_OPT_H */
