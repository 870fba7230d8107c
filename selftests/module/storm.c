// SPDX-License-Identifier: Apache-2.0
/*
 * Everything at once, at random: threads that share a socket, storms of connect() and
 * of accept(), a worker that lies; each while the worker is killed and started again.
 * Nothing may hang, nothing may be kept: sockets, files, pinned pages, arenas and
 * references to the module are counted before and after. What the kernel says meanwhile
 * is for whoever runs this (scripts/vm).
 *
 * DMM_STORM_SECONDS is the time for the shared socket (60); the others take a sixth of
 * it. DMM_STORM_SEED repeats a run's choices, though not its timing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "census.h"
#include "kselftest_harness.h"
#include "puppet.h"
#include "world.h"

#define THREADS		4
#define PORT		4000
#define SECONDS		60
/* A grace period or two, and the work queue, on a busy machine. */
#define SETTLE		30

static struct world *world;
static struct puppet *puppet;		/* NULL while it is dead */
static pthread_rwlock_t puppet_lock = PTHREAD_RWLOCK_INITIALIZER;
static bool stop;
static unsigned int seed;

/* What a run did; a storm that did nothing has shown nothing. */
static struct {
	unsigned long kills, adopted, native, bytes, accepted, calls, lies;
} did;

#define DID(what, n)	__atomic_fetch_add(&did.what, n, __ATOMIC_RELAXED)

static bool stopping(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

/* ---- chance ------------------------------------------------------------- */

static __thread uint64_t dice_state;

static void dice_seed(unsigned int n)
{
	dice_state = (seed + n * 7919ULL + 1) * 0x9e3779b97f4a7c15ULL;
}

static uint32_t dice(uint32_t n)
{
	dice_state ^= dice_state << 13;
	dice_state ^= dice_state >> 7;
	dice_state ^= dice_state << 17;
	return (dice_state >> 32) % n;
}

/* ---- sockets ------------------------------------------------------------ */

static const int ports[] = {
	PORT_ECHO, PORT_ECHO, PORT_ECHO, PORT_DISCARD, PORT_SOURCE, PORT_SOURCE,
	PORT_DEAF, PORT_HANGUP, PORT_RESET, PORT_SILENT, PORT_REFUSED,
	PORT_TIMEOUT,
};

static void set_timeouts(int fd, int ms)
{
	struct timeval tv = { .tv_usec = ms * 1000 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

/* IPv4, IPv6, or mapped. */
static int connect_any(int fd, int family, int port)
{
	struct sockaddr_in6 to6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(port),
	};
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
	};

	inet_pton(AF_INET, WORLD_PEER, &to.sin_addr);
	inet_pton(AF_INET6, dice(4) ? WORLD_PEER6 : "::ffff:" WORLD_PEER,
		  &to6.sin6_addr);
	return family == AF_INET ?
	       connect(fd, (struct sockaddr *)&to, sizeof(to)) :
	       connect(fd, (struct sockaddr *)&to6, sizeof(to6));
}

/* A socket that blocks for some milliseconds at most, connected or not. */
static int open_any(void)
{
	int family = dice(2) ? AF_INET : AF_INET6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC |
			(dice(2) ? SOCK_NONBLOCK : 0), 0);

	if (fd < 0)
		return fd;
	set_timeouts(fd, 1 + dice(20));
	connect_any(fd, family, ports[dice(sizeof(ports) / sizeof(ports[0]))]);
	if (world_adopted(fd) == 1)
		DID(adopted, 1);
	else
		DID(native, 1);
	return fd;
}

static void set_some_option(int fd)
{
	int on = dice(2), secs = 1 + dice(100);
	struct linger linger = { .l_onoff = on };

	switch (dice(5)) {
	case 0:
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		break;
	case 1:
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
		break;
	case 2:
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &secs, sizeof(secs));
		break;
	case 3:
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &secs,
			   sizeof(secs));
		break;
	case 4:
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		break;
	}
}

static void send_some(int fd)
{
	static char buf[100000];
	ssize_t n = send(fd, buf, 1 + dice(sizeof(buf)),
			 MSG_NOSIGNAL | (dice(2) ? MSG_DONTWAIT : 0) |
			 (dice(4) ? 0 : MSG_MORE));

	if (n > 0)
		DID(bytes, n);
}

