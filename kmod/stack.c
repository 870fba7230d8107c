// SPDX-License-Identifier: GPL-2.0-only
#include <linux/cgroup.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/xarray.h>
#include <net/sock.h>

#include "arena.h"
#include "channel.h"
#include "watch.h"
#include "sock.h"
#include "stack.h"
#include "trace.h"

struct dmm_totals dmm_totals;
struct dmm_stack *dmm_nobody;

/* By id. Written under registry_lock, read under RCU. */
static DEFINE_XARRAY(registry);
static DEFINE_MUTEX(registry_lock);

/* What frees; its own queue, so that module exit can wait for it alone. */
static struct workqueue_struct *free_wq;

static const char * const fallback_names[] = {
#define FALLBACK_NAME(code, word)	[DMM_FALLBACK_##code] = word,
	DMM_FALLBACK_REASONS(FALLBACK_NAME)
};

const char *dmm_fallback_name(enum dmm_fallback reason)
{
	return fallback_names[reason];
}

/**
 * dmm_fallback - count and trace a socket that stays with the kernel
 * @stack: the stack that it was meant for, or NULL if there is none
 * @sk: the socket
 * @id: the stack's id
 * @reason: why
 *
 * In any context. Return: @reason.
 */
int dmm_fallback(struct dmm_stack *stack, const struct sock *sk, u32 id,
		 enum dmm_fallback reason)
{
	atomic64_inc(&dmm_totals.fallbacks[reason]);
	if (stack)
		atomic64_inc(&stack->fallbacks[reason]);
	trace_dmm_fallback(sk, id, reason);
	return reason;
}

static void stack_free_work(struct work_struct *work)
{
	struct dmm_stack *stack = container_of(work, struct dmm_stack,
					       free_work);

	if (stack->husk)
		dmm_stack_put(stack->husk);
	if (stack->arena) {
		eventfd_ctx_put(stack->doorbell);
		dmm_arena_free(stack->arena);
	}
	put_net(stack->net);
	kvfree(stack->slots);
	xa_destroy(&stack->shares);
	kfree_rcu(stack, rcu);
}

/* All but what a worker brings; with a reference for the caller. */
static struct dmm_stack *stack_alloc(u32 id, const char *name)
{
	struct dmm_stack *stack;

	stack = kzalloc(sizeof(*stack), GFP_KERNEL_ACCOUNT);
	if (!stack)
		return NULL;
	refcount_set(&stack->refs, 1);
	INIT_WORK(&stack->free_work, stack_free_work);
	spin_lock_init(&stack->slot_lock);
	spin_lock_init(&stack->op_lock);
	mutex_init(&stack->ev_lock);
	init_waitqueue_head(&stack->answers);
	stack->deaf_until = jiffies;
	INIT_LIST_HEAD(&stack->op_backlog);
	xa_init_flags(&stack->shares, XA_FLAGS_LOCK_BH);
	dmm_watch_init(stack);
	stack->id = id;
	strscpy(stack->name, name, sizeof(stack->name));
	return stack;
}

/* A stack that was born dead and has but its names. */
static struct dmm_stack *stack_husk(u32 id, const char *name, struct net *net)
{
	struct dmm_stack *husk = stack_alloc(id, name);

	if (!husk)
		return NULL;
	husk->net = get_net(net);
	husk->dead = true;
	return husk;
}

/**
 * dmm_stack_put - give a reference back
 * @stack: the stack
 *
 * In any context.
 */
void dmm_stack_put(struct dmm_stack *stack)
{
	if (refcount_dec_and_test(&stack->refs))
		dmm_stack_queue(&stack->free_work);
}

/**
 * dmm_stack_queue - run what frees and has to sleep
 * @work: the work; module exit waits for it
 *
 * In any context.
 */
void dmm_stack_queue(struct work_struct *work)
{
	queue_work(free_wq, work);
}

/**
 * dmm_stack_lookup - find a stack by its id
 * @id: what rules call it
 *
 * In any context. Return: the stack, referenced, or NULL.
 */
struct dmm_stack *dmm_stack_lookup(u32 id)
{
	struct dmm_stack *stack;

	rcu_read_lock();
	stack = xa_load(&registry, id);
	if (stack && !refcount_inc_not_zero(&stack->refs))
		stack = NULL;
	rcu_read_unlock();
	return stack;
}

