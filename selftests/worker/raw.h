/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client without libdmm, that can write what it likes. Functions return 0 or a
 * negative errno unless told otherwise.
 */
#ifndef RAW_H
#define RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmm/client.h>
#include <linux/dmm.h>

#include "rig.h"

/* @event_fd: the eventfd toward us; @len: bytes mapped; @prod: ops sent */
struct raw {
	int sock;
	int bell;
	int event_fd;
	size_t len;
	struct dmm_arena_hdr *hdr;
	struct dmm_op *ops;
	struct dmm_slot *slots;
	uint32_t prod;
};

/* -EDQUOT, -EPROTO: turned away, and told why or not. */
int raw_open(struct raw *raw, const char *path);
void raw_close(struct raw *raw);

void raw_ring(struct raw *raw);
/* Add an op and publish it; with the doorbell. */
void raw_put(struct raw *raw, const struct dmm_op *op);
void raw_op(struct raw *raw, const struct dmm_op *op);
/* Wait until the worker has taken all ops. */
int raw_settle(struct raw *raw);
/* Wait until it hangs up. */
bool raw_hung_up(struct raw *raw);

/* Send @fds as guards of @n slots of generation 1, from @slot on. */
int raw_guards(struct raw *raw, uint32_t slot, const int *fds, int n);

/* Connects slot @slot, generation 1, to @port of the peer, by a port of its own. */
struct dmm_op raw_connect(const struct rig *rig, uint32_t slot, uint16_t port);

#endif /* RAW_H */
