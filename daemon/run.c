// SPDX-License-Identifier: Apache-2.0
/*
 * dmmctl run: a fresh cgroup, under DMM by name (so that the shim works there as
 * well), one rule for it before all others, a program in it; and everything taken
 * back when the program has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "client.h"
#include "command.h"
#include "version.h"

#define SHIM "dmm/libdmm-shim.so"

#define EXIT_CANNOT_RUN		126
#define EXIT_NOT_FOUND		127

struct run {
	const struct dmm_ctl *ctl;
	const char *stack;
	char home[PATH_MAX];		/* the cgroup we came from */
	char cgroup[PATH_MAX];		/* "" until it is made */
	bool attached;
	int64_t rule;			/* 0 until it is made */
};

static pid_t child;	/* the program's, for the handler; atomic */

static int complain(const char *what, int err)
{
	fprintf(stderr, "dmmctl: %s: %s\n", what, strerror(err));
	return -err;
}

/* Ask dmmd; the result is to be put. 0 or -errno after a line on stderr. */
static int call(const struct run *r, const char *method, struct json_object *params,
		struct json_object **result)
{
	struct dmm_err err;
	int ret;

	ret = dmm_client_call(r->ctl->socket, method, params, result, &err);
	if (ret)
		fprintf(stderr, "dmmctl: %s\n", err.msg);
	return ret;
}

static struct json_object *one(const char *key, const char *value)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, key, json_object_new_string(value));
	return o;
}

