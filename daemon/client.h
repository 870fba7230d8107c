/* SPDX-License-Identifier: Apache-2.0 */
/* dmmctl's side of the control socket. */
#ifndef DMM_CLIENT_H
#define DMM_CLIENT_H

#include <json-c/json.h>
#include <stdbool.h>

#include "err.h"

/*
 * Call @method with @params (consumed; may be NULL) over the socket at @path and
 * wait for the answer. 0 and *@result, to be put; or a negative errno with what
 * the daemon said, or why it was not reached, in @err.
 */
int dmm_client_call(const char *path, const char *method, struct json_object *params,
		    struct json_object **result, struct dmm_err *err);

/*
 * Call @method, then hand the params of each notification that follows to @fn
 * (borrowed) until it returns false, which is 0, or the daemon is gone.
 */
int dmm_client_listen(const char *path, const char *method,
		      bool (*fn)(void *data, struct json_object *params), void *data,
		      struct dmm_err *err);

#endif
