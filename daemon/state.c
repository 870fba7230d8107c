// SPDX-License-Identifier: Apache-2.0
/*
 * The state file, so that a daemon that is started again goes on where the last
 * one ended. It lives as long as what it describes: on a tmpfs.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "parse.h"
#include "rule.h"
#include "stack.h"

#define STATE_VERSION 2

static void state_path(const struct dmm_daemon *d, char *buf, const char *suffix)
{
	snprintf(buf, PATH_MAX, "%s/state.json%s", d->runtime_dir, suffix);
}

static void add_str(struct json_object *o, const char *key, const char *v)
{
	if (v && *v)
		json_object_object_add(o, key, json_object_new_string(v));
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void add_cgroup(struct json_object *o, const struct dmm_cgroup *cg)
{
	add_str(o, "cgroup", cg->path);
	add_u64(o, "cgroup_id", cg->id);
	add_u64(o, "cgroup_level", cg->level);
}

static struct json_object *stack_json(const struct dmm_stack *s)
{
	struct json_object *o = json_object_new_object();

	add_str(o, "name", s->name);
	add_u64(o, "id", s->id);
	add_str(o, "type", s->type);
	add_str(o, "dev", s->dev);
	add_str(o, "netns", s->netns);
	dmm_stack_opts_json(&s->opts, o);
	json_object_object_add(o, "committed", json_object_new_boolean(s->committed));
	json_object_object_add(o, "no_module", json_object_new_boolean(s->no_module));
	if (s->worker) {
		add_u64(o, "pid", dmm_worker_pid(s->worker));
		add_u64(o, "start", dmm_worker_start(s->worker));
	}
	return o;
}

static struct json_object *rule_json(const struct dmm_rule_entry *r)
{
	struct json_object *o = json_object_new_object();

	add_u64(o, "id", r->bpf.id);
	add_str(o, "stack", r->stack);
	if (r->cg.path)
		add_cgroup(o, &r->cg);
	if (dmm_rule_rejects(r))
		add_str(o, "fallback", "reject");
	json_object_object_add(o, "match", json_object_get(r->match));
	return o;
}

static struct json_object *state_json(struct dmm_daemon *d)
{
	struct json_object *o = json_object_new_object();
	struct json_object *stacks = json_object_new_array();
	struct json_object *rules = json_object_new_array();
	struct json_object *cgroups = json_object_new_array(), *c;
	struct dmm_attachment *a;
	struct dmm_rule_entry *r;
	struct dmm_stack *s;

	TAILQ_FOREACH(s, &d->stacks, entry)
		json_object_array_add(stacks, stack_json(s));
	TAILQ_FOREACH(r, &d->rules, entry)
		json_object_array_add(rules, rule_json(r));
	TAILQ_FOREACH(a, &d->attachments, entry) {
		c = json_object_new_object();
		add_cgroup(c, &a->cg);
		json_object_array_add(cgroups, c);
	}
	add_u64(o, "version", STATE_VERSION);
	add_u64(o, "next_rule_id", d->next_rule_id);
	json_object_object_add(o, "stacks", stacks);
	json_object_object_add(o, "rules", rules);
	json_object_object_add(o, "cgroups", cgroups);
	return o;
}

int dmm_state_save(struct dmm_daemon *d, struct dmm_err *err)
{
	char path[PATH_MAX], tmp[PATH_MAX];
	struct json_object *o;
	int ret = 0;

	state_path(d, path, "");
	state_path(d, tmp, ".new");
	o = state_json(d);
	if (json_object_to_file_ext(tmp, o, JSON_C_TO_STRING_PRETTY) < 0 ||
	    rename(tmp, path) < 0) {
		ret = dmm_err_set(err, errno ? -errno : -EIO, "cannot write %s: %m", path);
		unlink(tmp);
	}
	json_object_put(o);
	return ret;
}

void dmm_state_remove(struct dmm_daemon *d)
{
	char path[PATH_MAX];

	state_path(d, path, "");
	unlink(path);
}

static const char *get_str(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
	       json_object_is_type(v, json_type_string) ?
	       json_object_get_string(v) : NULL;
}

static uint64_t get_u64(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

static struct json_object *get_array(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
	       json_object_is_type(v, json_type_array) ? v : NULL;
}

/* The very cgroup that it was, also when it has gone. */
static int load_cgroup(struct json_object *o, struct dmm_cgroup *cg)
{
	const char *path = get_str(o, "cgroup");

	if (!path)
		return -EINVAL;
	cg->path = strdup(path);
	cg->id = get_u64(o, "cgroup_id");
	cg->level = get_u64(o, "cgroup_level");
	return cg->path ? 0 : -ENOMEM;
}

/* Its cgroup is taken by id, so that is left out of the words. */
static int load_match(struct json_object *o, struct dmm_match_spec *spec,
		      struct dmm_err *err)
{
	struct dmm_param table[DMM_MATCH_PARAMS];
	struct json_object *m;
	int ret;

	dmm_match_params(spec, table);
	if (!json_object_object_get_ex(o, "match", &m))
		return dmm_err_set(err, -EINVAL, "a rule without a match");
	ret = dmm_parse_params(m, "match", table, DMM_MATCH_PARAMS, err);
	if (spec->cgroup)
		/* A rule of nothing else must stay one. */
		spec->proto = "tcp";
	spec->cgroup = NULL;
	return ret;
}

