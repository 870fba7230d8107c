// SPDX-License-Identifier: Apache-2.0
/* Which cgroups have the programs: the part of rule.h that deals with links. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor.h"
#include "rule.h"
#include "stack.h"

/* A cgroup that somebody wants under the policy. */
struct wanted {
	const struct dmm_cgroup *cg;
	int fd;				/* -1: it has gone */
	const struct dmm_cgroup *by;	/* the wanted cgroup above, if any */
};

static void wanted_free(struct wanted *w, int n)
{
	while (n-- > 0)
		if (w[n].fd >= 0)
			close(w[n].fd);
	free(w);
}

static int want(struct wanted *w, int n, const struct dmm_cgroup *cg)
{
	int i;

	for (i = 0; i < n; i++)
		if (w[i].cg->id == cg->id)
			return n;
	w[n].cg = cg;
	w[n].fd = dmm_cgroup_open(cg);
	w[n].by = NULL;
	return n + 1;
}

/*
 * Every cgroup once; -errno, or how many. Rules want the decision in their cgroup;
 * who names a cgroup wants the shim to work there as well.
 */
static int wanted_list(struct dmm_daemon *d, enum dmm_policy_part part,
		       struct wanted **out)
{
	struct dmm_attachment *a;
	struct dmm_rule_entry *r;
	struct wanted *w;
	int n = 0, i, k;

	TAILQ_FOREACH(a, &d->attachments, entry)
		n++;
	w = calloc(n + dmm_rule_count(d) + 1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	n = 0;
	TAILQ_FOREACH(a, &d->attachments, entry)
		n = want(w, n, &a->cg);
	TAILQ_FOREACH(r, &d->rules, entry)
		if (part == DMM_POLICY_RULES && r->cg.path)
			n = want(w, n, &r->cg);
	for (i = 0; i < n; i++)
		for (k = 0; k < n; k++)
			if (w[k].fd >= 0 && dmm_cgroup_above(w[k].cg, w[i].cg) &&
			    (!w[i].by || w[k].cg->level < w[i].by->level))
				w[i].by = w[k].cg;
	*out = w;
	return n;
}

static bool needed(const struct wanted *w, int n, __u64 id)
{
	int i;

	for (i = 0; i < n; i++)
		if (w[i].cg->id == id)
			return w[i].fd >= 0 && !w[i].by;
	return false;
}

/* New links first: nothing that was under the policy leaves it in between. */
static int links_commit(struct dmm_daemon *d, enum dmm_policy_part part,
			struct dmm_err *err)
{
	struct wanted *w;
	__u64 *ids;
	int n, i, nlinks, ret = 0;

	n = wanted_list(d, part, &w);
	if (n < 0)
		return dmm_err_set(err, n, "out of memory");
	for (i = 0; i < n && !ret; i++)
		if (needed(w, n, w[i].cg->id) &&
		    !dmm_policy_attached(d->policy, part, w[i].cg->id))
			ret = dmm_policy_attach(d->policy, part, w[i].fd, w[i].cg->id,
						err);
	if (ret)
		goto out;
	nlinks = dmm_policy_links(d->policy, part, &ids);
	if (nlinks < 0) {
		ret = dmm_err_set(err, nlinks, "cannot list links: %s", strerror(-nlinks));
		goto out;
	}
	for (i = 0; i < nlinks; i++)
		if (!needed(w, n, ids[i]))
			dmm_policy_detach(d->policy, part, ids[i]);
	free(ids);
out:
	wanted_free(w, n);
	return ret;
}

/* A matter of the stack that the rule sends to. */
static bool strict_filters(struct dmm_daemon *d, const struct dmm_rule_entry *r)
{
	const struct dmm_stack *s = dmm_stack_find(d, r->stack);

	return s && s->opts.strict_filters;
}

int dmm_rules_commit(struct dmm_daemon *d, struct dmm_err *err)
{
	struct dmm_ruleset *set;
	struct dmm_rule_entry *r;
	int ret;

	if (d->shutting_down)
		return dmm_err_set(err, -ESHUTDOWN, "the daemon is shutting down");
	ret = links_commit(d, DMM_POLICY_RULES, err);
	if (!ret)
		ret = links_commit(d, DMM_POLICY_SHIM, err);
	if (ret)
		return ret;
	set = calloc(1, sizeof(*set));
	if (!set)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	TAILQ_FOREACH(r, &d->rules, entry) {
		set->rules[set->count] = r->bpf;
		if (strict_filters(d, r))
			set->rules[set->count].flags |= DMM_RULE_F_STRICT_FILTERS;
		set->count++;
	}
	ret = dmm_policy_install(d->policy, set, err);
	free(set);
	if (!ret)
		ret = dmm_state_save(d, err);
	if (!ret)
		dmm_monitor_rules(d);
	return ret;
}

static struct dmm_attachment *find(struct dmm_daemon *d, __u64 id, const char *path)
{
	struct dmm_attachment *a;

