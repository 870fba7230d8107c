/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every size and offset of what DMM shares across a boundary, as numbers. They
 * hold for 32 and 64 bits, in C and in C++: scripts/check-style compiles this file
 * in all four ways. A line here changes only together with DMM_ABI_VERSION.
 */
#ifndef DMM_SELFTESTS_LAYOUT_H
#define DMM_SELFTESTS_LAYOUT_H

#include <linux/dmm.h>
#include "dmm_bpf.h"

#ifdef __cplusplus
#define CONST_ASSERT(cond)	static_assert(cond, #cond)
#else
#define CONST_ASSERT(cond)	_Static_assert(cond, #cond)
#endif

#define SIZE(type, bytes)						\
	CONST_ASSERT(sizeof(struct type) == (bytes))
#define FIELD(type, field, off, bytes)					\
	CONST_ASSERT(__builtin_offsetof(struct type, field) == (off) &&	\
		     sizeof(((struct type *)0)->field) == (bytes))

SIZE(dmm_attach, 64);
FIELD(dmm_attach, size, 0, 4);
FIELD(dmm_attach, flags, 4, 4);
FIELD(dmm_attach, stack_id, 8, 4);
FIELD(dmm_attach, arena_fd, 12, 4);
FIELD(dmm_attach, event_fd, 16, 4);
FIELD(dmm_attach, netns_fd, 20, 4);
FIELD(dmm_attach, ifindex, 24, 4);
FIELD(dmm_attach, share, 28, 2);
FIELD(dmm_attach, __reserved, 30, 2);
FIELD(dmm_attach, name, 32, 32);

SIZE(dmm_kick, 16);
FIELD(dmm_kick, size, 0, 4);
FIELD(dmm_kick, flags, 4, 4);
FIELD(dmm_kick, out_events, 8, 4);
FIELD(dmm_kick, out_bad, 12, 4);

CONST_ASSERT(DMM_ATTACH == 0xdc00 && DMM_KICK == 0xdc01);

SIZE(dmm_arena_hdr, 384);
FIELD(dmm_arena_hdr, magic, 0, 4);
FIELD(dmm_arena_hdr, version, 4, 4);
FIELD(dmm_arena_hdr, hdr_size, 8, 4);
FIELD(dmm_arena_hdr, features, 12, 4);
FIELD(dmm_arena_hdr, nslots, 16, 4);
FIELD(dmm_arena_hdr, nops, 20, 4);
FIELD(dmm_arena_hdr, nevents, 24, 4);
FIELD(dmm_arena_hdr, tx_size, 28, 4);
FIELD(dmm_arena_hdr, rx_size, 32, 4);
FIELD(dmm_arena_hdr, __reserved0, 36, 28);
FIELD(dmm_arena_hdr, op_prod, 64, 4);
FIELD(dmm_arena_hdr, op_backlog, 68, 4);
FIELD(dmm_arena_hdr, ev_polling, 72, 4);
FIELD(dmm_arena_hdr, client_cpu, 76, 4);
FIELD(dmm_arena_hdr, __reserved1, 80, 48);
FIELD(dmm_arena_hdr, ev_cons, 128, 4);
FIELD(dmm_arena_hdr, __reserved2, 132, 60);
FIELD(dmm_arena_hdr, op_cons, 192, 4);
FIELD(dmm_arena_hdr, __reserved3, 196, 60);
FIELD(dmm_arena_hdr, ev_prod, 256, 4);
FIELD(dmm_arena_hdr, __reserved4, 260, 60);
FIELD(dmm_arena_hdr, sleeping, 320, 4);
FIELD(dmm_arena_hdr, stack_cpu, 324, 4);
FIELD(dmm_arena_hdr, full, 328, 4);
FIELD(dmm_arena_hdr, __reserved5, 332, 52);

