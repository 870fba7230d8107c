// SPDX-License-Identifier: Apache-2.0
/*
 * The module may come after the daemon. Programs that were loaded before it did
 * have no kfunc, so they are replaced then. (It cannot go before we do: a loaded
 * program holds it.)
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"
#include "genl.h"

#define DEVICE		"/dev/dmm"
#define RETRY_US	(100 * 1000ULL)
#define TRIES		50

/* The kernel makes it root's alone; udev may have been here before. */
static void device_prepare(struct dmm_daemon *d)
{
	struct stat st;

	if (lstat(DEVICE, &st) < 0 || !S_ISCHR(st.st_mode))
		return;
	if (st.st_gid == d->gid && (st.st_mode & 07777) == 0660)
		return;
	if (chown(DEVICE, 0, d->gid) < 0 || chmod(DEVICE, 0660) < 0)
		dmm_log("cannot set the mode of %s: %s", DEVICE, strerror(errno));
}

bool dmm_module_device(void)
{
	return !access(DEVICE, F_OK);
}

void dmm_module_check(struct dmm_daemon *d)
{
	struct dmm_err err;

	if (!dmm_genl_present())
		return;
	device_prepare(d);
	if (d->shutting_down || dmm_policy_has_kfunc(d->policy))
		return;
	if (dmm_policy_reload(d->policy, &err))
		dmm_log("%s", err.msg);
	else if (dmm_policy_has_kfunc(d->policy))
		dmm_log("the module has come: policy programs replaced");
}

/*
 * The family is there a moment before the kfunc can be used, and the device
 * file may come later still.
 */
static int on_timer(sd_event_source *s, uint64_t usec, void *data)
{
	struct dmm_daemon *d = data;

	dmm_module_check(d);
	if (++d->module_tries == TRIES ||
	    (dmm_policy_has_kfunc(d->policy) && dmm_module_device()))
		return 0;
	sd_event_source_set_time_relative(s, RETRY_US);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void on_family(void *data)
{
	struct dmm_daemon *d = data;

	if (!dmm_genl_present())
		return;
	d->module_tries = 0;
	sd_event_source_set_time_relative(d->module_timer, 0);
	sd_event_source_set_enabled(d->module_timer, SD_EVENT_ONESHOT);
}

int dmm_module_watch(struct dmm_daemon *d)
{
	int ret;

	ret = sd_event_add_time_relative(d->event, &d->module_timer, CLOCK_MONOTONIC, 0, 0,
					 on_timer, d);
	if (ret < 0)
		return ret;
	sd_event_source_set_enabled(d->module_timer, SD_EVENT_OFF);
	ret = dmm_genl_watch(d->event, &d->module_watch, on_family, d);
	if (!ret)
		on_family(d);
	return ret;
}
