/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker's test stands on; it goes away with the process.
 *
 *	netns "app"			netns "web"
 *	dmmt0 10.77.0.1/24 ----veth---- dmmt1 10.77.0.2/24
 *	worker, by AF_XDP		the kernel's TCP: peer.c
 */
#ifndef RIG_H
#define RIG_H

#include <stdint.h>
#include <sys/types.h>

#define RIG_DEV		"dmmt0"
#define RIG_SADDR	"10.77.0.1"
#define RIG_DADDR	"10.77.0.2"
#define RIG_ABSENT	"10.77.0.99"	/* no such neighbour */
#define RIG_MUTE	"10.77.0.50"	/* a neighbour that is never heard */

struct rig {
	int app_fd;
	int web_fd;
	char app[64];		/* paths of the namespaces */
	char web[64];
	char name[32];		/* the worker's */
	char sock[64];
	char bin[256];
	int ifindex;
	pid_t worker;
	pid_t peer;
};

/* Make the namespaces, the device and the peer; no worker yet. */
int rig_create(struct rig *rig);
void rig_destroy(struct rig *rig);

/*
 * Start a worker; @args are added, a NULL at their end. Its ready line, or why
 * not, goes to @line. Returns 0 when it is ready, else its exit status.
 */
int rig_worker_start(struct rig *rig, char *line, size_t len,
		     const char *const *args);
/* Signal it and wait; returns its wait status. */
int rig_worker_stop(struct rig *rig, int sig);

/* A counter of /dmm/stats, or -1. */
long rig_stat(const struct rig *rig, const char *counter);

/* CPU time that a process has had, in ticks of _SC_CLK_TCK. */
long rig_cpu_ticks(pid_t pid);

/* Run a command line in the namespace @fd; its exit status. */
int rig_run(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

uint32_t rig_addr(const char *dotted);

#endif /* RIG_H */
