// SPDX-License-Identifier: Apache-2.0
/*
 * connect(): whose is the socket? The policy programs say so (linux/dmm.h, "Socket
 * options, for the shim"). If it is a stack's, the kernel's socket stays as it is, with
 * its port taken, and the connection is made by the worker. Whatever stands against
 * that leaves the socket to the kernel, before anything was sent.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "shim.h"

bool shim_log;

static const char *const reasons[] = {
#define REASON_WORD(code, word)	word,
	DMM_FALLBACK_REASONS(REASON_WORD)
};

const char *reason_name(enum dmm_fallback why)
{
	return reasons[why];
}

/* One line for whoever asked for it (DMM_SHIM_LOG). */
void note(int fd, const char *what, const char *why)
{
	char line[160];
	int n, err = errno;

	if (!shim_log)
		return;
	n = snprintf(line, sizeof(line), "dmm-shim[%d]: fd %d: %s%s%s\n", getpid(), fd,
		     what, why ? ": " : "", why ? why : "");
	if (real.write(2, line, n) < 0) {
		/* nothing to be done about it */
	}
	errno = err;
}

/* ---- addresses --------------------------------------------------------------------- */

struct path {
	uint16_t domain;	/* the socket's */
	uint16_t family;	/* on the wire */
	uint16_t sport, dport;
	uint32_t saddr[4], daddr[4];
	uint32_t scope;
	bool own_port;		/* it has its bit in sh_hdr.ports */
};

static bool is_mapped(const uint32_t *a)
{
	return !a[0] && !a[1] && a[2] == htonl(0xffff);
}

static void addr_in(const void *addr, uint16_t *family, uint32_t a[4], uint16_t *port,
		    uint32_t *scope)
{
	const struct sockaddr_in6 *in6 = addr;
	const struct sockaddr_in *in = addr;

	memset(a, 0, 16);
	*family = in->sin_family;
	*port = in->sin_port;
	if (in->sin_family == AF_INET) {
		a[0] = in->sin_addr.s_addr;
		return;
	}
	memcpy(a, &in6->sin6_addr, 16);
	*scope = in6->sin6_scope_id;
	if (is_mapped(a)) {
		*family = AF_INET;
		a[0] = a[3];
		a[1] = 0;
		a[2] = 0;
		a[3] = 0;
	}
}

static socklen_t addr_make(uint16_t domain, uint16_t family, const uint32_t a[4],
			   uint16_t port, uint32_t scope, struct sockaddr_in6 *out)
{
	struct sockaddr_in *in = (struct sockaddr_in *)out;

	memset(out, 0, sizeof(*out));
	if (domain == AF_INET) {
		in->sin_family = AF_INET;
		in->sin_port = port;
		in->sin_addr.s_addr = a[0];
		return sizeof(*in);
	}
	out->sin6_family = AF_INET6;
	out->sin6_port = port;
	if (family == AF_INET) {
		out->sin6_addr.s6_addr32[2] = htonl(0xffff);
		out->sin6_addr.s6_addr32[3] = a[0];
	} else {
		memcpy(&out->sin6_addr, a, 16);
		if (IN6_IS_ADDR_LINKLOCAL(&out->sin6_addr))
			out->sin6_scope_id = scope;
	}
	return sizeof(*out);
}

/* As getsockname() and getpeername() give it: cut to *@len, which then is all of it. */
void addr_out(const struct sh_sock *s, bool remote, void *addr, socklen_t *len)
{
	struct sockaddr_in6 a;
	socklen_t n;

	n = addr_make(s->domain, s->family, remote ? s->raddr : s->laddr,
		      remote ? s->rport : s->lport, s->scope, &a);
	memcpy(addr, &a, min(n, *len));
	*len = n;
}

/* ---- the route --------------------------------------------------------------------- */

static struct lock nl_lock;
static int nl_fd = -1;
static uint32_t nl_forks, nl_seq;

/* A routing socket of the namespace @netns, which this thread must be in. */
static int route_socket(uint64_t netns)
{
	socklen_t len = sizeof(uint64_t);
	uint64_t cookie = 0;
	int fd;

	if (nl_fd >= 0 && nl_forks == fd_forks &&
	    !real.getsockopt(nl_fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) &&
	    cookie == netns)
		return nl_fd;
	if (nl_fd >= 0) {
		fd_unhide(nl_fd);
		real.close(nl_fd);
		nl_fd = -1;
	}
	fd = real.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	if (real.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) ||
	    cookie != netns) {
		real.close(fd);
		return -EXDEV;
	}
	nl_fd = fd_hide(fd);
	nl_forks = fd_forks;
	return nl_fd;
}

