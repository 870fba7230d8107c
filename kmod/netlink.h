/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef DMM_KMOD_NETLINK_H
#define DMM_KMOD_NETLINK_H

int dmm_netlink_init(void);
void dmm_netlink_exit(void);

#endif /* DMM_KMOD_NETLINK_H */
