/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The message rings: ops toward a worker, events from it.
 */
#ifndef DMM_KMOD_CHANNEL_H
#define DMM_KMOD_CHANNEL_H

#include <linux/dmm.h>

struct dmm_sock;
struct dmm_stack;

int dmm_ops_post(struct dmm_sock *ds, u32 ops);
void dmm_ops_flush(struct dmm_stack *stack);
int dmm_events_consume(struct dmm_stack *stack, u32 *events, u32 *bad);

#endif /* DMM_KMOD_CHANNEL_H */
