// SPDX-License-Identifier: Apache-2.0
/*
 * Adopted sockets against a puppet stack: what programs see of connect, data,
 * shutdown, close, poll and options, and what the module does when the stack dies.
 * lies.c has a stack that lies.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adopt.h"

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

ADOPT_SUITE(adopt)

TEST_F(adopt, connects)
{
	struct sockaddr_in me, peer;
	struct puppet_stats stats;
	struct world_stats rule;
	socklen_t len = sizeof(me);

	EXPECT_EQ(0, world_adopted(self->fd));
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(1, world_adopted(self->fd));
	EXPECT_EQ(TCP_ESTABLISHED, tcp_state(self->fd));
	EXPECT_EQ(-EISCONN, world_connect(self->fd, PORT_ECHO));

	ASSERT_EQ(0, getsockname(self->fd, (struct sockaddr *)&me, &len));
	ASSERT_EQ(0, getpeername(self->fd, (struct sockaddr *)&peer, &len));
	EXPECT_EQ(inet_addr(WORLD_ADDR), me.sin_addr.s_addr);
	EXPECT_EQ(inet_addr(WORLD_PEER), peer.sin_addr.s_addr);
	EXPECT_EQ(PORT_ECHO, ntohs(peer.sin_port));
	puppet_stats(self->p, &stats);
	EXPECT_EQ(stats.sport, ntohs(me.sin_port));

	world_stats(self->w, &rule);
	EXPECT_EQ(1, rule.hits);
	EXPECT_EQ(1, rule.adopted);
}

TEST_F(adopt, bound_port_is_kept)
{
	struct sockaddr_in me = { .sin_family = AF_INET, .sin_port = htons(4242) };
	struct puppet_stats stats;

	ASSERT_EQ(0, bind(self->fd, (struct sockaddr *)&me, sizeof(me)));
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_stats(self->p, &stats);
	EXPECT_EQ(4242, stats.sport);
}

TEST_F(adopt, refused)
{
	EXPECT_EQ(-ECONNREFUSED, world_connect(self->fd, PORT_REFUSED));
	/* As native, the socket may try again; here with success. */
	EXPECT_EQ(0, world_adopted(self->fd));
	EXPECT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(1, world_adopted(self->fd));
}

TEST_F(adopt, refused_then_native)
{
	EXPECT_EQ(-ECONNREFUSED, world_connect(self->fd, PORT_REFUSED));
	world_rule(self->w, 0);
	/* The kernel's own SYN goes out, to nobody. */
	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-EINPROGRESS, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(0, world_adopted(self->fd));
	EXPECT_EQ(TCP_SYN_SENT, tcp_state(self->fd));
}

TEST_F(adopt, times_out)
{
	EXPECT_EQ(-ETIMEDOUT, world_connect(self->fd, PORT_TIMEOUT));
}

TEST_F(adopt, connect_obeys_sndtimeo)
{
	double t = now();

	set_timeout(self->fd, SO_SNDTIMEO, 200);
	EXPECT_EQ(-EINPROGRESS, world_connect(self->fd, PORT_SILENT));
	EXPECT_LT(0.15, now() - t);
	EXPECT_GT(5, now() - t);
	EXPECT_EQ(-EALREADY, world_connect(self->fd, PORT_SILENT));
}

static void on_alarm(int sig) { }

TEST_F(adopt, connect_is_interrupted)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval it = { .it_value.tv_usec = 100000 };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	EXPECT_EQ(-EINTR, world_connect(self->fd, PORT_SILENT));
	EXPECT_EQ(TCP_SYN_SENT, tcp_state(self->fd));
	EXPECT_EQ(0, close(self->fd));
	self->fd = -1;
}

