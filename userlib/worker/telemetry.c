// SPDX-License-Identifier: Apache-2.0
/*
 * /dmm/info and /dmm/stats on DPDK's telemetry socket. The callbacks run in
 * DPDK's own thread: they read what never changes, and counters.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_telemetry.h>

#include "private.h"

/* DPDK's callbacks take no argument of ours; there is one worker. */
static struct dmm_worker *the_worker;

static int info_cb(const char *cmd, const char *params, struct rte_tel_data *d)
{
	const struct dmm_worker_opts *opts = the_worker->opts;

	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_string(d, "name", opts->name);
	rte_tel_data_add_dict_int(d, "id", opts->id);
	rte_tel_data_add_dict_string(d, "type", opts->type);
	rte_tel_data_add_dict_string(d, "dev", opts->dev);
	rte_tel_data_add_dict_int(d, "ifindex", the_worker->ifindex);
	rte_tel_data_add_dict_string(d, "netns", opts->netns ? opts->netns : "");
	rte_tel_data_add_dict_string(d, "route",
				     opts->route_own ? "own" : "shared");
	rte_tel_data_add_dict_int(d, "pid", getpid());
	rte_tel_data_add_dict_string(d, "version", DMM_VERSION);
	return 0;
}

static int stats_cb(const char *cmd, const char *params, struct rte_tel_data *d)
{
	const struct dmm_worker_stats *st = &the_worker->stats;
	struct dmm_stack_stats ss = { 0 };

	rte_tel_data_start_dict(d);
#define ADD(name)							\
	rte_tel_data_add_dict_u64(d, #name,				\
				  __atomic_load_n(&st->name,		\
						  __ATOMIC_RELAXED));
	DMM_WORKER_STATS(ADD)
#undef ADD
	the_worker->ops->stats(the_worker->stack, &ss);
	rte_tel_data_add_dict_u64(d, "stack_conns", ss.conns);
	rte_tel_data_add_dict_u64(d, "stack_children", ss.children);
	rte_tel_data_add_dict_u64(d, "waiting", ss.waiting);
	rte_tel_data_add_dict_u64(d, "offers", ss.offers);
	rte_tel_data_add_dict_u64(d, "unclaimed", ss.unclaimed);
	rte_tel_data_add_dict_u64(d, "backlog_drop", ss.backlog_drop);
	rte_tel_data_add_dict_u64(d, "no_listener", ss.no_listener);
	rte_tel_data_add_dict_u64(d, "icmp_bad", ss.icmp_bad);
	rte_tel_data_add_dict_u64(d, "icmp_soft", ss.icmp_soft);
	rte_tel_data_add_dict_u64(d, "icmp_mtu", ss.icmp_mtu);
	rte_tel_data_add_dict_u64(d, "segs_in", ss.segs_in);
	rte_tel_data_add_dict_u64(d, "segs_out", ss.segs_out);
	rte_tel_data_add_dict_u64(d, "seg_retrans", ss.retrans);
	rte_tel_data_add_dict_u64(d, "bad_csum", ss.bad_csum);
	rte_tel_data_add_dict_u64(d, "bad_segs", ss.bad_segs);
	rte_tel_data_add_dict_u64(d, "no_mbuf", ss.no_mbuf);
	return 0;
}

int telemetry_register(struct dmm_worker *w)
{
	int ret;

	the_worker = w;
	ret = rte_telemetry_register_cmd("/dmm/info", info_cb,
					 "What this worker is.");
	if (ret)
		return ret;
	return rte_telemetry_register_cmd("/dmm/stats", stats_cb,
					  "Counters of this worker.");
}

/* Does a worker of this name run? DPDK itself would evade to another path. */
bool telemetry_alive(const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	const char *dir = getenv("RUNTIME_DIRECTORY");	/* as DPDK has it */
	bool alive;
	int fd;

	if (snprintf(sun.sun_path, sizeof(sun.sun_path),
		     "%s/dpdk/dmm-%s/dpdk_telemetry.v2", dir ? dir : "/var/run", name) >=
	    (int)sizeof(sun.sun_path))
		return false;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	alive = !connect(fd, (struct sockaddr *)&sun, sizeof(sun));
	close(fd);
	return alive;
}
