// SPDX-License-Identifier: Apache-2.0
/*
 * One thread sleeps in a system call on a socket, another changes what the socket is.
 * All pairs of the two, on a native socket and on an adopted one: both see the same.
 * Then all of them at random times, for what only a race finds.
 *
 * Nothing sleeps for longer than SO_RCVTIMEO says. DMM_STORM_SEED repeats a run's
 * choices, though not its timing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "puppet.h"
#include "world.h"

#define PORT	4000	/* and up: each socket has one of its own */
#define NATIVE	3999	/* somebody listens there, on loopback, and says nothing */
#define TIMEOUT	400	/* ms; what nobody wakes ends by itself */
#define RACES	600

/*
 * A socket and its sleeper.
 * @fd: the socket; -1 once it is closed
 * @adopted: else native
 * @races: nobody waits until anybody sleeps
 * @tid: the sleeper's, once it is about to sleep
 * @ret, @err: what the call gave
 */
struct scene {
	int fd;
	bool adopted;
	bool races;
	pid_t tid;
	long ret;
	int err;
};

static struct sockaddr_in address(const char *ip, int port)
{
	return (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_addr.s_addr = inet_addr(ip),
		.sin_port = htons(port),
	};
}

/* To the puppet's @port, or to the one who is silent on loopback. */
static int join(struct scene *s, int port)
{
	struct sockaddr_in to = s->adopted ? address(WORLD_PEER, port) :
					     address("127.0.0.1", NATIVE);

	return connect(s->fd, (struct sockaddr *)&to, sizeof(to));
}

/* ---- what a socket is when somebody goes to sleep on it ----------------- */

static bool connected(struct scene *s)
{
	return !join(s, PORT_DEAF);
}

