// SPDX-License-Identifier: Apache-2.0
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <sys/un.h>

#include "rig.h"
#include "sock_peer.h"

/* ---- addresses ------------------------------------------------------------- */

static const char *const family_names[] = { "v4", "v6", "mapped" };

static struct addr addr_make(enum rig_family family, const char *v4,
			     const char *v6, int port)
{
	struct addr a = { .len = sizeof(a.in6) };
	char text[INET6_ADDRSTRLEN];

	if (family == RIG_V4) {
		a.len = sizeof(a.in);
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(port);
		inet_pton(AF_INET, getenv(v4), &a.in.sin_addr);
		return a;
	}
	snprintf(text, sizeof(text), "%s%s", family == RIG_V6 ? "" : "::ffff:",
		 getenv(family == RIG_V6 ? v6 : v4));
	a.in6.sin6_family = AF_INET6;
	a.in6.sin6_port = htons(port);
	inet_pton(AF_INET6, text, &a.in6.sin6_addr);
	return a;
}

/* The family on the wire. */
static enum rig_family wire_family(const struct rig *r)
{
	return r->family == RIG_V6 ? RIG_V6 : RIG_V4;
}

struct addr rig_local(const struct rig *r, int port)
{
	return addr_make(r->family, "DMM_LOCAL4", "DMM_LOCAL6", port);
}

struct addr rig_remote(const struct rig *r, int port)
{
	return addr_make(r->family, "DMM_PEER4", "DMM_PEER6", port);
}

struct addr rig_local_far(const struct rig *r, int port)
{
	return addr_make(wire_family(r), "DMM_LOCAL4", "DMM_LOCAL6", port);
}

struct addr sock_name(int fd)
{
	struct addr a = { .len = sizeof(a.in6) };

	if (getsockname(fd, &a.sa, &a.len))
		a.len = 0;
	return a;
}

struct addr peer_name(int fd)
{
	struct addr a = { .len = sizeof(a.in6) };

	if (getpeername(fd, &a.sa, &a.len))
		a.len = 0;
	return a;
}

int addr_port(const struct addr *a)
{
	return ntohs(a->in.sin_port);	/* both have it in the same place */
}

bool addr_same(const struct addr *a, const struct addr *b)
{
	if (a->len != b->len || a->sa.sa_family != b->sa.sa_family ||
	    a->in.sin_port != b->in.sin_port)
		return false;
	if (a->sa.sa_family == AF_INET)
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	return !memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr,
		       sizeof(a->in6.sin6_addr));
}

/* ---- the rig ----------------------------------------------------------------- */

bool rig_expects(const char *prefix, enum rig_family family)
{
	const char *list = getenv("DMM_ADOPTED"), *at;
	char word[32];
	size_t len;

	len = snprintf(word, sizeof(word), "%s%s", prefix, family_names[family]);
	for (at = list; at && *at; at += strcspn(at, " ")) {
		at += strspn(at, " ");
		if (strcspn(at, " ") == len && !strncmp(at, word, len))
			return true;
	}
	return false;
}

bool rig_is_adopted(int fd)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp);

	getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len);
	return !strcmp(ulp, "dmm");
}

