// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bpf/dmm_policy.skel.h"
#include "lock.h"
#include "policy.h"

/* The programs by name, which is also what they attach to and are pinned as. */
static const struct hook {
	const char *name;
	enum dmm_policy_part part;
} hooks[] = {
	{ "connect4",	DMM_POLICY_RULES },
	{ "connect6",	DMM_POLICY_RULES },
	{ "bind4",	DMM_POLICY_RULES },
	{ "bind6",	DMM_POLICY_RULES },
	{ "setsockopt",	DMM_POLICY_SHIM },
	{ "getsockopt",	DMM_POLICY_SHIM },
};

#define NHOOKS (sizeof(hooks) / sizeof(hooks[0]))

static const char * const maps[] = { "rules", "rule_stats", "socks" };

#define NMAPS (sizeof(maps) / sizeof(maps[0]))

struct dmm_policy {
	struct dmm_policy_bpf *skel;
	bool has_kfunc;
	__u32 generation;
	int dir_fd;		/* locked */
	char dir[256];
};

/* @p->dir/SUB/NAME, with room for any name we make. */
static const char *pin_path(const struct dmm_policy *p, char *buf,
			    const char *sub, const char *name)
{
	snprintf(buf, PATH_MAX, "%s%s%s%s%s", p->dir, *sub ? "/" : "", sub,
		 *name ? "/" : "", name);
	return buf;
}

static const char *link_path(const struct dmm_policy *p, char *buf,
			     const struct hook *h, __u64 id)
{
	char name[64];

	snprintf(name, sizeof(name), "%llu-%s", (unsigned long long)id, h->name);
	return pin_path(p, buf, "link", name);
}

static struct bpf_program *hook_prog(const struct dmm_policy_bpf *skel,
				     const struct hook *h)
{
	return bpf_object__find_program_by_name(skel->obj, h->name);
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return !statfs(path, &fs) && fs.f_type == BPF_FS_MAGIC;
}

/* The directory above ours must be on a bpffs. */
static int bpffs_get(const char *dir, struct dmm_err *err)
{
	char parent[PATH_MAX];
	char *slash;

	snprintf(parent, sizeof(parent), "%s", dir);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent)
		return dmm_err_set(err, -EINVAL,
				   "BPF directory %s: expected an absolute path on a bpffs",
				   dir);
	*slash = 0;
	if (is_bpffs(parent))
		return 0;
	if (strcmp(dir, DMM_BPF_DIR))
		return dmm_err_set(err, -EINVAL, "BPF directory %s: %s is not on a bpffs",
				   dir, parent);
	if (mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return dmm_err_set(err, -errno, "cannot mount a bpffs on %s: %m", parent);
	return 0;
}

static int dirs_make(const struct dmm_policy *p, struct dmm_err *err)
{
	static const char * const subs[] = { "", "prog", "map", "link", "stack" };
	char path[PATH_MAX];
	size_t i;

	for (i = 0; i < sizeof(subs) / sizeof(subs[0]); i++)
		if (mkdir(pin_path(p, path, subs[i], ""), 0700) < 0 && errno != EEXIST)
			return dmm_err_set(err, -errno, "cannot make %s: %m", path);
	return 0;
}

/* Keep others out: two that share the directory would undo each other's work. */
static int dir_lock(struct dmm_policy *p, struct dmm_err *err)
{
	struct stat locked, named;
	int ret;

	p->dir_fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir_fd < 0)
		return dmm_err_set(err, -errno, "cannot open %s: %m", p->dir);
	ret = dmm_lock(p->dir_fd, "BPF directory", p->dir, err);
	if (ret)
		return ret;
	/* one that shuts down removes it */
	if (fstat(p->dir_fd, &locked) < 0 || stat(p->dir, &named) < 0 ||
	    locked.st_ino != named.st_ino || locked.st_dev != named.st_dev)
		return dmm_err_set(err, -EAGAIN,
				   "BPF directory %s: another dmmd has just removed it",
				   p->dir);
	return 0;
}

/* Does a module offer the kfunc now? libbpf will then find it as well. */
static bool kfunc_exists(void)
{
	struct btf *vmlinux, *module;
	bool found = false;

	if (access("/sys/kernel/btf/dmm", F_OK))
		return false;
	vmlinux = btf__load_vmlinux_btf();
	if (!vmlinux)
		return false;
	module = btf__load_module_btf("dmm", vmlinux);
	if (module) {
		found = btf__find_by_name_kind(module, "bpf_dmm_assign",
					       BTF_KIND_FUNC) > 0;
		btf__free(module);
	}
	btf__free(vmlinux);
	return found;
}