/**
 * dmm_stack_next - walk all stacks
 * @id: in: the first id to look at; out: the id found
 *
 * Return: the stack, referenced, or NULL at the end.
 */
struct dmm_stack *dmm_stack_next(u32 *id)
{
	unsigned long index = *id;
	struct dmm_stack *stack;

	rcu_read_lock();
	do {
		stack = xa_find(&registry, &index, ULONG_MAX, XA_PRESENT);
		if (stack && !refcount_inc_not_zero(&stack->refs))
			index++;
		else
			break;
	} while (stack);
	rcu_read_unlock();

	*id = index;
	return stack;
}

/* Whose an id and a name are, also while no stack has them. */
struct claim {
	kuid_t owner;
	char name[DMM_NAME_MAX];
};

/* By id. Under registry_lock. */
static DEFINE_XARRAY(claims);

/* Make id and name the caller's, if they are nobody else's. */
static int claim(u32 id, const char *name)
{
	bool admin = capable(CAP_NET_ADMIN);
	struct claim *c, *mine, *old;
	unsigned long index, n = 0;

	lockdep_assert_held(&registry_lock);

	xa_for_each(&claims, index, c) {
		bool own = uid_eq(c->owner, current_euid());

		if (index != id)
			n += own;
		if (!own && !admin && (index == id || !strcmp(c->name, name)))
			return -EPERM;
	}
	if (!admin && n >= DMM_CLAIMS_MAX)
		return -EDQUOT;

	mine = kzalloc(sizeof(*mine), GFP_KERNEL_ACCOUNT);
	if (!mine)
		return -ENOMEM;
	mine->owner = current_euid();
	strscpy(mine->name, name, sizeof(mine->name));
	old = xa_store(&claims, id, mine, GFP_KERNEL);
	if (xa_is_err(old)) {
		kfree(mine);
		return xa_err(old);
	}
	kfree(old);
	/* The name goes with the new id. */
	xa_for_each(&claims, index, c)
		if (index != id && !strcmp(c->name, name))
			kfree(xa_erase(&claims, index));
	return 0;
}

static void claims_free(void)
{
	unsigned long index;
	struct claim *c;

	xa_for_each(&claims, index, c)
		kfree(xa_erase(&claims, index));
}

static int stack_publish(struct dmm_stack *stack)
{
	struct dmm_stack *other;
	unsigned long index;
	int err;

	guard(mutex)(&registry_lock);
	xa_for_each(&registry, index, other)
		if (index == stack->id || !strcmp(other->name, stack->name))
			return -EEXIST;

	err = claim(stack->id, stack->name);
	if (err)
		return err;
	return xa_insert(&registry, stack->id, stack, GFP_KERNEL);
}

static int stack_check_netns(struct dmm_stack *stack)
{
	struct net_device *dev;
	int err = -ENODEV;

	if (!ns_capable(stack->net->user_ns, CAP_NET_ADMIN))
		return -EPERM;

	rcu_read_lock();
	dev = dev_get_by_index_rcu(stack->net, stack->ifindex);
	if (dev)
		err = 0;
	rcu_read_unlock();
	return err;
}

/**
 * dmm_stack_create - bring a stack up
 * @attach: a checked struct dmm_attach; its descriptors are the caller's
 *
 * May sleep. Return: the stack, published, with a reference for the caller, who
 * ends it by dmm_stack_down(); or an ERR_PTR, as DMM_ATTACH says.
 */
struct dmm_stack *dmm_stack_create(const struct dmm_attach *attach)
{
	struct dmm_stack *stack;
	u32 nslots, i;
	int err;

	stack = stack_alloc(attach->stack_id, attach->name);
	if (!stack)
		return ERR_PTR(-ENOMEM);
	stack->flags = attach->flags;
	stack->ifindex = attach->ifindex;
	stack->pid = task_tgid_nr(current);

	if (attach->netns_fd == -1)
		stack->net = get_net(current->nsproxy->net_ns);
	else
		stack->net = get_net_ns_by_fd(attach->netns_fd);
	if (IS_ERR(stack->net)) {
		/* It says -EINVAL for a file that is no namespace. */
		err = -EBADF;
		goto err_free;
	}
	err = stack_check_netns(stack);
	if (err)
		goto err_put_net;

