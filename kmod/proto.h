/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The struct proto and proto_ops that sockets have in place of TCP's, of each
 * family.
 */
#ifndef DMM_KMOD_PROTO_H
#define DMM_KMOD_PROTO_H

#include <linux/net.h>
#include <net/sock.h>

/**
 * struct dmm_family - TCP's operations of a family, and ours
 * @base: tcp_prot or tcpv6_prot
 * @base_ops: inet_stream_ops or inet6_stream_ops
 * @assigned: from the policy's verdict to connect() or listen(): as TCP's, but for
 *	those two
 * @assigned_ops: likewise
 * @adopted: from connect() on, and of a stack's children
 * @adopted_ops: likewise
 * @listening: of a listener that the stack serves too
 * @listening_ops: likewise
 *
 * Filled at load, constant from then on. @adopted is every adopted socket's
 * ->sk_prot_creator.
 */
struct dmm_family {
	struct proto *base;
	const struct proto_ops *base_ops;
	struct proto assigned;
	struct proto_ops assigned_ops;
	struct proto adopted;
	struct proto_ops adopted_ops;
	struct proto listening;
	struct proto_ops listening_ops;
};

extern struct dmm_family dmm_inet;
extern struct dmm_family dmm_inet6;

static inline struct dmm_family *dmm_family(const struct sock *sk)
{
	return sk->sk_family == AF_INET6 ? &dmm_inet6 : &dmm_inet;
}

static inline bool dmm_is_assigned(const struct sock *sk)
{
	return sk->sk_prot == &dmm_family(sk)->assigned;
}

static inline bool dmm_is_adopted(const struct sock *sk)
{
	return sk->sk_prot == &dmm_family(sk)->adopted;
}

static inline bool dmm_is_listening(const struct sock *sk)
{
	return sk->sk_prot == &dmm_family(sk)->listening;
}

int dmm_proto_init(void);
int dmm_disconnect(struct sock *sk, int flags);
void dmm_release_cb(struct sock *sk);

/* listen.c */
void dmm_listen_proto_init(struct dmm_family *f);

#endif /* DMM_KMOD_PROTO_H */
