// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/dmm. A file of it stands for one stack; the rules of its ioctls are told in
 * uapi/linux/dmm.h, the shape of this file is drivers/iommu/iommufd/main.c's.
 */
#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "channel.h"
#include "device.h"
#include "relisten.h"
#include "stack.h"

/**
 * struct dmm_file - an open /dev/dmm
 * @lock: attach is done once
 * @stack: set once, before release only read; the file's reference
 */
struct dmm_file {
	struct mutex lock;		/* attach */
	struct dmm_stack *stack;
};

union dmm_ucmd {
	__u32 size;
	struct dmm_attach attach;
	struct dmm_kick kick;
};

static int check_name(const char *name)
{
	size_t len = strnlen(name, DMM_NAME_MAX), i;

	if (!len || len == DMM_NAME_MAX)
		return -EINVAL;
	for (i = 0; i < len; i++)
		if (!isascii(name[i]) ||
		    (!isalnum(name[i]) && !strchr("_-", name[i])))
			return -EINVAL;
	return 0;
}

static int cmd_attach(struct dmm_file *df, union dmm_ucmd *ucmd)
{
	const struct dmm_attach *attach = &ucmd->attach;
	struct dmm_stack *stack;
	int err;

	if (attach->flags & ~__DMM_ATTACH_F_ALL || attach->__reserved)
		return -EOPNOTSUPP;
	if (!attach->stack_id || attach->stack_id > DMM_STACK_ID_MAX ||
	    attach->ifindex > INT_MAX || attach->share > 100)
		return -EINVAL;
	err = check_name(attach->name);
	if (err)
		return err;

	guard(mutex)(&df->lock);
	if (df->stack)
		return -EBUSY;
	stack = dmm_stack_create(attach);
	if (IS_ERR(stack))
		return PTR_ERR(stack);
	/* Pairs with the acquire in cmd_kick(). */
	smp_store_release(&df->stack, stack);
	dmm_relisten_attached(stack);
	return 0;
}

static int cmd_kick(struct dmm_file *df, union dmm_ucmd *ucmd)
{
	/* Pairs with the release in cmd_attach(). */
	struct dmm_stack *stack = smp_load_acquire(&df->stack);
	struct dmm_kick *kick = &ucmd->kick;

	if (kick->flags)
		return -EOPNOTSUPP;
	if (!stack)
		return -ENOTCONN;

	dmm_ops_flush(stack);
	return dmm_events_consume(stack, &kick->out_events, &kick->out_bad);
}

/* @size: the struct's; @out: it has fields that go back to user space. */
struct dmm_ioctl {
	unsigned int cmd;
	u32 size;
	bool out;
	int (*execute)(struct dmm_file *df, union dmm_ucmd *ucmd);
};

static const struct dmm_ioctl dmm_ioctls[] = {
	[DMM_CMD_ATTACH] = { DMM_ATTACH, sizeof(struct dmm_attach), false,
			     cmd_attach },
	[DMM_CMD_KICK] = { DMM_KICK, sizeof(struct dmm_kick), true, cmd_kick },
};

static long dmm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dmm_file *df = file->private_data;
	unsigned int nr = _IOC_NR(cmd);
	union dmm_ucmd ucmd = {};
	const struct dmm_ioctl *op;
	void __user *uarg = (void __user *)arg;
	u32 size;
	int err;

	if (nr >= ARRAY_SIZE(dmm_ioctls) || dmm_ioctls[nr].cmd != cmd)
		return -ENOTTY;
	op = &dmm_ioctls[nr];

	if (get_user(size, (u32 __user *)uarg))
		return -EFAULT;
	if (size < op->size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_from_user(&ucmd, op->size, uarg, size);
	if (err)
		return err;

	err = op->execute(df, &ucmd);
	if (err)
		return err;
	if (op->out && copy_to_user(uarg, &ucmd, op->size))
		return -EFAULT;
	return 0;
}

static int dmm_open(struct inode *inode, struct file *file)
{
	struct dmm_file *df;

	df = kzalloc(sizeof(*df), GFP_KERNEL_ACCOUNT);
	if (!df)
		return -ENOMEM;
	mutex_init(&df->lock);
	file->private_data = df;
	return nonseekable_open(inode, file);
}

static int dmm_release(struct inode *inode, struct file *file)
{
	struct dmm_file *df = file->private_data;

	if (df->stack)
		dmm_stack_down(df->stack);
	kfree(df);
	return 0;
}

static const struct file_operations dmm_fops = {
	.owner		= THIS_MODULE,
	.open		= dmm_open,
	.release	= dmm_release,
	.unlocked_ioctl	= dmm_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice dmm_misc = {
	.minor		= MISC_DYNAMIC_MINOR,
	.name		= "dmm",
	.fops		= &dmm_fops,
	.mode		= 0660,
};

int dmm_device_init(void)
{
	return misc_register(&dmm_misc);
}

void dmm_device_exit(void)
{
	misc_deregister(&dmm_misc);
}

MODULE_ALIAS("devname:dmm");
