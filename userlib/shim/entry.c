// SPDX-License-Identifier: Apache-2.0
/*
 * What programs call: which socket is it, and what errno is there to set. Everything that
 * is not ours goes on to libc after one look at fd_tab.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "shim.h"

bool shim_off;

static inline ssize_t result(ssize_t ret)
{
	if (likely(ret >= 0))
		return ret;
	errno = -ret;
	return -1;
}

/* ---- life ------------------------------------------------------------------------------- */

static void fork_prepare(void)
{
	if (load_relaxed(&nctx) && !fd_is_strange())
		guard_fork();
	relisten_fork(-1);
	ctx_fork(-1);
	ep_fork(-1);
	fd_fork(-1);
	sock_fork(-1);
}

static void fork_parent(void)
{
	sock_fork(0);
	fd_fork(0);
	ep_fork(0);
	ctx_fork(0);
	relisten_fork(0);
}

static void fork_child(void)
{
	shim_tid = 0;
	sock_fork(1);
	fd_fork(1);
	ep_fork(1);
	ctx_fork(1);
	relisten_fork(1);
}

__attribute__((constructor)) static void shim_init(void)
{
	const char *text = getenv("DMM_SPIN_US");
	int err = errno;

	if (text)
		shim_spin_us = min(max(atoi(text), 0), 1000000);
	text = getenv("DMM_SHIM_LOG");
	shim_log = text && *text && *text != '0';
	/* covers daemon() and forkpty(), which call fork() inside of libc */
	pthread_atfork(fork_prepare, fork_parent, fork_child);
	handover_take();
	errno = err;
}

/* The child of a vfork() would share our table. */
ENTRY(pid_t, vfork, (void))
{
	return fork();
}

/*
 * io_uring works on the kernel's file behind a descriptor, where there are no bytes of
 * ours. A program that has a ring gets native sockets from then on, reason "io-uring".
 * liburing makes system calls without libc; others come by syscall(), which stands for
 * nothing else here.
 */
static inline int ring_made(int ret)
{
	if (ret >= 0)
		store_relaxed(&shim_off, true);
	return ret;
}

ENTRY(int, io_uring_queue_init, (unsigned int n, void *ring, unsigned int flags))
{
	return ring_made(real.io_uring_queue_init(n, ring, flags));
}

ENTRY(int, io_uring_queue_init_params, (unsigned int n, void *ring, void *params))
{
	return ring_made(real.io_uring_queue_init_params(n, ring, params));
}

ENTRY(int, io_uring_queue_init_mem, (unsigned int n, void *ring, void *params, void *mem,
				     size_t size))
{
	return ring_made(real.io_uring_queue_init_mem(n, ring, params, mem, size));
}

ENTRY(int, io_uring_setup, (unsigned int n, void *params))
{
	return ring_made(real.io_uring_setup(n, params));
}

ENTRY(long, syscall, (long n, long a, long b, long c, long d, long e, long f))
{
	long ret = real.syscall(n, a, b, c, d, e, f);

	return unlikely(n == SYS_io_uring_setup) ? ring_made(ret) : ret;
}

/* ---- making and naming ------------------------------------------------------------------ */

ENTRY(int, socket, (int domain, int type, int proto))
{
	int fd = real.socket(domain, type, proto);

	if ((unsigned int)fd < FD_MAX)
		fd_flags[fd] = (domain == AF_INET || domain == AF_INET6) &&
			       (type & 0xf) == SOCK_STREAM ? FD_MADE : 0;
	return fd;
}

ENTRY(int, bind, (int fd, const void *addr, socklen_t len))
{
	struct vsock *v = fd_sock(fd);

	if (unlikely(v))
		return real.bind(kernel_fd(v, fd), addr, len);
	if ((unsigned int)fd >= FD_MAX || !(fd_flags[fd] & FD_MADE) || shim_off) {
		tell_native(fd);
		return real.bind(fd, addr, len);
	}
	return result(sock_bind_mark(fd, addr, len));
}

