// SPDX-License-Identifier: Apache-2.0
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon.h"
#include "lock.h"
#include "monitor.h"
#include "rule.h"
#include "stack.h"
#include "telemetry.h"
#include "version.h"

#define GROUP "dmm"

static const char usage[] =
"usage: dmmd [OPTION]...\n"
"Hold DMM's rules, start and watch its stacks, serve dmmctl.\n"
"\n"
"  --runtime-dir DIR   socket, state and lock (" DMM_RUNTIME_DIR ")\n"
"  --socket PATH       the control socket (RUNTIME-DIR/" DMM_SOCKET_NAME ")\n"
"  --bpf-dir DIR       where BPF objects are pinned (" DMM_BPF_DIR ")\n"
"  --libdir DIR        where plug-ins are (../lib/dmm from this program)\n"
"  --worker PATH       the worker program (dmm-worker beside this program)\n"
"  --telemetry-dir DIR where workers answer, .../dpdk (" DMM_TELEMETRY_DIR ";\n"
"                      RUNTIME-DIR/dpdk where that is not the usual one)\n"
"  --foreground        accepted; there is no other way to run\n"
"  --help, --version\n"
"\n"
"It stays in the foreground. SIGTERM ends it, and leaves rules and stacks as they\n"
"are; `dmmctl shutdown` removes everything. See dmmd(8).\n";

void dmm_log(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static int libbpf_log(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, fmt, ap) : 0;
}

/* @rel beside the running program, or "../x" beside its folder; into @buf. */
static const char *beside(const char *rel, char *buf)
{
	char exe[PATH_MAX / 2];
	ssize_t n;

	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return NULL;
	exe[n] = 0;
	*strrchr(exe, '/') = 0;
	/* Without the "..": the path shows up in messages. */
	if (!strncmp(rel, "../", 3) && strrchr(exe, '/')) {
		*strrchr(exe, '/') = 0;
		rel += 3;
	}
	snprintf(buf, PATH_MAX, "%s/%s", exe, rel);
	return buf;
}

enum {
	OPT_RUNTIME_DIR = 256,
	OPT_SOCKET,
	OPT_BPF_DIR,
	OPT_LIBDIR,
	OPT_WORKER,
	OPT_TELEMETRY_DIR,
	OPT_FOREGROUND,
};

static const struct option options[] = {
	{ "runtime-dir", required_argument, NULL, OPT_RUNTIME_DIR },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "bpf-dir", required_argument, NULL, OPT_BPF_DIR },
	{ "libdir", required_argument, NULL, OPT_LIBDIR },
	{ "worker", required_argument, NULL, OPT_WORKER },
	{ "telemetry-dir", required_argument, NULL, OPT_TELEMETRY_DIR },
	{ "foreground", no_argument, NULL, OPT_FOREGROUND },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{}
};

/* Fill the part of @d that the command line decides. Ends on --help and misuse. */
static void options_parse(struct dmm_daemon *d, int argc, char **argv)
{
	static char libdir[PATH_MAX], worker[PATH_MAX], socket[PATH_MAX];
	static char telemetry[PATH_MAX];
	int c;

	while ((c = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
		switch (c) {
		case OPT_RUNTIME_DIR:
			d->runtime_dir = optarg;
			break;
		case OPT_SOCKET:
			d->socket = optarg;
			break;
		case OPT_BPF_DIR:
			d->bpf_dir = optarg;
			break;
		case OPT_LIBDIR:
			d->libdir = optarg;
			break;
		case OPT_WORKER:
			d->worker = optarg;
			break;
		case OPT_TELEMETRY_DIR:
			d->telemetry_dir = optarg;
			break;
		case OPT_FOREGROUND:
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		case 'V':
			puts("dmmd " DMM_VERSION);
			exit(0);
		default:
			fputs("Try dmmd --help.\n", stderr);
			exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "dmmd: unexpected argument %s. Try dmmd --help.\n",
			argv[optind]);
		exit(2);
	}
	if (!d->runtime_dir)
		d->runtime_dir = DMM_RUNTIME_DIR;
	if (!d->bpf_dir)
		d->bpf_dir = DMM_BPF_DIR;
	if (!d->libdir)
		d->libdir = beside("../lib/dmm", libdir);
	if (!d->worker)
		d->worker = beside("dmm-worker", worker);
	if (!d->socket) {
		snprintf(socket, sizeof(socket), "%s/" DMM_SOCKET_NAME, d->runtime_dir);
		d->socket = socket;
	}
	if (!d->telemetry_dir && strcmp(d->runtime_dir, DMM_RUNTIME_DIR)) {
		/* another daemon's workers may have our stacks' names */
		snprintf(telemetry, sizeof(telemetry), "%s/dpdk", d->runtime_dir);
		d->telemetry_dir = telemetry;
	} else if (!d->telemetry_dir) {
		d->telemetry_dir = DMM_TELEMETRY_DIR;
	}
	if (!d->libdir || !d->worker) {
		fputs("dmmd: cannot find its own place\n", stderr);
		exit(1);
	}
}

/*
 * Workers inherit it. DPDK puts what it has of each process below
 * $RUNTIME_DIRECTORY/dpdk; of ours systemd makes that another place.
 */
static void telemetry_dir_tell(const struct dmm_daemon *d)
{
	const char *end = strrchr(d->telemetry_dir, '/');
	char above[PATH_MAX];

	unsetenv("RUNTIME_DIRECTORY");
	if (!end || end == d->telemetry_dir || strcmp(end, "/dpdk"))
		return;
	snprintf(above, sizeof(above), "%.*s", (int)(end - d->telemetry_dir),
		 d->telemetry_dir);
	setenv("RUNTIME_DIRECTORY", above, 1);
}

/* A directory for root and the group. */
static int dir_get(const struct dmm_daemon *d, const char *path, mode_t mode,
		   struct dmm_err *err)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return dmm_err_set(err, -errno, "cannot make %s: %m", path);
	if (chown(path, 0, d->gid) < 0 || chmod(path, mode) < 0)
		return dmm_err_set(err, -errno, "cannot set the mode of %s: %m", path);
	return 0;
}

