// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "err.h"

void dmm_err_clean(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

int dmm_err_set(struct dmm_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	*err->where = 0;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	dmm_err_clean(err->msg);
	return code;
}

void dmm_err_within(struct dmm_err *err, const char *fmt, ...)
{
	char inner[sizeof(err->where)];
	size_t len;
	va_list ap;

	if (!err)
		return;
	strcpy(inner, err->where);
	va_start(ap, fmt);
	vsnprintf(err->where, sizeof(err->where), fmt, ap);
	va_end(ap);
	len = strlen(err->where);
	if (*inner && len < sizeof(err->where) - 1)
		snprintf(err->where + len, sizeof(err->where) - len, "/%.*s",
			 (int)(sizeof(err->where) - len - 2), inner);
	dmm_err_clean(err->where);
}
