// SPDX-License-Identifier: Apache-2.0
/*
 * The configuration as a YAML file. libcyaml judges the form, dmmd the content; both
 * are told with the line they are about.
 */
#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "client.h"
#include "command.h"
#include "print.h"

#define FILE_MAX (1 << 20)

struct match {
	char *cgroup, *uid, *comm, *proto, *dir, *src, *dst, *sport, *dport;
};

struct rule {
	struct match match;
	char *stack, *fallback;
};

struct stack {
	char *name, *type, *dev, *netns, *route, *strict_filters, *watchdog;
};

struct config {
	struct stack *stacks;
	unsigned int stacks_count;
	char **cgroups;
	unsigned int cgroups_count;
	struct rule *rules;
	unsigned int rules_count;
};

#define TEXT(_struct, _key)						\
	CYAML_FIELD_STRING_PTR(#_key, CYAML_FLAG_POINTER, struct _struct, _key, 0, \
			       CYAML_UNLIMITED)
#define MAYBE(_struct, _key)						\
	CYAML_FIELD_STRING_PTR(#_key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, \
			       struct _struct, _key, 0, CYAML_UNLIMITED)

static const cyaml_schema_field_t match_fields[] = {
	MAYBE(match, cgroup),	MAYBE(match, uid),	MAYBE(match, comm),
	MAYBE(match, proto),	MAYBE(match, dir),	MAYBE(match, src),
	MAYBE(match, dst),	MAYBE(match, sport),	MAYBE(match, dport),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t rule_fields[] = {
	CYAML_FIELD_MAPPING("match", CYAML_FLAG_DEFAULT, struct rule, match,
			    match_fields),
	TEXT(rule, stack),	MAYBE(rule, fallback),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t stack_fields[] = {
	TEXT(stack, name),	TEXT(stack, type),	TEXT(stack, dev),
	MAYBE(stack, netns),	MAYBE(stack, route),	MAYBE(stack, watchdog),
	CYAML_FIELD_STRING_PTR("strict-filters", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
			       struct stack, strict_filters, 0, CYAML_UNLIMITED),
	CYAML_FIELD_END
};

static const cyaml_schema_value_t rule_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct rule, rule_fields),
};

static const cyaml_schema_value_t stack_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct stack, stack_fields),
};

static const cyaml_schema_value_t path_value = {
	CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

static const cyaml_schema_field_t config_fields[] = {
	CYAML_FIELD_SEQUENCE("stacks", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
			     struct config, stacks, &stack_value, 0, CYAML_UNLIMITED),
	CYAML_FIELD_SEQUENCE("cgroups", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
			     struct config, cgroups, &path_value, 0, CYAML_UNLIMITED),
	CYAML_FIELD_SEQUENCE("rules", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
			     struct config, rules, &rule_value, 0, CYAML_UNLIMITED),
	CYAML_FIELD_END
};

static const cyaml_schema_value_t config_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config, config_fields),
};

/* What libcyaml says of an error: several lines, the first two of which count. */
struct complaint {
	char what[256];
	unsigned int line;	/* 0 while unknown */
};

static void on_log(cyaml_log_t level, void *data, const char *fmt, va_list args)
{
	struct complaint *c = data;
	const char *at;
	char text[256];

	vsnprintf(text, sizeof(text), fmt, args);
	text[strcspn(text, "\n")] = 0;
	at = strstr(text, "line: ");
	if (!at)
		at = strstr(text, "line ");
	if (at && !c->line)
		c->line = strtoul(at + strcspn(at, "0123456789"), NULL, 10);
	if (!*c->what)
		snprintf(c->what, sizeof(c->what), "%s",
			 strncmp(text, "Load: ", 6) ? text : text + 6);
}

static void config_setup(cyaml_config_t *cfg, struct complaint *c)
{
	memset(c, 0, sizeof(*c));
	*cfg = (cyaml_config_t) {
		.log_fn = on_log,
		.log_ctx = c,
		.log_level = CYAML_LOG_ERROR,
		.mem_fn = cyaml_mem,
		.flags = CYAML_CFG_NO_ALIAS,
	};
}

/* All of @path ("-" is stdin), allocated; NULL after a line on stderr. */
static char *slurp(const char *path, size_t *len)
{
	char *buf = malloc(FILE_MAX + 1);
	FILE *f;

	f = strcmp(path, "-") ? fopen(path, "re") : stdin;
	if (!f || !buf) {
		fprintf(stderr, "dmmctl: %s: %s\n", path, strerror(errno));
		goto err_free;
	}
	*len = fread(buf, 1, FILE_MAX + 1, f);
	if (ferror(f)) {
		fprintf(stderr, "dmmctl: %s: %s\n", path, strerror(errno));
		goto err_close;
	}
	if (*len > FILE_MAX) {
		fprintf(stderr, "dmmctl: %s: longer than %d bytes\n", path, FILE_MAX);
		goto err_close;
	}
	if (f != stdin)
		fclose(f);
	return buf;

err_close:
	if (f != stdin)
		fclose(f);
err_free:
	free(buf);
	return NULL;
}

