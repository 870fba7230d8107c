// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parse.h"
#include "rule.h"
#include "stack.h"

static int match_parse(const struct dmm_rule_spec *spec, struct dmm_rule_entry *r,
		       struct dmm_err *err)
{
	int ret;

	if (spec->proto && strcmp(spec->proto, "tcp"))
		return dmm_err_set(err, -EINVAL,
				   "proto %.64s: not supported yet; known: tcp",
				   spec->proto);
	if (spec->dir && strcmp(spec->dir, "connect"))
		return dmm_err_set(err, -EINVAL,
				   "dir %.64s: not supported yet; known: connect",
				   spec->dir);
	if (spec->dport) {
		ret = dmm_parse_ports("dport", spec->dport, &r->bpf.dport_min,
				      &r->bpf.dport_max, err);
		if (ret)
			return ret;
		r->bpf.match |= DMM_MATCH_DPORT;
		snprintf(r->dport, sizeof(r->dport), r->bpf.dport_min == r->bpf.dport_max ?
			 "%u" : "%u-%u", r->bpf.dport_min, r->bpf.dport_max);
	}
	if (spec->dst) {
		ret = dmm_parse_prefix4("dst", spec->dst, &r->bpf.dst[0],
					&r->bpf.dst_mask[0], err);
		if (ret)
			return ret;
		r->bpf.match |= DMM_MATCH_DST;
		r->bpf.dst_family = AF_INET;
		snprintf(r->dst, sizeof(r->dst), "%s", spec->dst);
	}
	if (spec->cgroup) {
		ret = dmm_cgroup_resolve(spec->cgroup, &r->cg, NULL, err);
		if (ret)
			return ret;
		r->bpf.match |= DMM_MATCH_CGROUP;
		r->bpf.cgroup_id = r->cg.id;
		r->bpf.cgroup_level = r->cg.level;
	}
	if (!spec->cgroup && !spec->dst && !spec->dport && !spec->proto && !spec->dir)
		return dmm_err_set(err, -EINVAL,
				   "a rule needs something to match; known: cgroup dst dport proto dir");
	return 0;
}

int dmm_rule_new(struct dmm_daemon *d, const struct dmm_rule_spec *spec,
		 struct dmm_rule_entry **out, struct dmm_err *err)
{
	struct dmm_rule_entry *r;
	struct dmm_stack *s;
	uint32_t stack = DMM_STACK_KERNEL;
	int ret;

	if (strcmp(spec->stack, "kernel")) {
		s = dmm_stack_find(d, spec->stack);
		if (!s || !s->committed || s->deleting)
			return dmm_err_set(err, -ENOENT, "stack %.64s: no such stack",
					   spec->stack);
		stack = s->id;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	ret = match_parse(spec, r, err);
	if (ret) {
		dmm_rule_free(r);
		return ret;
	}
	r->bpf.stack = stack;
	snprintf(r->stack, sizeof(r->stack), "%s", spec->stack);
	*out = r;
	return 0;
}

void dmm_rule_free(struct dmm_rule_entry *r)
{
	dmm_cgroup_release(&r->cg);
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
	struct json_object *a = json_object_new_array(), *o, *m;
	struct dmm_rule_stats sum;
	struct dmm_rule_entry *r;
	int fd;

	TAILQ_FOREACH(r, &d->rules, entry) {
		o = json_object_new_object();
		m = json_object_new_object();
		json_object_object_add(o, "id", json_object_new_int64(r->bpf.id));
		if (r->cg.path) {
			json_object_object_add(m, "cgroup",
					       json_object_new_string(r->cg.path));
			fd = dmm_cgroup_open(&r->cg);
			json_object_object_add(o, "cgroup_gone",
					       json_object_new_boolean(fd < 0));
			if (fd >= 0)
				close(fd);
		}
		if (*r->dst)
			json_object_object_add(m, "dst", json_object_new_string(r->dst));
		if (*r->dport)
			json_object_object_add(m, "dport",
					       json_object_new_string(r->dport));
		json_object_object_add(o, "match", m);
		json_object_object_add(o, "stack", json_object_new_string(r->stack));
		dmm_policy_stats_get(d->policy, r->bpf.id, &sum);
		json_object_object_add(o, "hits", json_object_new_uint64(sum.hits));
		json_object_array_add(a, o);
	}
	return a;
}