TEST_F(adopt, nonblocking_connect_epoll)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLIN | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = tcp_socket(SOCK_NONBLOCK);

	/* Registered before connect(): the wait queue must be the same. */
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 0));
	EXPECT_EQ(EPOLLOUT | EPOLLHUP, ev.events);

	EXPECT_EQ(-EINPROGRESS, world_connect(fd, PORT_ECHO));
	ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 5000));
	EXPECT_EQ(EPOLLOUT, ev.events);
	EXPECT_EQ(0, so_error(fd));
	EXPECT_EQ(0, world_connect(fd, PORT_ECHO));
	EXPECT_EQ(-EISCONN, world_connect(fd, PORT_ECHO));

	ASSERT_EQ(3, write(fd, "abc", 3));
	ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 5000));
	EXPECT_EQ(EPOLLOUT | EPOLLIN, ev.events);
	close(fd);
	close(ep);
}

TEST_F(adopt, nonblocking_connect_refused)
{
	struct epoll_event ev = { .events = EPOLLOUT };
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = tcp_socket(SOCK_NONBLOCK);

	EXPECT_EQ(-EINPROGRESS, world_connect(fd, PORT_REFUSED));
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	/* As native: the error can be seen a moment before the state. */
	do {
		ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 5000));
	} while (!(ev.events & EPOLLHUP));
	EXPECT_EQ(EPOLLOUT | EPOLLERR | EPOLLHUP, ev.events);
	EXPECT_EQ(ECONNREFUSED, so_error(fd));
	EXPECT_EQ(0, so_error(fd));
	close(fd);
	close(ep);
}

TEST_F(adopt, disconnects)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct puppet_stats stats;
	int i;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(0, connect(self->fd, &none, sizeof(none)));
	EXPECT_EQ(0, world_adopted(self->fd));
	EXPECT_EQ(TCP_CLOSE, tcp_state(self->fd));
	for (i = 0; i < 500; i++) {
		puppet_stats(self->p, &stats);
		if (stats.ops[DMM_OP_ABORT])
			break;
		usleep(10000);
	}
	EXPECT_EQ(1, stats.ops[DMM_OP_ABORT]);
	EXPECT_EQ(ECONNRESET, so_error(self->fd));
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(1, world_adopted(self->fd));
}

