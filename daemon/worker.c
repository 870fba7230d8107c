// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker.h"

#define ARGS_MAX	32
#define READY_FD	3
#define READY_SECS	120	/* DPDK's start is slow on an emulated machine */
#define STOP_SECS	10

struct dmm_worker {
	sd_event *event;
	pid_t pid;
	uint64_t start;
	int pidfd, ready_fd;
	sd_event_source *exit_io, *ready_io, *timer;
	const struct dmm_worker_ops *ops;
	void *data;
	bool said;		/* ready() was called */
	size_t line_len;
	char line[400];
};

/* The 22nd field of /proc/PID/stat; the name before it may hold anything. */
static uint64_t start_time(pid_t pid)
{
	unsigned long long start = 0;
	char path[32], buf[1024], *p;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[n] = 0;
	p = strrchr(buf, ')');
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u"
			 " %*d %*d %*d %*d %*d %*d %llu", &start) != 1)
		return 0;
	return start;
}

static void ready_close(struct dmm_worker *w)
{
	w->ready_io = sd_event_source_disable_unref(w->ready_io);
	if (w->ready_fd >= 0)
		close(w->ready_fd);
	w->ready_fd = -1;
}

void dmm_worker_forget(struct dmm_worker *w)
{
	if (!w)
		return;
	ready_close(w);
	sd_event_source_disable_unref(w->exit_io);
	sd_event_source_disable_unref(w->timer);
	if (w->pidfd >= 0)
		close(w->pidfd);
	free(w);
}

static void say(struct dmm_worker *w, const char *error)
{
	w->said = true;
	ready_close(w);
	w->ops->ready(w->data, error);
}

static int on_kill_timer(sd_event_source *s, uint64_t usec, void *data)
{
	dmm_worker_kill(data);
	return 0;
}

static void kill_after(struct dmm_worker *w, unsigned int secs)
{
	sd_event_source_disable_unref(w->timer);
	w->timer = NULL;
	if (sd_event_add_time_relative(w->event, &w->timer, CLOCK_MONOTONIC,
				       secs * 1000000ULL, 0, on_kill_timer, w) < 0)
		dmm_worker_kill(w);
}

/* Take what the pipe has; at the line's end or the pipe's, judge it. */
static void ready_read(struct dmm_worker *w)
{
	ssize_t n;
	char *nl;

	if (w->said || w->ready_fd < 0)
		return;
	n = read(w->ready_fd, w->line + w->line_len, sizeof(w->line) - 1 - w->line_len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		w->line_len += n;
	w->line[w->line_len] = 0;
	nl = memchr(w->line, '\n', w->line_len);
	if (!nl && n > 0 && w->line_len < sizeof(w->line) - 1)
		return;
	if (nl)
		*nl = 0;

	w->timer = sd_event_source_disable_unref(w->timer);
	if (nl && !strcmp(w->line, "ready")) {
		say(w, NULL);
		return;
	}
	/* It ends by itself now, or is made to. */
	kill_after(w, STOP_SECS);
	dmm_err_clean(w->line);
	if (!strncmp(w->line, "error: ", 7) && w->line[7])
		say(w, w->line + 7);
	else if (*w->line)
		say(w, "the worker said neither \"ready\" nor \"error: ...\"");
	else
		ready_close(w);		/* how it ended will tell more */
}

static int on_ready(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	ready_read(data);
	return 0;
}

static int on_ready_timeout(sd_event_source *s, uint64_t usec, void *data)
{
	struct dmm_worker *w = data;
	char msg[64];

	snprintf(msg, sizeof(msg), "the worker was not ready after %d seconds",
		 READY_SECS);
	say(w, msg);
	dmm_worker_kill(w);
	return 0;
}

static int on_exit_event(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct dmm_worker *w = data;
	const struct dmm_worker_ops *ops = w->ops;
	void *ops_data = w->data;
	siginfo_t si = {};
	char how[96];

	ready_read(w);	/* it may have written its line just before */

	if (waitid(P_PIDFD, w->pidfd, &si, WEXITED) < 0)
		snprintf(how, sizeof(how), "the worker is gone");	/* no child of ours */
	else if (si.si_code == CLD_EXITED)
		snprintf(how, sizeof(how), "the worker exited with status %d",
			 si.si_status);
	else
		snprintf(how, sizeof(how), "the worker was killed by signal %d (%s)",
			 si.si_status, strsignal(si.si_status));
	dmm_worker_forget(w);
	ops->exited(ops_data, how);
	return 0;
}

static struct dmm_worker *worker_new(sd_event *event, const struct dmm_worker_ops *ops,
				     void *data)
{
	struct dmm_worker *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->event = event;
	w->pidfd = -1;
	w->ready_fd = -1;
	w->ops = ops;
	w->data = data;
	return w;
}

/* @w->pid runs: take hold of it. */
static int worker_watch(struct dmm_worker *w)
{
	int ret;

	w->pidfd = pidfd_open(w->pid, 0);
	if (w->pidfd < 0)
		return -errno;
	w->start = start_time(w->pid);
	ret = sd_event_add_io(w->event, &w->exit_io, w->pidfd, EPOLLIN, on_exit_event, w);
	return ret < 0 ? ret : 0;
}

static int spawn(pid_t *pid, const char *exe, char * const *argv, int ready_fd)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int ret;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
				 POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, 2, 1);
	posix_spawn_file_actions_adddup2(&fa, ready_fd, READY_FD);
	posix_spawn_file_actions_addclosefrom_np(&fa, READY_FD + 1);
	posix_spawn_file_actions_addchdir_np(&fa, "/");
	ret = posix_spawn(pid, exe, &fa, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	return -ret;
}

