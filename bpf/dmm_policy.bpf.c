// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The policy: which stack serves a socket, decided when it connects.
 *
 * Runs only in cgroups that somebody named. No rule that matches means: leave
 * the socket alone. The program never refuses a connection: whatever goes wrong
 * on the way to a stack ends in the kernel's own, with a reason counted.
 *
 * The kfunc is weak, so that the object loads with and without the module; a
 * program loaded before the module came does without for good and has to be
 * replaced.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <linux/dmm.h>
#include "dmm_bpf.h"

#define AF_INET 2

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
extern int bpf_dmm_assign(struct bpf_sock_addr_kern *ctx, __u32 stack,
			  __u64 flags) __ksym __weak;

/*
 * Does the kernel have bpf_dmm_assign()? The loader says so before it loads: libbpf
 * 1.1 cannot take the address of a module's kfunc, so the usual test for NULL would
 * not load with the module. While false, the verifier drops the call as dead code.
 */
const volatile bool have_kfunc = false;

/* By sizes: clang leaves the type of an inner map's value out of the BTF. */
struct dmm_ruleset_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct dmm_ruleset));
};

/* One entry: the set in force. Empty until somebody installs one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct dmm_ruleset_map);
} rules SEC(".maps");

/*
 * An entry is made before the rule's set comes into force and removed after the
 * set has gone, so both sets of a change need room at once.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 2 * DMM_RULES_MAX);
	__type(key, __u32);
	__type(value, struct dmm_rule_stats);
} rule_stats SEC(".maps");

/* What a socket looks like to a rule, and the search's result. */
struct match {
	const struct dmm_ruleset *set;
	const struct dmm_rule *rule;	/* the first that matches, or NULL */
	__u32 dst;
	__u16 dport;			/* host order */
};

/* One step of bpf_loop(): 1 ends the search. */
static long rule_match(__u32 i, struct match *m)
{
	const struct dmm_rule *r;

	if (i >= DMM_RULES_MAX)
		return 1;
	r = &m->set->rules[i];

	if (r->match & DMM_MATCH_DPORT &&
	    (m->dport < r->dport_min || m->dport > r->dport_max))
		return 0;
	if (r->match & DMM_MATCH_DST &&
	    (r->dst_family != AF_INET || (m->dst & r->dst_mask[0]) != r->dst[0]))
		return 0;
	if (r->match & DMM_MATCH_CGROUP &&
	    bpf_get_current_ancestor_cgroup_id(r->cgroup_level) != r->cgroup_id)
		return 0;

	m->rule = r;
	return 1;
}

/*
 * The statistics are per CPU, but a program may be preempted by another run of
 * itself on the same CPU, so the additions are atomic.
 */
static void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct dmm_rule_stats *stats;
	struct match m = {};
	__u32 zero = 0, nr, id, stack;
	void *set;
	int ret;

	/* MPTCP, SMC and SCTP have stream sockets, too. */
	if (ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
		return 1;

	set = bpf_map_lookup_elem(&rules, &zero);
	if (!set)
		return 1;
	m.set = bpf_map_lookup_elem(set, &zero);
	if (!m.set)
		return 1;
	nr = m.set->count;
	if (!nr)
		return 1;
	if (nr > DMM_RULES_MAX)
		nr = DMM_RULES_MAX;

	m.dst = ctx->user_ip4;
	m.dport = bpf_ntohs(ctx->user_port);
	bpf_loop(nr, rule_match, &m, 0);
	if (!m.rule)
		return 1;

	id = m.rule->id;
	stack = m.rule->stack;
	stats = bpf_map_lookup_elem(&rule_stats, &id);
	if (stats)
		count(&stats->hits);
	if (stack == DMM_STACK_KERNEL)
		return 1;

	if (have_kfunc)
		ret = bpf_dmm_assign(bpf_cast_to_kern_ctx(ctx), stack, 0);
	else
		ret = DMM_FALLBACK_NO_CLIENT;
	if (!stats)
		return 1;

	if (!ret)
		count(&stats->adopted);
	else if (ret < 0 || ret >= DMM_FALLBACK_SLOTS)
		count(&stats->fallback[0]);
	else
		count(&stats->fallback[ret]);
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
