// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes: as sendmsg_locked() and recvmsg_locked() of kmod/proto.c, to and from the
 * rings. Whatever the worker wrote is loaded once and checked as a copy.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

#define PIECE		65536	/* so that the worker begins while the rest is copied */
#define BROKEN		UINT32_MAX
#define RCV_SHUTDOWN	1
#define SEND_SHUTDOWN	2

/* Bytes to read, or BROKEN; under the lock. */
static uint32_t rx_avail(struct vsock *v)
{
	struct sh_sock *s = v->s;
	uint32_t prod = load_acquire(&v->shm->rx_prod);
	uint32_t avail = prod - s->rx_cons;

	/* what was once shown stays so */
	if (avail > v->ctx->geo.rx_size || avail < s->rx_low - s->rx_cons)
		return BROKEN;
	s->rx_low = prod;
	return avail;
}

static uint32_t tx_used(struct vsock *v)
{
	struct sh_sock *s = v->s;
	uint32_t cons = load_acquire(&v->shm->tx_cons);
	uint32_t used = s->tx_prod - cons;

	if (used > v->ctx->geo.tx_size || used > s->tx_prod - s->tx_low)
		return BROKEN;
	s->tx_low = cons;
	return used;
}

bool sock_rx_broken(struct vsock *v)
{
	return rx_avail(v) == BROKEN;
}

uint32_t sock_inq(struct vsock *v)
{
	uint32_t n = load_acquire(&v->shm->rx_prod) - load_relaxed(&v->s->rx_cons);

	return n > v->ctx->geo.rx_size ? 0 : n;
}

uint32_t sock_outq(struct vsock *v)
{
	uint32_t n = load_relaxed(&v->s->tx_prod) - load_acquire(&v->shm->tx_cons);

	return n > v->ctx->geo.tx_size ? 0 : n;
}

/* Of these, what has not left yet, as the worker says. */
uint32_t sock_unsent(struct vsock *v)
{
	uint32_t used = sock_outq(v);
	uint32_t n = load_relaxed(&v->s->tx_prod) - load_relaxed(&v->shm->tx_sent);

	return n <= used ? n : 0;
}

/* How much of the ring may be filled: SO_SNDBUF counts some two bytes for each. */
uint32_t sock_tx_limit(const struct vsock *v)
{
	uint32_t size = v->ctx->geo.tx_size, limit = load_relaxed(&v->s->sndlimit) / 2;

	if (likely(!limit))
		return size;
	return min(max(limit, (uint32_t)DMM_RING_MIN), size);
}

/* The worker wrote an impossible index: the socket is lost. Under the lock. */
static void sock_broken(struct vsock *v)
{
	op_post(v->ctx, v->s, DMM_OP_ABORT);
	sock_reset(v->s, ECONNRESET);
}

