/* SPDX-License-Identifier: Apache-2.0 */
/* dmmctl's side of the control socket. */
#ifndef DMM_CLIENT_H
#define DMM_CLIENT_H

#include <json-c/json.h>

#include "err.h"

/*
 * Call @method with @params (consumed; may be NULL) over the socket at @path and
 * wait for the answer. 0 and *@result, to be put; or a negative errno with what
 * the daemon said, or why it was not reached, in @err.
 */
int dmm_client_call(const char *path, const char *method, struct json_object *params,
		    struct json_object **result, struct dmm_err *err);

#endif
