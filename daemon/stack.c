// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"
#include "parse.h"
#include "stack.h"
#include "version.h"

#define BACKOFF_MIN_US	(100 * 1000ULL)
#define BACKOFF_MAX_US	(30 * 1000000ULL)
#define GOOD_US		(60 * 1000000ULL)	/* up this long: begin anew */
#define PROBE_US	(5 * 1000000ULL)

static const struct dmm_worker_ops worker_ops;

static uint64_t now_us(struct dmm_daemon *d)
{
	uint64_t now = 0;

	sd_event_now(d->event, CLOCK_MONOTONIC, &now);
	return now;
}

struct dmm_stack *dmm_stack_find(struct dmm_daemon *d, const char *name)
{
	struct dmm_stack *s;

	TAILQ_FOREACH(s, &d->stacks, entry)
		if (!strcmp(s->name, name))
			return s;
	return NULL;
}

const char *dmm_stack_state_name(const struct dmm_stack *s)
{
	static const char * const names[] = {
		[DMM_STACK_STARTING] = "starting",
		[DMM_STACK_UP] = "up",
		[DMM_STACK_BACKOFF] = "backoff",
		[DMM_STACK_DOWN] = "down",
		[DMM_STACK_STOPPING] = "stopping",
	};

	return names[s->state];
}

static void set_state(struct dmm_stack *s, enum dmm_stack_state state)
{
	s->state = state;
	dmm_monitor_stack(s, dmm_stack_state_name(s));
}

void dmm_stack_free(struct dmm_stack *s)
{
	TAILQ_REMOVE(&s->d->stacks, s, entry);
	dmm_watchdog_stop(s);
	dmm_telemetry_cancel(s->probe);
	dmm_worker_forget(s->worker);
	sd_event_source_disable_unref(s->timer);
	free(s->netns);
	free(s);
}

static void unlink_all(const char *dir)
{
	char path[PATH_MAX];
	struct dirent *e;
	DIR *d;

	d = opendir(dir);
	if (!d)
		return;
	while ((e = readdir(d))) {
		if (*e->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		unlink(path);
	}
	closedir(d);
	rmdir(dir);
}

/* Where clients in user space, the shim's, find the worker: by the stack's id. */
static void client_socket_path(const struct dmm_stack *s, char *buf)
{
	snprintf(buf, PATH_MAX, "%s/" DMM_CLIENT_DIR "/%u.sock", s->d->runtime_dir, s->id);
}

void dmm_stack_clean(struct dmm_stack *s)
{
	char dir[PATH_MAX], path[PATH_MAX + 8];
	int fd;

	snprintf(dir, sizeof(dir), "%s/stack/%s", s->d->bpf_dir, s->name);
	snprintf(path, sizeof(path), "%s/prog", dir);
	fd = bpf_obj_get(path);
	if (fd >= 0) {
		dmm_netdev_xdp_detach(s->netns, s->dev, fd);
		close(fd);
	}
	unlink_all(dir);
	snprintf(dir, sizeof(dir), "%s/dmm-%s", s->d->telemetry_dir, s->name);
	unlink_all(dir);
	client_socket_path(s, path);
	unlink(path);
}

/* The lowest id that no stack has. */
static uint32_t free_id(struct dmm_daemon *d)
{
	struct dmm_stack *s;
	uint32_t id;

	for (id = 1; id <= DMM_STACK_ID_MAX; id++) {
		TAILQ_FOREACH(s, &d->stacks, entry)
			if (s->id == id)
				break;
		if (!s)
			return id;
	}
	return 0;
}

static int plugin_check(struct dmm_daemon *d, const char *type, struct dmm_err *err)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/dmm-stack-%s.so", d->libdir, type);
	if (access(path, R_OK))
		return dmm_err_set(err, -ENOENT, "stack type %s: there is no plug-in %s",
				   type, path);
	return 0;
}

/* No two stacks on one device. */
static int device_check(struct dmm_daemon *d, const char *dev,
			const struct dmm_netdev *netdev, struct dmm_err *err)
{
	struct dmm_stack *s;

	TAILQ_FOREACH(s, &d->stacks, entry)
		if (s->netdev.ifindex == netdev->ifindex && s->netdev.netns_ino == netdev->netns_ino &&
		    s->netdev.netns_dev == netdev->netns_dev)
			return dmm_err_set(err, -EBUSY, "dev %s: stack %s is on it already",
					   dev, s->name);
	return 0;
}

void dmm_stack_params(struct dmm_stack_spec *spec,
		      struct dmm_param table[DMM_STACK_PARAMS])
{
	const struct dmm_param params[DMM_STACK_PARAMS] = {
		{ "name", &spec->name, true },	{ "type", &spec->type, true },
		{ "dev", &spec->dev, true },	{ "netns", &spec->netns, false },
		{ "route", &spec->route, false },
		{ "strict-filters", &spec->strict_filters, false },
		{ "watchdog", &spec->watchdog, false },
	};