struct route_msg {
	struct nlmsghdr h;
	struct rtmsg r;
	char attrs[1024];
};

static void attr_put(struct route_msg *m, int type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)m + NLMSG_ALIGN(m->h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	m->h.nlmsg_len = NLMSG_ALIGN(m->h.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

static bool any_addr(const uint32_t *a)
{
	return !(a[0] | a[1] | a[2] | a[3]);
}

/* The kernel's choice: device, and the source if the path has none. */
static int route_read(int fd, uint32_t seq, struct path *p, uint32_t *oif)
{
	struct route_msg m;
	struct rtattr *a;
	ssize_t n;
	int left;

	do {
		n = real.recv(fd, &m, sizeof(m), 0);
		if (n < 0 && errno != EINTR)
			return -errno;
	} while (n < (ssize_t)sizeof(m.h) || m.h.nlmsg_seq != seq);
	if (m.h.nlmsg_type != RTM_NEWROUTE || m.r.rtm_type != RTN_UNICAST ||
	    n < (ssize_t)NLMSG_LENGTH(sizeof(m.r)))
		return -ENETUNREACH;
	left = n - NLMSG_LENGTH(sizeof(m.r));
	for (a = (struct rtattr *)m.attrs; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == RTA_OIF)
			memcpy(oif, RTA_DATA(a), 4);
		else if (a->rta_type == RTA_PREFSRC && any_addr(p->saddr))
			memcpy(p->saddr, RTA_DATA(a), p->family == AF_INET ? 4 : 16);
	}
	return 0;
}

static enum dmm_fallback route_ask(struct ctx *c, struct path *p, uint32_t dev,
				   uint32_t mark)
{
	size_t len = p->family == AF_INET ? 4 : 16;
	struct route_msg m = {
		.h = {
			.nlmsg_len = NLMSG_LENGTH(sizeof(m.r)),
			.nlmsg_type = RTM_GETROUTE,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.r = {
			.rtm_family = p->family,
			.rtm_dst_len = 8 * len,
		},
	};
	uint32_t oif = 0;
	int fd, ret;

	if (!lock(&nl_lock))
		return DMM_FALLBACK_ROUTE;
	fd = route_socket(c->netns);
	if (fd < 0) {
		unlock(&nl_lock);
		return fd == -EXDEV ? DMM_FALLBACK_NETNS : DMM_FALLBACK_NO_MEMORY;
	}
	attr_put(&m, RTA_DST, p->daddr, len);
	if (!any_addr(p->saddr)) {
		m.r.rtm_src_len = 8 * len;
		attr_put(&m, RTA_SRC, p->saddr, len);
	}
	if (!dev && c->flags & DMM_ATTACH_F_ROUTE_OWN)
		dev = c->ifindex;
	if (dev)
		attr_put(&m, RTA_OIF, &dev, 4);
	if (mark)
		attr_put(&m, RTA_MARK, &mark, 4);
	m.h.nlmsg_seq = ++nl_seq;
	ret = real.send(fd, &m, m.h.nlmsg_len, 0) < 0 ? -errno :
		route_read(fd, m.h.nlmsg_seq, p, &oif);
	unlock(&nl_lock);
	if (ret || oif != c->ifindex || any_addr(p->saddr))
		return DMM_FALLBACK_ROUTE;
	return DMM_FALLBACK_NONE;
}

/* ---- leaving one ------------------------------------------------------------------- */

/* Should a rule give it to a stack at the next call, this is what is counted for it. */
void tell_why(int fd, enum dmm_fallback why)
{
	uint32_t val = why;
	int err = errno;

	real.setsockopt(fd, SOL_DMM, DMM_SO_FALLBACK, &val, sizeof(val));
	errno = err;
}

/* bind() or connect() of a socket that is left alone: if it is TCP's, why? */
void tell_native(int fd)
{
	if ((unsigned int)fd >= FD_MAX || !(fd_flags[fd] & (FD_MADE | FD_OLD)))
		return;
	tell_why(fd, load_relaxed(&shim_off) ? DMM_FALLBACK_IO_URING :
					       DMM_FALLBACK_STATE);
}

/* ---- taking a socket --------------------------------------------------------------- */

static int mark_set(int fd, uint32_t value)
{
	return real.setsockopt(fd, SOL_DMM, DMM_SO_SHIM, &value, sizeof(value));
}

static uint64_t get_u64(int fd, int opt)
{
	socklen_t len = sizeof(uint64_t);
	uint64_t val = 0;

	return real.getsockopt(fd, SOL_SOCKET, opt, &val, &len) ? 0 : val;
}

static int get_int(int fd, int level, int opt)
{
	socklen_t len = sizeof(int);
	int val = 0;

	return real.getsockopt(fd, level, opt, &val, &len) ? 0 : val;
}

#define PORT_TRIES	16

static int disconnect_real(int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	return real.connect(fd, &none, sizeof(none)) ? -errno : 0;
}

/*
 * Give a port back that bind() chose: only another socket is rid of it. It takes the
 * numbers over, with the options.
 */
static int port_release(const int *fds, int n, int domain)
{
	int fd, i, cloexec, ret = 0;

	fd = real.socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (fds[0] < FD_MAX && fd_flags[fds[0]] & FD_OPTIONS)
		opt_inherit(fds[0], NULL, fd);
	real.fcntl(fd, F_SETFL, real.fcntl(fds[0], F_GETFL, 0) & O_NONBLOCK);
	for (i = 0; i < n && !ret; i++) {
		cloexec = real.fcntl(fds[i], F_GETFD, 0) & FD_CLOEXEC;
		if (real.dup3(fd, fds[i], cloexec ? O_CLOEXEC : 0) < 0)
			ret = -errno;
	}
	if (fd < FD_MAX)
		fd_flags[fd] = 0;
	real.close(fd);
	return ret;
}

/*
 * The kernel gives the port, so that no other socket of the machine has it. It does not
 * know of connections that the stack is still closing: their ports are given back.
 */
static int port_reserve(int fd, struct ctx *c, struct path *p)
{
	struct sockaddr_in6 a;
	socklen_t len = addr_make(p->domain, p->family, p->saddr, 0, p->scope, &a);
	int zero = 0, one = 1, late, ret = 0, tries;
	struct sockaddr_in6 got;
	bool fresh = false;
	socklen_t got_len;

	late = get_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
	if (late)
		real.setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &zero, 4);
	mark_set(fd, 2);
	for (tries = 0; !ret && tries < PORT_TRIES; tries++) {
		got_len = sizeof(got);
		if (real.bind(fd, &a, len) || real.getsockname(fd, &got, &got_len)) {
			ret = -errno;
			break;
		}
		p->sport = got.sin6_port;	/* both families have it there */
		if (port_take(c, p->sport))
			break;
		/* a fresh one is judged as a listener; that counts for nothing */
		ret = port_release(&fd, 1, p->domain);
		mark_set(fd, 1);
		fresh = true;
	}
	if (fresh)
		mark_set(fd, 0);
	if (tries == PORT_TRIES)
		ret = -EADDRNOTAVAIL;
	mark_set(fd, 1);
	if (late)
		real.setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, 4);
	p->own_port = !ret;
	return ret;
}

