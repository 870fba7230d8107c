// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "calls.h"
#include "shim.h"

/*
 * Each pointer begins as a function that looks all of them up. A call that this libc
 * does not have (epoll_pwait2, close_range, closefrom) ends in ENOSYS, as it would
 * have ended in the linker.
 *
 * A lookup that fails allocates memory, and whoever is the first to call may be the
 * allocator as it starts (jemalloc reads files under its lock). So what is likely to be
 * missing is not looked up before somebody calls it.
 */
static void real_init(void);

#define EARLY(ret, name, params, args)					\
static ret early_##name params						\
{									\
	real_init();							\
	return real.name args;						\
}
SHIM_CALLS(EARLY)

static long no_such_call(void)
{
	errno = ENOSYS;
	return -1;
}

#define EARLY_ALONE(ret, name, params, args)				\
static ret early_##name params						\
{									\
	void *sym = dlsym(RTLD_NEXT, #name);				\
									\
	__atomic_store_n((void **)&real.name, sym ? sym : (void *)no_such_call, \
			 __ATOMIC_RELAXED);				\
	return real.name args;						\
}
SHIM_URING_CALLS(EARLY_ALONE)

#define EARLY_POINTER(ret, name, params, args)	.name = early_##name,
struct real_calls real = {
	SHIM_CALLS(EARLY_POINTER)
	SHIM_URING_CALLS(EARLY_POINTER)
};

static void real_init(void)
{
	int err = errno;
	void *sym;

#define LOOK_UP(ret, name, params, args)				\
	sym = dlsym(RTLD_NEXT, #name);					\
	__atomic_store_n((void **)&real.name, sym ? sym : (void *)no_such_call, \
			 __ATOMIC_RELAXED);
	SHIM_CALLS(LOOK_UP)
	errno = err;
}
