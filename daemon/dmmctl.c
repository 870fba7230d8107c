// SPDX-License-Identifier: Apache-2.0
#include <getopt.h>
#include <libsmartcols/libsmartcols.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "command.h"
#include "print.h"
#include "version.h"

#define EXIT_USAGE 2

/*
 * A command: what it sends, and how the answer is shown. Values are judged by
 * the daemon; here only the words are put into their places.
 */
struct command {
	const char *object, *verb;	/* verb NULL: the object is a command itself */
	const char *args;
	const char *help;
	const char *method;
	/* The params of the request from the words that follow; false: misuse. */
	bool (*params)(int argc, char **argv, struct json_object *params);
	void (*print)(struct json_object *result);
	/* Or, instead of these three: */
	int (*special)(const struct dmm_ctl *ctl, int argc, char **argv);
};

#define SPECIAL(fn)	NULL, NULL, NULL, fn

static bool add(struct json_object *o, const char *key, const char *value)
{
	if (json_object_object_get_ex(o, key, NULL))
		return false;	/* twice */
	json_object_object_add(o, key, json_object_new_string(value));
	return true;
}

static bool no_words(int argc, char **argv, struct json_object *params)
{
	return !argc;
}

static bool one_name(int argc, char **argv, struct json_object *params)
{
	return argc == 1 && add(params, "name", argv[0]);
}

static bool one_id(int argc, char **argv, struct json_object *params)
{
	return argc == 1 && add(params, "id", argv[0]);
}

static bool one_path(int argc, char **argv, struct json_object *params)
{
	return argc == 1 && add(params, "path", argv[0]);
}

/* NAME key=value... */
static bool stack_words(int argc, char **argv, struct json_object *params)
{
	char *eq;
	int i;

	if (argc < 1 || !add(params, "name", argv[0]))
		return false;
	for (i = 1; i < argc; i++) {
		eq = strchr(argv[i], '=');
		if (!eq || eq == argv[i])
			return false;
		*eq = 0;
		if (!add(params, argv[i], eq + 1))
			return false;
	}
	return true;
}

/* ID before ID */
static bool move_words(int argc, char **argv, struct json_object *params)
{
	return argc == 3 && !strcmp(argv[1], "before") && add(params, "id", argv[0]) &&
	       add(params, "before", argv[2]);
}

/* MATCH...: pairs of words. */
static bool match_words(int argc, char **argv, struct json_object *params)
{
	struct json_object *match = json_object_new_object();
	int i;

	json_object_object_add(params, "match", match);
	if (!argc || argc % 2)
		return false;
	for (i = 0; i < argc; i += 2)
		if (!add(match, argv[i], argv[i + 1]))
			return false;
	return true;
}

/* [before ID] MATCH... stack NAME [fallback WORD]: pairs of words. */
static bool rule_words(int argc, char **argv, struct json_object *params)
{
	struct json_object *match = json_object_new_object();
	bool plain;
	int i;

	json_object_object_add(params, "match", match);
	if (!argc || argc % 2)
		return false;
	for (i = 0; i < argc; i += 2) {
		plain = (!i && !strcmp(argv[i], "before")) ||
			!strcmp(argv[i], "stack") || !strcmp(argv[i], "fallback");
		if (!add(plain ? params : match, argv[i], argv[i + 1]))
			return false;
	}
	return true;
}

/* [stack NAME] */
static bool sock_words(int argc, char **argv, struct json_object *params)
{
	if (!argc)
		return true;
	return argc == 2 && !strcmp(argv[0], "stack") && add(params, "stack", argv[1]);
}

