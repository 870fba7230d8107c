// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rule.h"
#include "stack.h"

static int fallback_parse(const char *s, struct dmm_rule *bpf, const char *stack,
			  struct dmm_err *err)
{
	if (!s || !strcmp(s, "kernel"))
		return 0;
	if (strcmp(s, "reject"))
		dmm_err_set(err, -EINVAL, "fallback %.64s: expected kernel or reject", s);
	else if (!strcmp(stack, "kernel"))
		dmm_err_set(err, -EINVAL,
			    "fallback reject: the kernel's own stack has nothing to fall back from");
	else {
		bpf->flags |= DMM_RULE_F_REJECT;
		return 0;
	}
	dmm_err_within(err, "fallback");
	return -EINVAL;
}

int dmm_rule_bind(struct dmm_daemon *d, struct dmm_rule_entry *r, struct dmm_err *err)
{
	struct dmm_stack *s;

	r->bpf.stack = DMM_STACK_KERNEL;
	if (!strcmp(r->stack, "kernel"))
		return 0;
	s = dmm_stack_find(d, r->stack);
	if (!s || !s->committed || s->deleting)
		return dmm_err_set(err, -ENOENT, "stack %.64s: no such stack", r->stack);
	r->bpf.stack = s->id;
	return 0;
}

int dmm_rule_new(struct dmm_daemon *d, const struct dmm_rule_spec *spec, bool any_stack,
		 struct dmm_rule_entry **out, struct dmm_err *err)
{
	struct dmm_rule_entry *r;
	int ret;

	if (strlen(spec->stack) >= sizeof(r->stack)) {
		dmm_err_set(err, -ENOENT, "stack %.64s: no such stack", spec->stack);
		dmm_err_within(err, "stack");
		return -ENOENT;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	snprintf(r->stack, sizeof(r->stack), "%s", spec->stack);
	ret = any_stack ? 0 : dmm_rule_bind(d, r, err);
	if (ret) {
		dmm_err_within(err, "stack");
		goto err_free;
	}
	ret = fallback_parse(spec->fallback, &r->bpf, spec->stack, err);
	if (ret)
		goto err_free;
	ret = dmm_match_parse(&spec->match, &r->bpf, &r->cg, &r->match, err);
	if (ret) {
		dmm_err_within(err, "match");
		goto err_free;
	}
	*out = r;
	return 0;

err_free:
	free(r);
	return ret;
}

bool dmm_rule_rejects(const struct dmm_rule_entry *r)
{
	return r->bpf.flags & DMM_RULE_F_REJECT;
}

void dmm_rule_free(struct dmm_rule_entry *r)
{
	dmm_cgroup_release(&r->cg);
	json_object_put(r->match);
	free(r);
}

struct dmm_rule_entry *dmm_rule_find(struct dmm_daemon *d, uint32_t id)
{
	struct dmm_rule_entry *r;

	TAILQ_FOREACH(r, &d->rules, entry)
		if (r->bpf.id == id)
			return r;
	return NULL;
}

unsigned int dmm_rule_count(struct dmm_daemon *d)
{
	struct dmm_rule_entry *r;
	unsigned int n = 0;

	TAILQ_FOREACH(r, &d->rules, entry)
		n++;
	return n;
}

int dmm_rule_insert(struct dmm_daemon *d, struct dmm_rule_entry *r,
		    struct dmm_rule_entry *before, struct dmm_err *err)
{
	int ret;

	if (dmm_rule_count(d) >= DMM_RULES_MAX)
		return dmm_err_set(err, -ENOSPC, "there are %d rules already",
				   DMM_RULES_MAX);
	r->bpf.id = d->next_rule_id;
	ret = dmm_policy_stats_add(d->policy, r->bpf.id, err);
	if (ret)
		return ret;
	if (before)
		TAILQ_INSERT_BEFORE(before, r, entry);
	else
		TAILQ_INSERT_TAIL(&d->rules, r, entry);
	d->next_rule_id++;
	ret = dmm_rules_commit(d, err);
	if (ret) {
		TAILQ_REMOVE(&d->rules, r, entry);
		dmm_rules_commit(d, NULL);
		dmm_policy_stats_del(d->policy, r->bpf.id);
	}
	return ret;
}

int dmm_rule_remove(struct dmm_daemon *d, struct dmm_rule_entry *r,
		    struct dmm_err *err)
{
	struct dmm_rule_entry *next = TAILQ_NEXT(r, entry);
	int ret;

