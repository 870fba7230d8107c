// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMM: kernel sockets served by user-space stacks.
 *
 *	device.c	/dev/dmm: a worker attaches a stack
 *	stack.c		the attached stacks, their slots, the counters
 *	arena.c		the shared memory and its byte rings
 *	channel.c	the message rings
 *	adopt.c		the kfunc for the policy: taking sockets over
 *	sock.c		an adopted socket's life; events
 *	proto.c		what its system calls do
 *	option.c	its options and ioctls
 *	listen.c	listeners, and the children that a stack brings
 *	relisten.c	listeners whose stack went away
 *	netlink.c	listing
 *	protect.c	what keeps a socket native, or makes it so
 *	watch.c		once a second: time-outs, and what `ss` shows
 */
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "adopt.h"
#include "device.h"
#include "netlink.h"
#include "proto.h"
#include "stack.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static int __init dmm_init(void)
{
	int err;

	err = dmm_proto_init();
	if (err)
		return err;
	err = dmm_stack_init();
	if (err)
		return err;
	err = dmm_adopt_init();
	if (err)
		goto err_stack;
	err = dmm_netlink_init();
	if (err)
		goto err_adopt;
	err = dmm_device_init();
	if (err)
		goto err_netlink;
	return 0;

err_netlink:
	dmm_netlink_exit();
err_adopt:
	dmm_adopt_exit();
err_stack:
	dmm_stack_exit();
	return err;
}

static void __exit dmm_exit(void)
{
	dmm_device_exit();
	dmm_netlink_exit();
	dmm_adopt_exit();
	dmm_stack_exit();
	/* For whoever is on the last instructions of a close() of ours, or a timer. */
	synchronize_rcu_tasks();
	synchronize_rcu();
}

module_init(dmm_init);
module_exit(dmm_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("DMM: kernel sockets served by user-space stacks");
MODULE_AUTHOR("The DMM developers");