ENTRY(int, listen, (int fd, int backlog))
{
	return result(unlikely(fd_stream(fd)) ? -EINVAL : sock_listen(fd, backlog));
}

ENTRY(int, accept4, (int fd, void *addr, socklen_t *len, int flags))
{
	struct vsock *v = fd_sock(fd);
	int ret;

	if (unlikely(v) && load_relaxed(&v->s->flags) & SF_LISTEN)
		return result(sock_accept(fd, v, addr, len, flags));
	if (unlikely(v))
		return result(-EINVAL);
	ret = real.accept4(fd, addr, len, flags);
	if ((unsigned int)ret < FD_MAX && unlikely(fd_flags[ret]))
		fd_flags[ret] = 0;
	return ret;
}

ENTRY(int, accept, (int fd, void *addr, socklen_t *len))
{
	return shim_accept4(fd, addr, len, 0);
}

ENTRY(int, connect, (int fd, const void *addr, socklen_t len))
{
	struct vsock *v = fd_sock(fd);

	if (unlikely(v))
		return result(sock_reconnect(fd, v, addr, len));
	if ((unsigned int)fd >= FD_MAX || !(fd_flags[fd] & FD_MADE) || shim_off) {
		tell_native(fd);
		return real.connect(fd, addr, len);
	}
	return result(sock_connect(fd, addr, len));
}

ENTRY(int, shutdown, (int fd, int how))
{
	const struct timespec ts = { .tv_nsec = 100000 };
	struct vsock *v = fd_sock(fd);

	/* another thread is about to give it to a stack */
	while (!v && (unsigned int)fd < FD_MAX &&
	       load_relaxed(&fd_flags[fd]) & FD_TAKING) {
		nanosleep(&ts, NULL);
		v = fd_sock(fd);
	}
	if (likely(!v))
		return real.shutdown(fd, how);
	events_take(v->ctx, false);
	return result(sock_shutdown(fd, v, how));
}

ENTRY(int, getsockname, (int fd, void *addr, socklen_t *len))
{
	struct vsock *v = fd_stream(fd);

	if (likely(!v))
		return real.getsockname(fd, addr, len);
	addr_out(v->s, false, addr, len);
	return 0;
}

ENTRY(int, getpeername, (int fd, void *addr, socklen_t *len))
{
	struct vsock *v = fd_stream(fd);
	uint32_t state;

	if (likely(!v))
		return real.getpeername(fd, addr, len);
	events_take(v->ctx, false);
	sock_mask(v, false);	/* takes up what came */
	state = load_relaxed(&v->s->state);
	if (state == TCP_CLOSE || state == TCP_SYN_SENT)
		return result(-ENOTCONN);
	addr_out(v->s, true, addr, len);
	return 0;
}

ENTRY(int, getsockopt, (int fd, int level, int opt, void *val, socklen_t *len))
{
	struct vsock *v = fd_sock(fd);
	int ret;

	if (likely(!v))
		return real.getsockopt(fd, level, opt, val, len);
	if (opt_get(fd, v, level, opt, val, len, &ret))
		return result(ret);
	return real.getsockopt(kernel_fd(v, fd), level, opt, val, len);
}

ENTRY(int, setsockopt, (int fd, int level, int opt, const void *val, socklen_t len))
{
	struct vsock *v = fd_sock(fd);
	int ret;

	if (likely(!v)) {
		ret = real.setsockopt(fd, level, opt, val, len);
		if (!ret)
			opt_native(fd, level, opt);
		return ret;
	}
	opt_set(fd, v, level, opt, val, len, &ret);
	return result(ret);
}

/* ---- sending ---------------------------------------------------------------------------- */

static ssize_t send_one(struct vsock *v, const void *buf, size_t len, int flags)
{
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };

	return result(sock_send(v, &iov, 1, flags));
}

ENTRY(ssize_t, send, (int fd, const void *buf, size_t len, int flags))
{
	struct vsock *v = fd_stream(fd);

	return likely(!v) ? real.send(fd, buf, len, flags) : send_one(v, buf, len, flags);
}

