// SPDX-License-Identifier: Apache-2.0
#include <libsmartcols/libsmartcols.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "print.h"

#define N(table) (sizeof(table) / sizeof((table)[0]))

/* A column: a member of the row, or what @text makes of the row (allocated). */
struct column {
	const char *title;
	const char *key;
	int flags;
	char *(*text)(struct json_object *row);
};

#define COL(_title, _key)	{ .title = (_title), .key = (_key) }
#define NUM(_title, _key)	{ .title = (_title), .key = (_key), .flags = SCOLS_FL_RIGHT }
#define TEXT(_title, _fn)	{ .title = (_title), .text = (_fn) }

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return v;
}

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v = member(o, key);

	return v ? json_object_get_string(v) : "-";
}

static bool truth(struct json_object *o, const char *key)
{
	return json_object_get_boolean(member(o, key));
}

/* Pieces of text, put together in memory. */
struct text {
	char *buf;
	size_t len;
	FILE *f;
};

static FILE *text_open(struct text *t)
{
	t->f = open_memstream(&t->buf, &t->len);
	if (!t->f) {
		perror("dmmctl");
		exit(1);
	}
	return t->f;
}

/* What was put together, or "-" when that is nothing. */
static char *text_close(struct text *t)
{
	if (!ftell(t->f))
		fputc('-', t->f);
	fclose(t->f);
	return t->buf;
}

static void table_add(struct libscols_table *tb, struct json_object *row,
		      const struct column *cols, size_t ncols)
{
	struct libscols_line *line = scols_table_new_line(tb, NULL);
	size_t i;

	for (i = 0; line && i < ncols; i++) {
		if (cols[i].text)
			scols_line_refer_data(line, i, cols[i].text(row));
		else
			scols_line_set_data(line, i, str(row, cols[i].key));
	}
}

static void table_print(struct json_object *rows, const struct column *cols,
			size_t ncols)
{
	struct libscols_table *tb = scols_new_table();
	size_t i;

	if (!tb) {
		perror("dmmctl");
		exit(1);
	}
	for (i = 0; i < ncols; i++)
		scols_table_new_column(tb, cols[i].title, 0, cols[i].flags);
	for (i = 0; i < json_object_array_length(rows); i++)
		table_add(tb, json_object_array_get_idx(rows, i), cols, ncols);
	/* Also without rows: the titles say what there would be. */
	if (scols_table_is_empty(tb)) {
		for (i = 0; i < ncols; i++)
			printf("%s%s", i ? " " : "", cols[i].title);
		putchar('\n');
	} else {
		scols_print_table(tb);
	}
	scols_unref_table(tb);
}

void dmm_print_nothing(struct json_object *result)
{
}

void dmm_print_status(struct json_object *r)
{
	printf("dmmd      %s, pid %s\n", str(r, "version"), str(r, "pid"));
	if (truth(r, "module"))
		printf("module    loaded, ABI %s\n", str(r, "module_abi"));
	else
		printf("module    not loaded\n");
	printf("policy    %s, %s\n", str(r, "bpf_dir"), truth(r, "kfunc") ?
	       "can adopt sockets" : "cannot adopt sockets (no kfunc)");
	printf("stacks    %s, %s up\n", str(r, "stacks"), str(r, "stacks_up"));
	printf("rules     %s\n", str(r, "rules"));
	printf("cgroups   %s\n", str(r, "cgroups"));
}

void dmm_print_stack_added(struct json_object *r)
{
	if (member(r, "note"))
		printf("note: %s\n", str(r, "note"));
	if (member(r, "filters"))
		printf("note: %s\n", str(r, "filters"));
}

void dmm_print_stacks(struct json_object *r)
{
	static const struct column cols[] = {
		COL("NAME", "name"),	NUM("ID", "id"),
		COL("TYPE", "type"),	COL("DEV", "dev"),
		COL("NETNS", "netns"),	COL("STATE", "state"),
		NUM("PID", "pid"),
		NUM("SOCKETS", "sockets"),
		NUM("RESTARTS", "restarts"),
		COL("REASON", "reason"),
	};

	table_print(r, cols, N(cols));
}

void dmm_print_stack(struct json_object *r)
{
	json_object_object_foreach(r, key, val)
		printf("%-9s %s\n", key, val ? json_object_get_string(val) : "-");
}

void dmm_print_rule_added(struct json_object *r)
{
	printf("rule %s\n", str(r, "id"));
}

static char *match_text(struct json_object *row)
{
	struct json_object *m = member(row, "match");
	struct text t;
	FILE *f = text_open(&t);

	json_object_object_foreach(m, key, val)
		fprintf(f, "%s%s %s", ftell(f) ? " " : "", key,
			json_object_get_string(val));
	if (truth(row, "cgroup_gone"))
		fputs(" (cgroup is gone)", f);
	return text_close(&t);
}

void dmm_print_rules(struct json_object *r)
{
	static const struct column cols[] = {
		NUM("ID", "id"),	TEXT("MATCH", match_text),
		COL("STACK", "stack"),	COL("FALLBACK", "fallback"),
		NUM("HITS", "hits"),
	};

	table_print(r, cols, N(cols));
}

/* Why the rule of @row does not take the socket, or that it does. */
static char *verdict_text(struct json_object *row)
{
	struct text t;
	FILE *f = text_open(&t);

	if (truth(row, "takes"))
		fputs("takes it", f);
	else if (truth(row, "given"))
		fprintf(f, "no: another %s", str(row, "differs"));
	else
		fprintf(f, "no: it asks for %s, which was not said", str(row, "differs"));
	return text_close(&t);
}

