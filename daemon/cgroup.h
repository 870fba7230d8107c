/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup2 directories, by path and by the kernel's id. */
#ifndef DMM_CGROUP_H
#define DMM_CGROUP_H

#include <linux/types.h>
#include <stdbool.h>

#include "err.h"

/*
 * A cgroup as a rule knows it. The id is what counts: a directory that was
 * removed and made again under the same path is another cgroup.
 */
struct dmm_cgroup {
	char *path;		/* absolute, canonical; owned */
	__u64 id;
	__u32 level;		/* depth below the hierarchy's root */
};

/*
 * Find @path: absolute, or relative to where cgroup2 is mounted. On success
 * @cg->path is allocated (dmm_cgroup_release()); if @fd is not NULL it gets a
 * descriptor of the directory. -ENOENT, -ENOTDIR, -EINVAL (not a cgroup2).
 */
int dmm_cgroup_resolve(const char *path, struct dmm_cgroup *cg, int *fd,
		       struct dmm_err *err);

/* Where this process is in cgroup2, as an absolute path, into @buf of PATH_MAX. */
int dmm_cgroup_own(char *buf, struct dmm_err *err);

/* Where cgroup2 is mounted, likewise. */
int dmm_cgroup_root(char *buf, struct dmm_err *err);

void dmm_cgroup_release(struct dmm_cgroup *cg);

/* Open the cgroup that @cg was; -ENOENT when it has gone. */
int dmm_cgroup_open(const struct dmm_cgroup *cg);

/* Is @a a proper ancestor of @b? Both paths are canonical. */
bool dmm_cgroup_above(const struct dmm_cgroup *a, const struct dmm_cgroup *b);

#endif
