// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

#define ANSWER_MAX (64 << 20)

static int client_connect(const char *path, struct dmm_err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *hint = "";
	int fd, ret;

	if (strlen(path) >= sizeof(addr.sun_path))
		return dmm_err_set(err, -ENAMETOOLONG, "socket %.32s...: the path is too long",
				   path);
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return dmm_err_set(err, -errno, "socket: %m");
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	ret = -errno;
	close(fd);
	if (ret == -ENOENT || ret == -ECONNREFUSED)
		hint = "; is dmmd running?";
	else if (ret == -EACCES || ret == -EPERM)
		hint = "; it takes root or group dmm";
	return dmm_err_set(err, ret, "cannot reach dmmd at %s: %s%s", path, strerror(-ret),
			   hint);
}

static int send_all(int fd, const char *s, size_t len)
{
	ssize_t n;

	while (len) {
		n = send(fd, s, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		s += n;
		len -= n;
	}
	return 0;
}

/* One line, allocated, without its end. */
static char *read_line(int fd)
{
	size_t len = 0, size = 0;
	char *buf = NULL, *more, *nl = NULL;
	ssize_t n;

	while (!nl) {
		if (len + 1 >= size) {
			size = size ? size * 2 : 4096;
			more = size <= ANSWER_MAX ? realloc(buf, size) : NULL;
			if (!more)
				break;
			buf = more;
		}
		n = recv(fd, buf + len, size - len - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		nl = memchr(buf + len, '\n', n);
		len += n;
	}
	if (!nl) {
		free(buf);
		return NULL;
	}
	*nl = 0;
	return buf;
}

/* The answer's result, or its error. */
static int answer_parse(const char *line, struct json_object **result,
			struct dmm_err *err)
{
	struct json_object *answer, *e, *msg, *data, *where;
	int ret = 0;

	answer = json_tokener_parse(line);
	if (json_object_object_get_ex(answer, "error", &e) &&
	    json_object_object_get_ex(e, "message", &msg)) {
		ret = dmm_err_set(err, -EREMOTEIO, "%s", json_object_get_string(msg));
		if (json_object_object_get_ex(e, "data", &data) &&
		    json_object_object_get_ex(data, "where", &where))
			dmm_err_within(err, "%s", json_object_get_string(where));
	} else if (json_object_object_get_ex(answer, "result", result))
		json_object_get(*result);
	else
		ret = dmm_err_set(err, -EBADMSG, "dmmd's answer is not JSON-RPC");
	json_object_put(answer);
	return ret;
}

/* @params is consumed. */
static int request_send(int fd, const char *method, struct json_object *params)
{
	struct json_object *req = json_object_new_object();
	const char *text;
	int ret;

	json_object_object_add(req, "jsonrpc", json_object_new_string("2.0"));
	json_object_object_add(req, "id", json_object_new_int(1));
	json_object_object_add(req, "method", json_object_new_string(method));
	if (params)
		json_object_object_add(req, "params", params);
	text = json_object_to_json_string_ext(req, JSON_C_TO_STRING_PLAIN);
	ret = send_all(fd, text, strlen(text));
	if (!ret)
		ret = send_all(fd, "\n", 1);
	json_object_put(req);
	return ret;
}

int dmm_client_call(const char *path, const char *method, struct json_object *params,
		    struct json_object **result, struct dmm_err *err)
{
	char *line;
	int fd, ret;

	fd = client_connect(path, err);
	if (fd < 0) {
		json_object_put(params);
		return fd;
	}
	ret = request_send(fd, method, params);
	/* A daemon that refuses says why before it closes. */
	line = read_line(fd);
	close(fd);
	if (line)
		ret = answer_parse(line, result, err);
	else
		ret = dmm_err_set(err, ret ? ret : -ECONNRESET,
				  "dmmd at %s closed the connection without an answer",
				  path);
	free(line);
	return ret;
}

int dmm_client_listen(const char *path, const char *method,
		      bool (*fn)(void *data, struct json_object *params), void *data,
		      struct dmm_err *err)
{
	struct json_object *msg, *params, *result;
	char *line = NULL;
	size_t size = 0;
	bool more = true;
	int fd, ret;
	FILE *f;

	fd = client_connect(path, err);
	if (fd < 0)
		return fd;
	request_send(fd, method, NULL);
	f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		return dmm_err_set(err, -ENOMEM, "out of memory");
	}
	ret = dmm_err_set(err, -ECONNRESET, "dmmd at %s closed the connection", path);
	if (getline(&line, &size, f) > 0) {
		if (answer_parse(line, &result, err)) {
			ret = err->code;
			goto out;
		}
		json_object_put(result);
	}
	while (more && getline(&line, &size, f) > 0) {
		msg = json_tokener_parse(line);
		if (json_object_object_get_ex(msg, "params", &params))
			more = fn(data, params);
		json_object_put(msg);
	}
	if (!more)
		ret = 0;
out:
	free(line);
	fclose(f);
	return ret;
}