int rig_socket(const struct rig *r, int flags)
{
	return socket(r->family == RIG_V4 ? AF_INET : AF_INET6,
		      SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

int rig_peer_socket(const struct rig *r, int domain, int type, int proto)
{
	struct peer_request req = { domain, type, proto };
	char room[CMSG_SPACE(sizeof(int))];
	int err = EPROTO, fd;
	struct iovec iov = { &err, sizeof(err) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
		.msg_controllen = sizeof(room),
	};

	if (send(r->ctl, &req, sizeof(req), MSG_NOSIGNAL) != sizeof(req) ||
	    recvmsg(r->ctl, &msg, MSG_CMSG_CLOEXEC) != sizeof(err) ||
	    recv(r->ctl, &err, sizeof(err), 0) != sizeof(err))
		return -EPROTO;
	if (err || !CMSG_FIRSTHDR(&msg))
		return -err;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

int rig_peer_stream(const struct rig *r)
{
	return rig_peer_socket(r, r->family == RIG_V6 ? AF_INET6 : AF_INET,
			       SOCK_STREAM, 0);
}

int rig_up(struct rig *r, enum rig_family family)
{
	struct sockaddr_un ctl = { .sun_family = AF_UNIX };
	struct addr at;

	*r = (struct rig) {
		.family = family,
		.adopted = rig_expects("", family),
		.ctl = -1,
		.lis = -1,
		.fd = -1,
		.far = -1,
	};
	if (!getenv("DMM_PEER_SOCK")) {
		fprintf(stderr, "# run native.sh or adopted.sh\n");
		return -ENOENT;
	}
	snprintf(ctl.sun_path, sizeof(ctl.sun_path), "%s",
		 getenv("DMM_PEER_SOCK"));
	r->ctl = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(r->ctl, (struct sockaddr *)&ctl, sizeof(ctl)))
		return -errno;
	r->lis = rig_peer_stream(r);
	if (r->lis < 0)
		return r->lis;
	at = addr_make(wire_family(r), "DMM_PEER4", "DMM_PEER6", 0);
	if (bind(r->lis, &at.sa, at.len) || listen(r->lis, 64))
		return -errno;
	at = sock_name(r->lis);
	r->to = rig_remote(r, addr_port(&at));
	return 0;
}

void rig_down(struct rig *r)
{
	int *fd, *const all[] = { &r->fd, &r->far, &r->lis, &r->ctl };
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(*all); i++) {
		fd = all[i];
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

int rig_accept(struct rig *r)
{
	if (!polled(r->lis, POLLIN, 5000))
		return -ETIME;
	r->far = accept4(r->lis, NULL, NULL, SOCK_CLOEXEC);
	return r->far < 0 ? -errno : 0;
}

int rig_connect(struct rig *r)
{
	int err;

	if (r->fd < 0)
		r->fd = rig_socket(r, 0);
	if (connect(r->fd, &r->to.sa, r->to.len) && errno != EINPROGRESS)
		return -errno;
	err = rig_accept(r);
	if (err)
		return err;
	if (rig_is_adopted(r->fd) != r->adopted) {
		fprintf(stderr, "# the socket is %s\n",
			r->adopted ? "native" : "adopted");
		return -EXDEV;
	}
	/* Non-blocking: the peer is ahead of us by one segment. */
	return polled(r->fd, POLLOUT, 5000) ? 0 : -ETIME;
}

void sock_deafen(int fd)
{
	struct sock_filter none = { BPF_RET | BPF_K, 0, 0, 0 };
	struct sock_fprog prog = { 1, &none };

	setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

void sock_undeafen(int fd)
{
	set_int(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
}

/* ---- asking a socket --------------------------------------------------------- */

int get_int(int fd, int level, int opt)
{
	socklen_t len = sizeof(int);
	int val = 0;

	return getsockopt(fd, level, opt, &val, &len) ? -errno : val;
}

int set_int(int fd, int level, int opt, int val)
{
	return setsockopt(fd, level, opt, &val, sizeof(val)) ? -errno : 0;
}

int so_error(int fd)
{
	return get_int(fd, SOL_SOCKET, SO_ERROR);
}

void set_timeout(int fd, int opt, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, opt, &tv, sizeof(tv));
}

struct tcp_info tcp_info(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info;
}

int tcp_state(int fd)
{
	return tcp_info(fd).tcpi_state;
}

int bytes_in(int fd)
{
	int n = -1;

	return ioctl(fd, SIOCINQ, &n) ? -errno : n;
}

int bytes_out(int fd)
{
	int n = -1;

	return ioctl(fd, SIOCOUTQ, &n) ? -errno : n;
}

int polled(int fd, int events, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, ms) > 0 ? pfd.revents : 0;
}

uint32_t epolled(int ep, int ms)
{
	struct epoll_event ev = { 0 };

	return epoll_wait(ep, &ev, 1, ms) > 0 ? ev.events : 0;
}

int epoll_add(int ep, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* ---- data ---------------------------------------------------------------------- */

ssize_t read_all(int fd, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = recv(fd, (char *)buf + got, len - got, 0);

		if (n < 0 && errno == EAGAIN && polled(fd, POLLIN, 5000))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		got += n;
	}
	return got;
}

ssize_t write_all(int fd, const void *buf, size_t len)
{
	size_t put = 0;

	while (put < len) {
		ssize_t n = send(fd, (char *)buf + put, len - put, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN && polled(fd, POLLOUT, 5000))
			continue;
		if (n < 0)
			return -errno;
		put += n;
	}
	return put;
}

int drain(int fd, size_t *got)
{
	static __thread char buf[65536];
	ssize_t n;

	if (got)
		*got = 0;
	while ((n = read_all(fd, buf, sizeof(buf))) > 0) {
		if (got)
			*got += n;
		if (n < sizeof(buf))
			return 0;
	}
	return n;
}

size_t fill(int fd)
{
	static __thread char buf[65536];
	size_t put = 0;
	ssize_t n;

	do {
		while (pattern(buf, put, sizeof(buf)),
		       (n = send(fd, buf, sizeof(buf),
				 MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
			put += n;
		/* the other side may still take some */
	} while (n < 0 && errno == EAGAIN && polled(fd, POLLOUT, 100));
	return put;
}

void pattern(void *buf, size_t off, size_t len)
{
	unsigned char *p = buf;

	for (; len--; off++)
		*p++ = off * 7 + (off >> 8) * 3 + (off >> 16);
}

bool pattern_ok(const void *buf, size_t off, size_t len)
{
	const unsigned char *p = buf;

	for (; len--; off++)
		if (*p++ != (unsigned char)(off * 7 + (off >> 8) * 3 + (off >> 16)))
			return false;
	return true;
}

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

void reset_now(int fd)
{
	struct linger hard = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd);
}

/* ---- the kernel's tables --------------------------------------------------------- */

int diag_open(void)
{
	return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
}

int rig_peer_diag(const struct rig *r)
{
	return rig_peer_socket(r, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
}

static void diag_addr(__be32 *to, const struct addr *a)
{
	if (a->sa.sa_family == AF_INET)
		memcpy(to, &a->in.sin_addr, 4);
	else if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		memcpy(to, &a->in6.sin6_addr.s6_addr[12], 4);
	else
		memcpy(to, &a->in6.sin6_addr, 16);
}

int diag_state(int nl, const struct addr *local, const struct addr *remote)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 req;
	} msg = {
		.h = {
			.nlmsg_len = sizeof(msg),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.req = {
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = ~0U,
			.id = {
				.idiag_sport = local->in.sin_port,
				.idiag_dport = remote->in.sin_port,
				.idiag_cookie = { ~0U, ~0U },
			},
		},
	};
	struct {
		struct nlmsghdr h;
		struct inet_diag_msg m;
		char more[4096];
	} answer;

	msg.req.sdiag_family = local->len == sizeof(local->in) ||
			       IN6_IS_ADDR_V4MAPPED(&local->in6.sin6_addr) ?
			       AF_INET : AF_INET6;
	diag_addr(msg.req.id.idiag_src, local);
	diag_addr(msg.req.id.idiag_dst, remote);
	if (send(nl, &msg, sizeof(msg), 0) < 0 ||
	    recv(nl, &answer, sizeof(answer), 0) < 0)
		return -errno;
	if (answer.h.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return 0;
	/* Without a connection the listener of that port is found. */
	return answer.m.idiag_state == TCP_LISTEN ? 0 : answer.m.idiag_state;
}

/* ---- jobs -------------------------------------------------------------------------- */

static ssize_t result(ssize_t ret)
{
	return ret < 0 ? -errno : ret;
}

ssize_t job_recv(struct job *job)
{
	return result(recv(job->fd, job->buf, job->len, job->arg));
}

ssize_t job_send(struct job *job)
{
	return result(send(job->fd, job->buf, job->len, job->arg));
}

ssize_t job_write_all(struct job *job)
{
	return write_all(job->fd, job->buf, job->len);
}

ssize_t job_connect(struct job *job)
{
	return result(connect(job->fd, job->buf, job->len));
}

ssize_t job_accept(struct job *job)
{
	return result(accept(job->fd, NULL, NULL));
}

ssize_t job_poll(struct job *job)
{
	return polled(job->fd, job->arg, 5000);
}

ssize_t job_epoll(struct job *job)
{
	return epolled(job->fd, job->arg ?: 5000);
}

ssize_t job_close(struct job *job)
{
	return result(close(job->fd));
}

static void *job_main(void *arg)
{
	struct job *job = arg;

	__atomic_store_n(&job->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	job->ret = job->call(job);
	return NULL;
}

void job_start(struct job *job)
{
	job->tid = 0;
	job->ret = -EINPROGRESS;
	if (pthread_create(&job->thread, NULL, job_main, job))
		abort();
}

bool blocked(pid_t pid, pid_t tid)
{
	char path[64], text[32] = "";
	int fd, n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	/* "running", or the number of the call that it sleeps in */
	return n > 0 && text[0] >= '0' && text[0] <= '9';
}

bool job_blocked(struct job *job)
{
	pid_t tid;

	return WAIT_FOR((tid = __atomic_load_n(&job->tid, __ATOMIC_ACQUIRE)) &&
			blocked(getpid(), tid) && !usleep(2000) &&
			blocked(getpid(), tid));
}

ssize_t job_end(struct job *job)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 5;
	return pthread_timedjoin_np(job->thread, NULL, &end) ? -ETIME : job->ret;
}
