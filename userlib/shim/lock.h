/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock in memory that processes share, and that the death of its holder does not
 * leave closed: the word holds the holder's thread id, and who waits looks now and
 * then whether that thread still lives.
 *
 * A thread that takes a lock that it holds itself is in a signal handler: it is told,
 * and has to give up (-EDEADLK). Nothing sleeps under a lock but for another lock.
 */
#ifndef DMM_SHIM_LOCK_H
#define DMM_SHIM_LOCK_H

#include <linux/types.h>
#include <stdbool.h>

struct lock {
	__u32 word;	/* 0: free; a thread id; LOCK_WAITERS */
};

#define LOCK_WAITERS	0x80000000U

extern __thread __u32 shim_tid __attribute__((tls_model("initial-exec")));

bool lock_slowly(struct lock *l);
void unlock_slowly(struct lock *l);
__u32 lock_tid(void);

/* False when this very thread holds it already. */
static inline bool lock(struct lock *l)
{
	__u32 free = 0, tid = shim_tid;

	if (__builtin_expect(tid && __atomic_compare_exchange_n(&l->word, &free,
				tid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED), 1))
		return true;
	return lock_slowly(l);
}

static inline bool trylock(struct lock *l)
{
	__u32 free = 0;

	return __atomic_compare_exchange_n(&l->word, &free, lock_tid(), false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline void unlock(struct lock *l)
{
	__u32 mine = __atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE);

	if (__builtin_expect(mine & LOCK_WAITERS, 0))
		unlock_slowly(l);
}

/*
 * A private lock around fork(): taken before (@step < 0), given back by the parent (0),
 * free in the child (1), where its holder is another thread id.
 */
static inline void fork_lock(struct lock *l, int step)
{
	if (step < 0)
		lock(l);
	else if (!step)
		unlock(l);
	else
		l->word = 0;
}

#endif /* DMM_SHIM_LOCK_H */
