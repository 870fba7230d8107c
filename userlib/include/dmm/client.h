/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of a worker in user space: what /dev/dmm is for the module, a unix
 * socket (dmm-worker --client-socket) is for the shim and for tests.
 *
 * The socket is SOCK_SEQPACKET. On connection the worker sends one struct
 * dmm_client_hello with three descriptors: the arena, the eventfd toward the stack
 * and the eventfd toward the client. It sends nothing else. A client that it turns away
 * gets the struct without descriptors, and DMM_CLIENT_F_QUOTA if its user already has
 * what one user may have.
 *
 * When the last descriptor of the client's end is closed, its listeners end and its
 * connections are closed as DMM_OP_CLOSE does it: what is in the transmit ring is
 * still sent; where bytes were not read, the peer gets a RST.
 *
 * The client may send guards: 1..DMM_CLIENT_GUARDS of struct dmm_client_guard with
 * as many descriptors of sockets, AF_UNIX and SOCK_STREAM. When such a socket hangs up,
 * its connection is closed in the same way. So a connection can live as long as a file
 * that several processes share.
 */
#ifndef DMM_CLIENT_H
#define DMM_CLIENT_H

#include <linux/types.h>

struct dmm_chan;
struct dmm_client;

/** struct dmm_client_hello - the worker's one message */
struct dmm_client_hello {
	__u32 size;		/* of this struct */
	__u32 version;		/* DMM_ABI_VERSION */
	__u32 ifindex;		/* the device served */
	__u32 flags;		/* DMM_ATTACH_F_ROUTE_OWN, DMM_CLIENT_F_QUOTA */
	__u64 netns;		/* SO_NETNS_COOKIE of the netns served */
};

#define DMM_CLIENT_F_QUOTA	(1U << 31)	/* turned away for this */

#define DMM_CLIENT_GUARDS	32	/* in one message */

/** struct dmm_client_guard - a connection, and the descriptor that guards it */
struct dmm_client_guard {
	__u32 slot;
	__u32 gen;
};

/**
 * dmm_client_open() - connect to a worker
 * @clientp: set to the client, owned by the caller
 * @path: the worker's socket
 *
 * Return: 0; -EDQUOT, turned away: the user has what one may have; -EPROTO, the other
 * end does not behave as told above, or turns us away for another reason;
 * -ENAMETOOLONG, and what socket(2), connect(2), recvmsg(2) and dmm_chan_map()
 * say.
 */
int dmm_client_open(struct dmm_client **clientp, const char *path);

/** dmm_client_close() - disconnect, as told above; NULL is fine */
void dmm_client_close(struct dmm_client *client);

/** dmm_client_chan() - the client side of the arena, owned by the client */
struct dmm_chan *dmm_client_chan(struct dmm_client *client);

/** dmm_client_sock() - to poll for POLLHUP: the worker is gone */
int dmm_client_sock(const struct dmm_client *client);

/** dmm_client_event_fd() - to poll for POLLIN: there are events */
int dmm_client_event_fd(const struct dmm_client *client);

/** dmm_client_submit() - make the ops added to the channel visible, ring if needed */
void dmm_client_submit(struct dmm_client *client);

#endif /* DMM_CLIENT_H */
