// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors: which number is whose, and what libc's calls on numbers do to that.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

#define HIDE_MIN	200	/* our own descriptors stay out of the way */

struct obj *fd_tab[FD_MAX];
uint16_t fd_flags[FD_MAX];
uint32_t fd_forks;
static struct lock fd_lock;
static int fd_top;		/* above all of ours */
static pid_t fd_pid;		/* whose memory this is */

/* ---- the shim's own ------------------------------------------------------------ */

static int hide_base(void)
{
	struct rlimit lim = { .rlim_cur = 1024 };

	getrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_cur > 8192)
		return 4096;
	return lim.rlim_cur > 2 * HIDE_MIN ? (int)lim.rlim_cur / 2 : HIDE_MIN / 2;
}

/* Move a descriptor out of the program's way; it closes it in no way. */
int fd_hide(int fd)
{
	int high, err = errno;

	high = real.fcntl(fd, F_DUPFD_CLOEXEC, hide_base());
	if (high >= 0)
		real.close(fd);
	else
		high = fd;
	if (high < FD_MAX)
		fd_flags[high] = FD_INTERNAL;
	errno = err;
	return high;
}

void fd_unhide(int fd)
{
	if ((unsigned int)fd < FD_MAX)
		fd_flags[fd] = 0;
}

static bool is_internal(int fd)
{
	return (unsigned int)fd < FD_MAX && fd_flags[fd] & FD_INTERNAL;
}

/*
 * A child of vfork(), clone() or a raw system call runs in its parent's memory, or does
 * not know that it is a child: its descriptors are its own, this table is not.
 */
bool fd_is_strange(void)
{
	return fd_pid && fd_pid != getpid();
}

/* ---- the table ----------------------------------------------------------------- */

/* @fd stands for @o from now on. */
void fd_install(int fd, struct obj *o)
{
	if (!fd_pid)
		fd_pid = getpid();
	if (!lock(&fd_lock))
		return;
	o->nfds++;
	if (fd >= fd_top)
		store_relaxed(&fd_top, fd + 1);
	store_release(&fd_tab[fd], o);
	unlock(&fd_lock);
}

/* It does not any more. Return: the last that did has gone. */
static bool fd_remove(int fd, struct obj **o)
{
	bool last = false;

	if (!lock(&fd_lock))
		return false;
	*o = fd_tab[fd];
	store_release(&fd_tab[fd], NULL);
	if (*o)
		last = !--(*o)->nfds;
	unlock(&fd_lock);
	return last;
}

/*
 * All numbers that mean @old mean @new from now on, or nothing of ours (NULL). Return:
 * whether there were any; then nobody holds @old by a number any more.
 */
bool fd_replace(struct obj *old, struct obj *new)
{
	uint32_t n = 0;
	int fd;

	if (!lock(&fd_lock))
		return false;
	for (fd = 0; fd < fd_top; fd++) {
		if (fd_tab[fd] != old)
			continue;
		store_release(&fd_tab[fd], new);
		n++;
	}
	old->nfds = 0;
	if (new)
		new->nfds += n;
	unlock(&fd_lock);
	return n;
}

/* @to is a duplicate of @from, as the kernel sees it; @to was taken before. */
void fd_dupped(int from, int to)
{
	struct obj *o = fd_obj(from);

	if ((unsigned int)to >= FD_MAX || from == to || fd_is_strange())
		return;
	if (o) {
		fd_install(to, o);
	} else if ((unsigned int)from < FD_MAX) {
		fd_flags[from] |= FD_DUPPED;
		fd_flags[to] = fd_flags[from] & ~FD_EPOLLED;
	}
}

/* The number is free, or means something else from now on. */
void fd_gone(int fd)
{
	struct obj *o;
	bool last;

	if ((unsigned int)fd >= FD_MAX)
		return;
	if (fd_is_strange())
		return;
	fd_flags[fd] = 0;
	if (!fd_obj(fd))
		return;
	last = fd_remove(fd, &o);
	if (!last || !o)
		return;
	if (o->kind == OBJ_SOCK)
		sock_let_go((struct vsock *)o);
	else
		ep_forget((struct ep *)o);
}

/* What was made before may be shared from now on. */
void fd_fork(int step)
{
	int fd;

	fork_lock(&fd_lock, step);
	if (step < 0)
		return;
	for (fd = 0; fd < FD_MAX; fd++)
		if (unlikely(fd_flags[fd] & FD_MADE))
			fd_flags[fd] ^= FD_MADE | FD_OLD;
	if (!step)
		return;
	fd_forks++;
	fd_pid = getpid();
}

/* Each number that is a socket of ours, until @visit says false; how many. */
int fd_each(bool (*visit)(int fd, struct vsock *v, void *arg), void *arg)
{
	int fd, n = 0, top = load_relaxed(&fd_top);

	for (fd = 0; fd < top; fd++) {
		struct vsock *v = fd_sock(fd);

		if (!v)
			continue;
		n++;
		if (!visit(fd, v, arg))
			break;
	}
	return n;
}

