/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place of its own for a test: a mount and a network namespace (with lo up), a
 * directory with a bpffs in it, a cgroup. What is not removed by sandbox_leave()
 * ends with the process, the cgroup and the directory apart.
 */
#ifndef DMM_TEST_SANDBOX_H
#define DMM_TEST_SANDBOX_H

#include <stdbool.h>
#include <sys/socket.h>

struct sandbox {
	char dir[64];		/* removed with all that is in it */
	char bpf[80];		/* dir/bpf, a bpffs */
	char cgroup[128];	/* a fresh cgroup, absolute path */
	char old_cgroup[384];	/* where we came from */
};

/* 0, or -1 with a line on stderr. */
int sandbox_enter(struct sandbox *sb);
void sandbox_leave(struct sandbox *sb);

/* Make cgroup @sub of the sandbox's ("" is the sandbox's own); its path in @path. */
int sandbox_cgroup(const struct sandbox *sb, const char *sub, char *path);

/* Move this process. */
int cgroup_enter(const char *path);

/* Fill @ss from text, IPv4 or IPv6; its length, 0 when it is not an address. */
socklen_t address(struct sockaddr_storage *ss, const char *addr, int port);

/* A TCP connection attempt that need not succeed; true when it was tried. */
bool try_connect(const char *addr, int port);

/* Wait up to @ms for @cond to hold; its last value. */
#define wait_for(ms, cond) ({						\
	int __left = (ms);						\
	bool __ok;							\
									\
	while (!(__ok = (cond)) && __left > 0) {			\
		usleep(10 * 1000);					\
		__left -= 10;						\
	}								\
	__ok;								\
})

#endif