TEST_F(adopt, echoes)
{
	char out[3000], in[3000];
	int pending, i;

	for (i = 0; i < (int)sizeof(out); i++)
		out[i] = i * 31;
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(sizeof(out), send(self->fd, out, sizeof(out), MSG_NOSIGNAL));
	ASSERT_EQ(sizeof(in), recv(self->fd, in, sizeof(in), MSG_PEEK | MSG_WAITALL));
	EXPECT_EQ(0, memcmp(in, out, sizeof(in)));
	ASSERT_EQ(0, ioctl(self->fd, FIONREAD, &pending));
	EXPECT_EQ(3000, pending);
	memset(in, 0, sizeof(in));
	ASSERT_EQ(1000, read(self->fd, in, 1000));
	ASSERT_EQ(1000, recv(self->fd, NULL, 1000, MSG_TRUNC));
	ASSERT_EQ(1000, recv(self->fd, in + 2000, 5000, MSG_DONTWAIT));
	EXPECT_EQ(0, memcmp(in, out, 1000));
	EXPECT_EQ(0, memcmp(in + 2000, out + 2000, 1000));
	EXPECT_EQ(-1, recv(self->fd, in, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(-1, recv(self->fd, in, 1, MSG_OOB));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, ioctl(self->fd, TIOCOUTQ, &pending));
	EXPECT_EQ(0, pending);
}

TEST_F(adopt, vectors)
{
	char a[10], b[20], c[] = "0123456789abcdefghijklmnopqrst";
	struct iovec out[] = { { c, 5 }, { c + 5, 25 } };
	struct iovec in[] = { { a, 10 }, { b, 20 } };
	struct msghdr msg = { .msg_iov = in, .msg_iovlen = 2 };

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(30, writev(self->fd, out, 2));
	ASSERT_EQ(30, recvmsg(self->fd, &msg, MSG_WAITALL));
	EXPECT_EQ(0, memcmp(a, c, 10));
	EXPECT_EQ(0, memcmp(b, c + 10, 20));
	msg.msg_iov = out;
	ASSERT_EQ(30, sendmsg(self->fd, &msg, 0));
	ASSERT_EQ(0, recv(self->fd, a, 0, 0));
	ASSERT_LT(0, wait_for(self->fd, POLLIN, 5000));
	ASSERT_LT(0, readv(self->fd, in, 2));
}

/* The compiler knows better than to read from address 8. */
static void *bad_pointer(void)
{
	void *p = (void *)8;

	asm("" : "+r"(p));
	return p;
}

TEST_F(adopt, bad_buffers)
{
	char in[3];

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(-1, write(self->fd, bad_pointer(), 10));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(3, write(self->fd, "abc", 3));
	ASSERT_LT(0, wait_for(self->fd, POLLIN, 5000));
	EXPECT_EQ(-1, read(self->fd, bad_pointer(), 3));
	EXPECT_EQ(EFAULT, errno);
	/* Nothing was lost. */
	ASSERT_EQ(3, read(self->fd, in, 3));
	EXPECT_EQ(0, memcmp(in, "abc", 3));
}

TEST_F(adopt, reads_to_the_end)
{
	static unsigned char in[SOURCE_BYTES + 10];
	int got = 0, n, i;

	ASSERT_EQ(0, world_connect(self->fd, PORT_SOURCE));
	while ((n = read(self->fd, in + got, sizeof(in) - got)) > 0)
		got += n;
	EXPECT_EQ(0, n);
	ASSERT_EQ(SOURCE_BYTES, got);
	for (i = 0; i < got; i++)
		if (in[i] != SOURCE_BYTE(i))
			break;
	EXPECT_EQ(SOURCE_BYTES, i);
	EXPECT_EQ(0, read(self->fd, in, 1));
	EXPECT_EQ(TCP_CLOSE_WAIT, tcp_state(self->fd));
	EXPECT_EQ(POLLIN | POLLOUT | POLLRDHUP,
		  wait_for(self->fd, POLLIN | POLLOUT | POLLRDHUP, 0));
	/* The other half still works. */
	EXPECT_EQ(1, write(self->fd, "x", 1));
}

static void *echo_writer(void *arg)
{
	static char buf[70000];
	long i, fd = (long)arg;

	for (i = 0; i < 100; i++)
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			return (void *)1;
	shutdown(fd, SHUT_WR);
	return NULL;
}

TEST_F(adopt, more_than_the_rings_hold)
{
	long fd = self->fd, got = 0, n;
	static char in[50000];
	pthread_t t;
	void *ret;

	ASSERT_EQ(0, world_connect(fd, PORT_ECHO));
	ASSERT_EQ(0, pthread_create(&t, NULL, echo_writer, (void *)fd));
	while (got < 7000000 && (n = read(fd, in, sizeof(in))) > 0)
		got += n;
	pthread_join(t, &ret);
	EXPECT_EQ(NULL, ret);
	EXPECT_EQ(7000000, got);
	EXPECT_EQ(0, read(fd, in, sizeof(in)));
}

TEST_F(adopt, full_ring)
{
	static char buf[300000];
	int n, total = 0;
	double t;

	ASSERT_EQ(0, world_connect(self->fd, PORT_DEAF));
	while ((n = send(self->fd, buf, 10000, MSG_DONTWAIT)) > 0)
		total += n;
	EXPECT_EQ(-1, n);
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(65536, total);
	EXPECT_EQ(0, wait_for(self->fd, POLLOUT, 100));
	ASSERT_EQ(0, ioctl(self->fd, TIOCOUTQ, &n));
	EXPECT_EQ(65536, n);

	set_timeout(self->fd, SO_SNDTIMEO, 200);
	t = now();
	EXPECT_EQ(-1, send(self->fd, buf, 1, 0));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_LT(0.15, now() - t);
}

TEST_F(adopt, recv_obeys_rcvtimeo)
{
	double t = now();
	char c;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	set_timeout(self->fd, SO_RCVTIMEO, 200);
	EXPECT_EQ(-1, recv(self->fd, &c, 1, 0));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_LT(0.15, now() - t);
}

TEST_F(adopt, half_close)
{
	char in[10];

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(4, write(self->fd, "last", 4));
	ASSERT_EQ(0, shutdown(self->fd, SHUT_WR));
	EXPECT_EQ(-1, send(self->fd, "x", 1, MSG_NOSIGNAL));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_EQ(4, recv(self->fd, in, 4, MSG_WAITALL));
	EXPECT_EQ(0, recv(self->fd, in, 4, 0));
	EXPECT_NE(0, wait_for(self->fd, POLLHUP, 1000) & POLLHUP);
	EXPECT_EQ(-1, shutdown(self->fd, SHUT_WR));
	EXPECT_EQ(ENOTCONN, errno);
}

TEST_F(adopt, shutdown_read)
{
	char c;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(0, shutdown(self->fd, SHUT_RD));
	EXPECT_EQ(0, recv(self->fd, &c, 1, 0));
	EXPECT_EQ(POLLIN | POLLRDHUP,
		  wait_for(self->fd, POLLIN | POLLRDHUP, 0));
}

TEST_F(adopt, sigpipe)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	int status;
	pid_t pid;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(0, shutdown(self->fd, SHUT_WR));
	pid = fork();
	if (!pid) {
		sigaction(SIGPIPE, &sa, NULL);
		send(self->fd, "x", 1, 0);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

TEST_F(adopt, reset)
{
	char c;

	ASSERT_EQ(0, world_connect(self->fd, PORT_RESET));
	ASSERT_EQ(1, write(self->fd, "x", 1));
	EXPECT_EQ(-1, read(self->fd, &c, 1));
	EXPECT_EQ(ECONNRESET, errno);
	EXPECT_EQ(0, read(self->fd, &c, 1));
	EXPECT_EQ(-1, write(self->fd, "x", 1));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_NE(0, wait_for(self->fd, POLLHUP, 0) & POLLHUP);
}

TEST_F(adopt, peer_hangs_up_first)
{
	char c;

	ASSERT_EQ(0, world_connect(self->fd, PORT_HANGUP));
	EXPECT_EQ(0, read(self->fd, &c, 1));
	EXPECT_EQ(0, close(self->fd));
	self->fd = -1;
}

static int slots_free(struct puppet *p)
{
	/* Closing is asynchronous: the last sign is that all slots are back. */
	int i, n, fds[256];

	for (n = 0; n < 256; n++) {
		fds[n] = tcp_socket(0);
		if (world_connect(fds[n], PORT_ECHO) || !world_adopted(fds[n])) {
			close(fds[n]);
			break;
		}
	}
	for (i = 0; i < n; i++)
		close(fds[i]);
	return n;
}

TEST_F(adopt, slots_come_back)
{
	int i, n = 0, fd;

	world_rule(self->w, 1);
	for (i = 0; i < 1000; i++) {
		fd = tcp_socket(0);
		ASSERT_EQ(0, world_connect(fd, i % 2 ? PORT_ECHO : PORT_DISCARD));
		/* A slot is free again after a grace period. */
		if (!world_adopted(fd)) {
			usleep(20000);
			i--;
		}
		if (i % 3)
			write(fd, "x", 1);
		close(fd);
		ASSERT_GT(5000, ++n);
	}
	close(self->fd);
	self->fd = -1;
	for (i = 0; i < 100 && n != 256; i++) {
		n = slots_free(self->p);
		usleep(100000);
	}
	EXPECT_EQ(256, n);
}

TEST_F(adopt, unread_data_aborts)
{
	struct puppet_stats stats;
	int i;

	ASSERT_EQ(0, world_connect(self->fd, PORT_SOURCE));
	ASSERT_LT(0, wait_for(self->fd, POLLIN, 5000));
	close(self->fd);
	self->fd = -1;
	for (i = 0; i < 500; i++) {
		puppet_stats(self->p, &stats);
		if (stats.ops[DMM_OP_ABORT])
			break;
		usleep(10000);
	}
	EXPECT_EQ(1, stats.ops[DMM_OP_ABORT]);
	EXPECT_EQ(0, stats.ops[DMM_OP_CLOSE]);
}

TEST_F(adopt, linger_zero_aborts)
{
	struct linger linger = { .l_onoff = 1 };
	struct puppet_stats stats;
	int i;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	setsockopt(self->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(self->fd);
	self->fd = -1;
	for (i = 0; i < 500; i++) {
		puppet_stats(self->p, &stats);
		if (stats.ops[DMM_OP_ABORT])
			break;
		usleep(10000);
	}
	EXPECT_EQ(1, stats.ops[DMM_OP_ABORT]);
}

TEST_F(adopt, data_in_flight_at_close)
{
	static char buf[60000];
	struct puppet_stats stats;
	int i;

	ASSERT_EQ(0, world_connect(self->fd, PORT_DISCARD));
	ASSERT_EQ(sizeof(buf), write(self->fd, buf, sizeof(buf)));
	close(self->fd);
	self->fd = -1;
	for (i = 0; i < 500; i++) {
		puppet_stats(self->p, &stats);
		if (stats.ops[DMM_OP_CLOSE])
			break;
		usleep(10000);
	}
	EXPECT_EQ(1, stats.ops[DMM_OP_CLOSE]);
	EXPECT_EQ(0, stats.ops[DMM_OP_ABORT]);
	EXPECT_EQ(0, stats.bad);
}

TEST_F(adopt, options)
{
	struct puppet_stats stats;
	int one = 1, sixty = 60, i, val;
	socklen_t len = sizeof(val);

	ASSERT_EQ(0, setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &one, 4));
	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(0, setsockopt(self->fd, SOL_SOCKET, SO_KEEPALIVE, &one, 4));
	ASSERT_EQ(0, setsockopt(self->fd, IPPROTO_TCP, TCP_KEEPIDLE, &sixty, 4));
	for (i = 0; i < 500; i++) {
		puppet_stats(self->p, &stats);
		if (stats.keepidle == 60)
			break;
		usleep(10000);
	}
	EXPECT_EQ(60, stats.keepidle);
	EXPECT_TRUE(stats.nodelay);
	EXPECT_TRUE(stats.keepalive);
	ASSERT_EQ(0, getsockopt(self->fd, IPPROTO_TCP, TCP_KEEPIDLE, &val, &len));
	EXPECT_EQ(60, val);
	val = 0;
	EXPECT_EQ(-1, setsockopt(self->fd, IPPROTO_TCP, TCP_KEEPIDLE, &val, 4));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, setsockopt(self->fd, IPPROTO_TCP, TCP_REPAIR, &one, 4));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-1, setsockopt(self->fd, IPPROTO_TCP, TCP_ULP, "tls", 4));
	EXPECT_EQ(EEXIST, errno);
}