	memcpy(table, params, sizeof(params));
}

int dmm_stack_opts_parse(const struct dmm_stack_spec *spec, struct dmm_stack_opts *opts,
			 struct dmm_err *err)
{
	const char *strict = spec->strict_filters;

	*opts = (struct dmm_stack_opts) { .watchdog = DMM_WATCHDOG_SECS };
	if (spec->route && strcmp(spec->route, "own"))
		return dmm_err_set(err, -EINVAL, "route=%.64s: expected route=own, or nothing",
				   spec->route);
	if (strict && strcmp(strict, "on") && strcmp(strict, "off"))
		return dmm_err_set(err, -EINVAL, "strict-filters=%.64s: expected on or off",
				   strict);
	opts->route_own = spec->route;
	opts->strict_filters = strict && !strcmp(strict, "on");
	if (!spec->watchdog)
		return 0;
	if (!strcmp(spec->watchdog, "0")) {
		opts->watchdog = 0;
		return 0;
	}
	return dmm_parse_u32("watchdog", spec->watchdog, DMM_WATCHDOG_SECS_MIN,
			     DMM_WATCHDOG_SECS_MAX, &opts->watchdog, err);
}

void dmm_stack_opts_json(const struct dmm_stack_opts *opts, struct json_object *o)
{
	char seconds[16];

	if (opts->route_own)
		json_object_object_add(o, "route", json_object_new_string("own"));
	if (opts->strict_filters)
		json_object_object_add(o, "strict-filters", json_object_new_string("on"));
	if (opts->watchdog != DMM_WATCHDOG_SECS) {
		snprintf(seconds, sizeof(seconds), "%u", opts->watchdog);
		json_object_object_add(o, "watchdog", json_object_new_string(seconds));
	}
}

static int spec_check(struct dmm_daemon *d, const struct dmm_stack_spec *spec,
		      struct dmm_err *err)
{
	struct dmm_stack_opts opts;
	int ret;

	ret = dmm_parse_name("stack name", spec->name, err);
	if (!ret)
		ret = dmm_stack_opts_parse(spec, &opts, err);
	if (ret)
		return ret;
	if (!strcmp(spec->name, "kernel"))
		return dmm_err_set(err, -EINVAL,
				   "stack name kernel: the kernel's own stack has it");
	if (dmm_stack_find(d, spec->name))
		return dmm_err_set(err, -EEXIST, "stack %s: exists already", spec->name);
	return dmm_parse_name("stack type", spec->type, err);
}

/* @spec was checked. */
static int stack_alloc(struct dmm_daemon *d, const struct dmm_stack_spec *spec,
		       uint32_t id, struct dmm_stack **out, struct dmm_err *err)
{
	struct dmm_stack_opts opts;
	struct dmm_stack *s;
	int ret;

	ret = dmm_stack_opts_parse(spec, &opts, err);
	if (ret)
		return ret;
	s = calloc(1, sizeof(*s));
	if (!s)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	if (spec->netns) {
		s->netns = strdup(spec->netns);
		if (!s->netns) {
			free(s);
			return dmm_err_set(err, -ENOMEM, "out of memory");
		}
	}
	s->d = d;
	s->id = id;
	s->opts = opts;
	s->backoff_us = BACKOFF_MIN_US;
	snprintf(s->name, sizeof(s->name), "%s", spec->name);
	snprintf(s->type, sizeof(s->type), "%s", spec->type);
	snprintf(s->dev, sizeof(s->dev), "%s", spec->dev);
	TAILQ_INSERT_TAIL(&d->stacks, s, entry);
	*out = s;
	return 0;
}

int dmm_stack_new(struct dmm_daemon *d, const struct dmm_stack_spec *spec,
		  struct dmm_stack **out, struct dmm_err *err)
{
	struct dmm_netdev netdev;
	uint32_t id;
	int ret;

	ret = spec_check(d, spec, err);
	if (!ret)
		ret = plugin_check(d, spec->type, err);
	if (!ret)
		ret = dmm_netdev_find(spec->netns, spec->dev, &netdev, err);
	if (!ret)
		ret = device_check(d, spec->dev, &netdev, err);
	if (ret)
		return ret;
	id = free_id(d);
	if (!id)
		return dmm_err_set(err, -ENOSPC, "there are %d stacks already",
				   DMM_STACK_ID_MAX);
	ret = stack_alloc(d, spec, id, out, err);
	if (!ret)
		(*out)->netdev = netdev;
	return ret;
}

