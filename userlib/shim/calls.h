/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that the shim stands in for: CALL(result, name, parameters, arguments).
 *
 * For each there is a pointer to libc's own, calls.real.NAME, which is good from the
 * first instruction of the program on: it resolves itself when it is first called.
 * What has no variant here (stdio, libc's own use of sockets, io_uring, system calls
 * made by hand) cannot be seen; dmm-shim(7) says what follows from that.
 */
#ifndef DMM_SHIM_CALLS_H
#define DMM_SHIM_CALLS_H

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define SHIM_CALLS(CALL)						\
	CALL(int, socket, (int a, int b, int c), (a, b, c))		\
	CALL(int, bind, (int fd, const void *a, socklen_t l), (fd, a, l)) \
	CALL(int, listen, (int fd, int n), (fd, n))			\
	CALL(int, accept, (int fd, void *a, socklen_t *l), (fd, a, l))	\
	CALL(int, accept4, (int fd, void *a, socklen_t *l, int f),	\
	     (fd, a, l, f))						\
	CALL(int, connect, (int fd, const void *a, socklen_t l), (fd, a, l)) \
	CALL(int, shutdown, (int fd, int how), (fd, how))		\
	CALL(int, getsockname, (int fd, void *a, socklen_t *l), (fd, a, l)) \
	CALL(int, getpeername, (int fd, void *a, socklen_t *l), (fd, a, l)) \
	CALL(int, getsockopt, (int fd, int l, int o, void *v, socklen_t *n), \
	     (fd, l, o, v, n))						\
	CALL(int, setsockopt, (int fd, int l, int o, const void *v,	\
	     socklen_t n), (fd, l, o, v, n))				\
	CALL(ssize_t, send, (int fd, const void *b, size_t n, int f),	\
	     (fd, b, n, f))						\
	CALL(ssize_t, sendto, (int fd, const void *b, size_t n, int f,	\
	     const void *a, socklen_t l), (fd, b, n, f, a, l))		\
	CALL(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f),	\
	     (fd, m, f))						\
	CALL(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned int n, int f), \
	     (fd, m, n, f))						\
	CALL(ssize_t, recv, (int fd, void *b, size_t n, int f), (fd, b, n, f)) \
	CALL(ssize_t, __recv_chk, (int fd, void *b, size_t n, size_t s, int f), \
	     (fd, b, n, s, f))						\
	CALL(ssize_t, recvfrom, (int fd, void *b, size_t n, int f, void *a, \
	     socklen_t *l), (fd, b, n, f, a, l))			\
	CALL(ssize_t, __recvfrom_chk, (int fd, void *b, size_t n, size_t s, \
	     int f, void *a, socklen_t *l), (fd, b, n, s, f, a, l))	\
	CALL(ssize_t, recvmsg, (int fd, struct msghdr *m, int f), (fd, m, f)) \
	CALL(int, recvmmsg, (int fd, struct mmsghdr *m, unsigned int n, int f, \
	     struct timespec *t), (fd, m, n, f, t))			\
	CALL(ssize_t, read, (int fd, void *b, size_t n), (fd, b, n))	\
	CALL(ssize_t, __read_chk, (int fd, void *b, size_t n, size_t s), \
	     (fd, b, n, s))						\
	CALL(ssize_t, readv, (int fd, const struct iovec *v, int n),	\
	     (fd, v, n))						\
	CALL(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n)) \
	CALL(ssize_t, writev, (int fd, const struct iovec *v, int n),	\
	     (fd, v, n))						\
	CALL(int, poll, (struct pollfd *p, nfds_t n, int ms), (p, n, ms)) \
	CALL(int, __poll_chk, (struct pollfd *p, nfds_t n, int ms, size_t s), \
	     (p, n, ms, s))						\
	CALL(int, ppoll, (struct pollfd *p, nfds_t n,			\
	     const struct timespec *t, const sigset_t *m), (p, n, t, m)) \
	CALL(int, __ppoll_chk, (struct pollfd *p, nfds_t n,		\
	     const struct timespec *t, const sigset_t *m, size_t s),	\
	     (p, n, t, m, s))						\
	CALL(int, select, (int n, fd_set *r, fd_set *w, fd_set *e,	\
	     struct timeval *t), (n, r, w, e, t))			\
	CALL(int, pselect, (int n, fd_set *r, fd_set *w, fd_set *e,	\
	     const struct timespec *t, const sigset_t *m), (n, r, w, e, t, m)) \
	CALL(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *e), \
	     (ep, op, fd, e))						\
	CALL(int, epoll_wait, (int ep, struct epoll_event *e, int n, int ms), \
	     (ep, e, n, ms))						\
	CALL(int, epoll_pwait, (int ep, struct epoll_event *e, int n, int ms, \
	     const sigset_t *m), (ep, e, n, ms, m))			\
	CALL(int, epoll_pwait2, (int ep, struct epoll_event *e, int n,	\
	     const struct timespec *t, const sigset_t *m), (ep, e, n, t, m)) \
	CALL(ssize_t, sendfile, (int out, int in, off_t *o, size_t n),	\
	     (out, in, o, n))						\
	CALL(ssize_t, sendfile64, (int out, int in, off_t *o, size_t n), \
	     (out, in, o, n))						\
	CALL(ssize_t, splice, (int in, off_t *i, int out, off_t *o, size_t n, \
	     unsigned int f), (in, i, out, o, n, f))			\
	CALL(int, fcntl, (int fd, int cmd, unsigned long arg), (fd, cmd, arg)) \
	CALL(int, fcntl64, (int fd, int cmd, unsigned long arg),	\
	     (fd, cmd, arg))						\
	CALL(int, ioctl, (int fd, unsigned long cmd, unsigned long arg), \
	     (fd, cmd, arg))						\
	CALL(int, dup, (int fd), (fd))					\
	CALL(int, dup2, (int fd, int to), (fd, to))			\
	CALL(int, dup3, (int fd, int to, int f), (fd, to, f))		\
	CALL(int, close, (int fd), (fd))				\
	CALL(int, close_range, (unsigned int a, unsigned int b, int f),	\
	     (a, b, f))							\
	CALL(void, closefrom, (int fd), (fd))				\
	CALL(pid_t, fork, (void), ())					\
	CALL(long, syscall, (long n, long a, long b, long c, long d, long e, \
	     long f), (n, a, b, c, d, e, f))				\
	CALL(int, execve, (const char *p, char *const *a, char *const *e), \
	     (p, a, e))							\
	CALL(int, execvpe, (const char *p, char *const *a, char *const *e), \
	     (p, a, e))							\
	CALL(int, fexecve, (int fd, char *const *a, char *const *e),	\
	     (fd, a, e))						\
	CALL(int, posix_spawn, (pid_t *pid, const char *p,		\
	     const posix_spawn_file_actions_t *f,			\
	     const posix_spawnattr_t *t, char *const *a, char *const *e), \
	     (pid, p, f, t, a, e))					\
	CALL(int, posix_spawnp, (pid_t *pid, const char *p,		\
	     const posix_spawn_file_actions_t *f,			\
	     const posix_spawnattr_t *t, char *const *a, char *const *e), \
	     (pid, p, f, t, a, e))

