/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dmm

#if !defined(DMM_KMOD_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define DMM_KMOD_TRACE_H

#include <linux/dmm.h>
#include <linux/tracepoint.h>
#include <net/sock.h>

#define DMM_TRACE_REASON(code, word)	{ DMM_FALLBACK_##code, word },
#define show_reason(reason)	\
	__print_symbolic(reason, DMM_FALLBACK_REASONS(DMM_TRACE_REASON) { -1, "?" })

TRACE_EVENT(dmm_fallback,
	TP_PROTO(const struct sock *sk, u32 stack, int reason),
	TP_ARGS(sk, stack, reason),
	TP_STRUCT__entry(
		__field(const void *, sk)
		__field(u64, ino)
		__field(u32, stack)
		__field(int, reason)
	),
	TP_fast_assign(
		__entry->sk = sk;
		__entry->ino = sk && sk->sk_socket ?
			SOCK_INODE(sk->sk_socket)->i_ino : 0;
		__entry->stack = stack;
		__entry->reason = reason;
	),
	TP_printk("sk=%p ino=%llu stack=%u reason=%s", __entry->sk,
		  __entry->ino, __entry->stack, show_reason(__entry->reason))
);

TRACE_EVENT(dmm_adopt,
	TP_PROTO(const struct sock *sk, u32 stack, u32 slot),
	TP_ARGS(sk, stack, slot),
	TP_STRUCT__entry(
		__field(const void *, sk)
		__field(u64, ino)
		__field(u32, stack)
		__field(u32, slot)
	),
	TP_fast_assign(
		__entry->sk = sk;
		__entry->ino = sk->sk_socket ?
			SOCK_INODE(sk->sk_socket)->i_ino : 0;
		__entry->stack = stack;
		__entry->slot = slot;
	),
	TP_printk("sk=%p ino=%llu stack=%u slot=%u", __entry->sk,
		  __entry->ino, __entry->stack, __entry->slot)
);

TRACE_EVENT(dmm_bad_event,
	TP_PROTO(u32 stack, u32 ev, u32 slot, u32 gen),
	TP_ARGS(stack, ev, slot, gen),
	TP_STRUCT__entry(
		__field(u32, stack)
		__field(u32, ev)
		__field(u32, slot)
		__field(u32, gen)
	),
	TP_fast_assign(
		__entry->stack = stack;
		__entry->ev = ev;
		__entry->slot = slot;
		__entry->gen = gen;
	),
	TP_printk("stack=%u ev=%#x slot=%u gen=%u", __entry->stack,
		  __entry->ev, __entry->slot, __entry->gen)
);

#endif /* DMM_KMOD_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