static size_t iov_total(const struct iovec *iov, size_t n)
{
	size_t i, sum = 0;

	for (i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* ---- to the worker ----------------------------------------------------------------- */

/* @len more bytes are in the ring; @more will follow. */
static void tx_publish(struct vsock *v, uint32_t len, bool more)
{
	uint32_t old = v->s->tx_prod;

	if (unlikely(more))
		store_relaxed(&v->shm->tx_more, old + len);

	store_relaxed(&v->s->tx_prod, old + len);
	store_release(&v->shm->tx_prod, old + len);
	/* pairs with the worker's, between arming and looking again */
	full_barrier();
	if (dmm_need_event(load_relaxed(&v->shm->tx_event), old + len, old))
		op_post(v->ctx, v->s, DMM_OP_TX);
}

struct cursor {
	const struct iovec *iov;
	size_t n, off;
};

/* Copy between the ring, from index @at on, and the cursor's buffers: @len bytes. */
static void ring_copy(uint8_t *ring, uint32_t size, uint32_t at, struct cursor *c,
		      size_t len, bool in)
{
	while (len) {
		uint32_t pos = at & (size - 1);
		size_t part = min(len, (size_t)(size - pos));
		char *buf;

		while (c->off == c->iov->iov_len) {
			c->iov++;
			c->n--;
			c->off = 0;
		}
		part = min(part, c->iov->iov_len - c->off);
		buf = (char *)c->iov->iov_base + c->off;
		if (in)
			memcpy(ring + pos, buf, part);
		else
			memcpy(buf, ring + pos, part);
		c->off += part;
		at += part;
		len -= part;
	}
}

/*
 * Why nothing more can be sent, or 0; under the lock. TCP's order. A call that sent
 * something (@done) tells that; the error is the next one's.
 */
static int send_error(struct sh_sock *s, size_t done)
{
	uint32_t err = s->err;

	if (!err && !(s->shutdown & SEND_SHUTDOWN) && s->state != TCP_CLOSE)
		return 0;
	if (done)
		return -EPIPE;
	s->err = 0;
	return err ? -(int)err : -EPIPE;
}

static void sigpipe(int flags)
{
	if (!(flags & MSG_NOSIGNAL))
		syscall(SYS_tgkill, getpid(), lock_tid(), SIGPIPE);
}

static uint64_t send_deadline(struct sh_sock *s, int flags)
{
	if (flags & MSG_DONTWAIT || s->flags & SF_NONBLOCK)
		return 0;
	return s->sndtimeo ? deadline_in(s->sndtimeo) : FOREVER;
}

/*
 * Nothing fits, or it is not connected yet: wait, with the lock let go meanwhile.
 * Return: 0, look again, with the lock; or -errno, without.
 */
static int send_wait(struct vsock *v, uint64_t deadline, bool had_timeout)
{
	int ret, err;

	unlock(&v->s->lock);
	if (!deadline) {
		/* an edge is due when there is room again */
		events_take(v->ctx, false);
		if (!(sock_mask(v, true) & (EPOLLOUT | EPOLLERR)) ||
		    load_relaxed(&v->s->state) == TCP_SYN_SENT)
			return -EAGAIN;
	} else {
		ret = sock_wait(v, EPOLLOUT, deadline, -1);
		if (ret == -ETIMEDOUT)
			return -EAGAIN;
		if (ret == -EINTR && !had_timeout && signals_restart())
			ret = 0;
		if (ret)
			return ret;
	}
	return sock_lock(v, &err) ? 0 : err;
}

/* One piece; bytes, 0 when full, or -errno. */
static ssize_t send_piece(struct vsock *v, struct cursor *cur, size_t left, int flags)
{
	uint32_t used = tx_used(v), limit = sock_tx_limit(v);
	size_t n;

	if (used == BROKEN) {
		sock_broken(v);
		return -EPIPE;
	}
	if (used >= limit)
		return 0;
	n = min(min(left, (size_t)PIECE), (size_t)(limit - used));
	ring_copy(v->tx, v->ctx->geo.tx_size, v->s->tx_prod, cur, n, true);
	tx_publish(v, n, flags & MSG_MORE && n == left);
	return n;
}

/* The bytes are copied; whoever asked is told so, as TCP may. */
static void zerocopy_done(struct vsock *v)
{
	if (!v->s->zerocopy)
		return;
	__atomic_add_fetch(&v->s->zc_next, 1, __ATOMIC_RELEASE);
	sock_dirty(v->ctx, v->s, true, true);
}

/**
 * sock_send() - send as sendmsg() does
 * @v: the socket
 * @iov, @n: the bytes
 * @flags: MSG_*
 *
 * Return: bytes, or -errno; after SIGPIPE where TCP sends it.
 */
ssize_t sock_send(struct vsock *v, const struct iovec *iov, size_t n, int flags)
{
	size_t left = iov_total(iov, n), done = 0;
	struct cursor cur = { .iov = iov, .n = n };
	struct sh_sock *s = v->s;
	uint64_t deadline;
	bool timed;
	ssize_t m;
	int ret;

	if (left > INT32_MAX)
		left = INT32_MAX & ~4095;
	if (!sock_lock(v, &ret))
		return ret;
	if (unlikely(flags & (MSG_OOB | MSG_FASTOPEN))) {
		unlock(&s->lock);
		return flags & MSG_OOB ? -EOPNOTSUPP : -EISCONN;
	}
	sock_user(v);
	deadline = send_deadline(s, flags);
	timed = deadline != FOREVER;
	while (unlikely(s->state == TCP_SYN_SENT)) {
		ret = send_wait(v, deadline, timed);
		if (ret)
			goto out;
	}
	ret = send_error(s, done);
	while (!ret && left) {
		m = send_piece(v, &cur, left, flags);
		if (m > 0) {
			done += m;
			left -= m;
			continue;
		}
		ret = m;
		if (!ret)
			ret = send_wait(v, deadline, timed);
		else
			unlock(&s->lock);
		if (ret)
			goto out;
		ret = send_error(s, done);
	}
	unlock(&s->lock);
out:
	sock_unuser(v);
	if (done && unlikely(flags & MSG_ZEROCOPY))
		zerocopy_done(v);
	if (done)
		return done;
	if (ret == -EPIPE)
		sigpipe(flags);
	return ret;
}

/* ---- from the worker --------------------------------------------------------------- */

static void rx_consume(struct vsock *v, uint32_t len)
{
	uint32_t old = v->s->rx_cons;

	store_relaxed(&v->s->rx_cons, old + len);
	store_release(&v->shm->rx_cons, old + len);
	/* pairs with the worker's, between arming and looking again */
	full_barrier();
	if (dmm_need_event(load_relaxed(&v->shm->rx_room_event), old + len, old))
		op_post(v->ctx, v->s, DMM_OP_ROOM);
}

/* Why there is nothing: 1 wait, 0 the end, or -errno; under the lock. */
static int recv_nothing(struct sh_sock *s)
{
	int err;

	if (s->flags & SF_DONE)
		return 0;
	if (s->err) {
		err = s->err;
		s->err = 0;
		return -err;
	}
	if (s->shutdown & RCV_SHUTDOWN)
		return 0;
	if (s->state == TCP_CLOSE)
		return -ENOTCONN;
	return 1;
}

static void peek_forward(struct sh_sock *s, size_t n)
{
	if (s->peek_off >= 0)
		s->peek_off += n;
}

static void peek_back(struct sh_sock *s, size_t n)
{
	if (s->peek_off >= 0)
		s->peek_off = s->peek_off > (int)n ? s->peek_off - (int)n : 0;
}

/* What is there, from @skip on; bytes or 0. Under the lock. */
static size_t recv_piece(struct vsock *v, struct cursor *cur, size_t left, uint32_t skip,
			 int flags)
{
	uint32_t avail = rx_avail(v);
	size_t n;

	if (avail == BROKEN) {
		sock_broken(v);
		return 0;
	}
	if (avail <= skip)
		return 0;
	n = min(left, (size_t)(avail - skip));
	if (!(flags & MSG_TRUNC))
		ring_copy(v->rx, v->ctx->geo.rx_size, v->s->rx_cons + skip, cur, n,
			  false);
	if (!(flags & MSG_PEEK) && n)
		rx_consume(v, n);
	return n;
}

/* How many times a program that never sleeps asks before we ask for the worker. */
#define EMPTY_LOOKS	1024

static void empty_look(struct vsock *v)
{
	static __thread uint32_t looks __attribute__((tls_model("initial-exec")));

	if (++looks % EMPTY_LOOKS == 0)
		ctx_look(v->ctx);
}

/* The deadline is looked up late: most calls find bytes and need none. */
static uint64_t recv_deadline(struct sh_sock *s, int flags)
{
	if (flags & MSG_DONTWAIT || s->flags & SF_NONBLOCK)
		return 0;
	return s->rcvtimeo ? deadline_in(s->rcvtimeo) : FOREVER;
}

/**
 * sock_recv() - receive as recvmsg() does
 * @v: the socket
 * @iov, @n: where to
 * @flags: MSG_*
 *
 * Return: bytes, 0 at the end, or -errno.
 */
ssize_t sock_recv(struct vsock *v, const struct iovec *iov, size_t n, int flags)
{
	size_t left = iov_total(iov, n), len = left, done = 0, target;
	struct cursor cur = { .iov = iov, .n = n };
	struct sh_sock *s = v->s;
	uint64_t deadline = FOREVER;
	bool started = false, taken = false;
	uint32_t skip = 0;
	int ret = 0;

	if (flags & MSG_ERRQUEUE)
		return -EAGAIN;
	if (!sock_lock(v, &ret))
		return ret;
	if (flags & MSG_OOB) {
		unlock(&s->lock);
		return -EINVAL;
	}
	target = flags & MSG_WAITALL ? len : min(len, (size_t)s->rcvlowat);
	target = max(target, (size_t)1);
	if (flags & MSG_PEEK && s->peek_off > 0)
		skip = s->peek_off;
	for (;;) {
		size_t m = recv_piece(v, &cur, left, skip, flags);

		if (m) {
			done += m;
			left -= m;
			if (flags & MSG_PEEK)
				skip += m;
			if (!left || done >= target)
				break;
			continue;
		}
		if (done >= target || skip >= v->ctx->geo.rx_size)
			break;
		/* nothing is wanted, and there is something: as TCP, 0 */
		if (!len && rx_avail(v))
			break;
		/* what came first in the event ring comes first here, too */
		if (!taken && events_waiting(v->ctx)) {
			unlock(&s->lock);
			events_take(v->ctx, false);
			taken = true;
			if (!sock_lock(v, &ret))
				goto out;
			continue;
		}
		if (done && (s->err || s->state == TCP_CLOSE ||
			     s->shutdown & RCV_SHUTDOWN))
			break;
		ret = done ? 1 : recv_nothing(s);
		if (ret <= 0)
			break;
		if (!started) {
			deadline = recv_deadline(s, flags);
			started = true;
			sock_user(v);
		}
		ret = -EAGAIN;
		if (!deadline) {
			empty_look(v);
			break;
		}
		unlock(&s->lock);
		ret = sock_wait(v, EPOLLIN | EPOLLRDHUP, deadline, -1);
		if (ret == -EINTR && deadline == FOREVER && !done && signals_restart())
			ret = 0;
		if (ret == -ETIMEDOUT)
			ret = -EAGAIN;
		if (ret || !sock_lock(v, &ret))
			goto out;
		taken = false;
	}
	if (done && flags & MSG_PEEK)
		peek_forward(s, done);
	else if (done)
		peek_back(s, done);
	unlock(&s->lock);
out:
	if (started)
		sock_unuser(v);
	return done ? (ssize_t)done : ret > 0 ? 0 : ret;
}

/* ---- files and pipes --------------------------------------------------------------- */

/*
 * The other end may be a pipe, which must not keep us waiting under the lock. What does
 * not know RWF_NOWAIT (regular files) does not wait for long.
 */
static ssize_t file_read(int fd, void *buf, size_t len, off_t *off)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	ssize_t n;

	if (off) {
		n = pread(fd, buf, len, *off);
	} else {
		n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
		if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
			n = real.read(fd, buf, len);
	}
	return n < 0 ? -errno : n;
}

static ssize_t file_write(int fd, void *buf, size_t len)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	ssize_t n = pwritev2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
		n = real.write(fd, buf, len);
	return n < 0 ? -errno : n;
}

