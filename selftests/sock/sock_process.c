// SPDX-License-Identifier: Apache-2.0
/* One socket in several hands: fork, dup, exec, SCM_RIGHTS, threads. */
#include <sched.h>
#include <spawn.h>
#include <sys/prctl.h>

#include "kselftest_harness.h"
#include "rig.h"

RIG_SUITE(process);

static bool fin_seen(int far, int ms)
{
	char c;

	return polled(far, POLLIN, ms) && !recv(far, &c, 1, MSG_PEEK);
}

static int child_status(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

RIG_TEST(process, child_talks)
{
	struct rig *r = &self->r;
	char buf[4];
	pid_t pid;

	CONNECT(r);
	pid = fork();
	if (!pid)
		_exit(send(r->fd, "abc", 3, 0) != 3 ||
		      read_all(r->fd, buf, 3) != 3);
	EXPECT_EQ(3, read_all(r->far, buf, 3));
	EXPECT_EQ(3, write_all(r->far, "def", 3));
	EXPECT_EQ(0, child_status(pid));
	/* Its end ended nothing. */
	EXPECT_FALSE(fin_seen(r->far, QUIET));
	EXPECT_EQ(1, send(r->fd, "x", 1, 0));
	EXPECT_EQ(1, read_all(r->far, buf, 1));
}

RIG_TEST(process, both_take_turns)
{
	struct rig *r = &self->r;
	int turn[2], back[2], i;
	char c;
	pid_t pid;

	CONNECT(r);
	pipe(turn);
	pipe(back);
	pid = fork();
	if (!pid) {
		for (i = 0; i < 5; i++)
			if (read(turn[0], &c, 1) != 1 ||
			    recv(r->fd, &c, 1, 0) != 1 || c != 'a' + 2 * i + 1 ||
			    write(back[1], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	EXPECT_EQ(10, write_all(r->far, "abcdefghij", 10));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(1, recv(r->fd, &c, 1, 0));
		EXPECT_EQ('a' + 2 * i, c);
		write(turn[1], "", 1);
		read(back[0], &c, 1);
	}
	EXPECT_EQ(0, child_status(pid));
}

RIG_TEST(process, the_last_close_ends_it)
{
	struct rig *r = &self->r;
	int go[2];
	pid_t pid;

	CONNECT(r);
	pipe(go);
	pid = fork();
	if (!pid) {
		close(r->far);
		close(go[1]);
		_exit(read(go[0], &(char){ 0 }, 1));
	}
	close(go[0]);
	close(r->fd);
	r->fd = -1;
	EXPECT_FALSE(fin_seen(r->far, QUIET));
	close(go[1]);
	EXPECT_TRUE(fin_seen(r->far, 5000));
	EXPECT_EQ(0, child_status(pid));
}

RIG_TEST(process, parent_shuts_down_what_the_child_reads)
{
	struct rig *r = &self->r;
	pid_t pid;

	CONNECT(r);
	pid = fork();
	if (!pid)
		_exit(recv(r->fd, &(char){ 0 }, 1, 0) != 0);
	ASSERT_TRUE(WAIT_FOR(blocked(pid, pid)));
	EXPECT_EQ(0, shutdown(r->fd, SHUT_RDWR));
	EXPECT_EQ(0, child_status(pid));
}

RIG_TEST(process, killed)
{
	struct rig *r = &self->r;
	pid_t pid;

	CONNECT(r);
	pid = fork();
	if (!pid) {
		recv(r->fd, &(char){ 0 }, 1, 0);
		_exit(0);
	}
	close(r->fd);
	r->fd = -1;
	ASSERT_TRUE(WAIT_FOR(blocked(pid, pid)));
	kill(pid, SIGKILL);
	EXPECT_EQ(256 + SIGKILL, child_status(pid));
	EXPECT_TRUE(fin_seen(r->far, 5000));
}

RIG_TEST(process, killed_with_unread_data)
{
	struct rig *r = &self->r;
	pid_t pid;

	CONNECT(r);
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	ASSERT_TRUE(WAIT_FOR(bytes_in(r->fd) == 3));
	close(r->fd);
	r->fd = -1;
	kill(pid, SIGKILL);
	child_status(pid);
	EXPECT_EQ(-ECONNRESET, drain(r->far, NULL));
}

RIG_TEST(process, duplicates)
{
	struct rig *r = &self->r;
	int a, b, c, off = -1;
	char buf[4];

	CONNECT(r);
	a = dup(r->fd);
	b = dup2(r->fd, 100);
	c = dup3(r->fd, 101, O_CLOEXEC);
	EXPECT_EQ(100, b);
	EXPECT_EQ(101, c);
	EXPECT_EQ(0, fcntl(a, F_GETFD));
	EXPECT_EQ(0, fcntl(b, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(c, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(r->fd, F_GETFD));
	/* status flags are the file's */
	fcntl(a, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(O_NONBLOCK, fcntl(c, F_GETFL) & O_NONBLOCK);
	close(r->fd);
	r->fd = a;
	EXPECT_EQ(r->adopted, rig_is_adopted(c));
	EXPECT_EQ(1, send(b, "x", 1, 0));
	EXPECT_EQ(1, send(c, "y", 1, 0));
	EXPECT_EQ(2, read_all(r->far, buf, 2));
	close(a);
	close(b);
	r->fd = off;
	EXPECT_FALSE(fin_seen(r->far, QUIET));
	close(c);
	EXPECT_TRUE(fin_seen(r->far, 5000));
}

RIG_TEST(process, duplicate_from_before_connect)
{
	struct rig *r = &self->r;
	char c;
	int other;

	r->fd = rig_socket(r, 0);
	other = dup(r->fd);
	CONNECT(r);
	EXPECT_EQ(r->adopted, rig_is_adopted(other));
	EXPECT_EQ(1, send(other, "x", 1, 0));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
}

RIG_TEST(process, exec)
{
	struct rig *r = &self->r;
	char cmd[64], buf[8];
	pid_t pid;

	CONNECT(r);
	pid = fork();
	if (!pid) {
		snprintf(cmd, sizeof(cmd), "read x <&%d; echo got $x >&%d",
			 r->fd, r->fd);
		fcntl(r->fd, F_SETFD, 0);
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(1);
	}
	EXPECT_EQ(3, write_all(r->far, "hi\n", 3));
	EXPECT_EQ(7, read_all(r->far, buf, 7));
	EXPECT_EQ(0, memcmp(buf, "got hi\n", 7));
	EXPECT_EQ(0, child_status(pid));
}

RIG_TEST(process, close_on_exec)
{
	struct rig *r = &self->r;
	pid_t pid;

	CONNECT(r);
	close(r->ctl);
	r->ctl = -1;
	pid = fork();
	if (!pid) {
		execl("/bin/sleep", "sleep", "10", NULL);
		_exit(1);
	}
	close(r->fd);
	r->fd = -1;
	EXPECT_TRUE(fin_seen(r->far, 5000));
	kill(pid, SIGKILL);
	child_status(pid);
}

/* A shell that answers what it reads from @in on @out. */
static char *const *answering_shell(int in, int out)
{
	static char cmd[64];
	static char *argv[] = { "sh", "-c", cmd, NULL };

	snprintf(cmd, sizeof(cmd), "read x <&%d; echo got $x >&%d", in, out);
	return argv;
}

/* It answered, has ended, and both ends are as before. */
static bool shell_answered(struct rig *r, pid_t pid)
{
	char buf[8];

	return write_all(r->far, "hi\n", 3) == 3 && read_all(r->far, buf, 7) == 7 &&
	       !memcmp(buf, "got hi\n", 7) && !child_status(pid) &&
	       !fin_seen(r->far, QUIET) && send(r->fd, "x", 1, 0) == 1 &&
	       read_all(r->far, buf, 1) == 1;
}

RIG_TEST(process, spawn)
{
	struct rig *r = &self->r;
	pid_t pid;

	CONNECT(r);
	fcntl(r->fd, F_SETFD, 0);
	ASSERT_EQ(0, posix_spawn(&pid, "/bin/sh", NULL, NULL,
				 answering_shell(r->fd, r->fd), environ));
	EXPECT_TRUE(shell_answered(r, pid));
}

/* Close-on-exec, but for what stands for it in the child. */
RIG_TEST(process, spawn_as_stdio)
{
	struct rig *r = &self->r;
	posix_spawn_file_actions_t acts;
	pid_t pid;

	CONNECT(r);
	posix_spawn_file_actions_init(&acts);
	posix_spawn_file_actions_adddup2(&acts, r->fd, 0);
	posix_spawn_file_actions_adddup2(&acts, r->fd, 1);
	ASSERT_EQ(0, posix_spawnp(&pid, "sh", &acts, NULL, answering_shell(0, 1),
				  environ));
	posix_spawn_file_actions_destroy(&acts);
	EXPECT_TRUE(shell_answered(r, pid));
}

RIG_TEST(process, spawn_without_it)
{
	static char *const argv[] = { "sleep", "10", NULL };
	struct rig *r = &self->r;
	posix_spawn_file_actions_t acts;
	pid_t pid, other;

	CONNECT(r);
	posix_spawn_file_actions_init(&acts);
	posix_spawn_file_actions_addclose(&acts, 0);
	ASSERT_EQ(0, posix_spawnp(&pid, "sleep", NULL, NULL, argv, environ));
	ASSERT_EQ(0, posix_spawnp(&other, "sleep", &acts, NULL, argv, environ));
	posix_spawn_file_actions_destroy(&acts);
	close(r->fd);
	r->fd = -1;
	EXPECT_TRUE(fin_seen(r->far, 5000));
	kill(pid, SIGKILL);
	kill(other, SIGKILL);
	child_status(pid);
	child_status(other);
}

RIG_TEST(process, vfork_and_exec)
{
	struct rig *r = &self->r;
	char *const *argv;
	pid_t pid;

	CONNECT(r);
	fcntl(r->fd, F_SETFD, 0);
	argv = answering_shell(r->fd, r->fd);
	pid = vfork();
	if (!pid) {
		execv("/bin/sh", argv);
		_exit(1);
	}
	EXPECT_TRUE(shell_answered(r, pid));
}

static int send_fd(int to, int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { "", 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
		.msg_controllen = sizeof(room),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(to, &msg, 0) == 1 ? 0 : -errno;
}

static int recv_fd(int from)
{
	char room[CMSG_SPACE(sizeof(int))], c;
	struct iovec iov = { &c, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
		.msg_controllen = sizeof(room),
	};
	int fd;

	if (recvmsg(from, &msg, 0) != 1 || !CMSG_FIRSTHDR(&msg))
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

RIG_TEST(process, passed_to_another)
{
	struct rig *r = &self->r;
	char buf[4];
	int pair[2];
	pid_t pid;

	CONNECT(r);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	pid = fork();
	if (!pid) {
		close(r->fd);
		close(r->far);
		/* Another netns is all the same to a socket. */
		if (unshare(CLONE_NEWNET))
			_exit(2);
		r->fd = recv_fd(pair[1]);
		_exit(read_all(r->fd, buf, 3) != 3 ||
		      write_all(r->fd, buf, 3) != 3);
	}
	close(pair[1]);
	ASSERT_EQ(0, send_fd(pair[0], r->fd));
	close(r->fd);
	r->fd = -1;
	EXPECT_EQ(3, write_all(r->far, "abc", 3));
	EXPECT_EQ(3, read_all(r->far, buf, 3));
	EXPECT_EQ(0, memcmp(buf, "abc", 3));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_TRUE(fin_seen(r->far, 5000));
}

/* Nobody holds it but a message. */
RIG_TEST(process, in_flight)
{
	struct rig *r = &self->r;
	int pair[2];
	char c;

	CONNECT(r);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	ASSERT_EQ(0, send_fd(pair[0], r->fd));
	close(r->fd);
	r->fd = -1;
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_FALSE(fin_seen(r->far, QUIET));
	r->fd = recv_fd(pair[1]);
	ASSERT_LE(0, r->fd);
	EXPECT_EQ(1, read_all(r->fd, &c, 1));
	/* and thrown away in flight */
	ASSERT_EQ(0, send_fd(pair[0], r->fd));
	close(r->fd);
	r->fd = -1;
	close(pair[0]);
	close(pair[1]);
	EXPECT_TRUE(fin_seen(r->far, 5000));
}

RIG_TEST(process, pidfd_getfd)
{
	struct rig *r = &self->r;
	int pidfd, fd;
	char c;
	pid_t pid;

	CONNECT(r);
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	fd = syscall(SYS_pidfd_getfd, pidfd, r->fd, 0);
	ASSERT_LE(0, fd);
	close(r->fd);
	r->fd = fd;
	EXPECT_EQ(1, send(fd, "x", 1, 0));
	EXPECT_EQ(1, read_all(r->far, &c, 1));
	EXPECT_EQ(r->adopted, rig_is_adopted(fd));
	kill(pid, SIGKILL);
	child_status(pid);
}

RIG_TEST(process, shutdown_ends_a_read)
{
	struct rig *r = &self->r;
	char c;
	struct job job = { job_recv, .buf = &c, .len = 1 };

	CONNECT(r);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(0, shutdown(r->fd, SHUT_RD));
	EXPECT_EQ(0, job_end(&job));
}

RIG_TEST(process, shutdown_ends_a_write)
{
	struct rig *r = &self->r;
	static char buf[1 << 20];
	struct job job = { job_send, .buf = buf, .len = sizeof(buf),
			   .arg = MSG_NOSIGNAL };

	CONNECT(r);
	sock_deafen(r->far);
	fill(r->fd);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(0, shutdown(r->fd, SHUT_WR));
	EXPECT_EQ(-EPIPE, job_end(&job));
}

/* A reader holds the file: close() takes only the number. */
RIG_TEST(process, close_under_a_reader)
{
	struct rig *r = &self->r;
	char c;
	struct job job = { job_recv, .buf = &c, .len = 1 };

	CONNECT(r);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(0, close(r->fd));
	r->fd = -1;
	EXPECT_FALSE(fin_seen(r->far, QUIET));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(1, job_end(&job));
	EXPECT_EQ('x', c);
	EXPECT_TRUE(fin_seen(r->far, 5000));
}

RIG_TEST(process, dup2_over_a_reader)
{
	struct rig *r = &self->r;
	char c;
	struct job job = { job_recv, .buf = &c, .len = 1 };
	int null = open("/dev/null", O_RDWR);

	CONNECT(r);
	job.fd = r->fd;
	job_start(&job);
	ASSERT_TRUE(job_blocked(&job));
	EXPECT_EQ(r->fd, dup2(null, r->fd));
	EXPECT_EQ(1, write(r->fd, "z", 1));
	EXPECT_FALSE(fin_seen(r->far, QUIET));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(1, job_end(&job));
	EXPECT_TRUE(fin_seen(r->far, 5000));
}

RIG_TEST(process, two_writers)
{
	struct rig *r = &self->r;
	static char a[200000], b[200000], got[400000];
	struct job one = { job_write_all, .buf = a, .len = sizeof(a) };
	struct job two = { job_write_all, .buf = b, .len = sizeof(b) };
	int i, na = 0;

	CONNECT(r);
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	one.fd = two.fd = r->fd;
	job_start(&one);
	job_start(&two);
	EXPECT_EQ(sizeof(got), read_all(r->far, got, sizeof(got)));
	EXPECT_EQ(sizeof(a), job_end(&one));
	EXPECT_EQ(sizeof(b), job_end(&two));
	for (i = 0; i < sizeof(got); i++)
		na += got[i] == 'a';
	EXPECT_EQ(sizeof(a), na);
}

RIG_TEST(process, two_readers)
{
	struct rig *r = &self->r;
	char a[2], b[2];
	struct job one = { job_recv, .buf = a, .len = 1 };
	struct job two = { job_recv, .buf = b, .len = 1 };

	CONNECT(r);
	one.fd = two.fd = r->fd;
	job_start(&one);
	job_start(&two);
	ASSERT_TRUE(job_blocked(&one));
	ASSERT_TRUE(job_blocked(&two));
	EXPECT_EQ(1, write_all(r->far, "x", 1));
	EXPECT_EQ(1, write_all(r->far, "y", 1));
	EXPECT_EQ(1, job_end(&one));
	EXPECT_EQ(1, job_end(&two));
	EXPECT_EQ('x' + 'y', a[0] + b[0]);
}

TEST_HARNESS_MAIN
