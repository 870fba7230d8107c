// SPDX-License-Identifier: GPL-2.0-only
/*
 * The options and ioctls of an adopted socket, and of a listener that a stack
 * serves. The kernel's own code keeps the values; here is what the stack has to
 * hear of, and what must not be. linux/dmm_opt.h says which is which.
 *
 * All of setsockopt() comes by ->ops, SOL_SOCKET too (SOCK_CUSTOM_SOCKOPT).
 * bpf_setsockopt() does not: it writes into the sock, with the lock held. So what the
 * worker was told is compared when the lock is let go, whoever had it.
 */
#include <asm/ioctls.h>
#include <linux/bpf-cgroup.h>
#include <linux/dmm_opt.h>
#include <linux/netdevice.h>
#include <net/ipv6.h>
#include <net/route.h>
#include <net/sock_reuseport.h>
#include <net/tcp.h>

#include "option.h"
#include "proto.h"
#include "relisten.h"
#include "sock.h"
#include "stack.h"

static_assert(!(0 DMM_OPTS_SOCKET(DMM_OPT_DIFFERS)));
static_assert(!(0 DMM_OPTS_TCP(DMM_OPT_DIFFERS) DMM_OPTS_BPF(DMM_OPT_DIFFERS)));
static_assert(!(0 DMM_OPTS_IP(DMM_OPT_DIFFERS)));
static_assert(!(0 DMM_OPTS_IPV6(DMM_OPT_DIFFERS)));

/* ---- before the socket starts ------------------------------------------- */

/* What IP_TOS did not set. */
static u32 own_priority(const struct sock *sk)
{
	return READ_ONCE(sk->sk_priority) ^
	       rt_tos2priority(READ_ONCE(inet_sk(sk)->tos));
}

/* The group's, which another socket may have given it. */
static bool has_reuseport_prog(const struct sock *sk)
{
	const struct sock_reuseport *reuse;
	bool ret;

	rcu_read_lock();
	reuse = rcu_dereference(sk->sk_reuseport_cb);
	ret = reuse && rcu_access_pointer(reuse->prog);
	rcu_read_unlock();
	return ret;
}

static bool socket_wants(const struct sock *sk)
{
	return has_reuseport_prog(sk) || READ_ONCE(sk->sk_mark) ||
	       own_priority(sk) ||
	       READ_ONCE(sk->sk_max_pacing_rate) != ~0UL ||
	       READ_ONCE(sk->sk_tsflags) || sock_flag(sk, SOCK_RCVTSTAMP) ||
	       sock_flag(sk, SOCK_LOCALROUTE);
}

static bool pmtu_is_heeded(u8 val)
{
	return val == IP_PMTUDISC_WANT || val == IP_PMTUDISC_DO;
}

/* Taken off again, it is there and empty. */
static bool has_ip_options(const struct inet_sock *inet)
{
	const struct ip_options_rcu *opt;
	bool ret;

	rcu_read_lock();
	opt = rcu_dereference(inet->inet_opt);
	ret = opt && opt->opt.optlen;
	rcu_read_unlock();
	return ret;
}

static bool ip_wants(const struct sock *sk)
{
	const struct inet_sock *inet = inet_sk(sk);

	return has_ip_options(inet) || READ_ONCE(inet->min_ttl) ||
	       inet_test_bit(TRANSPARENT, sk) || inet_test_bit(RECVERR, sk) ||
	       !pmtu_is_heeded(READ_ONCE(inet->pmtudisc));
}

static bool ipv6_wants(const struct sock *sk)
{
	const struct ipv6_pinfo *np = inet6_sk(sk);

	if (sk->sk_family != AF_INET6)
		return false;
	return rcu_access_pointer(np->opt) || np->rxopt.all ||
	       READ_ONCE(np->min_hopcount) || READ_ONCE(np->frag_size) ||
	       inet6_test_bit(REPFLOW, sk) || inet6_test_bit(RECVERR6, sk) ||
	       (inet6_test_bit(AUTOFLOWLABEL_SET, sk) &&
		inet6_test_bit(AUTOFLOWLABEL, sk)) ||
	       !pmtu_is_heeded(READ_ONCE(np->pmtudisc));
}

static bool tcp_wants(const struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);
	const struct tcp_sock *tp = tcp_sk(sk);
	struct net *net = sock_net(sk);

#ifdef CONFIG_TCP_MD5SIG
	if (rcu_access_pointer(tp->md5sig_info))
		return true;
#endif
#ifdef CONFIG_TCP_AO
	if (rcu_access_pointer(tp->ao_info))
		return true;