static const struct command commands[] = {
	{ "status", NULL, "", "the daemon, the module, how many of what",
	  "status", no_words, dmm_print_status, NULL },
	{ "stack", "list", "", "all stacks and their workers",
	  "stack.list", no_words, dmm_print_stacks, NULL },
	{ "stack", "show", "NAME", "one stack",
	  "stack.show", one_name, dmm_print_stack, NULL },
	{ "stack", "add", "NAME type=TYPE dev=DEV [netns=NAME|PATH] [KEY=VALUE]...",
	  "start a stack on a device; KEY=VALUE: route=own, strict-filters=on,\n"
	  "        watchdog=SECONDS",
	  "stack.add", stack_words, dmm_print_stack_added, NULL },
	{ "stack", "del", "NAME", "stop it, for good",
	  "stack.del", one_name, dmm_print_nothing, NULL },
	{ "stack", "restart", "NAME", "stop and start its worker",
	  "stack.restart", one_name, dmm_print_nothing, NULL },
	{ "rule", "list", "", "all rules, in their order",
	  "rule.list", no_words, dmm_print_rules, NULL },
	{ "rule", "add", "[before ID] MATCH... stack NAME [fallback kernel|reject]",
	  "send what matches to a stack; MATCH: cgroup PATH, uid N, comm NAME,\n"
	  "        proto tcp, dir connect|listen, src PREFIX, dst PREFIX,\n"
	  "        sport N[-M], dport N[-M]",
	  "rule.add", rule_words, dmm_print_rule_added, NULL },
	{ "rule", "del", "ID", "forget a rule",
	  "rule.del", one_id, dmm_print_nothing, NULL },
	{ "rule", "move", "ID before ID", "try a rule earlier, or later",
	  "rule.move", move_words, dmm_print_nothing, NULL },
	{ "rule", "flush", "", "forget all rules",
	  "rule.flush", no_words, dmm_print_nothing, NULL },
	{ "rule", "explain", "MATCH...",
	  "which rule would take this socket, and why none before it",
	  "rule.explain", match_words, dmm_print_explain, NULL },
	{ "cgroup", "list", "", "cgroups that are under the rules",
	  "cgroup.list", no_words, dmm_print_cgroups, NULL },
	{ "cgroup", "attach", "PATH", "put a cgroup under the rules",
	  "cgroup.attach", one_path, dmm_print_nothing, NULL },
	{ "cgroup", "detach", "PATH", "take it out again",
	  "cgroup.detach", one_path, dmm_print_nothing, NULL },
	{ "sock", "list", "[stack NAME]", "adopted sockets",
	  "sock.list", sock_words, dmm_print_socks, NULL },
	{ "stats", NULL, "", "counters of rules, stacks and workers",
	  "stats", no_words, dmm_print_stats, NULL },
	{ "monitor", NULL, "", "events as they happen, until ^C",
	  SPECIAL(dmm_command_monitor) },
	{ "apply", NULL, "FILE", "make the configuration what FILE says, or change nothing",
	  SPECIAL(dmm_command_apply) },
	{ "save", NULL, "FILE", "write the configuration to FILE, or to - for stdout",
	  SPECIAL(dmm_command_save) },
	{ "check", NULL, "FILE", "could FILE be applied?",
	  SPECIAL(dmm_command_check) },
	{ "run", NULL, "stack NAME -- COMMAND [ARGUMENT]...",
	  "run a program on a stack, in a cgroup of its own",
	  SPECIAL(dmm_command_run) },
	{ "shutdown", NULL, "", "stop all stacks, remove all rules, end dmmd",
	  "shutdown", no_words, dmm_print_nothing, NULL },
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static void command_usage(FILE *f, const struct command *c)
{
	fprintf(f, "  dmmctl %s%s%s%s%s\n        %s\n", c->object, c->verb ? " " : "",
		c->verb ? c->verb : "", *c->args ? " " : "", c->args, c->help);
}

/* All commands, or those of one object. */
static void help(const char *object)
{
	size_t i;

	printf("usage: dmmctl [-j] [-s SOCKET] OBJECT [VERB] [ARGUMENT]...\n\n");
	for (i = 0; i < NCOMMANDS; i++)
		if (!object || !strcmp(object, commands[i].object))
			command_usage(stdout, &commands[i]);
	if (object)
		return;
	printf("\n"
	       "  -j, --json           print the answer as JSON\n"
	       "  -s, --socket PATH    dmmd's socket (" DMM_RUNTIME_DIR "/"
	       DMM_SOCKET_NAME ")\n"
	       "  -h, --help           this; with an OBJECT, its commands\n"
	       "  -V, --version\n"
	       "\n"
	       "Ends with 0, 1 when it could not be done, 2 when it was not understood.\n"
	       "See dmmctl(8).\n");
}

static bool is_object(const char *word)
{
	size_t i;

	for (i = 0; i < NCOMMANDS; i++)
		if (!strcmp(word, commands[i].object))
			return true;
	return false;
}

/* The command that the words begin with; NULL after saying what is wrong. */
static const struct command *command_find(int argc, char **argv)
{
	size_t i;

	if (!argc) {
		fprintf(stderr, "dmmctl: what to do? Try dmmctl --help.\n");
		return NULL;
	}
	if (!is_object(argv[0])) {
		fprintf(stderr, "dmmctl: unknown object \"%.64s\". Try dmmctl --help.\n",
			argv[0]);
		return NULL;
	}
	for (i = 0; i < NCOMMANDS; i++)
		if (!strcmp(argv[0], commands[i].object) &&
		    (!commands[i].verb ||
		     (argc > 1 && !strcmp(argv[1], commands[i].verb))))
			return &commands[i];
	if (argc > 1)
		fprintf(stderr, "dmmctl: unknown verb \"%.64s\" for %s. Try dmmctl %s --help.\n",
			argv[1], argv[0], argv[0]);
	else
		fprintf(stderr, "dmmctl: %s needs a verb. Try dmmctl %s --help.\n", argv[0],
			argv[0]);
	return NULL;
}

static int misuse(const struct command *c)
{
	fprintf(stderr, "dmmctl: usage: dmmctl %s%s%s%s%s\n", c->object,
		c->verb ? " " : "", c->verb ? c->verb : "", *c->args ? " " : "", c->args);
	return EXIT_USAGE;
}

static int run(const struct command *c, int argc, char **argv,
	       const struct dmm_ctl *ctl)
{
	struct json_object *params, *result;
	struct dmm_err err;
	int ret;

	if (c->special) {
		ret = c->special(ctl, argc, argv);
		return ret == DMM_MISUSE ? misuse(c) : ret;
	}
	params = json_object_new_object();
	if (!c->params(argc, argv, params)) {
		json_object_put(params);
		return misuse(c);
	}
	if (dmm_client_call(ctl->socket, c->method, params, &result, &err)) {
		fprintf(stderr, "dmmctl: %s\n", err.msg);
		return EXIT_FAILURE;
	}
	if (ctl->json)
		puts(json_object_to_json_string_ext(result, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		c->print(result);
	json_object_put(result);
	if (fflush(stdout) || ferror(stdout)) {
		perror("dmmctl: standard output");
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{}
	};
	struct dmm_ctl ctl = { .socket = DMM_RUNTIME_DIR "/" DMM_SOCKET_NAME };
	bool want_help = false;
	const struct command *c;
	int opt;

	opterr = 0;	/* one line, in our own words */
	while ((opt = getopt_long(argc, argv, ":js:hV", options, NULL)) != -1) {
		switch (opt) {
		case 'j':
			ctl.json = true;
			break;
		case 's':
			ctl.socket = optarg;
			break;
		case 'h':
			want_help = true;
			break;
		case 'V':
			puts("dmmctl " DMM_VERSION);
			return 0;
		default:
			fprintf(stderr, "dmmctl: %s%.64s%s. Try dmmctl --help.\n",
				opt == '?' ? "unknown option " : "", argv[optind - 1],
				opt == ':' ? " needs a value" : "");
			return EXIT_USAGE;
		}
	}
	ctl.dashes = optind > 1 && !strcmp(argv[optind - 1], "--");
	argc -= optind;
	argv += optind;
	if (want_help || (argc && !strcmp(argv[0], "help"))) {
		help(argc && is_object(argv[0]) ? argv[0] : NULL);
		return 0;
	}
	c = command_find(argc, argv);
	if (!c)
		return EXIT_USAGE;
	scols_init_debug(0);
	argc -= c->verb ? 2 : 1;
	argv += c->verb ? 2 : 1;
	return run(c, argc, argv, &ctl);
}
