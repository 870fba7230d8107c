/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0 over a unix stream socket: one JSON text per line, both ways.
 * Batches are refused. The protocol's rules for hostile clients:
 *
 *  - only root and members of the socket's group are served (SO_PEERCRED);
 *  - what is not JSON, or longer than DMM_RPC_REQUEST_MAX, gets one error and the
 *    connection is closed;
 *  - a client that leaves DMM_RPC_PENDING_MAX requests unanswered is not read
 *    from until one is answered;
 *  - a client that does not take its answers within DMM_RPC_STALL_SECS, or lets
 *    more than DMM_RPC_REPLY_MAX of them pile up, is closed.
 */
#ifndef DMM_RPC_H
#define DMM_RPC_H

#include <json-c/json.h>
#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "err.h"

#define DMM_RPC_CLIENTS_MAX	64
#define DMM_RPC_REQUEST_MAX	(256 << 10)	/* a configuration of many rules */
#define DMM_RPC_REPLY_MAX	(16 << 20)
#define DMM_RPC_PENDING_MAX	16
#define DMM_RPC_STALL_SECS	30

/* Error codes of JSON-RPC 2.0, section 5.1; the last is ours. */
#define DMM_RPC_E_PARSE		(-32700)
#define DMM_RPC_E_REQUEST	(-32600)
#define DMM_RPC_E_METHOD	(-32601)
#define DMM_RPC_E_PARAMS	(-32602)
#define DMM_RPC_E_FAILED	(-32000)

struct dmm_rpc;
struct dmm_rpc_call;

/*
 * A method owns @call and answers it exactly once, now or later, by
 * dmm_rpc_reply() or dmm_rpc_fail(). @params is borrowed for the time of the
 * call, and NULL when the request has none.
 */
struct dmm_rpc_method {
	const char *name;
	void (*fn)(void *data, struct json_object *params, struct dmm_rpc_call *call);
};

/*
 * Make room at @path: a socket file that a dead daemon left is removed. -EBUSY when
 * somebody listens there, and @err says who.
 */
int dmm_rpc_claim(const char *path, struct dmm_err *err);

/*
 * Serve @methods (ends with a NULL name) at @path, once claimed, mode 0660, group @gid.
 */
int dmm_rpc_new(struct dmm_rpc **out, sd_event *event, const char *path, gid_t gid,
		const struct dmm_rpc_method *methods, void *data,
		struct dmm_err *err);

/* Close all clients; calls still open may be answered after this, into the void. */
void dmm_rpc_free(struct dmm_rpc *rpc);

/* Answer and forget @call. @result is consumed; NULL means an empty object. */
void dmm_rpc_reply(struct dmm_rpc_call *call, struct json_object *result);
void dmm_rpc_fail(struct dmm_rpc_call *call, const struct dmm_err *err);

/*
 * Let the client of @call, which is to be answered as any other, hear of what
 * dmm_rpc_notify() says from then on.
 */
void dmm_rpc_subscribe(struct dmm_rpc_call *call);
unsigned int dmm_rpc_subscribers(const struct dmm_rpc *rpc);

/* Send a notification to the subscribers. @params is consumed. */
void dmm_rpc_notify(struct dmm_rpc *rpc, const char *method, struct json_object *params);

/* Send what is queued to each client, waiting a little for slow ones. */
void dmm_rpc_flush(struct dmm_rpc *rpc);

#endif