static void recv_some(int fd)
{
	static const int flags[] = {
		0, 0, 0, MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, MSG_WAITALL,
	};
	static __thread char buf[100000];
	ssize_t n = recv(fd, buf, 1 + dice(sizeof(buf)),
			 flags[dice(sizeof(flags) / sizeof(flags[0]))]);

	if (n > 0)
		DID(bytes, n);
}

static void ask_some(int fd)
{
	struct tcp_info info;
	struct sockaddr_storage addr;
	socklen_t len = sizeof(info);
	int n;

	switch (dice(4)) {
	case 0:
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
		break;
	case 1:
		ioctl(fd, dice(2) ? FIONREAD : TIOCOUTQ, &n);
		break;
	case 2:
		len = sizeof(addr);
		getpeername(fd, (struct sockaddr *)&addr, &len);
		break;
	case 3:
		len = sizeof(n);
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &n, &len);
		break;
	}
}

/* One thing that a program does with a socket, but for its end. */
static void act(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = dice(2) ? POLLIN : POLLOUT };
	int copy;

	switch (dice(10)) {
	case 0:
	case 1:
	case 2:
		send_some(fd);
		break;
	case 3:
	case 4:
	case 5:
		recv_some(fd);
		break;
	case 6:
		poll(&pfd, 1, dice(5));
		break;
	case 7:
		copy = dup(fd);
		recv_some(copy);
		close(copy);
		break;
	case 8:
		set_some_option(fd);
		break;
	case 9:
		ask_some(fd);
		break;
	}
}

/* ---- the worker's life -------------------------------------------------- */

static int worker_start(void)
{
	struct puppet_opts opts = {
		.name = "puppet",
		.id = WORLD_STACK,
		.ifindex = world_ifindex(world),
	};

	puppet = puppet_start(&opts);
	return puppet ? 0 : -errno;
}