SIZE(dmm_slot, 192);
FIELD(dmm_slot, tx_prod, 0, 4);
FIELD(dmm_slot, rx_cons, 4, 4);
FIELD(dmm_slot, rx_event, 8, 4);
FIELD(dmm_slot, tx_room_event, 12, 4);
FIELD(dmm_slot, tx_more, 16, 4);
FIELD(dmm_slot, opt_seq, 20, 4);
FIELD(dmm_slot, rx_idle, 24, 4);
FIELD(dmm_slot, __reserved0, 28, 36);
FIELD(dmm_slot, tx_cons, 64, 4);
FIELD(dmm_slot, rx_prod, 68, 4);
FIELD(dmm_slot, tx_event, 72, 4);
FIELD(dmm_slot, rx_room_event, 76, 4);
FIELD(dmm_slot, tx_sent, 80, 4);
FIELD(dmm_slot, __reserved1, 84, 44);
FIELD(dmm_slot, srtt_us, 128, 4);
FIELD(dmm_slot, snd_cwnd, 132, 4);
FIELD(dmm_slot, snd_mss, 136, 4);
FIELD(dmm_slot, retrans, 140, 4);
FIELD(dmm_slot, __reserved2, 144, 48);

SIZE(dmm_op_connect, 44);
FIELD(dmm_op_connect, family, 0, 2);
FIELD(dmm_op_connect, dscp, 2, 1);
FIELD(dmm_op_connect, ttl, 3, 1);
FIELD(dmm_op_connect, sport, 4, 2);
FIELD(dmm_op_connect, dport, 6, 2);
FIELD(dmm_op_connect, ifindex, 8, 4);
FIELD(dmm_op_connect, saddr, 12, 16);
FIELD(dmm_op_connect, daddr, 28, 16);

SIZE(dmm_op_options, 48);
FIELD(dmm_op_options, set, 0, 4);
FIELD(dmm_op_options, keepidle, 4, 4);
FIELD(dmm_op_options, keepintvl, 8, 4);
FIELD(dmm_op_options, keepcnt, 12, 4);
FIELD(dmm_op_options, user_timeout, 16, 4);
FIELD(dmm_op_options, fin_timeout, 20, 4);
FIELD(dmm_op_options, rcvbuf, 24, 4);
FIELD(dmm_op_options, seq, 28, 4);
FIELD(dmm_op_options, dscp, 32, 1);
FIELD(dmm_op_options, ttl, 33, 1);
FIELD(dmm_op_options, __reserved0, 34, 2);
FIELD(dmm_op_options, __reserved, 36, 12);

SIZE(dmm_op, 64);
FIELD(dmm_op, op, 0, 4);
FIELD(dmm_op, slot, 4, 4);
FIELD(dmm_op, gen, 8, 4);
FIELD(dmm_op, flags, 12, 4);
FIELD(dmm_op, connect, 16, 44);
FIELD(dmm_op, listen, 16, 48);
FIELD(dmm_op, attach, 16, 48);
FIELD(dmm_op, options, 16, 48);
FIELD(dmm_op, raw, 16, 48);

SIZE(dmm_event, 64);
FIELD(dmm_event, ev, 0, 4);
FIELD(dmm_event, slot, 4, 4);
FIELD(dmm_event, gen, 8, 4);
FIELD(dmm_event, error, 12, 4);
FIELD(dmm_event, incoming, 16, 48);
FIELD(dmm_event, raw, 16, 48);

SIZE(dmm_op_listen, 48);
FIELD(dmm_op_listen, port, 2, 2);
FIELD(dmm_op_listen, backlog, 8, 4);
FIELD(dmm_op_listen, addr, 16, 16);
FIELD(dmm_op_listen, defer, 32, 4);
FIELD(dmm_op_listen, __reserved, 36, 12);
SIZE(dmm_op_attach, 48);
FIELD(dmm_op_attach, token, 0, 8);
FIELD(dmm_op_attach, listener, 8, 4);
SIZE(dmm_ev_incoming, 48);
FIELD(dmm_ev_incoming, token, 0, 8);
FIELD(dmm_ev_incoming, family, 8, 2);
FIELD(dmm_ev_incoming, laddr, 16, 16);
FIELD(dmm_ev_incoming, raddr, 32, 16);

/* Numbers that others have compiled in; new ones are only appended. */
CONST_ASSERT(DMM_ABI_VERSION == 1 && DMM_ARENA_MAGIC == 0x414d4d44);
CONST_ASSERT(DMM_NAME_MAX == 32 && DMM_STACK_ID_MAX == 1023);
CONST_ASSERT(DMM_OP_CONNECT == 1 && DMM_OP_LISTEN == 2 && DMM_OP_ATTACH == 3 &&
	     DMM_OP_OPTIONS == 4 && DMM_OP_TX == 5 && DMM_OP_ROOM == 6 &&
	     DMM_OP_SHUTDOWN == 7 && DMM_OP_CLOSE == 8 && DMM_OP_ABORT == 9);
