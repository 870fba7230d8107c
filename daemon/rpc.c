// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <grp.h>
#include <json-c/json.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "rpc.h"

#define JSON_DEPTH 16
#define FLUSH_MS 500

struct client {
	LIST_ENTRY(client) entry;
	struct dmm_rpc *rpc;
	int fd;
	sd_event_source *io, *stall, *more;
	LIST_HEAD(, dmm_rpc_call) calls;	/* not answered yet */
	unsigned int pending;
	bool subscribed;			/* to notifications */
	bool closing;				/* once all is sent */
	bool dispatching;			/* frames of ours are on the stack */
	bool dead;				/* free when they have returned */
	size_t in_len;
	char *out;
	size_t out_off, out_len, out_size;
	char in[DMM_RPC_REQUEST_MAX + 1];
};

struct dmm_rpc {
	sd_event *event;
	int fd;
	gid_t gid;
	sd_event_source *io;
	const struct dmm_rpc_method *methods;
	void *data;
	unsigned int nclients;
	LIST_HEAD(, client) clients;
	struct sockaddr_un addr;
};

struct dmm_rpc_call {
	LIST_ENTRY(dmm_rpc_call) entry;
	struct client *client;			/* NULL when it has gone */
	struct json_object *id;			/* NULL for JSON's null */
	bool notification;			/* wants no answer */
};

static void client_input(struct client *c);
static bool client_output(struct client *c);

static void client_free(struct client *c)
{
	struct dmm_rpc_call *call;

	while ((call = LIST_FIRST(&c->calls))) {
		LIST_REMOVE(call, entry);
		call->client = NULL;
	}
	LIST_REMOVE(c, entry);
	c->rpc->nclients--;
	sd_event_source_disable_unref(c->io);
	sd_event_source_disable_unref(c->stall);
	sd_event_source_disable_unref(c->more);
	close(c->fd);
	free(c->out);
	free(c);
}

/* Close now, or as soon as nobody up the stack uses @c. */
static void client_kill(struct client *c)
{
	c->dead = true;
	if (!c->dispatching)
		client_free(c);
}

static int on_stall(sd_event_source *s, uint64_t usec, void *data)
{
	client_kill(data);
	return 0;
}

/* Whole requests were left in the buffer while too many waited for answers. */
static int on_more(sd_event_source *s, void *data)
{
	struct client *c = data;

	c->dispatching = true;
	client_input(c);
	if (!c->dead)
		client_output(c);
	c->dispatching = false;
	if (c->dead)
		client_free(c);
	return 0;
}

/* Ask for the events that @c can use now. */
static void client_rearm(struct client *c)
{
	uint32_t events = 0;

	if (!c->closing && c->pending < DMM_RPC_PENDING_MAX) {
		events |= EPOLLIN;
		if (memchr(c->in, '\n', c->in_len))
			sd_event_source_set_enabled(c->more, SD_EVENT_ONESHOT);
	}
	if (c->out_len > c->out_off) {
		events |= EPOLLOUT;
		if (!c->stall)
			sd_event_add_time_relative(c->rpc->event, &c->stall,
						   CLOCK_MONOTONIC,
						   DMM_RPC_STALL_SECS * 1000000ULL, 0,
						   on_stall, c);
	} else {
		c->stall = sd_event_source_disable_unref(c->stall);
	}
	sd_event_source_set_io_events(c->io, events);
}

/* Send what the socket takes. Returns false when the client is gone. */
static bool client_output(struct client *c)
{
	ssize_t n;

	while (c->out_off < c->out_len) {
		n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			client_kill(c);
			return false;
		}
		c->out_off += n;
		/* It takes its answers, if slowly. */
		c->stall = sd_event_source_disable_unref(c->stall);
	}
	if (c->out_off == c->out_len) {
		c->out_off = c->out_len = 0;
		if (c->closing && !c->pending) {
			client_kill(c);
			return false;
		}
	}
	client_rearm(c);
	return true;
}

