// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/dmm.h>

#include "dmm_bpf.h"
#include "worker.h"

#define EXIT_USAGE	2
#define CLIENT_SHARE	25
#define ORPHAN_SECS	120

static struct dmm_worker *worker;	/* once it is there to be stopped */
static bool stopped;			/* before that */

static void on_signal(int sig)
{
	struct dmm_worker *w = __atomic_load_n(&worker, __ATOMIC_ACQUIRE);

	__atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
	if (w)
		dmm_worker_stop(w);
}

static const char help[] =
"Usage: dmm-worker --name NAME --id N --type TYPE --dev DEV [OPTION...]\n"
"Run one user-space network stack on a network device.\n"
"\n"
"      --name NAME           the stack's name, 1 to 31 of A-Z a-z 0-9 _ -\n"
"      --id N                its number, 1 to 1023\n"
"      --type TYPE           its type: dmm-stack-TYPE.so is loaded\n"
"      --dev DEV             the network device\n"
"      --netns PATH          the device's network namespace (default: this one)\n"
"      --route own           the device serves every route\n"
"      --ready-fd FD         write one line there when ready, or why not\n"
"      --plugin-dir DIR      where plug-ins and BPF objects lie\n"
"                            (default: ../lib/dmm from this program)\n"
"      --bpf-dir DIR         where BPF objects are pinned (" DMM_BPF_DIR ")\n"
"      --client-socket PATH  listen there for clients in user space\n"
"      --client-share PERCENT  what one user may have of it, 1 to 100 (25)\n"
"      --orphan-time SECONDS  how long what a client left may take to close (120)\n"
"      --no-module           do not use /dev/dmm\n"
"      --help                show this and exit\n"
"\n"
"SIGTERM ends it in order. See dmm-worker(8).\n";

/* What the command line says. */
struct args {
	struct dmm_worker_opts worker;
	int ready_fd;
	char lib_dir[PATH_MAX];
};

static int usage(const char *fmt, const char *what)
{
	fprintf(stderr, "dmm-worker: ");
	fprintf(stderr, fmt, what);
	fprintf(stderr, "\n");
	return -EINVAL;
}

