/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker that lives and does nothing hangs its sockets: here it is noticed. It counts
 * its turns, at least two a second, and the count is read by telemetry, which answers
 * from a thread of its own.
 */
#ifndef DMM_WATCHDOG_H
#define DMM_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "telemetry.h"

#define DMM_WATCHDOG_SECS	5	/* the default */
#define DMM_WATCHDOG_SECS_MIN	2
#define DMM_WATCHDOG_SECS_MAX	3600

struct dmm_stack;

/*
 * What is known of the worker.
 * @timer, @probe: the next question, and the one that waits for an answer
 * @turns, @known: the last count, if there was one
 * @cpu: ticks that its loop had used by then
 * @looked_us: when that was
 * @still_us: for how long it has not turned, though it could have
 */
struct dmm_watchdog {
	sd_event_source *timer;
	struct dmm_telemetry *probe;
	uint64_t turns, cpu;
	bool known;
	uint64_t looked_us, still_us;
};

/* The worker of @s is up: watch it, if that is wanted. */
void dmm_watchdog_start(struct dmm_stack *s);

/* It is gone, or is to go. */
void dmm_watchdog_stop(struct dmm_stack *s);

#endif
