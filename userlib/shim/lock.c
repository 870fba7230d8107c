// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"

#define SPINS		100
#define LOOK_NS		(50 * 1000 * 1000)	/* does the holder live? */

__thread __u32 shim_tid;

__u32 lock_tid(void)
{
	if (!shim_tid)
		shim_tid = syscall(SYS_gettid);
	return shim_tid;
}

static bool is_dead(__u32 tid)
{
	return syscall(SYS_tkill, tid, 0) < 0 && errno == ESRCH;
}

bool lock_slowly(struct lock *l)
{
	static const struct timespec ts = { .tv_nsec = LOOK_NS };
	__u32 me = lock_tid(), want = me, cur;
	int spins = SPINS, err = errno;

	for (;;) {
		cur = __atomic_load_n(&l->word, __ATOMIC_RELAXED);
		if (!cur) {
			if (__atomic_compare_exchange_n(&l->word, &cur, want, false,
							__ATOMIC_ACQUIRE,
							__ATOMIC_RELAXED))
				break;
			continue;
		}
		if ((cur & ~LOCK_WAITERS) == me) {
			errno = err;
			return false;
		}
		if (spins-- > 0) {
			__builtin_ia32_pause();
			continue;
		}
		if (!(cur & LOCK_WAITERS) &&
		    !__atomic_compare_exchange_n(&l->word, &cur,
						 cur | LOCK_WAITERS, false,
						 __ATOMIC_RELAXED,
						 __ATOMIC_RELAXED))
			continue;
		cur |= LOCK_WAITERS;
		/* whoever slept cannot know whether he was the only one */
		want = me | LOCK_WAITERS;
		if (syscall(SYS_futex, &l->word, FUTEX_WAIT, cur, &ts, NULL, 0) &&
		    errno == ETIMEDOUT && is_dead(cur & ~LOCK_WAITERS) &&
		    __atomic_compare_exchange_n(&l->word, &cur, want, false,
						__ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			break;
	}
	errno = err;
	return true;
}

void unlock_slowly(struct lock *l)
{
	int err = errno;

	syscall(SYS_futex, &l->word, FUTEX_WAKE, 1, NULL, NULL, 0);
	errno = err;
}
