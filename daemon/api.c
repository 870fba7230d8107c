// SPDX-License-Identifier: Apache-2.0
/* The methods of the control socket, as dmmd(8) tells them. */
#include <errno.h>
#include <linux/dmm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "config.h"
#include "daemon.h"
#include "genl.h"
#include "monitor.h"
#include "parse.h"
#include "rule.h"
#include "stack.h"
#include "stats.h"
#include "version.h"

#define N(table) (sizeof(table) / sizeof((table)[0]))

void dmm_api_fail(struct dmm_rpc_call *call, int code, const char *fmt, ...)
{
	char msg[sizeof(((struct dmm_err *)0)->msg)];
	struct dmm_err err;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	dmm_err_set(&err, code, "%s", msg);
	dmm_rpc_fail(call, &err);
}

static void add_int(struct json_object *o, const char *key, int64_t v)
{
	json_object_object_add(o, key, json_object_new_int64(v));
}

static void add_bool(struct json_object *o, const char *key, bool v)
{
	json_object_object_add(o, key, json_object_new_boolean(v));
}

static void add_str(struct json_object *o, const char *key, const char *v)
{
	json_object_object_add(o, key, v ? json_object_new_string(v) : NULL);
}

bool dmm_api_applying(const struct dmm_daemon *d, struct dmm_rpc_call *call)
{
	if (d->applying)
		dmm_api_fail(call, -EBUSY, "a configuration is being applied just now");
	return d->applying;
}

bool dmm_api_no_params(const char *what, struct json_object *params,
		      struct dmm_rpc_call *call)
{
	struct dmm_err err;

	if (!dmm_parse_params(params, what, NULL, 0, &err))
		return true;
	dmm_rpc_fail(call, &err);
	return false;
}

const char *dmm_api_one_param(const char *what, const char *key,
			     struct json_object *params, struct dmm_rpc_call *call)
{
	const char *v;
	const struct dmm_param table[] = { { key, &v, true } };
	struct dmm_err err;

	if (!dmm_parse_params(params, what, table, 1, &err))
		return v;
	dmm_rpc_fail(call, &err);
	return NULL;
}

static void status(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	struct dmm_daemon *d = data;
	struct json_object *o, *stats, *v;
	unsigned int stacks = 0, up = 0;
	struct dmm_stack *s;
	int n;
	__u64 *ids;

	if (!dmm_api_no_params("status", params, call))
		return;
	TAILQ_FOREACH(s, &d->stacks, entry) {
		stacks++;
		up += s->state == DMM_STACK_UP;
	}
	o = json_object_new_object();
	add_str(o, "version", DMM_VERSION);
	add_int(o, "pid", getpid());
	add_int(o, "abi", DMM_ABI_VERSION);
	if (!dmm_genl_stats(&stats)) {
		add_bool(o, "module", true);
		if (json_object_object_get_ex(stats, "abi", &v))
			add_int(o, "module_abi", json_object_get_int64(v));
		json_object_put(stats);
	} else {
		add_bool(o, "module", dmm_genl_present());
	}
	add_bool(o, "kfunc", dmm_policy_has_kfunc(d->policy));
	add_str(o, "bpf_dir", d->bpf_dir);
	add_int(o, "stacks", stacks);
	add_int(o, "stacks_up", up);
	add_int(o, "rules", dmm_rule_count(d));
	n = dmm_policy_links(d->policy, DMM_POLICY_RULES, &ids);
	add_int(o, "cgroups", n > 0 ? n : 0);
	if (n >= 0)
		free(ids);
	dmm_rpc_reply(call, o);
}

static void shutdown_method(void *data, struct json_object *params,
			    struct dmm_rpc_call *call)
{
	struct dmm_daemon *d = data;
	struct dmm_stack *s, *next;

	if (!dmm_api_no_params("shutdown", params, call))
		return;
	if (d->shutting_down) {
		dmm_api_fail(call, -EBUSY, "the daemon is shutting down already");
		return;
	}
	d->shutting_down = true;
	d->shutdown_call = call;
	/* Nothing new goes to the stacks while they stop. */
	dmm_policy_remove(d->policy);
	for (s = TAILQ_FIRST(&d->stacks); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (s->state != DMM_STACK_STOPPING)
			dmm_stack_stop(s);
	}
	dmm_daemon_shutdown_check(d);
}

/* ------------------------------------------------------------------------- */

