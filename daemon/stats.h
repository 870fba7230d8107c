/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DMM_STATS_H
#define DMM_STATS_H

#include "daemon.h"

/*
 * Answer @call with all counters, as soon as every worker has told its own or
 * let a second pass:
 *
 *	module	{adopted, bad_events, fallbacks}, null when it is not loaded
 *	policy	{hits, adopted, shim, rejected, fallbacks}: the sum of the rules
 *		that stand
 *	rules	[{id, stack, hits, adopted, shim, rejected, fallbacks}]
 *	stacks	[{name, id, adopted, bad_events, stale_events, fallbacks,
 *		  worker}]: worker is null when it did not answer
 *
 * fallbacks is {REASON: n}, without zeroes.
 */
void dmm_stats_collect(struct dmm_daemon *d, struct dmm_rpc_call *call);

/* Add the counters of a rule to @o, which is returned. */
struct json_object *dmm_stats_counters(const struct dmm_rule_stats *st,
				       struct json_object *o);

#endif
