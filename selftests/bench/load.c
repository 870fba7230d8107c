// SPDX-License-Identifier: Apache-2.0
/* The load generator: what it is told, and what it tells. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "load.h"

#define EXIT_USAGE	2

static const char help[] =
"Usage: load serve [OPTION...]\n"
"       load ping|connect|send|recv|hold ADDRESS [OPTION...]\n"
"Put load on a TCP stack, with ordinary sockets, and say in one line of JSON what\n"
"came of it.\n"
"\n"
"  serve     echo on --port, a sink on the next, a source on the one after\n"
"  ping      messages there and back, one under way in each connection\n"
"  connect   connect, one byte there and back, close\n"
"  send      a bulk stream to the sink\n"
"  recv      a bulk stream from the source\n"
"  hold      open connections that say nothing\n"
"\n"
"      --port N            first port of the server (default: 7100)\n"
"      --bind ADDRESS      serve: listen there only (default: 0.0.0.0)\n"
"      --wait block|epoll|spin\n"
"                          in read() and write(), in epoll_wait(), or not at all\n"
"                          (default: block)\n"
"      --connections N     (default: 1; more than 1 does not go with block)\n"
"      --size N            bytes of a message or a write (default: 64; serve, send\n"
"                          and recv: 65536)\n"
"      --seconds S         measure for that long (default: 1)\n"
"      --warmup S          and not before that (default: 0.1)\n"
"      --source ADDRESS    connect from there\n"
"      --sources N         and from the N - 1 addresses after it, in turn\n"
"      --cpu N             run on that CPU alone\n"
"      --cdf FILE          ping, connect: write \"us fraction\" lines there\n"
"      --help              show this and exit\n";

void die(const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "load: %s\n", line);
	exit(EXIT_FAILURE);
}

static void __attribute__((format(printf, 1, 2), noreturn))
usage(const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "load: %s; see --help\n", line);
	exit(EXIT_USAGE);
}

static const struct work {
	const char *name;
	void (*run)(const struct load *l, struct result *r);
	bool bulk;
	bool timed;
} works[] = {
	{ "serve", NULL, true, false },
	{ "ping", client_ping, false, true },
	{ "connect", client_connect, false, true },
	{ "send", client_send, true, false },
	{ "recv", client_recv, true, false },
	{ "hold", client_hold, false, false },
};

static const char *const waits[] = {
	[WAIT_BLOCK] = "block",
	[WAIT_EPOLL] = "epoll",
	[WAIT_SPIN] = "spin",
};

static unsigned int whole(const char *option, const char *text,
			  unsigned int min, unsigned int max)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || n < min || n > max)
		usage("--%s '%.32s': expected %u to %u", option, text, min,
		      max);
	return n;
}

static double duration(const char *option, const char *text, double min)
{
	double s;
	char *end;

	s = strtod(text, &end);
	if (end == text || *end || !isfinite(s) || s < min || s > 3600)
		usage("--%s '%.32s': expected seconds, %g to 3600", option,
		      text, min);
	return s;
}

static enum wait wait_by_name(const char *text)
{
	size_t i;

	for (i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
		if (!strcmp(waits[i], text))
			return i;
	usage("--wait '%.32s': expected block, epoll or spin", text);
}

static socklen_t address(const char *text, struct sockaddr_storage *ss)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		return sizeof(*in);
	}
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		return sizeof(*in6);
	}
	usage("'%.64s': expected an IPv4 or IPv6 address", text);
}

static void cpu_pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		usage("--cpu %u: %s", cpu, strerror(errno));
}

/* What goes with what. */
static void load_check(const struct load *l, const struct work *work)
{
	if (work->run && l->wait == WAIT_BLOCK && l->conns > 1 &&
	    work->run != client_hold)
		usage("--connections %u: one that blocks has 1; take --wait epoll",
		      l->conns);
	if (l->source.ss_family && l->source.ss_family != l->addr.ss_family)
		usage("--source: of another family than the server's address");
	if (l->nsources > 1 && !l->source.ss_family)
		usage("--sources goes with --source");
	if (l->cdf && !work->timed)
		usage("--cdf goes with ping and connect");
}