static bool full(struct scene *s)
{
	static char buf[65536];
	int size = 4096, quiet = 0;

	setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (join(s, PORT_DEAF))
		return false;
	/* until no more goes: what is on its way over loopback makes room again */
	while (quiet < (s->races ? 1 : 5)) {
		quiet++;
		while (send(s->fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			quiet = 0;
		if (!s->races)
			usleep(10000);
	}
	return errno == EAGAIN;
}

static bool fresh(struct scene *s)
{
	return true;
}

static bool listening(struct scene *s)
{
	static int port = PORT;
	struct sockaddr_in any = address("0.0.0.0", port++);

	return !bind(s->fd, (struct sockaddr *)&any, sizeof(any)) &&
	       !listen(s->fd, 16);
}

/* ---- calls that sleep --------------------------------------------------- */

static long do_recv(int fd)
{
	char c;

	return recv(fd, &c, 1, 0);
}

static long do_send(int fd)
{
	static const char buf[65536];

	return send(fd, buf, sizeof(buf), MSG_NOSIGNAL) < 0 ? -1 : 1;
}

static long do_poll(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int n = poll(&pfd, 1, TIMEOUT);

	return n > 0 ? pfd.revents : n;
}

static long do_poll_in(int fd)
{
	return do_poll(fd, POLLIN | POLLRDHUP);
}

static long do_poll_out(int fd)
{
	return do_poll(fd, POLLOUT);
}

static long do_accept(int fd)
{
	return accept(fd, NULL, NULL);
}

static long do_splice(int fd)
{
	int p[2];
	long n;
	int err;

	if (pipe(p))
		return -2;
	n = splice(fd, NULL, p[1], NULL, 4096, 0);
	err = errno;
	close(p[0]);
	close(p[1]);
	errno = err;
	return n;
}

static long do_uring(int fd, bool accepts)
{
	struct __kernel_timespec ts = { 0, TIMEOUT * 1000000L };
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	static char c;
	long n;

	if (io_uring_queue_init(4, &ring, 0))
		return -2;
	sqe = io_uring_get_sqe(&ring);
	if (accepts)
		io_uring_prep_accept(sqe, fd, NULL, NULL, 0);
	else
		io_uring_prep_recv(sqe, fd, &c, 1, 0);
	io_uring_submit(&ring);
	n = io_uring_wait_cqe_timeout(&ring, &cqe, &ts);
	if (!n)
		n = cqe->res;
	io_uring_queue_exit(&ring);
	errno = n < 0 ? -n : 0;
	return n < 0 ? -1 : n;
}

static long do_uring_recv(int fd)
{
	return do_uring(fd, false);
}

static long do_uring_accept(int fd)
{
	return do_uring(fd, true);
}

/* Nobody answers there, natively either. */
static struct sockaddr_in silence;

static long do_connect(int fd)
{
	return connect(fd, (struct sockaddr *)&silence, sizeof(silence));
}

/* @looks: what it sees of more than one change depends on when it looks */
static const struct sleeper {
	const char *name;
	bool (*prepare)(struct scene *s);
	long (*call)(int fd);
	bool looks;
} sleepers[] = {
	{ "recv", connected, do_recv },
	{ "send", full, do_send },
	{ "poll for data", connected, do_poll_in, true },
	{ "poll for room", full, do_poll_out, true },
	{ "splice", connected, do_splice },
	{ "io_uring recv", connected, do_uring_recv, true },
	{ "connect", fresh, do_connect, true },
	{ "accept", listening, do_accept, true },
	{ "io_uring accept", listening, do_uring_accept, true },
	{ "poll a listener", listening, do_poll_in, true },
};

#define SLEEPERS (sizeof(sleepers) / sizeof(sleepers[0]))

/* ---- calls that change what the socket is ------------------------------- */

static int unspec(struct scene *s)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	return connect(s->fd, &none, sizeof(none));
}

static int rebind(struct scene *s)
{
	struct sockaddr_in any = address("0.0.0.0", 0);

	return bind(s->fd, (struct sockaddr *)&any, sizeof(any));
}

static int relisten(struct scene *s)
{
	return listen(s->fd, 4);
}

static int shut_rd(struct scene *s)
{
	return shutdown(s->fd, SHUT_RD);
}

static int shut_wr(struct scene *s)
{
	return shutdown(s->fd, SHUT_WR);
}

static int shut_both(struct scene *s)
{
	return shutdown(s->fd, SHUT_RDWR);
}

static int unspec_bind(struct scene *s)
{
	return unspec(s) | rebind(s);
}

static int unspec_bind_listen(struct scene *s)
{
	return unspec(s) | rebind(s) | relisten(s);
}

static int shut_bind_listen(struct scene *s)
{
	return shut_both(s) | rebind(s) | relisten(s);
}

static int unspec_connect(struct scene *s)
{
	return unspec(s) | join(s, PORT_DEAF);
}

static int shut_connect(struct scene *s)
{
	return shut_both(s) | join(s, PORT_DEAF);
}

static int do_close(struct scene *s)
{
	int fd = s->fd;

	s->fd = -1;
	return close(fd);
}

static const struct changer {
	const char *name;
	int (*call)(struct scene *s);
	bool several;
} changers[] = {
	{ "connect(AF_UNSPEC)", unspec },
	{ "bind", rebind },
	{ "listen", relisten },
	{ "shutdown(SHUT_RD)", shut_rd },
	{ "shutdown(SHUT_WR)", shut_wr },
	{ "shutdown(SHUT_RDWR)", shut_both },
	{ "close", do_close },
	{ "AF_UNSPEC, bind", unspec_bind, true },
	{ "AF_UNSPEC, bind, listen", unspec_bind_listen, true },
	{ "AF_UNSPEC, connect", unspec_connect, true },
	{ "shutdown, bind, listen", shut_bind_listen, true },
	{ "shutdown, connect", shut_connect, true },
};

#define CHANGERS (sizeof(changers) / sizeof(changers[0]))

/* ---- both together ------------------------------------------------------ */

struct job {
	struct scene *s;
	const struct sleeper *sleeper;
	int fd;
};

static void *sleep_in_it(void *arg)
{
	struct job *job = arg;

	errno = 0;
	__atomic_store_n(&job->s->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	job->s->ret = job->sleeper->call(job->fd);
	job->s->err = job->s->ret < 0 ? errno : 0;
	return NULL;
}

/* Until the thread sleeps, as the kernel says; not for ever. */
static void wait_asleep(const struct scene *s)
{
	char path[64], state = 0;
	pid_t tid;
	int tries;
	FILE *f;

	for (tries = 0; tries < 100 && state != 'S'; tries++) {
		usleep(1000);
		tid = __atomic_load_n(&s->tid, __ATOMIC_ACQUIRE);
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
		f = tid ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		fclose(f);
	}
	usleep(2000);	/* it may have slept on its way */
}

static void set_timeouts(int fd, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

/* Play it; -1 if the socket cannot be what it should. @delay: us, or -1: asleep. */
static int play(struct scene *s, const struct sleeper *sleeper,
		const struct changer *changer, int delay, int *changed)
{
	struct job job = { .s = s, .sleeper = sleeper };
	pthread_t thread;

	s->tid = 0;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	s->races = delay >= 0;
	set_timeouts(s->fd, s->races ? 20 : 10 * TIMEOUT);
	if (!sleeper->prepare(s)) {
		close(s->fd);
		return -1;
	}
	if (!s->races)
		set_timeouts(s->fd, TIMEOUT);
	job.fd = s->fd;
	pthread_create(&thread, NULL, sleep_in_it, &job);
	if (delay < 0)
		wait_asleep(s);
	else
		usleep(delay);
	errno = 0;
	*changed = changer->call(s) ? -errno : 0;
	pthread_join(thread, NULL);
	if (s->fd >= 0)
		close(s->fd);
	return 0;
}

FIXTURE(sleepers) {
	struct world *w;
	struct puppet *p;
	int native;
	pthread_t thread;
};

/* Takes connections and keeps them. */
static void *silent(void *arg)
{
	int fd = *(int *)arg, conns[64], n = 0, i;

	for (;;) {
		if (n == 64) {
			for (i = 0; i < n; i++)
				close(conns[i]);
			n = 0;
		}
		conns[n] = accept(fd, NULL, NULL);
		if (conns[n++] < 0)
			break;
	}
	for (i = 0; i < n - 1; i++)
		close(conns[i]);
	return NULL;
}

FIXTURE_SETUP(sleepers)
{
	struct puppet_opts opts = { .name = "puppet", .id = WORLD_STACK };
	struct sockaddr_in here = address("127.0.0.1", NATIVE);
	int size = 2048;

	signal(SIGPIPE, SIG_IGN);
	silence = address(WORLD_PEER, PORT_SILENT);
	self->w = world_enter();
	ASSERT_NE(NULL, self->w);
	opts.ifindex = world_ifindex(self->w);
	self->p = puppet_start(&opts);
	ASSERT_NE(NULL, self->p);
	self->native = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* the puppet has no last word for a deaf one, and few slots */
	ASSERT_EQ(0, world_sysctl("ipv4/tcp_orphan_retries", "1"));
	world_rule(self->w, 0);
	setsockopt(self->native, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	ASSERT_EQ(0, bind(self->native, (struct sockaddr *)&here, sizeof(here)));
	ASSERT_EQ(0, listen(self->native, 128));
	pthread_create(&self->thread, NULL, silent, &self->native);
}

FIXTURE_TEARDOWN(sleepers)
{
	shutdown(self->native, SHUT_RDWR);
	pthread_join(self->thread, NULL);
	close(self->native);
	puppet_kill(self->p);
	world_leave(self->w);
}

/* The same sleeper under each changer, natively and adopted. */
static void compare(struct __test_metadata *_metadata, struct world *w,
		    const struct sleeper *sleeper)
{
	const struct changer *c;

	for (c = changers; c < changers + CHANGERS; c++) {
		struct scene native = {}, adopted = { .adopted = true };
		int ret[2];

		world_rule(w, 0);
		ASSERT_EQ(0, play(&native, sleeper, c, -1, &ret[0]));
		world_rule(w, 1);
		ASSERT_EQ(0, play(&adopted, sleeper, c, -1, &ret[1])) {
			TH_LOG("%s / %s: %s", sleeper->name, c->name,
			       strerror(errno));
		}
		EXPECT_EQ(ret[0], ret[1]) {
			TH_LOG("%s / %s: the change", sleeper->name, c->name);
		}
		if (sleeper->looks && c->several)
			continue;
		EXPECT_EQ(native.ret, adopted.ret) {
			TH_LOG("%s / %s: native %ld (%s), adopted %ld (%s)",
			       sleeper->name, c->name, native.ret,
			       strerror(native.err), adopted.ret,
			       strerror(adopted.err));
		}
		EXPECT_EQ(native.err, adopted.err) {
			TH_LOG("%s / %s: native %s, adopted %s", sleeper->name,
			       c->name, strerror(native.err),
			       strerror(adopted.err));
		}
	}
}

#define SLEEPER(i, what)				\
	TEST_F_TIMEOUT(sleepers, what, 120)		\
	{						\
		compare(_metadata, self->w, &sleepers[i]);	\
	}

SLEEPER(0, recv)
SLEEPER(1, send)
SLEEPER(2, poll_in)
SLEEPER(3, poll_out)
SLEEPER(4, splice)
SLEEPER(5, uring_recv)
SLEEPER(6, connect)
SLEEPER(7, accept)
SLEEPER(8, uring_accept)
SLEEPER(9, poll_listener)

/* Whatever comes out: nothing hangs, and the kernel is well. */
TEST_F_TIMEOUT(sleepers, at_random, 240)
{
	const char *text = getenv("DMM_STORM_SEED");
	unsigned int seed = text ? atoi(text) : time(NULL), played = 0, i;

	TH_LOG("seed %u", seed);
	world_rule(self->w, 1);
	for (i = 0; i < RACES; i++) {
		struct scene s = { .adopted = true };
		int ret;

		if (!play(&s, &sleepers[rand_r(&seed) % SLEEPERS],
			  &changers[rand_r(&seed) % CHANGERS],
			  rand_r(&seed) % 4 * 300, &ret))
			played++;
	}
	EXPECT_LT(RACES / 2, played);
}

TEST_HARNESS_MAIN