/* Queue @msg (consumed) as one line. */
static void client_send(struct client *c, struct json_object *msg)
{
	const char *text;
	size_t len, need;
	char *more;

	if (c->dead)
		goto out;
	text = json_object_to_json_string_length(msg, JSON_C_TO_STRING_PLAIN |
						 JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	need = c->out_len + len + 1;
	if (!text || need - c->out_off > DMM_RPC_REPLY_MAX) {
		client_kill(c);
		goto out;
	}
	if (need > c->out_size) {
		more = realloc(c->out, need * 2);
		if (!more) {
			client_kill(c);
			goto out;
		}
		c->out = more;
		c->out_size = need * 2;
	}
	memcpy(c->out + c->out_len, text, len);
	c->out[c->out_len + len] = '\n';
	c->out_len = need;
	client_output(c);
out:
	json_object_put(msg);
}

static struct json_object *message(struct json_object *id)
{
	struct json_object *msg = json_object_new_object();

	json_object_object_add(msg, "jsonrpc", json_object_new_string("2.0"));
	json_object_object_add(msg, "id", json_object_get(id));
	return msg;
}

/* @where may be NULL. */
static struct json_object *error_message_at(struct json_object *id, int code,
					    const char *text, const char *where)
{
	struct json_object *msg = message(id), *e = json_object_new_object(), *data;

	json_object_object_add(e, "code", json_object_new_int(code));
	json_object_object_add(e, "message", json_object_new_string(text));
	if (where && *where) {
		data = json_object_new_object();
		json_object_object_add(data, "where", json_object_new_string(where));
		json_object_object_add(e, "data", data);
	}
	json_object_object_add(msg, "error", e);
	return msg;
}

static struct json_object *error_message(struct json_object *id, int code,
					 const char *text)
{
	return error_message_at(id, code, text, NULL);
}

static void call_done(struct dmm_rpc_call *call, struct json_object *msg)
{
	struct client *c = call->client;

	if (c) {
		LIST_REMOVE(call, entry);
		c->pending--;
	}
	json_object_put(call->id);
	if (c && !call->notification) {
		client_send(c, msg);
	} else {
		json_object_put(msg);
		if (c)
			client_output(c);
	}
	free(call);
}

void dmm_rpc_reply(struct dmm_rpc_call *call, struct json_object *result)
{
	struct json_object *msg = message(call->id);

	json_object_object_add(msg, "result",
			       result ? result : json_object_new_object());
	call_done(call, msg);
}

void dmm_rpc_fail(struct dmm_rpc_call *call, const struct dmm_err *err)
{
	call_done(call, error_message_at(call->id, err->code == -EINVAL ?
					 DMM_RPC_E_PARAMS : DMM_RPC_E_FAILED,
					 err->msg, err->where));
}

/* Answer with an error, and hear no more. */
static void client_reject(struct client *c, int code, const char *text)
{
	c->closing = true;
	client_send(c, error_message(NULL, code, text));
}

static void request(struct client *c, struct json_object *req)
{
	struct json_object *version, *method, *params = NULL, *id = NULL;
	const struct dmm_rpc_method *m;
	struct dmm_rpc_call *call;
	bool has_id;
	const char *name;

	if (!json_object_is_type(req, json_type_object)) {
		client_send(c, error_message(NULL, DMM_RPC_E_REQUEST,
			    "a request is one JSON object; batches are not supported"));
		return;
	}
	has_id = json_object_object_get_ex(req, "id", &id);
	if (id && !json_object_is_type(id, json_type_string) &&
	    !json_object_is_type(id, json_type_int)) {
		client_send(c, error_message(NULL, DMM_RPC_E_REQUEST,
					     "id must be a string or a whole number"));
		return;
	}
	if (!json_object_object_get_ex(req, "jsonrpc", &version) ||
	    !json_object_is_type(version, json_type_string) ||
	    strcmp(json_object_get_string(version), "2.0") ||
	    !json_object_object_get_ex(req, "method", &method) ||
	    !json_object_is_type(method, json_type_string)) {
		client_send(c, error_message(id, DMM_RPC_E_REQUEST,
			    "expected {\"jsonrpc\":\"2.0\",\"method\":...,\"id\":...}"));
		return;
	}
	json_object_object_get_ex(req, "params", &params);
	name = json_object_get_string(method);
	for (m = c->rpc->methods; m->name; m++)
		if (!strcmp(m->name, name))
			break;
	if (!m->name) {
		if (has_id)
			client_send(c, error_message(id, DMM_RPC_E_METHOD,
						     "no such method"));
		return;
	}

	call = calloc(1, sizeof(*call));
	if (!call) {
		client_kill(c);
		return;
	}
	call->id = json_object_get(id);
	call->notification = !has_id;
	call->client = c;
	LIST_INSERT_HEAD(&c->calls, call, entry);
	c->pending++;
	m->fn(c->rpc->data, params, call);
}

static void line(struct client *c, const char *s, size_t len)
{
	struct json_tokener *tok;
	struct json_object *req = NULL;
	bool ok = false;

	tok = json_tokener_new_ex(JSON_DEPTH);
	if (tok) {
		json_tokener_set_flags(tok, JSON_TOKENER_STRICT |
				       JSON_TOKENER_VALIDATE_UTF8);
		req = json_tokener_parse_ex(tok, s, len);
		/* A number at the very end only ends with the text. */
		if (json_tokener_get_error(tok) == json_tokener_continue)
			req = json_tokener_parse_ex(tok, "", 1);
		ok = json_tokener_get_error(tok) == json_tokener_success;
		json_tokener_free(tok);
	}
	if (ok)
		request(c, req);
	else
		client_reject(c, DMM_RPC_E_PARSE, "not JSON: expected one request a line");
	json_object_put(req);
}

/* Work through the whole lines in the buffer. */
static void client_input(struct client *c)
{
	size_t off = 0;
	char *nl;

	while (!c->dead && !c->closing && c->pending < DMM_RPC_PENDING_MAX) {
		nl = memchr(c->in + off, '\n', c->in_len - off);
		if (!nl)
			break;
		if (nl > c->in + off)
			line(c, c->in + off, nl - (c->in + off));
		off = nl + 1 - c->in;
	}
	if (off) {
		c->in_len -= off;
		memmove(c->in, c->in + off, c->in_len);
	}
	if (!c->dead && !c->closing && c->in_len == sizeof(c->in))
		client_reject(c, DMM_RPC_E_REQUEST, "request longer than 262144 bytes");
}

static int on_client(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct client *c = data;
	ssize_t n;

	c->dispatching = true;
	if (revents & EPOLLOUT && !client_output(c))
		goto out;
	if (revents & EPOLLIN && c->in_len < sizeof(c->in)) {
		n = recv(fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
		if (n > 0)
			c->in_len += n;
		else if (!n)
			c->closing = true;	/* answers may be awaited still */
		else if (errno != EAGAIN && errno != EINTR)
			c->dead = true;
	} else if (revents & (EPOLLHUP | EPOLLERR)) {
		c->dead = true;
	}
	if (!c->dead) {
		bool eof = c->closing;

		c->closing = false;
		client_input(c);
		c->closing |= eof;
	}
	if (!c->dead)
		client_output(c);
out:
	c->dispatching = false;
	if (c->dead)
		client_free(c);
	return 0;
}

/* Root, or a member of the socket's group. */
static bool allowed(const struct dmm_rpc *rpc, const struct ucred *cred)
{
	gid_t groups[256];
	int n = 256, i;
	struct passwd *pw;

	if (!cred->uid)
		return true;
	if (!rpc->gid)
		return false;
	if (cred->gid == rpc->gid)
		return true;
	pw = getpwuid(cred->uid);
	if (!pw || getgrouplist(pw->pw_name, pw->pw_gid, groups, &n) < 0)
		return false;
	for (i = 0; i < n; i++)
		if (groups[i] == rpc->gid)
			return true;
	return false;
}

static int on_accept(sd_event_source *s, int lfd, uint32_t revents, void *data)
{
	struct dmm_rpc *rpc = data;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct client *c;
	int fd;

	fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
	    !allowed(rpc, &cred) || rpc->nclients >= DMM_RPC_CLIENTS_MAX)
		goto err_close;
	c = calloc(1, sizeof(*c));
	if (!c)
		goto err_close;
	c->rpc = rpc;
	c->fd = fd;
	LIST_INIT(&c->calls);
	if (sd_event_add_io(rpc->event, &c->io, fd, EPOLLIN, on_client, c) < 0 ||
	    sd_event_add_defer(rpc->event, &c->more, on_more, c) < 0)
		goto err_free;
	sd_event_source_set_enabled(c->more, SD_EVENT_OFF);
	LIST_INSERT_HEAD(&rpc->clients, c, entry);
	rpc->nclients++;
	return 0;

err_free:
	sd_event_source_disable_unref(c->io);
	free(c);
err_close:
	close(fd);
	return 0;
}

int dmm_rpc_claim(const char *path, struct dmm_err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct ucred cred = {};
	socklen_t len = sizeof(cred);
	struct stat st;
	int fd, ret = 0;

	if (strlen(path) >= sizeof(addr.sun_path))
		return dmm_err_set(err, -ENAMETOOLONG, "socket %s: the path is too long",
				   path);
	strcpy(addr.sun_path, path);
	if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return 0;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return dmm_err_set(err, -errno, "socket: %m");
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
		ret = dmm_err_set(err, -EBUSY,
				  "control socket %s: another dmmd, pid %d, has it",
				  path, cred.pid);
	} else if (errno == ECONNREFUSED) {
		unlink(path);
	}
	close(fd);
	return ret;
}