int dmm_stack_load(struct dmm_daemon *d, const struct dmm_stack_spec *spec,
		   uint32_t id, struct dmm_stack **out, struct dmm_err *err)
{
	struct dmm_stack *s;
	int ret;

	ret = spec_check(d, spec, err);
	if (ret)
		return ret;
	TAILQ_FOREACH(s, &d->stacks, entry)
		if (s->id == id)
			break;
	if (s || !id || id > DMM_STACK_ID_MAX)
		return dmm_err_set(err, -EINVAL, "stack %s has an impossible id", spec->name);
	ret = stack_alloc(d, spec, id, out, err);
	if (!ret)
		dmm_netdev_find((*out)->netns, (*out)->dev, &(*out)->netdev, NULL);
	return ret;
}

/* Written on each change of a life; a failure costs only the next take-over. */
static void save(struct dmm_daemon *d)
{
	struct dmm_err err;

	if (dmm_state_save(d, &err))
		dmm_log("%s", err.msg);
}

static void answer(struct dmm_stack *s, const char *error)
{
	void (*done)(struct dmm_stack *s, const char *error, void *data) = s->done;
	struct dmm_rpc_call *call = s->call;
	struct json_object *result;
	struct dmm_err err;

	s->done = NULL;
	if (done)
		done(s, error, s->done_data);
	s->call = NULL;
	if (!call)
		return;
	if (error) {
		dmm_err_set(&err, -EIO, "stack %s: %s", s->name, error);
		dmm_rpc_fail(call, &err);
		return;
	}
	result = json_object_new_object();
	json_object_object_add(result, "name", json_object_new_string(s->name));
	json_object_object_add(result, "id", json_object_new_int(s->id));
	if (s->netdev.is_veth && !s->opts.route_own)
		json_object_object_add(result, "note", json_object_new_string(
			"the veth is shared with the kernel: while the stack is up, native bulk "
			"traffic into it loses TSO and about half its throughput; "
			"a device of its own with route=own avoids that"));
	if (!s->opts.strict_filters && dmm_netdev_filters(s->netns))
		json_object_object_add(result, "filters", json_object_new_string(
			"the network namespace has tables of nftables or iptables, which do not "
			"see what the stack serves; strict-filters=on keeps native what they "
			"could see"));
	dmm_rpc_reply(call, result);
}

static int on_backoff(sd_event_source *source, uint64_t usec, void *data)
{
	struct dmm_stack *s = data;

	s->timer = sd_event_source_disable_unref(s->timer);
	s->restarts++;
	dmm_stack_start(s);
	return 0;
}

/* It is not up, and @reason says why: try again later, or forget it. */
static void failed(struct dmm_stack *s, enum dmm_stack_state state, const char *reason)
{
	if (!s->committed) {
		struct dmm_daemon *d = s->d;

		answer(s, reason);
		if (reason != s->reason)
			snprintf(s->reason, sizeof(s->reason), "%s", reason);
		dmm_monitor_stack(s, "gone");
		dmm_stack_clean(s);
		dmm_stack_free(s);
		save(d);
		return;
	}
	if (s->up_since_us && now_us(s->d) - s->up_since_us >= GOOD_US)
		s->backoff_us = BACKOFF_MIN_US;
	s->up_since_us = 0;
	if (reason != s->reason)
		snprintf(s->reason, sizeof(s->reason), "%s", reason);
	set_state(s, state);
	dmm_log("stack %s: %s; next start in %.1f s", s->name, s->reason,
		s->backoff_us / 1e6);
	sd_event_add_time_relative(s->d->event, &s->timer, CLOCK_MONOTONIC,
				   s->backoff_us, 0, on_backoff, s);
	s->backoff_us *= 2;
	if (s->backoff_us > BACKOFF_MAX_US)
		s->backoff_us = BACKOFF_MAX_US;
	answer(s, s->reason);
	save(s->d);
}

void dmm_stack_start(struct dmm_stack *s)
{
	struct dmm_daemon *d = s->d;
	char id[16], netns[PATH_MAX], clients[PATH_MAX];
	/* the longest has 20, and NULL ends it */
	const char *argv[24] = {
		d->worker, "--name", s->name, "--id", id, "--type", s->type,
		"--dev", s->dev, "--plugin-dir", d->libdir, "--bpf-dir", d->bpf_dir,
		"--client-socket", clients,
	};
	struct dmm_err err;
	int n = 15;

	dmm_module_check(d);
	s->timer = sd_event_source_disable_unref(s->timer);
	*s->reason = 0;
	set_state(s, DMM_STACK_STARTING);
	if (dmm_netdev_find(s->netns, s->dev, &s->netdev, &err)) {
		failed(s, DMM_STACK_DOWN, err.msg);
		return;
	}
	snprintf(id, sizeof(id), "%u", s->id);
	client_socket_path(s, clients);
	s->no_module = !dmm_module_device();
	if (s->no_module)
		argv[n++] = "--no-module";
	if (s->netns) {
		dmm_netdev_path(netns, sizeof(netns), s->netns);
		argv[n++] = "--netns";
		argv[n++] = netns;
	}
	if (s->opts.route_own) {
		argv[n++] = "--route";
		argv[n++] = "own";
	}
	if (dmm_worker_spawn(&s->worker, d->event, d->worker, argv, &worker_ops, s,
			     &err)) {
		failed(s, DMM_STACK_DOWN, err.msg);
		return;
	}
	save(s->d);
}

