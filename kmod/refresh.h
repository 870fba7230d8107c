/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What `ss` shows, kept fresh.
 */
#ifndef DMM_KMOD_REFRESH_H
#define DMM_KMOD_REFRESH_H

struct dmm_stack;

void dmm_refresh_init(struct dmm_stack *stack);
void dmm_refresh_start(struct dmm_stack *stack);
void dmm_refresh_stop(struct dmm_stack *stack);

#endif /* DMM_KMOD_REFRESH_H */
