// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <dmm/chan.h>
#include <dmm/device.h>

int dmm_device_attach(struct dmm_chan *chan, const struct dmm_device_opts *opts)
{
	struct dmm_attach attach = {
		.size = sizeof(attach),
		.flags = opts->flags,
		.stack_id = opts->stack_id,
		.arena_fd = dmm_chan_fd(chan),
		.event_fd = opts->event_fd,
		.netns_fd = -1,
		.ifindex = opts->ifindex,
		.share = opts->share,
	};
	size_t len;
	int fd, ret;

	if (opts->sz != sizeof(*opts))
		return -EINVAL;
	len = strlen(opts->name);
	if (!len || len >= sizeof(attach.name))
		return -EINVAL;
	memcpy(attach.name, opts->name, len);

	fd = open(DMM_DEVICE_PATH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, DMM_ATTACH, &attach)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int dmm_device_kick(int fd, __u64 *bad)
{
	struct dmm_kick kick = { .size = sizeof(kick) };

	if (ioctl(fd, DMM_KICK, &kick))
		return -errno;
	if (bad)
		*bad += kick.out_bad;
	return kick.out_events;
}