/* Another library's, which may not be there: looked up when first called, each by itself. */
#define SHIM_URING_CALLS(CALL)						\
	CALL(int, io_uring_queue_init, (unsigned int n, void *r, unsigned int f), \
	     (n, r, f))							\
	CALL(int, io_uring_queue_init_params, (unsigned int n, void *r, void *p), \
	     (n, r, p))							\
	CALL(int, io_uring_queue_init_mem, (unsigned int n, void *r, void *p, \
	     void *m, size_t s), (n, r, p, m, s))			\
	CALL(int, io_uring_setup, (unsigned int n, void *p), (n, p))

#define SHIM_CALL_POINTER(ret, name, params, args)	ret (*name) params;
struct real_calls {
	SHIM_CALLS(SHIM_CALL_POINTER)
	SHIM_URING_CALLS(SHIM_CALL_POINTER)
};

extern struct real_calls real;

/*
 * ENTRY(name): what the program calls instead of libc's NAME. The C name is another
 * one, so that the prototypes of libc's headers (nonnull, fortify) do not apply.
 */
#define ENTRY(ret, name, params)					\
	__attribute__((visibility("default"))) ret shim_##name params	\
		__asm__(#name);						\
	ret shim_##name params

#endif /* DMM_SHIM_CALLS_H */
