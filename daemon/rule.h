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
#include "match.h"

struct dmm_rule_entry {
	TAILQ_ENTRY(dmm_rule_entry) entry;
	char stack[DMM_NAME_MAX];
	struct dmm_cgroup cg;		/* path NULL when the rule names none */
	struct json_object *match;	/* the words, in one spelling */
	struct dmm_rule bpf;		/* what the programs see; has the id */
};

/* Strings are borrowed; NULL when not given. */
struct dmm_rule_spec {
	struct dmm_match_spec match;
	const char *stack, *fallback;
};

/*
 * Check everything and make an entry that is in no list and has no id. The stack is
 * looked for by name among those that are there; @any_stack leaves that, and the
 * number of the stack, to later (dmm_rule_bind()).
 */
int dmm_rule_new(struct dmm_daemon *d, const struct dmm_rule_spec *spec,
		 bool any_stack, struct dmm_rule_entry **out, struct dmm_err *err);
int dmm_rule_bind(struct dmm_daemon *d, struct dmm_rule_entry *r, struct dmm_err *err);
bool dmm_rule_rejects(const struct dmm_rule_entry *r);
void dmm_rule_free(struct dmm_rule_entry *r);

struct dmm_rule_entry *dmm_rule_find(struct dmm_daemon *d, uint32_t id);
unsigned int dmm_rule_count(struct dmm_daemon *d);

/* Put @r before @before, or last; give it an id. Undone by itself on failure. */
int dmm_rule_insert(struct dmm_daemon *d, struct dmm_rule_entry *r,
		    struct dmm_rule_entry *before, struct dmm_err *err);
/* Take @r out and free it; on failure it stays. */
int dmm_rule_remove(struct dmm_daemon *d, struct dmm_rule_entry *r,
		    struct dmm_err *err);
/* Put @r before @before, which is another; on failure it stays where it was. */
int dmm_rule_move(struct dmm_daemon *d, struct dmm_rule_entry *r,
		  struct dmm_rule_entry *before, struct dmm_err *err);

/*
 * Put whole lists in the place of those in force, in one change; @attachments may be
 * NULL for those that are. A new rule that says the same as an old one takes its id
 * and its counters. The lists that are no longer wanted are freed: the old ones, or
 * on failure the new ones. Both arguments are empty lists then.
 */
int dmm_rules_replace(struct dmm_daemon *d, struct dmm_rules *rules,
		      struct dmm_attachments *attachments, struct dmm_err *err);
void dmm_rules_free(struct dmm_rules *rules);
void dmm_attachments_free(struct dmm_attachments *list);

/* A cgroup attached by name: likewise. dmm_attachment_new() is in no list. */
int dmm_attachment_new(const char *path, struct dmm_attachment **out,
		       struct dmm_err *err);
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

/* Do programs run for @cg, because of it or of one above? */
bool dmm_cgroup_covered(struct dmm_daemon *d, const struct dmm_cgroup *cg);

/* At start: counters for each rule, none for others, then commit. */
int dmm_rules_restore(struct dmm_daemon *d, struct dmm_err *err);

struct json_object *dmm_rules_json(struct dmm_daemon *d);
/* Which rule would take @s, and why none before it: see dmmd(8). */
struct json_object *dmm_rules_explain(struct dmm_daemon *d,
				      const struct dmm_match_socket *s);
struct json_object *dmm_cgroups_json(struct dmm_daemon *d);

#endif
