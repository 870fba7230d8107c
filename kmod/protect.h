/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What guards a native socket.
 */
#ifndef DMM_KMOD_PROTECT_H
#define DMM_KMOD_PROTECT_H

#include <linux/dmm.h>

struct dmm_sock;
struct sock;

enum dmm_fallback dmm_protect_check(struct sock *sk, bool listens);
bool dmm_protect_forbids(const struct sock *sk);
void dmm_protect_end(struct sock *sk, struct dmm_sock *ds);

#endif /* DMM_KMOD_PROTECT_H */
