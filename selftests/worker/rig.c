// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"
#include "rig.h"

#define ARGS_MAX	32

int rig_run(int fd, const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int status;
	pid_t pid;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	pid = fork();
	if (!pid) {
		if (setns(fd, CLONE_NEWNET))
			_exit(126);
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int rig_netns(char *path, size_t len)
{
	int fd;

	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	snprintf(path, len, "/proc/%d/fd/%d", getpid(), fd);
	return fd;
}

int rig_create(struct rig *rig)
{
	char exe[160] = "";
	ssize_t n;

	memset(rig, 0, sizeof(*rig));
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return -errno;
	*strrchr(exe, '/') = '\0';
	snprintf(rig->build, sizeof(rig->build), "%s/../..", exe);
	snprintf(rig->bin, sizeof(rig->bin), "%s/bin/dmm-worker", rig->build);
	if (getenv("DMM_TEST_ASAN"))
		rig_sanitized(rig);
	snprintf(rig->name, sizeof(rig->name), "test-%d", getpid());
	snprintf(rig->sock, sizeof(rig->sock), "/tmp/dmm-test-%d", getpid());

	rig->app_fd = rig_netns(rig->app, sizeof(rig->app));
	rig->web_fd = rig_netns(rig->web, sizeof(rig->web));
	if (rig->app_fd < 0 || rig->web_fd < 0)
		return -EPERM;
	if (rig_run(rig->app_fd,
		    "ip link add " RIG_DEV " type veth peer name dmmt1 netns %s &&"
		    "ip addr add " RIG_SADDR "/24 dev " RIG_DEV " &&"
		    "ip addr add " RIG_SADDR6 "/64 dev " RIG_DEV " nodad &&"
		    "ip addr add " RIG_SLOCAL6 "/64 dev " RIG_DEV " nodad &&"
		    "ip link set lo up && ip link set " RIG_DEV " up &&"
		    "ip neigh add " RIG_MUTE " lladdr 02:00:00:00:00:99 dev "
		    RIG_DEV " nud permanent &&"
		    "ip neigh add " RIG_MUTE6 " lladdr 02:00:00:00:00:99 dev "
		    RIG_DEV " nud permanent", rig->web) ||
	    rig_run(rig->web_fd,
		    "ip addr add " RIG_DADDR "/24 dev dmmt1 &&"
		    "ip addr add " RIG_DADDR6 "/64 dev dmmt1 nodad &&"
		    "ip addr add " RIG_DLOCAL6 "/64 dev dmmt1 nodad &&"
		    "ip link set lo up && ip link set dmmt1 up"))
		return -EIO;
	/* we are in web */
	rig->web_ifindex = if_nametoindex("dmmt1");
	if (setns(rig->app_fd, CLONE_NEWNET))
		return -errno;
	rig->ifindex = if_nametoindex(RIG_DEV);
	rig->peer = peer_start(rig->web);
	return rig->peer < 0 ? rig->peer : 0;
}

void rig_sanitized(struct rig *rig)
{
	snprintf(rig->bin, sizeof(rig->bin), "%s/asan/bin/dmm-worker",
		 rig->build);
	/* the libraries that it uses leave some for exit() to free */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
}

void rig_destroy(struct rig *rig)
{
	if (rig->worker > 0)
		rig_worker_stop(rig, SIGTERM);
	if (rig->peer > 0) {
		kill(rig->peer, SIGKILL);
		waitpid(rig->peer, NULL, 0);
	}
	unlink(rig->sock);
	close(rig->app_fd);
	close(rig->web_fd);
}

int rig_worker_start(struct rig *rig, char *line, size_t len,
		     const char *const *args)
{
	char ready[16];
	const char *argv[ARGS_MAX] = {
		rig->bin, "--name", rig->name, "--id", "1000", "--type", "lwip",
		"--dev", RIG_DEV, "--netns", rig->app, "--no-module",
		"--client-socket", rig->sock, "--ready-fd", ready,
	};
	int fds[2], n = 0, status;
	size_t got = 0;
	ssize_t ret;

	if (pipe(fds))
		return -errno;
	snprintf(ready, sizeof(ready), "%d", fds[1]);
	while (argv[n])
		n++;
	while (args && *args && n < ARGS_MAX - 1)
		argv[n++] = *args++;
	rig->worker = fork();
	if (!rig->worker) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		close(fds[0]);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(fds[1]);
	while (got < len - 1 &&
	       (ret = read(fds[0], line + got, len - 1 - got)) > 0)
		got += ret;
	line[got] = '\0';
	close(fds[0]);
	if (!strcmp(line, "ready\n"))
		return 0;
	waitpid(rig->worker, &status, 0);
	rig->worker = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int rig_worker_stop(struct rig *rig, int sig)
{
	int status;

	kill(rig->worker, sig);
	waitpid(rig->worker, &status, 0);
	rig->worker = 0;
	if (sig == SIGKILL)
		rig_run(rig->app_fd,
			"rm -rf /sys/fs/bpf/dmm/stack/%s /var/run/dpdk/dmm-%s;"
			"rmdir /sys/fs/bpf/dmm/stack /sys/fs/bpf/dmm 2>/dev/null || :",
			rig->name, rig->name);
	else
		rig_run(rig->app_fd, "rm -rf /var/run/dpdk/dmm-%s", rig->name);
	return status;
}

long rig_stat(const struct rig *rig, const char *counter)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char buf[16384], key[64], *at;
	long value = -1;
	ssize_t n;
	int fd;

	snprintf(sun.sun_path, sizeof(sun.sun_path),
		 "/var/run/dpdk/dmm-%s/dpdk_telemetry.v2", rig->name);
	snprintf(key, sizeof(key), "\"%s\":", counter);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) ||
	    recv(fd, buf, sizeof(buf), 0) < 0 ||
	    send(fd, "/dmm/stats", 10, 0) != 10)
		goto out;
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	if (n < 0)
		goto out;
	buf[n] = '\0';
	at = strstr(buf, key);
	if (at)
		value = strtol(at + strlen(key), NULL, 10);
out:
	close(fd);
	return value;
}

