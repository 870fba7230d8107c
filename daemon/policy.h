/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy in the kernel: programs, maps and links, all pinned, so that they
 * outlive whoever made them. Knows BPF, and nothing of the daemon.
 *
 * All functions return 0 or a negative errno.
 */
#ifndef DMM_POLICY_H
#define DMM_POLICY_H

#include <linux/types.h>
#include <stdbool.h>

#include "dmm_bpf.h"
#include "err.h"

struct dmm_policy;

/* Programs that are attached together. */
enum dmm_policy_part {
	DMM_POLICY_RULES,	/* connect() and bind(): the decision */
	DMM_POLICY_SHIM,	/* SOL_DMM; costs each get- and setsockopt() a little */
	DMM_POLICY_PARTS
};

/*
 * Load the programs, pin them below @dir (on a bpffs; the default place is
 * mounted when it is not), and put them in the place of those that an earlier
 * daemon left: maps are taken over with what they hold, links are turned to the
 * new program one by one, none is ever detached. The directory is locked until
 * dmm_policy_close(); -EBUSY while another process has it.
 */
int dmm_policy_open(struct dmm_policy **out, const char *dir, struct dmm_err *err);

/* Forget, leaving everything in force. */
void dmm_policy_close(struct dmm_policy *p);

/* Detach and unpin everything. What is left to do with @p is to close it. */
void dmm_policy_remove(struct dmm_policy *p);

/*
 * Load the programs anew: those loaded before the module came do not know its
 * kfunc. On failure the old ones stay.
 */
int dmm_policy_reload(struct dmm_policy *p, struct dmm_err *err);

/* Do the loaded programs know bpf_dmm_assign()? */
bool dmm_policy_has_kfunc(const struct dmm_policy *p);

/*
 * Put @set in force, atomically: a connect() sees the old set or the new. When
 * this returns, no program looks at the old set any more.
 */
int dmm_policy_install(struct dmm_policy *p, struct dmm_ruleset *set,
		       struct dmm_err *err);

/* A rule's counters: made before its set is installed, removed after it went. */
int dmm_policy_stats_add(struct dmm_policy *p, __u32 rule, struct dmm_err *err);
void dmm_policy_stats_del(struct dmm_policy *p, __u32 rule);
/* The sum over all CPUs. */
int dmm_policy_stats_get(struct dmm_policy *p, __u32 rule,
			 struct dmm_rule_stats *sum);
/* Remove the counters of every rule that @keep does not want. */
void dmm_policy_stats_prune(struct dmm_policy *p,
			    bool (*keep)(__u32 rule, void *data), void *data);

/*
 * Links, by the cgroup's id. To attach what is attached in part adds what is
 * missing; on failure none of @part is left attached.
 */
int dmm_policy_attach(struct dmm_policy *p, enum dmm_policy_part part, int cgroup_fd,
		      __u64 id, struct dmm_err *err);
int dmm_policy_detach(struct dmm_policy *p, enum dmm_policy_part part, __u64 id);
/* Are all programs of @part attached? */
bool dmm_policy_attached(struct dmm_policy *p, enum dmm_policy_part part, __u64 id);
/* The ids that have a link of @part: an array to free(), its length is returned. */
int dmm_policy_links(struct dmm_policy *p, enum dmm_policy_part part, __u64 **ids);

#endif
