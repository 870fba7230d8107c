// SPDX-License-Identifier: Apache-2.0
/* Readiness: poll, select, epoll in all its modes, SIGIO. The masks are exact. */
#include <sys/select.h>

#include "kselftest_harness.h"
#include "rig.h"

RIG_SUITE(event);

#define ALL	(POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLWRNORM)
#define IN	(POLLIN | POLLRDNORM)
#define OUT	(POLLOUT | POLLWRNORM)

static int mask(int fd)
{
	return polled(fd, ALL, 0);
}

RIG_TEST(event, masks_when_new_and_connected)
{
	struct rig *r = &self->r;

	r->fd = rig_socket(r, 0);
	EXPECT_EQ(OUT | POLLHUP, mask(r->fd));
	CONNECT(r);
	EXPECT_EQ(OUT, mask(r->fd));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	ASSERT_NE(0, polled(r->fd, POLLIN, 5000));
	EXPECT_EQ(IN | OUT, mask(r->fd));
	EXPECT_EQ(1, recv(r->fd, &(char){ 0 }, 1, 0));
	EXPECT_EQ(OUT, mask(r->fd));
}

RIG_TEST(event, mask_after_their_fin)
{
	struct rig *r = &self->r;

	CONNECT(r);
	shutdown(r->far, SHUT_WR);
	ASSERT_NE(0, polled(r->fd, POLLRDHUP, 5000));
	EXPECT_EQ(IN | OUT | POLLRDHUP, mask(r->fd));
	/* only what was asked for, HUP and ERR */
	EXPECT_EQ(0, polled(r->fd, POLLPRI, 0));
	/* and then ours */
	shutdown(r->fd, SHUT_WR);
	ASSERT_TRUE(WAIT_FOR(tcp_state(r->fd) == TCP_CLOSE));
	EXPECT_EQ(IN | OUT | POLLRDHUP | POLLHUP, mask(r->fd));
	EXPECT_EQ(0, so_error(r->fd));
}

RIG_TEST(event, mask_after_our_shutdown)
{
	struct rig *r = &self->r;

	CONNECT(r);
	shutdown(r->fd, SHUT_WR);
	EXPECT_EQ(OUT, mask(r->fd));
	shutdown(r->far, SHUT_WR);
	ASSERT_NE(0, polled(r->fd, POLLRDHUP, 5000));
	EXPECT_EQ(IN | OUT | POLLRDHUP | POLLHUP, mask(r->fd));
}

RIG_TEST(event, mask_after_our_shutdown_of_reading)
{
	struct rig *r = &self->r;

	CONNECT(r);
	shutdown(r->fd, SHUT_RD);
	EXPECT_EQ(IN | OUT | POLLRDHUP, mask(r->fd));
	shutdown(r->fd, SHUT_WR);
	EXPECT_EQ(IN | OUT | POLLRDHUP | POLLHUP, mask(r->fd));
}

RIG_TEST(event, mask_after_rst)
{
	struct rig *r = &self->r;

	CONNECT(r);
	reset_now(r->far);
	r->far = -1;
	/* the error may be seen a moment before the state */
	ASSERT_TRUE(WAIT_FOR(polled(r->fd, POLLRDHUP, 100) & POLLRDHUP));
	EXPECT_EQ(IN | OUT | POLLRDHUP | POLLHUP | POLLERR, mask(r->fd));
	EXPECT_EQ(ECONNRESET, so_error(r->fd));
	EXPECT_EQ(IN | OUT | POLLRDHUP | POLLHUP, mask(r->fd));
}