TEST_F(adopt, filter_is_locked)
{
	struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, ~0U) };
	struct sock_fprog prog = { .len = 1, .filter = all };

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	EXPECT_EQ(-1, setsockopt(self->fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog,
				 sizeof(prog)));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-1, setsockopt(self->fd, SOL_SOCKET, SO_DETACH_FILTER, &prog,
				 sizeof(prog)));
	EXPECT_EQ(ENOENT, errno);
}

/* Each is refused before it starts, counted, and goes to the kernel. */
static void expect_fallback(struct __test_metadata *_metadata, struct world *w,
			    int fd, int reason)
{
	__u64 before = world_fallbacks(reason), rule_before;
	struct world_stats rule;

	world_stats(w, &rule);
	rule_before = rule.fallbacks[reason];
	fcntl(fd, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-EINPROGRESS, world_connect(fd, PORT_ECHO));
	EXPECT_EQ(0, world_adopted(fd));
	EXPECT_EQ(before + 1, world_fallbacks(reason));
	world_stats(w, &rule);
	EXPECT_EQ(rule_before + 1, rule.fallbacks[reason]);
}

TEST_F(adopt, fallback_filter)
{
	struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, ~0U) };
	struct sock_fprog prog = { .len = 1, .filter = all };

	ASSERT_EQ(0, setsockopt(self->fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog,
				sizeof(prog)));
	expect_fallback(_metadata, self->w, self->fd, DMM_FALLBACK_FILTER);
}

