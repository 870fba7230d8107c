// SPDX-License-Identifier: Apache-2.0
/*
 * Dual listen: the program's own listener goes on with the kernel, and the stack has
 * one beside it. accept() gives the children of both; those of the stack come with
 * the event ring, get their slot and wait in the listener's queue, which all processes
 * that have the listener share.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "shim.h"

static bool any_addr(const uint32_t *a)
{
	return !(a[0] | a[1] | a[2] | a[3]);
}

/* bind(): marked, so that the policy's verdict is kept for listen(). */
int sock_bind_mark(int fd, const void *addr, socklen_t len)
{
	uint32_t one = 1, zero = 0;
	int err = errno, ret;
	bool marked;

	if (fd_flags[fd] & FD_NATIVE) {
		tell_why(fd, DMM_FALLBACK_SOCKOPT);
		return real.bind(fd, addr, len) ? -errno : 0;
	}
	marked = !real.setsockopt(fd, SOL_DMM, DMM_SO_SHIM, &one, sizeof(one));
	errno = err;
	ret = real.bind(fd, addr, len) ? -errno : 0;
	if (!ret && marked)
		fd_flags[fd] |= FD_LISTENED;
	else if (marked)
		real.setsockopt(fd, SOL_DMM, DMM_SO_SHIM, &zero, sizeof(zero));
	return ret;
}

int listen_op(int fd, struct ctx *c, struct sh_sock *s)
{
	struct dmm_op op = {
		.op = DMM_OP_LISTEN,
		.slot = s - c->socks,
		.gen = s->gen,
		.listen = {
			.family = s->family,
			.port = s->lport,
			.backlog = s->backlog,
			.ifindex = c->ifindex,
		},
	};
	socklen_t len = sizeof(int);
	int only = 0, defer = 0;

	memcpy(op.listen.addr, s->laddr, 16);
	if (!real.getsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer, &len))
		op.listen.defer = defer;
	len = sizeof(int);
	if (s->family == AF_INET6 &&
	    !real.getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &len) && only)
		op.listen.flags = DMM_LISTEN_V6ONLY;
	return op_send(c, &op, 1);
}

/* Where it is bound to, as the stack's listener says it. */
static bool listen_addr(int fd, struct sh_sock *s)
{
	struct sockaddr_in6 a = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&a;
	socklen_t len = sizeof(a);

	if (real.getsockname(fd, &a, &len))
		return false;
	s->domain = a.sin6_family;
	s->family = a.sin6_family;
	s->lport = in->sin_port;
	if (a.sin6_family == AF_INET) {
		s->laddr[0] = in->sin_addr.s_addr;
	} else if (IN6_IS_ADDR_V4MAPPED(&a.sin6_addr)) {
		s->family = AF_INET;
		s->laddr[0] = a.sin6_addr.s6_addr32[3];
	} else if (a.sin6_family == AF_INET6) {
		memcpy(s->laddr, &a.sin6_addr, 16);
	}
	/* loopback never reaches a device */
	if (s->family == AF_INET && (ntohl(s->laddr[0]) >> 24) == 127)
		return false;
	return s->family != AF_INET6 || !IN6_IS_ADDR_LOOPBACK(&a.sin6_addr);
}

static uint32_t backlog_of(int backlog)
{
	static int most;
	char text[16];
	int fd;

	if (!most) {
		most = 4096;
		fd = open("/proc/sys/net/core/somaxconn", O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && real.read(fd, text, sizeof(text)) > 0)
			sscanf(text, "%d", &most);
		if (fd >= 0)
			real.close(fd);
	}
	return (unsigned int)backlog > (unsigned int)most ? most : backlog;
}

/* What only the kernel can honour is set on it, or on its cgroup. */
static enum dmm_fallback why_native(int fd)
{
	socklen_t len = sizeof(uint32_t);
	uint32_t why = 0;

	if (real.getsockopt(fd, SOL_DMM, DMM_SO_WHY, &why, &len) || why > DMM_FALLBACK_MAX)
		return DMM_FALLBACK_NONE;
	return why;
}

/**
 * listen_prepare() - a stack's half of a listener, of which the stack does not know yet
 * @fd: the kernel's half, bound
 * @c: the stack's context
 * @backlog: as listen() has it from now on
 * @vp: set to the half, for listen_go(), or sock_let_go()
 */
