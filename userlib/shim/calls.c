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
 */
static void real_init(void);

#define EARLY(ret, name, params, args)					\
static ret early_##name params						\
{									\
	real_init();							\
	return real.name args;						\
}
SHIM_CALLS(EARLY)

#define EARLY_POINTER(ret, name, params, args)	.name = early_##name,
struct real_calls real = { SHIM_CALLS(EARLY_POINTER) };

static long no_such_call(void)
{
	errno = ENOSYS;
	return -1;
}

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