static int file_wait(int fd, short events, bool nonblock)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (nonblock)
		return -EAGAIN;
	return real.poll(&p, 1, -1) < 0 ? -errno : 0;
}

static bool file_nonblock(int fd)
{
	return real.fcntl(fd, F_GETFL, 0) & O_NONBLOCK;
}

/* One piece into the ring; bytes, 0 at the file's end, -ENOBUFS when it is full. */
static ssize_t file_to_ring(struct vsock *v, int in, off_t *off, size_t left)
{
	uint32_t size = v->ctx->geo.tx_size, used = tx_used(v), pos;
	uint32_t limit = sock_tx_limit(v);
	ssize_t n;

	if (used == BROKEN) {
		sock_broken(v);
		return -EPIPE;
	}
	if (used >= limit)
		return -ENOBUFS;
	pos = v->s->tx_prod & (size - 1);
	left = min(min(left, (size_t)(limit - used)), (size_t)(size - pos));
	n = file_read(in, v->tx + pos, min(left, (size_t)PIECE), off);
	if (n > 0) {
		tx_publish(v, n, false);
		if (off)
			*off += n;
	}
	return n;
}

/**
 * sock_recv_from_file() - sendfile() and splice() toward the peer
 * @v: the socket
 * @in: a file or a pipe
 * @off: where to begin, and moved on; NULL for the file's own position
 * @len: at most
 *
 * Return: bytes, 0 at the file's end, or -errno.
 */