enum dmm_fallback listen_prepare(int fd, struct ctx *c, uint32_t backlog,
				 struct vsock **vp)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	enum dmm_fallback why = why_native(fd);
	struct sh_sock *s;
	struct vsock *v;
	uint32_t slot;

	if (why)
		return why;
	if (real.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) ||
	    cookie != c->netns)
		return DMM_FALLBACK_NETNS;
	if (slot_take(c, &slot))
		return slot_why(c);
	s = &c->socks[slot];
	sock_slot_open(c, slot);
	s->state = TCP_LISTEN;
	s->flags = SF_LISTEN;
	s->backlog = backlog;
	if (!listen_addr(fd, s)) {
		slot_free(c, slot);
		return DMM_FALLBACK_ROUTE;
	}
	opt_import(fd, s);
	if (real.fcntl(fd, F_GETFL, 0) & O_NONBLOCK)
		s->flags |= SF_NONBLOCK;
	v = vsock_new(c, slot);
	if (!v) {
		slot_free(c, slot);
		return DMM_FALLBACK_NO_MEMORY;
	}
	*vp = v;
	return DMM_FALLBACK_NONE;
}

/* The stack serves it from now on. */
void listen_go(int fd, struct vsock *v)
{
	listen_op(fd, v->ctx, v->s);
	op_settle(v->ctx);
}

/*
 * The kernel's alone, though a rule gave it to a stack. Return: 0; -ENETDOWN, the rule
 * does not let it.
 */
int listen_fell_back(int fd, enum dmm_fallback why)
{
	uint32_t val = why;
	int ret = 0;

	if (real.setsockopt(fd, SOL_DMM, DMM_SO_LISTEN, &val, sizeof(val)) &&
	    errno == ENETDOWN)
		ret = -errno;
	note(fd, ret ? "does not listen" : "listens natively", reason_name(why));
	return ret;
}

/* The stack that bind() gave it to: its half, or why there is none; NULL with neither. */
static enum dmm_fallback listen_stack(int fd, int backlog, struct vsock **vp)
{
	socklen_t len = sizeof(uint32_t);
	uint32_t stack = 0;
	struct ctx *c;
	int err;

	if (real.getsockopt(fd, SOL_DMM, DMM_SO_STACK, &stack, &len) || !stack)
		return DMM_FALLBACK_NONE;
	if (load_relaxed(&shim_off))
		return DMM_FALLBACK_IO_URING;
	if (fd_flags[fd] & FD_NATIVE)
		return DMM_FALLBACK_SOCKOPT;
	c = ctx_get(stack, &err);
	return c ? listen_prepare(fd, c, backlog_of(backlog), vp) :
		   ctx_why(err);
}

/* listen() of one that both sides serve already, if the stack is there. */
static void listen_again(int fd, struct vsock *v, int backlog)
{
	v->s->backlog = backlog_of(backlog);
	if (load_relaxed(&v->ctx->sh->dead))
		relisten_one(fd, v);
	else
		listen_go(fd, v);
}

/* listen(): the kernel's, and the stack's, too? */
int sock_listen(int fd, int backlog)
{
	struct vsock *v = fd_sock(fd), *new = NULL;
	enum dmm_fallback why = DMM_FALLBACK_NONE;
	int err = errno, ret;
	uint16_t flags;

	if (v && load_relaxed(&v->s->state) == TCP_LISTEN) {
		ret = real.listen(fd, backlog) ? -errno : 0;
		if (!ret)
			listen_again(fd, v, backlog);
		goto out;
	}
	if (v || ((unsigned int)fd < FD_MAX && fd_flags[fd] & FD_LISTENED))
		why = listen_stack(fd, backlog, &new);
	ret = why ? listen_fell_back(fd, why) : 0;
	if (!ret && real.listen(fd, backlog))
		ret = -errno;
	if (ret) {
		if (new)
			sock_let_go(new);
		goto out;
	}
	if (v) {	/* was shut down, and now is back */
		flags = fd_flags[fd] | FD_EPOLLED;
		fd_gone(fd);
		fd_flags[fd] = flags;
	}
	if (new) {
		listen_go(fd, new);
		if (fd_flags[fd] & (FD_EPOLLED | FD_DUPPED))
			ep_migrate(fd, new, true);
		fd_install(fd, &new->o);
		note(fd, "listens with the stack", NULL);
	}
out:
	if (!ret)
		errno = err;
	return ret;
}

