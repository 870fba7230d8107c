/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Listeners, and the children that a stack brings them.
 */
#ifndef DMM_KMOD_LISTEN_H
#define DMM_KMOD_LISTEN_H

#include <linux/dmm.h>

struct dmm_sock;
struct sock;

bool dmm_listen_incoming(struct dmm_sock *ds,
			 const struct dmm_ev_incoming *incoming);
int dmm_listen_post(struct sock *sk, struct dmm_sock *ds);

#endif /* DMM_KMOD_LISTEN_H */
