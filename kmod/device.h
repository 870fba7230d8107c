/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef DMM_KMOD_DEVICE_H
#define DMM_KMOD_DEVICE_H

int dmm_device_init(void);
void dmm_device_exit(void);

#endif /* DMM_KMOD_DEVICE_H */