/* Sockets that the stack has, by the module's listing @attached; -1 unknown. */
static int64_t socks_of(struct json_object *attached, uint32_t id)
{
	struct json_object *o, *v;
	size_t i;

	for (i = 0; attached && i < json_object_array_length(attached); i++) {
		o = json_object_array_get_idx(attached, i);
		if (json_object_object_get_ex(o, "id", &v) &&
		    json_object_get_int64(v) == id &&
		    json_object_object_get_ex(o, "socks", &v))
			return json_object_get_int64(v);
	}
	return -1;
}

static struct json_object *stack_json(const struct dmm_stack *s,
				      struct json_object *attached)
{
	struct json_object *o = json_object_new_object();
	int64_t socks = socks_of(attached, s->id);

	add_str(o, "name", s->name);
	add_int(o, "id", s->id);
	add_str(o, "type", s->type);
	add_str(o, "dev", s->dev);
	add_str(o, "netns", s->netns);
	add_str(o, "route", s->opts.route_own ? "own" : NULL);
	add_str(o, "strict-filters", s->opts.strict_filters ? "on" : "off");
	add_int(o, "watchdog", s->opts.watchdog);
	add_str(o, "state", dmm_stack_state_name(s));
	if (s->state == DMM_STACK_UP && s->no_module)
		add_str(o, "reason", dmm_module_device() ?
			"only for the shim: it came up before the module; restart it" :
			"only for the shim: the module is not loaded");
	else
		add_str(o, "reason", *s->reason ? s->reason : NULL);
	if (s->worker)
		add_int(o, "pid", dmm_worker_pid(s->worker));
	else
		add_str(o, "pid", NULL);
	if (socks >= 0)
		add_int(o, "sockets", socks);
	else
		add_str(o, "sockets", NULL);
	add_int(o, "restarts", s->restarts);
	add_int(o, "stalls", s->stalls);
	return o;
}

static void stack_list(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	struct dmm_daemon *d = data;
	struct json_object *a, *attached;
	struct dmm_stack *s;

	if (!dmm_api_no_params("stack list", params, call))
		return;
	if (dmm_genl_stacks(&attached))
		attached = NULL;
	a = json_object_new_array();
	TAILQ_FOREACH(s, &d->stacks, entry)
		json_object_array_add(a, stack_json(s, attached));
	json_object_put(attached);
	dmm_rpc_reply(call, a);
}

/* The stack that a request names; NULL when it was answered with an error. */
static struct dmm_stack *named_stack(struct dmm_daemon *d, const char *what,
				     struct json_object *params,
				     struct dmm_rpc_call *call)
{
	struct dmm_stack *s;
	const char *name;

	name = dmm_api_one_param(what, "name", params, call);
	if (!name)
		return NULL;
	s = dmm_stack_find(d, name);
	if (!s)
		dmm_api_fail(call, -ENOENT, "stack %.64s: no such stack", name);
	return s;
}

static void stack_show(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	struct json_object *attached, *o;
	struct dmm_stack *s;

	s = named_stack(data, "stack show", params, call);
	if (!s)
		return;
	if (dmm_genl_stacks(&attached))
		attached = NULL;
	o = stack_json(s, attached);
	json_object_put(attached);
	dmm_rpc_reply(call, o);
}

static void stack_add(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	struct dmm_daemon *d = data;
	struct dmm_param table[DMM_STACK_PARAMS];
	struct dmm_stack_spec spec;
	struct dmm_stack *s;
	struct dmm_err err;

	dmm_stack_params(&spec, table);
	if (d->shutting_down) {
		dmm_api_fail(call, -ESHUTDOWN, "the daemon is shutting down");
		return;
	}
	if (dmm_api_applying(d, call))
		return;
	if (dmm_parse_params(params, "stack add", table, N(table), &err) ||
	    dmm_stack_new(d, &spec, &s, &err)) {
		dmm_rpc_fail(call, &err);
		return;
	}
	s->call = call;
	dmm_stack_start(s);	/* may have freed it */
}

/* Is the stack in the middle of something that somebody waits for? */
static bool busy(struct dmm_stack *s, struct dmm_rpc_call *call)
{
	if (s->committed && s->state != DMM_STACK_STOPPING && !s->call)
		return false;
	dmm_api_fail(call, -EBUSY, "stack %s: it is %s", s->name,
	     !s->committed ? "being added" : s->deleting ? "being deleted" :
	     "being restarted");
	return true;
}

static void stack_restart(void *data, struct json_object *params,
			  struct dmm_rpc_call *call)
{
	struct dmm_stack *s;

	s = named_stack(data, "stack restart", params, call);
	if (!s || dmm_api_applying(s->d, call) || busy(s, call))
		return;
	s->call = call;
	dmm_stack_stop(s);
}

