// SPDX-License-Identifier: Apache-2.0
/* rule.*: the methods that show and change rules. */
#include <errno.h>
#include <string.h>

#include "api.h"
#include "parse.h"
#include "rule.h"

#define N(table) (sizeof(table) / sizeof((table)[0]))

void dmm_api_rule_list(void *data, struct json_object *params,
		       struct dmm_rpc_call *call)
{
	if (dmm_api_no_params("rule list", params, call))
		dmm_rpc_reply(call, dmm_rules_json(data));
}

/* The rule that has @text as its id. */
static int rule_get(struct dmm_daemon *d, const char *text, struct dmm_rule_entry **out,
		    struct dmm_err *err)
{
	__u32 id;
	int ret;

	ret = dmm_parse_u32("rule", text, 1, UINT32_MAX, &id, err);
	if (ret)
		return ret;
	*out = dmm_rule_find(d, id);
	return *out ? 0 : dmm_err_set(err, -ENOENT, "rule %u: no such rule", id);
}

/* The match is an object of its own; it is taken out of @params, to be put. */
static int match_take(struct json_object *params, struct dmm_match_spec *spec,
		      struct json_object **match, struct dmm_err *err)
{
	struct dmm_param table[DMM_MATCH_PARAMS];

	dmm_match_params(spec, table);
	*match = NULL;
	if (json_object_is_type(params, json_type_object) &&
	    json_object_object_get_ex(params, "match", match)) {
		json_object_get(*match);
		json_object_object_del(params, "match");
	}
	return dmm_parse_params(*match, "match", table, N(table), err);
}

void dmm_api_rule_add(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	struct dmm_daemon *d = data;
	struct dmm_rule_spec spec = {};
	const char *before;
	const struct dmm_param table[] = {
		{ "stack", &spec.stack, true },		{ "before", &before, false },
		{ "fallback", &spec.fallback, false },
	};
	struct dmm_rule_entry *r = NULL, *at = NULL;
	struct json_object *m, *o;
	struct dmm_err err;
	int ret;

	if (dmm_api_applying(d, call))
		return;
	ret = match_take(params, &spec.match, &m, &err);
	if (!ret)
		ret = dmm_parse_params(params, "rule add", table, N(table), &err);
	if (!ret && before)
		ret = rule_get(d, before, &at, &err);
	if (!ret)
		ret = dmm_rule_new(d, &spec, false, &r, &err);
	json_object_put(m);
	if (!ret) {
		ret = dmm_rule_insert(d, r, at, &err);
		if (ret)
			dmm_rule_free(r);
	}
	if (ret) {
		dmm_rpc_fail(call, &err);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "id", json_object_new_int64(r->bpf.id));
	dmm_rpc_reply(call, o);
}

void dmm_api_rule_del(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	struct dmm_rule_entry *r;
	struct dmm_err err;
	const char *id;

	id = dmm_api_one_param("rule del", "id", params, call);
	if (!id || dmm_api_applying(data, call))
		return;
	if (rule_get(data, id, &r, &err) || dmm_rule_remove(data, r, &err))
		dmm_rpc_fail(call, &err);
	else
		dmm_rpc_reply(call, NULL);
}

void dmm_api_rule_move(void *data, struct json_object *params, struct dmm_rpc_call *call)
{
	const char *id, *before;
	const struct dmm_param table[] = {
		{ "id", &id, true },	{ "before", &before, true },
	};
	struct dmm_rule_entry *r, *at;
	struct dmm_err err;
	int ret;

	if (dmm_api_applying(data, call))
		return;
	ret = dmm_parse_params(params, "rule move", table, N(table), &err);
	if (!ret)
		ret = rule_get(data, id, &r, &err);
	if (!ret)
		ret = rule_get(data, before, &at, &err);
	if (!ret && r == at)
		ret = dmm_err_set(&err, -EINVAL,
				  "rule %u: cannot stand before itself", r->bpf.id);
	if (!ret)
		ret = dmm_rule_move(data, r, at, &err);
	if (ret)
		dmm_rpc_fail(call, &err);
	else
		dmm_rpc_reply(call, NULL);
}

void dmm_api_rule_flush(void *data, struct json_object *params,
			struct dmm_rpc_call *call)
{
	struct dmm_rules none = TAILQ_HEAD_INITIALIZER(none);
	struct dmm_err err;

	if (!dmm_api_no_params("rule flush", params, call) ||
	    dmm_api_applying(data, call))
		return;
	if (dmm_rules_replace(data, &none, NULL, &err))
		dmm_rpc_fail(call, &err);
	else
		dmm_rpc_reply(call, NULL);
}

void dmm_api_rule_explain(void *data, struct json_object *params,
			  struct dmm_rpc_call *call)
{
	struct dmm_match_spec spec = {};
	struct dmm_match_socket *s;
	struct json_object *m;
	struct dmm_err err;
	int ret;

	ret = match_take(params, &spec, &m, &err);
	if (!ret)
		ret = dmm_parse_params(params, "rule explain", NULL, 0, &err);
	if (!ret)
		ret = dmm_match_socket_new(&spec, &s, &err);
	json_object_put(m);
	if (ret) {
		dmm_rpc_fail(call, &err);
		return;
	}
	dmm_rpc_reply(call, dmm_rules_explain(data, s));
	dmm_match_socket_free(s);
}