/* ---- children that arrive ------------------------------------------------------------ */

static bool incoming_valid(const struct sh_sock *l, const struct dmm_ev_incoming *in)
{
	if (in->lport != l->lport || !in->rport || any_addr(in->laddr) ||
	    any_addr(in->raddr))
		return false;
	if (in->family == AF_INET)
		return !(in->laddr[1] | in->laddr[2] | in->laddr[3] | in->raddr[1] |
			 in->raddr[2] | in->raddr[3]);
	return in->family == AF_INET6 && l->domain == AF_INET6;
}

static bool child_make(struct ctx *c, struct sh_sock *l, const struct dmm_ev_incoming *in,
		       uint32_t *slotp)
{
	struct dmm_op op[2] = { {
		.op = DMM_OP_ATTACH,
		.attach = { .token = in->token, .listener = l - c->socks },
	} };
	struct sh_sock *s;
	uint32_t slot;

	if (slot_take(c, &slot))
		return false;
	s = &c->socks[slot];
	sock_slot_open(c, slot);
	s->state = TCP_ESTABLISHED;
	s->flags = SF_QUEUED;
	s->domain = l->domain;
	s->family = in->family;
	s->lport = in->lport;
	s->rport = in->rport;
	s->scope = c->ifindex;
	memcpy(s->laddr, in->laddr, 16);
	memcpy(s->raddr, in->raddr, 16);
	s->opt_set = l->opt_set;
	s->keepidle = l->keepidle;
	s->keepintvl = l->keepintvl;
	s->keepcnt = l->keepcnt;
	s->user_timeout = l->user_timeout;
	s->fin_timeout = l->fin_timeout;
	s->sndlimit = l->sndlimit;
	s->rcvbuf = l->rcvbuf;
	s->dscp = l->dscp;
	s->ttl = l->ttl;
	s->told = l->told;
	s->inq = l->inq;
	s->zerocopy = l->zerocopy;
	s->rcvtimeo = l->rcvtimeo;
	s->sndtimeo = l->sndtimeo;
	s->rcvlowat = l->rcvlowat;
	s->linger_on = l->linger_on;
	s->linger_s = l->linger_s;
	op[0].slot = slot;
	op[0].gen = s->gen;
	if (s->told)
		op_fill_options(c, s, &op[1]);
	if (op_send(c, op, s->told ? 2 : 1)) {
		slot_free(c, slot);
		return false;
	}
	*slotp = slot;
	return true;
}

/* From events_take(): a child for a listener. Return: whether it made sense. */
bool listen_incoming(struct ctx *c, uint32_t slot, const struct dmm_event *ev)
{
	struct sh_sock *l = &c->socks[slot];
	bool ok = false, in = false;
	uint32_t child;

	if (!lock(&l->lock))
		return true;
	if (!(l->flags & SF_LISTEN) || l->state != TCP_LISTEN ||
	    !incoming_valid(l, &ev->incoming))
		goto out;
	ok = true;
	/* full: the worker offers it again, as a peer repeats its ACK */
	if (l->qlen > l->backlog || !child_make(c, l, &ev->incoming, &child))
		goto out;
	if (l->tail)
		c->socks[l->tail - 1].next = child + 1;
	else
		l->queue = child + 1;
	l->tail = child + 1;
	store_release(&l->qlen, l->qlen + 1);
	in = true;
out:
	unlock(&l->lock);
	if (in)
		sock_dirty(c, l, true, false);
	return ok;
}

static bool child_pop(struct ctx *c, struct sh_sock *l, uint32_t *slot)
{
	bool got = false;

	if (!load_relaxed(&l->qlen) || !lock(&l->lock))
		return false;
	if (l->queue) {
		got = true;
		*slot = l->queue - 1;
		l->queue = c->socks[*slot].next;
		c->socks[*slot].next = 0;
		if (!l->queue)
			l->tail = 0;
		store_relaxed(&l->qlen, l->qlen - 1);
	}
	unlock(&l->lock);
	return got;
}

/* Nobody will accept them: they are reset. */
void listen_drain(struct ctx *c, struct sh_sock *l)
{
	uint32_t slot;

	while (child_pop(c, l, &slot))
		sock_forget(c, slot, true);
}

/*
 * What accept() of @fd, a listener that was @v, has to look at by now; the caller is a
 * user of @v, and of what this gives instead. NULL: the kernel's listener, if any.
 */