	TAILQ_REMOVE(&d->rules, r, entry);
	ret = dmm_rules_commit(d, err);
	if (ret) {
		if (next)
			TAILQ_INSERT_BEFORE(next, r, entry);
		else
			TAILQ_INSERT_TAIL(&d->rules, r, entry);
		dmm_rules_commit(d, NULL);
		return ret;
	}
	dmm_policy_stats_del(d->policy, r->bpf.id);
	dmm_rule_free(r);
	return 0;
}

int dmm_rule_move(struct dmm_daemon *d, struct dmm_rule_entry *r,
		  struct dmm_rule_entry *before, struct dmm_err *err)
{
	struct dmm_rule_entry *next = TAILQ_NEXT(r, entry);
	int ret;

	TAILQ_REMOVE(&d->rules, r, entry);
	TAILQ_INSERT_BEFORE(before, r, entry);
	ret = dmm_rules_commit(d, err);
	if (!ret)
		return 0;
	TAILQ_REMOVE(&d->rules, r, entry);
	if (next)
		TAILQ_INSERT_BEFORE(next, r, entry);
	else
		TAILQ_INSERT_TAIL(&d->rules, r, entry);
	dmm_rules_commit(d, NULL);
	return ret;
}

void dmm_rules_free(struct dmm_rules *rules)
{
	struct dmm_rule_entry *r;

	while ((r = TAILQ_FIRST(rules))) {
		TAILQ_REMOVE(rules, r, entry);
		dmm_rule_free(r);
	}
}

/* Do two rules say the same? Ids and counters apart. */
static bool same(const struct dmm_rule_entry *a, const struct dmm_rule_entry *b)
{
	struct dmm_rule x = a->bpf, y = b->bpf;

	x.id = y.id = 0;
	return !memcmp(&x, &y, sizeof(x)) && json_object_equal(a->match, b->match);
}

static struct dmm_rule_entry *id_find(struct dmm_rules *rules, uint32_t id)
{
	struct dmm_rule_entry *r;

	TAILQ_FOREACH(r, rules, entry)
		if (r->bpf.id == id)
			return r;
	return NULL;
}

/* Ids for @rules: those of the rules in force that say the same, else new ones. */
static int ids_give(struct dmm_daemon *d, struct dmm_rules *rules, struct dmm_err *err)
{
	struct dmm_rule_entry *r, *old;
	unsigned int n = 0;
	int ret;

	TAILQ_FOREACH(r, rules, entry) {
		if (++n > DMM_RULES_MAX)
			return dmm_err_set(err, -ENOSPC, "there are more than %d rules",
					   DMM_RULES_MAX);
		TAILQ_FOREACH(old, &d->rules, entry)
			if (same(r, old) && !id_find(rules, old->bpf.id))
				break;
		if (old) {
			r->bpf.id = old->bpf.id;
			continue;
		}
		ret = dmm_policy_stats_add(d->policy, d->next_rule_id, err);
		if (ret)
			return ret;
		r->bpf.id = d->next_rule_id++;
	}
	return 0;
}

/* Remove the counters of those of @gone that are not in force. */
static void stats_drop(struct dmm_daemon *d, struct dmm_rules *gone)
{
	struct dmm_rule_entry *r;

	TAILQ_FOREACH(r, gone, entry)
		if (r->bpf.id && !dmm_rule_find(d, r->bpf.id))
			dmm_policy_stats_del(d->policy, r->bpf.id);
}

static void swap(struct dmm_daemon *d, struct dmm_rules *rules,
		 struct dmm_attachments *attachments)
{
	struct dmm_attachments a = TAILQ_HEAD_INITIALIZER(a);
	struct dmm_rules r = TAILQ_HEAD_INITIALIZER(r);

	TAILQ_CONCAT(&r, &d->rules, entry);
	TAILQ_CONCAT(&d->rules, rules, entry);
	TAILQ_CONCAT(rules, &r, entry);
	if (!attachments)
		return;
	TAILQ_CONCAT(&a, &d->attachments, entry);
	TAILQ_CONCAT(&d->attachments, attachments, entry);
	TAILQ_CONCAT(attachments, &a, entry);
}

int dmm_rules_replace(struct dmm_daemon *d, struct dmm_rules *rules,
		      struct dmm_attachments *attachments, struct dmm_err *err)
{
	int ret;

