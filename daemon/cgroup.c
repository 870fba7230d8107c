// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cgroup.h"

/* Alone, or beside version 1's hierarchies. */
int dmm_cgroup_root(char *buf, struct dmm_err *err)
{
	struct mntent *m;
	bool found = false;
	FILE *f;

	f = setmntent("/proc/self/mounts", "r");
	if (!f)
		return dmm_err_set(err, -errno, "cannot read /proc/self/mounts: %m");
	while (!found && (m = getmntent(f))) {
		if (strcmp(m->mnt_type, "cgroup2"))
			continue;
		found = snprintf(buf, PATH_MAX, "%s", m->mnt_dir) < PATH_MAX;
	}
	endmntent(f);
	if (!found)
		return dmm_err_set(err, -ENOENT, "no cgroup2 file system is mounted");
	return 0;
}

int dmm_cgroup_own(char *buf, struct dmm_err *err)
{
	char root[PATH_MAX], line[PATH_MAX];
	int ret;
	FILE *f;

	ret = dmm_cgroup_root(root, err);
	if (ret)
		return ret;
	f = fopen("/proc/self/cgroup", "re");
	if (!f)
		return dmm_err_set(err, -errno, "cannot read /proc/self/cgroup: %m");
	ret = -ENOENT;
	while (ret && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		/* Outside of the cgroup namespace that is ours it begins with "/..". */
		if (strncmp(line, "0::/", 4) || !strncmp(line, "0::/..", 6))
			continue;
		if (snprintf(buf, PATH_MAX, "%s%s", root, line[4] ? line + 3 : "") < PATH_MAX)
			ret = 0;
	}
	fclose(f);
	return ret ? dmm_err_set(err, ret, "this process is in no cgroup2") : 0;
}

static int cgroup_id(int fd, __u64 *id)
{
	union {
		struct file_handle h;
		char space[sizeof(struct file_handle) + sizeof(__u64)];
	} u = { .h.handle_bytes = sizeof(__u64) };
	int mount_id;

	if (name_to_handle_at(fd, "", &u.h, &mount_id, AT_EMPTY_PATH) < 0)
		return -errno;
	if (u.h.handle_bytes != sizeof(__u64))
		return -EINVAL;
	memcpy(id, u.h.f_handle, sizeof(*id));
	return 0;
}

static __u32 depth(const char *s)
{
	__u32 n = 0;

	for (; *s; s++)
		n += *s == '/' && s[1];
	return n;
}

/* @root without a trailing slash; "" when it is "/" itself. */
static bool below(const char *path, const char *root)
{
	size_t len = strlen(root);

	return !strncmp(path, root, len) && (!path[len] || path[len] == '/');
}

int dmm_cgroup_resolve(const char *path, struct dmm_cgroup *cg, int *fdp,
		       struct dmm_err *err)
{
	char root[PATH_MAX], full[2 * PATH_MAX], link[64], real[PATH_MAX];
	struct statfs fs;
	ssize_t len;
	__u64 id;
	int fd, ret;

	ret = dmm_cgroup_root(root, err);
	if (ret)
		return ret;
	if (!*path || strlen(path) >= PATH_MAX)
		return dmm_err_set(err, -EINVAL,
				   "cgroup path of %zu characters: expected a directory of %s",
				   strlen(path), root);
	if (*path == '/')
		snprintf(full, sizeof(full), "%s", path);
	else
		snprintf(full, sizeof(full), "%s/%s", root, path);

	fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		return dmm_err_set(err, ret, "cgroup %s: %m (expected a directory of %s)",
				   full, root);
	}
	if (fstatfs(fd, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC) {
		ret = dmm_err_set(err, -EINVAL,
				  "cgroup %s: not a cgroup2 directory; expected one below %s",
				  full, root);
		goto err_close;
	}
	ret = cgroup_id(fd, &id);
	if (ret) {
		dmm_err_set(err, ret, "cgroup %s: its id cannot be read: %s", full,
			    strerror(-ret));
		goto err_close;
	}

	/* Links and ".." resolved: levels and ancestors are read off the path. */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, real, sizeof(real) - 1);
	if (len < 0) {
		ret = dmm_err_set(err, -errno, "cgroup %s: %m", full);
		goto err_close;
	}
	real[len] = 0;
	if (!below(real, root)) {
		ret = dmm_err_set(err, -EINVAL,
				  "cgroup %s: mounted elsewhere; expected a directory of %s",
				  full, root);
		goto err_close;
	}

	cg->path = strdup(real);
	if (!cg->path) {
		ret = dmm_err_set(err, -ENOMEM, "out of memory");
		goto err_close;
	}
	cg->id = id;
	cg->level = depth(real + strlen(root));
	if (fdp)
		*fdp = fd;
	else
		close(fd);
	return 0;

err_close:
	close(fd);
	return ret;
}

void dmm_cgroup_release(struct dmm_cgroup *cg)
{
	free(cg->path);
	memset(cg, 0, sizeof(*cg));
}

int dmm_cgroup_open(const struct dmm_cgroup *cg)
{
	__u64 id;
	int fd;

	fd = open(cg->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -ENOENT;
	if (cgroup_id(fd, &id) || id != cg->id) {
		close(fd);
		return -ENOENT;
	}
	return fd;
}

bool dmm_cgroup_above(const struct dmm_cgroup *a, const struct dmm_cgroup *b)
{
	return a->level < b->level && below(b->path, a->path);
}