/* No dot: a pin below /sys/fs/bpf may not have one. */
static bool name_ok(const char *name)
{
	size_t len = strlen(name);

	return len && len < DMM_NAME_MAX && name[0] != '.' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static int number(const char *text, long min, long max, long *n)
{
	char *end;

	errno = 0;
	*n = strtol(text, &end, 10);
	return errno || end == text || *end || *n < min || *n > max ?
	       -EINVAL : 0;
}

/* ../lib/dmm from where the program lies, here and installed. */
static int lib_dir_default(char *dir, size_t len)
{
	char exe[PATH_MAX];
	ssize_t n;
	char *slash;

	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return -errno;
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	*slash = '\0';
	n = snprintf(dir, len, "%s/../lib/dmm", exe);
	return n < (ssize_t)len ? 0 : -ENAMETOOLONG;
}

static int args_check(const struct args *args)
{
	const struct dmm_worker_opts *o = &args->worker;

	if (!o->name || !o->id || !o->type || !o->dev)
		return usage("%s is missing; see --help",
			     !o->name ? "--name" : !o->id ? "--id" :
			     !o->type ? "--type" : "--dev");
	if (!name_ok(o->name))
		return usage("--name '%.64s': expected 1 to 31 of A-Z a-z 0-9 _ -",
			     o->name);
	if (!name_ok(o->type))
		return usage("--type '%.64s': expected a type's name, such as lwip",
			     o->type);
	if (!*o->dev || strlen(o->dev) > 15 || strpbrk(o->dev, ",/ "))
		return usage("--dev '%.64s': expected a network device's name",
			     o->dev);
	if (strchr(o->lib_dir, ','))
		return usage("--plugin-dir '%s': expected a path without a comma",
			     o->lib_dir);
	if (o->no_module && !o->client_socket)
		return usage("%s needs --client-socket: nobody could be served",
			     "--no-module");
	return 0;
}

/* Returns 0, 1 when there is nothing left to do, or -EINVAL after a line. */
static int args_parse(int argc, char **argv, struct args *args)
{
	enum { NAME = 1, ID, TYPE, DEV, NETNS, ROUTE, READY, PLUGINS, BPF,
	       CLIENTS, SHARE, ORPHANS, NO_MODULE, HELP };
	static const struct option options[] = {
		{ "name", required_argument, NULL, NAME },
		{ "id", required_argument, NULL, ID },
		{ "type", required_argument, NULL, TYPE },
		{ "dev", required_argument, NULL, DEV },
		{ "netns", required_argument, NULL, NETNS },
		{ "route", required_argument, NULL, ROUTE },
		{ "ready-fd", required_argument, NULL, READY },
		{ "plugin-dir", required_argument, NULL, PLUGINS },
		{ "bpf-dir", required_argument, NULL, BPF },
		{ "client-socket", required_argument, NULL, CLIENTS },
		{ "client-share", required_argument, NULL, SHARE },
		{ "orphan-time", required_argument, NULL, ORPHANS },
		{ "no-module", no_argument, NULL, NO_MODULE },
		{ "help", no_argument, NULL, HELP },
		{ }
	};
	struct dmm_worker_opts *o = &args->worker;
	long n;
	int c;

	o->sz = sizeof(*o);
	o->lib_dir = args->lib_dir;
	o->bpf_dir = DMM_BPF_DIR;
	o->client_share = CLIENT_SHARE;
	o->orphan_time = ORPHAN_SECS;
	args->ready_fd = -1;
	if (lib_dir_default(args->lib_dir, sizeof(args->lib_dir)))
		return usage("%s: cannot be read", "/proc/self/exe");
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case NAME:
			o->name = optarg;
			break;
		case ID:
			if (number(optarg, 1, DMM_STACK_ID_MAX, &n))
				return usage("--id '%s': expected 1 to 1023",
					     optarg);
			o->id = n;
			break;
		case TYPE:
			o->type = optarg;
			break;
		case DEV:
			o->dev = optarg;
			break;
		case NETNS:
			o->netns = optarg;
			break;
		case ROUTE:
			if (strcmp(optarg, "own"))
				return usage("--route '%s': expected own",
					     optarg);
			o->route_own = true;
			break;
		case READY:
			if (number(optarg, 0, INT_MAX, &n))
				return usage("--ready-fd '%s': expected a descriptor",
					     optarg);
			args->ready_fd = n;
			break;
		case PLUGINS:
			o->lib_dir = optarg;
			break;
		case BPF:
			o->bpf_dir = optarg;
			break;
		case CLIENTS:
			o->client_socket = optarg;
			break;
		case SHARE:
			if (number(optarg, 1, 100, &n))
				return usage("--client-share '%s': expected 1 to 100, percent",
					     optarg);
			o->client_share = n;
			break;
		case ORPHANS:
			if (number(optarg, 1, 86400, &n))
				return usage("--orphan-time '%s': expected 1 to 86400 seconds",
					     optarg);
			o->orphan_time = n;
			break;
		case NO_MODULE:
			o->no_module = true;
			break;
		case HELP:
			fputs(help, stdout);
			return 1;
		default:
			return -EINVAL;
		}
	}
	if (optind < argc)
		return usage("'%s': expected an option; see --help",
			     argv[optind]);
	return args_check(args);
}

/* The one line for whoever started us. */
static void ready(int fd, const char *error)
{
	if (fd < 0)
		return;
	if (error)
		dprintf(fd, "error: %s\n", error);
	else
		dprintf(fd, "ready\n");
	close(fd);
}

int main(int argc, char **argv)
{
	struct sigaction stop = { .sa_handler = on_signal };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct args args = { 0 };
	struct dmm_worker *w;
	char err[512];
	int ret;

	ret = args_parse(argc, argv, &args);
	if (ret)
		return ret > 0 ? EXIT_SUCCESS : EXIT_USAGE;

	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGPIPE, &ignore, NULL);

	ret = dmm_worker_create(&w, &args.worker, err, sizeof(err));
	if (ret) {
		fprintf(stderr, "dmm-worker: %s\n", err);
		ready(args.ready_fd, err);
		return EXIT_FAILURE;
	}
	__atomic_store_n(&worker, w, __ATOMIC_RELEASE);
	ready(args.ready_fd, NULL);
	ret = __atomic_load_n(&stopped, __ATOMIC_RELAXED) ?
		      0 : dmm_worker_run(w);
	__atomic_store_n(&worker, NULL, __ATOMIC_RELEASE);
	dmm_worker_destroy(w);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
