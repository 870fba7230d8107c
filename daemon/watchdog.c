// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stack.h"
#include "watchdog.h"

#define LOOKS	4	/* in the time that a worker may stand still */

/* The thread of the worker's loop as the kernel has it. */
struct loop {
	char state;		/* R, S, D, T ... as in proc(5) */
	uint64_t cpu;		/* ticks used */
};

static bool loop_look(pid_t pid, struct loop *l)
{
	unsigned long user, sys;
	char path[48], buf[1024], *p;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[n] = 0;
	/* the name before it may hold anything */
	p = strrchr(buf, ')');
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
			 &l->state, &user, &sys) != 3)
		return false;
	l->cpu = user + sys;
	return true;
}

static uint64_t period_us(const struct dmm_stack *s)
{
	return s->opts.watchdog * 1000000ULL / LOOKS;
}

static const char *how(char state)
{
	switch (state) {
	case 'R':
		return "running";
	case 'T':
		return "stopped";
	case 't':
		return "traced";
	}
	return "asleep";
}

/*
 * How much of the @us that it did not turn counts. A thread that is stopped or waits is
 * at fault, and so is one that runs; one that would run and is not let is not. While its
 * telemetry says nothing it may turn all the same, and what waits for the disk is a
 * matter of the machine: only long silence counts then.
 */
static uint64_t at_fault(const struct loop *l, uint64_t ran, uint64_t us, bool answered)
{
	uint64_t ran_us = ran * (1000000 / sysconf(_SC_CLK_TCK));

	if (l->state == 'T' || l->state == 't')
		return us;
	if (l->state == 'R' && ran_us < us / 4)
		return 0;
	return answered && l->state != 'D' ? us : us / 4;
}

static void look_again(struct dmm_stack *s);

/* @turns is NULL when there was no answer. */
static void judge(struct dmm_stack *s, const uint64_t *turns)
{
	struct dmm_watchdog *w = &s->watchdog;
	uint64_t now = 0, us, ran;
	struct loop l;

	sd_event_now(s->d->event, CLOCK_MONOTONIC, &now);
	if (!loop_look(dmm_worker_pid(s->worker), &l))
		return;		/* its end follows */
	us = now - w->looked_us;
	ran = l.cpu - w->cpu;
	w->looked_us = now;
	w->cpu = l.cpu;
	/* were we ourselves away, that says nothing of the worker */
	if (us > 4 * period_us(s))
		us = period_us(s);
	if (turns && (!w->known || *turns != w->turns)) {
		w->known = true;
		w->turns = *turns;
		w->still_us = 0;
	} else {
		w->still_us += at_fault(&l, ran, us, turns);
	}
	if (w->still_us < s->opts.watchdog * 1000000ULL) {
		look_again(s);
		return;
	}
	s->stalls++;
	snprintf(s->reason, sizeof(s->reason),
		 "the worker stood still for %u s (%s) and was killed", s->opts.watchdog,
		 how(l.state));
	dmm_worker_kill(s->worker);
}

static void on_answer(void *data, int error, pid_t pid, struct json_object *answer)
{
	struct dmm_stack *s = data;
	struct json_object *v;
	uint64_t turns;

	s->watchdog.probe = NULL;
	if (error || pid != dmm_worker_pid(s->worker)) {
		judge(s, NULL);
		return;
	}
	/* one of a version that does not count cannot be watched */
	if (!json_object_object_get_ex(answer, "turns", &v))
		return;
	turns = json_object_get_uint64(v);
	judge(s, &turns);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct dmm_stack *s = data;
	struct dmm_watchdog *w = &s->watchdog;

	w->timer = sd_event_source_disable_unref(w->timer);
	if (dmm_telemetry_ask(&w->probe, s->d->event, s->d->telemetry_dir, s->name,
			      "/dmm/stats", period_us(s), on_answer, s))
		judge(s, NULL);
	return 0;
}

static void look_again(struct dmm_stack *s)
{
	sd_event_add_time_relative(s->d->event, &s->watchdog.timer, CLOCK_MONOTONIC,
				   period_us(s), 0, on_timer, s);
}

void dmm_watchdog_start(struct dmm_stack *s)
{
	struct dmm_watchdog *w = &s->watchdog;
	struct loop l = {};

	dmm_watchdog_stop(s);
	if (!s->opts.watchdog)
		return;
	sd_event_now(s->d->event, CLOCK_MONOTONIC, &w->looked_us);
	loop_look(dmm_worker_pid(s->worker), &l);
	w->cpu = l.cpu;
	look_again(s);
}

void dmm_watchdog_stop(struct dmm_stack *s)
{
	sd_event_source_disable_unref(s->watchdog.timer);
	dmm_telemetry_cancel(s->watchdog.probe);
	memset(&s->watchdog, 0, sizeof(s->watchdog));
}