int dmm_worker_spawn(struct dmm_worker **out, sd_event *event, const char *exe,
		     const char * const *argv, const struct dmm_worker_ops *ops,
		     void *data, struct dmm_err *err)
{
	const char *args[ARGS_MAX + 3];
	struct dmm_worker *w;
	int fds[2], n, ret;
	char fd_text[8];

	for (n = 0; argv[n]; n++) {
		if (n == ARGS_MAX)
			return dmm_err_set(err, -E2BIG, "too many arguments for %s", exe);
		args[n] = argv[n];
	}
	snprintf(fd_text, sizeof(fd_text), "%d", READY_FD);
	args[n++] = "--ready-fd";
	args[n++] = fd_text;
	args[n] = NULL;

	w = worker_new(event, ops, data);
	if (!w)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	if (pipe2(fds, O_CLOEXEC) < 0) {
		ret = dmm_err_set(err, -errno, "pipe: %m");
		goto err_free;
	}
	w->ready_fd = fds[0];
	fcntl(fds[0], F_SETFL, O_NONBLOCK);	/* the worker's end blocks */
	ret = spawn(&w->pid, exe, (char * const *)args, fds[1]);
	close(fds[1]);
	if (ret) {
		dmm_err_set(err, ret, "cannot start %s: %s", exe, strerror(-ret));
		goto err_free;
	}
	ret = worker_watch(w);
	if (!ret)
		ret = sd_event_add_io(event, &w->ready_io, w->ready_fd, EPOLLIN,
				      on_ready, w);
	if (ret >= 0)
		ret = sd_event_add_time_relative(event, &w->timer, CLOCK_MONOTONIC,
						 READY_SECS * 1000000ULL, 0,
						 on_ready_timeout, w);
	if (ret < 0) {
		dmm_err_set(err, ret, "cannot watch %s: %s", exe, strerror(-ret));
		kill(w->pid, SIGKILL);
		waitpid(w->pid, NULL, 0);
		goto err_free;
	}
	*out = w;
	return 0;

err_free:
	dmm_worker_forget(w);
	return ret;
}

int dmm_worker_adopt(struct dmm_worker **out, sd_event *event, pid_t pid,
		     uint64_t start, const struct dmm_worker_ops *ops, void *data)
{
	struct dmm_worker *w;
	int ret;

	if (pid <= 1)
		return -ESRCH;
	w = worker_new(event, ops, data);
	if (!w)
		return -ENOMEM;
	w->pid = pid;
	w->said = true;
	ret = worker_watch(w);
	/* The pidfd holds the pid, so what we read was of this very process. */
	if (!ret && (!start || w->start != start))
		ret = -ESRCH;
	if (ret) {
		dmm_worker_forget(w);
		return ret;
	}
	*out = w;
	return 0;
}

void dmm_worker_stop(struct dmm_worker *w)
{
	pidfd_send_signal(w->pidfd, SIGTERM, NULL, 0);
	kill_after(w, STOP_SECS);
}

void dmm_worker_kill(struct dmm_worker *w)
{
	w->timer = sd_event_source_disable_unref(w->timer);
	pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
}

pid_t dmm_worker_pid(const struct dmm_worker *w)
{
	return w->pid;
}

uint64_t dmm_worker_start(const struct dmm_worker *w)
{
	return w->start;
}
