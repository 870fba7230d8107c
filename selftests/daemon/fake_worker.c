// SPDX-License-Identifier: Apache-2.0
/*
 * Stands for dmm-worker where no stack can run: takes its arguments, says its
 * line, answers telemetry as DPDK does, ends on SIGTERM. Its name tells how it is
 * to misbehave:
 *
 *	bad*	says an error and exits
 *	odd*	says something else
 *	dead*	exits with 3, having said nothing
 *	crash*	says ready, then aborts after 100 ms
 *	slow*	says ready after a second
 *	mute*	has no telemetry
 *	garbage* answers telemetry with what is not JSON
 *	stuck*	accepts telemetry and never answers
 *	old*	does not count its turns
 *	loop*, asleep*	does not turn any more after 100 ms
 *
 * Its telemetry directory is where DPDK has it. It lives two minutes at most.
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *name = "", *id = "", *type = "", *dev = "";
static int ready_fd = -1;

static unsigned long turns;

static bool is(const char *kind)
{
	return !strncmp(name, kind, strlen(kind));
}

static void options(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "name", required_argument, NULL, 'n' },
		{ "id", required_argument, NULL, 'i' },
		{ "type", required_argument, NULL, 't' },
		{ "dev", required_argument, NULL, 'd' },
		{ "netns", required_argument, NULL, 'N' },
		{ "route", required_argument, NULL, 'r' },
		{ "plugin-dir", required_argument, NULL, 'p' },
		{ "bpf-dir", required_argument, NULL, 'b' },
		{ "client-socket", required_argument, NULL, 'c' },
		{ "no-module", no_argument, NULL, 'm' },
		{ "ready-fd", required_argument, NULL, 'R' },
		{}
	};
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (c) {
		case 'n': name = optarg; break;
		case 'i': id = optarg; break;
		case 't': type = optarg; break;
		case 'd': dev = optarg; break;
		case 'R': ready_fd = atoi(optarg); break;
		case 'N': case 'r': case 'p': case 'b': case 'c': case 'm': break;
		default: exit(9);
		}
	}
}

static void say(const char *line)
{
	if (write(ready_fd, line, strlen(line)) < 0)
		exit(8);
	close(ready_fd);
}

static int telemetry_listen(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char dir[96];
	int fd;

	/* as DPDK does */
	snprintf(dir, sizeof(dir), "%s/dpdk", getenv("RUNTIME_DIRECTORY"));
	mkdir(dir, 0700);
	snprintf(dir, sizeof(dir), "%s/dpdk/dmm-%s", getenv("RUNTIME_DIRECTORY"), name);
	mkdir(dir, 0700);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.80s/dpdk_telemetry.v2", dir);
	unlink(addr.sun_path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 4) < 0)
		exit(7);
	return fd;
}

/* One client at a time. */
static void telemetry_serve(int lfd)
{
	char cmd[256], out[512];
	ssize_t n;
	int fd;

	fd = accept(lfd, NULL, NULL);
	if (fd < 0)
		return;
	if (is("stuck"))
		return;
	snprintf(out, sizeof(out), "{\"version\":\"fake\",\"pid\":%d,\"max_output_len\":16384}",
		 getpid());
	send(fd, out, strlen(out), MSG_NOSIGNAL);
	while ((n = recv(fd, cmd, sizeof(cmd) - 1, 0)) > 0) {
		cmd[n] = 0;
		if (is("garbage"))
			snprintf(out, sizeof(out), "{\"%s\":[[[", cmd);
		else if (!strcmp(cmd, "/dmm/info"))
			snprintf(out, sizeof(out),
				 "{\"%s\":{\"name\":\"%s\",\"id\":%s,\"type\":\"%s\",\"dev\":\"%s\",\"pid\":%d}}",
				 cmd, name, id, type, dev, getpid());
		else if (is("old"))
			snprintf(out, sizeof(out), "{\"%s\":{\"rx_frames\":11}}", cmd);
		else
			snprintf(out, sizeof(out),
				 "{\"%s\":{\"rx_frames\":11,\"tx_frames\":22,\"turns\":%lu}}",
				 cmd, __atomic_load_n(&turns, __ATOMIC_RELAXED));
		send(fd, out, strlen(out), MSG_NOSIGNAL);
	}
	close(fd);
}

static void *telemetry_thread(void *lfd)
{
	for (;;)
		telemetry_serve((long)lfd);
	return NULL;
}

/* It turns, until its name says otherwise. SIGTERM's default is an orderly end. */
static void live(void)
{
	int i;

	for (i = 0;; i++) {
		if (i < 5 || (!is("loop") && !is("asleep")))
			__atomic_fetch_add(&turns, 1, __ATOMIC_RELAXED);
		if (i < 5 || !is("loop"))
			usleep(20 * 1000);
	}
}

int main(int argc, char **argv)
{
	pthread_t thread;

	alarm(120);
	options(argc, argv);
	if (is("dead"))
		return 3;
	if (is("bad")) {
		say("error: the device has no queue to give\n");
		return 1;
	}
	if (is("odd")) {
		say("hello there\n");
		pause();
	}
	if (!is("mute"))
		pthread_create(&thread, NULL, telemetry_thread,
			       (void *)(long)telemetry_listen());
	if (is("slow"))
		usleep(1000 * 1000);
	say("ready\n");
	if (is("crash")) {
		usleep(100 * 1000);
		abort();
	}
	live();
}