/* Is it YAML at all? libyaml knows the line better than libcyaml passes on. */
static bool syntax_check(const char *path, const char *text, size_t len)
{
	yaml_parser_t parser;
	yaml_document_t doc;
	size_t line, i;
	bool ok;

	if (!yaml_parser_initialize(&parser))
		return true;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	ok = yaml_parser_load(&parser, &doc);
	if (ok) {
		yaml_document_delete(&doc);
	} else {
		line = parser.problem_mark.line + 1;
		/* What is no text has no mark, only an offset. */
		if (parser.error == YAML_READER_ERROR)
			for (i = 0, line = 1; i < len && i < parser.problem_offset; i++)
				line += text[i] == '\n';
		fprintf(stderr, "dmmctl: %s:%zu: not YAML: %s\n", path, line,
			parser.problem);
	}
	yaml_parser_delete(&parser);
	return ok;
}

static struct config *config_parse(const char *path, const char *text, size_t len)
{
	struct config *config = NULL;
	struct complaint c;
	cyaml_config_t cfg;
	cyaml_err_t e;

	if (!syntax_check(path, text, len))
		return NULL;
	config_setup(&cfg, &c);
	e = cyaml_load_data((const uint8_t *)text, len, &cfg, &config_value,
			    (cyaml_data_t **)&config, NULL);
	if (e != CYAML_OK) {
		dmm_err_clean(c.what);
		if (c.line)
			fprintf(stderr, "dmmctl: %s:%u: %s\n", path, c.line, c.what);
		else
			fprintf(stderr, "dmmctl: %s: %s\n", path, *c.what ? c.what :
				cyaml_strerror(e));
		return NULL;
	}
	if (!config)
		fprintf(stderr, "dmmctl: %s: empty; expected stacks, cgroups, rules\n",
			path);
	return config;
}

static void config_free(struct config *config)
{
	struct complaint c;
	cyaml_config_t cfg;

	config_setup(&cfg, &c);
	cyaml_free(&cfg, &config_value, config, 0);
}

/* ------------------------------------------------------------------------- */

/* The members of a mapping that are strings, by the schema. */
static struct json_object *strings_json(const cyaml_schema_field_t *fields,
					const void *data)
{
	struct json_object *o = json_object_new_object();
	const char *v;

	for (; fields->key; fields++) {
		if (fields->value.type != CYAML_STRING)
			continue;
		v = *(char * const *)((const char *)data + fields->data_offset);
		if (v)
			json_object_object_add(o, fields->key, json_object_new_string(v));
	}
	return o;
}

static struct json_object *config_json(const struct config *config)
{
	struct json_object *o = json_object_new_object(), *r;
	struct json_object *stacks = json_object_new_array();
	struct json_object *cgroups = json_object_new_array();
	struct json_object *rules = json_object_new_array();
	unsigned int i;

	for (i = 0; i < config->stacks_count; i++)
		json_object_array_add(stacks,
				      strings_json(stack_fields, &config->stacks[i]));
	for (i = 0; i < config->cgroups_count; i++)
		json_object_array_add(cgroups,
				      json_object_new_string(config->cgroups[i]));
	for (i = 0; i < config->rules_count; i++) {
		r = strings_json(rule_fields, &config->rules[i]);
		json_object_object_add(r, "match", strings_json(match_fields,
							&config->rules[i].match));
		json_object_array_add(rules, r);
	}
	json_object_object_add(o, "stacks", stacks);
	json_object_object_add(o, "cgroups", cgroups);
	json_object_object_add(o, "rules", rules);
	return o;
}

/* The same backwards; the strings belong to @o. */
static void strings_from(const cyaml_schema_field_t *fields, struct json_object *o,
			 void *data)
{
	struct json_object *v;

	for (; fields->key; fields++)
		if (fields->value.type == CYAML_STRING &&
		    json_object_object_get_ex(o, fields->key, &v) && v)
			*(const char **)((char *)data + fields->data_offset) =
				json_object_get_string(v);
}

/* An array of @key's length in @o, of members of @size; its length in @n. */
static void *array_from(struct json_object *o, const char *key, size_t size,
			struct json_object **list, unsigned int *n)
{
	*n = 0;
	if (json_object_object_get_ex(o, key, list))
		*n = json_object_array_length(*list);
	return calloc(*n + 1, size);
}

static int config_from(struct json_object *o, struct config *c)
{
	struct json_object *list, *r, *m;
	unsigned int i;

	c->stacks = array_from(o, "stacks", sizeof(*c->stacks), &list, &c->stacks_count);
	for (i = 0; c->stacks && i < c->stacks_count; i++)
		strings_from(stack_fields, json_object_array_get_idx(list, i),
			     &c->stacks[i]);
	c->cgroups = array_from(o, "cgroups", sizeof(*c->cgroups), &list,
				&c->cgroups_count);
	for (i = 0; c->cgroups && i < c->cgroups_count; i++)
		c->cgroups[i] = (char *)json_object_get_string(
			json_object_array_get_idx(list, i));
	c->rules = array_from(o, "rules", sizeof(*c->rules), &list, &c->rules_count);
	for (i = 0; c->rules && i < c->rules_count; i++) {
		r = json_object_array_get_idx(list, i);
		strings_from(rule_fields, r, &c->rules[i]);
		if (json_object_object_get_ex(r, "match", &m))
			strings_from(match_fields, m, &c->rules[i].match);
	}
	return c->stacks && c->cgroups && c->rules ? 0 : -ENOMEM;
}

