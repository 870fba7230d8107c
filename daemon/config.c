// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "parse.h"
#include "rule.h"
#include "stack.h"

#define N(table) (sizeof(table) / sizeof((table)[0]))

/* On its way to being in force, or to being dropped. */
struct plan {
	struct dmm_daemon *d;
	struct dmm_rpc_call *call;
	struct dmm_rules rules;
	struct dmm_attachments attachments;
	struct json_object *names;	/* of all stacks that stay or come: a set */
	unsigned int waiting;		/* stacks that start or stop, and ourselves */
	bool failed, swapped;
	struct dmm_err err;		/* the first thing that went wrong */
};

static void add_str(struct json_object *o, const char *key, const char *v)
{
	if (v)
		json_object_object_add(o, key, json_object_new_string(v));
}

struct json_object *dmm_config_json(struct dmm_daemon *d)
{
	struct json_object *o = json_object_new_object(), *v;
	struct json_object *stacks = json_object_new_array();
	struct json_object *cgroups = json_object_new_array();
	struct json_object *rules = json_object_new_array();
	struct dmm_attachment *a;
	struct dmm_rule_entry *r;
	struct dmm_stack *s;

	TAILQ_FOREACH(s, &d->stacks, entry) {
		if (!s->committed || s->deleting)
			continue;
		v = json_object_new_object();
		add_str(v, "name", s->name);
		add_str(v, "type", s->type);
		add_str(v, "dev", s->dev);
		add_str(v, "netns", s->netns);
		dmm_stack_opts_json(&s->opts, v);
		json_object_array_add(stacks, v);
	}
	TAILQ_FOREACH(a, &d->attachments, entry)
		json_object_array_add(cgroups, json_object_new_string(a->cg.path));
	TAILQ_FOREACH(r, &d->rules, entry) {
		v = json_object_new_object();
		json_object_object_add(v, "match", json_object_get(r->match));
		add_str(v, "stack", r->stack);
		add_str(v, "fallback", dmm_rule_rejects(r) ? "reject" : NULL);
		json_object_array_add(rules, v);
	}
	json_object_object_add(o, "stacks", stacks);
	json_object_object_add(o, "cgroups", cgroups);
	json_object_object_add(o, "rules", rules);
	return o;
}

/* ------------------------------------------------------------------------- */

/* The array @key of @config, or NULL when there is none. */
static int list_get(struct json_object *config, const char *key,
		    struct json_object **out, struct dmm_err *err)
{
	*out = NULL;
	if (!json_object_object_get_ex(config, key, out) || !*out)
		return 0;
	if (json_object_is_type(*out, json_type_array))
		return 0;
	dmm_err_set(err, -EINVAL, "%s: expected a list", key);
	dmm_err_within(err, "%s", key);
	return -EINVAL;
}

/* Is what runs under the name what the configuration wants? */
static int stack_same(const struct dmm_stack *s, const struct dmm_stack_spec *spec,
		      struct dmm_err *err)
{
	struct dmm_stack_opts opts;
	struct json_object *o;
	char words[128] = "";
	size_t len = 0;
	int ret;

	ret = dmm_stack_opts_parse(spec, &opts, err);
	if (ret)
		return ret;
	if (!strcmp(s->type, spec->type) && !strcmp(s->dev, spec->dev) &&
	    !strcmp(s->netns ?: "", spec->netns ?: "") &&
	    s->opts.route_own == opts.route_own &&
	    s->opts.strict_filters == opts.strict_filters &&
	    s->opts.watchdog == opts.watchdog)
		return 0;
	o = json_object_new_object();
	dmm_stack_opts_json(&s->opts, o);
	json_object_object_foreach(o, key, val)
		len += snprintf(words + len, sizeof(words) - len, " %s=%s", key,
				json_object_get_string(val));
	json_object_put(o);
	return dmm_err_set(err, -EEXIST,
			   "stack %s: runs already, as type=%s dev=%s%s%s%s; delete it first",
			   s->name, s->type, s->dev, s->netns ? " netns=" : "",
			   s->netns ?: "", words);
}

/* One stack: there already, or made, but not started. */
static int stack_plan(struct plan *p, struct json_object *o, struct dmm_err *err)
{
	struct dmm_param table[DMM_STACK_PARAMS];
	struct dmm_stack_spec spec;
	struct dmm_stack *s;
	int ret;

	dmm_stack_params(&spec, table);
	ret = dmm_parse_params(o, "stack", table, N(table), err);
	if (ret)
		return ret;
	if (json_object_object_get_ex(p->names, spec.name, NULL))
		return dmm_err_set(err, -EEXIST, "stack %.64s: named twice", spec.name);
	json_object_object_add(p->names, spec.name, NULL);
	s = dmm_stack_find(p->d, spec.name);
	if (s)
		return stack_same(s, &spec, err);
	ret = dmm_stack_new(p->d, &spec, &s, err);
	if (!ret)
		s->plan = p;
	return ret;
}

