// SPDX-License-Identifier: Apache-2.0
/*
 * Socket options. The kernel's own socket keeps them all, so they are checked, stored
 * and told by the kernel; here is what a stack has to know of them, and the few that
 * the connection answers.
 */
#include <linux/filter.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "shim.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK	72
#endif
#ifndef SOCK_BUF_LOCK_SNDBUF
#define SOCK_BUF_LOCK_SNDBUF	1
#define SOCK_BUF_LOCK_RCVBUF	2
#endif

/* Newer than the C library's headers. */
#ifndef TCP_MD5SIG_EXT
#define TCP_MD5SIG_EXT	32
#endif
#ifndef TCP_AO_ADD_KEY
#define TCP_AO_ADD_KEY	38
#define TCP_AO_REPAIR	42
#endif
#ifndef IPV6_MINHOPCOUNT
#define IPV6_MINHOPCOUNT	73
#endif

static int get_int(int fd, int level, int opt)
{
	socklen_t len = sizeof(int);
	int val = 0;

	return real.getsockopt(fd, level, opt, &val, &len) ? 0 : val;
}

static uint64_t get_time(int fd, int opt)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (real.getsockopt(fd, SOL_SOCKET, opt, &tv, &len))
		return 0;
	return tv.tv_sec * NSEC + tv.tv_usec * 1000ULL;
}

static bool is_v6(const struct sh_sock *s)
{
	return s->domain == AF_INET6 && s->family == AF_INET6;
}

/* The one option that was set, if it is a simple one: false if all have to be read. */
static bool import_one(int fd, struct sh_sock *s, int level, int opt)
{
	uint32_t bit;

	if (level == IPPROTO_TCP && opt == TCP_NODELAY)
		bit = DMM_OPT_NODELAY;
	else if (level == IPPROTO_TCP && opt == TCP_CORK)
		bit = DMM_OPT_CORK;
	else if (level == SOL_SOCKET && opt == SO_KEEPALIVE)
		bit = DMM_OPT_KEEPALIVE;
	else
		return false;
	s->opt_set = get_int(fd, level, opt) ? s->opt_set | bit : s->opt_set & ~bit;
	s->told = true;
	return true;
}

/* What the kernel's socket has, for the stack; @s has its families. */
void opt_import(int fd, struct sh_sock *s)
{
	struct linger l = { 0 };
	socklen_t len = sizeof(l);

	s->opt_set = 0;
	if (get_int(fd, IPPROTO_TCP, TCP_NODELAY))
		s->opt_set |= DMM_OPT_NODELAY;
	if (get_int(fd, IPPROTO_TCP, TCP_CORK))
		s->opt_set |= DMM_OPT_CORK;
	if (get_int(fd, SOL_SOCKET, SO_KEEPALIVE))
		s->opt_set |= DMM_OPT_KEEPALIVE;
	s->keepidle = get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE);
	s->keepintvl = get_int(fd, IPPROTO_TCP, TCP_KEEPINTVL);
	s->keepcnt = get_int(fd, IPPROTO_TCP, TCP_KEEPCNT);
	s->user_timeout = get_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	s->fin_timeout = max(get_int(fd, IPPROTO_TCP, TCP_LINGER2), 0) * 1000;
	s->inq = get_int(fd, IPPROTO_TCP, TCP_INQ);
	s->dscp = is_v6(s) ? get_int(fd, IPPROTO_IPV6, IPV6_TCLASS) :
			     get_int(fd, IPPROTO_IP, IP_TOS);
	s->ttl = is_v6(s) ? get_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS) :
			    get_int(fd, IPPROTO_IP, IP_TTL);
	s->rcvtimeo = get_time(fd, SO_RCVTIMEO);
	s->sndtimeo = get_time(fd, SO_SNDTIMEO);
	s->rcvlowat = get_int(fd, SOL_SOCKET, SO_RCVLOWAT) ?: 1;
	if (get_int(fd, SOL_SOCKET, SO_BUF_LOCK) & SOCK_BUF_LOCK_SNDBUF)
		s->sndlimit = get_int(fd, SOL_SOCKET, SO_SNDBUF);
	if (get_int(fd, SOL_SOCKET, SO_BUF_LOCK) & SOCK_BUF_LOCK_RCVBUF)
		s->rcvbuf = get_int(fd, SOL_SOCKET, SO_RCVBUF) / 2;
	len = sizeof(int);
	if (real.getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &s->peek_off, &len))
		s->peek_off = -1;
	len = sizeof(l);
	if (!real.getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len)) {
		s->linger_on = l.l_onoff;
		s->linger_s = l.l_linger;
	}
	s->zerocopy = get_int(fd, SOL_SOCKET, SO_ZEROCOPY);
	s->told = fd < FD_MAX && fd_flags[fd] & FD_OPTIONS;
}

