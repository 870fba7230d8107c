// SPDX-License-Identifier: Apache-2.0
/*
 * uring_echo PORT: an echo server on io_uring alone: multishot accept, recv into
 * provided buffers, send; one of the latter two at a time for each connection, so
 * that nothing overtakes. Listens on [::]:PORT until it is killed.
 */
#include <arpa/inet.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFS	64
#define SIZE	16384

enum what { ACCEPT, RECV, SEND };

static struct io_uring ring;
static struct io_uring_buf_ring *bufs;
static char *mem;

static __u64 tag(enum what what, int fd, int buf)
{
	return (__u64)what << 56 | (__u64)buf << 32 | (__u32)fd;
}

static struct io_uring_sqe *sqe_get(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	return sqe;
}

static void arm_recv(int fd)
{
	struct io_uring_sqe *sqe = sqe_get();

	io_uring_prep_recv(sqe, fd, NULL, SIZE, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = 1;
	io_uring_sqe_set_data64(sqe, tag(RECV, fd, 0));
}

static void arm_accept(int fd)
{
	struct io_uring_sqe *sqe = sqe_get();

	io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, 0);
	io_uring_sqe_set_data64(sqe, tag(ACCEPT, fd, 0));
}

static void give_back(int buf)
{
	io_uring_buf_ring_add(bufs, mem + buf * SIZE, SIZE, buf,
			      io_uring_buf_ring_mask(BUFS), 0);
	io_uring_buf_ring_advance(bufs, 1);
}

static void on_recv(struct io_uring_cqe *cqe, int fd)
{
	struct io_uring_sqe *sqe;
	int buf = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

	if (cqe->res <= 0) {
		if (cqe->res == -ENOBUFS) {
			arm_recv(fd);
			return;
		}
		close(fd);
		return;
	}
	sqe = sqe_get();
	/* MSG_WAITALL: the kernel sends the rest of a short send by itself */
	io_uring_prep_send(sqe, fd, mem + buf * SIZE, cqe->res, MSG_WAITALL);
	io_uring_sqe_set_data64(sqe, tag(SEND, fd, buf));
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 me = { .sin6_family = AF_INET6 };
	struct io_uring_buf_reg reg = { .ring_entries = BUFS, .bgid = 1 };
	int l = socket(AF_INET6, SOCK_STREAM, 0), one = 1, i;
	struct io_uring_cqe *cqe;

	me.sin6_port = htons(argc == 2 ? atoi(argv[1]) : 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(l, (struct sockaddr *)&me, sizeof(me)) || listen(l, 128)) {
		perror("uring_echo");
		return 1;
	}
	if (io_uring_queue_init(256, &ring, 0)) {
		fprintf(stderr, "uring_echo: no io_uring\n");
		return 1;
	}
	bufs = aligned_alloc(4096, 4096);
	mem = malloc(BUFS * SIZE);
	reg.ring_addr = (unsigned long)bufs;
	memset(bufs, 0, 4096);
	if (io_uring_register_buf_ring(&ring, &reg, 0)) {
		fprintf(stderr, "uring_echo: no buffer rings\n");
		return 1;
	}
	io_uring_buf_ring_init(bufs);
	for (i = 0; i < BUFS; i++)
		give_back(i);
	arm_accept(l);
	puts("ready");
	fflush(stdout);

	while (io_uring_submit_and_wait(&ring, 1) >= 0) {
		while (!io_uring_peek_cqe(&ring, &cqe)) {
			int fd = (__u32)cqe->user_data;

			switch (cqe->user_data >> 56) {
			case ACCEPT:
				if (cqe->res >= 0)
					arm_recv(cqe->res);
				if (!(cqe->flags & IORING_CQE_F_MORE))
					arm_accept(fd);
				break;
			case RECV:
				on_recv(cqe, fd);
				break;
			case SEND:
				give_back(cqe->user_data >> 32 & 0xffff);
				if (cqe->res >= 0)
					arm_recv(fd);
				else
					close(fd);
				break;
			}
			io_uring_cqe_seen(&ring, cqe);
		}
	}
	return 1;
}
