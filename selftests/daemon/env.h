/* SPDX-License-Identifier: Apache-2.0 */
/* dmmd and dmmctl in a sandbox, with the fake worker. */
#ifndef DMM_TEST_ENV_H
#define DMM_TEST_ENV_H

#include <json-c/json.h>
#include <sys/types.h>

#include "sandbox.h"

struct env {
	struct sandbox sb;
	char bin[512];		/* where dmmd and dmmctl are */
	char here[512];		/* where the fake worker is */
	char telemetry[80];
	char run[96], socket[112], bpf[96], lib[96], log[96], state[112];
	pid_t dmmd;		/* 0 while none runs */
	/* of the last ctl() */
	char out[32768], err[4096];
};

/* Enter a sandbox; type "fake" has a plug-in there, dmmd is not started. */
int env_enter(struct env *e);
/* End dmmd by `dmmctl shutdown`, or the hard way, and leave the sandbox. */
void env_leave(struct env *e);

/* Start dmmd and wait until it answers; its exit status (or -1) if it ends. */
int dmmd_start(struct env *e);
/* Send @sig and wait for its end; the wait status. */
int dmmd_end(struct env *e, int sig);

/* Run dmmctl with the words up to a NULL; its exit status. */
#define ctl(e, ...) ctl_words(e, (const char *[]){ __VA_ARGS__, NULL })
int ctl_words(struct env *e, const char * const *words);

/* The same with -j; the answer, to be put, or NULL. */
#define ctl_json(e, ...) ctl_json_words(e, (const char *[]){ __VA_ARGS__, NULL })
struct json_object *ctl_json_words(struct env *e, const char * const *words);

/* Is stderr of the last ctl() exactly one line, with @part in it? */
bool one_line(const struct env *e, const char *part);

/* A member of stack @name as `stack list` shows it; "" when there is none. */
const char *stack_field(struct env *e, const char *name, const char *key);
/* Likewise as a number; -1 when there is none. */
long stack_number(struct env *e, const char *name, const char *key);

/* hits of rule @id; -1 when there is no such rule. */
long rule_hits(struct env *e, long id);

/* A file's content, allocated; NULL when it cannot be read. */
char *slurp(const char *path);

/* A connection to the control socket. */
int rpc_connect(const struct env *e);
/* The next line, allocated, without its end; NULL at the end, or after @ms. */
char *rpc_line(int fd, int ms);

#endif
