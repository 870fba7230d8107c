// SPDX-License-Identifier: Apache-2.0
/*
 * exec(): what a new program inherits is told to its shim by a memfd, which an
 * environment variable names: the contexts' descriptors and the list of sockets. Which of
 * them it has is found out by the inodes of its descriptors.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim.h"

#define EXEC_MAGIC	0x45444d44U
#define CTX_FDS		5

struct rec_head {
	uint32_t magic;
	uint32_t nctx;
	uint32_t nsocks;
};

struct rec_ctx {
	int32_t fd[CTX_FDS];	/* state, arena, sock, bell, event */
};

struct rec_sock {
	uint32_t ctx, slot, gen;
	int32_t kfd;
};

static void ctx_fds(const struct ctx *c, int32_t fd[CTX_FDS])
{
	fd[0] = c->state_fd;
	fd[1] = c->arena_fd;
	fd[2] = c->sock;
	fd[3] = c->bell;
	fd[4] = c->event_fd;
}

static void cloexec(int fd, bool on)
{
	if (fd >= 0)
		real.fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

static void all_cloexec(bool on)
{
	int32_t fd[CTX_FDS];
	unsigned int i, k;
	uint32_t slot;

	for (i = 0; i < nctx; i++) {
		ctx_fds(ctxs[i], fd);
		for (k = 0; k < CTX_FDS; k++)
			cloexec(fd[k], on);
		for (slot = 0; slot < ctxs[i]->sh->fresh; slot++) {
			struct vsock *v = vsock_of(ctxs[i], slot);

			if (v)
				cloexec(v->kfd, on);
		}
	}
}

/* Would any of ours be inherited? */
static bool inherits_one(int fd, struct vsock *v, void *arg)
{
	bool *any = arg;

	*any = *any || !(real.fcntl(fd, F_GETFD, 0) & FD_CLOEXEC);
	return !*any;
}

static bool record(int fd, bool spawn)
{
	struct rec_head head = { .magic = EXEC_MAGIC, .nctx = nctx };
	struct rec_sock sock;
	struct rec_ctx rc;
	unsigned int i;
	uint32_t slot;
	bool ok;

	ok = lseek(fd, sizeof(head), SEEK_SET) >= 0;
	for (i = 0; ok && i < nctx; i++) {
		ctx_fds(ctxs[i], rc.fd);
		ok = real.write(fd, &rc, sizeof(rc)) == sizeof(rc);
	}
	for (i = 0; ok && i < nctx; i++)
		for (slot = 0; ok && slot < ctxs[i]->sh->fresh; slot++) {
			struct vsock *v = vsock_of(ctxs[i], slot);

			if (!v)
				continue;
			sock = (struct rec_sock) {
				.ctx = i, .slot = slot, .gen = v->gen, .kfd = v->kfd,
			};
			ok = real.write(fd, &sock, sizeof(sock)) == sizeof(sock);
			head.nsocks++;
			if (spawn)
				__atomic_add_fetch(&v->s->nprocs, 1, __ATOMIC_ACQ_REL);
		}
	return ok && pwrite(fd, &head, sizeof(head), 0) == sizeof(head);
}

/* The environment with our variable in it; a copy of the pointers. */
static char **environment(char *const *envp, int fd)
{
	static const char name[] = HANDOVER_ENV "=";
	size_t n = 0, k = 0;
	char **copy;

	while (envp && envp[n])
		n++;
	copy = malloc((n + 2) * sizeof(*copy) + 64);
	if (!copy)
		return NULL;
	for (n = 0; envp && envp[n]; n++)
		if (strncmp(envp[n], name, sizeof(name) - 1))
			copy[k++] = envp[n];
	copy[k] = (char *)(copy + n + 2);
	snprintf(copy[k++], 64, "%s%d", name, fd);
	copy[k] = NULL;
	return copy;
}

/**
 * handover_begin() - before an exec() or posix_spawn()
 * @h: for handover_end(), should the caller still be there
 * @envp: the environment given
 * @spawn: the new program is another process
 * @dups: it may get a duplicate of what is close-on-exec
 *
 * Return: whether anything is handed over; then @h->envp is the environment to give.
 */
bool handover_begin(struct handover *h, char *const *envp, bool spawn, bool dups)
{
	bool any = dups;
	int err = errno, fd;

	h->envp = NULL;
	if (likely(!load_relaxed(&nctx)) || fd_is_strange() ||
	    !fd_each(inherits_one, &any) || !any)
		return false;
	guard_all();
	fd = memfd_create("dmm-shim-exec", 0);
	if (fd >= 0 && record(fd, spawn))
		h->envp = environment(envp, fd);
	h->fd = fd;
	if (h->envp)
		all_cloexec(false);
	else if (fd >= 0)
		real.close(fd);
	errno = err;
	return h->envp;
}

void handover_end(struct handover *h)
{
	int err = errno;

	all_cloexec(true);
	real.close(h->fd);
	free(h->envp);
	errno = err;
}

/* ---- the other side ------------------------------------------------------------------- */

static void adopt_numbers(void)
{
	struct dirent *d;
	DIR *dir = opendir("/proc/self/fd");
	int fds[1024], n = 0, i;

	while (dir && n < 1024 && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			fds[n++] = atoi(d->d_name);
	if (dir)
		closedir(dir);
	for (i = 0; i < n; i++)
		if (fds[i] < FD_MAX && !(fd_flags[fds[i]] & FD_INTERNAL))
			guard_adopt(fds[i]);
}

/*
 * A socket that was on the list has been counted for this program. One that it has not
 * is let go; one that it has was counted once more when it was found.
 */
static void settle(const struct rec_sock *r)
{
	struct ctx *c = r->ctx < nctx ? ctxs[r->ctx] : NULL;
	struct vsock *v;

	if (r->kfd >= 0) {
		cloexec(r->kfd, true);
		if (r->kfd < FD_MAX)
			fd_flags[r->kfd] = FD_INTERNAL;
	}
	if (!c || r->slot >= c->geo.nslots || c->socks[r->slot].gen != r->gen)
		return;
	v = vsock_of(c, r->slot);
	if (v) {
		__atomic_sub_fetch(&v->s->nprocs, 1, __ATOMIC_ACQ_REL);
		if (r->kfd >= 0) {
			if (v->kfd >= 0) {
				fd_unhide(v->kfd);
				real.close(v->kfd);
			}
			v->kfd = r->kfd;
		}
		return;
	}
	v = vsock_new(c, r->slot);
	if (v) {
		v->kfd = r->kfd;
		sock_unuser(v);
	}
}

/* At the start of a program: what was left to it? */
void handover_take(void)
{
	const char *name = getenv(HANDOVER_ENV);
	struct rec_head head;
	struct rec_sock *socks;
	struct rec_ctx rc;
	uint32_t i;
	int fd;

	if (!name)
		return;
	fd = atoi(name);
	unsetenv(HANDOVER_ENV);
	/* a number that another program's descriptor may have by now */
	if (real.fcntl(fd, F_GET_SEALS, 0) < 0 ||
	    pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    head.magic != EXEC_MAGIC || head.nctx > CTX_MAX)
		return;
	for (i = 0; i < head.nctx; i++) {
		if (pread(fd, &rc, sizeof(rc), sizeof(head) + i * sizeof(rc)) !=
			    sizeof(rc) ||
		    !ctx_adopt(rc.fd[0], rc.fd[1], rc.fd[2], rc.fd[3], rc.fd[4]))
			goto out;
	}
	adopt_numbers();
	socks = calloc(head.nsocks, sizeof(*socks));
	if (socks && pread(fd, socks, head.nsocks * sizeof(*socks),
			   sizeof(head) + head.nctx * sizeof(rc)) ==
			     (ssize_t)(head.nsocks * sizeof(*socks)))
		for (i = 0; i < head.nsocks; i++)
			settle(&socks[i]);
	free(socks);
out:
	real.close(fd);
}