/* Maps that are pinned already are taken over, others are made and pinned. */
static int skel_load(const struct dmm_policy *p, bool has_kfunc,
		     struct dmm_policy_bpf **out, struct dmm_err *err)
{
	char path[PATH_MAX];
	struct dmm_policy_bpf *skel;
	struct bpf_map *map;
	int ret = 0;
	size_t i;

	skel = dmm_policy_bpf__open();
	if (!skel)
		return dmm_err_set(err, -errno, "cannot open the BPF object: %m");
	skel->rodata->have_kfunc = has_kfunc;
	for (i = 0; i < NMAPS && !ret; i++) {
		map = bpf_object__find_map_by_name(skel->obj, maps[i]);
		ret = bpf_map__set_pin_path(map, pin_path(p, path, "map", maps[i]));
	}
	if (!ret)
		ret = dmm_policy_bpf__load(skel);
	if (ret) {
		dmm_policy_bpf__destroy(skel);
		return dmm_err_set(err, ret,
				   "cannot load the policy programs with the maps of %s: %s%s",
				   p->dir, strerror(-ret), ret == -EINVAL || ret == -EEXIST ?
				   " (if another version made them, remove that directory)" : "");
	}
	*out = skel;
	return 0;
}

/* Replace a pin without a moment in which there is none. */
static int prog_pin(const struct dmm_policy *p, const struct hook *h, int prog,
		    struct dmm_err *err)
{
	char path[PATH_MAX], tmp[PATH_MAX], name[32];

	snprintf(name, sizeof(name), "%s_new", h->name);
	pin_path(p, path, "prog", h->name);
	pin_path(p, tmp, "prog", name);
	unlink(tmp);
	if (bpf_obj_pin(prog, tmp) < 0 || rename(tmp, path) < 0) {
		int ret = -errno;

		unlink(tmp);
		return dmm_err_set(err, ret, "cannot pin %s: %s", path, strerror(-ret));
	}
	return 0;
}

static int link_update(const char *path, int prog, struct dmm_err *err)
{
	int fd, ret = 0;

	fd = bpf_obj_get(path);
	if (fd < 0)
		return dmm_err_set(err, -errno, "cannot open %s: %m", path);
	if (bpf_link_update(fd, prog, NULL) < 0) {
		if (errno == ENOLINK)	/* the cgroup was removed */
			unlink(path);
		else
			ret = dmm_err_set(err, -errno, "cannot update %s: %m", path);
	}
	close(fd);
	return ret;
}

/* Turn all links of @h to @prog. */
static int links_update(struct dmm_policy *p, const struct hook *h, int prog,
			struct dmm_err *err)
{
	char path[PATH_MAX];
	int i, n, ret = 0;
	__u64 *ids;

	n = dmm_policy_links(p, h->part, &ids);
	if (n < 0)
		return dmm_err_set(err, n, "cannot list the links of %s: %s", p->dir,
				   strerror(-n));
	for (i = 0; i < n && !ret; i++)
		if (!access(link_path(p, path, h, ids[i]), F_OK))
			ret = link_update(path, prog, err);
	free(ids);
	return ret;
}

int dmm_policy_reload(struct dmm_policy *p, struct dmm_err *err)
{
	struct dmm_policy_bpf *skel;
	bool has_kfunc;
	int ret, prog;
	size_t i;

	/* Asked first: should the module come in between, we load once more. */
	has_kfunc = kfunc_exists();
	ret = skel_load(p, has_kfunc, &skel, err);
	/*
	 * A module that is still on its way, or of another version: programs that
	 * do without are better than none, and others come when it works.
	 */
	if (ret && has_kfunc && !p->skel) {
		has_kfunc = false;
		ret = skel_load(p, false, &skel, err);
	}
	if (ret)
		return ret;
	for (i = 0; i < NHOOKS && !ret; i++) {
		prog = bpf_program__fd(hook_prog(skel, &hooks[i]));
		ret = prog_pin(p, &hooks[i], prog, err);
		if (!ret)
			ret = links_update(p, &hooks[i], prog, err);
	}
	if (ret) {
		dmm_policy_bpf__destroy(skel);
		return ret;
	}
	dmm_policy_bpf__destroy(p->skel);
	p->skel = skel;
	p->has_kfunc = has_kfunc;
	return 0;
}