static struct vsock *listener_now(int fd, struct vsock *v)
{
	struct vsock *now;

	relisten_one(fd, v);
	now = fd_sock(fd);
	if (now == v)
		return v;
	sock_unuser(v);
	if (now && !(load_relaxed(&now->s->flags) & SF_LISTEN))
		now = NULL;
	if (now)
		sock_user(now);
	return now;
}

/* ---- accept() -------------------------------------------------------------------------- */

/* A descriptor for a child: a socket of the kernel's, as the program could have made it. */
static int child_open(int lfd, struct vsock *lv, uint32_t slot, int flags)
{
	struct ctx *c = lv->ctx;
	struct sh_sock *s = &c->socks[slot];
	struct vsock *v;
	int fd, err;

	fd = real.socket(s->domain, SOCK_STREAM | (flags & SOCK_CLOEXEC) |
			 (flags & SOCK_NONBLOCK), 0);
	if (fd < 0)
		return -errno;
	v = fd < FD_MAX ? vsock_new(c, slot) : NULL;
	if (!v) {
		err = fd < FD_MAX ? -ENOMEM : -EMFILE;
		real.close(fd);
		return err;
	}
	fd_flags[fd] = 0;
	if (lfd < FD_MAX && fd_flags[lfd] & FD_OPTIONS)
		opt_inherit(kernel_fd(lv, lfd), lv, fd);
	if (lock(&s->lock)) {
		s->flags &= ~SF_QUEUED;
		if (flags & SOCK_NONBLOCK)
			s->flags |= SF_NONBLOCK;
		unlock(&s->lock);
	}
	fd_install(fd, &v->o);
	return fd;
}

static int accept_stack(int lfd, struct vsock *lv, void *addr, socklen_t *len, int flags)
{
	uint32_t slot;
	int fd;

	if (!child_pop(lv->ctx, lv->s, &slot))
		return -EAGAIN;
	fd = child_open(lfd, lv, slot, flags);
	if (fd < 0) {
		sock_forget(lv->ctx, slot, true);
		return fd;
	}
	if (addr && len)
		addr_out(&lv->ctx->socks[slot], true, addr, len);
	return fd;
}

static bool readable_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return real.poll(&p, 1, 0) > 0;
}

/*
 * One of either side: who waits at the kernel's is looked for now and then even while
 * the stack has plenty. A blocking listener's kernel half is only asked when it is
 * readable; another thread may be quicker, and then we wait there, as two native
 * acceptors would.
 */
int sock_accept(int fd, struct vsock *v, void *addr, socklen_t *len, int flags)
{
	static __thread uint32_t turn __attribute__((tls_model("initial-exec")));
	uint64_t deadline = 0;
	int ret = -EAGAIN, got;

	if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
		return -EINVAL;
	if (!(load_relaxed(&v->s->flags) & SF_NONBLOCK))
		deadline = v->s->rcvtimeo ? deadline_in(v->s->rcvtimeo) : FOREVER;
	sock_user(v);
	for (;;) {
		if (unlikely(load_relaxed(&v->ctx->sh->dead)))
			v = listener_now(fd, v);
		if (unlikely(!v)) {
			ret = real.accept4(fd, addr, len, flags);
			if ((unsigned int)ret < FD_MAX)
				fd_flags[ret] = 0;
			return ret < 0 ? -errno : ret;
		}
		events_take(v->ctx, false);
		if (load_relaxed(&v->s->state) != TCP_LISTEN) {
			ret = -EINVAL;
			break;
		}
		if (++turn % 16) {
			ret = accept_stack(fd, v, addr, len, flags);
			if (ret != -EAGAIN)
				break;
		}
		if (readable_now(fd)) {
			got = real.accept4(fd, addr, len, flags);
			ret = got < 0 ? -errno : got;
			if (ret != -EAGAIN)
				break;
		}
		ret = accept_stack(fd, v, addr, len, flags);
		if (ret != -EAGAIN || !deadline)
			break;
		ret = sock_wait(v, EPOLLIN, deadline, fd);
		if (ret == -EINTR && deadline == FOREVER && signals_restart())
			ret = 0;
		if (ret == -ETIMEDOUT)
			ret = -EAGAIN;
		if (ret)
			break;
	}
	sock_unuser(v);
	if (ret >= 0 && ret < FD_MAX && !fd_obj(ret))
		fd_flags[ret] = 0;
	return ret;
}