/* The directories, and the lock that keeps a second daemon out. */
static int runtime_dir_get(struct dmm_daemon *d, struct dmm_err *err)
{
	char path[PATH_MAX];
	int fd, ret;

	ret = dir_get(d, d->runtime_dir, 0750, err);
	if (ret)
		return ret;
	/* What workers make in it is the group's. */
	snprintf(path, sizeof(path), "%s/" DMM_CLIENT_DIR, d->runtime_dir);
	ret = dir_get(d, path, 02750, err);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/lock", d->runtime_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return dmm_err_set(err, -errno, "cannot open %s: %m", path);
	ret = dmm_lock(fd, "runtime directory", d->runtime_dir, err);
	if (ret) {
		close(fd);
		return ret;
	}
	return 0;	/* held until the process ends */
}

void dmm_daemon_shutdown_check(struct dmm_daemon *d)
{
	if (!TAILQ_EMPTY(&d->stacks) || !d->shutdown_call)
		return;
	/* Once more, now that the workers' own pins are gone. */
	dmm_policy_remove(d->policy);
	dmm_policy_close(d->policy);
	d->policy = NULL;
	dmm_state_remove(d);
	dmm_rpc_reply(d->shutdown_call, NULL);
	d->shutdown_call = NULL;
	sd_event_exit(d->event, 0);
}

static int events_add(struct dmm_daemon *d)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	sigset_t set;
	size_t i;
	int ret = 0;

	sigemptyset(&set);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]) && ret >= 0; i++)
		ret = sd_event_add_signal(d->event, NULL, signals[i], NULL, NULL);
	return ret < 0 ? ret : dmm_module_watch(d);
}

static int daemon_start(struct dmm_daemon *d, struct dmm_err *err)
{
	struct group *gr = getgrnam(GROUP);
	struct dmm_stack *s, *next;
	int ret;

	if (gr)
		d->gid = gr->gr_gid;
	else
		dmm_log("there is no group " GROUP ": the control socket is root's alone");
	ret = runtime_dir_get(d, err);
	if (ret)
		return ret;
	ret = sd_event_default(&d->event);
	if (ret < 0)
		return dmm_err_set(err, ret, "event loop: %s", strerror(-ret));
	ret = dmm_state_load(d, err);
	/* What others may have is asked for before anything is changed. */
	if (!ret)
		ret = dmm_rpc_claim(d->socket, err);
	if (!ret)
		ret = dmm_policy_open(&d->policy, d->bpf_dir, err);
	if (!ret)
		ret = dmm_rules_restore(d, err);
	if (ret)
		return ret;
	ret = events_add(d);
	if (ret)
		return dmm_err_set(err, ret, "event loop: %s", strerror(-ret));
	ret = dmm_rpc_new(&d->rpc, d->event, d->socket, d->gid, dmm_api_methods, d, err);
	if (ret)
		return ret;
	for (s = TAILQ_FIRST(&d->stacks); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		dmm_stack_resume(s);
	}
	return 0;
}

/* Forget everything and disturb nothing. */
static void daemon_stop(struct dmm_daemon *d)
{
	struct dmm_stack *s;

	if (d->rpc)
		dmm_rpc_flush(d->rpc);
	dmm_monitor_stop(d);
	dmm_rpc_free(d->rpc);
	while ((s = TAILQ_FIRST(&d->stacks)))
		dmm_stack_free(s);
	dmm_rules_free(&d->rules);
	dmm_attachments_free(&d->attachments);
	sd_event_source_disable_unref(d->module_watch);
	sd_event_source_disable_unref(d->module_timer);
	dmm_policy_close(d->policy);
	sd_event_unref(d->event);
}

int main(int argc, char **argv)
{
	struct dmm_daemon d = {
		.stacks = TAILQ_HEAD_INITIALIZER(d.stacks),
		.rules = TAILQ_HEAD_INITIALIZER(d.rules),
		.attachments = TAILQ_HEAD_INITIALIZER(d.attachments),
	};
	struct dmm_err err;
	int ret;

	options_parse(&d, argc, argv);
	telemetry_dir_tell(&d);
	umask(077);
	libbpf_set_print(libbpf_log);
	ret = daemon_start(&d, &err);
	if (ret) {
		dmm_log("dmmd: %s", err.msg);
	} else {
		sd_notify(0, "READY=1");
		ret = sd_event_loop(d.event);
		sd_notify(0, "STOPPING=1");
	}
	daemon_stop(&d);
	return ret ? 1 : 0;
}
