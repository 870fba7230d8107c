/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Options: what keeps a socket native, what a stack is told, what is refused.
 */
#ifndef DMM_KMOD_OPTION_H
#define DMM_KMOD_OPTION_H

#include <linux/dmm.h>
#include <linux/net.h>
#include <linux/sockptr.h>

struct dmm_sock;
struct sock;
struct tcp_congestion_ops;

/**
 * struct dmm_opt_seen - options as the worker was told them
 * @keepidle: TCP_KEEPIDLE, as struct tcp_sock has it; likewise what follows
 * @keepintvl: TCP_KEEPINTVL
 * @user_timeout: TCP_USER_TIMEOUT
 * @window_clamp: TCP_WINDOW_CLAMP
 * @rcvbuf: SO_RCVBUF, 0 if it was not set
 * @linger2: TCP_LINGER2
 * @hop_limit: IPV6_UNICAST_HOPS
 * @ttl: IP_TTL
 * @keepcnt: TCP_KEEPCNT
 * @nonagle: TCP_NODELAY and TCP_CORK
 * @tos: IP_TOS
 * @tclass: IPV6_TCLASS
 * @quickack: TCP_QUICKACK, as dmm_sock.quickack
 * @lost: what no stack can honour, and bpf_setsockopt() can set
 */
struct dmm_opt_seen {
	u32 keepidle;
	u32 keepintvl;
	u32 user_timeout;
	u32 window_clamp;
	u32 rcvbuf;
	int linger2;
	s16 hop_limit;
	s16 ttl;
	u8 keepcnt;
	u8 nonagle;
	u8 tos;
	u8 tclass;
	u8 quickack;
	struct {
		u32 mark;
		u32 priority;
		u32 thin_lto;
		u32 cb_flags;
		unsigned long pacing_rate;
		const struct tcp_congestion_ops *ca;
	} lost;
};

enum dmm_fallback dmm_option_check(struct sock *sk, bool listens);
void dmm_option_start(struct sock *sk);
void dmm_option_stop(struct sock *sk);
void dmm_option_told(const struct sock *sk, struct dmm_sock *ds);
void dmm_option_look(struct sock *sk, struct dmm_sock *ds);
void dmm_option_release(struct sock *sk);
int dmm_option_send(struct sock *sk, struct msghdr *msg);

int dmm_ioctl(struct sock *sk, int cmd, int *karg);
void dmm_keepalive(struct sock *sk, int val);
int dmm_set_rcvlowat(struct sock *sk, int val);
int dmm_setsockopt(struct socket *sock, int level, int optname, sockptr_t optval,
		   unsigned int optlen);
int dmm_getsockopt(struct sock *sk, int level, int optname,
		   char __user *optval, int __user *optlen);

#endif /* DMM_KMOD_OPTION_H */
