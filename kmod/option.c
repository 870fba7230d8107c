// SPDX-License-Identifier: GPL-2.0-only
/*
 * The options and ioctls of an adopted socket. TCP's own code keeps the values;
 * here is what the stack has to hear of, and what must not be.
 */
#include <asm/ioctls.h>
#include <net/tcp.h>

#include "proto.h"
#include "sock.h"

int dmm_ioctl(struct sock *sk, int cmd, int *karg)
{
	struct dmm_sock *ds;
	u32 n = 0;

	lock_sock(sk);
	ds = dmm_conn(sk);
	switch (cmd) {
	case SIOCINQ:
		n = ds ? dmm_sock_rx_avail(ds) : 0;
		break;
	case SIOCATMARK:
		break;
	case SIOCOUTQ:
		n = ds ? dmm_sock_tx_used(ds) : 0;
		break;
	case SIOCOUTQNSD:
		n = ds ? dmm_sock_tx_unsent(ds) : 0;
		break;
	default:
		release_sock(sk);
		return -ENOIOCTLCMD;
	}
	release_sock(sk);
	*karg = n == DMM_RING_BROKEN ? 0 : n;
	return 0;
}

/* SO_KEEPALIVE; its flag is not set yet. TCP's would arm the kernel's timer. */
void dmm_keepalive(struct sock *sk, int val)
{
	struct dmm_sock *ds = dmm_conn(sk);

	if (ds && sk->sk_state != TCP_CLOSE)
		dmm_sock_post_options(sk, ds, val);
}

/* TCP's would arm the kernel's timer here too. */
static int set_keepidle(struct sock *sk, sockptr_t optval, unsigned int optlen)
{
	int val;

	if (optlen < sizeof(val))
		return -EINVAL;
	if (copy_from_sockptr(&val, optval, sizeof(val)))
		return -EFAULT;
	if (val < 1 || val > MAX_TCP_KEEPIDLE)
		return -EINVAL;
	lock_sock(sk);
	WRITE_ONCE(tcp_sk(sk)->keepalive_time, val * HZ);
	release_sock(sk);
	return 0;
}

/* Does the stack want to hear of this option? */
static bool option_is_told(int level, int optname)
{
	switch (level) {
	case SOL_TCP:
		return optname == TCP_NODELAY || optname == TCP_CORK ||
		       optname == TCP_KEEPIDLE || optname == TCP_KEEPINTVL ||
		       optname == TCP_KEEPCNT || optname == TCP_USER_TIMEOUT ||
		       optname == TCP_LINGER2;
	case SOL_IP:
		return optname == IP_TOS || optname == IP_TTL;
	case SOL_IPV6:
		return optname == IPV6_TCLASS || optname == IPV6_UNICAST_HOPS;
	default:
		return false;
	}
}

static int set_option(struct sock *sk, int level, int optname, sockptr_t optval,
		      unsigned int optlen)
{
	struct proto *base = dmm_family(sk)->base;

	if (level != SOL_TCP)
		return base->setsockopt(sk, level, optname, optval, optlen);

	switch (optname) {
	case TCP_KEEPIDLE:
		return set_keepidle(sk, optval, optlen);
	/* These change a live connection, which the kernel does not have. */
	case TCP_REPAIR:
	case TCP_REPAIR_QUEUE:
	case TCP_REPAIR_OPTIONS:
	case TCP_REPAIR_WINDOW:
	case TCP_QUEUE_SEQ:
	case TCP_TIMESTAMP:
	case TCP_MD5SIG:
	case TCP_MD5SIG_EXT:
	case TCP_AO_ADD_KEY:
	case TCP_AO_DEL_KEY:
	case TCP_AO_INFO:
	case TCP_AO_REPAIR:
		return -EOPNOTSUPP;
	default:
		return base->setsockopt(sk, level, optname, optval, optlen);
	}
}

int dmm_setsockopt(struct sock *sk, int level, int optname,
		   sockptr_t optval, unsigned int optlen)
{
	struct dmm_sock *ds;
	int err;

	err = set_option(sk, level, optname, optval, optlen);
	if (err || !option_is_told(level, optname))
		return err;

	lock_sock(sk);
	ds = dmm_conn(sk);
	if (ds && sk->sk_state != TCP_CLOSE)
		dmm_sock_post_options(sk, ds, sock_flag(sk, SOCK_KEEPOPEN));
	release_sock(sk);
	return 0;
}

int dmm_getsockopt(struct sock *sk, int level, int optname,
		   char __user *optval, int __user *optlen)
{
	struct dmm_sock *ds;

	if (level == SOL_TCP && optname == TCP_ZEROCOPY_RECEIVE)
		return -EOPNOTSUPP;
	if (level == SOL_TCP &&
	    (optname == TCP_INFO || optname == TCP_MAXSEG)) {
		lock_sock(sk);
		ds = dmm_conn(sk);
		if (ds)
			dmm_sock_sync(sk, ds);
		release_sock(sk);
	}
	return dmm_family(sk)->base->getsockopt(sk, level, optname, optval,
						optlen);
}
