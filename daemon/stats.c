// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "genl.h"
#include "rule.h"
#include "stack.h"
#include "stats.h"

#define ANSWER_US 1000000ULL

/* Workers that have not answered hold the collection; so does its maker. */
struct collection {
	struct dmm_rpc_call *call;
	struct json_object *result;
	unsigned int waiting;
};

struct question {
	struct collection *c;
	struct json_object *stack;	/* borrowed from the result */
};

static void put(struct collection *c)
{
	if (--c->waiting)
		return;
	dmm_rpc_reply(c->call, c->result);
	free(c);
}

static void on_answer(void *data, int error, pid_t pid, struct json_object *answer)
{
	struct question *q = data;

	if (!error)
		json_object_object_add(q->stack, "worker", json_object_get(answer));
	put(q->c);
	free(q);
}

static void ask(struct collection *c, struct dmm_stack *s, struct json_object *o)
{
	struct dmm_telemetry *t;
	struct question *q;

	json_object_object_add(o, "worker", NULL);
	if (s->state != DMM_STACK_UP)
		return;
	q = malloc(sizeof(*q));
	if (!q)
		return;
	q->c = c;
	q->stack = o;
	if (dmm_telemetry_ask(&t, s->d->event, s->d->telemetry_dir, s->name, "/dmm/stats",
			      ANSWER_US, on_answer, q)) {
		free(q);
		return;
	}
	c->waiting++;
}

struct json_object *dmm_stats_counters(const struct dmm_rule_stats *st,
				       struct json_object *o)
{
	struct json_object *f = json_object_new_object();
	char buf[32];
	int i;

	for (i = 0; i < DMM_FALLBACK_SLOTS; i++)
		if (st->fallback[i])
			json_object_object_add(f, dmm_fallback_name(i, buf, sizeof(buf)),
					       json_object_new_uint64(st->fallback[i]));
	json_object_object_add(o, "hits", json_object_new_uint64(st->hits));
	json_object_object_add(o, "adopted", json_object_new_uint64(st->adopted));
	json_object_object_add(o, "shim", json_object_new_uint64(st->shim));
	json_object_object_add(o, "rejected", json_object_new_uint64(st->rejected));
	json_object_object_add(o, "fallbacks", f);
	return o;
}

static void add_up(struct dmm_rule_stats *sum, const struct dmm_rule_stats *one)
{
	int i;

	sum->hits += one->hits;
	sum->adopted += one->adopted;
	sum->shim += one->shim;
	sum->rejected += one->rejected;
	for (i = 0; i < DMM_FALLBACK_SLOTS; i++)
		sum->fallback[i] += one->fallback[i];
}

static void add_rules(struct dmm_daemon *d, struct json_object *result)
{
	struct json_object *a = json_object_new_array(), *o;
	struct dmm_rule_stats one, sum = {};
	struct dmm_rule_entry *r;

	TAILQ_FOREACH(r, &d->rules, entry) {
		o = json_object_new_object();
		json_object_object_add(o, "id", json_object_new_int64(r->bpf.id));
		json_object_object_add(o, "stack", json_object_new_string(r->stack));
		dmm_policy_stats_get(d->policy, r->bpf.id, &one);
		json_object_array_add(a, dmm_stats_counters(&one, o));
		add_up(&sum, &one);
	}
	json_object_object_add(result, "policy",
			       dmm_stats_counters(&sum, json_object_new_object()));
	json_object_object_add(result, "rules", a);
}

/* What the module knows of stack @id, or nothing. */
static void add_module_side(struct json_object *o, struct json_object *attached,
			    uint32_t id)
{
	static const char * const keys[] = {
		"socks", "adopted", "bad_events", "stale_events", "fallbacks",
	};
	struct json_object *m, *v;
	size_t i, k;

	for (i = 0; attached && i < json_object_array_length(attached); i++) {
		m = json_object_array_get_idx(attached, i);
		if (!json_object_object_get_ex(m, "id", &v) ||
		    json_object_get_int64(v) != id)
			continue;
		for (k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			if (json_object_object_get_ex(m, keys[k], &v))
				json_object_object_add(o, keys[k], json_object_get(v));
	}
}

void dmm_stats_collect(struct dmm_daemon *d, struct dmm_rpc_call *call)
{
	struct json_object *module, *attached, *a, *o;
	struct collection *c;
	struct dmm_stack *s;
	struct dmm_err err;

	c = calloc(1, sizeof(*c));
	if (!c) {
		dmm_err_set(&err, -ENOMEM, "out of memory");
		dmm_rpc_fail(call, &err);
		return;
	}
	c->call = call;
	c->waiting = 1;
	c->result = json_object_new_object();
	if (dmm_genl_stats(&module))
		module = NULL;
	if (dmm_genl_stacks(&attached))
		attached = NULL;
	json_object_object_add(c->result, "module", module);
	add_rules(d, c->result);
	a = json_object_new_array();
	json_object_object_add(c->result, "stacks", a);
	TAILQ_FOREACH(s, &d->stacks, entry) {
		o = json_object_new_object();
		json_object_object_add(o, "name", json_object_new_string(s->name));
		json_object_object_add(o, "id", json_object_new_int(s->id));
		add_module_side(o, attached, s->id);
		json_object_array_add(a, o);
		ask(c, s, o);
	}
	json_object_put(attached);
	put(c);
}
