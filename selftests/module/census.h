/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kernel holds, counted, so that a test can tell that nothing was kept: only
 * where the test is alone, as in the VM. Of the caller's network namespace where it
 * says so, else of the machine.
 */
#ifndef CENSUS_H
#define CENSUS_H

/**
 * struct census - what there is
 * @socks: TCP sockets of the namespace, IPv4 and IPv6 (/proc/net/protocols)
 * @alloc: TCP sockets, also closed ones that somebody holds (/proc/net/sockstat)
 * @orphans: of which no program's
 * @files: open files (/proc/sys/fs/file-nr)
 * @pins: pages pinned (nr_foll_pin_acquired less nr_foll_pin_released)
 * @shmem: pages of shared memory: arenas
 * @module: references to dmm.ko
 */
struct census {
	long socks;
	long alloc;
	long orphans;
	long files;
	long pins;
	long shmem;
	long module;
};

/* Count; -1 where that failed. */
void census_take(struct census *c);

/*
 * Count until there is no more of anything than in @before, but not longer than
 * @seconds: freeing waits for grace periods. 0, or how many counts are still larger,
 * each told on stderr.
 */
int census_back(const struct census *before, int seconds);

#endif /* CENSUS_H */
