// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "raw.h"

#define NFDS	3

static int hello_receive(int sock, int fds[NFDS])
{
	struct dmm_client_hello hello;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(NFDS * sizeof(int))];
	} ctl;
	struct iovec iov = { &hello, sizeof(hello) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
	};
	struct cmsghdr *cmsg;

	if (recvmsg(sock, &msg, 0) != sizeof(hello))
		return -EPROTO;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg)
		return hello.flags & DMM_CLIENT_F_QUOTA ? -EDQUOT : -EPROTO;
	memcpy(fds, CMSG_DATA(cmsg), NFDS * sizeof(int));
	return 0;
}

int raw_open(struct raw *raw, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fds[NFDS], ret;
	char *base;

	strcpy(sun.sun_path, path);
	raw->sock = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	if (connect(raw->sock, (struct sockaddr *)&sun, sizeof(sun)))
		ret = -errno;
	else
		ret = hello_receive(raw->sock, fds);
	if (ret) {
		close(raw->sock);
		return ret;
	}
	raw->len = lseek(fds[0], 0, SEEK_END);
	base = mmap(NULL, raw->len, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	if (base == MAP_FAILED)
		return -errno;
	/* the arena cannot be cut off under the worker */
	if (!ftruncate(fds[0], 4096))
		return -EPERM;
	close(fds[0]);
	raw->bell = fds[1];
	raw->event_fd = fds[2];
	raw->hdr = (struct dmm_arena_hdr *)base;
	raw->ops = (struct dmm_op *)(base + DMM_ARENA_OPS_OFF);
	raw->slots = (struct dmm_slot *)(base + dmm_arena_slots_off(raw->hdr));
	raw->prod = 0;
	return 0;
}

void raw_close(struct raw *raw)
{
	munmap(raw->hdr, raw->len);
	close(raw->bell);
	close(raw->event_fd);
	close(raw->sock);
}

void raw_ring(struct raw *raw)
{
	uint64_t one = 1;

	if (write(raw->bell, &one, sizeof(one)) < 0)
		abort();
}

void raw_put(struct raw *raw, const struct dmm_op *op)
{
	raw->ops[raw->prod & (raw->hdr->nops - 1)] = *op;
	__atomic_store_n(&raw->hdr->op_prod, ++raw->prod, __ATOMIC_RELEASE);
}

void raw_op(struct raw *raw, const struct dmm_op *op)
{
	raw_put(raw, op);
	raw_ring(raw);
}

int raw_settle(struct raw *raw)
{
	int i;

	for (i = 0; i < 5000; i++) {
		if (__atomic_load_n(&raw->hdr->op_cons, __ATOMIC_ACQUIRE) ==
		    raw->prod)
			return 0;
		usleep(1000);
	}
	return -ETIMEDOUT;
}

bool raw_hung_up(struct raw *raw)
{
	struct pollfd pfd = { .fd = raw->sock, .events = POLLIN };

	return poll(&pfd, 1, 5000) == 1 && pfd.revents & POLLHUP;
}

int raw_guards(struct raw *raw, uint32_t slot, const int *fds, int n)
{
	struct dmm_client_guard guards[DMM_CLIENT_GUARDS];
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(DMM_CLIENT_GUARDS * sizeof(int))];
	} ctl = { 0 };
	struct iovec iov = { guards, n * sizeof(guards[0]) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)),
	};
	int i;

	for (i = 0; i < n; i++)
		guards[i] = (struct dmm_client_guard) { slot + i, 1 };
	ctl.align = (struct cmsghdr) {
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(n * sizeof(int)),
	};
	memcpy(CMSG_DATA(&ctl.align), fds, n * sizeof(int));
	return sendmsg(raw->sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

struct dmm_op raw_connect(const struct rig *rig, uint32_t slot, uint16_t port)
{
	return (struct dmm_op) {
		.op = DMM_OP_CONNECT,
		.slot = slot,
		.gen = 1,
		.connect = {
			.family = AF_INET,
			.sport = __builtin_bswap16(30000 + slot),
			.dport = __builtin_bswap16(port),
			.ifindex = rig->ifindex,
			.saddr = { rig_addr(RIG_SADDR) },
			.daddr = { rig_addr(RIG_DADDR) },
		},
	};
}