	stack->doorbell = eventfd_ctx_fdget(attach->event_fd);
	if (IS_ERR(stack->doorbell)) {
		err = -EBADF;
		goto err_put_net;
	}

	stack->arena = dmm_arena_get(attach->arena_fd);
	if (IS_ERR(stack->arena)) {
		err = PTR_ERR(stack->arena);
		goto err_put_doorbell;
	}

	nslots = stack->arena->geo.nslots;
	stack->slots = kvcalloc(nslots, sizeof(*stack->slots),
				GFP_KERNEL_ACCOUNT);
	if (!stack->slots) {
		err = -ENOMEM;
		goto err_free_arena;
	}
	/* Lowest first; later, whatever was freed last, for its warm pages. */
	for (i = 0; i < nslots; i++)
		stack->slots[i].next = i + 1 < nslots ? i + 1 : -1;
	stack->share_max = max(1ULL, (u64)nslots *
			       (attach->share ?: DMM_SHARE_DEFAULT) / 100);

	err = stack_publish(stack);
	if (err)
		goto err_free_slots;
	return stack;

err_free_slots:
	kvfree(stack->slots);
err_free_arena:
	dmm_arena_free(stack->arena);
err_put_doorbell:
	eventfd_ctx_put(stack->doorbell);
err_put_net:
	put_net(stack->net);
err_free:
	kfree(stack);
	return ERR_PTR(err);
}

/**
 * dmm_stack_down - the worker is gone
 * @stack: the stack; the caller's reference is consumed
 *
 * Takes the stack out of the registry and resets each of its sockets; listeners wait
 * for it to come back. May sleep, but never on a socket's lock.
 */
void dmm_stack_down(struct dmm_stack *stack)
{
	struct dmm_sock *ds;
	u32 i;

	mutex_lock(&registry_lock);
	xa_erase(&registry, stack->id);
	mutex_unlock(&registry_lock);

	stack->husk = stack_husk(stack->id, stack->name, stack->net);
	spin_lock_bh(&stack->slot_lock);
	spin_lock(&stack->op_lock);
	/* After @husk, for whoever looks at both under a socket's lock. */
	smp_store_release(&stack->dead, true);
	spin_unlock(&stack->op_lock);
	spin_unlock_bh(&stack->slot_lock);

	dmm_watch_stop(stack);
	/* From here on nobody takes a slot or posts an op. */
	for (i = 0; i < stack->arena->geo.nslots; i++) {
		rcu_read_lock();
		ds = rcu_dereference(stack->slots[i].ds);
		if (ds && !refcount_inc_not_zero(&ds->refs))
			ds = NULL;
		rcu_read_unlock();
		if (!ds)
			continue;
		dmm_sock_event(ds, BIT(DMM_EV_ERROR), ECONNRESET);
		dmm_sock_put(ds);
		cond_resched();
	}
	dmm_ops_flush(stack);
	dmm_stack_put(stack);
}

#ifdef CONFIG_SOCK_CGROUP_DATA
/* The id of the container that the socket is of; 0 when it is of none. */
static u64 share_of(const struct sock *sk)
{
	struct cgroup *cgrp, *top;
	u64 id = 0;

	rcu_read_lock();
	cgrp = sk->sk_cgrp_data.cgroup;
	top = cgrp->level ? cgroup_ancestor(cgrp, min(cgrp->level, 2)) : NULL;
	if (top)
		id = cgroup_id(top);
	rcu_read_unlock();
	return id;
}
#else
static u64 share_of(const struct sock *sk)
{
	return 0;
}
#endif

static u32 share_count(struct dmm_stack *stack, u64 share)
{
	void *entry = xa_load(&stack->shares, share);

	return entry ? xa_to_value(entry) : 0;
}

static int share_take(struct dmm_stack *stack, u64 share)
{
	u32 n = share_count(stack, share);

	lockdep_assert_held(&stack->slot_lock);
	if (!share)
		return 0;
	if (n >= stack->share_max)
		return -EDQUOT;
	return xa_err(xa_store(&stack->shares, share, xa_mk_value(n + 1),
			       GFP_ATOMIC | __GFP_NOWARN));
}

