// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lock.h"

/* Who has the flock() on @fd's inode; 0 when that cannot be told. */
static pid_t holder(int fd)
{
	unsigned long inode;
	pid_t pid = 0, each;
	char line[256];
	struct stat st;
	FILE *f;

	if (fstat(fd, &st) < 0)
		return 0;
	f = fopen("/proc/locks", "re");
	if (!f)
		return 0;
	/* 1: FLOCK  ADVISORY  WRITE 1234 00:1b:5678 0 EOF */
	while (!pid && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s FLOCK %*s %*s %d %*x:%*x:%lu", &each, &inode) == 2 &&
		    inode == st.st_ino && each > 0)
			pid = each;
	fclose(f);
	return pid;
}

int dmm_lock(int fd, const char *what, const char *path, struct dmm_err *err)
{
	pid_t pid;

	if (!flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	if (errno != EWOULDBLOCK)
		return dmm_err_set(err, -errno, "cannot lock %s: %m", path);
	pid = holder(fd);
	if (!pid)
		return dmm_err_set(err, -EBUSY, "%s %s: another dmmd has it", what, path);
	return dmm_err_set(err, -EBUSY, "%s %s: another dmmd, pid %d, has it", what, path,
			   pid);
}
