// SPDX-License-Identifier: Apache-2.0
/*
 * Sockets that processes share. Before that can happen (fork(), exec(), SCM_RIGHTS) the
 * descriptor is replaced by one end of a socket pair, of which the worker gets the other:
 * the guard. However the last holder goes, the kernel then closes the file, and the
 * worker the connection. The file's inode is what the socket is known by in the family.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <dmm/client.h>

#include "shim.h"

struct batch {
	struct ctx *c;
	struct dmm_client_guard guards[DMM_CLIENT_GUARDS];
	int fds[DMM_CLIENT_GUARDS];
	int n;
};

/* Without the guard a holder that is killed would not be noticed; so be it then. */
static void batch_send(struct batch *b)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(b->fds))];
	} ctl;
	struct iovec iov = { .iov_base = b->guards, .iov_len = b->n * sizeof(b->guards[0]) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = CMSG_SPACE(b->n * sizeof(int)),
	};
	struct cmsghdr *cmsg = (struct cmsghdr *)&ctl;

	if (!b->n)
		return;
	memset(&ctl, 0, sizeof(ctl));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(b->n * sizeof(int));
	memcpy(CMSG_DATA(cmsg), b->fds, b->n * sizeof(int));
	if (real.sendmsg(b->c->sock, &msg, MSG_NOSIGNAL) < 0)
		note(-1, "a guard was not taken", NULL);
	while (b->n)
		real.close(b->fds[--b->n]);
}

static void batch_add(struct batch *b, struct vsock *v, int fd)
{
	if (b->n == DMM_CLIENT_GUARDS || (b->n && b->c != v->ctx))
		batch_send(b);
	b->c = v->ctx;
	b->guards[b->n].slot = v->slot;
	b->guards[b->n].gen = v->gen;
	b->fds[b->n++] = fd;
}