static enum dmm_fallback path_find(int fd, struct ctx *c, const void *addr,
				   struct path *p)
{
	const struct sockaddr *sa = addr;
	struct sockaddr_in6 me = { 0 };
	socklen_t len = sizeof(me);
	enum dmm_fallback why;
	uint16_t family;
	uint32_t dev = 0, mark = 0;

	memset(p, 0, sizeof(*p));
	p->domain = sa->sa_family;
	addr_in(addr, &p->family, p->daddr, &p->dport, &p->scope);
	if (!p->dport || any_addr(p->daddr))
		return DMM_FALLBACK_ROUTE;
	if (real.getsockname(fd, &me, &len))
		return DMM_FALLBACK_STATE;
	if (me.sin6_family != p->domain)
		return DMM_FALLBACK_FAMILY;
	if (p->domain == AF_INET6 && ((const struct sockaddr_in6 *)addr)->sin6_flowinfo)
		return DMM_FALLBACK_FAMILY;
	addr_in(&me, &family, p->saddr, &p->sport, &dev);
	if (family != p->family && !any_addr(p->saddr))
		return DMM_FALLBACK_FAMILY;
	if (get_u64(fd, SO_NETNS_COOKIE) != c->netns)
		return DMM_FALLBACK_NETNS;
	dev = p->scope;
	if (fd_flags[fd] & FD_OPTIONS) {
		dev = get_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX) ?: (int)p->scope;
		mark = get_int(fd, SOL_SOCKET, SO_MARK);
	}
	why = route_ask(c, p, dev, mark);
	if (why)
		return why;
	if (!p->sport && port_reserve(fd, c, p))
		return DMM_FALLBACK_STATE;
	if (!p->sport)
		return DMM_FALLBACK_STATE;
	return DMM_FALLBACK_NONE;
}