/*
 * The other numbers of this process that mean the same file as @fd. Slow, and only
 * asked for one that was duplicated. Return: how many, at most @max.
 */
int fd_same(int fd, int *list, int max)
{
	char path[64], mine[64], other[64];
	struct dirent *d;
	ssize_t n, m;
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, mine, sizeof(mine));
	dir = n > 0 ? opendir("/proc/self/fd") : NULL;
	while (dir && count < max && (d = readdir(dir))) {
		if (d->d_name[0] == '.' || atoi(d->d_name) == fd)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%.20s", d->d_name);
		m = readlink(path, other, sizeof(other));
		if (m == n && !memcmp(mine, other, n))
			list[count++] = atoi(d->d_name);
	}
	if (dir)
		closedir(dir);
	return count;
}

/* ---- close and its kin ------------------------------------------------------------ */

int fd_close(int fd)
{
	struct vsock *v = fd_sock(fd);
	struct obj *o;

	if (is_internal(fd) && !fd_is_strange())
		return -EBADF;
	if (!v || fd_is_strange()) {
		fd_gone(fd);
		return real.close(fd) ? -errno : 0;
	}
	/*
	 * The number first, so that nobody is given it while it still is ours here; the
	 * connection's end may wait (SO_LINGER), as close() does.
	 */
	if (fd_remove(fd, &o) && o) {
		fd_flags[fd] = 0;
		if (load_relaxed(&v->kfd) < 0) {
			/* who still sleeps in a call of it needs no number */
			real.close(fd);
			sock_let_go(v);
		} else {
			sock_let_go(v);
			real.close(fd);
		}
		return 0;
	}
	fd_flags[fd] = 0;
	return real.close(fd) ? -errno : 0;
}

ENTRY(int, close, (int fd))
{
	int ret;

	if ((unsigned int)fd < FD_MAX && likely(!fd_obj(fd) && !fd_flags[fd]))
		return real.close(fd);
	ret = fd_close(fd);
	if (ret) {
		errno = -ret;
		return -1;
	}
	return 0;
}

/* All but ours, from @first to @last. */
static int close_between(unsigned int first, unsigned int last, int flags)
{
	unsigned int fd, from = first, top = min(last, (unsigned int)FD_MAX - 1);
	int ret = 0;

	for (fd = first; fd <= top && first <= last; fd++) {
		bool internal = is_internal(fd);

		if (!internal && !fd_obj(fd)) {
			if (!(flags & CLOSE_RANGE_CLOEXEC))
				fd_flags[fd] = 0;
			continue;
		}
		if (fd > from)
			ret |= real.close_range(from, fd - 1, flags);
		from = fd + 1;
		if (internal)
			continue;
		if (flags & CLOSE_RANGE_CLOEXEC)
			real.fcntl(fd, F_SETFD, FD_CLOEXEC);
		else
			fd_close(fd);
	}
	if (from <= last)
		ret |= real.close_range(from, last, flags);
	return ret;
}

ENTRY(int, close_range, (unsigned int first, unsigned int last, int flags))
{
	if (!load_relaxed(&nctx) || first > last || fd_is_strange())
		return real.close_range(first, last, flags);
	return close_between(first, last, flags);
}

ENTRY(void, closefrom, (int first))
{
	if (!load_relaxed(&nctx) || fd_is_strange())
		real.closefrom(first);
	else
		close_between(first < 0 ? 0 : first, ~0U, 0);
}

ENTRY(int, dup, (int fd))
{
	int to = real.dup(fd);

	if (to >= 0)
		fd_dupped(fd, to);
	return to;
}

/* One of ours where the program wants its own: it moves; nobody has noticed. */
static int make_way(int to)
{
	if (is_internal(to) && !fd_is_strange()) {
		errno = EBUSY;
		return -1;
	}
	return 0;
}

/* What @to was is closed by the kernel, at once with the new one's coming. */
static void dup_over(int fd, int to)
{
	struct obj *o = NULL;
	bool last = false;

	if (fd_is_strange())
		return;
	if (fd_obj(to))
		last = fd_remove(to, &o);
	if ((unsigned int)to < FD_MAX)
		fd_flags[to] = 0;
	fd_dupped(fd, to);
	if (last && o && o->kind == OBJ_SOCK)
		sock_let_go((struct vsock *)o);
	else if (last && o)
		ep_forget((struct ep *)o);
}

ENTRY(int, dup2, (int fd, int to))
{
	int ret;

	if (make_way(to))
		return -1;
	ret = real.dup2(fd, to);
	if (ret >= 0 && fd != to)
		dup_over(fd, to);
	return ret;
}

ENTRY(int, dup3, (int fd, int to, int flags))
{
	int ret;

	if (make_way(to))
		return -1;
	ret = real.dup3(fd, to, flags);
	if (ret >= 0)
		dup_over(fd, to);
	return ret;
}
