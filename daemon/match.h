/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The match of a rule: from the words that people write to what the policy
 * programs see, and a socket in the same words, for `rule explain`.
 */
#ifndef DMM_DAEMON_MATCH_H
#define DMM_DAEMON_MATCH_H

#include <json-c/json.h>
#include <linux/types.h>

#include "cgroup.h"
#include "dmm_bpf.h"
#include "err.h"
#include "parse.h"

/* Strings are borrowed; NULL when not given. */
struct dmm_match_spec {
	const char *cgroup, *uid, *comm, *proto, *dir, *src, *dst, *sport, *dport;
};

#define DMM_MATCH_PARAMS 9

/* The table by which dmm_parse_params() fills @spec. */
void dmm_match_params(struct dmm_match_spec *spec,
		      struct dmm_param table[DMM_MATCH_PARAMS]);

/*
 * Fill the match of @rule. @cg is resolved (dmm_cgroup_release()) when @spec names
 * a cgroup. *@words gets the same as an object of strings, in one spelling, to be
 * put; the cgroup in it is the canonical path.
 */
int dmm_match_parse(const struct dmm_match_spec *spec, struct dmm_rule *rule,
		    struct dmm_cgroup *cg, struct json_object **words,
		    struct dmm_err *err);

/* The word for a DMM_MATCH_* bit. */
const char *dmm_match_word(__u32 bit);

/*
 * A socket as somebody describes it: addresses instead of prefixes, one port
 * instead of a range.
 */
struct dmm_match_socket;

int dmm_match_socket_new(const struct dmm_match_spec *spec,
			 struct dmm_match_socket **out, struct dmm_err *err);
void dmm_match_socket_free(struct dmm_match_socket *s);

/* Its cgroup, or NULL when none was given. */
const struct dmm_cgroup *dmm_match_socket_cgroup(const struct dmm_match_socket *s);

/* 0 when @rule would take @s, else the DMM_MATCH_* bit that does not agree. */
__u32 dmm_match_try(const struct dmm_rule *rule, const struct dmm_match_socket *s);

/* Does the description say anything that bears on DMM_MATCH_* @bit? */
bool dmm_match_given(const struct dmm_match_socket *s, __u32 bit);

#endif