int dmm_rpc_new(struct dmm_rpc **out, sd_event *event, const char *path, gid_t gid,
		const struct dmm_rpc_method *methods, void *data,
		struct dmm_err *err)
{
	struct dmm_rpc *rpc;
	mode_t old;
	int ret;

	rpc = calloc(1, sizeof(*rpc));
	if (!rpc)
		return dmm_err_set(err, -ENOMEM, "out of memory");
	rpc->event = event;
	rpc->methods = methods;
	rpc->data = data;
	rpc->gid = gid;
	LIST_INIT(&rpc->clients);
	rpc->addr.sun_family = AF_UNIX;
	ret = dmm_rpc_claim(path, err);
	if (ret)
		goto err_free;
	strcpy(rpc->addr.sun_path, path);

	rpc->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (rpc->fd < 0) {
		ret = dmm_err_set(err, -errno, "socket: %m");
		goto err_free;
	}
	/* The group is set before the mode lets it in. */
	old = umask(0177);
	ret = bind(rpc->fd, (struct sockaddr *)&rpc->addr, sizeof(rpc->addr)) < 0 ?
	      -errno : 0;
	umask(old);
	if (ret) {
		dmm_err_set(err, ret, "cannot bind %s: %s", path, strerror(-ret));
		goto err_close;
	}
	if (chown(path, 0, gid) < 0 || chmod(path, 0660) < 0 ||
	    listen(rpc->fd, DMM_RPC_CLIENTS_MAX) < 0) {
		ret = dmm_err_set(err, -errno, "cannot listen on %s: %m", path);
		goto err_unlink;
	}
	ret = sd_event_add_io(event, &rpc->io, rpc->fd, EPOLLIN, on_accept, rpc);
	if (ret < 0) {
		dmm_err_set(err, ret, "event loop: %s", strerror(-ret));
		goto err_unlink;
	}
	*out = rpc;
	return 0;

err_unlink:
	unlink(path);
err_close:
	close(rpc->fd);
err_free:
	free(rpc);
	return ret;
}