int dmm_policy_open(struct dmm_policy **out, const char *dir, struct dmm_err *err)
{
	struct dmm_policy *p;
	int ret;

	p = calloc(1, sizeof(*p));
	if (!p)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	if (snprintf(p->dir, sizeof(p->dir), "%s", dir) >= (int)sizeof(p->dir)) {
		ret = dmm_err_set(err, -ENAMETOOLONG, "BPF directory: the path is too long");
		goto err_free;
	}
	p->dir_fd = -1;
	ret = bpffs_get(dir, err);
	if (!ret)
		ret = dirs_make(p, err);
	if (!ret)
		ret = dir_lock(p, err);
	if (!ret)
		ret = dmm_policy_reload(p, err);
	if (ret)
		goto err_close;
	*out = p;
	return 0;

err_close:
	if (p->dir_fd >= 0)
		close(p->dir_fd);
err_free:
	free(p);
	return ret;
}

void dmm_policy_close(struct dmm_policy *p)
{
	if (!p)
		return;
	dmm_policy_bpf__destroy(p->skel);
	close(p->dir_fd);
	free(p);
}

void dmm_policy_remove(struct dmm_policy *p)
{
	static const char * const subs[] = { "stack", "link", "map", "prog", "" };
	char path[PATH_MAX];
	enum dmm_policy_part part;
	__u64 *ids;
	size_t i;
	int n, k;

	for (part = 0; part < DMM_POLICY_PARTS; part++) {
		n = dmm_policy_links(p, part, &ids);
		for (k = 0; k < n; k++)
			dmm_policy_detach(p, part, ids[k]);
		if (n >= 0)
			free(ids);
	}
	for (i = 0; i < NHOOKS; i++)
		unlink(pin_path(p, path, "prog", hooks[i].name));
	for (i = 0; i < NMAPS; i++)
		unlink(pin_path(p, path, "map", maps[i]));
	for (i = 0; i < sizeof(subs) / sizeof(subs[0]); i++)
		rmdir(pin_path(p, path, subs[i], ""));
}

bool dmm_policy_has_kfunc(const struct dmm_policy *p)
{
	return p->has_kfunc;
}

int dmm_policy_install(struct dmm_policy *p, struct dmm_ruleset *set,
		       struct dmm_err *err)
{
	int inner, ret = 0;
	__u32 zero = 0;

	set->generation = ++p->generation;
	inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "dmm_ruleset", sizeof(__u32),
			       sizeof(*set), 1, NULL);
	if (inner < 0)
		return dmm_err_set(err, inner, "cannot make a rule set: %s",
				   strerror(-inner));
	if (bpf_map_update_elem(inner, &zero, set, BPF_ANY) < 0 ||
	    bpf_map_update_elem(bpf_map__fd(p->skel->maps.rules), &zero, &inner,
				BPF_ANY) < 0)
		ret = dmm_err_set(err, -errno, "cannot install a rule set: %m");
	close(inner);	/* the outer map holds it now */
	return ret;
}

/* Zeroes for each possible CPU: the kernel wants them all at once. */
static struct dmm_rule_stats *percpu_alloc(int *ncpus)
{
	*ncpus = libbpf_num_possible_cpus();
	return *ncpus > 0 ? calloc(*ncpus, sizeof(struct dmm_rule_stats)) : NULL;
}

int dmm_policy_stats_add(struct dmm_policy *p, __u32 rule, struct dmm_err *err)
{
	struct dmm_rule_stats *zero;
	int ncpus, ret;

	zero = percpu_alloc(&ncpus);
	if (!zero)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	ret = bpf_map_update_elem(bpf_map__fd(p->skel->maps.rule_stats), &rule, zero,
				  BPF_NOEXIST);
	if (ret)
		ret = dmm_err_set(err, -errno, "cannot make counters for rule %u: %m",
				  rule);
	free(zero);
	return ret;
}

void dmm_policy_stats_del(struct dmm_policy *p, __u32 rule)
{
	bpf_map_delete_elem(bpf_map__fd(p->skel->maps.rule_stats), &rule);
}

int dmm_policy_stats_get(struct dmm_policy *p, __u32 rule,
			 struct dmm_rule_stats *sum)
{
	struct dmm_rule_stats *v;
	int ncpus, cpu, i, ret = 0;

