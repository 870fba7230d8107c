/* SPDX-License-Identifier: Apache-2.0 */
/* Results as people read them: plain columns. */
#ifndef DMM_PRINT_H
#define DMM_PRINT_H

#include <json-c/json.h>

void dmm_print_nothing(struct json_object *result);
void dmm_print_status(struct json_object *result);
void dmm_print_stack_added(struct json_object *result);
void dmm_print_stacks(struct json_object *result);
void dmm_print_stack(struct json_object *result);
void dmm_print_rule_added(struct json_object *result);
void dmm_print_rules(struct json_object *result);
void dmm_print_explain(struct json_object *result);
void dmm_print_cgroups(struct json_object *result);
void dmm_print_socks(struct json_object *result);
void dmm_print_stats(struct json_object *result);

#endif