TEST_F(adopt, fallback_sockopt)
{
	int one = 1;

	ASSERT_EQ(0, setsockopt(self->fd, SOL_IP, 19 /* IP_TRANSPARENT */, &one,
				4));
	expect_fallback(_metadata, self->w, self->fd, DMM_FALLBACK_SOCKOPT);
}

TEST_F(adopt, fallback_fastopen)
{
	int one = 1;

	ASSERT_EQ(0, setsockopt(self->fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT,
				&one, 4));
	expect_fallback(_metadata, self->w, self->fd, DMM_FALLBACK_FASTOPEN);
}

TEST_F(adopt, fallback_route)
{
	ASSERT_EQ(0, system("ip link add d1 type dummy && ip link set d1 up && "
			    "ip route add " WORLD_PEER "/32 dev d1"));
	expect_fallback(_metadata, self->w, self->fd, DMM_FALLBACK_ROUTE);
}

TEST_F(adopt, fallback_netns)
{
	/* The socket is of another namespace than the stack. */
	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	ASSERT_EQ(0, system("ip link add d0 type dummy && "
			    "ip addr add " WORLD_ADDR "/24 dev d0 && "
			    "ip link set d0 up"));
	close(self->fd);
	self->fd = tcp_socket(0);
	expect_fallback(_metadata, self->w, self->fd, DMM_FALLBACK_NETNS);
}