static int rule_plan(struct plan *p, struct json_object *o, struct dmm_err *err)
{
	struct dmm_rule_spec spec = {};
	const struct dmm_param table[] = {
		{ "stack", &spec.stack, true },	{ "fallback", &spec.fallback, false },
	};
	struct dmm_param match[DMM_MATCH_PARAMS];
	struct json_object *m = NULL, *rest = NULL;
	struct dmm_rule_entry *r;
	int ret;

	dmm_match_params(&spec.match, match);
	if (!json_object_is_type(o, json_type_object))
		return dmm_err_set(err, -EINVAL, "a rule is an object");
	rest = json_object_new_object();
	json_object_object_foreach(o, key, val) {
		if (!strcmp(key, "match"))
			m = val;
		else
			json_object_object_add(rest, key, json_object_get(val));
	}
	ret = dmm_parse_params(m, "match", match, N(match), err);
	if (!ret)
		ret = dmm_parse_params(rest, "rule", table, N(table), err);
	if (!ret && strcmp(spec.stack, "kernel") &&
	    !json_object_object_get_ex(p->names, spec.stack, NULL)) {
		ret = dmm_err_set(err, -ENOENT, "stack %.64s: is not among the stacks",
				  spec.stack);
		dmm_err_within(err, "stack");
	}
	if (!ret)
		ret = dmm_rule_new(p->d, &spec, true, &r, err);
	json_object_put(rest);
	if (!ret)
		TAILQ_INSERT_TAIL(&p->rules, r, entry);
	return ret;
}

static int cgroup_plan(struct plan *p, struct json_object *o, struct dmm_err *err)
{
	struct dmm_attachment *a, *other;
	int ret;

	if (!json_object_is_type(o, json_type_string))
		return dmm_err_set(err, -EINVAL, "a cgroup is a path");
	ret = dmm_attachment_new(json_object_get_string(o), &a, err);
	if (ret)
		return ret;
	TAILQ_FOREACH(other, &p->attachments, entry)
		if (other->cg.id == a->cg.id)
			ret = dmm_err_set(err, -EEXIST, "cgroup %s: named twice",
					  a->cg.path);
	TAILQ_INSERT_TAIL(&p->attachments, a, entry);
	return ret;
}

static int list_plan(struct plan *p, struct json_object *config, const char *key,
		     int (*fn)(struct plan *p, struct json_object *o,
			       struct dmm_err *err), struct dmm_err *err)
{
	struct json_object *list;
	size_t i;
	int ret;

	ret = list_get(config, key, &list, err);
	for (i = 0; !ret && list && i < json_object_array_length(list); i++) {
		ret = fn(p, json_object_array_get_idx(list, i), err);
		if (ret)
			dmm_err_within(err, "%s/%zu", key, i);
	}
	return ret;
}

/* Forget stacks of @p that were never started. */
static void stacks_drop(struct plan *p)
{
	struct dmm_stack *s, *next;

	for (s = TAILQ_FIRST(&p->d->stacks); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (s->plan == p)
			dmm_stack_free(s);
	}
}

static void plan_free(struct plan *p)
{
	dmm_rules_free(&p->rules);
	dmm_attachments_free(&p->attachments);
	json_object_put(p->names);
	free(p);
}

/* Everything is looked at, and made that can be made without effect. */
static int plan_new(struct dmm_daemon *d, struct json_object *config, struct plan **out,
		    struct dmm_err *err)
{
	struct json_object *unused;
	const char *s;
	const struct dmm_param table[] = {
		{ "stacks", &s, false }, { "cgroups", &s, false }, { "rules", &s, false },
	};
	struct dmm_stack *stack;
	struct plan *p;
	int ret;

	if (d->shutting_down)
		return dmm_err_set(err, -ESHUTDOWN, "the daemon is shutting down");
	TAILQ_FOREACH(stack, &d->stacks, entry)
		if (!stack->committed || stack->state == DMM_STACK_STOPPING || stack->call)
			return dmm_err_set(err, -EBUSY,
					   "stack %s: it is changing just now", stack->name);
	if (!json_object_is_type(config, json_type_object))
		return dmm_err_set(err, -EINVAL, "a configuration is an object");
	/* Only to say which names there are. */
	unused = json_object_new_object();
	json_object_object_foreach(config, key, val) {
		if (json_object_is_type(val, json_type_array))
			json_object_object_add(unused, key, json_object_new_string(""));
		else
			json_object_object_add(unused, key, json_object_get(val));
	}
	ret = dmm_parse_params(unused, "configuration", table, N(table), err);
	json_object_put(unused);
	if (ret)
		return ret;