/* For @seconds: kill, leave it dead for a moment, start. */
static int worker_lives(int seconds)
{
	struct timespec end, now;
	int err = 0;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	do {
		usleep(100000 + dice(500000));
		pthread_rwlock_wrlock(&puppet_lock);
		puppet_kill(puppet);
		puppet = NULL;
		DID(kills, 1);
		pthread_rwlock_unlock(&puppet_lock);
		if (dice(2))
			usleep(dice(50000));
		pthread_rwlock_wrlock(&puppet_lock);
		err = worker_start();
		pthread_rwlock_unlock(&puppet_lock);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (!err && now.tv_sec < end.tv_sec);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	return err;
}

static int seconds(int part)
{
	const char *text = getenv("DMM_STORM_SECONDS");
	int s = (text ? atoi(text) : SECONDS) / part;

	return s ? s : 1;
}

FIXTURE(storm) {
	struct census here;	/* in the world, before anything was done */
	struct census home;	/* outside, before the world */
	pthread_t threads[THREADS + 1];
	int nthreads;
	int listeners[2];
};

FIXTURE_SETUP(storm)
{
	const char *text = getenv("DMM_STORM_SEED");

	signal(SIGPIPE, SIG_IGN);
	seed = text ? atoi(text) : time(NULL);
	TH_LOG("seed %u", seed);
	dice_seed(0);
	self->listeners[0] = -1;
	self->listeners[1] = -1;
	census_take(&self->home);
	world = world_enter();
	ASSERT_NE(NULL, world);
	/* Both ways of a closed connection: kept in TIME_WAIT, and not kept. */
	ASSERT_EQ(0, system("sysctl -qw net.ipv4.tcp_max_tw_buckets=100"));
	census_take(&self->here);
	ASSERT_EQ(0, worker_start());
}

static void run(struct __test_metadata *_metadata, FIXTURE_DATA(storm) *self,
		void *(*fn)(void *))
{
	int n = self->nthreads++;

	ASSERT_EQ(0, pthread_create(&self->threads[n], NULL, fn,
				    (void *)(long)n));
}

/* After the storm: everybody leaves, then look at what is left. */
static void settle(struct __test_metadata *_metadata, FIXTURE_DATA(storm) *self)
{
	int i;

	for (i = 0; i < self->nthreads; i++)
		pthread_join(self->threads[i], NULL);
	for (i = 0; i < 2; i++)
		if (self->listeners[i] >= 0)
			close(self->listeners[i]);
	puppet_kill(puppet);
	TH_LOG("%lu kills, %lu adopted, %lu native, %lu bytes, %lu called, %lu accepted, %lu lies",
	       did.kills, did.adopted, did.native, did.bytes, did.calls,
	       did.accepted, did.lies);
	EXPECT_EQ(0, census_back(&self->here, SETTLE));
	world_leave(world);
	EXPECT_EQ(0, census_back(&self->home, SETTLE));
}

FIXTURE_TEARDOWN(storm)
{
}

/* ---- one socket, four threads ------------------------------------------- */

static int shared;

/* As another thread's close() and socket() would be, at the worst moment. */
static void replace_shared(void)
{
	int fd = open_any();

	dup2(fd, shared);
	close(fd);
}

static void *share(void *arg)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	dice_seed(1 + (long)arg);
	while (!stopping()) {
		switch (dice(60)) {
		case 0:
			shutdown(shared, SHUT_WR);
			break;
		case 1:
			shutdown(shared, dice(2) ? SHUT_RD : SHUT_RDWR);
			break;
		case 2:
		case 3:
			replace_shared();
			break;
		case 4:
			connect(shared, &none, sizeof(none));
			break;
		case 5:
			connect_any(shared, dice(2) ? AF_INET : AF_INET6,
				    PORT_ECHO);
			break;
		default:
			act(shared);
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(storm, four_threads_on_one_socket, 600)
{
	int i;

	shared = open_any();
	ASSERT_LE(0, shared);
	for (i = 0; i < THREADS; i++)
		run(_metadata, self, share);
	EXPECT_EQ(0, worker_lives(seconds(1)));
	for (i = 0; i < THREADS; i++)
		pthread_join(self->threads[i], NULL);
	self->nthreads = 0;
	close(shared);
	EXPECT_LE(1, did.kills);
	EXPECT_LT(10, did.adopted);
	EXPECT_LT(10000, did.bytes);
	settle(_metadata, self);
}

/* ---- connect and close -------------------------------------------------- */

static void *come_and_go(void *arg)
{
	int fd, n;

	dice_seed(1 + (long)arg);
	while (!stopping()) {
		fd = open_any();
		if (fd < 0)
			continue;
		for (n = dice(4); n; n--)
			act(fd);
		if (!dice(3))
			shutdown(fd, dice(2) ? SHUT_WR : SHUT_RDWR);
		close(fd);
	}
	return NULL;
}

TEST_F_TIMEOUT(storm, connect_and_close, 600)
{
	int i;

	for (i = 0; i < THREADS; i++)
		run(_metadata, self, come_and_go);
	EXPECT_EQ(0, worker_lives(seconds(6)));
	EXPECT_LE(1, did.kills);
	EXPECT_LT(100, did.adopted);
	settle(_metadata, self);
}

/* ---- accept ------------------------------------------------------------- */

static int *listeners;

static int listen_on(int family, int backlog)
{
	struct sockaddr_in6 me6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(PORT),
	};
	struct sockaddr_in me = {
		.sin_family = AF_INET,
		.sin_port = htons(PORT),
	};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	set_timeouts(fd, 20);
	if (bind(fd, family == AF_INET ? (void *)&me : (void *)&me6,
		 family == AF_INET ? sizeof(me) : sizeof(me6)) ||
	    listen(fd, backlog)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void *accepts(void *arg)
{
	int fd, n;

	dice_seed(1 + (long)arg);
	while (!stopping()) {
		fd = accept4(listeners[dice(2)], NULL, NULL,
			     dice(2) ? SOCK_NONBLOCK : 0);
		if (fd < 0)
			continue;
		DID(accepted, 1);
		if (world_adopted(fd) == 1)
			DID(adopted, 1);
		else
			DID(native, 1);
		set_timeouts(fd, 1 + dice(20));
		for (n = dice(4); n; n--)
			act(fd);
		close(fd);
	}
	return NULL;
}

/* A client over loopback, to have the kernel's children among the stack's. */
static void call_native(bool v6)
{
	struct sockaddr_in6 to6 = {
		.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
		.sin6_port = htons(PORT),
	};
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(PORT),
	};
	struct linger linger = { .l_onoff = 1 };
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	set_timeouts(fd, 10);
	connect(fd, v6 ? (void *)&to6 : (void *)&to,
		v6 ? sizeof(to6) : sizeof(to));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void *calls(void *arg)
{
	struct puppet_caller caller = { .lport = PORT, .rport = 1024 };

	dice_seed(1 + (long)arg);
	while (!stopping()) {
		if (!dice(10)) {
			call_native(dice(2));
			continue;
		}
		if (++caller.rport < 1024)
			caller.rport = 1024;
		caller.what = ports[dice(sizeof(ports) / sizeof(ports[0]))];
		caller.v6 = dice(2);
		pthread_rwlock_rdlock(&puppet_lock);
		if (puppet && !puppet_call(puppet, &caller))
			DID(calls, 1);
		pthread_rwlock_unlock(&puppet_lock);
		if (!dice(20))
			usleep(1000);
	}
	return NULL;
}

/* Listeners that come and go, and change. */
static void *relistens(void *arg)
{
	int i, fd;

	dice_seed(1 + (long)arg);
	while (!stopping()) {
		i = dice(2);
		switch (dice(4)) {
		case 0:
			shutdown(listeners[i], SHUT_RD);
			/* fall through */
		case 1:
			fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
			dup2(fd, listeners[i]);
			close(fd);
			fd = listen_on(i ? AF_INET6 : AF_INET, dice(100));
			if (fd >= 0) {
				dup2(fd, listeners[i]);
				close(fd);
			}
			break;
		case 2:
			listen(listeners[i], dice(100));
			break;
		case 3:
			set_some_option(listeners[i]);
			ask_some(listeners[i]);
			break;
		}
		usleep(dice(20000));
	}
	return NULL;
}

TEST_F_TIMEOUT(storm, accept, 600)
{
	listeners = self->listeners;
	listeners[0] = listen_on(AF_INET, 50);
	listeners[1] = listen_on(AF_INET6, 50);
	ASSERT_LE(0, listeners[0]);
	ASSERT_LE(0, listeners[1]);
	run(_metadata, self, accepts);
	run(_metadata, self, accepts);
	run(_metadata, self, calls);
	run(_metadata, self, relistens);
	EXPECT_EQ(0, worker_lives(seconds(6)));
	EXPECT_LE(1, did.kills);
	EXPECT_LT(100, did.calls);
	EXPECT_LT(100, did.adopted);
	EXPECT_LT(0, did.native);
	settle(_metadata, self);
}

/* ---- a worker that lies ------------------------------------------------- */

static void *lies(void *arg)
{
	dice_seed(1 + (long)arg);
	while (!stopping()) {
		pthread_rwlock_rdlock(&puppet_lock);
		if (puppet) {
			puppet_lie(puppet, dice(UINT32_MAX), dice(UINT32_MAX));
			DID(lies, 1);
		}
		pthread_rwlock_unlock(&puppet_lock);
		if (!dice(50))
			usleep(1000);
	}
	return NULL;
}

TEST_F_TIMEOUT(storm, a_worker_that_lies, 600)
{
	listeners = self->listeners;
	listeners[0] = listen_on(AF_INET, 50);
	listeners[1] = listen_on(AF_INET6, 50);
	ASSERT_LE(0, listeners[0]);
	run(_metadata, self, come_and_go);
	run(_metadata, self, come_and_go);
	run(_metadata, self, accepts);
	run(_metadata, self, calls);
	run(_metadata, self, lies);
	EXPECT_EQ(0, worker_lives(seconds(6)));
	EXPECT_LT(100, did.lies);
	EXPECT_LT(100, did.adopted);
	settle(_metadata, self);
}

TEST_HARNESS_MAIN