uint64_t file_ino(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

struct swap {
	struct vsock *v;
	int end;
};

static bool swap_one(int fd, struct vsock *v, void *arg)
{
	struct swap *s = arg;
	int cloexec;

	if (v != s->v)
		return true;
	cloexec = real.fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	real.dup3(s->end, fd, cloexec ? O_CLOEXEC : 0);
	return true;
}

/* @fd and all that means the same is replaced; the kernel's socket is put aside. */
static void guard_make(struct batch *b, int fd, struct vsock *v)
{
	struct swap swap = { .v = v };
	int pair[2], kfd, flags;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return;
	kfd = real.dup(fd);
	if (kfd < 0) {
		real.close(pair[0]);
		real.close(pair[1]);
		return;
	}
	kfd = fd_hide(kfd);
	/* who writes past us (a ring, static code) hears of it: nobody reads there */
	real.shutdown(pair[1], SHUT_RD);
	flags = real.fcntl(fd, F_GETFL, 0);
	real.fcntl(pair[0], F_SETFL, flags & O_NONBLOCK);
	store_relaxed(&v->s->ino, file_ino(pair[0]));
	store_release(&v->kfd, kfd);
	swap.end = pair[0];
	if (v->o.nfds > 1)
		fd_each(swap_one, &swap);
	else
		swap_one(fd, v, &swap);
	real.close(pair[0]);
	__atomic_fetch_or(&v->s->flags, SF_GUARDED, __ATOMIC_ACQ_REL);
	batch_add(b, v, pair[1]);
}

static bool guard_one(int fd, struct vsock *v, void *arg)
{
	uint32_t flags = load_relaxed(&v->s->flags);

	if (flags & SF_LISTEN)
		store_relaxed(&v->s->ino, file_ino(fd));
	else if (v->kfd < 0 && !(flags & SF_GUARDED))
		guard_make(arg, fd, v);
	return true;
}

void guard_all(void)
{
	struct batch b = { .n = 0 };
	int err = errno;

	fd_each(guard_one, &b);
	batch_send(&b);
	errno = err;
}

/* A child will have them all; whether there will be one, nobody can say yet. */
void guard_fork(void)
{
	unsigned int i;
	uint32_t slot;

	guard_all();
	for (i = 0; i < nctx; i++)
		for (slot = 0; slot < ctxs[i]->geo.nslots; slot++) {
			struct vsock *v = vsock_of(ctxs[i], slot);

			if (v)
				__atomic_add_fetch(&v->s->nprocs, 1, __ATOMIC_ACQ_REL);
		}
}

/* ---- descriptors that come from elsewhere --------------------------------------------- */

static struct vsock *find(uint64_t ino, bool *new)
{
	struct ctx *c;
	struct vsock *v;
	unsigned int i;
	uint32_t slot;

	*new = false;
	for (i = 0; i < nctx; i++) {
		c = ctxs[i];
		for (slot = 0; slot < c->sh->fresh; slot++) {
			if (load_relaxed(&c->socks[slot].ino) != ino ||
			    !load_relaxed(&c->socks[slot].gen))
				continue;
			v = vsock_of(c, slot);
			*new = !v;
			return v ? v : vsock_new(c, slot);
		}
	}
	return NULL;
}

/* Is this one of the family's? Then it is ours from now on. */
bool guard_adopt(int fd)
{
	uint64_t ino = file_ino(fd);
	struct vsock *v;
	int kfd;
	bool new;

	if (!ino || (unsigned int)fd >= FD_MAX || fd_obj(fd))
		return false;
	v = find(ino, &new);
	if (!v)
		return false;
	if (new) {
		__atomic_add_fetch(&v->s->nprocs, 1, __ATOMIC_ACQ_REL);
		/* who had the kernel's socket kept it: another answers for it here */
		kfd = v->s->flags & SF_LISTEN ? -1 :
		      real.socket(v->s->domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (kfd >= 0)
			v->kfd = fd_hide(kfd);
	}
	fd_flags[fd] = 0;
	fd_install(fd, &v->o);
	return true;
}

/* For each descriptor in a message. */
static int each_right(const struct msghdr *msg, int (*visit)(int fd, void *arg), void *arg)
{
	struct msghdr *m = (struct msghdr *)msg;
	struct cmsghdr *c;
	size_t i, n;
	int fd, ret;

	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		    c->cmsg_len < CMSG_LEN(0))
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(fd);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			ret = visit(fd, arg);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int received(int fd, void *arg)
{
	if ((unsigned int)fd < FD_MAX)
		fd_flags[fd] = 0;
	guard_adopt(fd);
	return 0;
}

void guard_received(const struct msghdr *msg)
{
	int err = errno;

	each_right(msg, received, NULL);
	errno = err;
}

/* Does whoever connected, or made, the other end belong to the family? */
static bool peer_is_family(struct ctx *c, int fd)
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	unsigned int i;

	if (real.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || !cred.pid)
		return false;
	if (cred.pid == getpid())
		return true;
	for (i = 0; i < PROCS; i++)
		if (c->sh->procs[i].pid == (uint32_t)cred.pid)
			return true;
	return false;
}

static int check_right(int fd, void *arg)
{
	struct vsock *v = fd_stream(fd);

	if (!v || peer_is_family(v->ctx, *(int *)arg))
		return 0;
	note(fd, "not passed", "the receiver is no relative of ours");
	return -EOPNOTSUPP;
}

static int pass_right(int fd, void *arg)
{
	struct vsock *v = fd_stream(fd);

	if (!v)
		return 0;
	guard_one(fd, v, arg);
	__atomic_fetch_or(&v->s->flags, SF_PASSED, __ATOMIC_ACQ_REL);
	return 0;
}

/**
 * guard_passed() - a message with descriptors is about to be sent
 * @fd: where to
 * @msg: the message
 *
 * Return: 0; -EOPNOTSUPP: one of ours, to a stranger who could not use it.
 */
int guard_passed(int fd, const struct msghdr *msg)
{
	struct batch b = { .n = 0 };
	int ret;

	ret = each_right(msg, check_right, &fd);
	if (ret)
		return ret;
	each_right(msg, pass_right, &b);
	batch_send(&b);
	return 0;
}
