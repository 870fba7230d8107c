/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole configuration at once: {stacks: [{name, type, dev, netns, route, ...}],
 * cgroups: [PATH], rules: [{match, stack, fallback}]}. Errors tell the place in it
 * (struct dmm_err, where).
 */
#ifndef DMM_CONFIG_H
#define DMM_CONFIG_H

#include "daemon.h"

/* The configuration in force. */
struct json_object *dmm_config_json(struct dmm_daemon *d);

/* Could @config be put in force? Nothing changes. */
int dmm_config_check(struct dmm_daemon *d, struct json_object *config,
		     struct dmm_err *err);

/*
 * Put @config in force and answer @call: start the stacks that are new, wait until
 * all are up, exchange rules and cgroups in one change, stop the stacks that are in
 * it no more. When something fails, the new stacks are stopped and all is as it was.
 * d->applying is set until the answer.
 */
void dmm_config_apply(struct dmm_daemon *d, struct json_object *config,
		      struct dmm_rpc_call *call);

#endif
