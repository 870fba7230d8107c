/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stack without a network: a thread that attaches to /dev/dmm as a worker does
 * and plays the peer by itself, so that the module can be tested alone, also
 * against things that no sound worker does. What the peer does is chosen by the
 * port that the socket connects to.
 */
#ifndef PUPPET_H
#define PUPPET_H

#include <stdbool.h>
#include <linux/types.h>

struct dmm_chan;
struct puppet;

enum puppet_port {
	PORT_ECHO = 7,		/* sends everything back, its FIN after ours */
	PORT_DISCARD = 9,	/* reads everything */
	PORT_SOURCE = 19,	/* sends SOURCE_BYTES, then its FIN */
	PORT_REFUSED = 101,	/* ECONNREFUSED */
	PORT_SILENT = 102,	/* never answers the SYN */
	PORT_RESET = 103,	/* resets at the first byte */
	PORT_DEAF = 104,	/* connects, never reads */
	PORT_TIMEOUT = 105,	/* ETIMEDOUT */
	PORT_HANGUP = 106,	/* connects, FIN at once */
};

#define SOURCE_BYTES	100000
/* Byte @i of what PORT_SOURCE sends. */
#define SOURCE_BYTE(i)	((unsigned char)((i) * 7 + ((i) >> 8)))

/**
 * struct puppet_opts - which stack to be
 * @name: its name
 * @id: its number
 * @ifindex: the device it serves, in the caller's netns
 * @nslots: sockets; 0 for 256
 * @ring: bytes of each ring; 0 for 64 KiB
 * @flags: DMM_ATTACH_F_*
 * @share: percent of the slots for one container; 0 for 100
 */
struct puppet_opts {
	const char *name;
	__u32 id;
	__u32 ifindex;
	__u32 nslots;
	__u32 ring;
	__u32 flags;
	__u16 share;
};

/**
 * struct puppet_stats - what it saw
 * @ops: by enum dmm_op_type
 * @nodelay: TCP_NODELAY as of the last DMM_OP_OPTIONS
 * @keepalive: SO_KEEPALIVE as of the last DMM_OP_OPTIONS
 * @keepidle: seconds, as of the last DMM_OP_OPTIONS
 * @sport: local port of the last connection, host order
 * @backlog: of the last DMM_OP_LISTEN
 * @bad: events that the module dropped
 */
struct puppet_stats {
	__u64 ops[16];
	bool nodelay;
	bool keepalive;
	__u32 keepidle;
	__u16 sport;
	__u32 backlog;
	__u64 bad;
};

/* Attach and begin to serve; NULL with errno set. */
struct puppet *puppet_start(const struct puppet_opts *opts);

/* Go away as a killed worker does: /dev/dmm is closed, nothing is said. */
void puppet_kill(struct puppet *p);

/* Stop serving, so that the caller may use the channel; the stack stays up. */
void puppet_freeze(struct puppet *p);

/* Serve again. */
void puppet_thaw(struct puppet *p);

/* While frozen: the channel, and a kick. Returns dmm_device_kick()'s result. */
struct dmm_chan *puppet_chan(struct puppet *p);
int puppet_kick(struct puppet *p, __u64 *bad);

/**
 * struct puppet_caller - a peer that connects to a listener
 * @lport: the listener's port
 * @rport: the peer's port
 * @what: what the peer does then
 * @v6: from WORLD_PEER6 to WORLD_ADDR6, else from WORLD_PEER to WORLD_ADDR
 */
struct puppet_caller {
	__u16 lport;
	__u16 rport;
	enum puppet_port what;
	bool v6;
};

/*
 * Offer a child to the listener of a port; 0, or -1 if there is no such listener
 * or the module dropped the event. It is offered once.
 */
int puppet_call(struct puppet *p, const struct puppet_caller *caller);

/*
 * Say something at random: an event of any type for any slot, mostly with its right
 * generation; now and then write an index of the slot's rings instead.
 */
void puppet_lie(struct puppet *p, __u32 what, __u32 more);

/* Slot and generation of the listener on a port; 0, or -1 if there is none. */
int puppet_listener(struct puppet *p, __u16 lport, __u32 *slot, __u32 *gen);

/* Slot and generation of the last connection, listener or child. */
void puppet_last(struct puppet *p, __u32 *slot, __u32 *gen);

void puppet_stats(struct puppet *p, struct puppet_stats *stats);

/* Wait until it has had @times messages DMM_OP_@op; false after five seconds. */
bool puppet_told(struct puppet *p, __u32 op, __u64 times);

#endif /* PUPPET_H */