CONST_ASSERT(DMM_EV_CONNECTED == 1 && DMM_EV_INCOMING == 2 && DMM_EV_RX == 3 &&
	     DMM_EV_ROOM == 4 && DMM_EV_FIN_ACKED == 5 && DMM_EV_FIN == 6 &&
	     DMM_EV_ERROR == 7 && DMM_EV_TIMEWAIT == 8 && DMM_EV_GONE == 9);
CONST_ASSERT(DMM_FALLBACK_NONE == 0 && DMM_FALLBACK_NO_CLIENT == 1 &&
	     DMM_FALLBACK_STACK_DOWN == 2 && DMM_FALLBACK_NETNS == 3 &&
	     DMM_FALLBACK_FAMILY == 4 && DMM_FALLBACK_PROTO == 5 &&
	     DMM_FALLBACK_KERNEL_SOCK == 6 && DMM_FALLBACK_STATE == 7 &&
	     DMM_FALLBACK_ULP == 8 && DMM_FALLBACK_FILTER == 9 &&
	     DMM_FALLBACK_ROUTE == 10 && DMM_FALLBACK_FASTOPEN == 11 &&
	     DMM_FALLBACK_SOCKOPT == 12 && DMM_FALLBACK_NO_SLOT == 13 &&
	     DMM_FALLBACK_NO_MEMORY == 14 && DMM_FALLBACK_REWRITTEN == 15 &&
	     DMM_FALLBACK_IO_URING == 16 && DMM_FALLBACK_CGROUP_SKB == 17 &&
	     DMM_FALLBACK_XFRM == 18 && DMM_FALLBACK_LABEL == 19 &&
	     DMM_FALLBACK_NETFILTER == 20 && DMM_FALLBACK_QUOTA == 21);
CONST_ASSERT(DMM_NL_CMD_STACK_GET == 1 && DMM_NL_CMD_SOCK_GET == 2 &&
	     DMM_NL_CMD_STATS_GET == 3 && DMM_NL_A_ABI == 26);

/* The BPF maps' types */
SIZE(dmm_rule, 128);
FIELD(dmm_rule, cgroup_id, 0, 8);
FIELD(dmm_rule, id, 8, 4);
FIELD(dmm_rule, match, 12, 4);
FIELD(dmm_rule, cgroup_level, 16, 4);
FIELD(dmm_rule, stack, 20, 4);
FIELD(dmm_rule, dst, 24, 16);
FIELD(dmm_rule, dst_mask, 40, 16);
FIELD(dmm_rule, src, 56, 16);
FIELD(dmm_rule, src_mask, 72, 16);
FIELD(dmm_rule, dst_family, 88, 2);
FIELD(dmm_rule, dport_min, 90, 2);
FIELD(dmm_rule, dport_max, 92, 2);
FIELD(dmm_rule, src_family, 94, 2);
FIELD(dmm_rule, sport_min, 96, 2);
FIELD(dmm_rule, sport_max, 98, 2);
FIELD(dmm_rule, uid, 100, 4);
FIELD(dmm_rule, dir, 104, 2);
FIELD(dmm_rule, flags, 106, 2);
FIELD(dmm_rule, __reserved, 108, 4);
FIELD(dmm_rule, comm, 112, 16);
SIZE(dmm_ruleset, 8 + DMM_RULES_MAX * 128);
FIELD(dmm_ruleset, rules, 8, DMM_RULES_MAX * 128);
SIZE(dmm_rule_stats, 32 + DMM_FALLBACK_SLOTS * 8);
SIZE(dmm_sock_mark, 20);
CONST_ASSERT(DMM_FALLBACK_MAX < DMM_FALLBACK_SLOTS);
SIZE(dmm_flow, 40);
FIELD(dmm_flow, laddr, 0, 16);
FIELD(dmm_flow, raddr, 16, 16);
FIELD(dmm_flow, lport, 32, 2);
FIELD(dmm_flow, rport, 34, 2);
FIELD(dmm_flow, proto, 36, 1);
FIELD(dmm_flow, family, 37, 1);
FIELD(dmm_flow, __reserved, 38, 2);
SIZE(dmm_flow_val, 8);
FIELD(dmm_sock_mark, rule, 8, 4);
FIELD(dmm_sock_mark, flags, 12, 4);
FIELD(dmm_sock_mark, why, 16, 4);

#endif /* DMM_SELFTESTS_LAYOUT_H */
