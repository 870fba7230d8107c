/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Taking a socket over from TCP, and giving it back.
 */
#ifndef DMM_KMOD_ADOPT_H
#define DMM_KMOD_ADOPT_H

#include <linux/types.h>

struct bpf_sock_addr_kern;
struct dmm_sock;
struct proto_ops;
struct sock;
struct socket;

int dmm_adopt_init(void);
void dmm_adopt_exit(void);
void dmm_set_socket_ops(struct socket *sock, const struct proto_ops *ops);
void dmm_adopt_commit(struct sock *sk);
void dmm_adopt_listen(struct sock *sk);
void dmm_adopt_child(struct sock *sk, struct dmm_sock *ds);
void dmm_adopt_undo(struct sock *sk);

/* The kfunc; called by BPF programs alone. */
int bpf_dmm_assign(struct bpf_sock_addr_kern *ctx, u32 stack, u64 flags);

#endif /* DMM_KMOD_ADOPT_H */
