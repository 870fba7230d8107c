/* SPDX-License-Identifier: Apache-2.0 */
/* One question to a worker, over DPDK's telemetry socket, without waiting. */
#ifndef DMM_TELEMETRY_H
#define DMM_TELEMETRY_H

#include <json-c/json.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define DMM_TELEMETRY_DIR "/var/run/dpdk"

struct dmm_telemetry;

/*
 * Called once, from the event loop, unless the question is cancelled. @error is
 * 0 or a negative errno; @pid is who listens on the socket (0 when unknown);
 * @answer is borrowed: an object whose members are all numbers or strings, at
 * most DMM_TELEMETRY_MEMBERS_MAX; NULL on error. The question is freed after.
 */
typedef void (*dmm_telemetry_fn)(void *data, int error, pid_t pid,
				 struct json_object *answer);

#define DMM_TELEMETRY_MEMBERS_MAX 256

/*
 * Ask the worker of stack @name, whose runtime directory is below @dir, for
 * @command ("/dmm/stats"). -errno when it cannot be asked at all, in which case
 * @fn is not called; -ENOENT and -ECONNREFUSED mean that no such worker runs.
 */
int dmm_telemetry_ask(struct dmm_telemetry **out, sd_event *event, const char *dir,
		      const char *name, const char *command, uint64_t timeout_us,
		      dmm_telemetry_fn fn, void *data);

void dmm_telemetry_cancel(struct dmm_telemetry *t);

#endif
