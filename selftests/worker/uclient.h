/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user-space client of a worker with socket-like calls, for tests. One thread.
 * Functions return 0 or a count, or a negative errno.
 */
#ifndef UCLIENT_H
#define UCLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmm/chan.h>
#include <dmm/client.h>

#define UC_SLOTS	4096

/* @final: the DMM_EV_* that ended it, 0 while it lives */
struct uc_conn {
	uint32_t gen;
	bool open;
	bool connected;
	bool fin;
	uint32_t final;
	uint32_t error;
};

struct uclient {
	struct dmm_client *client;
	struct dmm_chan *chan;
	uint32_t saddr;		/* network order */
	uint32_t ifindex;
	uint32_t next_gen;
	uint16_t next_port;	/* host order */
	uint32_t next_slot;
	unsigned long events;
	bool spin;
	struct uc_conn conns[UC_SLOTS];
};

int uc_open(struct uclient *uc, const char *path, uint32_t saddr,
	    uint32_t ifindex);
void uc_close(struct uclient *uc);

/* Send an op for @slot, at once. */
void uc_op(struct uclient *uc, uint32_t slot, uint32_t op);

/* Begin a connection; returns its slot. @sport 0 for the next one. */
int uc_connect_start(struct uclient *uc, uint32_t daddr, uint16_t dport,
		     uint16_t sport);

/* The same and wait; a refusal and the like is a negative errno. */
int uc_connect(struct uclient *uc, uint32_t daddr, uint16_t dport);

/* Take all events that are there, or wait for some: 0, -ETIMEDOUT, -EPIPE. */
int uc_wait(struct uclient *uc, int timeout_ms);

/* What fits, what is there; without waiting. */
int uc_send_some(struct uclient *uc, uint32_t slot, const void *buf,
		 uint32_t len);
int uc_recv_some(struct uclient *uc, uint32_t slot, void *buf, uint32_t len);

/* All of it; fewer on receipt at the stream's end. -ECONNRESET and the like. */
int uc_send(struct uclient *uc, uint32_t slot, const void *buf, size_t len);
long uc_recv(struct uclient *uc, uint32_t slot, void *buf, size_t len);

/* Wait until the worker has ended it, and free the slot: DMM_EV_* or -errno. */
int uc_finish(struct uclient *uc, uint32_t slot, int timeout_ms);

#endif /* UCLIENT_H */
