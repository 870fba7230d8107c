// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket against clients that do not know, or do not want to know,
 * how to behave. After each of them dmmd still serves the next.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"

#define MS 5000

FIXTURE(socket)
{
	struct env e;
	int fd;
};

FIXTURE_SETUP(socket)
{
	ASSERT_EQ(0, env_enter(&self->e));
	ASSERT_EQ(0, dmmd_start(&self->e));
	self->fd = rpc_connect(&self->e);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(socket)
{
	EXPECT_EQ(0, ctl(&self->e, "status"));
	close(self->fd);
	env_leave(&self->e);
}

static bool put(int fd, const char *s)
{
	size_t len = strlen(s);

	return send(fd, s, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* The answer's error code, 0 for a result, 1 for no answer. */
static int code_of(int fd)
{
	struct json_object *o, *e, *c;
	char *line = rpc_line(fd, MS);
	int code = 0;

	if (!line)
		return 1;
	o = json_tokener_parse(line);
	if (json_object_object_get_ex(o, "error", &e) &&
	    json_object_object_get_ex(e, "code", &c))
		code = json_object_get_int(c);
	json_object_put(o);
	free(line);
	return code;
}

static bool closed(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) <= 0;
}

TEST_F(socket, not_json_closes)
{
	ASSERT_TRUE(put(self->fd, "GET / HTTP/1.1\r\n\r\n"));
	EXPECT_EQ(-32700, code_of(self->fd));
	EXPECT_TRUE(closed(self->fd));
}

TEST_F(socket, binary_closes)
{
	char junk[4096];
	size_t i;

	srand(1);
	for (i = 0; i < sizeof(junk); i++)
		junk[i] = rand();
	junk[100] = '\n';
	ASSERT_EQ((ssize_t)sizeof(junk), send(self->fd, junk, sizeof(junk), MSG_NOSIGNAL));
	EXPECT_EQ(-32700, code_of(self->fd));
	EXPECT_TRUE(closed(self->fd));
}

TEST_F(socket, half_json_closes)
{
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\n"));
	EXPECT_EQ(-32700, code_of(self->fd));
	EXPECT_TRUE(closed(self->fd));
}

TEST_F(socket, too_deep_closes)
{
	char deep[2001];

	memset(deep, '[', 2000);
	deep[2000] = 0;
	ASSERT_TRUE(put(self->fd, deep));
	ASSERT_TRUE(put(self->fd, "\n"));
	EXPECT_EQ(-32700, code_of(self->fd));
	EXPECT_TRUE(closed(self->fd));
}

TEST_F(socket, endless_line_closes)
{
	char block[8192];
	int i;

	memset(block, 'x', sizeof(block));
	for (i = 0; i < 33; i++)		/* 256 KiB and one more */
		if (send(self->fd, block, sizeof(block), MSG_NOSIGNAL) < 0)
			break;
	EXPECT_EQ(-32600, code_of(self->fd));
	EXPECT_TRUE(closed(self->fd));
}

TEST_F(socket, not_a_request)
{
	static const char * const lines[] = {
		"17\n", "\"status\"\n", "null\n", "[]\n",
		"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}]\n",
		"{}\n", "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"status\"}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":1}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"status\"}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"status\"}\n",
	};
	size_t i;

	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		ASSERT_TRUE(put(self->fd, lines[i]));
		EXPECT_EQ(-32600, code_of(self->fd)) TH_LOG("%s", lines[i]);
	}
	/* The connection lives. */
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n"));
	EXPECT_EQ(0, code_of(self->fd));
}

TEST_F(socket, unknown_method_and_params)
{
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stack.fly\"}\n"));
	EXPECT_EQ(-32601, code_of(self->fd));
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\","
			"\"params\":{\"x\":1}}\n"));
	EXPECT_EQ(-32602, code_of(self->fd));
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rule.add\","
			"\"params\":[1,2]}\n"));
	EXPECT_EQ(-32602, code_of(self->fd));
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rule.add\","
			"\"params\":{\"stack\":\"kernel\",\"match\":{\"dport\":{}}}}\n"));
	EXPECT_EQ(-32602, code_of(self->fd));
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rule.add\","
			"\"params\":{\"stack\":\"kernel\",\"match\":[]}}\n"));
	EXPECT_EQ(-32602, code_of(self->fd));
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stack.show\","
			"\"params\":{\"name\":\"a\\u0000b\"}}\n"));
	EXPECT_EQ(-32602, code_of(self->fd));
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stack.show\","
			"\"params\":{\"name\":\"none\"}}\n"));
	EXPECT_EQ(-32000, code_of(self->fd));
}

TEST_F(socket, numbers_as_well_as_strings)
{
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"rule.add\","
			"\"params\":{\"stack\":\"kernel\",\"match\":{\"dport\":80}}}\n"));
	EXPECT_EQ(0, code_of(self->fd));
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"rule.del\","
			"\"params\":{\"id\":1}}\n"));
	EXPECT_EQ(0, code_of(self->fd));
}