void dmm_rpc_subscribe(struct dmm_rpc_call *call)
{
	if (call->client)
		call->client->subscribed = true;
}

unsigned int dmm_rpc_subscribers(const struct dmm_rpc *rpc)
{
	const struct client *c;
	unsigned int n = 0;

	LIST_FOREACH(c, &rpc->clients, entry)
		n += c->subscribed && !c->dead;
	return n;
}

void dmm_rpc_notify(struct dmm_rpc *rpc, const char *method, struct json_object *params)
{
	struct json_object *msg = json_object_new_object();
	struct client *c, *next;

	json_object_object_add(msg, "jsonrpc", json_object_new_string("2.0"));
	json_object_object_add(msg, "method", json_object_new_string(method));
	json_object_object_add(msg, "params", params);
	for (c = LIST_FIRST(&rpc->clients); c; c = next) {
		next = LIST_NEXT(c, entry);
		if (c->subscribed && !c->dead)
			client_send(c, json_object_get(msg));	/* may free it */
	}
	json_object_put(msg);
}

void dmm_rpc_flush(struct dmm_rpc *rpc)
{
	struct client *c;
	ssize_t n;

	LIST_FOREACH(c, &rpc->clients, entry) {
		struct pollfd p = { .fd = c->fd, .events = POLLOUT };

		while (c->out_off < c->out_len && poll(&p, 1, FLUSH_MS) == 1) {
			n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
			if (n < 0)
				break;
			c->out_off += n;
		}
	}
}

void dmm_rpc_free(struct dmm_rpc *rpc)
{
	struct client *c;

	if (!rpc)
		return;
	sd_event_source_disable_unref(rpc->io);
	close(rpc->fd);
	unlink(rpc->addr.sun_path);
	while ((c = LIST_FIRST(&rpc->clients)))
		client_free(c);
	free(rpc);
}
