/* SPDX-License-Identifier: Apache-2.0 */
/* What lwIP wants to know of compiler and machine. */
#ifndef DMM_LWIP_CC_H
#define DMM_LWIP_CC_H

#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

/*
 * A broken invariant is a crash of this one worker, seen by its supervisor,
 * rather than memory that is silently wrong.
 */
void dmm_lwip_panic(const char *msg, const char *file, int line)
	__attribute__((noreturn));

#define LWIP_PLATFORM_DIAG(x)	do { } while (0)
#define LWIP_PLATFORM_ASSERT(x)	dmm_lwip_panic(x, __FILE__, __LINE__)
#define LWIP_RAND()		((u32_t)random())
#define lwip_htons(x)		__builtin_bswap16(x)
#define lwip_htonl(x)		__builtin_bswap32(x)
#define LWIP_TIMEVAL_PRIVATE	0

#endif /* DMM_LWIP_CC_H */
