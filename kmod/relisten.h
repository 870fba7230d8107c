/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Listeners whose stack went away, until it comes back.
 */
#ifndef DMM_KMOD_RELISTEN_H
#define DMM_KMOD_RELISTEN_H

struct dmm_sock;
struct dmm_stack;
struct sock;

void dmm_relisten_wait(struct sock *sk);
void dmm_relisten_forget(struct dmm_sock *ds);
bool dmm_listens_too(const struct sock *sk);
void dmm_listen_alone(struct sock *sk, struct dmm_sock *ds);
void dmm_relisten_attached(struct dmm_stack *stack);

#endif /* DMM_KMOD_RELISTEN_H */
