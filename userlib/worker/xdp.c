// SPDX-License-Identifier: Apache-2.0
/*
 * The steering program on the device. DPDK's PMD loads and attaches it, and only
 * if none is attached; so what a killed worker left is taken off first. Afterwards
 * the program and its maps are found through the device and pinned where dmm_bpf.h
 * says, for people and for the flows.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/if_link.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "dmm_bpf.h"
#include "private.h"

#define BPF_FS		"/sys/fs/bpf"
#define BPF_FS_MAGIC	0xcafe4a11
#define PROG_NAME	"dmm_xdp"
#define MAPS_MAX	16

/* A map of the program and what it is pinned as. */
static const struct {
	const char *map;
	const char *pin;
} pins[] = {
	{ "flows", "flows" },
	{ "xsks_map", "xsks" },
	{ "xdp_stats", "xdp_stats" },
};
#define NPINS	(sizeof(pins) / sizeof(pins[0]))

static int prog_info(__u32 id, struct bpf_prog_info *info, int *fdp)
{
	__u32 len = sizeof(*info);
	int fd, ret;

	fd = bpf_prog_get_fd_by_id(id);
	if (fd < 0)
		return fd;
	ret = bpf_obj_get_info_by_fd(fd, info, &len);
	if (ret || !fdp)
		close(fd);
	else
		*fdp = fd;
	return ret;
}

/* Is @id the program of another stack whose worker runs? Its name, then. */
static bool other_stack(const char *bpf_dir, const char *self, __u32 id, char *name,
			size_t len)
{
	char path[PATH_MAX];
	struct bpf_prog_info info;
	__u32 info_len;
	struct dirent *de;
	bool found = false;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%s/stack", bpf_dir);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (de = readdir(dir))) {
		if (de->d_name[0] == '.' || !strcmp(de->d_name, self) ||
		    snprintf(path, sizeof(path), "%s/stack/%s/prog", bpf_dir,
			     de->d_name) >= (int)sizeof(path))
			continue;
		fd = bpf_obj_get(path);
		if (fd < 0)
			continue;
		memset(&info, 0, sizeof(info));
		info_len = sizeof(info);
		if (!bpf_obj_get_info_by_fd(fd, &info, &info_len) &&
		    info.id == id && telemetry_alive(de->d_name)) {
			snprintf(name, len, "%s", de->d_name);
			found = true;
		}
		close(fd);
	}
	closedir(dir);
	return found;
}

/* Take off what a killed worker left; refuse to touch anybody else's. */
int xdp_prepare(struct dmm_worker *w, char *err, size_t err_len)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	struct bpf_prog_info info = { 0 };
	char name[NAME_MAX + 1];
	__u32 id, flags;
	int ret;

	ret = bpf_xdp_query(w->ifindex, 0, &q);
	if (ret)
		return fail(err, err_len, ret,
			    "device %s: cannot query its XDP program: %s",
			    w->opts->dev, strerror(-ret));
	id = q.drv_prog_id ? q.drv_prog_id : q.skb_prog_id;
	flags = q.drv_prog_id ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
	if (!id)
		id = q.hw_prog_id;
	if (!id)
		return 0;
	ret = prog_info(id, &info, NULL);
	if (ret)
		return fail(err, err_len, ret,
			    "device %s: cannot look at its XDP program %u: %s",
			    w->opts->dev, id, strerror(-ret));
	if (strcmp(info.name, PROG_NAME))
		return fail(err, err_len, -EBUSY,
			    "device %s already has an XDP program '%s' (id %u) that is not DMM's",
			    w->opts->dev, info.name, id);
	if (other_stack(w->opts->bpf_dir, w->opts->name, id, name, sizeof(name)) ||
	    other_stack(DMM_BPF_DIR, w->opts->name, id, name, sizeof(name)))
		return fail(err, err_len, -EBUSY,
			    "device %s is served by stack '%s' already",
			    w->opts->dev, name);
	worker_log(NULL, "device %s: replacing the XDP program (id %u) of a worker that died",
		   w->opts->dev, id);
	ret = bpf_xdp_detach(w->ifindex, flags, NULL);
	if (ret)
		return fail(err, err_len, ret,
			    "device %s: cannot detach an old XDP program: %s",
			    w->opts->dev, strerror(-ret));
	return 0;
}

static int bpf_fs_mount(void)
{
	struct statfs st;

	if (statfs(BPF_FS, &st))
		return -errno;
	if ((__u32)st.f_type == BPF_FS_MAGIC)
		return 0;
	return mount("bpf", BPF_FS, "bpf", 0, "mode=0700") ? -errno : 0;
}