ENTRY(ssize_t, sendto, (int fd, const void *buf, size_t len, int flags, const void *addr,
			socklen_t alen))
{
	struct vsock *v = fd_stream(fd);

	return likely(!v) ? real.sendto(fd, buf, len, flags, addr, alen) :
			    send_one(v, buf, len, flags);
}

ENTRY(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags))
{
	struct vsock *v = fd_stream(fd);
	int ret;

	if (unlikely(v))
		return result(sock_send(v, msg->msg_iov, msg->msg_iovlen, flags));
	if (unlikely(load_relaxed(&nctx)) && msg->msg_controllen) {
		ret = guard_passed(fd, msg);
		if (ret)
			return result(ret);
	}
	return real.sendmsg(fd, msg, flags);
}

ENTRY(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned int n, int flags))
{
	struct vsock *v = fd_stream(fd);
	unsigned int i;
	ssize_t ret = 0;

	if (likely(!v))
		return real.sendmmsg(fd, m, n, flags);
	for (i = 0; i < n; i++) {
		ret = sock_send(v, m[i].msg_hdr.msg_iov, m[i].msg_hdr.msg_iovlen, flags);
		if (ret < 0)
			break;
		m[i].msg_len = ret;
	}
	return i ? (int)i : result(ret);
}

ENTRY(ssize_t, write, (int fd, const void *buf, size_t len))
{
	struct vsock *v = fd_stream(fd);

	return likely(!v) ? real.write(fd, buf, len) : send_one(v, buf, len, 0);
}

ENTRY(ssize_t, writev, (int fd, const struct iovec *iov, int n))
{
	struct vsock *v = fd_stream(fd);

	if (likely(!v))
		return real.writev(fd, iov, n);
	return result(n < 0 ? -EINVAL : sock_send(v, iov, n, 0));
}

/* ---- receiving -------------------------------------------------------------------------- */

static ssize_t recv_one(struct vsock *v, void *buf, size_t len, int flags)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };

	return result(sock_recv(v, &iov, 1, flags));
}

ENTRY(ssize_t, recv, (int fd, void *buf, size_t len, int flags))
{
	struct vsock *v = fd_stream(fd);

	return likely(!v) ? real.recv(fd, buf, len, flags) : recv_one(v, buf, len, flags);
}

ENTRY(ssize_t, __recv_chk, (int fd, void *buf, size_t len, size_t size, int flags))
{
	struct vsock *v = fd_stream(fd);

	if (likely(!v) || len > size)
		return real.__recv_chk(fd, buf, len, size, flags);
	return recv_one(v, buf, len, flags);
}

static ssize_t recv_from(struct vsock *v, void *buf, size_t len, int flags, socklen_t *alen)
{
	ssize_t ret = recv_one(v, buf, len, flags);

	if (ret >= 0 && alen)
		*alen = 0;
	return ret;
}

ENTRY(ssize_t, recvfrom, (int fd, void *buf, size_t len, int flags, void *addr,
			  socklen_t *alen))
{
	struct vsock *v = fd_stream(fd);

	return likely(!v) ? real.recvfrom(fd, buf, len, flags, addr, alen) :
			    recv_from(v, buf, len, flags, alen);
}

ENTRY(ssize_t, __recvfrom_chk, (int fd, void *buf, size_t len, size_t size, int flags,
				void *addr, socklen_t *alen))
{
	struct vsock *v = fd_stream(fd);

	if (likely(!v) || len > size)
		return real.__recvfrom_chk(fd, buf, len, size, flags, addr, alen);
	return recv_from(v, buf, len, flags, alen);
}

/* TCP_INQ: what is left to read; after the FIN never 0, for there is an end to read. */
static void tell_inq(struct vsock *v, struct msghdr *msg)
{
	uint32_t n = sock_inq(v);
	struct cmsghdr *c;

	if (!n && load_relaxed(&v->s->flags) & SF_DONE)
		n = 1;
	if (!msg->msg_control || msg->msg_controllen < CMSG_LEN(sizeof(n))) {
		msg->msg_controllen = 0;
		msg->msg_flags |= MSG_CTRUNC;
		return;
	}
	c = msg->msg_control;
	c->cmsg_level = IPPROTO_TCP;
	c->cmsg_type = TCP_CM_INQ;
	c->cmsg_len = CMSG_LEN(sizeof(n));
	memcpy(CMSG_DATA(c), &n, sizeof(n));
	msg->msg_controllen = min(msg->msg_controllen, CMSG_SPACE(sizeof(n)));
}

