/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configured stacks and the lives of their workers.
 *
 *	starting -> up -> backoff -> starting ...	the worker died
 *	starting -> down -> starting ...		it cannot be started: no device
 *	any -> stopping -> gone, or starting		del, restart, shutdown
 */
#ifndef DMM_STACK_H
#define DMM_STACK_H

#include <json-c/json.h>
#include <linux/dmm.h>
#include <stdbool.h>

#include "daemon.h"
#include "netdev.h"
#include "parse.h"
#include "telemetry.h"
#include "watchdog.h"
#include "worker.h"

enum dmm_stack_state {
	DMM_STACK_STARTING,
	DMM_STACK_UP,
	DMM_STACK_BACKOFF,
	DMM_STACK_DOWN,
	DMM_STACK_STOPPING,
};

/*
 * What a stack may be told beside its place, at its beginning.
 * @route_own: the device is its own
 * @strict_filters: what netfilter could see stays native
 * @watchdog: seconds that its worker may stand still, 0 for ever
 */
struct dmm_stack_opts {
	bool route_own;
	bool strict_filters;
	unsigned int watchdog;
};

struct dmm_stack {
	TAILQ_ENTRY(dmm_stack) entry;
	struct dmm_daemon *d;
	char name[DMM_NAME_MAX];
	char type[DMM_NAME_MAX];
	char dev[16];
	char *netns;			/* name, path, or NULL for our own */
	struct dmm_stack_opts opts;
	uint32_t id;

	bool committed;			/* it was up once, so it stays configured */
	bool deleting;			/* once its worker has stopped */
	bool no_module;			/* the worker came up before the module did */
	enum dmm_stack_state state;
	char reason[512];		/* why it is not up, or "" */
	struct dmm_netdev netdev;		/* as last seen */
	struct dmm_worker *worker;	/* NULL while none runs */
	pid_t old_pid;			/* what an earlier daemon left, at start only */
	uint64_t old_start;
	struct dmm_telemetry *probe;	/* of a worker that an earlier daemon left */
	sd_event_source *timer;		/* the next start */
	uint64_t up_since_us, backoff_us;
	unsigned int restarts;
	unsigned int stalls;		/* workers that the watchdog ended */
	struct dmm_watchdog watchdog;
	struct dmm_rpc_call *call;	/* add, restart or del, waiting */
	/* instead of a call: told once, as a call would be answered */
	void (*done)(struct dmm_stack *s, const char *error, void *data);
	void *done_data;
	const void *plan;		/* the change of configuration that made it */
};

struct dmm_stack *dmm_stack_find(struct dmm_daemon *d, const char *name);
const char *dmm_stack_state_name(const struct dmm_stack *s);
void dmm_stack_free(struct dmm_stack *s);

/* What dmm_stack_new() takes; strings are borrowed, NULL when not given. */
struct dmm_stack_spec {
	const char *name, *type, *dev, *netns, *route, *strict_filters, *watchdog;
};

#define DMM_STACK_PARAMS	7

/* The parameters that give @spec, for dmm_parse_params(). */
void dmm_stack_params(struct dmm_stack_spec *spec,
		      struct dmm_param table[DMM_STACK_PARAMS]);

/* What @spec says beside the place. */
int dmm_stack_opts_parse(const struct dmm_stack_spec *spec, struct dmm_stack_opts *opts,
			 struct dmm_err *err);

/* The same again, as words; what is as by default is left out. */
void dmm_stack_opts_json(const struct dmm_stack_opts *opts, struct json_object *o);

/* Check everything and configure the stack; nothing is started yet. */
int dmm_stack_new(struct dmm_daemon *d, const struct dmm_stack_spec *spec,
		  struct dmm_stack **out, struct dmm_err *err);

/* The same from the state file: what the outside has is not asked. */
int dmm_stack_load(struct dmm_daemon *d, const struct dmm_stack_spec *spec,
		   uint32_t id, struct dmm_stack **out, struct dmm_err *err);

/*
 * Start it now. A @call waits in @s->call for the outcome; a stack that was
 * never up is forgotten when it cannot be started.
 */
void dmm_stack_start(struct dmm_stack *s);

/*
 * Stop it, then start it or (@s->deleting) forget it, and answer @s->call. When
 * the daemon shuts down it just stops.
 */
void dmm_stack_stop(struct dmm_stack *s);

/*
 * Take over the worker that an earlier daemon started, if it is still that
 * process and answers; else start another. One that was never up is ended.
 */
void dmm_stack_resume(struct dmm_stack *s);

/* Remove what a killed worker leaves: XDP program, pins, run-time directory. */
void dmm_stack_clean(struct dmm_stack *s);

#endif
