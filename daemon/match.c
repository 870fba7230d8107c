// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "match.h"
#include "dmm_match.h"

#define LEVELS_MAX 64	/* of cgroups above each other; the kernel allows more */

struct dmm_match_socket {
	struct dmm_sock_view view;	/* first: dmm_match_ancestor() gets this */
	struct dmm_cgroup cg;
	__u32 given;			/* DMM_MATCH_* bits */
	__u32 levels;
	__u64 ancestors[LEVELS_MAX];	/* ids, from the root of the hierarchy down */
};

static const struct {
	const char *word;
	size_t offset;			/* into struct dmm_match_spec */
	__u32 bit;			/* 0: there is nothing to compare */
} parts[DMM_MATCH_PARAMS] = {
	{ "cgroup", offsetof(struct dmm_match_spec, cgroup), DMM_MATCH_CGROUP },
	{ "uid", offsetof(struct dmm_match_spec, uid), DMM_MATCH_UID },
	{ "comm", offsetof(struct dmm_match_spec, comm), DMM_MATCH_COMM },
	{ "proto", offsetof(struct dmm_match_spec, proto), 0 },
	{ "dir", offsetof(struct dmm_match_spec, dir), DMM_MATCH_DIR },
	{ "src", offsetof(struct dmm_match_spec, src), DMM_MATCH_SRC },
	{ "dst", offsetof(struct dmm_match_spec, dst), DMM_MATCH_DST },
	{ "sport", offsetof(struct dmm_match_spec, sport), DMM_MATCH_SPORT },
	{ "dport", offsetof(struct dmm_match_spec, dport), DMM_MATCH_DPORT },
};

static const char **part_of(struct dmm_match_spec *spec, int i)
{
	return (const char **)((char *)spec + parts[i].offset);
}

void dmm_match_params(struct dmm_match_spec *spec,
		      struct dmm_param table[DMM_MATCH_PARAMS])
{
	int i;

	for (i = 0; i < DMM_MATCH_PARAMS; i++)
		table[i] = (struct dmm_param){ parts[i].word, part_of(spec, i), false };
}

const char *dmm_match_word(__u32 bit)
{
	int i;

	for (i = 0; i < DMM_MATCH_PARAMS; i++)
		if (parts[i].bit == bit)
			return parts[i].word;
	return "nothing";
}

static int proto_check(const char *s, struct dmm_err *err)
{
	if (!strcmp(s, "tcp"))
		return 0;
	return dmm_err_set(err, -EINVAL,
			   "proto %.64s: expected tcp; the kernel serves all others", s);
}

static int dir_parse(const char *s, __u16 *dir, struct dmm_err *err)
{
	if (!strcmp(s, "connect"))
		*dir = DMM_DIR_CONNECT;
	else if (!strcmp(s, "listen"))
		*dir = DMM_DIR_LISTEN;
	else
		return dmm_err_set(err, -EINVAL,
				   "dir %.64s: expected connect or listen", s);
	return 0;
}

/* As the kernel keeps it: at most 15 bytes, padded with NULs. */
static int comm_parse(const char *s, char comm[DMM_COMM_LEN], struct dmm_err *err)
{
	size_t len = strlen(s);

	if (!len || len >= DMM_COMM_LEN)
		return dmm_err_set(err, -EINVAL,
				   "comm \"%.64s\" has %zu characters: expected 1..%d, as /proc/PID/comm shows it",
				   s, len, DMM_COMM_LEN - 1);
	memset(comm, 0, DMM_COMM_LEN);
	memcpy(comm, s, len);
	return 0;
}

