// SPDX-License-Identifier: Apache-2.0
/*
 * fetch ADDR PORT adopted|native BYTES: get BYTES from peer, check each, and that
 * the socket was what was expected. Says what went wrong, and how far it came.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "stream.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct stream_request req = {
		.magic = STREAM_MAGIC,
		.what = STREAM_DOWN,
		.seed = 42,
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0), err;
	socklen_t len = 16;
	char ulp[16] = "";

	if (argc != 5 || !inet_aton(argv[1], &to.sin_addr)) {
		fprintf(stderr, "usage: fetch ADDR PORT adopted|native BYTES\n");
		return 2;
	}
	to.sin_port = htons(atoi(argv[2]));
	req.size = strtoull(argv[4], NULL, 10);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		perror("fetch: connect");
		return 1;
	}
	getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len);
	if (!strcmp(ulp, "dmm") != !strcmp(argv[3], "adopted")) {
		fprintf(stderr, "fetch: the socket is not %s\n", argv[3]);
		return 1;
	}
	err = stream_write(fd, &req, sizeof(req));
	if (!err)
		err = stream_check(fd, req.size, req.seed);
	if (err) {
		fprintf(stderr, "fetch: %s\n", strerror(-err));
		return 1;
	}
	return 0;
}
