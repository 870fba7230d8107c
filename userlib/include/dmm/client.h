/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of a worker in user space: what /dev/dmm is for the module, a unix
 * socket (dmm-worker --client-socket) is for the shim and for tests.
 *
 * The socket is SOCK_SEQPACKET. On connection the worker sends one struct
 * dmm_client_hello with three descriptors: the arena, the eventfd toward the stack
 * and the eventfd toward the client. Nothing else is ever sent; when either end
 * closes, the client's connections are aborted.
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
};

/**
 * dmm_client_open() - connect to a worker
 * @clientp: set to the client, owned by the caller
 * @path: the worker's socket
 *
 * Return: 0; -EPROTO, the other end does not behave as told above;
 * -ENAMETOOLONG, and what socket(2), connect(2), recvmsg(2) and dmm_chan_map()
 * say.
 */
int dmm_client_open(struct dmm_client **clientp, const char *path);

/** dmm_client_close() - disconnect; the connections are aborted; NULL is fine */
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
