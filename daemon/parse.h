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

/* A name: 1..DMM_NAME_MAX-1 characters of [A-Za-z0-9_-]. */
int dmm_parse_name(const char *what, const char *s, struct dmm_err *err);

/* A decimal number in @min..@max. */
int dmm_parse_u32(const char *what, const char *s, __u32 min, __u32 max,
		  __u32 *out, struct dmm_err *err);

/* "80" or "8000-8010", host order, inclusive. */
int dmm_parse_ports(const char *what, const char *s, __u16 *min, __u16 *max,
		    struct dmm_err *err);

/*
 * A prefix: @addr and @mask in network order, masked, IPv4 in the first word;
 * @text as it is shown, without the length when that is an address's.
 */
struct dmm_prefix {
	__u16 family;
	__u32 addr[4];
	__u32 mask[4];
	__u32 len;
	char text[64];
};

/* "10.0.0.0/8", "10.1.2.3", "2001:db8::/32"; a v4-mapped one is refused. */
int dmm_parse_prefix(const char *what, const char *s, struct dmm_prefix *out,
		     struct dmm_err *err);

#endif