/* ------------------------------------------------------------------------- */

static yaml_node_t *step(yaml_document_t *doc, yaml_node_t *node, const char *word)
{
	yaml_node_pair_t *p;
	yaml_node_t *key;
	long i;

	if (node->type == YAML_SEQUENCE_NODE) {
		i = strtol(word, NULL, 10);
		if (i < 0 || i >= node->data.sequence.items.top -
				  node->data.sequence.items.start)
			return NULL;
		return yaml_document_get_node(doc, node->data.sequence.items.start[i]);
	}
	if (node->type != YAML_MAPPING_NODE)
		return NULL;
	for (p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		key = yaml_document_get_node(doc, p->key);
		if (key->type == YAML_SCALAR_NODE &&
		    !strcmp((const char *)key->data.scalar.value, word))
			return yaml_document_get_node(doc, p->value);
	}
	return NULL;
}

/* The line of "rules/2/match/dport", as far as there is such a thing; 0 if none. */
static unsigned int line_of(const char *text, size_t len, const char *where)
{
	yaml_parser_t parser;
	yaml_document_t doc;
	unsigned int line = 0;
	yaml_node_t *node;
	char path[64], *word, *save;

	if (!*where || !yaml_parser_initialize(&parser))
		return 0;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (yaml_parser_load(&parser, &doc)) {
		snprintf(path, sizeof(path), "%s", where);
		node = yaml_document_get_root_node(&doc);
		word = strtok_r(path, "/", &save);
		while (node && word) {
			node = step(&doc, node, word);
			if (node)
				line = node->start_mark.line + 1;
			word = strtok_r(NULL, "/", &save);
		}
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	return line;
}

static int send_file(const struct dmm_ctl *ctl, const char *path, const char *method)
{
	struct json_object *result;
	struct config *config;
	struct dmm_err err;
	unsigned int line;
	size_t len;
	char *text;
	int ret = EXIT_FAILURE;

	text = slurp(path, &len);
	if (!text)
		return EXIT_FAILURE;
	config = config_parse(path, text, len);
	if (!config)
		goto out;
	if (dmm_client_call(ctl->socket, method, config_json(config), &result, &err)) {
		line = line_of(text, len, err.where);
		if (line)
			fprintf(stderr, "dmmctl: %s:%u: %s\n", path, line, err.msg);
		else
			fprintf(stderr, "dmmctl: %s\n", err.msg);
	} else {
		json_object_put(result);
		ret = EXIT_SUCCESS;
	}
	config_free(config);
out:
	free(text);
	return ret;
}

int dmm_command_apply(const struct dmm_ctl *ctl, int argc, char **argv)
{
	return argc == 1 ? send_file(ctl, argv[0], "config.apply") : DMM_MISUSE;
}

int dmm_command_check(const struct dmm_ctl *ctl, int argc, char **argv)
{
	return argc == 1 ? send_file(ctl, argv[0], "config.check") : DMM_MISUSE;
}

/* Write to a file of another name, then give it its own. */
static int replace(const char *path, const char *text, size_t len)
{
	char tmp[4096];
	FILE *f;

	if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	f = fopen(tmp, "we");
	if (!f)
		return -errno;
	if (fwrite(text, 1, len, f) != len || fflush(f) || fsync(fileno(f)) < 0) {
		fclose(f);
		unlink(tmp);
		return -EIO;
	}
	fclose(f);
	if (rename(tmp, path) < 0) {
		int ret = -errno;

		unlink(tmp);
		return ret;
	}
	return 0;
}

int dmm_command_save(const struct dmm_ctl *ctl, int argc, char **argv)
{
	struct config config = {};
	struct json_object *o;
	struct complaint c;
	cyaml_config_t cfg;
	struct dmm_err err;
	char *text = NULL;
	size_t len = 0;
	int ret = 0;

	if (argc != 1)
		return DMM_MISUSE;
	if (dmm_client_call(ctl->socket, "config.get", NULL, &o, &err)) {
		fprintf(stderr, "dmmctl: %s\n", err.msg);
		return EXIT_FAILURE;
	}
	config_setup(&cfg, &c);
	cfg.flags |= CYAML_CFG_STYLE_BLOCK;
	if (config_from(o, &config) ||
	    cyaml_save_data(&text, &len, &cfg, &config_value, &config, 0) != CYAML_OK)
		ret = -ENOMEM;
	else if (!strcmp(argv[0], "-"))
		ret = fwrite(text, 1, len, stdout) == len && !fflush(stdout) ? 0 : -EIO;
	else
		ret = replace(argv[0], text, len);
	if (ret)
		fprintf(stderr, "dmmctl: cannot write %s: %s\n", argv[0],
			*c.what ? c.what : strerror(-ret));
	free(text);
	free(config.stacks);
	free(config.cgroups);
	free(config.rules);
	json_object_put(o);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
