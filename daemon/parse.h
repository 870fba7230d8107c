/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place where what people write becomes values. Each function returns 0
 * or a negative errno with a sentence in @err.
 */
#ifndef DMM_PARSE_H
#define DMM_PARSE_H

#include <json-c/json.h>
#include <linux/types.h>
#include <stdbool.h>

#include "err.h"

/* A parameter of a request; @value is borrowed from the request, or NULL. */
struct dmm_param {
	const char *key;
	const char **value;
	bool required;
};

/*
 * Take the @n parameters of @params (an object or NULL). Values may be strings
 * or integers. A key that is not in the table is refused, for @what.
 */
int dmm_parse_params(struct json_object *params, const char *what,
		     const struct dmm_param *table, size_t n, struct dmm_err *err);

/* A name: 1..DMM_NAME_MAX-1 characters of [A-Za-z0-9._-], not starting with '.'. */
int dmm_parse_name(const char *what, const char *s, struct dmm_err *err);

/* A decimal number in @min..@max. */
int dmm_parse_u32(const char *what, const char *s, __u32 min, __u32 max,
		  __u32 *out, struct dmm_err *err);

/* "80" or "8000-8010", host order, inclusive. */
int dmm_parse_ports(const char *what, const char *s, __u16 *min, __u16 *max,
		    struct dmm_err *err);

/* "10.0.0.0/8" or "10.1.2.3"; network order, masked. */
int dmm_parse_prefix4(const char *what, const char *s, __u32 *addr, __u32 *mask,
		      struct dmm_err *err);

#endif