static void share_put(struct dmm_stack *stack, u64 share)
{
	u32 n = share_count(stack, share);

	lockdep_assert_held(&stack->slot_lock);
	if (n > 1)	/* over an entry that is there: nothing is allocated */
		xa_store(&stack->shares, share, xa_mk_value(n - 1), GFP_ATOMIC);
	else
		xa_erase(&stack->shares, share);
}

/**
 * dmm_stack_slot_take - give a socket a slot
 * @stack: the stack
 * @ds: the socket's state; the slot takes a reference to it
 * @sk: the socket
 *
 * Sets @ds->slot, gen and shm, and clears the shared half. In any context.
 * Return: 0, -ENOSPC when all are taken, -EDQUOT when the socket's container has its
 * share, -ENOMEM, -ESHUTDOWN when the stack went down.
 */
int dmm_stack_slot_take(struct dmm_stack *stack, struct dmm_sock *ds,
			const struct sock *sk)
{
	u64 share = share_of(sk);
	struct dmm_slot_owner *owner;
	int err = 0;

	spin_lock_bh(&stack->slot_lock);
	if (stack->dead) {
		err = -ESHUTDOWN;
		goto out;
	}
	if (stack->free_slot < 0) {
		err = -ENOSPC;
		goto out;
	}
	err = share_take(stack, share);
	if (err)
		goto out;
	ds->slot = stack->free_slot;
	owner = &stack->slots[ds->slot];
	owner->share = share;
	stack->free_slot = owner->next;
	if (!++owner->gen)
		owner->gen = 1;
	ds->gen = owner->gen;
	ds->shm = &stack->arena->slots[ds->slot];
	memset(ds->shm, 0, sizeof(*ds->shm));
	refcount_inc(&ds->refs);
	rcu_assign_pointer(owner->ds, ds);
	if (!stack->nsocks++)
		dmm_watch_start(stack);
out:
	spin_unlock_bh(&stack->slot_lock);
	return err;
}

/* Why dmm_stack_slot_take() gave none. */
enum dmm_fallback dmm_stack_slot_reason(int err)
{
	switch (err) {
	case -ENOSPC:
		return DMM_FALLBACK_NO_SLOT;
	case -EDQUOT:
		return DMM_FALLBACK_QUOTA;
	case -ENOMEM:
		return DMM_FALLBACK_NO_MEMORY;
	default:
		return DMM_FALLBACK_STACK_DOWN;
	}
}

/**
 * dmm_stack_slot_done - the worker says no more of this socket
 * @stack: the stack
 * @ds: the socket; the slot's reference is dropped if it was still held
 *
 * The slot stays taken until dmm_stack_slot_free(). In any context.
 * Return: whether it was still held.
 */
bool dmm_stack_slot_done(struct dmm_stack *stack, struct dmm_sock *ds)
{
	struct dmm_slot_owner *owner = &stack->slots[ds->slot];
	bool held;

	spin_lock_bh(&stack->slot_lock);
	held = rcu_access_pointer(owner->ds) == ds;
	if (held)
		RCU_INIT_POINTER(owner->ds, NULL);
	spin_unlock_bh(&stack->slot_lock);

	if (held)
		dmm_sock_put(ds);
	return held;
}

/**
 * dmm_stack_slot_free - a slot may be taken again
 * @stack: the stack
 * @slot: its number
 *
 * In any context.
 */
void dmm_stack_slot_free(struct dmm_stack *stack, u32 slot)
{
	spin_lock_bh(&stack->slot_lock);
	share_put(stack, stack->slots[slot].share);
	stack->slots[slot].next = stack->free_slot;
	stack->free_slot = slot;
	stack->nsocks--;
	spin_unlock_bh(&stack->slot_lock);
}

int dmm_stack_init(void)
{
	free_wq = alloc_workqueue("dmm", 0, 0);
	if (!free_wq)
		return -ENOMEM;
	dmm_nobody = stack_husk(DMM_STACK_KERNEL, "kernel", &init_net);
	if (!dmm_nobody) {
		destroy_workqueue(free_wq);
		return -ENOMEM;
	}
	return 0;
}

/* At module exit: no file is open, no socket lives; only freeing may be left. */
void dmm_stack_exit(void)
{
	rcu_barrier();		/* sockets, which put their stacks */
	dmm_stack_put(dmm_nobody);
	destroy_workqueue(free_wq);
	rcu_barrier();		/* the stacks' own memory */
	WARN_ON(!xa_empty(&registry));
	claims_free();
}