static void stack_del(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	struct dmm_daemon *d = data;
	struct dmm_rule_entry *r;
	struct dmm_stack *s;
	char ids[128] = "";
	size_t len = 0;

	s = named_stack(d, "stack del", params, call);
	if (!s || dmm_api_applying(s->d, call) || busy(s, call))
		return;
	TAILQ_FOREACH(r, &d->rules, entry)
		if (r->bpf.stack == s->id && len < sizeof(ids) - 16)
			len += snprintf(ids + len, sizeof(ids) - len, " %u", r->bpf.id);
	if (*ids) {
		dmm_api_fail(call, -EBUSY, "stack %s: rules name it:%s; delete them first",
		     s->name, ids);
		return;
	}
	s->call = call;
	s->deleting = true;
	dmm_stack_stop(s);
}

/* ------------------------------------------------------------------------- */

static void cgroup_list(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	if (dmm_api_no_params("cgroup list", params, call))
		dmm_rpc_reply(call, dmm_cgroups_json(data));
}

static void cgroup_attach(void *data, struct json_object *params,
			  struct dmm_rpc_call *call)
{
	struct dmm_err err;
	const char *path;

	path = dmm_api_one_param("cgroup attach", "path", params, call);
	if (!path || dmm_api_applying(data, call))
		return;
	if (dmm_attachment_add(data, path, &err))
		dmm_rpc_fail(call, &err);
	else
		dmm_rpc_reply(call, NULL);
}

static void cgroup_detach(void *data, struct json_object *params,
			  struct dmm_rpc_call *call)
{
	struct dmm_err err;
	const char *path;

	path = dmm_api_one_param("cgroup detach", "path", params, call);
	if (!path || dmm_api_applying(data, call))
		return;
	if (dmm_attachment_del(data, path, &err))
		dmm_rpc_fail(call, &err);
	else
		dmm_rpc_reply(call, NULL);
}

static void sock_list(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	struct dmm_daemon *d = data;
	const char *stack;
	const struct dmm_param table[] = { { "stack", &stack, false } };
	struct json_object *socks;
	struct dmm_err err;
	int ret;

	if (dmm_parse_params(params, "sock list", table, N(table), &err)) {
		dmm_rpc_fail(call, &err);
		return;
	}
	if (stack && !dmm_stack_find(d, stack)) {
		dmm_api_fail(call, -ENOENT, "stack %.64s: no such stack", stack);
		return;
	}
	ret = dmm_genl_socks(stack, &socks);
	if (ret == -ENOENT)
		dmm_api_fail(call, ret, "sock list: the module is not loaded");
	else if (ret)
		dmm_api_fail(call, ret, "sock list: the module does not answer as expected");
	else
		dmm_rpc_reply(call, socks);
}

static void monitor(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	if (dmm_api_no_params("monitor", params, call))
		dmm_monitor_start(data, call);
}

/* ------------------------------------------------------------------------- */

static void config_get(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	if (dmm_api_no_params("config get", params, call))
		dmm_rpc_reply(call, dmm_config_json(data));
}

static void config_check(void *data, struct json_object *params,
			 struct dmm_rpc_call *call)
{
	struct dmm_err err;

	if (dmm_config_check(data, params, &err))
		dmm_rpc_fail(call, &err);
	else
		dmm_rpc_reply(call, NULL);
}

static void config_apply(void *data, struct json_object *params,
			 struct dmm_rpc_call *call)
{
	if (!dmm_api_applying(data, call))
		dmm_config_apply(data, params, call);
}

static void stats(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	if (dmm_api_no_params("stats", params, call))
		dmm_stats_collect(data, call);
}

const struct dmm_rpc_method dmm_api_methods[] = {
	{ "status",		status },
	{ "shutdown",		shutdown_method },
	{ "stack.list",		stack_list },
	{ "stack.show",		stack_show },
	{ "stack.add",		stack_add },
	{ "stack.del",		stack_del },
	{ "stack.restart",	stack_restart },
	{ "rule.list",		dmm_api_rule_list },
	{ "rule.add",		dmm_api_rule_add },
	{ "rule.del",		dmm_api_rule_del },
	{ "rule.move",		dmm_api_rule_move },
	{ "rule.flush",		dmm_api_rule_flush },
	{ "rule.explain",	dmm_api_rule_explain },
	{ "cgroup.list",	cgroup_list },
	{ "cgroup.attach",	cgroup_attach },
	{ "cgroup.detach",	cgroup_detach },
	{ "sock.list",		sock_list },
	{ "stats",		stats },
	{ "monitor",		monitor },
	{ "config.get",		config_get },
	{ "config.check",	config_check },
	{ "config.apply",	config_apply },
	{ NULL, NULL }
};