	ret = ids_give(d, rules, err);
	if (!ret) {
		swap(d, rules, attachments);
		ret = dmm_rules_commit(d, err);
		if (ret) {
			swap(d, rules, attachments);
			dmm_rules_commit(d, NULL);
		}
	}
	stats_drop(d, rules);
	dmm_rules_free(rules);
	if (attachments)
		dmm_attachments_free(attachments);
	return ret;
}

static bool rule_known(uint32_t id, void *data)
{
	return dmm_rule_find(data, id);
}

int dmm_rules_restore(struct dmm_daemon *d, struct dmm_err *err)
{
	struct dmm_rule_stats sum;
	struct dmm_rule_entry *r;
	int ret;

	TAILQ_FOREACH(r, &d->rules, entry) {
		if (!dmm_policy_stats_get(d->policy, r->bpf.id, &sum))
			continue;
		ret = dmm_policy_stats_add(d->policy, r->bpf.id, err);
		if (ret)
			return ret;
	}
	ret = dmm_rules_commit(d, err);
	if (!ret)
		dmm_policy_stats_prune(d->policy, rule_known, d);
	return ret;
}

struct json_object *dmm_rules_json(struct dmm_daemon *d)
{
	struct json_object *a = json_object_new_array(), *o;
	struct dmm_rule_stats sum;
	struct dmm_rule_entry *r;
	int fd;

	TAILQ_FOREACH(r, &d->rules, entry) {
		o = json_object_new_object();
		json_object_object_add(o, "id", json_object_new_int64(r->bpf.id));
		if (r->cg.path) {
			fd = dmm_cgroup_open(&r->cg);
			json_object_object_add(o, "cgroup_gone",
					       json_object_new_boolean(fd < 0));
			if (fd >= 0)
				close(fd);
		}
		json_object_object_add(o, "match", json_object_get(r->match));
		json_object_object_add(o, "stack", json_object_new_string(r->stack));
		json_object_object_add(o, "fallback", json_object_new_string(
			dmm_rule_rejects(r) ? "reject" : "kernel"));
		dmm_policy_stats_get(d->policy, r->bpf.id, &sum);
		json_object_object_add(o, "hits", json_object_new_uint64(sum.hits));
		json_object_array_add(a, o);
	}
	return a;
}

struct json_object *dmm_rules_explain(struct dmm_daemon *d,
				      const struct dmm_match_socket *s)
{
	const struct dmm_cgroup *cg = dmm_match_socket_cgroup(s);
	struct json_object *o = json_object_new_object(), *step;
	struct json_object *steps = json_object_new_array();
	bool covered = !cg || dmm_cgroup_covered(d, cg);
	struct dmm_rule_entry *r;
	struct dmm_stack *stack;
	__u32 bit;

	TAILQ_FOREACH(r, &d->rules, entry) {
		if (!covered)
			break;
		step = json_object_new_object();
		json_object_array_add(steps, step);
		json_object_object_add(step, "id", json_object_new_int64(r->bpf.id));
		json_object_object_add(step, "match", json_object_get(r->match));
		bit = dmm_match_try(&r->bpf, s);
		json_object_object_add(step, "takes", json_object_new_boolean(!bit));
		if (!bit)
			break;
		json_object_object_add(step, "differs",
				       json_object_new_string(dmm_match_word(bit)));
		json_object_object_add(step, "given", json_object_new_boolean(
			dmm_match_given(s, bit)));
	}
	if (!covered)
		r = NULL;
	stack = r ? dmm_stack_find(d, r->stack) : NULL;
	json_object_object_add(o, "covered", json_object_new_boolean(covered));
	json_object_object_add(o, "rule", r ? json_object_new_int64(r->bpf.id) : NULL);
	json_object_object_add(o, "stack", json_object_new_string(r ? r->stack :
								     "kernel"));
	if (stack) {
		json_object_object_add(o, "state", json_object_new_string(
			dmm_stack_state_name(stack)));
		json_object_object_add(o, "fallback", json_object_new_string(
			dmm_rule_rejects(r) ? "reject" : "kernel"));
	}
	json_object_object_add(o, "tried", steps);
	return o;
}
