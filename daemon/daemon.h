/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon as its parts see it. One thread, one event loop: no locks. Nothing
 * here blocks for longer than a system call, except the wait of a rule change
 * until no program looks at the old rules.
 */
#ifndef DMM_DAEMON_H
#define DMM_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "cgroup.h"
#include "err.h"
#include "policy.h"
#include "rpc.h"

struct dmm_monitor;
struct dmm_stack;
struct dmm_rule_entry;

/* A cgroup that somebody attached by name, beside those that rules name. */
struct dmm_attachment {
	TAILQ_ENTRY(dmm_attachment) entry;
	struct dmm_cgroup cg;
};

TAILQ_HEAD(dmm_stacks, dmm_stack);
TAILQ_HEAD(dmm_rules, dmm_rule_entry);
TAILQ_HEAD(dmm_attachments, dmm_attachment);

struct dmm_daemon {
	/* from the command line */
	const char *runtime_dir;
	const char *socket;
	const char *bpf_dir;
	const char *libdir;
	const char *worker;
	const char *telemetry_dir;

	gid_t gid;			/* of group dmm, or 0 */
	sd_event *event;
	struct dmm_rpc *rpc;
	struct dmm_policy *policy;
	struct dmm_monitor *monitor;	/* NULL until somebody listens */
	sd_event_source *module_watch, *module_timer;
	unsigned int module_tries;

	struct dmm_stacks stacks;	/* in the order they were added */
	struct dmm_rules rules;		/* in the order they are tried */
	struct dmm_attachments attachments;
	uint32_t next_rule_id;		/* ids are never used again */

	bool applying;			/* a whole configuration; others wait */
	bool shutting_down;		/* by the command of that name */
	struct dmm_rpc_call *shutdown_call;
};

/* main.c: the last stack has stopped, or there was none. */
void dmm_daemon_shutdown_check(struct dmm_daemon *d);

/* main.c: write to the journal. */
void dmm_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* module.c: what to do when /dev/dmm and the kfunc may have come. */
int dmm_module_watch(struct dmm_daemon *d);
void dmm_module_check(struct dmm_daemon *d);
/* Is there a device by which a worker reaches the module? */
bool dmm_module_device(void);

/* state.c: all of the configuration, to RUNTIME_DIR/state.json and back. */
int dmm_state_save(struct dmm_daemon *d, struct dmm_err *err);
int dmm_state_load(struct dmm_daemon *d, struct dmm_err *err);
void dmm_state_remove(struct dmm_daemon *d);

/* api.c */
extern const struct dmm_rpc_method dmm_api_methods[];

#endif
