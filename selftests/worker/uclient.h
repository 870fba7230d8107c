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

#define UC_SLOTS	8192
#define UC_OFFERS	8192

/* @final: the DMM_EV_* that ended it, 0 while it lives */
struct uc_conn {
	uint32_t gen;
	bool open;
	bool connected;
	bool fin;
	bool fin_acked;
	uint32_t final;
	uint32_t error;
};

/* A connection that a peer opened, not attached yet. */
struct uc_offer {
	uint32_t slot;		/* the listener's */
	struct dmm_ev_incoming in;
};

struct uclient {
	struct dmm_client *client;
	struct dmm_chan *chan;
	int family;
	uint32_t saddr[4];	/* network order */
	uint32_t ifindex;
	uint32_t next_gen;
	uint16_t next_port;	/* host order */
	uint32_t next_slot;
	unsigned long events;
	bool spin;
	unsigned int noffers;
	struct uc_offer offers[UC_OFFERS];
	struct uc_conn conns[UC_SLOTS];
};

/* Addresses are texts, of either family. */
int uc_open(struct uclient *uc, const char *path, const char *saddr,
	    uint32_t ifindex);
void uc_close(struct uclient *uc);

/* Take a slot for an op, which gets slot and generation; -EMFILE. */
int uc_slot(struct uclient *uc, struct dmm_op *op);
void uc_put(struct uclient *uc, const struct dmm_op *op);

/* Send an op for @slot, at once. */
void uc_op(struct uclient *uc, uint32_t slot, uint32_t op);

/* Begin a connection; returns its slot. @sport 0 for the next one. */
int uc_connect_start(struct uclient *uc, const char *daddr, uint16_t dport,
		     uint16_t sport);

/* The same with all that the op can say; its slot and gen are filled in. */
int uc_connect_op(struct uclient *uc, struct dmm_op *op);

/* The same and wait; a refusal and the like is a negative errno. */
int uc_connect(struct uclient *uc, const char *daddr, uint16_t dport);

/* Wait until a connection that was begun is open: @slot, or as uc_connect(). */
int uc_connected(struct uclient *uc, int slot);

/* Listen on @addr (4 words, NULL for any); the slot. */
int uc_listen(struct uclient *uc, int family, const uint32_t *addr,
	      uint16_t port, uint32_t backlog, uint32_t flags);
int uc_listen_again(struct uclient *uc, int slot, uint16_t port,
		    uint32_t backlog);

/* Send ATTACH for a token, whatever it is; the slot. */
int uc_attach(struct uclient *uc, uint64_t token, uint32_t listener);

/* Attach the oldest offer to a listener (-1: any); the child's slot. */
int uc_accept(struct uclient *uc, int listener, int timeout_ms);

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

/* Send @len bytes of pattern to a sink (peer.h); what it says it got, 0 for nothing. */
uint64_t uc_to_sink(struct uclient *uc, int slot, uint64_t len);

/* Ask a source for @len bytes; how many came, -1 if they were not the pattern. */
int64_t uc_from_source(struct uclient *uc, int slot, uint64_t len);

long uc_now_ms(void);

/* Is it served? Connects to the rig's peer, has four bytes echoed; 0 or -errno. */
int uc_served(struct uclient *uc);

#endif /* UCLIENT_H */
