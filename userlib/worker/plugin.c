// SPDX-License-Identifier: Apache-2.0
/* Load a stack type: dmm-stack-TYPE.so. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "private.h"

static int ops_check(const struct dmm_stack_ops *ops, const char *path,
		     const char *type, char *err, size_t err_len)
{
	if (ops->abi != DMM_STACK_ABI || ops->size < sizeof(*ops))
		return fail(err, err_len, -EPROTO,
			    "%s: plug-in ABI %u of %u bytes, expected %u of %zu",
			    path, ops->abi, ops->size, DMM_STACK_ABI,
			    sizeof(*ops));
	if (!ops->type || strcmp(ops->type, type))
		return fail(err, err_len, -EPROTO,
			    "%s: plug-in is of type '%s', expected '%s'", path,
			    ops->type ? ops->type : "", type);
	if (!dmm_pow2_in(ops->tx_size, DMM_RING_MIN, DMM_RING_MAX) ||
	    !dmm_pow2_in(ops->rx_size, DMM_RING_MIN, DMM_RING_MAX))
		return fail(err, err_len, -EPROTO,
			    "%s: ring sizes %u and %u, expected powers of two in %u..%u",
			    path, ops->tx_size, ops->rx_size, DMM_RING_MIN,
			    DMM_RING_MAX);
	if (!ops->create || !ops->destroy || !ops->connect || !ops->tx_ready ||
	    !ops->rx_room || !ops->shutdown || !ops->close || !ops->abort ||
	    !ops->options || !ops->unreachable || !ops->input || !ops->poll ||
	    !ops->stats || !ops->listen != !ops->relisten ||
	    !ops->listen != !ops->unlisten || !ops->listen != !ops->attach)
		return fail(err, err_len, -EPROTO,
			    "%s: plug-in lacks an operation", path);
	return 0;
}

int plugin_load(struct dmm_worker *w, char *err, size_t err_len)
{
	const struct dmm_stack_ops *ops;
	char path[PATH_MAX];
	int ret;

	if (snprintf(path, sizeof(path), "%s/dmm-stack-%s.so", w->opts->lib_dir,
		     w->opts->type) >= (int)sizeof(path))
		return fail(err, err_len, -ENAMETOOLONG,
			    "plug-in directory's name is too long");
	w->plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!w->plugin)
		return fail(err, err_len, -ENOENT,
			    "unknown stack type '%s': %s", w->opts->type,
			    dlerror());
	ops = dlsym(w->plugin, DMM_STACK_SYMBOL);
	if (!ops)
		return fail(err, err_len, -EPROTO,
			    "%s: not a plug-in, it has no symbol '%s'", path,
			    DMM_STACK_SYMBOL);
	ret = ops_check(ops, path, w->opts->type, err, err_len);
	if (ret)
		return ret;
	w->ops = ops;
	return 0;
}

void plugin_unload(struct dmm_worker *w)
{
	if (w->plugin)
		dlclose(w->plugin);
	w->plugin = NULL;
	w->ops = NULL;
}