/* MSG_ERRQUEUE: all that can be in it is that sends with MSG_ZEROCOPY are done. */
static ssize_t recv_error(struct vsock *v, struct msghdr *msg)
{
	struct sock_extended_err e = {
		.ee_origin = SO_EE_ORIGIN_ZEROCOPY,
		.ee_code = SO_EE_CODE_ZEROCOPY_COPIED,
	};
	bool v6 = v->s->domain == AF_INET6;
	struct cmsghdr *c = msg->msg_control;
	int err;

	if (!sock_lock(v, &err))
		return err;
	e.ee_info = v->s->zc_told;
	e.ee_data = v->s->zc_next - 1;
	err = v->s->zc_told == v->s->zc_next ? -EAGAIN : 0;
	v->s->zc_told = v->s->zc_next;
	unlock(&v->s->lock);
	if (err)
		return err;
	msg->msg_flags = MSG_ERRQUEUE;
	msg->msg_namelen = 0;
	if (!c || msg->msg_controllen < CMSG_LEN(sizeof(e))) {
		msg->msg_controllen = 0;
		msg->msg_flags |= MSG_CTRUNC;
		return 0;
	}
	c->cmsg_level = v6 ? SOL_IPV6 : SOL_IP;
	c->cmsg_type = v6 ? IPV6_RECVERR : IP_RECVERR;
	c->cmsg_len = CMSG_LEN(sizeof(e));
	memcpy(CMSG_DATA(c), &e, sizeof(e));
	msg->msg_controllen = min(msg->msg_controllen, CMSG_SPACE(sizeof(e)));
	return 0;
}

static ssize_t recv_msg(struct vsock *v, struct msghdr *msg, int flags)
{
	ssize_t ret;

	if (unlikely(flags & MSG_ERRQUEUE))
		return recv_error(v, msg);
	ret = sock_recv(v, msg->msg_iov, msg->msg_iovlen, flags);
	if (ret < 0)
		return ret;
	msg->msg_flags = 0;
	msg->msg_namelen = 0;
	if (load_relaxed(&v->s->inq))
		tell_inq(v, msg);
	else
		msg->msg_controllen = 0;
	return ret;
}

ENTRY(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags))
{
	struct vsock *v = fd_stream(fd);
	ssize_t ret;

	if (unlikely(v))
		return result(recv_msg(v, msg, flags));
	ret = real.recvmsg(fd, msg, flags);
	if (unlikely(load_relaxed(&nctx)) && ret >= 0 && msg->msg_controllen)
		guard_received(msg);
	return ret;
}

ENTRY(int, recvmmsg, (int fd, struct mmsghdr *m, unsigned int n, int flags,
		      struct timespec *ts))
{
	struct vsock *v = fd_stream(fd);
	uint64_t end;
	unsigned int i;
	ssize_t ret = 0;

	if (likely(!v))
		return real.recvmmsg(fd, m, n, flags, ts);
	end = ts ? deadline_in(ts->tv_sec * NSEC + ts->tv_nsec) : FOREVER;
	for (i = 0; i < n; i++) {
		ret = recv_msg(v, &m[i].msg_hdr, flags & ~MSG_WAITFORONE);
		if (ret < 0)
			break;
		m[i].msg_len = ret;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (ts && now_ns() >= end) {
			i++;
			break;
		}
	}
	return i ? (int)i : result(ret);
}

ENTRY(ssize_t, read, (int fd, void *buf, size_t len))
{
	struct vsock *v = fd_stream(fd);

	if (likely(!v))
		return real.read(fd, buf, len);
	return len ? recv_one(v, buf, len, 0) : 0;
}

