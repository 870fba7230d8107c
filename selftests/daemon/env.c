// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "env.h"

/* build/selftests/FOLDER/program -> build/bin */
static int find_programs(struct env *e)
{
	char exe[400], *slash;
	ssize_t n;
	int i;

	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return -1;
	exe[n] = 0;
	for (i = 0; i < 3; i++) {
		slash = strrchr(exe, '/');
		if (!slash)
			return -1;
		*slash = 0;
		if (!i)
			snprintf(e->here, sizeof(e->here), "%s", exe);
	}
	snprintf(e->bin, sizeof(e->bin), "%s/bin", exe);
	return 0;
}

int env_enter(struct env *e)
{
	char path[160];
	int fd;

	memset(e, 0, sizeof(*e));
	if (find_programs(e) || sandbox_enter(&e->sb))
		return -1;
	snprintf(e->run, sizeof(e->run), "%s/run", e->sb.dir);
	snprintf(e->socket, sizeof(e->socket), "%s/dmmd.sock", e->run);
	snprintf(e->state, sizeof(e->state), "%s/state.json", e->run);
	snprintf(e->bpf, sizeof(e->bpf), "%s/dmm", e->sb.bpf);
	snprintf(e->lib, sizeof(e->lib), "%s/lib", e->sb.dir);
	snprintf(e->log, sizeof(e->log), "%s/log", e->sb.dir);
	snprintf(e->telemetry, sizeof(e->telemetry), "%s/dpdk", e->sb.dir);
	/* as a service of systemd's has it; workers must not take it over */
	setenv("RUNTIME_DIRECTORY", "/nowhere", 1);
	unsetenv("NOTIFY_SOCKET");
	if (mkdir(e->lib, 0755) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/dmm-stack-fake.so", e->lib);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

void env_leave(struct env *e)
{
	if (e->dmmd && ctl(e, "shutdown"))
		dmmd_end(e, SIGKILL);
	if (e->dmmd)
		waitpid(e->dmmd, NULL, 0);
	e->dmmd = 0;
	sandbox_leave(&e->sb);
}

/* Does somebody listen there? */
static bool answers(const struct env *e)
{
	int fd = rpc_connect(e);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int dmmd_start(struct env *e)
{
	bool others = e->dmmd < 0;	/* somebody else answers there */
	char dmmd[600], worker[600];
	int fd, status;

	snprintf(dmmd, sizeof(dmmd), "%s/dmmd", e->bin);
	snprintf(worker, sizeof(worker), "%s/fake_worker", e->here);
	e->dmmd = fork();
	if (!e->dmmd) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = open(e->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		dup2(fd, 1);
		dup2(fd, 2);
		execl(dmmd, dmmd, "--runtime-dir", e->run, "--bpf-dir", e->bpf,
		      "--socket", e->socket, "--libdir", e->lib, "--worker", worker, "--telemetry-dir",
		      e->telemetry, NULL);
		_exit(127);
	}
	while (others || !answers(e)) {
		if (waitpid(e->dmmd, &status, WNOHANG) == e->dmmd) {
			e->dmmd = 0;
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		}
		usleep(5000);
	}
	return 0;
}

int dmmd_end(struct env *e, int sig)
{
	int status = -1;

	kill(e->dmmd, sig);
	waitpid(e->dmmd, &status, 0);
	e->dmmd = 0;
	return status;
}

/* Both pipes to their ends. */
static void drain(int out_fd, char *out, size_t out_size, int err_fd, char *err,
		  size_t err_size)
{
	struct pollfd p[2] = {
		{ .fd = out_fd, .events = POLLIN }, { .fd = err_fd, .events = POLLIN },
	};
	char *bufs[2] = { out, err }, scrap[512];
	size_t sizes[2] = { out_size, err_size }, lens[2] = {}, room;
	int open_fds = 2, i;
	ssize_t n;

	while (open_fds && poll(p, 2, -1) > 0) {
		for (i = 0; i < 2; i++) {
			if (!p[i].revents)
				continue;
			room = sizes[i] - 1 - lens[i];
			n = room ? read(p[i].fd, bufs[i] + lens[i], room) :
				   read(p[i].fd, scrap, sizeof(scrap));
			if (n <= 0) {
				p[i].fd = -1;
				open_fds--;
			} else if (room) {
				lens[i] += n;
			}
		}
	}
	out[lens[0]] = 0;
	err[lens[1]] = 0;
}

static int run_ctl(struct env *e, bool json, const char * const *words)
{
	const char *argv[32];
	char path[600];
	int out[2], err[2], n = 0, status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/dmmctl", e->bin);
	argv[n++] = path;
	argv[n++] = "-s";
	argv[n++] = e->socket;
	if (json)
		argv[n++] = "-j";
	while (*words && n < 31)
		argv[n++] = *words++;
	argv[n] = NULL;
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (!pid) {
		dup2(out[1], 1);
		dup2(err[1], 2);
		execv(path, (char * const *)argv);
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	drain(out[0], e->out, sizeof(e->out), err[0], e->err, sizeof(e->err));
	close(out[0]);
	close(err[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

int ctl_words(struct env *e, const char * const *words)
{
	return run_ctl(e, false, words);
}

struct json_object *ctl_json_words(struct env *e, const char * const *words)
{
	return run_ctl(e, true, words) ? NULL : json_tokener_parse(e->out);
}

bool one_line(const struct env *e, const char *part)
{
	const char *nl = strchr(e->err, '\n');

	return nl && !nl[1] && strstr(e->err, part);
}

/* The row of @list whose @key is @want, borrowed. */
static struct json_object *row(struct json_object *list, const char *key,
			       const char *want)
{
	struct json_object *o, *v;
	size_t i;

	for (i = 0; list && i < json_object_array_length(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (json_object_object_get_ex(o, key, &v) &&
		    !strcmp(json_object_get_string(v), want))
			return o;
	}
	return NULL;
}

const char *stack_field(struct env *e, const char *name, const char *key)
{
	struct json_object *list = ctl_json(e, "stack", "list"), *v;
	static char buf[512];

	*buf = 0;
	if (json_object_object_get_ex(row(list, "name", name), key, &v) && v)
		snprintf(buf, sizeof(buf), "%s", json_object_get_string(v));
	json_object_put(list);
	return buf;
}

long stack_number(struct env *e, const char *name, const char *key)
{
	const char *text = stack_field(e, name, key);

	return *text ? atol(text) : -1;
}

long rule_hits(struct env *e, long id)
{
	struct json_object *list = ctl_json(e, "rule", "list"), *v;
	char text[32];
	long n = -1;

	snprintf(text, sizeof(text), "%ld", id);
	if (json_object_object_get_ex(row(list, "id", text), "hits", &v))
		n = json_object_get_int64(v);
	json_object_put(list);
	return n;
}

char *slurp(const char *path)
{
	char *buf = NULL;
	size_t n;
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return NULL;
	buf = malloc(1 << 20);
	n = fread(buf, 1, (1 << 20) - 1, f);
	buf[n] = 0;
	fclose(f);
	return buf;
}

int rpc_connect(const struct env *e)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.100s", e->socket);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

char *rpc_line(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t len = 0, size = 1 << 16;
	char *buf = malloc(size);

	/* A byte at a time: what follows the line stays in the socket. */
	while (poll(&p, 1, ms) == 1 && recv(fd, buf + len, 1, 0) == 1) {
		if (buf[len] == '\n') {
			buf[len] = 0;
			return buf;
		}
		if (++len == size)
			buf = realloc(buf, size *= 2);
	}
	free(buf);
	return NULL;
}