RIG_TEST(event, mask_of_a_full_window)
{
	struct rig *r = &self->r;
	static char buf[65536];

	CONNECT(r);
	fill(r->fd);
	EXPECT_EQ(0, polled(r->fd, ALL, QUIET));
	while (recv(r->far, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	while (!(polled(r->fd, POLLOUT, 20) & POLLOUT))
		ASSERT_LT(0, recv(r->far, buf, sizeof(buf), MSG_DONTWAIT));
	EXPECT_EQ(OUT, mask(r->fd));
}

RIG_TEST(event, poll_wakes)
{
	struct rig *r = &self->r;
	struct job job = { job_poll, .arg = POLLIN };

	CONNECT(r);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(POLLIN, job_end(&job));
}

RIG_TEST(event, poll_woken_by_our_shutdown)
{
	struct rig *r = &self->r;
	struct job job = { job_poll, .arg = POLLIN };

	CONNECT(r);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	shutdown(r->fd, SHUT_RDWR);
	EXPECT_LT(0, job_end(&job));
}

RIG_TEST(event, poll_times_out)
{
	struct rig *r = &self->r;
	double t;

	CONNECT(r);
	t = now();
	EXPECT_EQ(0, polled(r->fd, POLLIN, 50));
	EXPECT_LE(0.045, now() - t);
}

static void on_usr1(int sig)
{
}

RIG_TEST(event, ppoll)
{
	struct rig *r = &self->r;
	struct sigaction sa = { .sa_handler = on_usr1 };
	struct timespec ts = { .tv_sec = 5 };
	struct pollfd p = { .events = POLLIN };
	sigset_t all, none;

	CONNECT(r);
	sigaction(SIGUSR1, &sa, NULL);
	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_BLOCK, &all, NULL);
	raise(SIGUSR1);
	p.fd = r->fd;
	EXPECT_EQ(-1, ppoll(&p, 1, &ts, &none));
	EXPECT_EQ(EINTR, errno);
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(1, ppoll(&p, 1, &ts, &none));
	EXPECT_EQ(POLLIN, p.revents);
}

RIG_TEST(event, select)
{
	struct rig *r = &self->r;
	struct timeval tv = { 0 };
	fd_set in, out, ex;

	CONNECT(r);
	FD_ZERO(&in);
	FD_SET(r->fd, &in);
	out = ex = in;
	EXPECT_EQ(1, select(r->fd + 1, &in, &out, &ex, &tv));
	EXPECT_FALSE(FD_ISSET(r->fd, &in));
	EXPECT_TRUE(FD_ISSET(r->fd, &out));
	reset_now(r->far);
	r->far = -1;
	FD_ZERO(&out);
	FD_SET(r->fd, &in);
	FD_SET(r->fd, &ex);
	tv.tv_sec = 5;
	EXPECT_EQ(1, select(r->fd + 1, &in, &out, &ex, &tv));
	EXPECT_TRUE(FD_ISSET(r->fd, &in));
	EXPECT_FALSE(FD_ISSET(r->fd, &ex));
}

RIG_TEST(event, level)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC), i;

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLIN));
	EXPECT_EQ(0, epolled(ep, 0));
	EXPECT_EQ(2, write_all(r->far, "xy", 2));
	EXPECT_EQ(EPOLLIN, epolled(ep, 5000));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(EPOLLIN, epolled(ep, 0));
	EXPECT_EQ(1, recv(r->fd, &(char){ 0 }, 1, 0));
	EXPECT_EQ(EPOLLIN, epolled(ep, 0));
	EXPECT_EQ(1, recv(r->fd, &(char){ 0 }, 1, 0));
	EXPECT_EQ(0, epolled(ep, QUIET));
}

RIG_TEST(event, edge_per_arrival)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC), i;

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLIN | EPOLLET));
	EXPECT_EQ(0, epolled(ep, 0));
	/* Nothing is read: a new arrival is a new edge all the same. */
	for (i = 1; i < 4; i++) {
		EXPECT_EQ(1, write_all(r->far, "x", 1));
		EXPECT_EQ(EPOLLIN, epolled(ep, 2000));
		EXPECT_EQ(0, epolled(ep, QUIET));
		EXPECT_EQ(i, bytes_in(r->fd));
	}
	/* Half is read. */
	EXPECT_EQ(1, recv(r->fd, &(char){ 0 }, 1, 0));
	EXPECT_EQ(0, epolled(ep, QUIET));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(EPOLLIN, epolled(ep, 2000));
	/* All is read. */
	EXPECT_EQ(3, recv(r->fd, (char[4]){ 0 }, 4, 0));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(EPOLLIN, epolled(ep, 2000));
}

RIG_TEST(event, edge_of_room)
{
	struct rig *r = &self->r;
	static char buf[65536];
	int ep = epoll_create1(EPOLL_CLOEXEC), i;
	uint32_t ev = 0;

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLOUT | EPOLLET));
	EXPECT_EQ(EPOLLOUT, epolled(ep, 0));
	EXPECT_EQ(0, epolled(ep, QUIET));
	fill(r->fd);
	/* What is acknowledged late makes room for a little more. */
	while (epolled(ep, QUIET) || send(r->fd, "x", 1, MSG_DONTWAIT) == 1)
		fill(r->fd);
	for (i = 0; i < 1000 && !ev; i++) {
		recv(r->far, buf, sizeof(buf), MSG_DONTWAIT);
		ev = epolled(ep, 5);
	}
	EXPECT_EQ(EPOLLOUT, ev);
	EXPECT_LT(0, send(r->fd, "x", 1, MSG_DONTWAIT));
}