long rig_cpu_ticks(pid_t pid)
{
	long user = 0, sys = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return -1;
	if (fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld",
		   &user, &sys) != 2)
		user = -1;
	fclose(f);
	return user + sys;
}

uint32_t rig_addr(const char *dotted)
{
	return inet_addr(dotted);
}

void rig_addr6(const char *text, uint32_t word[4])
{
	memset(word, 0, 16);
	if (inet_pton(AF_INET6, text, word) != 1)
		abort();
}

int rig_socket(const struct rig *rig, int fd, int family, int type, int proto)
{
	int sk;

	if (setns(fd, CLONE_NEWNET))
		return -errno;
	sk = socket(family, type | SOCK_CLOEXEC, proto);
	if (sk < 0)
		sk = -errno;
	if (setns(rig->app_fd, CLONE_NEWNET))
		abort();
	return sk;
}

socklen_t rig_sockaddr(struct sockaddr_storage *ss, const char *text,
		       uint16_t port, int ifindex)
{
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *sin = (struct sockaddr_in *)ss;

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, text, &sin->sin_addr) == 1) {
		sin->sin_family = AF_INET;
		sin->sin_port = htons(port);
		return sizeof(*sin);
	}
	if (inet_pton(AF_INET6, text, &sin6->sin6_addr) != 1)
		abort();
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = htons(port);
	if (IN6_IS_ADDR_LINKLOCAL(&sin6->sin6_addr))
		sin6->sin6_scope_id = ifindex;
	return sizeof(*sin6);
}

int rig_dial(const struct rig *rig, const char *text, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = rig_sockaddr(&ss, text, port, rig->web_ifindex);
	struct timeval patience = { .tv_sec = 10 };
	int fd, ret;

	fd = rig_socket(rig, rig->web_fd, ss.ss_family, SOCK_STREAM, 0);
	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&ss, len)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

long rig_stat_wait(const struct rig *rig, const char *counter, long value)
{
	long now = -1;
	int i;

	for (i = 0; i < 5000; i++) {
		now = rig_stat(rig, counter);
		if (now == value)
			break;
		usleep(1000);
	}
	return now;
}
