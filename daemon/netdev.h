/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of other network namespaces. */
#ifndef DMM_NETDEV_H
#define DMM_NETDEV_H

#include <linux/types.h>
#include <stdbool.h>
#include <sys/types.h>

#include "err.h"

struct dmm_netdev {
	dev_t netns_dev;	/* the namespace's identity */
	ino_t netns_ino;
	int ifindex;
	bool is_veth;
};

/*
 * Find device @dev in @netns: a name below /run/netns, an absolute path, or NULL
 * for our own.
 */
int dmm_netdev_find(const char *netns, const char *dev, struct dmm_netdev *netdev,
		    struct dmm_err *err);

/* The file that stands for @netns; false if it does not fit. */
bool dmm_netdev_path(char *path, size_t len, const char *netns);

/* Has @netns a table of nftables or iptables? false where that cannot be told. */
bool dmm_netdev_filters(const char *netns);

/* Take XDP program @prog_fd off the device, if that is what sits there. */
int dmm_netdev_xdp_detach(const char *netns, const char *dev, int prog_fd);

#endif
