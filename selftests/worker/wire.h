/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bad wire: a process between the two ends of the rig that loses, delays,
 * reorders, duplicates and damages frames, as sch_netem does where it is to be had.
 *
 *	app: dmmt0 ---- dmmt1 [ wire ] dmmt2 ---- dmmt3 :web
 *
 * dmmt1 and dmmt2 are in a network namespace of their own; dmmt3 has the addresses
 * that dmmt1 had. Its offloads are off, so each frame is one segment with a finished
 * checksum.
 */
#ifndef WIRE_H
#define WIRE_H

#include <sys/types.h>

struct rig;

/* Each in a thousand; @reorder: of those that are not delayed when others are. */
struct wire {
	unsigned int loss;
	unsigned int reorder;
	unsigned int duplicate;
	unsigned int corrupt;
	unsigned int delay_ms;
};

/* Put it in; its pid, to be killed, or a negative errno. */
pid_t wire_start(struct rig *rig, const struct wire *wire);

#endif /* WIRE_H */
