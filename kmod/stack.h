/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Attached stacks: the registry by id and by name, the slots that their sockets
 * occupy, and the counters.
 */
#ifndef DMM_KMOD_STACK_H
#define DMM_KMOD_STACK_H

#include <linux/dmm.h>
#include <linux/eventfd.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <net/net_namespace.h>

struct dmm_arena;
struct dmm_sock;
struct sock;

/**
 * struct dmm_slot_owner - who has a slot
 * @ds: the socket, referenced; NULL when free or when the worker is done with it.
 *	Written under dmm_stack.slot_lock, read under RCU.
 * @gen: the generation of its last use; under slot_lock
 * @share: whose share of the slots it counts for, 0 for nobody's; under slot_lock
 * @next: while free: the next free slot, or -1; under slot_lock
 */
struct dmm_slot_owner {
	struct dmm_sock __rcu *ds;
	u32 gen;
	s32 next;
	u64 share;
};

/**
 * struct dmm_stack - a stack that a worker has attached
 * @refs: one for the registry, one for each struct dmm_sock
 * @rcu: readers find it under RCU
 * @free_work: the last put may come in any context, freeing sleeps
 * @id: what rules call it
 * @name: what people call it
 * @flags: DMM_ATTACH_F_*
 * @ifindex: the device that it serves, in @net
 * @pid: who attached it, for information
 * @net: the namespace that it serves, referenced
 * @arena: the shared memory; a husk has none
 * @doorbell: toward the worker, likewise
 * @husk: once down, what listeners know it by until it comes back: a stack that was
 *	born dead and has but its names; NULL before, and without memory
 * @slot_lock: the slots; innermost but for @op_lock
 * @dead: no new slots and no more ops; set once, under both @slot_lock and
 *	@op_lock, so either is enough to read it
 * @slots: geo.nslots of them
 * @free_slot: the first free slot, or -1; under @slot_lock
 * @nsocks: slots in use; under @slot_lock
 * @share_max: slots that one container may have
 * @shares: a cgroup's id -> the slots it has; under @slot_lock
 * @op_lock: everything about the op ring; taken with BH off; innermost
 * @op_prod: this side's producer index, the truth of what is only copied to the
 *	arena; under @op_lock
 * @op_backlog: sockets whose ops wait for room; under @op_lock
 * @ev_lock: serialises consumers of the event ring; a sleeping lock
 * @ev_cons: this side's consumer index; under @ev_lock
 * @answers: those who wait for an event about a listener
 * @deaf_until: one has waited in vain; nobody does until then, jiffies
 * @watch: see watch.c; runs while there are sockets
 * @adopted: sockets adopted so far
 * @bad_events: events dropped
 * @stale_events: those of them for a past generation
 * @fallbacks: by enum dmm_fallback
 */
struct dmm_stack {
	refcount_t refs;
	struct rcu_head rcu;
	struct work_struct free_work;

	u32 id;
	char name[DMM_NAME_MAX];
	u32 flags;
	int ifindex;
	pid_t pid;
	struct net *net;
	struct dmm_arena *arena;
	struct eventfd_ctx *doorbell;
	struct dmm_stack *husk;

	spinlock_t slot_lock;		/* the slots */
	bool dead;
	struct dmm_slot_owner *slots;
	s32 free_slot;
	u32 nsocks;
	u32 share_max;
	struct xarray shares;

	spinlock_t op_lock;		/* the op ring */
	u32 op_prod;
	struct list_head op_backlog;

	struct mutex ev_lock;		/* consuming the event ring */
	u32 ev_cons;
	wait_queue_head_t answers;
	unsigned long deaf_until;

	struct delayed_work watch;

	atomic64_t adopted;
	atomic64_t bad_events;
	atomic64_t stale_events;
	atomic64_t fallbacks[__DMM_FALLBACK_MAX];
};

/* The module as a whole, also what has no stack to be counted on. */
struct dmm_totals {
	atomic64_t adopted;
	atomic64_t bad_events;
	atomic64_t fallbacks[__DMM_FALLBACK_MAX];
};

extern struct dmm_totals dmm_totals;

/* Whose listeners are that the kernel serves alone: "kernel", dead for good. */
extern struct dmm_stack *dmm_nobody;

struct dmm_stack *dmm_stack_create(const struct dmm_attach *attach);
void dmm_stack_down(struct dmm_stack *stack);
struct dmm_stack *dmm_stack_lookup(u32 id);
struct dmm_stack *dmm_stack_next(u32 *id);
void dmm_stack_put(struct dmm_stack *stack);
void dmm_stack_queue(struct work_struct *work);
int dmm_stack_init(void);
void dmm_stack_exit(void);

int dmm_stack_slot_take(struct dmm_stack *stack, struct dmm_sock *ds,
			const struct sock *sk);
bool dmm_stack_slot_done(struct dmm_stack *stack, struct dmm_sock *ds);
enum dmm_fallback dmm_stack_slot_reason(int err);
void dmm_stack_slot_free(struct dmm_stack *stack, u32 slot);

int dmm_fallback(struct dmm_stack *stack, const struct sock *sk, u32 id,
		 enum dmm_fallback reason);
const char *dmm_fallback_name(enum dmm_fallback reason);

#endif /* DMM_KMOD_STACK_H */
