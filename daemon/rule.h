/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules in their order, and the cgroups under them.
 *
 * A change is made to the lists first and then brought into the kernel and the
 * state file by dmm_rules_commit(); when that fails, the caller undoes its change
 * and commits again.
 */
#ifndef DMM_RULE_H
#define DMM_RULE_H

#include <json-c/json.h>
#include <linux/dmm.h>

#include "daemon.h"

struct dmm_rule_entry {
	TAILQ_ENTRY(dmm_rule_entry) entry;
	char stack[DMM_NAME_MAX];
	struct dmm_cgroup cg;		/* path NULL when the rule names none */
	char dst[64], dport[16];	/* as they were given, "" when not */
	struct dmm_rule bpf;		/* what the programs see; has the id */
};

/* Strings are borrowed; NULL when not given. */
struct dmm_rule_spec {
	const char *cgroup, *dst, *dport, *proto, *dir, *stack;
};

/* Check everything and make an entry that is in no list and has no id. */
int dmm_rule_new(struct dmm_daemon *d, const struct dmm_rule_spec *spec,
		 struct dmm_rule_entry **out, struct dmm_err *err);
void dmm_rule_free(struct dmm_rule_entry *r);

struct dmm_rule_entry *dmm_rule_find(struct dmm_daemon *d, uint32_t id);
unsigned int dmm_rule_count(struct dmm_daemon *d);

/* Put @r before @before, or last; give it an id. Undone by itself on failure. */
int dmm_rule_insert(struct dmm_daemon *d, struct dmm_rule_entry *r,
		    struct dmm_rule_entry *before, struct dmm_err *err);
/* Take @r out and free it; on failure it stays. */
int dmm_rule_remove(struct dmm_daemon *d, struct dmm_rule_entry *r,
		    struct dmm_err *err);

/* A cgroup attached by name: likewise. */
int dmm_attachment_add(struct dmm_daemon *d, const char *path, struct dmm_err *err);
int dmm_attachment_del(struct dmm_daemon *d, const char *path, struct dmm_err *err);

/*
 * Make the kernel agree with the lists: links, then the rule set, then the state
 * file.
 *
 * A program attached to a cgroup runs for everything below it as well, so a link
 * stands only at the topmost of the cgroups that are wanted.
 */
int dmm_rules_commit(struct dmm_daemon *d, struct dmm_err *err);

/* At start: counters for each rule, none for others, then commit. */
int dmm_rules_restore(struct dmm_daemon *d, struct dmm_err *err);

struct json_object *dmm_rules_json(struct dmm_daemon *d);
struct json_object *dmm_cgroups_json(struct dmm_daemon *d);

#endif