TEST_F(adopt, fallback_stack_down)
{
	puppet_kill(self->p);
	self->p = NULL;
	expect_fallback(_metadata, self->w, self->fd, DMM_FALLBACK_STACK_DOWN);
}

TEST_F(adopt, fallback_no_slot)
{
	int i, fds[256];

	for (i = 0; i < 256; i++) {
		fds[i] = tcp_socket(0);
		ASSERT_EQ(0, world_connect(fds[i], PORT_ECHO));
		ASSERT_EQ(1, world_adopted(fds[i]));
	}
	expect_fallback(_metadata, self->w, self->fd, DMM_FALLBACK_NO_SLOT);
	for (i = 0; i < 256; i++)
		close(fds[i]);
}

static int reader_tid;

static void *reader(void *arg)
{
	char c;

	__atomic_store_n(&reader_tid, gettid(), __ATOMIC_RELEASE);
	return (void *)(long)(read((long)arg, &c, 1) < 0 ? errno : 0);
}

/* Is it in wait_woken()? */
static int reader_sleeps(void)
{
	char path[64], wchan[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan",
		 __atomic_load_n(&reader_tid, __ATOMIC_ACQUIRE));
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (!fgets(wchan, sizeof(wchan), f))
		wchan[0] = 0;
	fclose(f);
	return !strcmp(wchan, "wait_woken");
}

TEST_F(adopt, worker_dies)
{
	int waiting = tcp_socket(SOCK_NONBLOCK), orphan = tcp_socket(0);
	long reading = tcp_socket(0);
	pthread_t t;
	void *err;

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(-EINPROGRESS, world_connect(waiting, PORT_SILENT));
	ASSERT_EQ(0, world_connect(reading, PORT_ECHO));
	ASSERT_EQ(0, world_connect(orphan, PORT_DEAF));
	ASSERT_EQ(1, write(orphan, "x", 1));
	close(orphan);

	/* Somebody sleeps in read(). A child would hold /dev/dmm open as well. */
	ASSERT_EQ(0, pthread_create(&t, NULL, reader, (void *)reading));
	while (!reader_sleeps())
		usleep(10000);
	puppet_kill(self->p);
	self->p = NULL;

	pthread_join(t, &err);
	EXPECT_EQ(ECONNRESET, (long)err);
	EXPECT_EQ(ECONNRESET, so_error(self->fd));
	EXPECT_NE(0, wait_for(self->fd, POLLIN, 0) & POLLHUP);
	EXPECT_EQ(ECONNRESET, so_error(waiting));
	EXPECT_EQ(-1, write(self->fd, "x", 1));
	EXPECT_EQ(EPIPE, errno);
	close(waiting);
	close(reading);
}

