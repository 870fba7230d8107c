// SPDX-License-Identifier: Apache-2.0
/*
 * The doorbell toward a process is an eventfd that the process has as well, with its
 * flags: it can clear O_NONBLOCK and fill the counter, and a write() would wait. The
 * kernel itself adds to an eventfd without ever waiting, on behalf of an asynchronous
 * request that is done; so we ask for one that always is: whether an eventfd of ours
 * can be written to.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "private.h"

#define REQUESTS	64

/* What io_setup() maps: fs/aio.c, and libaio, liburing's kin and fio rely on it. */
struct aio_ring {
	uint32_t id;
	uint32_t nr;
	uint32_t head;
	uint32_t tail;
};

int bells_create(struct dmm_worker *w, char *err, size_t err_len)
{
	aio_context_t ctx = 0;

	if (syscall(SYS_io_setup, REQUESTS, &ctx))
		return fail(err, err_len, -errno,
			    "cannot set asynchronous I/O up for doorbells: %s; see fs.aio-max-nr of sysctl(8)",
			    strerror(errno));
	w->aio = (struct aio_ring *)ctx;
	return 0;
}

void bells_destroy(struct dmm_worker *w)
{
	if (w->aio)
		syscall(SYS_io_destroy, (aio_context_t)w->aio);
	w->aio = NULL;
}

int bell_ring(struct dmm_worker *w, int fd)
{
	struct iocb request = {
		.aio_lio_opcode = IOCB_CMD_POLL,
		.aio_fildes = w->stop_fd,
		.aio_buf = POLLOUT,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = fd,
	};
	struct iocb *requests[] = { &request };

	/* nobody wants the results: they are taken unseen */
	__atomic_store_n(&w->aio->head,
			 __atomic_load_n(&w->aio->tail, __ATOMIC_ACQUIRE),
			 __ATOMIC_RELEASE);
	return syscall(SYS_io_submit, (aio_context_t)w->aio, 1, requests) == 1 ?
	       0 : -errno;
}