	TAILQ_FOREACH(a, &d->attachments, entry)
		if (path ? !strcmp(a->cg.path, path) : a->cg.id == id)
			return a;
	return NULL;
}

static void attachment_free(struct dmm_attachment *a)
{
	dmm_cgroup_release(&a->cg);
	free(a);
}

void dmm_attachments_free(struct dmm_attachments *list)
{
	struct dmm_attachment *a;

	while ((a = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, a, entry);
		attachment_free(a);
	}
}

int dmm_attachment_new(const char *path, struct dmm_attachment **out,
		       struct dmm_err *err)
{
	struct dmm_attachment *a;
	int ret;

	a = calloc(1, sizeof(*a));
	if (!a)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	ret = dmm_cgroup_resolve(path, &a->cg, NULL, err);
	if (ret)
		free(a);
	else
		*out = a;
	return ret;
}

int dmm_attachment_add(struct dmm_daemon *d, const char *path, struct dmm_err *err)
{
	struct dmm_attachment *a;
	int ret;

	ret = dmm_attachment_new(path, &a, err);
	if (ret)
		return ret;
	if (find(d, a->cg.id, NULL)) {
		ret = dmm_err_set(err, -EEXIST, "cgroup %s: attached already", a->cg.path);
		goto err_free;
	}
	TAILQ_INSERT_TAIL(&d->attachments, a, entry);
	ret = dmm_rules_commit(d, err);
	if (!ret)
		return 0;
	TAILQ_REMOVE(&d->attachments, a, entry);
	dmm_rules_commit(d, NULL);
err_free:
	attachment_free(a);
	return ret;
}

/* @path may be of a cgroup that is no more, then as `cgroup list` shows it. */
int dmm_attachment_del(struct dmm_daemon *d, const char *path, struct dmm_err *err)
{
	struct dmm_attachment *a;
	struct dmm_cgroup cg;
	int ret;

	a = find(d, 0, path);
	if (!a) {
		ret = dmm_cgroup_resolve(path, &cg, NULL, err);
		if (ret)
			return ret;
		a = find(d, cg.id, NULL);
		if (!a)
			dmm_err_set(err, -ENOENT, "cgroup %s: not attached by name", cg.path);
		dmm_cgroup_release(&cg);
		if (!a)
			return -ENOENT;
	}
	TAILQ_REMOVE(&d->attachments, a, entry);
	ret = dmm_rules_commit(d, err);
	if (ret) {
		TAILQ_INSERT_TAIL(&d->attachments, a, entry);
		dmm_rules_commit(d, NULL);
		return ret;
	}
	attachment_free(a);
	return 0;
}

bool dmm_cgroup_covered(struct dmm_daemon *d, const struct dmm_cgroup *cg)
{
	bool covered = false;
	struct wanted *w;
	int n, i;

	n = wanted_list(d, DMM_POLICY_RULES, &w);
	for (i = 0; i < n; i++)
		if (w[i].fd >= 0 &&
		    (w[i].cg->id == cg->id || dmm_cgroup_above(w[i].cg, cg)))
			covered = true;
	if (n >= 0)
		wanted_free(w, n);
	return covered;
}

/* Which of the rules name it, and did somebody by name? */
static void add_wishes(struct dmm_daemon *d, struct json_object *o, __u64 id)
{
	struct json_object *rules = json_object_new_array();
	struct dmm_rule_entry *r;

	TAILQ_FOREACH(r, &d->rules, entry)
		if (r->cg.path && r->cg.id == id)
			json_object_array_add(rules, json_object_new_int64(r->bpf.id));
	json_object_object_add(o, "named", json_object_new_boolean(!!find(d, id, NULL)));
	json_object_object_add(o, "rules", rules);
}

struct json_object *dmm_cgroups_json(struct dmm_daemon *d)
{
	struct json_object *a = json_object_new_array(), *o;
	struct wanted *w;
	int n, i;

	n = wanted_list(d, DMM_POLICY_RULES, &w);
	for (i = 0; i < n; i++) {
		o = json_object_new_object();
		json_object_object_add(o, "path", json_object_new_string(w[i].cg->path));
		json_object_object_add(o, "id", json_object_new_uint64(w[i].cg->id));
		json_object_object_add(o, "state", json_object_new_string(
			w[i].fd < 0 ? "gone" : w[i].by ? "covered" :
			dmm_policy_attached(d->policy, DMM_POLICY_RULES, w[i].cg->id) ? "attached" :
			"detached"));
		if (w[i].fd >= 0 && w[i].by)
			json_object_object_add(o, "covered_by",
					       json_object_new_string(w[i].by->path));
		add_wishes(d, o, w[i].cg->id);
		json_object_array_add(a, o);
	}
	if (n >= 0)
		wanted_free(w, n);
	return a;
}
