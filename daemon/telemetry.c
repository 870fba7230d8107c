// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "telemetry.h"

/* What DPDK answers at most (lib/telemetry: MAX_OUTPUT_LEN). */
#define ANSWER_MAX (16 << 10)

struct dmm_telemetry {
	int fd;
	sd_event_source *io, *timer;
	bool asked;		/* the greeting came and the question was sent */
	pid_t pid;
	dmm_telemetry_fn fn;
	void *data;
	char command[64];
};

void dmm_telemetry_cancel(struct dmm_telemetry *t)
{
	if (!t)
		return;
	sd_event_source_disable_unref(t->io);
	sd_event_source_disable_unref(t->timer);
	close(t->fd);
	free(t);
}

static void finish(struct dmm_telemetry *t, int error, struct json_object *answer)
{
	t->fn(t->data, error, t->pid, answer);
	dmm_telemetry_cancel(t);
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *data)
{
	finish(data, -ETIMEDOUT, NULL);
	return 0;
}

/* The worker is not trusted: only numbers and strings are passed on. */
static bool plain(struct json_object *o)
{
	if (!json_object_is_type(o, json_type_object) ||
	    json_object_object_length(o) > DMM_TELEMETRY_MEMBERS_MAX)
		return false;
	json_object_object_foreach(o, key, val) {
		(void)key;
		if (!json_object_is_type(val, json_type_int) &&
		    !json_object_is_type(val, json_type_string))
			return false;
	}
	return true;
}

static int on_answer(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct dmm_telemetry *t = data;
	struct json_object *reply, *answer = NULL;
	char buf[ANSWER_MAX + 1];
	ssize_t n;

	n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		finish(t, n ? -errno : -ECONNRESET, NULL);
		return 0;
	}
	if (!t->asked) {
		t->asked = true;
		if (send(fd, t->command, strlen(t->command),
			 MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			finish(t, -errno, NULL);
		return 0;
	}

	/* {"COMMAND":{...}} */
	buf[n] = 0;
	reply = json_tokener_parse(buf);
	if (!reply || !json_object_is_type(reply, json_type_object) ||
	    !json_object_object_get_ex(reply, t->command, &answer) || !plain(answer))
		finish(t, -EBADMSG, NULL);
	else
		finish(t, 0, answer);
	json_object_put(reply);
	return 0;
}

int dmm_telemetry_ask(struct dmm_telemetry **out, sd_event *event, const char *dir,
		      const char *name, const char *command, uint64_t timeout_us,
		      dmm_telemetry_fn fn, void *data)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct dmm_telemetry *t;
	int ret;

	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/dmm-%s/dpdk_telemetry.v2",
		     dir, name) >= (int)sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->fn = fn;
	t->data = data;
	snprintf(t->command, sizeof(t->command), "%s", command);
	t->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (t->fd < 0) {
		ret = -errno;
		goto err_free;
	}
	/* A full backlog gives EAGAIN: a worker that does not accept any more. */
	if (connect(t->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		ret = -errno;
		goto err_close;
	}
	if (!getsockopt(t->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		t->pid = cred.pid;
	ret = sd_event_add_io(event, &t->io, t->fd, EPOLLIN, on_answer, t);
	if (ret >= 0)
		ret = sd_event_add_time_relative(event, &t->timer, CLOCK_MONOTONIC,
						 timeout_us, 0, on_timeout, t);
	if (ret < 0) {
		sd_event_source_disable_unref(t->io);
		goto err_close;
	}
	*out = t;
	return 0;

err_close:
	close(t->fd);
err_free:
	free(t);
	return ret;
}