/* Where the stack's pins are; 0, or -ENAMETOOLONG. */
static int pin_dir(const struct dmm_worker *w, char dir[PATH_MAX])
{
	return snprintf(dir, PATH_MAX, "%s/stack/%s", w->opts->bpf_dir, w->opts->name) <
		       PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* mkdir -p below the BPF file system. */
static int pin_dir_make(char *dir)
{
	char *slash = dir;
	int ret = 0;

	if (strncmp(dir, BPF_FS "/", strlen(BPF_FS "/")))
		return -EINVAL;
	slash = dir + strlen(BPF_FS);
	do {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		if (mkdir(dir, 0755) && errno != EEXIST)
			ret = -errno;
		if (slash)
			*slash = '/';
	} while (slash && !ret);
	return ret;
}

/* The stack's folder; "stack" and the one above it too if nobody uses them. */
static void unpin(const char *dir)
{
	char path[PATH_MAX + 16];
	size_t i;

	for (i = 0; i < NPINS; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, pins[i].pin);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/prog", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s", dir);
	for (i = 0; i < 3 && !rmdir(path); i++)
		*strrchr(path, '/') = '\0';
}

static int pin(int fd, const char *dir, const char *name)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return bpf_obj_pin(fd, path) ? -errno : 0;
}

/* Pin a map if it is one of ours; keep the flows'. */
static int map_adopt(struct dmm_worker *w, __u32 id, const char *dir)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);
	int fd, ret;
	size_t i;

	fd = bpf_map_get_fd_by_id(id);
	if (fd < 0)
		return fd;
	ret = bpf_obj_get_info_by_fd(fd, &info, &len);
	for (i = 0; !ret && i < NPINS; i++) {
		if (strcmp(info.name, pins[i].map))
			continue;
		ret = pin(fd, dir, pins[i].pin);
		if (!ret && !strcmp(info.name, "flows")) {
			w->port.flows_fd = fd;
			return 0;
		}
	}
	close(fd);
	return ret;
}

int xdp_adopt(struct dmm_worker *w, char *err, size_t err_len)
{
	__u32 ids[MAPS_MAX];
	struct bpf_prog_info info = {
		.nr_map_ids = MAPS_MAX,
		.map_ids = (__u64)(unsigned long)ids,
	};
	char dir[PATH_MAX];
	int ret, tries = 8;
	__u32 id, i;

	ret = bpf_xdp_query_id(w->ifindex, 0, &id);
	if (!ret && !id)
		ret = -ENOENT;
	if (!ret)
		ret = prog_info(id, &info, &w->port.prog_fd);
	if (ret)
		return fail(err, err_len, ret,
			    "device %s: the XDP program did not stay: %s",
			    w->opts->dev, strerror(-ret));
	ret = pin_dir(w, dir);
	if (!ret) {
		unpin(dir);
		ret = bpf_fs_mount();
	}
	if (!ret) {
		/* a worker that ends takes empty folders away: again, then */
		do {
			ret = pin_dir_make(dir);
		} while (ret == -ENOENT && --tries);
	}
	if (ret)
		return fail(err, err_len, ret, "%s: cannot be made: %s", dir,
			    strerror(-ret));
	w->port.pinned = true;
	ret = pin(w->port.prog_fd, dir, "prog");
	for (i = 0; !ret && i < info.nr_map_ids && i < MAPS_MAX; i++)
		ret = map_adopt(w, ids[i], dir);
	if (!ret && w->port.flows_fd < 0)
		ret = -ENOENT;
	if (ret)
		return fail(err, err_len, ret,
			    "%s: the XDP program's maps cannot be pinned: %s",
			    dir, strerror(-ret));
	return 0;
}

void xdp_release(struct dmm_worker *w)
{
	char dir[PATH_MAX];

	if (w->port.pinned && !pin_dir(w, dir)) {
		unpin(dir);
		w->port.pinned = false;
	}
	if (w->port.flows_fd >= 0)
		close(w->port.flows_fd);
	if (w->port.prog_fd >= 0)
		close(w->port.prog_fd);
	w->port.flows_fd = -1;
	w->port.prog_fd = -1;
}

static void flow_key(struct dmm_flow *flow, const struct dmm_tuple *t)
{
	memset(flow, 0, sizeof(*flow));
	memcpy(flow->laddr, t->laddr, sizeof(flow->laddr));
	memcpy(flow->raddr, t->raddr, sizeof(flow->raddr));
	flow->lport = t->lport;
	flow->rport = t->rport;
	flow->proto = IPPROTO_TCP;
	flow->family = t->family;
}

int xdp_flow_add(struct dmm_worker *w, const struct dmm_tuple *tuple)
{
	struct dmm_flow_val val = { 0 };
	struct dmm_flow flow;
	int ret;

	flow_key(&flow, tuple);
	ret = bpf_map_update_elem(w->port.flows_fd, &flow, &val, BPF_ANY);
	if (ret)
		stat_add(&w->stats.flow_errors, 1);
	return ret;
}

static int flow_del(struct dmm_worker *w, const struct dmm_tuple *tuple)
{
	struct dmm_flow flow;

	flow_key(&flow, tuple);
	return bpf_map_delete_elem(w->port.flows_fd, &flow);
}

void xdp_flow_del(struct dmm_worker *w, const struct dmm_tuple *tuple)
{
	if (flow_del(w, tuple))
		stat_add(&w->stats.flow_errors, 1);
}

/* It may be deleted already. */
void xdp_flow_del_quietly(struct dmm_worker *w, const struct dmm_tuple *tuple)
{
	flow_del(w, tuple);
}