/* One part of @spec into @rule. */
static int part_parse(const char *word, const char *value, struct dmm_rule *rule,
		      char *text, size_t size, struct dmm_err *err)
{
	__u16 *min = word[0] == 's' ? &rule->sport_min : &rule->dport_min;
	__u16 *max = word[0] == 's' ? &rule->sport_max : &rule->dport_max;
	struct dmm_prefix p;
	int ret;

	snprintf(text, size, "%s", value);
	if (!strcmp(word, "proto"))
		return proto_check(value, err);
	if (!strcmp(word, "dir"))
		return dir_parse(value, &rule->dir, err);
	if (!strcmp(word, "comm"))
		return comm_parse(value, rule->comm, err);
	if (!strcmp(word, "uid")) {
		ret = dmm_parse_u32("uid", value, 0, UINT32_MAX - 1, &rule->uid, err);
		if (!ret)
			snprintf(text, size, "%u", rule->uid);
		return ret;
	}
	if (!strcmp(word, "sport") || !strcmp(word, "dport")) {
		ret = dmm_parse_ports(word, value, min, max, err);
		if (!ret)
			snprintf(text, size, *min == *max ? "%u" : "%u-%u", *min, *max);
		return ret;
	}

	ret = dmm_parse_prefix(word, value, &p, err);
	if (ret)
		return ret;
	snprintf(text, size, "%s", p.text);
	memcpy(word[0] == 's' ? rule->src : rule->dst, p.addr, sizeof(p.addr));
	memcpy(word[0] == 's' ? rule->src_mask : rule->dst_mask, p.mask, sizeof(p.mask));
	*(word[0] == 's' ? &rule->src_family : &rule->dst_family) = p.family;
	return 0;
}

static int cgroup_parse(const char *path, struct dmm_rule *rule, struct dmm_cgroup *cg,
			struct dmm_err *err)
{
	int ret;

	ret = dmm_cgroup_resolve(path, cg, NULL, err);
	if (ret)
		return ret;
	rule->cgroup_id = cg->id;
	rule->cgroup_level = cg->level;
	return 0;
}

/* A rule that no socket could ever meet is a mistake. */
static int contradictions(const struct dmm_rule *rule, struct dmm_err *err)
{
	if (rule->match & DMM_MATCH_DIR && rule->dir == DMM_DIR_LISTEN &&
	    rule->match & (DMM_MATCH_DST | DMM_MATCH_DPORT))
		return dmm_err_set(err, -EINVAL,
				   "dir listen: a listener has no %s; match its address and port by src and sport",
				   rule->match & DMM_MATCH_DST ? "dst" : "dport");
	if (rule->match & DMM_MATCH_SRC && rule->match & DMM_MATCH_DST &&
	    rule->src_family != rule->dst_family)
		return dmm_err_set(err, -EINVAL,
				   "src and dst: one is IPv4, the other is IPv6");
	return 0;
}

int dmm_match_parse(const struct dmm_match_spec *spec, struct dmm_rule *rule,
		    struct dmm_cgroup *cg, struct json_object **words,
		    struct dmm_err *err)
{
	struct dmm_match_spec s = *spec;
	const char *value;
	char text[64];
	int i, ret = 0;

	*words = json_object_new_object();
	for (i = 0; i < DMM_MATCH_PARAMS; i++) {
		value = *part_of(&s, i);
		if (!value)
			continue;
		if (parts[i].bit == DMM_MATCH_CGROUP)
			ret = cgroup_parse(value, rule, cg, err);
		else
			ret = part_parse(parts[i].word, value, rule, text, sizeof(text),
					 err);
		if (ret) {
			dmm_err_within(err, "%s", parts[i].word);
			goto err_put;
		}
		rule->match |= parts[i].bit;
		json_object_object_add(*words, parts[i].word, json_object_new_string(
			parts[i].bit == DMM_MATCH_CGROUP ? cg->path : text));
	}
	if (!json_object_object_length(*words))
		ret = dmm_err_set(err, -EINVAL,
				  "a rule needs something to match; known: cgroup uid comm proto dir src dst sport dport");
	else
		ret = contradictions(rule, err);
	if (!ret)
		return 0;
	dmm_cgroup_release(cg);
err_put:
	json_object_put(*words);
	return ret;
}

/* ------------------------------------------------------------------------- */

