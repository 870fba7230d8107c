/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live events for those who asked (rpc "monitor"): notifications "event", each with
 * a member "event" that says which, as dmmd(8) tells. Stacks and rules are told of
 * as they change; counters are looked at once a second, while somebody listens.
 */
#ifndef DMM_MONITOR_H
#define DMM_MONITOR_H

#include "daemon.h"

/* The client of @call listens from now on; answers it. */
void dmm_monitor_start(struct dmm_daemon *d, struct dmm_rpc_call *call);
void dmm_monitor_stop(struct dmm_daemon *d);

/* What has happened. */
void dmm_monitor_stack(const struct dmm_stack *s, const char *state);
void dmm_monitor_rules(struct dmm_daemon *d);

#endif