#endif
	if (icsk->icsk_ca_setsockopt &&
	    icsk->icsk_ca_ops !=
	    rcu_access_pointer(net->ipv4.tcp_congestion_control))
		return true;
	return tp->repair || tp->rx_opt.user_mss || tp->thin_lto ||
	       READ_ONCE(tp->tcp_tx_delay);
}

/* What only bpf_setsockopt() sets, and programs that want to be called. */
static bool bpf_wants(struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);
	const struct tcp_sock *tp = tcp_sk(sk);

#ifdef CONFIG_BPF
	if (tp->bpf_sock_ops_cb_flags)
		return true;
#endif
	if (cgroup_bpf_enabled(CGROUP_SOCK_OPS) &&
	    cgroup_bpf_sock_enabled(sk, CGROUP_SOCK_OPS))
		return true;
	if (sk->sk_state != TCP_CLOSE)	/* TCP's own may differ by now */
		return false;
	return tcp_snd_cwnd(tp) != TCP_INIT_CWND || tp->snd_cwnd_clamp != ~0U ||
	       icsk->icsk_delack_max != TCP_DELACK_MAX ||
	       (icsk->icsk_rto_min != TCP_RTO_MIN &&
		icsk->icsk_rto_min !=
		usecs_to_jiffies(sock_net(sk)->ipv4.sysctl_tcp_rto_min_us));
}

static bool listener_wants(const struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);

	return tcp_sk(sk)->save_syn || READ_ONCE(icsk->icsk_syn_retries) ||
	       READ_ONCE(sk->sk_incoming_cpu) >= 0;
}

static bool wants_fastopen(const struct sock *sk, bool listens)
{
	const struct request_sock_queue *queue = &inet_csk(sk)->icsk_accept_queue;
	const struct tcp_sock *tp = tcp_sk(sk);

	return tp->fastopen_req || tp->fastopen_connect ||
	       (listens && READ_ONCE(queue->fastopenq.max_qlen));
}

static bool wants_xfrm(const struct sock *sk)
{
#ifdef CONFIG_XFRM
	return rcu_access_pointer(sk->sk_policy[0]) ||
	       rcu_access_pointer(sk->sk_policy[1]);
#else
	return false;
#endif
}

/**
 * dmm_option_check - can a stack honour what was set on a socket?
 * @sk: the socket, which has not started, or listens
 * @listens: it is one to listen
 *
 * In any context, with or without the socket's lock. Return: DMM_FALLBACK_NONE, or
 * why not.
 */
enum dmm_fallback dmm_option_check(struct sock *sk, bool listens)
{
	if (rcu_access_pointer(sk->sk_filter) ||
	    sock_flag(sk, SOCK_FILTER_LOCKED))
		return DMM_FALLBACK_FILTER;
	if (wants_fastopen(sk, listens))
		return DMM_FALLBACK_FASTOPEN;
	if (wants_xfrm(sk))
		return DMM_FALLBACK_XFRM;
	if (socket_wants(sk) || ip_wants(sk) || ipv6_wants(sk) ||
	    tcp_wants(sk) || bpf_wants(sk) || (listens && listener_wants(sk)))
		return DMM_FALLBACK_SOCKOPT;
	return DMM_FALLBACK_NONE;
}

/* ---- what the worker is told --------------------------------------------- */

static void seen_take(struct dmm_opt_seen *seen, const struct sock *sk,
		      const struct dmm_sock *ds)
{
	const struct inet_sock *inet = inet_sk(sk);
	const struct tcp_sock *tp = tcp_sk(sk);

	memset(seen, 0, sizeof(*seen));
	seen->keepidle = tp->keepalive_time;
	seen->keepintvl = tp->keepalive_intvl;
	seen->user_timeout = inet_csk(sk)->icsk_user_timeout;
	seen->window_clamp = tp->window_clamp;
	seen->keepcnt = tp->keepalive_probes;
	seen->nonagle = tp->nonagle;
	seen->linger2 = tp->linger2;
	seen->quickack = ds->quickack;
	seen->tos = inet->tos;
	seen->ttl = inet->uc_ttl;
	if (sk->sk_family == AF_INET6) {
		seen->tclass = inet6_sk(sk)->tclass;
		seen->hop_limit = inet6_sk(sk)->hop_limit;
	}
	if (sk->sk_userlocks & SOCK_RCVBUF_LOCK)
		seen->rcvbuf = sk->sk_rcvbuf;

	seen->lost.mark = sk->sk_mark;
	seen->lost.priority = own_priority(sk);
	seen->lost.thin_lto = tp->thin_lto;
#ifdef CONFIG_BPF
	seen->lost.cb_flags = tp->bpf_sock_ops_cb_flags;
#endif
	seen->lost.pacing_rate = sk->sk_max_pacing_rate;
	seen->lost.ca = inet_csk(sk)->icsk_ca_ops;
}

