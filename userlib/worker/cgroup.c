// SPDX-License-Identifier: Apache-2.0
/*
 * Whose packets a BPF program filters natively, as by IPAddressDeny= of systemd, must
 * not have a stack's. The policy sees to that when a socket starts; a program that is
 * attached later, to the cgroup of a client or above it, is looked for here.
 */
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "private.h"

#define LOOK_MS	1000U

/* Where cgroup2 is mounted; false if it is not. */
static bool cgroup_root(char *root, size_t len)
{
	FILE *f = setmntent("/proc/self/mounts", "r");
	bool found = false;
	struct mntent *m;

	while (f && !found && (m = getmntent(f)))
		if (!strcmp(m->mnt_type, "cgroup2"))
			found = snprintf(root, len, "%s", m->mnt_dir) < (int)len;
	if (f)
		endmntent(f);
	return found;
}

/**
 * cgroup_of() - the path of a process's cgroup
 * @pid: the process; 0 for one of a namespace that we do not see
 *
 * Return: the directory, to be freed; NULL where it cannot be told.
 */
char *cgroup_of(pid_t pid)
{
	char path[PATH_MAX], root[PATH_MAX], line[PATH_MAX], *dir = NULL;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	f = pid && cgroup_root(root, sizeof(root)) ? fopen(path, "re") : NULL;
	if (!f)
		return NULL;
	while (!dir && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "0::", 3) &&
		    asprintf(&dir, "%s%s", root, line + 3) < 0)
			dir = NULL;
	}
	fclose(f);
	return dir;
}

static bool has_programs(int fd, enum bpf_attach_type type)
{
	__u32 n = 0;

	return !bpf_prog_query(fd, type, BPF_F_QUERY_EFFECTIVE, NULL, NULL, &n) && n;
}

/**
 * cgroup_forbids() - have a client's packets come to be filtered?
 * @ch: the client; looked at once a second
 */
bool cgroup_forbids(struct channel *ch)
{
	bool ret;
	int fd;

	if (!ch->cgroup || ch->w->now_ms - ch->cgroup_ms < LOOK_MS)
		return false;
	ch->cgroup_ms = ch->w->now_ms;
	fd = open(ch->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ret = has_programs(fd, BPF_CGROUP_INET_EGRESS) ||
	      has_programs(fd, BPF_CGROUP_INET_INGRESS);
	close(fd);
	return ret;
}
