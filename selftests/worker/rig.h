/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker's test stands on; it goes away with the process. With DMM_TEST_ASAN
 * in the environment the worker is always the one with ASan and UBSan.
 *
 *	netns "app"			netns "web"
 *	dmmt0 10.77.0.1/24 ----veth---- dmmt1 10.77.0.2/24
 *	      fd77::1/64		      fd77::2/64
 *	      fe80::77:1		      fe80::77:2
 *	worker, by AF_XDP		the kernel's TCP: peer.c
 */
#ifndef RIG_H
#define RIG_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define RIG_DEV		"dmmt0"
#define RIG_SADDR	"10.77.0.1"
#define RIG_DADDR	"10.77.0.2"
#define RIG_SADDR6	"fd77::1"
#define RIG_DADDR6	"fd77::2"
#define RIG_SLOCAL6	"fe80::77:1"
#define RIG_DLOCAL6	"fe80::77:2"
#define RIG_ABSENT6	"fd77::99"
#define RIG_MUTE6	"fd77::50"
#define RIG_ABSENT	"10.77.0.99"	/* no such neighbour */
#define RIG_MUTE	"10.77.0.50"	/* a neighbour that is never heard */

struct rig {
	int app_fd;
	int web_fd;
	char app[64];		/* paths of the namespaces */
	char web[64];
	char name[32];		/* the worker's */
	char sock[64];
	char build[192];
	char bin[256];
	int ifindex;
	int web_ifindex;
	pid_t worker;
	pid_t peer;
};

/* Make the namespaces, the device and the peer; no worker yet. */
int rig_create(struct rig *rig);
void rig_destroy(struct rig *rig);

/* The worker with ASan and UBSan (make asan), instead of the usual one. */
void rig_sanitized(struct rig *rig);

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
void rig_addr6(const char *text, uint32_t word[4]);

/* A namespace that is ours from now on, too; its descriptor. */
int rig_netns(char *path, size_t len);

/* A kernel's socket in the namespace @fd; the caller stays where it is. */
int rig_socket(const struct rig *rig, int fd, int family, int type, int proto);

/* An address of either family, as its text says, for connect() and bind(). */
socklen_t rig_sockaddr(struct sockaddr_storage *ss, const char *text,
		       uint16_t port, int ifindex);

/* Connect, blocking, from namespace web; the socket, or a negative errno. */
int rig_dial(const struct rig *rig, const char *text, uint16_t port);

/* Wait until a counter of /dmm/stats is @value, some seconds; what it is. */
long rig_stat_wait(const struct rig *rig, const char *counter, long value);

#endif /* RIG_H */