/**
 * dmm_option_told - the worker was told the options as they now are
 * @sk: the socket; the caller holds its lock
 * @ds: its state
 */
void dmm_option_told(const struct sock *sk, struct dmm_sock *ds)
{
	seen_take(&ds->opt_seen, sk, ds);
}

/**
 * dmm_option_look - was something set?
 * @sk: an adopted socket that is not closed; the caller holds its spinlock
 * @ds: its state
 *
 * The worker is told. What it cannot do came of BPF, and nothing can refuse it any
 * more; it does not pass without a word.
 */
void dmm_option_look(struct sock *sk, struct dmm_sock *ds)
{
	struct dmm_opt_seen now;
	bool lost;

	if (!ds->posted)
		return;
	seen_take(&now, sk, ds);
	if (!memcmp(&now, &ds->opt_seen, sizeof(now)))
		return;
	lost = memcmp(&now.lost, &ds->opt_seen.lost, sizeof(now.lost));
	dmm_sock_post_options(sk, ds, sock_flag(sk, SOCK_KEEPOPEN));
	if (lost)
		pr_notice_ratelimited("dmm: a BPF program set what stack %s cannot honour on the socket with port %u\n",
				      ds->stack->name, inet_sk(sk)->inet_num);
}

/*
 * bpf_setsockopt(TCP_KEEPIDLE) arms TCP's own timer, which would send segments with
 * numbers of nobody's, and end the connection when no answer comes. The stack's
 * keepalive is the one that counts.
 */
static void keepalive_timer(struct timer_list *t)
{
#ifdef DMM_HAVE_ICSK_KEEPALIVE_TIMER
	struct inet_connection_sock *icsk =
		from_timer(icsk, t, icsk_keepalive_timer);

	sock_put(&icsk->icsk_inet.sk);
#else
	struct sock *sk = from_timer(sk, t, sk_timer);

	sock_put(sk);
#endif
}

static struct timer_list *timer_of(struct sock *sk)
{
#ifdef DMM_HAVE_ICSK_KEEPALIVE_TIMER
	return &inet_csk(sk)->icsk_keepalive_timer;
#else
	return &sk->sk_timer;
#endif
}

/* TCP's, the same for all of its socks; they know it, nobody else does. */
static void (*tcp_keepalive_timer)(struct timer_list *t);

/**
 * dmm_option_start - a socket becomes the stack's
 * @sk: the socket, in TCP_CLOSE or a new child; the caller holds its lock
 *
 * A child of SO_KEEPALIVE comes with TCP's timer armed.
 */
void dmm_option_start(struct sock *sk)
{
	struct timer_list *timer = timer_of(sk);

	/* For `ss`: nothing was sent or received yet. */
	tcp_sk(sk)->lsndtime = tcp_jiffies32;
	tcp_sk(sk)->rcv_tstamp = tcp_jiffies32;
	inet_csk(sk)->icsk_ack.lrcvtime = tcp_jiffies32;

	inet_csk_delete_keepalive_timer(sk);
	WRITE_ONCE(tcp_keepalive_timer, timer->function);
	timer->function = keepalive_timer;
}

/**
 * dmm_option_stop - a socket is TCP's again
 * @sk: the socket, in TCP_CLOSE; the caller holds its lock
 */
void dmm_option_stop(struct sock *sk)
{
	inet_csk_delete_keepalive_timer(sk);
	timer_of(sk)->function = tcp_keepalive_timer;
}

/* ---- system calls --------------------------------------------------------- */

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

/**
 * dmm_set_rcvlowat - SO_RCVLOWAT; as tcp_set_rcvlowat()
 * @sk: the socket; the caller holds its lock
 * @val: bytes
 *
 * Whoever waits for more than is wanted now is woken.
 */
int dmm_set_rcvlowat(struct sock *sk, int val)
{
	struct dmm_sock *ds = dmm_conn(sk);
	int cap = READ_ONCE(sock_net(sk)->ipv4.sysctl_tcp_rmem[2]);

	if (sk->sk_userlocks & SOCK_RCVBUF_LOCK)
		cap = sk->sk_rcvbuf;
	WRITE_ONCE(sk->sk_rcvlowat, min(val, cap >> 1) ?: 1);
	if (ds && dmm_sock_rx_avail(ds))
		sk->sk_data_ready(sk);
	return 0;
}