	p = calloc(1, sizeof(*p));
	if (!p)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	p->d = d;
	TAILQ_INIT(&p->rules);
	TAILQ_INIT(&p->attachments);
	p->names = json_object_new_object();
	ret = list_plan(p, config, "stacks", stack_plan, err);
	if (!ret)
		ret = list_plan(p, config, "cgroups", cgroup_plan, err);
	if (!ret)
		ret = list_plan(p, config, "rules", rule_plan, err);
	if (ret) {
		stacks_drop(p);
		plan_free(p);
		return ret;
	}
	*out = p;
	return 0;
}

int dmm_config_check(struct dmm_daemon *d, struct json_object *config,
		     struct dmm_err *err)
{
	struct plan *p;
	int ret;

	ret = plan_new(d, config, &p, err);
	if (ret)
		return ret;
	stacks_drop(p);
	plan_free(p);
	return 0;
}

/* ------------------------------------------------------------------------- */

static void on_stack(struct dmm_stack *s, const char *error, void *data);

static void stack_stop(struct plan *p, struct dmm_stack *s)
{
	p->waiting++;
	s->plan = NULL;
	s->done = on_stack;
	s->done_data = p;
	s->deleting = true;
	dmm_stack_stop(s);
}

/* The new stacks are up: exchange the rest. */
static int plan_swap(struct plan *p)
{
	struct dmm_rule_entry *r;
	int ret;

	TAILQ_FOREACH(r, &p->rules, entry) {
		ret = dmm_rule_bind(p->d, r, &p->err);
		if (ret)
			return ret;
	}
	return dmm_rules_replace(p->d, &p->rules, &p->attachments, &p->err);
}

/* Stop the stacks that came with @p, or those that it does not know. */
static void stacks_stop(struct plan *p, bool ours)
{
	struct dmm_stack *s, *next;

	for (s = TAILQ_FIRST(&p->d->stacks); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (s->state == DMM_STACK_STOPPING)
			continue;
		if (ours ? s->plan == p :
			   !json_object_object_get_ex(p->names, s->name, NULL))
			stack_stop(p, s);
	}
}

/* One thing less to wait for. */
static void plan_put(struct plan *p)
{
	struct dmm_daemon *d = p->d;
	struct dmm_stack *s;

	if (--p->waiting)
		return;
	if (!p->failed && !p->swapped) {
		p->waiting = 1;
		if (plan_swap(p))
			p->failed = true;
		p->swapped = true;
		stacks_stop(p, p->failed);
		if (--p->waiting)
			return;
	} else if (p->failed && !p->swapped) {
		p->swapped = true;	/* not again */
		p->waiting = 1;
		stacks_stop(p, true);
		if (--p->waiting)
			return;
	}
	TAILQ_FOREACH(s, &d->stacks, entry)
		if (s->plan == p)
			s->plan = NULL;
	d->applying = false;
	if (p->failed)
		dmm_rpc_fail(p->call, &p->err);
	else
		dmm_rpc_reply(p->call, NULL);
	plan_free(p);
}

static void on_stack(struct dmm_stack *s, const char *error, void *data)
{
	struct plan *p = data;

	/* An orderly end counts as one, however it went. */
	if (error && !s->deleting) {
		s->plan = NULL;		/* it forgets itself */
		if (!p->failed)
			dmm_err_set(&p->err, -EIO, "stack %s: %s", s->name, error);
		p->failed = true;
	}
	plan_put(p);
}

void dmm_config_apply(struct dmm_daemon *d, struct json_object *config,
		      struct dmm_rpc_call *call)
{
	struct dmm_stack *s, *next;
	struct dmm_err err;
	struct plan *p;

	if (plan_new(d, config, &p, &err)) {
		dmm_rpc_fail(call, &err);
		return;
	}
	d->applying = true;
	p->call = call;
	p->waiting = 1;
	for (s = TAILQ_FIRST(&d->stacks); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (s->plan != p)
			continue;
		p->waiting++;
		s->done = on_stack;
		s->done_data = p;
		dmm_stack_start(s);	/* may have freed it */
	}
	plan_put(p);
}
