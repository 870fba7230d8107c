/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sock_* tests share: our socket, the peer's end of it, and helpers that
 * wait on conditions.
 *
 * The peer lives in another netns and cgroup and is always native. Its sockets are
 * made by sock_peer and handed over (SCM_RIGHTS), so a test holds both ends: what
 * the peer's kernel made of our segments is asked of the peer's own socket.
 *
 *	DMM_LOCAL4, DMM_LOCAL6	our addresses
 *	DMM_PEER4, DMM_PEER6	the peer's
 *	DMM_PEER_SOCK		sock_peer's AF_UNIX path
 *	DMM_ADOPTED		which sockets must be adopted: words of "v4", "v6",
 *				"mapped" (connecting), "listen-v4", "listen-v6",
 *				"listen-mapped" (accepted); unset: none
 *	DMM_UNLISTED		set: adopted sockets are in no table of the kernel's
 */
#ifndef SOCK_RIG_H
#define SOCK_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum rig_family {
	RIG_V4,		/* AF_INET */
	RIG_V6,		/* AF_INET6 */
	RIG_MAPPED,	/* AF_INET6 and ::ffff:a.b.c.d */
};

/* The address of a socket, of either family. */
struct addr {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
	socklen_t len;
};

/**
 * struct rig - one test's sockets; -1 for what is not there
 * @family: what our socket is
 * @adopted: must it be adopted, once connected?
 * @ctl: to sock_peer
 * @lis: the peer's listener
 * @fd: ours
 * @far: the peer's end of it
 * @to: where @lis listens, as our family says it
 */
struct rig {
	enum rig_family family;
	bool adopted;
	int ctl;
	int lis;
	int fd;
	int far;
	struct addr to;
};

/* The peer, its listener on a port of its own. 0 or -errno. */
int rig_up(struct rig *r, enum rig_family family);
void rig_down(struct rig *r);

/* A socket of our family. */
int rig_socket(const struct rig *r, int flags);

/* A socket of the peer's netns; and one of the family that @r's wire has. */
int rig_peer_socket(const struct rig *r, int domain, int type, int proto);
int rig_peer_stream(const struct rig *r);

/*
 * @r->fd made (if it is -1), connected, accepted as @r->far, and adopted or not as
 * it must be: -EXDEV if not. 0 or -errno.
 */
int rig_connect(struct rig *r);

/* The peer accepts: @r->far. 0 or -errno. */
int rig_accept(struct rig *r);

/* Our address with @port (host order), in our family; and the peer's, likewise. */
struct addr rig_local(const struct rig *r, int port);
struct addr rig_remote(const struct rig *r, int port);

/* Our address as the peer's sockets say it. */
struct addr rig_local_far(const struct rig *r, int port);

/* Is @word in DMM_ADOPTED? */
bool rig_expects(const char *prefix, enum rig_family family);
bool rig_is_adopted(int fd);

struct addr sock_name(int fd);
struct addr peer_name(int fd);
int addr_port(const struct addr *a);
bool addr_same(const struct addr *a, const struct addr *b);

/* Everything that reaches @fd is dropped before TCP sees it, as on a dead wire. */
void sock_deafen(int fd);
void sock_undeafen(int fd);

int so_error(int fd);
int get_int(int fd, int level, int opt);
int set_int(int fd, int level, int opt, int val);
void set_timeout(int fd, int opt, int ms);
int tcp_state(int fd);
struct tcp_info tcp_info(int fd);
int bytes_in(int fd);
int bytes_out(int fd);

/* revents, or 0 after @ms. */
int polled(int fd, int events, int ms);

/* The events of one epoll_wait(); 0 after @ms. */
uint32_t epolled(int ep, int ms);
int epoll_add(int ep, int fd, uint32_t events);

/* All of it, or fewer at the end; -errno. The socket may be non-blocking. */
ssize_t read_all(int fd, void *buf, size_t len);
ssize_t write_all(int fd, const void *buf, size_t len);

/* Read @fd to its end: 0 for a FIN, -errno; *@got counts the bytes. */
int drain(int fd, size_t *got);

/* Send what a non-blocking send takes, until -EAGAIN; the bytes. */
size_t fill(int fd);

/* Bytes with a pattern; and do they have it, from offset @off on? */
void pattern(void *buf, size_t off, size_t len);
bool pattern_ok(const void *buf, size_t off, size_t len);

double now(void);
void reset_now(int fd);		/* SO_LINGER 0 and close(): a RST */

/* A state, TCP_*, by the tables of the netns that @nl is of; 0: not there. */
int diag_open(void);
int rig_peer_diag(const struct rig *r);
int diag_state(int nl, const struct addr *local, const struct addr *remote);

/* Wait until @cond, five seconds at most; its last value. */
#define WAIT_FOR(cond) ({						\
	double __end = now() + 5;					\
	bool __ok;							\
									\
	while (!(__ok = !!(cond)) && now() < __end)			\
		usleep(500);						\
	__ok;								\
})

/* How long "nothing comes" is looked at, ms. */
#define QUIET	30

/* ---- a call in another thread ---------------------------------------------- */

/**
 * struct job - a call that may block
 * @call: what to call
 * @fd, @buf, @len, @arg: for @call
 * @ret: its result, or -errno
 */
struct job {
	ssize_t (*call)(struct job *job);
	int fd;
	void *buf;
	size_t len;
	int arg;
	ssize_t ret;
	pthread_t thread;
	pid_t tid;
};

ssize_t job_recv(struct job *job);	/* recv(fd, buf, len, arg) */
ssize_t job_send(struct job *job);	/* send(fd, buf, len, arg) */
ssize_t job_write_all(struct job *job);
ssize_t job_connect(struct job *job);	/* connect(fd, buf, len) */
ssize_t job_accept(struct job *job);
ssize_t job_poll(struct job *job);	/* revents for arg */
ssize_t job_epoll(struct job *job);	/* epoll_wait(fd): events */
ssize_t job_close(struct job *job);

void job_start(struct job *job);
/* Wait until it sleeps in a system call. */
bool job_blocked(struct job *job);
/* Its result; -ETIME if it does not end within five seconds. */
ssize_t job_end(struct job *job);

/* The same of a process. */
bool blocked(pid_t pid, pid_t tid);

/* ---- fixtures ---------------------------------------------------------------- */

#define RIG_SUITE(suite)						\
FIXTURE(suite) { struct rig r; };					\
FIXTURE_VARIANT(suite) { enum rig_family family; };			\
FIXTURE_VARIANT_ADD(suite, v4) { .family = RIG_V4 };			\
FIXTURE_VARIANT_ADD(suite, v6) { .family = RIG_V6 };			\
FIXTURE_VARIANT_ADD(suite, mapped) { .family = RIG_MAPPED };		\
FIXTURE_SETUP(suite)							\
{									\
	signal(SIGPIPE, SIG_IGN);					\
	ASSERT_EQ(0, rig_up(&self->r, variant->family));		\
}									\
FIXTURE_TEARDOWN(suite)							\
{									\
	rig_down(&self->r);						\
}

#define RIG_TEST(suite, name)	TEST_F_TIMEOUT(suite, name, 20)

/* Most tests begin so. */
#define CONNECT(r)	ASSERT_EQ(0, rig_connect(r))

#endif /* SOCK_RIG_H */
