// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "monitor.h"
#include "rule.h"
#include "stack.h"
#include "stats.h"

#define LOOK_US 1000000ULL

/* The counters of a rule when they were last looked at. */
struct seen {
	TAILQ_ENTRY(seen) entry;
	uint32_t rule;
	struct dmm_rule_stats stats;
};

struct dmm_monitor {
	sd_event_source *timer;
	TAILQ_HEAD(, seen) seen;
};

static bool listened(struct dmm_daemon *d)
{
	return d->monitor && d->rpc && dmm_rpc_subscribers(d->rpc);
}

static struct json_object *event_new(const char *event)
{
	struct json_object *o = json_object_new_object();
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	json_object_object_add(o, "time",
			       json_object_new_double(now.tv_sec + now.tv_nsec / 1e9));
	json_object_object_add(o, "event", json_object_new_string(event));
	return o;
}

void dmm_monitor_stack(const struct dmm_stack *s, const char *state)
{
	struct json_object *o;

	if (!listened(s->d))
		return;
	o = event_new("stack");
	json_object_object_add(o, "name", json_object_new_string(s->name));
	json_object_object_add(o, "state", json_object_new_string(state));
	if (*s->reason)
		json_object_object_add(o, "reason", json_object_new_string(s->reason));
	dmm_rpc_notify(s->d->rpc, "event", o);
}

void dmm_monitor_rules(struct dmm_daemon *d)
{
	struct json_object *o;

	if (!listened(d))
		return;
	o = event_new("rules");
	json_object_object_add(o, "rules", dmm_rules_json(d));
	dmm_rpc_notify(d->rpc, "event", o);
}

/* What was seen of @rule; made, as it is now, when that is nothing yet. */
static struct seen *seen_get(struct dmm_monitor *m, uint32_t rule,
			     const struct dmm_rule_stats *now)
{
	struct seen *s;

	TAILQ_FOREACH(s, &m->seen, entry)
		if (s->rule == rule)
			return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->rule = rule;
	if (now)
		s->stats = *now;
	TAILQ_INSERT_TAIL(&m->seen, s, entry);
	return s;
}

/* Tell of each rule whose counters moved. @first: only take note. */
static void counters_look(struct dmm_daemon *d, bool first)
{
	struct dmm_rule_stats now;
	struct dmm_rule_entry *r;
	struct json_object *o;
	struct seen *s;

	TAILQ_FOREACH(r, &d->rules, entry) {
		if (dmm_policy_stats_get(d->policy, r->bpf.id, &now))
			continue;
		s = seen_get(d->monitor, r->bpf.id, first ? &now : NULL);
		if (!s || !memcmp(&s->stats, &now, sizeof(now)))
			continue;
		s->stats = now;
		o = event_new("counters");
		json_object_object_add(o, "rule", json_object_new_int64(r->bpf.id));
		json_object_object_add(o, "stack", json_object_new_string(r->stack));
		dmm_rpc_notify(d->rpc, "event", dmm_stats_counters(&now, o));
	}
}

static void seen_forget(struct dmm_monitor *m)
{
	struct seen *s;

	while ((s = TAILQ_FIRST(&m->seen))) {
		TAILQ_REMOVE(&m->seen, s, entry);
		free(s);
	}
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct dmm_daemon *d = data;

	if (!listened(d) || d->shutting_down) {
		seen_forget(d->monitor);
		return 0;	/* the source is off now */
	}
	counters_look(d, false);
	sd_event_source_set_time_relative(source, LOOK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int monitor_get(struct dmm_daemon *d)
{
	struct dmm_monitor *m;
	int ret;

	if (d->monitor)
		return 0;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	TAILQ_INIT(&m->seen);
	ret = sd_event_add_time_relative(d->event, &m->timer, CLOCK_MONOTONIC, LOOK_US, 0,
					 on_timer, d);
	if (ret < 0) {
		free(m);
		return ret;
	}
	sd_event_source_set_enabled(m->timer, SD_EVENT_OFF);
	d->monitor = m;
	return 0;
}

void dmm_monitor_start(struct dmm_daemon *d, struct dmm_rpc_call *call)
{
	struct dmm_err err;
	int enabled;

	if (monitor_get(d)) {
		dmm_err_set(&err, -ENOMEM, "out of memory");
		dmm_rpc_fail(call, &err);
		return;
	}
	sd_event_source_get_enabled(d->monitor->timer, &enabled);
	if (enabled == SD_EVENT_OFF) {
		counters_look(d, true);
		sd_event_source_set_time_relative(d->monitor->timer, LOOK_US);
		sd_event_source_set_enabled(d->monitor->timer, SD_EVENT_ONESHOT);
	}
	dmm_rpc_subscribe(call);
	dmm_rpc_reply(call, NULL);
}

void dmm_monitor_stop(struct dmm_daemon *d)
{
	if (!d->monitor)
		return;
	sd_event_source_disable_unref(d->monitor->timer);
	seen_forget(d->monitor);
	free(d->monitor);
	d->monitor = NULL;
}
