/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads and stores of shared memory. Each access is one machine access of a
 * __u32, so what is checked is what is used.
 */
#ifndef DMM_LIB_BARRIER_H
#define DMM_LIB_BARRIER_H

#include <linux/types.h>

static inline __u32 load_relaxed(const __u32 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline __u32 load_acquire(const __u32 *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void store_relaxed(__u32 *p, __u32 v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void store_release(__u32 *p, __u32 v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline void full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif /* DMM_LIB_BARRIER_H */
