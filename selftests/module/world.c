// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <mntent.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/dmm.h>

#include "hooks.skel.h"
#include "world.h"

#define LINKS 4

struct world {
	struct hooks_bpf *hooks;
	struct bpf_link *links[LINKS];
	int guard;		/* its link, or 0 */
	int home_net;
	char root[256];		/* cgroup2's mount point */
	char cgroup[300];
};

static int die(const char *what)
{
	fprintf(stderr, "# world: %s: %s\n", what, strerror(errno));
	return -1;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return die(path);
	if (write(fd, text, strlen(text)) < 0)
		ret = die(path);
	close(fd);
	return ret;
}

static int find_cgroup2(char *path, size_t len)
{
	FILE *f = setmntent("/proc/self/mounts", "r");
	struct mntent *m;
	int ret = -1;

	while (f && (m = getmntent(f))) {
		if (strcmp(m->mnt_type, "cgroup2"))
			continue;
		snprintf(path, len, "%s", m->mnt_dir);
		ret = 0;
		break;
	}
	if (f)
		endmntent(f);
	return ret;
}

static int make_net(void)
{
	if (unshare(CLONE_NEWNET))
		return die("unshare");
	/* By iproute2: the world is small and its words are known. */
	return system("ip link set lo up && ip link add d0 type dummy && "
		      "ip addr add " WORLD_ADDR "/24 dev d0 && "
		      "ip addr add " WORLD_ADDR6 "/64 dev d0 nodad && "
		      "ip link set d0 up") ? die("ip") : 0;
}

static int make_cgroup(struct world *w)
{
	char procs[320];

	if (find_cgroup2(w->root, sizeof(w->root)))
		return die("no cgroup2 is mounted");
	snprintf(w->cgroup, sizeof(w->cgroup), "%s/dmm-test-%d", w->root,
		 getpid());
	if (mkdir(w->cgroup, 0755))
		return die(w->cgroup);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", w->cgroup);
	return write_file(procs, "0");
}

static int load_hooks(struct world *w)
{
	int dir, err = 0;

	w->hooks = hooks_bpf__open();
	if (!w->hooks)
		return die("hooks");
	w->hooks->rodata->stack = WORLD_STACK;
	if (hooks_bpf__load(w->hooks))
		return die("hooks");

	dir = open(w->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	w->links[0] = bpf_program__attach_cgroup(w->hooks->progs.connect4, dir);
	w->links[1] = bpf_program__attach_cgroup(w->hooks->progs.connect6, dir);
	w->links[2] = bpf_program__attach_cgroup(w->hooks->progs.bind4, dir);
	w->links[3] = bpf_program__attach_cgroup(w->hooks->progs.bind6, dir);
	close(dir);
	while (err < LINKS && w->links[err])
		err++;
	return err == LINKS ? 0 : die("attach");
}

struct world *world_enter(void)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!getenv("WORLD_VERBOSE"))
		libbpf_set_print(NULL);
	w->home_net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (make_net() || make_cgroup(w) || load_hooks(w)) {
		world_leave(w);
		return NULL;
	}
	return w;
}

void world_leave(struct world *w)
{
	char procs[400];
	int i;

	if (!w)
		return;
	for (i = 0; i < LINKS; i++)
		bpf_link__destroy(w->links[i]);
	if (w->guard > 0)
		close(w->guard);
	hooks_bpf__destroy(w->hooks);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", w->root);
	write_file(procs, "0");
	snprintf(procs, sizeof(procs),
		 "find %s -mindepth 1 -depth -type d -exec rmdir {} +", w->cgroup);
	if (w->cgroup[0])
		system(procs);
	rmdir(w->cgroup);
	setns(w->home_net, CLONE_NEWNET);
	close(w->home_net);
	free(w);
}

__u32 world_ifindex(const struct world *w)
{
	return if_nametoindex("d0");
}

const char *world_cgroup(const struct world *w)
{
	return w->cgroup;
}

void world_rule(struct world *w, int present)
{
	w->hooks->bss->hits = 0;	/* .bss is mapped: it takes effect at once */
	w->hooks->data->enabled = present;
}

void world_deny(struct world *w, int deny)
{
	w->hooks->bss->deny = deny;
}