RIG_TEST(event, edge_of_the_end)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC);

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLIN | EPOLLRDHUP | EPOLLET));
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(EPOLLIN | EPOLLRDHUP, epolled(ep, 2000));
	EXPECT_EQ(0, epolled(ep, QUIET));
	EXPECT_EQ(0, recv(r->fd, &(char){ 0 }, 1, 0));
	EXPECT_EQ(0, epolled(ep, QUIET));
}

RIG_TEST(event, edge_of_a_reset)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC);

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLET));
	reset_now(r->far);
	r->far = -1;
	/* TCP wakes twice, for the state and for the error: one edge, or two */
	EXPECT_EQ(EPOLLERR | EPOLLHUP, epolled(ep, 2000));
	epolled(ep, QUIET);
	EXPECT_EQ(0, epolled(ep, QUIET));
}

RIG_TEST(event, oneshot)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };

	CONNECT(r);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &ev));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(EPOLLIN, epolled(ep, 2000));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(0, epolled(ep, QUIET));
	/* off altogether: not even HUP */
	reset_now(r->far);
	r->far = -1;
	EXPECT_EQ(0, epolled(ep, QUIET));
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_MOD, r->fd, &ev));
	EXPECT_EQ(EPOLLIN | EPOLLERR | EPOLLHUP, epolled(ep, 2000));
}

RIG_TEST(event, exclusive)
{
	struct rig *r = &self->r;
	int ep[2], i;
	struct job job[2];

	CONNECT(r);
	for (i = 0; i < 2; i++) {
		ep[i] = epoll_create1(EPOLL_CLOEXEC);
		ASSERT_EQ(0, epoll_add(ep[i], r->fd, EPOLLIN | EPOLLEXCLUSIVE));
		job[i] = (struct job) { job_epoll, .fd = ep[i], .arg = 300 };
		job_start(&job[i]);
		ASSERT_TRUE(job_blocked(&job[i]));
	}
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	/* one of them at least */
	i = job_end(&job[0]) == EPOLLIN;
	EXPECT_LE(1, i + (job_end(&job[1]) == EPOLLIN));
}

RIG_TEST(event, one_epoll_two_threads_one_edge)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC), i;
	struct job job[2];

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLIN | EPOLLET));
	for (i = 0; i < 2; i++) {
		job[i] = (struct job) { job_epoll, .fd = ep, .arg = 300 };
		job_start(&job[i]);
		ASSERT_TRUE(job_blocked(&job[i]));
	}
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	i = job_end(&job[0]) == EPOLLIN;
	EXPECT_EQ(1, i + (job_end(&job[1]) == EPOLLIN));
}

RIG_TEST(event, in_two_epolls)
{
	struct rig *r = &self->r;
	int a = epoll_create1(EPOLL_CLOEXEC), b = epoll_create1(EPOLL_CLOEXEC);

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(a, r->fd, EPOLLIN | EPOLLET));
	ASSERT_EQ(0, epoll_add(b, r->fd, EPOLLIN | EPOLLET));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(EPOLLIN, epolled(a, 2000));
	EXPECT_EQ(EPOLLIN, epolled(b, 2000));
	EXPECT_EQ(0, epolled(a, QUIET));
}

RIG_TEST(event, nested)
{
	struct rig *r = &self->r;
	int in = epoll_create1(EPOLL_CLOEXEC), out = epoll_create1(EPOLL_CLOEXEC);
	struct job job = { job_epoll, .fd = out };

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(in, r->fd, EPOLLIN));
	ASSERT_EQ(0, epoll_add(out, in, EPOLLIN));
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(EPOLLIN, job_end(&job));
	EXPECT_EQ(POLLIN, polled(in, POLLIN, 0));
	EXPECT_EQ(EPOLLIN, epolled(in, 0));
	EXPECT_EQ(1, recv(r->fd, &(char){ 0 }, 1, 0));
	EXPECT_EQ(0, epolled(out, 0));
}

RIG_TEST(event, registered_before_connect)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC);

	r->fd = rig_socket(r, SOCK_NONBLOCK);
	ASSERT_EQ(0, epoll_add(ep, r->fd,
			       EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET));
	EXPECT_EQ(EPOLLOUT | EPOLLHUP, epolled(ep, 0));
	CONNECT(r);
	EXPECT_EQ(EPOLLOUT, epolled(ep, 2000));
	EXPECT_EQ(0, epolled(ep, QUIET));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(EPOLLIN | EPOLLOUT, epolled(ep, 2000));
	shutdown(r->far, SHUT_WR);
	EXPECT_EQ(EPOLLIN | EPOLLOUT | EPOLLRDHUP, epolled(ep, 2000));
}

RIG_TEST(event, sleeper_from_before_connect)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct job job = { job_epoll, .fd = ep };

	r->fd = rig_socket(r, 0);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLIN | EPOLLET));
	EXPECT_EQ(EPOLLHUP, epolled(ep, 0));
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	CONNECT(r);
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(EPOLLIN, job_end(&job));
}

