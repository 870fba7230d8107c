// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <mntent.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox.h"

static int fail(const char *what)
{
	fprintf(stderr, "# sandbox: %s: %s\n", what, strerror(errno));
	return -1;
}

static int lo_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd, ret;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	ret = ioctl(fd, SIOCSIFFLAGS, &ifr);
	close(fd);
	return ret;
}

static int cgroup_root(char *buf, size_t size)
{
	struct mntent *m;
	int ret = -1;
	FILE *f;

	f = setmntent("/proc/self/mounts", "r");
	if (!f)
		return -1;
	while (ret && (m = getmntent(f)))
		if (!strcmp(m->mnt_type, "cgroup2")) {
			snprintf(buf, size, "%s", m->mnt_dir);
			ret = 0;
		}
	endmntent(f);
	return ret;
}

/* Ours in the cgroup2 hierarchy, as an absolute path. */
static int cgroup_now(const char *root, char *buf, size_t size)
{
	char line[256];
	int ret = -1;
	FILE *f;

	f = fopen("/proc/self/cgroup", "re");
	if (!f)
		return -1;
	while (ret && fgets(line, sizeof(line), f))
		if (!strncmp(line, "0::", 3)) {
			line[strcspn(line, "\n")] = 0;
			snprintf(buf, size, "%s%s", root, line + 3);
			ret = 0;
		}
	fclose(f);
	return ret;
}

int sandbox_enter(struct sandbox *sb)
{
	char root[96];

	memset(sb, 0, sizeof(*sb));
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0)
		return fail("unshare");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail("private mounts");
	if (lo_up() < 0)
		return fail("lo");
	strcpy(sb->dir, "/tmp/dmm-test-XXXXXX");
	if (!mkdtemp(sb->dir))
		return fail("mkdtemp");
	snprintf(sb->bpf, sizeof(sb->bpf), "%s/bpf", sb->dir);
	if (mkdir(sb->bpf, 0700) < 0 || mount("bpf", sb->bpf, "bpf", 0, NULL) < 0)
		return fail("bpffs");
	if (cgroup_root(root, sizeof(root)) ||
	    cgroup_now(root, sb->old_cgroup, sizeof(sb->old_cgroup)))
		return fail("no cgroup2");
	snprintf(sb->cgroup, sizeof(sb->cgroup), "%s/%s", root, strrchr(sb->dir, '/') + 1);
	if (mkdir(sb->cgroup, 0755) < 0)
		return fail(sb->cgroup);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	remove(path);
	return 0;
}

/* Only directories of a cgroup can be removed, from below. */
static void cgroups_remove(const char *path)
{
	char sub[512];
	struct dirent *e;
	DIR *d;
	int i;

	d = opendir(path);
	if (!d)
		return;
	while ((e = readdir(d))) {
		if (e->d_type != DT_DIR || *e->d_name == '.')
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
		cgroups_remove(sub);
	}
	closedir(d);
	for (i = 0; i < 100 && rmdir(path) < 0 && errno == EBUSY; i++)
		usleep(10 * 1000);
}

void sandbox_leave(struct sandbox *sb)
{
	if (*sb->old_cgroup)
		cgroup_enter(sb->old_cgroup);
	if (*sb->cgroup)
		cgroups_remove(sb->cgroup);
	umount2(sb->bpf, MNT_DETACH);
	if (*sb->dir)
		nftw(sb->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

int sandbox_cgroup(const struct sandbox *sb, const char *sub, char *path)
{
	sprintf(path, "%s%s%s", sb->cgroup, *sub ? "/" : "", sub);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return fail(path);
	return 0;
}

int cgroup_enter(const char *path)
{
	char procs[512];
	int fd, ret;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(procs);
	ret = write(fd, "0", 1) == 1 ? 0 : fail(procs);
	close(fd);
	return ret;
}

socklen_t address(struct sockaddr_storage *ss, const char *addr, int port)
{
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *sin = (struct sockaddr_in *)ss;

	memset(ss, 0, sizeof(*ss));
	if (strchr(addr, ':')) {
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons(port);
		return inet_pton(AF_INET6, addr, &sin6->sin6_addr) == 1 ?
		       sizeof(*sin6) : 0;
	}
	sin->sin_family = AF_INET;
	sin->sin_port = htons(port);
	return inet_pton(AF_INET, addr, &sin->sin_addr) == 1 ? sizeof(*sin) : 0;
}

bool try_connect(const char *addr, int port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, addr, port);
	int fd;

	if (!len)
		return false;
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	connect(fd, (struct sockaddr *)&ss, len);
	close(fd);
	return true;
}