ssize_t sock_recv_from_file(struct vsock *v, int in, off_t *off, size_t len)
{
	struct sh_sock *s = v->s;
	uint64_t deadline;
	size_t done = 0;
	ssize_t n;
	int ret;

	if (!sock_lock(v, &ret))
		return ret;
	sock_user(v);
	deadline = send_deadline(s, 0);
	while (s->state == TCP_SYN_SENT) {
		ret = send_wait(v, deadline, deadline != FOREVER);
		if (ret)
			goto out;
	}
	ret = send_error(s, done);
	while (!ret && done < len) {
		n = file_to_ring(v, in, off, len - done);
		if (n > 0) {
			done += n;
			continue;
		}
		if (!n)
			break;
		ret = n;
		if (n == -ENOBUFS) {
			ret = send_wait(v, deadline, deadline != FOREVER);
		} else if (n == -EAGAIN && !done) {
			unlock(&s->lock);
			ret = file_wait(in, POLLIN, file_nonblock(in));
			if (!ret && !sock_lock(v, &ret))
				goto out;
		} else {
			break;
		}
		if (ret)
			goto out;
		ret = send_error(s, done);
	}
	unlock(&s->lock);
out:
	sock_unuser(v);
	if (!done && ret == -EPIPE)
		sigpipe(0);
	return done ? (ssize_t)done : ret;
}