	memset(sum, 0, sizeof(*sum));
	v = percpu_alloc(&ncpus);
	if (!v)
		return -ENOMEM;
	if (bpf_map_lookup_elem(bpf_map__fd(p->skel->maps.rule_stats), &rule, v) < 0) {
		ret = -errno;
		goto out;
	}
	for (cpu = 0; cpu < ncpus; cpu++) {
		sum->hits += v[cpu].hits;
		sum->adopted += v[cpu].adopted;
		sum->shim += v[cpu].shim;
		sum->rejected += v[cpu].rejected;
		for (i = 0; i < DMM_FALLBACK_SLOTS; i++)
			sum->fallback[i] += v[cpu].fallback[i];
	}
out:
	free(v);
	return ret;
}

void dmm_policy_stats_prune(struct dmm_policy *p,
			    bool (*keep)(__u32 rule, void *data), void *data)
{
	int fd = bpf_map__fd(p->skel->maps.rule_stats);
	__u32 key, next;
	bool have;

	have = !bpf_map_get_next_key(fd, NULL, &key);
	while (have) {
		have = !bpf_map_get_next_key(fd, &key, &next);
		if (!keep(key, data))
			bpf_map_delete_elem(fd, &key);
		key = next;
	}
}

static int hook_attach(struct dmm_policy *p, const struct hook *h, int cgroup_fd,
		       __u64 id, struct dmm_err *err)
{
	char path[PATH_MAX];
	struct bpf_link *link;
	int ret;

	if (!access(link_path(p, path, h, id), F_OK))
		return 0;
	link = bpf_program__attach_cgroup(hook_prog(p->skel, h), cgroup_fd);
	if (!link)
		return dmm_err_set(err, -errno, "cannot attach %s to the cgroup: %m",
				   h->name);
	ret = bpf_link__pin(link, path);
	if (ret)
		dmm_err_set(err, ret, "cannot pin %s: %s", path, strerror(-ret));
	bpf_link__destroy(link);	/* the pin holds it */
	return ret;
}

static int hook_detach(struct dmm_policy *p, const struct hook *h, __u64 id)
{
	char path[PATH_MAX];
	int fd;

	/* Unpinning alone would detach some time later. */
	fd = bpf_obj_get(link_path(p, path, h, id));
	if (fd >= 0) {
		bpf_link_detach(fd);
		close(fd);
	}
	return unlink(path) < 0 ? -errno : 0;
}

int dmm_policy_attach(struct dmm_policy *p, enum dmm_policy_part part, int cgroup_fd,
		      __u64 id, struct dmm_err *err)
{
	int ret = 0;
	size_t i;

	for (i = 0; i < NHOOKS && !ret; i++)
		if (hooks[i].part == part)
			ret = hook_attach(p, &hooks[i], cgroup_fd, id, err);
	if (ret)
		dmm_policy_detach(p, part, id);
	return ret;
}

int dmm_policy_detach(struct dmm_policy *p, enum dmm_policy_part part, __u64 id)
{
	int ret = -ENOENT;
	size_t i;

	for (i = 0; i < NHOOKS; i++)
		if (hooks[i].part == part && !hook_detach(p, &hooks[i], id))
			ret = 0;
	return ret;
}

bool dmm_policy_attached(struct dmm_policy *p, enum dmm_policy_part part, __u64 id)
{
	char path[PATH_MAX];
	size_t i;

	for (i = 0; i < NHOOKS; i++)
		if (hooks[i].part == part &&
		    access(link_path(p, path, &hooks[i], id), F_OK))
			return false;
	return true;
}

/* Is @name ID-HOOK with a hook of @part? */
static bool link_name(const char *name, enum dmm_policy_part part, __u64 *id)
{
	char *end;
	size_t i;

	if (*name < '0' || *name > '9')
		return false;
	*id = strtoull(name, &end, 10);
	for (i = 0; i < NHOOKS; i++)
		if (hooks[i].part == part && *end == '-' &&
		    !strcmp(end + 1, hooks[i].name))
			return true;
	return false;
}

int dmm_policy_links(struct dmm_policy *p, enum dmm_policy_part part, __u64 **out)
{
	char path[PATH_MAX];
	__u64 *ids = NULL, *more, id;
	struct dirent *e;
	int n = 0, i;
	DIR *d;

	d = opendir(pin_path(p, path, "link", ""));
	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		if (!link_name(e->d_name, part, &id))
			continue;
		for (i = 0; i < n && ids[i] != id; i++)
			;
		if (i < n)
			continue;
		more = realloc(ids, (n + 1) * sizeof(*ids));
		if (!more) {
			free(ids);
			closedir(d);
			return -ENOMEM;
		}
		ids = more;
		ids[n++] = id;
	}
	closedir(d);
	*out = ids;
	return n;
}