static void on_worker_ready(void *data, const char *error)
{
	struct dmm_stack *s = data;
	struct dmm_err err;

	if (error) {
		snprintf(s->reason, sizeof(s->reason), "%s", error);
		return;		/* its end follows */
	}
	if (s->state != DMM_STACK_STARTING)
		return;
	set_state(s, DMM_STACK_UP);
	s->up_since_us = now_us(s->d);
	if (!s->committed) {
		s->committed = true;
		if (dmm_state_save(s->d, &err)) {
			s->committed = false;
			snprintf(s->reason, sizeof(s->reason), "%s", err.msg);
			dmm_worker_stop(s->worker);
			return;
		}
	}
	dmm_log("stack %s: up, pid %d", s->name, dmm_worker_pid(s->worker));
	dmm_watchdog_start(s);
	answer(s, NULL);
}

/* Stopped on purpose. */
static void stopped(struct dmm_stack *s)
{
	struct dmm_daemon *d = s->d;

	if (d->shutting_down) {
		answer(s, "the daemon shuts down");
		dmm_stack_clean(s);
		dmm_stack_free(s);
		dmm_daemon_shutdown_check(d);
	} else if (s->deleting) {
		dmm_stack_clean(s);
		answer(s, NULL);
		dmm_monitor_stack(s, "gone");
		dmm_stack_free(s);
		save(d);
	} else {
		s->backoff_us = BACKOFF_MIN_US;
		s->restarts++;
		dmm_stack_start(s);
	}
}

static void on_worker_exited(void *data, const char *how)
{
	struct dmm_stack *s = data;

	s->worker = NULL;
	dmm_watchdog_stop(s);
	dmm_telemetry_cancel(s->probe);
	s->probe = NULL;
	if (s->state == DMM_STACK_STOPPING)
		stopped(s);
	else
		failed(s, DMM_STACK_BACKOFF, *s->reason ? s->reason : how);
}

static const struct dmm_worker_ops worker_ops = {
	.ready = on_worker_ready,
	.exited = on_worker_exited,
};

void dmm_stack_stop(struct dmm_stack *s)
{
	s->timer = sd_event_source_disable_unref(s->timer);
	dmm_watchdog_stop(s);
	dmm_telemetry_cancel(s->probe);
	s->probe = NULL;
	*s->reason = 0;
	set_state(s, DMM_STACK_STOPPING);
	if (s->worker)
		dmm_worker_stop(s->worker);
	else
		stopped(s);
}

static void on_probe(void *data, int error, pid_t pid, struct json_object *info)
{
	struct dmm_stack *s = data;
	struct json_object *name;

	s->probe = NULL;
	if (!error && pid == dmm_worker_pid(s->worker) &&
	    json_object_object_get_ex(info, "name", &name) &&
	    !strcmp(json_object_get_string(name), s->name)) {
		set_state(s, DMM_STACK_UP);
		s->up_since_us = now_us(s->d);
		dmm_log("stack %s: taken over, pid %d", s->name, pid);
		dmm_watchdog_start(s);
		return;
	}
	snprintf(s->reason, sizeof(s->reason),
		 "the worker that ran before does not answer (%s)",
		 error ? strerror(-error) : "another process does");
	dmm_worker_kill(s->worker);
}

void dmm_stack_resume(struct dmm_stack *s)
{
	struct dmm_daemon *d = s->d;
	int ret;

	if (dmm_worker_adopt(&s->worker, d->event, s->old_pid, s->old_start, &worker_ops,
			     s)) {
		if (s->committed)
			dmm_stack_start(s);
		else
			failed(s, DMM_STACK_DOWN, "it was never up");
		return;
	}
	if (!s->committed) {
		dmm_worker_kill(s->worker);
		return;
	}
	set_state(s, DMM_STACK_STARTING);
	ret = dmm_telemetry_ask(&s->probe, d->event, d->telemetry_dir, s->name,
				"/dmm/info", PROBE_US, on_probe, s);
	if (ret) {
		snprintf(s->reason, sizeof(s->reason),
			 "the worker that ran before does not answer (%s)",
			 strerror(-ret));
		dmm_worker_kill(s->worker);
	}
}