static void connect_op(struct ctx *c, struct sh_sock *s, const struct path *p)
{
	struct dmm_op op[2] = { {
		.op = DMM_OP_CONNECT,
		.slot = s - c->socks,
		.gen = s->gen,
		.connect = {
			.family = p->family,
			.sport = p->sport,
			.dport = p->dport,
			.ifindex = c->ifindex,
			.dscp = s->dscp,
			.ttl = s->ttl,
		},
	} };

	memcpy(op[0].connect.saddr, p->saddr, 16);
	memcpy(op[0].connect.daddr, p->daddr, 16);
	if (s->told)
		op_fill_options(c, s, &op[1]);
	op_send(c, op, s->told ? 2 : 1);
}

#define SAME_MAX	64

/* All numbers of this process that mean the socket are ours from now on. */
static void take_numbers(int fd, struct vsock *v)
{
	bool dupped = fd_flags[fd] & FD_DUPPED, epolled = fd_flags[fd] & FD_EPOLLED;
	int same[SAME_MAX], i, n;

	if (epolled || dupped)
		ep_migrate(fd, v, false);
	fd_install(fd, &v->o);
	if (!dupped)
		return;
	n = fd_same(fd, same, SAME_MAX);
	for (i = 0; i < n; i++)
		if (same[i] < FD_MAX && !fd_obj(same[i]))
			fd_install(same[i], &v->o);
}

static enum dmm_fallback take(int fd, struct ctx *c, const void *addr)
{
	enum dmm_fallback why;
	struct sh_sock *s;
	struct vsock *v;
	struct path p;
	uint32_t slot;

	/* what has ended meanwhile gives its slot and port back */
	events_take(c, false);
	why = path_find(fd, c, addr, &p);
	if (why)
		return why;
	if (slot_take(c, &slot)) {
		if (p.own_port)
			port_give(c, p.sport);
		return slot_why(c);
	}
	s = &c->socks[slot];
	sock_slot_open(c, slot);
	s->state = TCP_SYN_SENT;
	s->flags = SF_CONNECTING | (p.own_port ? SF_PORT : 0);
	if (real.fcntl(fd, F_GETFL, 0) & O_NONBLOCK)
		s->flags |= SF_NONBLOCK;
	s->domain = p.domain;
	s->family = p.family;
	s->lport = p.sport;
	s->rport = p.dport;
	s->scope = c->ifindex;
	memcpy(s->laddr, p.saddr, 16);
	memcpy(s->raddr, p.daddr, 16);
	if (fd_flags[fd] & FD_OPTIONS)
		opt_import(fd, s);
	v = vsock_new(c, slot);
	if (!v) {
		slot_free(c, slot);
		return DMM_FALLBACK_NO_MEMORY;
	}
	connect_op(c, s, &p);
	take_numbers(fd, v);
	return DMM_FALLBACK_NONE;
}

/* The policy gave the socket to a stack. */
static enum dmm_fallback connect_stack(int fd, const void *addr)
{
	socklen_t len = sizeof(uint32_t);
	uint32_t stack = 0;
	struct ctx *c;
	int err;

	if (!(fd_flags[fd] & FD_MADE))
		return DMM_FALLBACK_STATE;
	if (fd_flags[fd] & FD_NATIVE)
		return DMM_FALLBACK_SOCKOPT;
	if (real.getsockopt(fd, SOL_DMM, DMM_SO_STACK, &stack, &len) || !stack)
		return DMM_FALLBACK_STACK_DOWN;
	c = ctx_get(stack, &err);
	if (!c)
		return ctx_why(err);
	return take(fd, c, addr);
}

/* As inet_stream_connect(), from where a connection is under way. */
static int connect_wait(struct vsock *v, int ret)
{
	struct sh_sock *s = v->s;
	uint64_t deadline = 0;
	int err;

	if (!sock_lock(v, &err))
		return err;
	if (!(s->flags & SF_NONBLOCK))
		deadline = s->sndtimeo ? deadline_in(s->sndtimeo) : FOREVER;
	while (s->state == TCP_SYN_SENT) {
		if (!deadline)
			goto out;
		unlock(&s->lock);
		sock_user(v);
		err = sock_wait(v, EPOLLOUT, deadline, -1);
		sock_unuser(v);
		if (err == -ETIMEDOUT)
			return ret;
		if (err == -EINTR && deadline == FOREVER && signals_restart())
			err = 0;
		if (err || !sock_lock(v, &err))
			return err;
	}
	s->flags &= ~SF_CONNECTING;
	ret = 0;
	if (s->state == TCP_CLOSE) {
		ret = s->err ? -(int)s->err : -ECONNABORTED;
		s->err = 0;
	}
out:
	unlock(&s->lock);
	return ret;
}