TEST_F(socket, ids_come_back_and_notifications_do_not)
{
	char *line;

	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"method\":\"status\"}\n"
			"{\"jsonrpc\":\"2.0\",\"method\":\"no.such\"}\n"
			"\n"
			"{\"jsonrpc\":\"2.0\",\"id\":\"x y\",\"method\":\"status\"}\n"
			"{\"jsonrpc\":\"2.0\",\"id\":-7,\"method\":\"status\"}\n"
			"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"status\"}\n"));
	line = rpc_line(self->fd, MS);
	ASSERT_NE(NULL, line);
	EXPECT_NE(NULL, strstr(line, "\"id\":\"x y\""));
	free(line);
	line = rpc_line(self->fd, MS);
	ASSERT_NE(NULL, line);
	EXPECT_NE(NULL, strstr(line, "\"id\":-7"));
	free(line);
	line = rpc_line(self->fd, MS);
	ASSERT_NE(NULL, line);
	EXPECT_NE(NULL, strstr(line, "\"id\":null"));
	free(line);
}

TEST_F(socket, a_request_in_pieces)
{
	const char *s = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n";

	for (; *s; s++)
		ASSERT_EQ(1, send(self->fd, s, 1, MSG_NOSIGNAL));
	EXPECT_EQ(0, code_of(self->fd));
}

TEST_F(socket, answered_after_half_close)
{
	ASSERT_TRUE(put(self->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stack.add\","
			"\"params\":{\"name\":\"a\",\"type\":\"fake\",\"dev\":\"lo\"}}\n"));
	ASSERT_EQ(0, shutdown(self->fd, SHUT_WR));
	EXPECT_EQ(0, code_of(self->fd));
	EXPECT_TRUE(closed(self->fd));
}

/* More than may be unanswered, all sent at once; each is answered once. */
TEST_F(socket, pipelined)
{
	int i, ok = 0;

	for (i = 0; i < 300; i++)
		ASSERT_TRUE(put(self->fd,
				"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats\"}\n"));
	for (i = 0; i < 300; i++)
		ok += !code_of(self->fd);
	EXPECT_EQ(300, ok);
}

/* Answers that must wait, more of them than may. */
TEST_F(socket, pipelined_behind_slow_ones)
{
	int i, ok = 0;

	ASSERT_EQ(0, ctl(&self->e, "stack", "add", "stuck", "type=fake", "dev=lo"));
	for (i = 0; i < 40; i++)
		ASSERT_TRUE(put(self->fd,
				"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats\"}\n"));
	EXPECT_EQ(0, ctl(&self->e, "status"));
	for (i = 0; i < 40; i++)
		ok += !code_of(self->fd);
	EXPECT_EQ(40, ok);
}

/* A client that goes while its answer is being made. */
TEST_F(socket, gone_before_the_answer)
{
	int fd, i;

	ASSERT_EQ(0, ctl(&self->e, "stack", "add", "stuck", "type=fake", "dev=lo"));
	for (i = 0; i < 20; i++) {
		fd = rpc_connect(&self->e);
		ASSERT_LE(0, fd);
		ASSERT_TRUE(put(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats\"}\n"));
		close(fd);
	}
	usleep(1200 * 1000);	/* past the time that a worker is given */
	EXPECT_EQ(0, ctl(&self->e, "stack", "list"));
}

/* A client that never reads costs a bounded buffer, and nobody else anything. */
TEST_F(socket, never_reads)
{
	const char *s = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rule.list\"}\n";
	int i;

	for (i = 0; i < 50; i++)
		ASSERT_EQ(0, ctl(&self->e, "rule", "add", "dport", "80", "stack", "kernel"));
	for (i = 0; i < 20000; i++)
		if (!put(self->fd, s))
			break;
	EXPECT_LT(i, 20000) TH_LOG("it was never closed");
}

TEST_F(socket, many_clients)
{
	const char *s = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n";
	int fds[80], i, served = 0;

	for (i = 0; i < 80; i++) {
		fds[i] = rpc_connect(&self->e);
		ASSERT_LE(0, fds[i]);
		put(fds[i], s);
	}
	for (i = 0; i < 80; i++)
		served += !code_of(fds[i]);
	EXPECT_EQ(63, served);	/* and the one of the fixture */
	for (i = 0; i < 80; i++)
		close(fds[i]);
	EXPECT_TRUE(wait_for(MS, !ctl(&self->e, "status")));
}

TEST_F(socket, files_have_the_right_modes)
{
	struct stat st;

	ASSERT_EQ(0, stat(self->e.socket, &st));
	EXPECT_EQ(0660, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);
	ASSERT_EQ(0, stat(self->e.run, &st));
	EXPECT_EQ(0750, st.st_mode & 07777);
	ASSERT_EQ(0, ctl(&self->e, "rule", "add", "dport", "80", "stack", "kernel"));
	ASSERT_EQ(0, stat(self->e.state, &st));
	EXPECT_EQ(0600, st.st_mode & 07777);
}

TEST_HARNESS_MAIN