/**
 * dmm_option_send - may a send() say this beside the bytes?
 * @sk: the socket; the caller holds its lock
 * @msg: what it says
 *
 * As TCP: all that sock_cmsg_send() knows, though nothing but a time stamp means
 * anything. That we have not. Return: 0, -EINVAL, -EOPNOTSUPP.
 */
int dmm_option_send(struct sock *sk, struct msghdr *msg)
{
	struct sockcm_cookie sockc;

	if (!msg->msg_controllen)
		return 0;
	sockcm_init(&sockc, sk);
	if (sock_cmsg_send(sk, msg, &sockc))
		return -EINVAL;
	if (sockc.tsflags & SOF_TIMESTAMPING_TX_RECORD_MASK)
		return -EOPNOTSUPP;
	return 0;
}

/* Are packets bound to @ifindex those of the stack's device? The lock is held. */
static bool device_is_ours(const struct sock *sk, int ifindex)
{
	const struct dmm_sock *ds = dmm_conn(sk);

	return !ifindex || !ds || ifindex == ds->stack->ifindex;
}

static int set_device(struct socket *sock, int ifindex)
{
	struct sock *sk = sock->sk;
	bool ours;

	lock_sock(sk);
	ours = device_is_ours(sk, ifindex);
	release_sock(sk);
	if (!ours)
		return -EOPNOTSUPP;
	return sock_setsockopt(sock, SOL_SOCKET, SO_BINDTOIFINDEX,
			       KERNEL_SOCKPTR(&ifindex), sizeof(ifindex));
}

static int set_device_name(struct socket *sock, sockptr_t optval,
			   unsigned int optlen)
{
	struct net *net = sock_net(sock->sk);
	struct net_device *dev;
	char name[IFNAMSIZ] = "";
	int ifindex = 0;

	if (copy_from_sockptr(name, optval, min_t(u32, optlen, IFNAMSIZ - 1)))
		return -EFAULT;
	if (name[0]) {
		rcu_read_lock();
		dev = dev_get_by_name_rcu(net, name);
		if (dev)
			ifindex = dev->ifindex;
		rcu_read_unlock();
		if (!dev)
			return -ENODEV;
	}
	return set_device(sock, ifindex);
}

static int set_congestion(struct sock *sk, sockptr_t optval, unsigned int optlen)
{
	char name[TCP_CA_NAME_MAX] = "";
	bool same;

	if (optlen < 1)
		return -EINVAL;
	if (strncpy_from_sockptr(name, optval,
				 min_t(u32, optlen, sizeof(name) - 1)) < 0)
		return -EFAULT;
	lock_sock(sk);
	same = inet_csk(sk)->icsk_ca_ops &&
	       !strcmp(inet_csk(sk)->icsk_ca_ops->name, name);
	release_sock(sk);
	return same ? 0 : -EOPNOTSUPP;
}

/* What may be set again, if it is the same. */
static int set_same(struct socket *sock, int level, int optname,
		    sockptr_t optval, unsigned int optlen)
{
	struct sock *sk = sock->sk;
	int val;

	if (level == SOL_TCP)		/* TCP_CONGESTION */
		return set_congestion(sk, optval, optlen);
	if (optname == SO_BINDTODEVICE)
		return set_device_name(sock, optval, optlen);

	if (optlen < sizeof(val))
		return -EINVAL;
	if (copy_from_sockptr(&val, optval, sizeof(val)))
		return -EFAULT;
	switch (optname) {
	case SO_BINDTOIFINDEX:
		return set_device(sock, val);
	case SO_MARK:
		return val == READ_ONCE(sk->sk_mark) ? 0 : -EOPNOTSUPP;
	default:			/* SO_PRIORITY */
		return val == READ_ONCE(sk->sk_priority) ? 0 : -EOPNOTSUPP;
	}
}

static int set_kernel(struct socket *sock, int level, int optname,
		      sockptr_t optval, unsigned int optlen)
{
	if (level == SOL_SOCKET)
		return sock_setsockopt(sock, level, optname, optval, optlen);
	return sock_common_setsockopt(sock, level, optname, optval, optlen);
}

/*
 * What the stack cannot honour: refused, unless it asks for nothing. What is looked at
 * is a copy, and nothing else counts.
 */
