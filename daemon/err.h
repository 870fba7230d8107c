/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An error as people see it: a negative errno and one clear sentence, which says
 * what was wrong, where, and what was expected.
 */
#ifndef DMM_ERR_H
#define DMM_ERR_H

struct dmm_err {
	int code;		/* -errno, 0 while there is none */
	char msg[512];		/* one line, printable */
	char where[64];		/* the part of the input, "rules/2/match/dport", or "" */
};

/*
 * Fill @err (may be NULL) and return @code, so that a caller can write
 * `return dmm_err_set(err, -EINVAL, ...)`. What is not printable in the sentence
 * becomes '?': parts of it come from others.
 */
int dmm_err_set(struct dmm_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The part that @err is about lies in @outer: "dport" becomes "OUTER/dport". */
void dmm_err_within(struct dmm_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Make @s, of others, one printable line. */
void dmm_err_clean(char *s);

#endif
