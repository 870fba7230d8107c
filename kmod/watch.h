/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Once a second, all sockets of a stack.
 */
#ifndef DMM_KMOD_WATCH_H
#define DMM_KMOD_WATCH_H

struct dmm_stack;

void dmm_watch_init(struct dmm_stack *stack);
void dmm_watch_start(struct dmm_stack *stack);
void dmm_watch_stop(struct dmm_stack *stack);

#endif /* DMM_KMOD_WATCH_H */