void dmm_print_explain(struct json_object *r)
{
	static const struct column cols[] = {
		NUM("RULE", "id"),	TEXT("MATCH", match_text),
		TEXT("VERDICT", verdict_text),
	};

	if (json_object_array_length(member(r, "tried"))) {
		table_print(member(r, "tried"), cols, N(cols));
		putchar('\n');
	}
	if (!truth(r, "covered"))
		printf("stack kernel: the cgroup is not under DMM, so no rule is asked\n");
	else if (!member(r, "rule"))
		printf("stack kernel: no rule takes it\n");
	else if (member(r, "state"))
		printf("stack %s, which is %s: rule %s, fallback %s\n", str(r, "stack"),
		       str(r, "state"), str(r, "rule"), str(r, "fallback"));
	else
		printf("stack kernel: rule %s\n", str(r, "rule"));
}

static char *wishes_text(struct json_object *row)
{
	struct json_object *rules = member(row, "rules");
	struct text t;
	FILE *f = text_open(&t);
	size_t i;

	if (truth(row, "named"))
		fputs("name", f);
	for (i = 0; i < json_object_array_length(rules); i++)
		fprintf(f, "%srule %s", ftell(f) ? ", " : "",
			json_object_get_string(json_object_array_get_idx(rules, i)));
	return text_close(&t);
}

static char *cgroup_state_text(struct json_object *row)
{
	struct text t;
	FILE *f = text_open(&t);

	fputs(str(row, "state"), f);
	if (member(row, "covered_by"))
		fprintf(f, " by %s", str(row, "covered_by"));
	return text_close(&t);
}

void dmm_print_cgroups(struct json_object *r)
{
	static const struct column cols[] = {
		NUM("ID", "id"),	COL("CGROUP", "path"),
		TEXT("STATE", cgroup_state_text),
		TEXT("BY", wishes_text),
	};

	table_print(r, cols, N(cols));
}

void dmm_print_socks(struct json_object *r)
{
	static const struct column cols[] = {
		COL("STACK", "stack"),		COL("STATE", "state"),
		NUM("RECV-Q", "rxq"),
		NUM("SEND-Q", "txq"),
		COL("LOCAL", "local"),		COL("REMOTE", "remote"),
		NUM("INODE", "inode"),
		NUM("UID", "uid"),
	};

	table_print(r, cols, N(cols));
}

/* reason=count reason=count */
static char *fallbacks_text(struct json_object *row)
{
	struct json_object *fb = member(row, "fallbacks");
	struct text t;
	FILE *f = text_open(&t);

	if (fb) {
		json_object_object_foreach(fb, key, val)
			fprintf(f, "%s%s=%s", ftell(f) ? " " : "", key,
				json_object_get_string(val));
	}
	return text_close(&t);
}

/* A heading row of the first table: one of the totals, under a name. */
static void add_total(struct json_object *rows, const char *name, struct json_object *o)
{
	if (!o)
		return;
	json_object_get(o);
	json_object_object_add(o, "name", json_object_new_string(name));
	json_object_array_add(rows, o);
}

static void print_worker_counters(struct json_object *stacks)
{
	static const struct column cols[] = {
		COL("WORKER", "name"), COL("COUNTER", "counter"),
		NUM("VALUE", "value"),
	};
	struct json_object *rows = json_object_new_array(), *s, *w, *row;
	size_t i;

	for (i = 0; i < json_object_array_length(stacks); i++) {
		s = json_object_array_get_idx(stacks, i);
		w = member(s, "worker");
		if (!w)
			continue;
		json_object_object_foreach(w, key, val) {
			row = json_object_new_object();
			json_object_object_add(row, "name",
					       json_object_get(member(s, "name")));
			json_object_object_add(row, "counter", json_object_new_string(key));
			json_object_object_add(row, "value", json_object_get(val));
			json_object_array_add(rows, row);
		}
	}
	if (json_object_array_length(rows)) {
		putchar('\n');
		table_print(rows, cols, N(cols));
	}
	json_object_put(rows);
}

void dmm_print_stats(struct json_object *r)
{
	static const struct column totals[] = {
		COL("TOTAL", "name"),
		NUM("HITS", "hits"),
		NUM("ADOPTED", "adopted"),
		NUM("SHIM", "shim"),
		NUM("REJECTED", "rejected"),
		TEXT("FALLBACKS", fallbacks_text),
	};
	static const struct column rules[] = {
		NUM("RULE", "id"),	COL("STACK", "stack"),
		NUM("HITS", "hits"),
		NUM("ADOPTED", "adopted"),
		NUM("SHIM", "shim"),
		NUM("REJECTED", "rejected"),
		TEXT("FALLBACKS", fallbacks_text),
	};
	static const struct column stacks[] = {
		COL("STACK", "name"),
		NUM("SOCKETS", "socks"),
		NUM("ADOPTED", "adopted"),
		NUM("BAD-EVENTS", "bad_events"),
		NUM("STALE-EVENTS", "stale_events"),
		TEXT("FALLBACKS", fallbacks_text),
	};
	struct json_object *rows = json_object_new_array();

	add_total(rows, "rules", member(r, "policy"));
	add_total(rows, "module", member(r, "module"));
	table_print(rows, totals, N(totals));
	putchar('\n');
	table_print(member(r, "rules"), rules, N(rules));
	putchar('\n');
	table_print(member(r, "stacks"), stacks, N(stacks));
	print_worker_counters(member(r, "stacks"));
	json_object_put(rows);
}