static int set_refused(struct socket *sock, int level, int optname,
		       enum dmm_opt_void nothing, sockptr_t optval,
		       unsigned int optlen)
{
	int val = 0;

	if (nothing == DMM_OPT_VOID_SAME)
		return set_same(sock, level, optname, optval, optlen);
	if (nothing == DMM_OPT_VOID_EMPTY)
		return optlen ? -EOPNOTSUPP : 0;

	/* SOL_IP takes a byte, too */
	if (optlen < sizeof(val) && (level != SOL_IP || !optlen))
		return nothing == DMM_OPT_VOID_NONE ? -EOPNOTSUPP : -EINVAL;
	if (copy_from_sockptr(&val, optval, min_t(u32, optlen, sizeof(val))))
		return -EFAULT;
	switch (nothing) {
	case DMM_OPT_VOID_ZERO:
		return val ? -EOPNOTSUPP : 0;
	case DMM_OPT_VOID_ONES:
		return ~val ? -EOPNOTSUPP : 0;
	case DMM_OPT_VOID_PMTU:
		if (!pmtu_is_heeded(min_t(u32, val, U8_MAX)))
			return -EOPNOTSUPP;
		return set_kernel(sock, level, optname, KERNEL_SOCKPTR(&val),
				  sizeof(val));
	default:
		return -EOPNOTSUPP;
	}
}

/* Not all of them were set under the lock; to let go of it tells. */
static void tell(struct sock *sk, int level, int optname)
{
	struct dmm_sock *ds;

	lock_sock(sk);
	ds = dmm_conn(sk);
	if (ds && level == SOL_TCP && optname == TCP_QUICKACK)
		ds->quickack = !inet_csk_in_pingpong_mode(sk);
	release_sock(sk);
}

/**
 * dmm_setsockopt - setsockopt() of an adopted socket, or of a listener
 * @sock: the socket
 * @level: SOL_SOCKET as well
 * @optname: the option
 * @optval: its value
 * @optlen: the value's size
 */
int dmm_setsockopt(struct socket *sock, int level, int optname, sockptr_t optval,
		   unsigned int optlen)
{
	struct dmm_opt_rule rule = dmm_opt_find(level, optname);
	struct sock *sk = sock->sk;
	bool listens = dmm_listens_too(sk);
	int err;

	/* Given back to TCP meanwhile, or a level that the socket does not have. */
	if ((!listens && !dmm_is_adopted(sk)) ||
	    (level == SOL_IPV6 && sk->sk_family != AF_INET6))
		return set_kernel(sock, level, optname, optval, optlen);
	if (rule.how == DMM_OPT_UNKNOWN)
		return -ENOPROTOOPT;
	/* The one that is there is ours. */
	if (level == SOL_SOCKET && optname == SO_DETACH_FILTER)
		return optlen < sizeof(int) ? -EINVAL : -ENOENT;
	if (dmm_opt_is_refused(rule.how, listens))
		return set_refused(sock, level, optname, rule.asks_nothing,
				   optval, optlen);
	err = set_kernel(sock, level, optname, optval, optlen);
	if (!err && rule.how == DMM_OPT_TOLD)
		tell(sk, level, optname);
	return err;
}

/* The kernel asks the route that a socket keeps. Ours keeps none, but knows this. */
static bool is_mtu(const struct sock *sk, int level, int optname)
{
	return (level == SOL_IP && optname == IP_MTU) ||
	       (level == SOL_IPV6 && optname == IPV6_MTU &&
		sk->sk_family == AF_INET6);
}

static int get_mtu(struct sock *sk, char __user *optval, int __user *optlen)
{
	int val = inet_csk(sk)->icsk_pmtu_cookie, len;

	if (get_user(len, optlen))
		return -EFAULT;
	if (len < 0)
		return -EINVAL;
	len = min_t(u32, len, sizeof(val));
	if (put_user(len, optlen) || copy_to_user(optval, &val, len))
		return -EFAULT;
	return 0;
}

int dmm_getsockopt(struct sock *sk, int level, int optname,
		   char __user *optval, int __user *optlen)
{
	struct dmm_sock *ds;

	if (level == SOL_TCP && optname == TCP_ZEROCOPY_RECEIVE)
		return -EOPNOTSUPP;
	if (is_mtu(sk, level, optname) && !rcu_access_pointer(sk->sk_dst_cache))
		return get_mtu(sk, optval, optlen);
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

/**
 * dmm_option_release - what the lock's holder may have done past us
 * @sk: an adopted socket; from ->release_cb(), under its spinlock
 *
 * O_ASYNC makes itself known by nothing else.
 */
void dmm_option_release(struct sock *sk)
{
	struct dmm_sock *ds = dmm_conn(sk);

	if (!ds || !dmm_is_adopted(sk) || sk->sk_state == TCP_CLOSE)
		return;
	if (timer_pending(timer_of(sk)))
		inet_csk_delete_keepalive_timer(sk);
	if (sock_flag(sk, SOCK_FASYNC) && dmm_sock_arm_rx(ds))
		sk->sk_data_ready(sk);
	dmm_option_look(sk, ds);
}
