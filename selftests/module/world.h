/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for one test: a network namespace of its own with a device "d0"
 * (10.77.0.1/24, nobody behind it), a cgroup with the real policy program
 * attached, and one rule in it: TCP from this cgroup to 10.77.0.0/24 goes to stack
 * WORLD_STACK. The test process moves into both, and back at the end.
 */
#ifndef WORLD_H
#define WORLD_H

#include <linux/types.h>

#include "dmm_bpf.h"

#define WORLD_STACK	77
#define WORLD_PEER	"10.77.0.2"
#define WORLD_ADDR	"10.77.0.1"

struct world;

/* Make it and enter; NULL with a line on stderr. */
struct world *world_enter(void);

/* Leave and unmake it; NULL is fine. */
void world_leave(struct world *w);

/* d0's index. */
__u32 world_ifindex(const struct world *w);

/* Is the rule there? */
void world_rule(struct world *w, int present);

/* What the rule counted. */
void world_rule_stats(struct world *w, struct dmm_rule_stats *sum);

/* A socket in TCP's hands: connect to WORLD_PEER:port, 0 or -errno. */
int world_connect(int fd, __u16 port);

/* Is the socket adopted, by what `ss -tie` sees (INET_DIAG_ULP_INFO)? */
int world_adopted(int fd);

/* The module's count of fallbacks for @reason, all stacks. */
__u64 world_fallbacks(__u32 reason);

#endif /* WORLD_H */
