// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/dmm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"

/* Enough of a bad value to recognise it by. */
#define SHOWN "%.64s"

int dmm_parse_params(struct json_object *params, const char *what,
		     const struct dmm_param *table, size_t n, struct dmm_err *err)
{
	char known[256] = "";
	size_t i, len = 0;

	for (i = 0; i < n; i++) {
		*table[i].value = NULL;
		len += snprintf(known + len, sizeof(known) - len, " %s", table[i].key);
		if (len >= sizeof(known))
			len = sizeof(known) - 1;
	}
	if (!n)
		snprintf(known, sizeof(known), " none");

	if (params && !json_object_is_type(params, json_type_object))
		return dmm_err_set(err, -EINVAL,
				   "%s: params must be an object with names", what);
	if (params) {
		json_object_object_foreach(params, key, val) {
			for (i = 0; i < n; i++)
				if (!strcmp(key, table[i].key))
					break;
			if (i == n)
				return dmm_err_set(err, -EINVAL, "%s: unknown \"" SHOWN
						   "\"; known:%s", what, key, known);
			if (!json_object_is_type(val, json_type_string) &&
			    !json_object_is_type(val, json_type_int))
				return dmm_err_set(err, -EINVAL,
						   "%s: %s must be a string or a number",
						   what, key);
			*table[i].value = json_object_get_string(val);
			if (json_object_is_type(val, json_type_string) &&
			    strlen(*table[i].value) != (size_t)json_object_get_string_len(val))
				return dmm_err_set(err, -EINVAL,
						   "%s: %s has a NUL character in it",
						   what, key);
		}
	}
	for (i = 0; i < n; i++)
		if (table[i].required && !*table[i].value)
			return dmm_err_set(err, -EINVAL, "%s: %s is missing",
					   what, table[i].key);
	return 0;
}

int dmm_parse_name(const char *what, const char *s, struct dmm_err *err)
{
	size_t len = strlen(s);

	if (!len)
		return dmm_err_set(err, -EINVAL, "%s is empty: expected 1..%d characters",
				   what, DMM_NAME_MAX - 1);
	if (len >= DMM_NAME_MAX)
		return dmm_err_set(err, -EINVAL,
				   "%s \"%.16s...\" has %zu characters: expected 1..%d",
				   what, s, len, DMM_NAME_MAX - 1);
	if (strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		      "0123456789_-") != len)
		return dmm_err_set(err, -EINVAL,
				   "%s \"%s\": expected only letters, digits, _ and -",
				   what, s);
	/* Names become file names and arguments. */
	if (*s == '-')
		return dmm_err_set(err, -EINVAL,
				   "%s \"%s\": must begin with a letter, a digit or _",
				   what, s);
	return 0;
}

/* Digits only, no sign, no blanks, no overflow. */
static int number(const char *s, const char **end, __u32 *out)
{
	unsigned long long v = 0;
	const char *p;

	for (p = s; *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (*p - '0');
		if (v > UINT32_MAX)
			return -ERANGE;
	}
	if (p == s)
		return -EINVAL;
	*end = p;
	*out = v;
	return 0;
}

int dmm_parse_u32(const char *what, const char *s, __u32 min, __u32 max,
		  __u32 *out, struct dmm_err *err)
{
	const char *end;
	__u32 v;

	if (number(s, &end, &v) || *end || v < min || v > max)
		return dmm_err_set(err, -EINVAL, "%s \"" SHOWN
				   "\": expected a number %u..%u", what, s, min, max);
	*out = v;
	return 0;
}

int dmm_parse_ports(const char *what, const char *s, __u16 *min, __u16 *max,
		    struct dmm_err *err)
{
	const char *end;
	__u32 a, b;

	if (number(s, &end, &a))
		goto bad;
	b = a;
	if (*end == '-' && number(end + 1, &end, &b))
		goto bad;
	if (*end || !a || a > 65535 || !b || b > 65535)
		goto bad;
	if (a > b)
		return dmm_err_set(err, -EINVAL,
				   "%s " SHOWN ": the range ends before it begins",
				   what, s);
	*min = a;
	*max = b;
	return 0;
bad:
	return dmm_err_set(err, -EINVAL, "%s " SHOWN
			   ": expected a port 1..65535, or a range such as 8000-8010",
			   what, s);
}

/* @addr and all-ones of @len bits, by 32-bit words in network order. */
static void mask_make(__u32 *mask, __u32 len)
{
	__u32 i, bits;

	for (i = 0; i < 4; i++) {
		bits = len > 32 ? 32 : len;
		mask[i] = htonl(bits ? ~0U << (32 - bits) : 0);
		len -= bits;
	}
}

int dmm_parse_prefix(const char *what, const char *s, struct dmm_prefix *out,
		     struct dmm_err *err)
{
	const char *slash = strchr(s, '/'), *end;
	char host[64], shown[INET6_ADDRSTRLEN];
	struct in6_addr mapped;
	__u32 max, masked[4];
	int i;

	memset(out, 0, sizeof(*out));
	snprintf(host, sizeof(host), "%.*s", slash ? (int)(slash - s) : 63, s);
	out->family = strchr(host, ':') ? AF_INET6 : AF_INET;
	max = out->family == AF_INET6 ? 128 : 32;
	if (inet_pton(out->family, host, out->addr) != 1)
		return dmm_err_set(err, -EINVAL, "%s " SHOWN
				   ": expected a prefix such as 10.0.0.0/8 or 2001:db8::/32",
				   what, s);
	out->len = max;
	if (slash && (number(slash + 1, &end, &out->len) || *end || out->len > max))
		return dmm_err_set(err, -EINVAL, "%s " SHOWN
				   ": the length of an IPv%d prefix is 0..%u", what, s,
				   max == 32 ? 4 : 6, max);
	memcpy(&mapped, out->addr, sizeof(mapped));
	if (max == 128 && out->len >= 96 && IN6_IS_ADDR_V4MAPPED(&mapped))
		return dmm_err_set(err, -EINVAL, "%s " SHOWN
				   ": such sockets are matched as IPv4; the prefix is %s/%u",
				   what, s, inet_ntop(AF_INET, &out->addr[3], shown,
						      sizeof(shown)), out->len - 96);

	mask_make(out->mask, out->len);
	for (i = 0; i < 4; i++)
		masked[i] = out->addr[i] & out->mask[i];
	inet_ntop(out->family, masked, shown, sizeof(shown));
	if (memcmp(masked, out->addr, sizeof(masked)))
		return dmm_err_set(err, -EINVAL, "%s " SHOWN
				   ": bits are set beyond the length; the prefix is %s/%u",
				   what, s, shown, out->len);
	if (out->len == max)
		snprintf(out->text, sizeof(out->text), "%s", shown);
	else
		snprintf(out->text, sizeof(out->text), "%s/%u", shown, out->len);
	return 0;
}