static const struct work *parse(int argc, char **argv, struct load *l)
{
	enum { PORT = 1, BIND, WAIT, CONNS, SIZE, SECONDS, WARMUP, SOURCE,
	       SOURCES, CPU, CDF, HELP };
	static const struct option options[] = {
		{ "port", required_argument, NULL, PORT },
		{ "bind", required_argument, NULL, BIND },
		{ "wait", required_argument, NULL, WAIT },
		{ "connections", required_argument, NULL, CONNS },
		{ "size", required_argument, NULL, SIZE },
		{ "seconds", required_argument, NULL, SECONDS },
		{ "warmup", required_argument, NULL, WARMUP },
		{ "source", required_argument, NULL, SOURCE },
		{ "sources", required_argument, NULL, SOURCES },
		{ "cpu", required_argument, NULL, CPU },
		{ "cdf", required_argument, NULL, CDF },
		{ "help", no_argument, NULL, HELP },
		{ }
	};
	const char *server = "0.0.0.0";
	const struct work *work = NULL;
	unsigned int port = 7100;
	size_t i;
	int c;

	*l = (struct load) { .conns = 1, .nsources = 1, .seconds = 1,
			     .warmup = 0.1 };
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
		switch (c) {
		case PORT:
			port = whole("port", optarg, 1, 65535 - SERVICES);
			break;
		case BIND:
			server = optarg;
			break;
		case WAIT:
			l->wait = wait_by_name(optarg);
			break;
		case CONNS:
			l->conns = whole("connections", optarg, 1, CONNS_MAX);
			break;
		case SIZE:
			l->size = whole("size", optarg, 1, 1 << 24);
			break;
		case SECONDS:
			l->seconds = duration("seconds", optarg, 0.01);
			break;
		case WARMUP:
			l->warmup = duration("warmup", optarg, 0);
			break;
		case SOURCE:
			address(optarg, &l->source);
			break;
		case SOURCES:
			l->nsources = whole("sources", optarg, 1, 200);
			break;
		case CPU:
			cpu_pin(whole("cpu", optarg, 0, CPU_SETSIZE - 1));
			break;
		case CDF:
			l->cdf = optarg;
			break;
		case HELP:
			fputs(help, stdout);
			exit(EXIT_SUCCESS);
		case ':':
			usage("%.32s needs a value", argv[optind - 1]);
		default:
			usage("'%.32s': no such option", argv[optind - 1]);
		}
	}
	if (optind == argc)
		usage("expected serve, ping, connect, send, recv or hold");
	for (i = 0; i < sizeof(works) / sizeof(works[0]); i++)
		if (!strcmp(works[i].name, argv[optind]))
			work = &works[i];
	if (!work)
		usage("'%.32s': expected serve, ping, connect, send, recv or hold",
		      argv[optind]);
	optind++;
	if (work->run) {
		if (optind == argc)
			usage("%s needs the server's address", work->name);
		server = argv[optind++];
	}
	if (optind < argc)
		usage("'%.32s': one word too many", argv[optind]);
	l->work = work->name;
	l->addr_len = address(server, &l->addr);
	/* both families have it in the same place */
	((struct sockaddr_in *)&l->addr)->sin_port = htons(port);
	if (!l->size)
		l->size = work->bulk ? 65536 : 64;
	load_check(l, work);
	return work;
}

static void print_times(const struct hist *h, double seconds)
{
	printf(",\"requests\":%llu,\"rate\":%.1f",
	       (unsigned long long)h->count, h->count / seconds);
	if (!h->count)
		return;
	printf(",\"min_us\":%.3f,\"mean_us\":%.3f", h->min / 1e3,
	       hist_mean(h) / 1e3);
	printf(",\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f",
	       hist_quantile(h, 0.5) / 1e3, hist_quantile(h, 0.9) / 1e3,
	       hist_quantile(h, 0.99) / 1e3, hist_quantile(h, 0.999) / 1e3);
	printf(",\"max_us\":%.3f", h->max / 1e3);
}

static void cdf_write(const struct load *l, const struct hist *h)
{
	FILE *f = fopen(l->cdf, "we");

	if (!f)
		die("%s: cannot be written: %s", l->cdf, strerror(errno));
	hist_print_cdf(h, 1e3, f);
	if (fclose(f))
		die("%s: cannot be written: %s", l->cdf, strerror(errno));
}

/* All of ours, setting up included. */
static double cpu_seconds(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return ru.ru_utime.tv_sec + ru.ru_stime.tv_sec +
	       (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static void files_raise(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r)) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

int main(int argc, char **argv)
{
	static struct result r;
	const struct work *work;
	struct load l;

	work = parse(argc, argv, &l);
	files_raise();
	if (!work->run)
		server_run(&l);
	work->run(&l, &r);
	printf("{\"work\":\"%s\",\"wait\":\"%s\",\"connections\":%u,\"size\":%u,\"seconds\":%.3f",
	       l.work, waits[l.wait], l.conns, l.size, r.seconds);
	if (work->timed)
		print_times(&r.hist, r.seconds);
	if (work->bulk)
		printf(",\"bytes\":%llu,\"gbit_s\":%.3f",
		       (unsigned long long)r.bytes, r.bytes * 8 / r.seconds / 1e9);
	printf(",\"cpu_s\":%.3f}\n", cpu_seconds());
	if (l.cdf)
		cdf_write(&l, &r.hist);
	return EXIT_SUCCESS;
}
