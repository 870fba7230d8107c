/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker process: started by us in a session of its own, or found running after
 * the daemon itself was started again. Watched by its pidfd either way.
 */
#ifndef DMM_WORKER_H
#define DMM_WORKER_H

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "err.h"

struct dmm_worker;

struct dmm_worker_ops {
	/* The worker wrote its line: NULL for "ready", else what went wrong. */
	void (*ready)(void *data, const char *error);
	/* It is gone; @how says how, in words. The worker is freed before this. */
	void (*exited)(void *data, const char *how);
};

/*
 * Start @exe with @argv (ends with a NULL, without --ready-fd, which is added).
 * It gets /dev/null, our stderr twice and the ready pipe, and nothing else.
 */
int dmm_worker_spawn(struct dmm_worker **out, sd_event *event, const char *exe,
		     const char * const *argv, const struct dmm_worker_ops *ops,
		     void *data, struct dmm_err *err);

/* Watch @pid, if it still is the process that started at @start. -ESRCH if not. */
int dmm_worker_adopt(struct dmm_worker **out, sd_event *event, pid_t pid,
		     uint64_t start, const struct dmm_worker_ops *ops, void *data);

/* Ask it to end; after a while, insist. exited() follows. */
void dmm_worker_stop(struct dmm_worker *w);
void dmm_worker_kill(struct dmm_worker *w);

/* Let go of it without touching it. */
void dmm_worker_forget(struct dmm_worker *w);

pid_t dmm_worker_pid(const struct dmm_worker *w);
/* When it started, in the kernel's ticks: with the pid, its identity. */
uint64_t dmm_worker_start(const struct dmm_worker *w);

#endif