static int procs_write(const char *cgroup, const char *pid)
{
	char path[PATH_MAX + 16];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, pid, strlen(pid)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Below where we are, or at the root when that is not allowed there. */
static int cgroup_make(struct run *r)
{
	char root[PATH_MAX];
	struct dmm_err err;
	int ret;

	ret = dmm_cgroup_root(root, &err);
	if (!ret && dmm_cgroup_own(r->home, NULL))
		strcpy(r->home, root);
	if (ret) {
		fprintf(stderr, "dmmctl: %s\n", err.msg);
		return ret;
	}
	if (snprintf(r->cgroup, PATH_MAX, "%s/dmm-run-%d", r->home, getpid()) >= PATH_MAX ||
	    mkdir(r->cgroup, 0755) < 0) {
		if (snprintf(r->cgroup, PATH_MAX, "%s/dmm-run-%d", root, getpid()) >=
		    PATH_MAX || mkdir(r->cgroup, 0755) < 0) {
			ret = complain(r->cgroup, errno);
			*r->cgroup = 0;
			return ret;
		}
	}
	return 0;
}

/* What still runs there goes back to where we came from. */
static void cgroup_remove(struct run *r)
{
	char path[PATH_MAX + 16], pid[32];
	int tries;
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.procs", r->cgroup);
	for (tries = 0; tries < 100; tries++) {
		if (!rmdir(r->cgroup) || errno != EBUSY)
			return;
		f = fopen(path, "re");
		while (f && fgets(pid, sizeof(pid), f))
			procs_write(r->home, pid);
		if (f)
			fclose(f);
		usleep(10 * 1000);	/* one that ends is not gone at once */
	}
	fprintf(stderr, "dmmctl: %s stays: it has cgroups or processes in it\n", r->cgroup);
}

/* The first rule's id as text, to stand before; NULL when there is none. */
static struct json_object *first_rule(const struct run *r)
{
	struct json_object *rules, *id = NULL;

	if (call(r, "rule.list", NULL, &rules))
		return NULL;
	if (json_object_array_length(rules) &&
	    json_object_object_get_ex(json_object_array_get_idx(rules, 0), "id", &id))
		json_object_get(id);
	json_object_put(rules);
	return id;
}

static int rule_make(struct run *r)
{
	struct json_object *params = one("stack", r->stack), *first, *result, *id;
	int ret;

	json_object_object_add(params, "match", one("cgroup", r->cgroup));
	first = first_rule(r);
	if (first)
		json_object_object_add(params, "before", first);
	ret = call(r, "rule.add", params, &result);
	if (ret)
		return ret;
	if (json_object_object_get_ex(result, "id", &id))
		r->rule = json_object_get_int64(id);
	json_object_put(result);
	return 0;
}

static int setup(struct run *r, bool *module)
{
	struct json_object *result, *v;
	int ret;

	ret = call(r, "stack.show", one("name", r->stack), &result);
	if (ret)
		return ret;
	if (json_object_object_get_ex(result, "state", &v) &&
	    strcmp(json_object_get_string(v), "up"))
		fprintf(stderr, "dmmctl: stack %s is %s: the program gets the kernel's stack\n",
			r->stack, json_object_get_string(v));
	json_object_put(result);
	ret = call(r, "status", NULL, &result);
	if (ret)
		return ret;
	/* Can sockets be adopted? */
	*module = json_object_object_get_ex(result, "kfunc", &v) &&
		  json_object_get_boolean(v);
	json_object_put(result);

	ret = cgroup_make(r);
	if (ret)
		return ret;
	ret = call(r, "cgroup.attach", one("path", r->cgroup), &result);
	if (ret)
		return ret;
	json_object_put(result);
	r->attached = true;
	return rule_make(r);
}

static void teardown(struct run *r)
{
	struct json_object *result, *params;

	if (r->rule) {
		params = json_object_new_object();
		json_object_object_add(params, "id", json_object_new_int64(r->rule));
		if (!call(r, "rule.del", params, &result))
			json_object_put(result);
	}
	if (r->attached && !call(r, "cgroup.detach", one("path", r->cgroup), &result))
		json_object_put(result);
	if (*r->cgroup)
		cgroup_remove(r);
}

/* ../lib/dmm/libdmm-shim.so from this program, if it is there. */
static bool shim_find(char *path)
{
	char exe[PATH_MAX / 2];
	ssize_t n;
	int i;

	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return false;
	exe[n] = 0;
	for (i = 0; i < 2; i++) {
		if (!strrchr(exe, '/'))
			return false;
		*strrchr(exe, '/') = 0;
	}
	snprintf(path, PATH_MAX, "%s/lib/" SHIM, exe);
	return !access(path, R_OK);
}

/* Without the module the shim has to do it; it asks the same rules. */
static void environment(const struct run *r, bool module)
{
	const char *old = getenv("LD_PRELOAD");
	char shim[PATH_MAX], all[2 * PATH_MAX], dir[PATH_MAX];

	if (module || !shim_find(shim))
		return;
	snprintf(all, sizeof(all), "%s%s%s", shim, old && *old ? ":" : "",
		 old && *old ? old : "");
	setenv("LD_PRELOAD", all, 1);
	/* Where the workers' sockets are, when that is not where the shim looks. */
	if (strcmp(r->ctl->socket, DMM_RUNTIME_DIR "/" DMM_SOCKET_NAME)) {
		snprintf(dir, sizeof(dir), "%s", r->ctl->socket);
		if (strrchr(dir, '/'))
			*strrchr(dir, '/') = 0;
		setenv("DMM_RUNTIME_DIR", dir, 1);
	}
}

static void on_signal(int sig)
{
	pid_t pid = __atomic_load_n(&child, __ATOMIC_RELAXED);

	if (pid > 0)
		kill(pid, sig);
}

/* The terminal's signals reach the program by themselves. */
static void signals(bool forward)
{
	static const int pass[] = { SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 };
	static const int skip[] = { SIGINT, SIGQUIT };
	struct sigaction sa = { .sa_handler = forward ? on_signal : SIG_DFL };
	size_t i;

	for (i = 0; i < sizeof(pass) / sizeof(pass[0]); i++)
		sigaction(pass[i], &sa, NULL);
	sa.sa_handler = forward ? SIG_IGN : SIG_DFL;
	for (i = 0; i < sizeof(skip) / sizeof(skip[0]); i++)
		sigaction(skip[i], &sa, NULL);
}

/* The program's exit status, as a shell tells it. */
static int execute(const struct run *r, bool module, char **argv)
{
	sigset_t all, old;
	int status, ret;
	pid_t pid;

	/* No signal is lost between fork() and the handler that knows the pid. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	signals(true);
	pid = fork();
	if (pid < 0)
		return -complain("fork", errno);
	if (!pid) {
		signals(false);
		sigprocmask(SIG_SETMASK, &old, NULL);
		ret = procs_write(r->cgroup, "0");
		if (ret) {
			complain(r->cgroup, -ret);
			_exit(EXIT_CANNOT_RUN);
		}
		environment(r, module);
		execvp(argv[0], argv);
		ret = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
		complain(argv[0], errno);
		_exit(ret);
	}
	__atomic_store_n(&child, pid, __ATOMIC_RELAXED);
	sigprocmask(SIG_SETMASK, &old, NULL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	__atomic_store_n(&child, 0, __ATOMIC_RELAXED);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int dmm_command_run(const struct dmm_ctl *ctl, int argc, char **argv)
{
	struct run r = { .ctl = ctl };
	int status = EXIT_FAILURE;
	bool module;

	if (argc < 3 || strcmp(argv[0], "stack") || !ctl->dashes)
		return DMM_MISUSE;
	r.stack = argv[1];
	if (!setup(&r, &module))
		status = execute(&r, module, argv + 2);
	teardown(&r);
	return status;
}
