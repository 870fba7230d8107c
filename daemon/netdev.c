// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "netdev.h"

#define OWN_NETNS "/proc/self/ns/net"

bool dmm_netdev_path(char *path, size_t len, const char *netns)
{
	return snprintf(path, len, "%s%s", *netns == '/' ? "" : "/run/netns/",
			netns) < (int)len;
}

static int netns_open(const char *netns, struct dmm_err *err)
{
	char path[PATH_MAX];
	struct statfs fs;
	int fd, ret;

	if (!netns)
		snprintf(path, sizeof(path), OWN_NETNS);
	else if (!dmm_netdev_path(path, sizeof(path), netns))
		return dmm_err_set(err, -ENAMETOOLONG, "netns: the path is too long");
	if (netns && *netns != '/' &&
	    (!*netns || strchr(netns, '/') || *netns == '.'))
		return dmm_err_set(err, -EINVAL,
				   "netns %.64s: expected a name of /run/netns, or an absolute path",
				   netns);

	/* Never wait on what turns out to be a FIFO. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		ret = -errno;
		return dmm_err_set(err, ret, "netns %.64s: %m (%.128s)",
				   netns ? netns : "", path);
	}
	if (fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC ||
	    ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET) {
		close(fd);
		return dmm_err_set(err, -EINVAL,
				   "netns %.64s: %.128s is not a network namespace",
				   netns, path);
	}
	return fd;
}

/*
 * Run @fn inside @netns. The daemon has one thread, and must not go on in a
 * namespace that is not its own.
 */
static int netns_run(int netns, int (*fn)(void *arg), void *arg)
{
	int own, ret;

	own = open(OWN_NETNS, O_RDONLY | O_CLOEXEC);
	if (own < 0)
		return -errno;
	if (setns(netns, CLONE_NEWNET) < 0) {
		ret = -errno;
		close(own);
		return ret;
	}
	ret = fn(arg);
	if (setns(own, CLONE_NEWNET) < 0) {
		perror("dmmd: cannot return to its network namespace");
		abort();
	}
	close(own);
	return ret;
}

struct find {
	const char *dev;
	struct dmm_netdev *netdev;
};

static int find(void *arg)
{
	struct find *f = arg;
	struct rtnl_link *link;
	struct nl_sock *sk;
	const char *type;
	int ret = -EIO;

	sk = nl_socket_alloc();
	if (!sk)
		return -ENOMEM;
	if (nl_connect(sk, NETLINK_ROUTE) < 0)
		goto out;
	ret = rtnl_link_get_kernel(sk, 0, f->dev, &link);
	if (ret < 0) {
		ret = ret == -NLE_NODEV || ret == -NLE_OBJ_NOTFOUND ? -ENODEV : -EIO;
		goto out;
	}
	f->netdev->ifindex = rtnl_link_get_ifindex(link);
	type = rtnl_link_get_type(link);
	f->netdev->is_veth = type && !strcmp(type, "veth");
	rtnl_link_put(link);
	ret = 0;
out:
	nl_socket_free(sk);
	return ret;
}

int dmm_netdev_find(const char *netns, const char *dev, struct dmm_netdev *netdev,
		    struct dmm_err *err)
{
	struct find f = { .dev = dev, .netdev = netdev };
	struct stat st;
	int fd, ret;

	if (!*dev || strlen(dev) >= IF_NAMESIZE)
		return dmm_err_set(err, -EINVAL,
				   "dev \"%.16s\": expected a device name of 1..%d characters",
				   dev, IF_NAMESIZE - 1);
	fd = netns_open(netns, err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		ret = dmm_err_set(err, -errno, "netns: %m");
		close(fd);
		return ret;
	}
	netdev->netns_dev = st.st_dev;
	netdev->netns_ino = st.st_ino;
	ret = netns_run(fd, find, &f);
	close(fd);
	if (ret == -ENODEV)
		return dmm_err_set(err, ret, "dev %s: no such device in %s%.64s", dev,
				   netns ? "netns " : "this netns", netns ? netns : "");
	if (ret)
		return dmm_err_set(err, ret, "dev %s: %s", dev, strerror(-ret));
	return 0;
}

static int on_table(struct nl_msg *msg, void *found)
{
	*(bool *)found = true;
	return NL_OK;
}

static bool has_nftables(void)
{
	struct nfgenmsg all = { .nfgen_family = AF_UNSPEC };
	struct nl_sock *sk = nl_socket_alloc();
	bool found = false;

	if (sk && !nl_connect(sk, NETLINK_NETFILTER) &&
	    !nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, on_table, &found) &&
	    nl_send_simple(sk, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_DUMP,
			   &all, sizeof(all)) >= 0)
		nl_recvmsgs_default(sk);
	nl_socket_free(sk);
	return found;
}

/* One name a line of each table of iptables that is in use. */
static bool has_iptables(const char *path)
{
	FILE *f = fopen(path, "re");
	bool found;

	if (!f)
		return false;
	found = fgetc(f) != EOF;
	fclose(f);
	return found;
}

static int filters(void *arg)
{
	return has_nftables() || has_iptables("/proc/net/ip_tables_names") ||
	       has_iptables("/proc/net/ip6_tables_names");
}

bool dmm_netdev_filters(const char *netns)
{
	int fd, ret;

	fd = netns_open(netns, NULL);
	if (fd < 0)
		return false;
	ret = netns_run(fd, filters, NULL);
	close(fd);
	return ret > 0;
}

struct detach {
	const char *dev;
	int prog_fd;
};

static int detach(void *arg)
{
	LIBBPF_OPTS(bpf_xdp_attach_opts, opts);
	struct detach *d = arg;
	int ifindex;

	ifindex = if_nametoindex(d->dev);
	if (!ifindex)
		return -ENODEV;
	/* The kernel compares: somebody else's program stays. */
	opts.old_prog_fd = d->prog_fd;
	if (!bpf_xdp_detach(ifindex, XDP_FLAGS_DRV_MODE, &opts))
		return 0;
	return bpf_xdp_detach(ifindex, XDP_FLAGS_SKB_MODE, &opts);
}

int dmm_netdev_xdp_detach(const char *netns, const char *dev, int prog_fd)
{
	struct detach d = { .dev = dev, .prog_fd = prog_fd };
	int fd, ret;

	fd = netns_open(netns, NULL);
	if (fd < 0)
		return fd;
	ret = netns_run(fd, detach, &d);
	close(fd);
	return ret;
}
