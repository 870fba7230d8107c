// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <dmm/chan.h>
#include <dmm/client.h>

#define NFDS	3

/* @bell: eventfd toward the stack; @event_fd: eventfd toward us */
struct dmm_client {
	int sock;
	int bell;
	int event_fd;
	struct dmm_chan *chan;
};

static int sock_connect(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, ret;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* Receive the hello and exactly NFDS descriptors, which are then ours. */
static int hello_receive(int sock, int fds[NFDS])
{
	struct dmm_client_hello hello = { 0 };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(NFDS * sizeof(int))];
	} ctl;
	struct iovec iov = { .iov_base = &hello, .iov_len = sizeof(hello) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
	};
	struct cmsghdr *cmsg;
	ssize_t len;
	int n = 0;

	len = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	if (len < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET &&
	    cmsg->cmsg_type == SCM_RIGHTS) {
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(cmsg), n * sizeof(int));
	}
	if (n == NFDS && len == sizeof(hello) && hello.size == sizeof(hello) &&
	    hello.version == DMM_ABI_VERSION &&
	    !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return 0;
	if (!n && len == sizeof(hello) && hello.flags & DMM_CLIENT_F_QUOTA)
		return -EDQUOT;
	while (n)
		close(fds[--n]);
	return -EPROTO;
}

int dmm_client_open(struct dmm_client **clientp, const char *path)
{
	struct dmm_client *client;
	int fds[NFDS];
	int ret;

	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	ret = sock_connect(path);
	if (ret < 0)
		goto err_client;
	client->sock = ret;
	ret = hello_receive(client->sock, fds);
	if (ret)
		goto err_sock;
	ret = dmm_chan_map(&client->chan, fds[0]);
	close(fds[0]);
	client->bell = fds[1];
	client->event_fd = fds[2];
	if (ret)
		goto err_fds;
	*clientp = client;
	return 0;

err_fds:
	close(client->event_fd);
	close(client->bell);
err_sock:
	close(client->sock);
err_client:
	free(client);
	return ret;
}

void dmm_client_close(struct dmm_client *client)
{
	if (!client)
		return;
	dmm_chan_destroy(client->chan);
	close(client->event_fd);
	close(client->bell);
	close(client->sock);
	free(client);
}

struct dmm_chan *dmm_client_chan(struct dmm_client *client)
{
	return client->chan;
}

int dmm_client_sock(const struct dmm_client *client)
{
	return client->sock;
}

int dmm_client_event_fd(const struct dmm_client *client)
{
	return client->event_fd;
}

void dmm_client_submit(struct dmm_client *client)
{
	uint64_t one = 1;

	if (dmm_chan_op_flush(client->chan) &&
	    write(client->bell, &one, sizeof(one)) < 0) {
		/* EAGAIN: the counter is full, so the stack is awake */
	}
}