ENTRY(ssize_t, __read_chk, (int fd, void *buf, size_t len, size_t size))
{
	struct vsock *v = fd_stream(fd);

	if (likely(!v) || len > size)
		return real.__read_chk(fd, buf, len, size);
	return len ? recv_one(v, buf, len, 0) : 0;
}

ENTRY(ssize_t, readv, (int fd, const struct iovec *iov, int n))
{
	struct vsock *v = fd_stream(fd);

	if (likely(!v))
		return real.readv(fd, iov, n);
	return result(n < 0 ? -EINVAL : sock_recv(v, iov, n, 0));
}

/* ---- files and pipes -------------------------------------------------------------------- */

static ssize_t send_file(int out, int in, off_t *off, size_t n)
{
	struct vsock *v = fd_stream(out);
	ssize_t ret;

	if (fd_stream(in))
		return result(-EINVAL);
	ret = sock_recv_from_file(v, in, off, n);
	return result(ret);
}

ENTRY(ssize_t, sendfile, (int out, int in, off_t *off, size_t n))
{
	if (likely(!fd_stream(out) && !fd_stream(in)))
		return real.sendfile(out, in, off, n);
	return fd_stream(out) ? send_file(out, in, off, n) : result(-EINVAL);
}

ENTRY(ssize_t, sendfile64, (int out, int in, off_t *off, size_t n))
{
	return shim_sendfile(out, in, off, n);
}

#ifndef SPLICE_F_NONBLOCK
#define SPLICE_F_NONBLOCK 2
#endif

ENTRY(ssize_t, splice, (int in, off_t *ioff, int out, off_t *ooff, size_t n,
			unsigned int flags))
{
	struct vsock *from = fd_stream(in), *to = fd_stream(out);
	bool nonblock;

	if (likely(!from && !to))
		return real.splice(in, ioff, out, ooff, n, flags);
	if ((from && to) || (from && ioff) || (to && ooff))
		return result(from && to ? -EINVAL : -ESPIPE);
	if (to)
		return result(sock_recv_from_file(to, in, NULL, n));
	nonblock = flags & SPLICE_F_NONBLOCK ||
		   load_relaxed(&from->s->flags) & SF_NONBLOCK;
	return result(sock_send_to_file(from, out, n, nonblock));
}

/* ---- fcntl and ioctl -------------------------------------------------------------------- */

static void set_nonblock(struct vsock *v, bool on)
{
	if (on)
		__atomic_fetch_or(&v->s->flags, SF_NONBLOCK, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&v->s->flags, ~SF_NONBLOCK, __ATOMIC_RELAXED);
}

ENTRY(int, fcntl, (int fd, int cmd, unsigned long arg))
{
	struct vsock *v = fd_sock(fd);
	int ret = real.fcntl(fd, cmd, arg);

	if (ret < 0)
		return ret;
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		fd_dupped(fd, ret);
	else if (unlikely(v) && cmd == F_SETFL)
		set_nonblock(v, arg & O_NONBLOCK);
	else if (cmd == F_SETFL && arg & O_ASYNC && (unsigned int)fd < FD_MAX)
		fd_flags[fd] |= FD_NATIVE;	/* SIGIO comes from the kernel's socket */
	return ret;
}

ENTRY(int, fcntl64, (int fd, int cmd, unsigned long arg))
{
	return shim_fcntl(fd, cmd, arg);
}

ENTRY(int, ioctl, (int fd, unsigned long cmd, unsigned long arg))
{
	struct vsock *v = fd_sock(fd);
	int ret, n;

	if (likely(!v))
		return real.ioctl(fd, cmd, arg);
	if (cmd == FIONBIO) {
		ret = real.ioctl(fd, cmd, arg);
		if (!ret)
			set_nonblock(v, *(int *)arg);
		return ret;
	}
	if (load_relaxed(&v->s->flags) & SF_LISTEN)
		return real.ioctl(fd, cmd, arg);
	switch (cmd) {
	case SIOCINQ:
		n = sock_inq(v);
		break;
	case SIOCOUTQ:
		n = sock_outq(v);
		break;
	case SIOCOUTQNSD:
		n = sock_unsent(v);
		break;
	case SIOCATMARK:
		n = 0;
		break;
	default:
		return real.ioctl(kernel_fd(v, fd), cmd, arg);
	}
	*(int *)arg = n;
	return 0;
}