/* What is there, from the ring into a pipe; bytes, 0 for nothing, or -errno. */
static ssize_t ring_to_file(struct vsock *v, int out, size_t len)
{
	uint32_t size = v->ctx->geo.rx_size, avail = rx_avail(v), pos;
	size_t done = 0, part;
	ssize_t n = 0;

	if (avail == BROKEN) {
		sock_broken(v);
		return 0;
	}
	while (avail && done < len) {
		pos = v->s->rx_cons & (size - 1);
		part = min(min(len - done, (size_t)avail), (size_t)(size - pos));
		n = file_write(out, v->rx + pos, part);
		if (n <= 0)
			break;
		rx_consume(v, n);
		done += n;
		avail -= n;
		if ((size_t)n < part)
			break;
	}
	return done ? (ssize_t)done : n;
}

/**
 * sock_send_to_file() - splice() from the peer
 * @v: the socket
 * @out: a pipe
 * @len: at most
 * @nonblock: SPLICE_F_NONBLOCK
 *
 * Return: bytes, 0 at the end, or -errno.
 */
ssize_t sock_send_to_file(struct vsock *v, int out, size_t len, bool nonblock)
{
	struct iovec one = { .iov_base = &(char){ 0 }, .iov_len = 1 };
	ssize_t n;
	int ret;

	sock_user(v);
	do {
		n = -EBADF;
		if (!sock_lock(v, &ret))
			break;
		n = ring_to_file(v, out, len);
		unlock(&v->s->lock);
		if (n == -EAGAIN) {
			n = file_wait(out, POLLOUT, nonblock);
			if (n)
				break;
		} else if (n) {
			break;
		} else {
			/* a look at the next byte waits for it, or tells of the end */
			n = sock_recv(v, &one, 1,
				      MSG_PEEK | (nonblock ? MSG_DONTWAIT : 0));
			if (n <= 0)
				break;
		}
	} while (true);
	sock_unuser(v);
	return n;
}