struct give_back {
	struct vsock *v;
	int fds[SAME_MAX];
	int n;
};

static bool give_back_one(int fd, struct vsock *v, void *arg)
{
	struct give_back *g = arg;

	if (v == g->v && g->n < SAME_MAX)
		g->fds[g->n++] = fd;
	return true;
}

/* The stack's part is over: the numbers mean the kernel's socket again. */
static int give_back(int fd, struct vsock *v)
{
	struct give_back g = { .v = v };
	int i, ret, err;

	if (v->kfd >= 0)	/* shared by processes: there is no way back */
		return -EOPNOTSUPP;
	if (sock_lock(v, &err)) {
		if (v->s->state != TCP_CLOSE) {
			v->s->err = EPIPE;	/* what a reader is told */
			v->s->state = TCP_CLOSE;
			v->s->shutdown = 3;
			if (!(v->s->flags & SF_FINAL))
				op_post(v->ctx, v->s, DMM_OP_ABORT);
		}
		unlock(&v->s->lock);
	}
	sock_dirty(v->ctx, v->s, true, true);
	kick(v->ctx);
	fd_each(give_back_one, &g);
	ret = load_relaxed(&v->s->flags) & SF_PORT ?
		      port_release(g.fds, g.n, v->s->domain) : disconnect_real(fd);
	sock_user(v);
	ep_restore(fd, v);
	for (i = 0; i < g.n; i++) {
		fd_gone(g.fds[i]);
		fd_flags[g.fds[i]] = FD_MADE | FD_OPTIONS | (g.n > 1 ? FD_DUPPED : 0) |
				     FD_EPOLLED;
	}
	sock_unuser(v);
	return ret;
}

/* connect() of a socket that a stack has, or had. */
int sock_reconnect(int fd, struct vsock *v, const void *addr, socklen_t len)
{
	const struct sockaddr *sa = addr;
	uint32_t state, flags;
	int err;

	if (load_relaxed(&v->s->flags) & SF_LISTEN)
		return real.connect(kernel_fd(v, fd), addr, len) ? -errno : 0;
	if (len < sizeof(sa->sa_family))
		return -EINVAL;
	if (sa->sa_family == AF_UNSPEC)
		return give_back(fd, v);
	events_take(v->ctx, false);
	if (!sock_lock(v, &err))
		return err;
	state = v->s->state;
	flags = v->s->flags;
	unlock(&v->s->lock);
	if (flags & SF_CONNECTING)
		return connect_wait(v, state == TCP_SYN_SENT ? -EALREADY : 0);
	if (state != TCP_CLOSE)
		return -EISCONN;
	err = give_back(fd, v);
	return err ? err : sock_connect(fd, addr, len);
}

/*
 * As connect(), and without a mark if it failed: what the verdict counted is taken back
 * when another program denied the call after ours. Return: 0, -errno or DMM_SHIM_TAKE.
 */
static int connect_asking(int fd, const void *addr, socklen_t len)
{
	int ret = real.connect(fd, addr, len);

	if (ret >= 0)
		return ret;
	ret = -errno;
	if (ret != -EINPROGRESS)
		mark_set(fd, 0);
	return ret;
}

/* connect() of any other socket. */
int sock_connect(int fd, const void *addr, socklen_t len)
{
	enum dmm_fallback why;
	struct vsock *v;
	int err = errno, ret;

	if ((unsigned int)fd >= FD_MAX)
		return real.connect(fd, addr, len) ? -errno : 0;
	/*
	 * A program that denied us the mark after ours had set it leaves us without a
	 * say: the socket is the kernel's.
	 */
	why = mark_set(fd, 1) ? DMM_FALLBACK_SOCKOPT : DMM_FALLBACK_NONE;
	errno = err;
	ret = connect_asking(fd, addr, len);
	if (ret != DMM_SHIM_TAKE)
		return ret;
	if (!why) {
		fd_flags[fd] |= FD_TAKING;
		why = connect_stack(fd, addr);
		fd_flags[fd] &= ~FD_TAKING;
	}
	if (why) {
		note(fd, "native", reasons[why]);
		tell_why(fd, why);
		return real.connect(fd, addr, len) ? -errno : 0;
	}
	note(fd, "stack", NULL);
	v = fd_sock(fd);
	return v ? connect_wait(v, -EINPROGRESS) : -EBADF;
}