/* ---- exec ------------------------------------------------------------------------------- */

#define WITH_HANDOVER(call, env, spawn, dups) ({			\
	struct handover __h;						\
	int __ret;							\
									\
	if (handover_begin(&__h, env, spawn, dups)) {			\
		char *const *with = __h.envp;				\
		__ret = call;						\
		handover_end(&__h);					\
	} else {							\
		char *const *with = env;				\
		__ret = call;						\
	}								\
	__ret;								\
})

ENTRY(int, execve, (const char *path, char *const *argv, char *const *envp))
{
	return WITH_HANDOVER(real.execve(path, argv, with), envp, false, false);
}

ENTRY(int, execv, (const char *path, char *const *argv))
{
	return WITH_HANDOVER(real.execve(path, argv, with), environ, false, false);
}

ENTRY(int, execvpe, (const char *file, char *const *argv, char *const *envp))
{
	return WITH_HANDOVER(real.execvpe(file, argv, with), envp, false, false);
}

ENTRY(int, execvp, (const char *file, char *const *argv))
{
	return WITH_HANDOVER(real.execvpe(file, argv, with), environ, false, false);
}

ENTRY(int, fexecve, (int fd, char *const *argv, char *const *envp))
{
	return WITH_HANDOVER(real.fexecve(fd, argv, with), envp, false, false);
}

/* The words of execl() and its kin, which end in NULL; @argv has room for them. */
#define LIST_COUNT(arg, n) do {						\
	va_list __ap;							\
									\
	va_start(__ap, arg);						\
	for ((n) = 1; va_arg(__ap, char *); (n)++)			\
		;							\
	va_end(__ap);							\
} while (0)

#define LIST_READ(arg, argv, ap) do {					\
	int __i = 0;							\
									\
	(argv)[0] = (char *)(arg);					\
	va_start(ap, arg);						\
	while ((argv)[__i])						\
		(argv)[++__i] = va_arg(ap, char *);			\
} while (0)

ENTRY(int, execl, (const char *path, const char *arg, ...))
{
	va_list ap;
	int n;

	LIST_COUNT(arg, n);
	{
		char *argv[n + 1];

		LIST_READ(arg, argv, ap);
		va_end(ap);
		return shim_execv(path, argv);
	}
}

ENTRY(int, execlp, (const char *file, const char *arg, ...))
{
	va_list ap;
	int n;

	LIST_COUNT(arg, n);
	{
		char *argv[n + 1];

		LIST_READ(arg, argv, ap);
		va_end(ap);
		return shim_execvp(file, argv);
	}
}

ENTRY(int, execle, (const char *path, const char *arg, ...))
{
	va_list ap;
	int n;

	LIST_COUNT(arg, n);
	{
		char *argv[n + 1];
		char **envp;

		LIST_READ(arg, argv, ap);
		envp = va_arg(ap, char **);
		va_end(ap);
		return shim_execve(path, argv, envp);
	}
}

ENTRY(int, posix_spawn, (pid_t *pid, const char *path,
			 const posix_spawn_file_actions_t *acts,
			 const posix_spawnattr_t *attr, char *const *argv,
			 char *const *envp))
{
	return WITH_HANDOVER(real.posix_spawn(pid, path, acts, attr, argv, with), envp,
			     true, acts);
}

ENTRY(int, posix_spawnp, (pid_t *pid, const char *file,
			  const posix_spawn_file_actions_t *acts,
			  const posix_spawnattr_t *attr, char *const *argv,
			  char *const *envp))
{
	return WITH_HANDOVER(real.posix_spawnp(pid, file, acts, attr, argv, with), envp,
			     true, acts);
}