static int load_rule(struct dmm_daemon *d, struct json_object *o, struct dmm_err *err)
{
	struct dmm_rule_spec spec = {
		.stack = get_str(o, "stack"),
		.fallback = get_str(o, "fallback"),
	};
	struct dmm_rule_entry *r;
	struct json_object *m;
	int ret;

	if (!spec.stack)
		return dmm_err_set(err, -EINVAL, "a rule without a stack");
	ret = load_match(o, &spec.match, err);
	if (!ret)
		ret = dmm_rule_new(d, &spec, false, &r, err);
	if (ret)
		return ret;
	/* The words as they were. */
	json_object_object_get_ex(o, "match", &m);
	json_object_put(r->match);
	r->match = json_object_get(m);
	r->bpf.id = get_u64(o, "id");
	if (get_str(o, "cgroup")) {
		if (load_cgroup(o, &r->cg)) {
			dmm_rule_free(r);
			return dmm_err_set(err, -ENOMEM, "out of memory");
		}
		r->bpf.match |= DMM_MATCH_CGROUP;
		r->bpf.cgroup_id = r->cg.id;
		r->bpf.cgroup_level = r->cg.level;
	}
	if (!r->bpf.id || dmm_rule_find(d, r->bpf.id) ||
	    dmm_rule_count(d) >= DMM_RULES_MAX) {
		dmm_rule_free(r);
		return dmm_err_set(err, -EINVAL, "a rule with an impossible id");
	}
	TAILQ_INSERT_TAIL(&d->rules, r, entry);
	if (r->bpf.id >= d->next_rule_id)
		d->next_rule_id = r->bpf.id + 1;
	return 0;
}

/*
 * As configured, whether the device still is there or not: what is gone shows as
 * down. The worker is seen to later, by @pid and @start.
 */
static int load_stack(struct dmm_daemon *d, struct json_object *o, struct dmm_err *err)
{
	struct json_object *v;
	struct dmm_stack *s;
	struct dmm_stack_spec spec = {
		.name = get_str(o, "name"),
		.type = get_str(o, "type"),
		.dev = get_str(o, "dev"),
		.netns = get_str(o, "netns"),
		.route = get_str(o, "route"),
		.strict_filters = get_str(o, "strict-filters"),
		.watchdog = get_str(o, "watchdog"),
	};
	int ret;

	if (!spec.name || !spec.type || !spec.dev)
		return dmm_err_set(err, -EINVAL, "a stack without a name, a type or a device");
	ret = dmm_stack_load(d, &spec, get_u64(o, "id"), &s, err);
	if (ret)
		return ret;
	s->committed = json_object_object_get_ex(o, "committed", &v) &&
		       json_object_get_boolean(v);
	s->no_module = json_object_object_get_ex(o, "no_module", &v) &&
		       json_object_get_boolean(v);
	s->old_pid = get_u64(o, "pid");
	s->old_start = get_u64(o, "start");
	return 0;
}

static int load(struct dmm_daemon *d, struct json_object *o, struct dmm_err *err)
{
	struct json_object *a;
	struct dmm_attachment *at;
	size_t i;
	int ret;

	if (get_u64(o, "version") != STATE_VERSION)
		return dmm_err_set(err, -EINVAL, "it is of another version");
	d->next_rule_id = get_u64(o, "next_rule_id");
	if (!d->next_rule_id)
		d->next_rule_id = 1;

	a = get_array(o, "stacks");
	for (i = 0; a && i < json_object_array_length(a); i++) {
		ret = load_stack(d, json_object_array_get_idx(a, i), err);
		if (ret)
			return ret;
	}
	a = get_array(o, "rules");
	for (i = 0; a && i < json_object_array_length(a); i++) {
		ret = load_rule(d, json_object_array_get_idx(a, i), err);
		if (ret)
			return ret;
	}
	a = get_array(o, "cgroups");
	for (i = 0; a && i < json_object_array_length(a); i++) {
		at = calloc(1, sizeof(*at));
		if (!at || load_cgroup(json_object_array_get_idx(a, i), &at->cg)) {
			free(at);
			return dmm_err_set(err, -EINVAL, "a cgroup without a path");
		}
		TAILQ_INSERT_TAIL(&d->attachments, at, entry);
	}
	return 0;
}

int dmm_state_load(struct dmm_daemon *d, struct dmm_err *err)
{
	char path[PATH_MAX];
	struct dmm_err why;
	struct json_object *o;
	int ret;

	d->next_rule_id = 1;
	state_path(d, path, "");
	if (access(path, F_OK) && errno == ENOENT)
		return 0;
	o = json_object_from_file(path);
	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return dmm_err_set(err, -EINVAL,
				   "%s cannot be read as JSON: move it away to start afresh",
				   path);
	}
	ret = load(d, o, &why);
	json_object_put(o);
	if (ret)
		return dmm_err_set(err, ret, "%s: %s: move it away to start afresh", path,
				   why.msg);
	return 0;
}
