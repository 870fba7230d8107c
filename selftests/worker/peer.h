/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end: the kernel's own TCP in another network namespace, a process
 * with a thread for each connection, whose behaviour goes by the port.
 */
#ifndef PEER_H
#define PEER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	PEER_ECHO = 7001,	/* sends back what comes, until the FIN */
	PEER_SINK,		/* reads until the FIN; says how many bytes (8),
				 * all ones if the pattern was broken
				 */
	PEER_SOURCE,		/* reads a count (8), sends that much pattern, FIN */
	PEER_RESET,		/* reads a byte, then sends a RST */
	PEER_SLOW,		/* as SINK, but reads nothing for a second */
	PEER_DISCARD,		/* reads and forgets */
	PEER_FLOOD,		/* sends for ever */
	PEER_HALF,		/* sends a FIN at once, then is a SINK without an
				 * answer: the count goes to the RST-or-FIN
				 */
	PEER_LAST,
};
#define PEER_CLOSED	7099	/* nobody listens */

/* Byte @i of the pattern. */
static inline uint8_t pattern(uint64_t i)
{
	return (i * 0x9E3779B97F4A7C15ULL) >> 56;
}

void pattern_fill(void *buf, size_t len, uint64_t from);
int pattern_check(const void *buf, size_t len, uint64_t from);

/* Start it in the netns of that path; its pid, or a negative errno. */
pid_t peer_start(const char *netns);

#endif /* PEER_H */