static int attach(struct world *w, struct bpf_program *prog,
		  enum bpf_attach_type type)
{
	int dir = open(w->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int link = bpf_link_create(bpf_program__fd(prog), dir, type, NULL);

	close(dir);
	return link;
}

int world_guard(struct world *w, int present)
{
	if (w->guard > 0)
		close(w->guard);
	w->guard = present ? attach(w, w->hooks->progs.guard,
				    BPF_CGROUP_INET_EGRESS) : 0;
	return w->guard < 0 ? die("cgroup_skb") : 0;
}

int world_sysctl(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	return write_file(path, value);
}

int world_bpf_set(struct world *w, int fd, int level, int name, int value)
{
	int link = attach(w, w->hooks->progs.instead, BPF_CGROUP_SETSOCKOPT);
	int ret;

	if (link < 0)
		return die("cgroup/setsockopt");
	w->hooks->bss->set_level = level;
	w->hooks->bss->set_name = name;
	w->hooks->bss->set_value = value;
	ret = setsockopt(fd, 0x4444, 1, &value, sizeof(value)) ? -errno :
	      w->hooks->bss->set_result;
	close(link);
	return ret;
}

int world_sockops(struct world *w)
{
	return attach(w, w->hooks->progs.called, BPF_CGROUP_SOCK_OPS);
}

void world_detach(struct world *w)
{
	int i;

	for (i = 0; i < LINKS; i++) {
		bpf_link__destroy(w->links[i]);
		w->links[i] = NULL;
	}
}

void world_stats(struct world *w, struct world_stats *stats)
{
	stats->hits = w->hooks->bss->hits;
	stats->adopted = w->hooks->bss->adopted;
	memcpy(stats->fallbacks, w->hooks->bss->fallbacks,
	       sizeof(stats->fallbacks));
}

int world_connect(int fd, __u16 port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = inet_addr(WORLD_PEER),
	};

	return connect(fd, (struct sockaddr *)&to, sizeof(to)) ? -errno : 0;
}

/* The socket's own ULP, as the kernel names it. */
int world_adopted(int fd)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp);

	if (getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len))
		return -errno;
	return !strncmp(ulp, "dmm", 4);
}

struct want {
	__u32 reason;
	__u64 count;
	__u64 bad;
};

static int on_stats(struct nl_msg *msg, void *arg)
{
	struct nlattr *attrs[DMM_NL_A_MAX + 1], *one[DMM_NL_A_MAX + 1], *nest;
	struct want *want = arg;
	int rem;

	if (genlmsg_parse(nlmsg_hdr(msg), 0, attrs, DMM_NL_A_MAX, NULL))
		return NL_OK;
	if (attrs[DMM_NL_A_BAD_EVENTS])
		want->bad = nla_get_u64(attrs[DMM_NL_A_BAD_EVENTS]);
	if (!attrs[DMM_NL_A_FALLBACKS])
		return NL_OK;
	nla_for_each_nested(nest, attrs[DMM_NL_A_FALLBACKS], rem) {
		if (nla_parse_nested(one, DMM_NL_A_MAX, nest, NULL) ||
		    !one[DMM_NL_A_REASON] || !one[DMM_NL_A_COUNT])
			continue;
		if (nla_get_u32(one[DMM_NL_A_REASON]) == want->reason)
			want->count = nla_get_u64(one[DMM_NL_A_COUNT]);
	}
	return NL_OK;
}

/* The family answers in the initial namespace only: PID 1's. */
static struct want ask(__u32 reason)
{
	struct want want = { .reason = reason };
	struct nl_sock *nl = nl_socket_alloc();
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int init = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
	struct nl_msg *msg = nlmsg_alloc();
	int family;

	setns(init, CLONE_NEWNET);
	genl_connect(nl);
	setns(here, CLONE_NEWNET);
	close(init);
	close(here);

	family = genl_ctrl_resolve(nl, DMM_NL_FAMILY);
	nl_socket_modify_cb(nl, NL_CB_VALID, NL_CB_CUSTOM, on_stats, &want);
	genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0,
		    DMM_NL_CMD_STATS_GET, DMM_NL_VERSION);
	if (nl_send_auto(nl, msg) > 0)
		nl_recvmsgs_default(nl);
	nlmsg_free(msg);
	nl_socket_free(nl);
	return want;
}

__u64 world_fallbacks(__u32 reason)
{
	return ask(reason).count;
}

__u64 world_bad_events(void)
{
	return ask(0).bad;
}
