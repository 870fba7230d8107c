// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client.h"
#include "command.h"

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) :
							    "-";
}

static void print_time(struct json_object *event)
{
	struct json_object *v;
	char text[32] = "";
	struct tm tm;
	double t = 0;
	time_t sec;

	if (json_object_object_get_ex(event, "time", &v))
		t = json_object_get_double(v);
	sec = t;
	if (localtime_r(&sec, &tm))
		strftime(text, sizeof(text), "%H:%M:%S", &tm);
	printf("%s.%03d ", text, (int)((t - sec) * 1000));
}

static void print_counters(struct json_object *e)
{
	struct json_object *f;

	printf("rule %s stack %s hits %s adopted %s shim %s rejected %s", str(e, "rule"),
	       str(e, "stack"), str(e, "hits"), str(e, "adopted"), str(e, "shim"),
	       str(e, "rejected"));
	if (json_object_object_get_ex(e, "fallbacks", &f)) {
		json_object_object_foreach(f, key, val)
			printf(" %s=%s", key, json_object_get_string(val));
	}
	putchar('\n');
}

static void print_rules(struct json_object *e)
{
	struct json_object *rules;
	size_t i;

	if (!json_object_object_get_ex(e, "rules", &rules))
		return;
	printf("rules");
	for (i = 0; i < json_object_array_length(rules); i++)
		printf(" %s", str(json_object_array_get_idx(rules, i), "id"));
	printf("%s\n", i ? "" : " none");
}

static bool on_event(void *data, struct json_object *event)
{
	const struct dmm_ctl *ctl = data;
	const char *kind = str(event, "event");
	struct json_object *reason;

	if (ctl->json) {
		puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
	} else {
		print_time(event);
		if (!strcmp(kind, "stack")) {
			printf("stack %s %s", str(event, "name"), str(event, "state"));
			if (json_object_object_get_ex(event, "reason", &reason))
				printf(": %s", json_object_get_string(reason));
			putchar('\n');
		} else if (!strcmp(kind, "rules")) {
			print_rules(event);
		} else if (!strcmp(kind, "counters")) {
			print_counters(event);
		} else {
			puts(kind);
		}
	}
	return !fflush(stdout);
}

int dmm_command_monitor(const struct dmm_ctl *ctl, int argc, char **argv)
{
	struct dmm_err err;

	if (argc)
		return DMM_MISUSE;
	if (dmm_client_listen(ctl->socket, "monitor", on_event, (void *)ctl, &err)) {
		fprintf(stderr, "dmmctl: %s\n", err.msg);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
