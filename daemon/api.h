/* SPDX-License-Identifier: Apache-2.0 */
/* What the methods of the control socket share; see dmmd(8) for the methods. */
#ifndef DMM_API_H
#define DMM_API_H

#include <json-c/json.h>
#include <stdbool.h>

#include "daemon.h"
#include "rpc.h"

void dmm_api_fail(struct dmm_rpc_call *call, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A method without parameters; false when it was answered with an error. */
bool dmm_api_no_params(const char *what, struct json_object *params,
		       struct dmm_rpc_call *call);

/* A method whose one parameter is @key; NULL when it was answered. */
const char *dmm_api_one_param(const char *what, const char *key,
			      struct json_object *params, struct dmm_rpc_call *call);

/* Is a configuration being applied? True when @call was answered with that. */
bool dmm_api_applying(const struct dmm_daemon *d, struct dmm_rpc_call *call);

/* api_rule.c */
void dmm_api_rule_list(void *d, struct json_object *params, struct dmm_rpc_call *call);
void dmm_api_rule_add(void *d, struct json_object *params, struct dmm_rpc_call *call);
void dmm_api_rule_del(void *d, struct json_object *params, struct dmm_rpc_call *call);
void dmm_api_rule_move(void *d, struct json_object *params, struct dmm_rpc_call *call);
void dmm_api_rule_flush(void *d, struct json_object *params, struct dmm_rpc_call *call);
void dmm_api_rule_explain(void *d, struct json_object *params,
			  struct dmm_rpc_call *call);

#endif