RIG_TEST(event, deleted)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC);

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLIN));
	EXPECT_EQ(-EEXIST, epoll_add(ep, r->fd, EPOLLIN));
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_DEL, r->fd, NULL));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(0, epolled(ep, QUIET));
}

/* The registration belongs to the file, not to the number. */
RIG_TEST(event, outlives_its_number)
{
	struct rig *r = &self->r;
	int ep = epoll_create1(EPOLL_CLOEXEC), other;

	CONNECT(r);
	ASSERT_EQ(0, epoll_add(ep, r->fd, EPOLLIN));
	other = dup(r->fd);
	close(r->fd);
	r->fd = other;
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(EPOLLIN, epolled(ep, 2000));
	close(other);
	r->fd = -1;
	EXPECT_EQ(0, epolled(ep, QUIET));
}

static int wait_signal(int fd, int band)
{
	struct timespec ts = { .tv_sec = 2 };
	siginfo_t si = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	while (sigtimedwait(&set, &si, &ts) == SIGRTMIN)
		if (si.si_fd == fd && si.si_band & band)
			return si.si_band;
	return 0;
}

RIG_TEST(event, signals)
{
	struct rig *r = &self->r;
	sigset_t set;

	CONNECT(r);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ASSERT_EQ(0, fcntl(r->fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, fcntl(r->fd, F_SETOWN, getpid()));
	EXPECT_EQ(getpid(), fcntl(r->fd, F_GETOWN));
	ASSERT_EQ(0, fcntl(r->fd, F_SETFL, O_ASYNC));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(POLLIN | POLLRDNORM, wait_signal(r->fd, POLLIN));
	EXPECT_EQ(1, write_all(r->far, "y", 1));
	EXPECT_EQ(POLLIN | POLLRDNORM, wait_signal(r->fd, POLLIN));
	shutdown(r->far, SHUT_WR);
	EXPECT_NE(0, wait_signal(r->fd, POLLIN));
	fcntl(r->fd, F_SETFL, 0);
}

/* Asked for when bytes came already. */
RIG_TEST(event, signals_asked_for_late)
{
	struct rig *r = &self->r;
	sigset_t set;
	int n = 0;

	CONNECT(r);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	/* nobody sleeps on it, as a poll() would */
	EXPECT_TRUE(WAIT_FOR((ioctl(r->fd, FIONREAD, &n), n == 1)));
	ASSERT_EQ(0, fcntl(r->fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, fcntl(r->fd, F_SETOWN, getpid()));
	ASSERT_EQ(0, fcntl(r->fd, F_SETFL, O_ASYNC));
	EXPECT_EQ(1, write_all(r->far, "y", 1));
	EXPECT_EQ(POLLIN | POLLRDNORM, wait_signal(r->fd, POLLIN));
	fcntl(r->fd, F_SETFL, 0);
}

RIG_TEST(event, lowat_wakes_when_lowered)
{
	struct rig *r = &self->r;
	struct job job = { .call = job_poll, .arg = POLLIN };
	double t;
	int n = 0;

	CONNECT(r);
	ASSERT_EQ(0, set_int(r->fd, SOL_SOCKET, SO_RCVLOWAT, 1000));
	job.fd = r->fd;
	job_start(&job);
	EXPECT_TRUE(job_blocked(&job));
	EXPECT_EQ(10, write_all(r->far, "0123456789", 10));
	EXPECT_TRUE(WAIT_FOR((ioctl(r->fd, FIONREAD, &n), n == 10)));
	EXPECT_TRUE(job_blocked(&job));
	t = now();
	ASSERT_EQ(0, set_int(r->fd, SOL_SOCKET, SO_RCVLOWAT, 5));
	EXPECT_EQ(POLLIN, job_end(&job));
	EXPECT_GT(2, now() - t);	/* it looks by itself after five */
}

RIG_TEST(event, signal_of_connect_and_reset)
{
	struct rig *r = &self->r;
	sigset_t set;

	r->fd = rig_socket(r, SOCK_NONBLOCK);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fcntl(r->fd, F_SETSIG, SIGRTMIN);
	fcntl(r->fd, F_SETOWN, getpid());
	ASSERT_EQ(0, fcntl(r->fd, F_SETFL, O_ASYNC | O_NONBLOCK));
	CONNECT(r);
	EXPECT_NE(0, wait_signal(r->fd, POLLOUT));
	reset_now(r->far);
	r->far = -1;
	EXPECT_NE(0, wait_signal(r->fd, POLLERR));
}

TEST_HARNESS_MAIN