static __u64 dmm_match_ancestor(const struct dmm_sock_view *v, __u32 level)
{
	const struct dmm_match_socket *s = (const void *)v;

	return level < s->levels ? s->ancestors[level] : 0;
}

/* An address and a port as a rule has them: a full prefix, a range of one. */
static int exact(const struct dmm_rule *r, struct dmm_err *err)
{
	static const __u32 ones[4] = { ~0U, ~0U, ~0U, ~0U };
	static const __u32 one4[4] = { ~0U };

	if ((r->match & DMM_MATCH_SRC &&
	     memcmp(r->src_mask, r->src_family == AF_INET6 ? ones : one4, 16)) ||
	    (r->match & DMM_MATCH_DST &&
	     memcmp(r->dst_mask, r->dst_family == AF_INET6 ? ones : one4, 16)))
		return dmm_err_set(err, -EINVAL,
				   "a socket has an address; expected src and dst without a length");
	if (r->sport_min != r->sport_max || r->dport_min != r->dport_max)
		return dmm_err_set(err, -EINVAL,
				   "a socket has one port; expected sport and dport without a range");
	return 0;
}

/* The ids of all cgroups down to @s->cg. */
static int ancestors_find(struct dmm_match_socket *s, struct dmm_err *err)
{
	char path[4096];
	struct dmm_cgroup up;
	__u32 level = s->cg.level + 1;
	char *slash;
	int ret;

	if (level > LEVELS_MAX)
		return dmm_err_set(err, -EINVAL, "cgroup %s: more than %d levels deep",
				   s->cg.path, LEVELS_MAX);
	s->levels = level;
	snprintf(path, sizeof(path), "%s", s->cg.path);
	while (level--) {
		ret = dmm_cgroup_resolve(*path ? path : "/", &up, NULL, err);
		if (ret)
			return ret;
		s->ancestors[level] = up.id;
		dmm_cgroup_release(&up);
		slash = strrchr(path, '/');
		if (slash)
			*slash = 0;
	}
	return 0;
}

int dmm_match_socket_new(const struct dmm_match_spec *spec,
			 struct dmm_match_socket **out, struct dmm_err *err)
{
	struct dmm_match_socket *s;
	struct json_object *words;
	struct dmm_rule r = {};
	int ret;

	s = calloc(1, sizeof(*s));
	if (!s)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	ret = dmm_match_parse(spec, &r, &s->cg, &words, err);
	if (ret)
		goto err_free;
	json_object_put(words);
	ret = exact(&r, err);
	if (!ret && s->cg.path)
		ret = ancestors_find(s, err);
	if (ret)
		goto err_cgroup;

	s->given = r.match | DMM_MATCH_DIR;	/* connect, when not said */
	s->view = (struct dmm_sock_view) {
		.dir = r.match & DMM_MATCH_DIR ? r.dir : DMM_DIR_CONNECT,
		/* No task has this one. */
		.uid = r.match & DMM_MATCH_UID ? r.uid : UINT32_MAX,
		.family = r.match & DMM_MATCH_DST ? r.dst_family : r.src_family,
		.sport = r.sport_min,
		.dport = r.dport_min,
	};
	memcpy(s->view.src, r.src, sizeof(r.src));
	memcpy(s->view.dst, r.dst, sizeof(r.dst));
	memcpy(s->view.comm, r.comm, sizeof(r.comm));
	*out = s;
	return 0;

err_cgroup:
	dmm_cgroup_release(&s->cg);
err_free:
	free(s);
	return ret;
}

void dmm_match_socket_free(struct dmm_match_socket *s)
{
	dmm_cgroup_release(&s->cg);
	free(s);
}

const struct dmm_cgroup *dmm_match_socket_cgroup(const struct dmm_match_socket *s)
{
	return s->cg.path ? &s->cg : NULL;
}

__u32 dmm_match_try(const struct dmm_rule *rule, const struct dmm_match_socket *s)
{
	return dmm_rule_mismatch(rule, &s->view);
}

bool dmm_match_given(const struct dmm_match_socket *s, __u32 bit)
{
	return s->given & bit;
}