TEST_F(adopt, worker_comes_back)
{
	struct puppet_opts opts = { .name = "puppet", .id = WORLD_STACK };
	int again = tcp_socket(0);

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	puppet_kill(self->p);
	opts.ifindex = world_ifindex(self->w);
	self->p = puppet_start(&opts);
	ASSERT_NE(NULL, self->p);
	ASSERT_EQ(0, world_connect(again, PORT_ECHO));
	EXPECT_EQ(1, world_adopted(again));
	EXPECT_EQ(ECONNRESET, so_error(self->fd));
	close(again);
}

TEST_F(adopt, data_before_the_reset_is_read)
{
	char in[4];

	ASSERT_EQ(0, world_connect(self->fd, PORT_ECHO));
	ASSERT_EQ(4, write(self->fd, "data", 4));
	ASSERT_EQ(4, recv(self->fd, in, 4, MSG_PEEK | MSG_WAITALL));
	puppet_kill(self->p);
	self->p = NULL;
	EXPECT_EQ(4, read(self->fd, in, 4));
	EXPECT_EQ(-1, read(self->fd, in, 4));
	EXPECT_EQ(ECONNRESET, errno);
}

/*
 * nginx asks how much there is, reads exactly that much and waits for an edge. Bytes
 * that come between question and answer must give one, although the worker, seeing
 * nothing armed, sent no event for them.
 */
TEST_F(adopt, edge_for_bytes_that_came_meanwhile)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC), n;
	struct dmm_ring *rx;
	__u32 slot, gen;
	char in[8];

	ASSERT_EQ(0, world_connect(self->fd, PORT_DEAF));
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->fd, &ev));
	puppet_freeze(self->p);
	puppet_last(self->p, &slot, &gen);
	rx = dmm_chan_rx(puppet_chan(self->p), slot);
	ASSERT_EQ(3, dmm_ring_write(rx, "abc", 3));
	send_event(self->p, DMM_EV_RX, slot, gen);
	ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 1000));
	ASSERT_EQ(0, ioctl(self->fd, FIONREAD, &n));
	ASSERT_EQ(3, n);
	ASSERT_EQ(2, dmm_ring_write(rx, "de", 2));
	ASSERT_EQ(3, read(self->fd, in, 3));
	EXPECT_EQ(1, epoll_wait(ep, &ev, 1, 1000));
	EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
	puppet_thaw(self->p);
	close(ep);
}

TEST_F(adopt, ops_find_no_room)
{
	int i, fds[100];
	char in[3];

	/* The op ring holds 64; nobody takes them. */
	puppet_freeze(self->p);
	for (i = 0; i < 100; i++) {
		fds[i] = tcp_socket(SOCK_NONBLOCK);
		ASSERT_EQ(-EINPROGRESS, world_connect(fds[i], PORT_ECHO));
		ASSERT_EQ(1, world_adopted(fds[i]));
	}
	puppet_thaw(self->p);
	for (i = 0; i < 100; i++) {
		EXPECT_EQ(POLLOUT, wait_for(fds[i], POLLOUT, 5000));
		ASSERT_EQ(3, write(fds[i], "abc", 3));
		ASSERT_LT(0, wait_for(fds[i], POLLIN, 5000));
		EXPECT_EQ(3, read(fds[i], in, 3));
		close(fds[i]);
	}
}

TEST_F(adopt, native_elsewhere)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int l = tcp_socket(0), s;
	socklen_t len = sizeof(to);

	/* Loopback is not in the rule: not a hit, not a fallback. */
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ASSERT_EQ(0, bind(l, (struct sockaddr *)&to, sizeof(to)));
	ASSERT_EQ(0, listen(l, 1));
	ASSERT_EQ(0, getsockname(l, (struct sockaddr *)&to, &len));
	ASSERT_EQ(0, connect(self->fd, (struct sockaddr *)&to, len));
	EXPECT_EQ(0, world_adopted(self->fd));
	s = accept(l, NULL, NULL);
	ASSERT_EQ(2, write(s, "hi", 2));
	close(s);
	close(l);
}

TEST_HARNESS_MAIN
