/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/dmm: how a worker brings its stack up in the kernel module.
 */
#ifndef DMM_DEVICE_H
#define DMM_DEVICE_H

#include <stddef.h>
#include <linux/types.h>

#define DMM_DEVICE_PATH	"/dev/dmm"

struct dmm_chan;

/**
 * struct dmm_device_opts - what to attach
 * @sz: sizeof(struct dmm_device_opts)
 * @name: the stack's name
 * @stack_id: its number
 * @ifindex: the device served, in the caller's network namespace
 * @flags: DMM_ATTACH_F_*
 * @share: percent of the slots that one container may have, 0 for DMM_SHARE_DEFAULT
 * @event_fd: the eventfd toward the stack; stays the caller's
 */
struct dmm_device_opts {
	size_t sz;
	const char *name;
	__u32 stack_id;
	__u32 ifindex;
	__u32 flags;
	__u16 share;
	int event_fd;
};

/**
 * dmm_device_attach() - open /dev/dmm and attach a stack
 * @chan: the stack side of the arena to serve sockets through
 * @opts: what to attach
 *
 * Return: a descriptor, owned by the caller; the stack goes down when it is
 * closed. -EINVAL for @opts->sz or a name that does not fit, and what open(2) and
 * ioctl(DMM_ATTACH) say.
 */
int dmm_device_attach(struct dmm_chan *chan, const struct dmm_device_opts *opts);

/**
 * dmm_device_kick() - let the module consume the event ring
 * @fd: from dmm_device_attach()
 * @bad: if not NULL, the number of events that the module dropped is added
 *
 * Return: events consumed, or a negative errno of ioctl(DMM_KICK).
 */
int dmm_device_kick(int fd, __u64 *bad);

#endif /* DMM_DEVICE_H */
