// SPDX-License-Identifier: Apache-2.0
/*
 * Gives out sockets of its own netns and cgroup: sock_peer PATH. A request on the
 * AF_UNIX socket PATH is what socket() takes; the answer is 0 with the socket, or
 * an errno. Whoever asked then is the peer, as far as the kernel knows. Prints
 * "ready" when it listens.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sock_peer.h"

static void answer(int to)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct peer_request req;
	struct cmsghdr *c;
	int err = 0, fd;
	struct iovec iov = { &err, sizeof(err) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	while (recv(to, &req, sizeof(req), 0) == sizeof(req)) {
		fd = socket(req.domain, req.type, req.proto);
		err = fd < 0 ? errno : 0;
		msg.msg_control = fd < 0 ? NULL : room;
		msg.msg_controllen = fd < 0 ? 0 : sizeof(room);
		if (fd >= 0) {
			c = CMSG_FIRSTHDR(&msg);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		}
		if (sendmsg(to, &msg, MSG_NOSIGNAL) < 0)
			perror("sock_peer: sendmsg");
		if (fd >= 0)
			close(fd);
		/* From now on nobody but the asker holds it. */
		send(to, &err, sizeof(err), MSG_NOSIGNAL);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un me = { .sun_family = AF_UNIX };
	int l = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fd;

	if (argc != 2 || strlen(argv[1]) >= sizeof(me.sun_path)) {
		fprintf(stderr, "usage: sock_peer PATH\n");
		return 2;
	}
	strcpy(me.sun_path, argv[1]);
	if (bind(l, (struct sockaddr *)&me, sizeof(me)) || listen(l, 64)) {
		perror("sock_peer");
		return 1;
	}
	signal(SIGCHLD, SIG_IGN);	/* no zombies */
	puts("ready");
	fflush(stdout);
	/* A test asks and goes; a forked child of it may hold on: so one each. */
	while ((fd = accept4(l, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		switch (fork()) {
		case 0:
			close(l);
			answer(fd);
			return 0;
		case -1:
			perror("sock_peer: fork");
		}
		close(fd);
	}
	perror("sock_peer: accept");
	return 1;
}