/* An option, as setsockopt() wants it. */
struct kept {
	int level, opt;
	socklen_t len;
	union {
		int val;
		struct timeval tv;
		struct linger linger;
	};
};

#define KEPT_MAX	25

/**
 * struct inherit - what a listener's children have of it
 * @changes: of sh_sock.opt_changes, when it was looked up
 */
struct inherit {
	bool known;
	uint32_t changes;
	unsigned int n;
	struct kept kept[KEPT_MAX];
};

static struct lock inherit_lock;

static void keep(struct inherit *in, int level, int opt, const void *val, socklen_t len)
{
	struct kept *k = &in->kept[in->n++];

	*k = (struct kept) { .level = level, .opt = opt, .len = len };
	memcpy(&k->val, val, len);
}

/* What @fd has that @fresh, a socket as it comes, has not. */
static void inherit_look(struct inherit *in, int fd, int fresh)
{
	static const struct {
		int level, opt;
	} all[] = {
		{ SOL_SOCKET, SO_KEEPALIVE }, { SOL_SOCKET, SO_PRIORITY },
		{ SOL_SOCKET, SO_MARK }, { SOL_SOCKET, SO_RCVLOWAT },
		{ SOL_SOCKET, SO_OOBINLINE }, { SOL_SOCKET, SO_BUSY_POLL },
		{ SOL_SOCKET, SO_BINDTOIFINDEX }, { SOL_SOCKET, SO_ZEROCOPY },
		{ IPPROTO_IP, IP_TOS }, { IPPROTO_IP, IP_TTL },
		{ IPPROTO_IPV6, IPV6_TCLASS }, { IPPROTO_IPV6, IPV6_UNICAST_HOPS },
		{ IPPROTO_TCP, TCP_NODELAY }, { IPPROTO_TCP, TCP_KEEPIDLE },
		{ IPPROTO_TCP, TCP_KEEPINTVL }, { IPPROTO_TCP, TCP_KEEPCNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT }, { IPPROTO_TCP, TCP_NOTSENT_LOWAT },
		{ IPPROTO_TCP, TCP_LINGER2 }, { IPPROTO_TCP, TCP_SYNCNT },
	};
	static const int buffers[] = { SO_RCVBUF, SO_SNDBUF };
	static const int times[] = { SO_RCVTIMEO, SO_SNDTIMEO };
	struct linger l = { 0 };
	struct timeval tv;
	socklen_t len;
	unsigned int i;
	int val;

	in->n = 0;
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		val = get_int(fd, all[i].level, all[i].opt);
		if (val != get_int(fresh, all[i].level, all[i].opt))
			keep(in, all[i].level, all[i].opt, &val, sizeof(val));
	}
	for (i = 0; i < 2; i++) {
		val = get_int(fd, SOL_SOCKET, buffers[i]);
		if (val != get_int(fresh, SOL_SOCKET, buffers[i])) {
			val /= 2;	/* the kernel doubles it */
			keep(in, SOL_SOCKET, buffers[i], &val, sizeof(val));
		}
		len = sizeof(tv);
		if (!real.getsockopt(fd, SOL_SOCKET, times[i], &tv, &len) &&
		    (tv.tv_sec || tv.tv_usec))
			keep(in, SOL_SOCKET, times[i], &tv, sizeof(tv));
	}
	len = sizeof(l);
	if (!real.getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len) && l.l_onoff)
		keep(in, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

/*
 * Give @kfd, a socket as it comes, what @fd was set. Of a listener, @lv, this is looked up
 * for the first child, and again when the listener was set something since.
 */
void opt_inherit(int fd, struct vsock *lv, int kfd)
{
	uint32_t changes = lv ? load_acquire(&lv->s->opt_changes) : 0;
	bool locked = lv && lock(&inherit_lock);
	struct inherit in = { .known = false };
	int err = errno;
	unsigned int i;

	if (locked && lv->inherit)
		in = *lv->inherit;
	if (!in.known || in.changes != changes) {
		inherit_look(&in, fd, kfd);
		in.known = true;
		in.changes = changes;
		if (locked && !lv->inherit)
			lv->inherit = malloc(sizeof(in));
		if (locked && lv->inherit)
			*lv->inherit = in;
	}
	if (locked)
		unlock(&inherit_lock);
	for (i = 0; i < in.n; i++)
		real.setsockopt(kfd, in.kept[i].level, in.kept[i].opt, &in.kept[i].val,
				in.kept[i].len);
	if (kfd < FD_MAX)
		fd_flags[kfd] |= FD_OPTIONS;
	errno = err;
}

/* No stack can honour it: connect() and listen() will leave the socket alone. */
static bool is_native_only(int fd, int level, int opt)
{
	switch (level) {
	case SOL_SOCKET:
		switch (opt) {
		case SO_ATTACH_FILTER:
		case SO_ATTACH_BPF:
		case SO_ATTACH_REUSEPORT_CBPF:
		case SO_ATTACH_REUSEPORT_EBPF:
			return true;
		case SO_TIMESTAMP:
		case SO_TIMESTAMPNS:
		case SO_TIMESTAMPING:
			return get_int(fd, level, opt);
		}
		return false;
	case IPPROTO_TCP:
		switch (opt) {
		case TCP_REPAIR:
		case TCP_MD5SIG:
		case TCP_MAXSEG:
		case TCP_FASTOPEN:
		case TCP_FASTOPEN_CONNECT:
		case TCP_ULP:
			return true;
		}
		return false;
	case IPPROTO_IP:
		return opt == IP_TRANSPARENT || opt == IP_OPTIONS;
	case IPPROTO_IPV6:
		return opt == IPV6_TRANSPARENT;
	case SOL_DMM:
		return true;	/* it plays our part */
	}
	return false;
}

/* An option was set on a socket that is not ours, yet. */
void opt_native(int fd, int level, int opt)
{
	int err = errno;

	if ((unsigned int)fd >= FD_MAX || !fd_flags[fd])
		return;
	fd_flags[fd] |= FD_OPTIONS;
	if (is_native_only(fd, level, opt))
		fd_flags[fd] |= FD_NATIVE;
	errno = err;
}

/* A number, of which a single byte is enough to the kernel. */
static bool is_set(const void *val, socklen_t len)
{
	int n = 0;

	memcpy(&n, val, min(len, sizeof(n)));
	return n;
}

/*
 * What would protect the kernel's socket, and not the stack's: connections of a stack's and
 * its half of a listener cannot have it. To take it away is fine.
 */
static bool is_protection(int level, int opt, const void *val, socklen_t len)
{
	switch (level) {
	case SOL_SOCKET:
		return opt == SO_ATTACH_FILTER || opt == SO_ATTACH_BPF;
	case IPPROTO_TCP:
		return opt == TCP_MD5SIG || opt == TCP_MD5SIG_EXT ||
		       (opt >= TCP_AO_ADD_KEY && opt <= TCP_AO_REPAIR);
	case IPPROTO_IP:
		return (opt == IP_MINTTL && is_set(val, len)) || opt == IP_XFRM_POLICY ||
		       opt == IP_IPSEC_POLICY;
	case IPPROTO_IPV6:
		return (opt == IPV6_MINHOPCOUNT && is_set(val, len)) ||
		       opt == IPV6_XFRM_POLICY || opt == IPV6_IPSEC_POLICY;
	}
	return false;
}

/* What cannot be on a live connection of a stack's; as kmod/proto.c. */
static int set_refused(int level, int opt)
{
	if (level == IPPROTO_TCP) {
		switch (opt) {
		case TCP_REPAIR:
		case TCP_REPAIR_QUEUE:
		case TCP_QUEUE_SEQ:
		case TCP_REPAIR_OPTIONS:
		case TCP_TIMESTAMP:
			return -EOPNOTSUPP;
		case TCP_ULP:
			return -EEXIST;
		}
	}
	return 0;
}

static bool stack_knows(int level, int opt)
{
	switch (level) {
	case SOL_SOCKET:
		return opt == SO_KEEPALIVE;
	case IPPROTO_TCP:
		return opt == TCP_NODELAY || opt == TCP_CORK || opt == TCP_KEEPIDLE ||
		       opt == TCP_KEEPINTVL || opt == TCP_KEEPCNT ||
		       opt == TCP_USER_TIMEOUT || opt == TCP_LINGER2;
	case IPPROTO_IP:
		return opt == IP_TOS || opt == IP_TTL;
	case IPPROTO_IPV6:
		return opt == IPV6_TCLASS || opt == IPV6_UNICAST_HOPS;
	}
	return false;
}

/**
 * opt_set() - setsockopt() of a socket of ours
 * @ret: set to the result
 *
 * Return: true; the kernel need not be asked any more.
 */
bool opt_set(int fd, struct vsock *v, int level, int opt, const void *val,
	     socklen_t len, int *ret)
{
	struct sh_sock *s = v->s;
	int kfd = kernel_fd(v, fd), err, peek;
	bool listens = load_relaxed(&s->flags) & SF_LISTEN;

	*ret = listens ? 0 : set_refused(level, opt);
	if (!*ret && val && is_protection(level, opt, val, len))
		*ret = -EOPNOTSUPP;
	if (*ret)
		return true;
	if (real.setsockopt(kfd, level, opt, val, len)) {
		*ret = -errno;
		return true;
	}
	if (fd < FD_MAX)
		fd_flags[fd] |= FD_OPTIONS;
	if (!sock_lock(v, &err))
		return true;
	if (listens)
		store_release(&s->opt_changes, s->opt_changes + 1);
	/* an offset that recv() moved is not the one that was set */
	peek = s->peek_off;
	if (!import_one(kfd, s, level, opt))
		opt_import(kfd, s);
	if (level != SOL_SOCKET || opt != SO_PEEK_OFF)
		s->peek_off = peek;
	s->told = true;
	if (!listens && stack_knows(level, opt) && s->state != TCP_CLOSE)
		op_post_options(v->ctx, s);
	unlock(&s->lock);
	if (listens && level == IPPROTO_TCP && opt == TCP_DEFER_ACCEPT)
		listen_op(kfd, v->ctx, s);
	return true;
}

/* Hand a value out as the kernel does: cut to what there is room for. */
static void put(const void *from, socklen_t have, void *val, socklen_t *len)
{
	*len = min(*len, have);
	memcpy(val, from, *len);
}

/* The device's, as the route's has no other here. */
static int path_mtu(struct vsock *v, int kfd)
{
	struct ifreq ifr = { .ifr_ifindex = v->ctx->ifindex };

	if (real.ioctl(kfd, SIOCGIFNAME, (unsigned long)&ifr) ||
	    real.ioctl(kfd, SIOCGIFMTU, (unsigned long)&ifr))
		return 0;
	return ifr.ifr_mtu;
}

static int get_info(struct vsock *v, int kfd, void *val, socklen_t *len)
{
	struct dmm_slot *shm = v->shm;
	struct tcp_info i = { 0 };
	socklen_t have = sizeof(i);
	uint32_t mss = load_relaxed(&shm->snd_mss);
	int err;

	if (real.getsockopt(kfd, IPPROTO_TCP, TCP_INFO, &i, &have))
		return -errno;
	if (!sock_lock(v, &err))
		return err;
	i.tcpi_state = v->s->state;
	unlock(&v->s->lock);
	i.tcpi_pmtu = path_mtu(v, kfd);
	i.tcpi_rtt = load_relaxed(&shm->srtt_us);
	i.tcpi_total_retrans = load_relaxed(&shm->retrans);
	if (mss) {
		i.tcpi_snd_mss = mss;
		i.tcpi_snd_cwnd = max(load_relaxed(&shm->snd_cwnd) / mss, 1U);
		i.tcpi_unacked = (sock_outq(v) - sock_unsent(v) + mss - 1) / mss;
	}
	put(&i, have, val, len);
	return 0;
}

/* getsockopt(); false: the kernel's own socket knows it. */
bool opt_get(int fd, struct vsock *v, int level, int opt, void *val, socklen_t *len,
	     int *ret)
{
	struct sh_sock *s = v->s;
	int kfd = kernel_fd(v, fd), n, err;
	socklen_t had;

	if (load_relaxed(&s->flags) & SF_LISTEN)
		return false;
	*ret = 0;
	if (level == IPPROTO_TCP && opt == TCP_ULP) {
		put("dmm", 4, val, len);
		return true;
	}
	if (level == IPPROTO_TCP && opt == TCP_ZEROCOPY_RECEIVE) {
		*ret = -EOPNOTSUPP;
		return true;
	}
	if (level == IPPROTO_TCP && opt == TCP_INFO) {
		events_take(v->ctx, false);
		*ret = get_info(v, kfd, val, len);
		return true;
	}
	if ((level != SOL_SOCKET || (opt != SO_ERROR && opt != SO_PEEK_OFF)) &&
	    (level != IPPROTO_TCP || opt != TCP_MAXSEG))
		return false;
	/* the kernel checks the pointers and the length */
	had = len ? *len : 0;
	if (real.getsockopt(kfd, level, opt, val, len)) {
		*ret = -errno;
		return true;
	}
	events_take(v->ctx, false);
	if (!sock_lock(v, &err)) {
		*ret = err;
		return true;
	}
	n = s->peek_off;
	if (opt == SO_ERROR && level == SOL_SOCKET) {
		n = s->err;
		s->err = 0;
	} else if (level == IPPROTO_TCP) {
		n = load_relaxed(&v->shm->snd_mss) ?: 536;
	}
	unlock(&s->lock);
	*len = had;
	put(&n, sizeof(n), val, len);
	return true;
}
