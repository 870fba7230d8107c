/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for one test: a network namespace of its own with a device "d0"
 * (10.77.0.1/24, fd77::1/64, nobody behind it), and a cgroup with hooks.bpf.c
 * attached: TCP from there to those prefixes, and listeners on those or any
 * address, go to stack WORLD_STACK. The test process moves into both, and back at
 * the end.
 */
#ifndef WORLD_H
#define WORLD_H

#include <linux/types.h>

#include <linux/dmm.h>

#define WORLD_STACK	77
#define WORLD_PEER	"10.77.0.2"
#define WORLD_ADDR	"10.77.0.1"
#define WORLD_PEER6	"fd77::2"
#define WORLD_ADDR6	"fd77::1"

struct world;

/* Make it and enter; NULL with a line on stderr. */
struct world *world_enter(void);

/* Leave and unmake it; NULL is fine. */
void world_leave(struct world *w);

/* d0's index. */
__u32 world_ifindex(const struct world *w);

/* The cgroup's path; what is made below it goes with the world. */
const char *world_cgroup(const struct world *w);

/* Shall the hooks do anything? */
void world_rule(struct world *w, int present);

/* Shall connect() fail with EPERM, after the verdict? */
void world_deny(struct world *w, int deny);

/* Attach a program that filters packets to the cgroup, or take it away; 0 or -1. */
int world_guard(struct world *w, int present);

/* Write a sysctl of the namespace, below /proc/sys/net; 0 or -1. */
int world_sysctl(const char *name, const char *value);

/* Have a BPF program set an option of @fd; what bpf_setsockopt() says. */
int world_bpf_set(struct world *w, int fd, int level, int name, int value);

/* Attach a sockops program to the cgroup; its descriptor, close() takes it off. */
int world_sockops(struct world *w);

/* No hooks any more: nobody judges. */
void world_detach(struct world *w);

/* What the hooks counted. */
struct world_stats {
	__u64 hits;
	__u64 adopted;
	__u64 fallbacks[__DMM_FALLBACK_MAX];
};

void world_stats(struct world *w, struct world_stats *stats);

/* A socket in TCP's hands: connect to WORLD_PEER:port, 0 or -errno. */
int world_connect(int fd, __u16 port);

/* Is the socket adopted, by what `ss -tie` sees (INET_DIAG_ULP_INFO)? */
int world_adopted(int fd);

/* The module's count of fallbacks for @reason, all stacks. */
__u64 world_fallbacks(__u32 reason);

/* The module's count of bad events, all stacks. */
__u64 world_bad_events(void);

#endif /* WORLD_H */
