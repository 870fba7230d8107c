/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Listeners, and the children that a stack brings them.
 */
#ifndef DMM_KMOD_LISTEN_H
#define DMM_KMOD_LISTEN_H

#include <linux/dmm.h>

struct dmm_sock;

bool dmm_listen_incoming(struct dmm_sock *ds,
			 const struct dmm_ev_incoming *incoming);

#endif /* DMM_KMOD_LISTEN_H */
