// SPDX-License-Identifier: Apache-2.0
/*
 * The lives of workers under dmmd, and dmmd's own: what it leaves in place when
 * it goes, and finds again when it comes back.
 */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "env.h"
#include "../policy/nft.h"

#define MS 10000

FIXTURE(life)
{
	struct env e;
};

FIXTURE_SETUP(life)
{
	ASSERT_EQ(0, env_enter(&self->e));
	ASSERT_EQ(0, dmmd_start(&self->e));
}

FIXTURE_TEARDOWN(life)
{
	env_leave(&self->e);
}

#define ADD(name)							\
	ASSERT_EQ(0, ctl(&self->e, "stack", "add", name, "type=fake", "dev=lo")) \
		TH_LOG("%s", self->e.err)

static bool alive(long pid)
{
	return pid > 0 && !kill(pid, 0);
}

static bool is_up(struct env *e, const char *name)
{
	return !strcmp(stack_field(e, name, "state"), "up");
}

TEST_F(life, add_show_del)
{
	struct env *e = &self->e;
	long pid;

	ADD("a");
	EXPECT_STREQ("up", stack_field(e, "a", "state"));
	EXPECT_STREQ("fake", stack_field(e, "a", "type"));
	EXPECT_STREQ("lo", stack_field(e, "a", "dev"));
	EXPECT_EQ(1, stack_number(e, "a", "id"));
	EXPECT_EQ(0, stack_number(e, "a", "restarts"));
	pid = stack_number(e, "a", "pid");
	EXPECT_TRUE(alive(pid));
	EXPECT_EQ(pid, getsid(pid));
	EXPECT_EQ(0, ctl(e, "stack", "show", "a"));
	EXPECT_NE(NULL, strstr(e->out, "state     up"));
	EXPECT_EQ(0, ctl(e, "stack", "del", "a"));
	EXPECT_FALSE(alive(pid));
	EXPECT_STREQ("", stack_field(e, "a", "state"));
	ADD("a");
}

TEST_F(life, worker_gets_only_what_it_needs)
{
	char path[64], target[256];
	ssize_t n;
	long pid;
	int fd;

	ADD("a");
	pid = stack_number(&self->e, "a", "pid");
	for (fd = 3; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/%ld/fd/%d", pid, fd);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = 0;
		/* Its own telemetry socket took the ready pipe's place. */
		EXPECT_EQ(0, strncmp(target, "socket:", 7)) TH_LOG("%d: %s", fd, target);
		EXPECT_LE(fd, 4);
	}
	snprintf(path, sizeof(path), "/proc/%ld/cwd", pid);
	n = readlink(path, target, sizeof(target) - 1);
	EXPECT_EQ(1, n);
	EXPECT_EQ('/', target[0]);
}

TEST_F(life, errors_leave_nothing)
{
	struct env *e = &self->e;

	EXPECT_EQ(1, ctl(e, "stack", "add", "bad", "type=fake", "dev=lo"));
	EXPECT_TRUE(one_line(e, "stack bad: the device has no queue to give"));
	EXPECT_EQ(1, ctl(e, "stack", "add", "dead", "type=fake", "dev=lo"));
	EXPECT_TRUE(one_line(e, "stack dead: the worker exited with status 3"));
	EXPECT_EQ(0, ctl(e, "stack", "list"));
	EXPECT_EQ(NULL, strstr(e->out, "bad"));
	EXPECT_EQ(NULL, strstr(e->out, "dead"));
	ADD("a");
	EXPECT_EQ(1, stack_number(e, "a", "id"));
}

TEST_F(life, killed_worker_is_started_again)
{
	struct env *e = &self->e;
	long pid, next;
	int i;

	ADD("a");
	for (i = 1; i <= 3; i++) {
		pid = stack_number(e, "a", "pid");
		ASSERT_TRUE(alive(pid));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_TRUE(wait_for(MS, stack_number(e, "a", "restarts") == i &&
				     is_up(e, "a")));
		next = stack_number(e, "a", "pid");
		EXPECT_TRUE(alive(next));
		EXPECT_EQ(i, stack_number(e, "a", "restarts"));
		EXPECT_EQ(1, stack_number(e, "a", "id"));
	}
}

/* 0.1, 0.2, 0.4, 0.8 s ...: a worker that dies at once is not started in a loop. */
TEST_F(life, back_off_grows)
{
	struct env *e = &self->e;
	long restarts;

	ADD("crash");
	EXPECT_TRUE(wait_for(MS, !strcmp(stack_field(e, "crash", "state"), "backoff")));
	EXPECT_NE(NULL, strstr(stack_field(e, "crash", "reason"), "signal 6"));
	usleep(3000 * 1000);
	restarts = stack_number(e, "crash", "restarts");
	EXPECT_LE(3, restarts);
	EXPECT_GE(5, restarts);
	EXPECT_EQ(0, ctl(e, "status"));
	EXPECT_EQ(0, ctl(e, "stack", "del", "crash"));
}

TEST_F(life, restart)
{
	struct env *e = &self->e;
	long pid;

	ADD("a");
	pid = stack_number(e, "a", "pid");
	EXPECT_EQ(0, ctl(e, "stack", "restart", "a"));
	EXPECT_TRUE(is_up(e, "a"));
	EXPECT_FALSE(alive(pid));
	EXPECT_NE(pid, stack_number(e, "a", "pid"));
	EXPECT_EQ(1, stack_number(e, "a", "restarts"));
}

TEST_F(life, lost_device_is_down)
{
	struct env *e = &self->e;
	long pid;

	ASSERT_EQ(0, system("ip link add v0 type veth peer name v1"));
	ASSERT_EQ(0, ctl(e, "stack", "add", "a", "type=fake", "dev=v0"));
	EXPECT_NE(NULL, strstr(e->out, "note: the veth is shared with the kernel"));
	ASSERT_EQ(0, ctl(e, "stack", "add", "b", "type=fake", "dev=v1", "route=own"));
	EXPECT_STREQ("", e->out);
	pid = stack_number(e, "a", "pid");
	ASSERT_EQ(0, system("ip link del v0"));
	kill(pid, SIGKILL);
	EXPECT_TRUE(wait_for(MS, !strcmp(stack_field(e, "a", "state"), "down")));
	EXPECT_NE(NULL, strstr(stack_field(e, "a", "reason"), "dev v0: no such device"));
	EXPECT_EQ(1, ctl(e, "stack", "restart", "a"));
	EXPECT_TRUE(one_line(e, "dev v0: no such device"));
	ASSERT_EQ(0, system("ip link add v0 type veth peer name v1"));
	EXPECT_EQ(0, ctl(e, "stack", "restart", "a"));
	EXPECT_TRUE(is_up(e, "a"));
}

/* What nftables would see natively, it does not see of a stack: said once. */
TEST_F(life, filters_are_noted)
{
	struct env *e = &self->e;

	ADD("a");
	EXPECT_EQ(NULL, strstr(e->out, "iptables"));
	EXPECT_EQ(0, ctl(e, "stack", "del", "a"));
	ASSERT_EQ(0, nft_filter(NFPROTO_IPV4, NF_INET_LOCAL_IN, 1));
	ADD("a");
	EXPECT_NE(NULL, strstr(e->out, "note: the network namespace has tables"));
	EXPECT_NE(NULL, strstr(e->out, "strict-filters=on"));
	EXPECT_EQ(0, ctl(e, "stack", "del", "a"));
	ASSERT_EQ(0, ctl(e, "stack", "add", "a", "type=fake", "dev=lo",
			 "strict-filters=on"));
	EXPECT_STREQ("", e->out);
}

/* Its rules say so to the programs, also after `dmmctl apply` of others. */
TEST_F(life, strict_filters)
{
	static const char yaml[] =
		"stacks:\n- {name: a, type: fake, dev: lo, strict-filters: on}\n"
		"rules:\n- {match: {cgroup: %s, dport: %d}, stack: a, fallback: reject}\n";
	struct env *e = &self->e;
	char path[96];
	int port, on;
	FILE *f;

	ASSERT_EQ(0, cgroup_enter(e->sb.cgroup));
	snprintf(path, sizeof(path), "%s/c.yaml", e->sb.dir);
	for (port = 80; port < 82; port++) {
		f = fopen(path, "w");
		fprintf(f, yaml, e->sb.cgroup, port);
		fclose(f);
		ASSERT_EQ(0, ctl(e, "apply", path)) TH_LOG("%s", e->err);
		for (on = 1; on >= 0; on--) {
			ASSERT_EQ(0, nft_filter(NFPROTO_IPV4, NF_INET_LOCAL_OUT, on));
			EXPECT_TRUE(try_connect("127.0.0.1", port));
		}
		EXPECT_EQ(0, ctl(e, "stats"));
		EXPECT_NE(NULL, strstr(e->out, "netfilter=1")) TH_LOG("%s", e->out);
	}
	EXPECT_EQ(0, cgroup_enter(e->sb.old_cgroup));
}

TEST_F(life, another_netns)
{
	struct env *e = &self->e;
	char arg[64];
	int status;
	pid_t pid;

	/* A process of another netns, whose only device is lo. */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (unshare(CLONE_NEWNET) < 0)
			_exit(1);
		pause();
		_exit(0);
	}
	ASSERT_EQ(0, system("ip link add v0 type veth peer name v1"));
	snprintf(arg, sizeof(arg), "netns=/proc/%d/ns/net", pid);
	ADD("a");
	/* all that a worker can be told at once */
	EXPECT_TRUE(wait_for(MS, !ctl(e, "stack", "add", "b", "type=fake", "dev=lo", arg,
				      "route=own")));
	EXPECT_EQ(1, ctl(e, "stack", "add", "c", "type=fake", "dev=v0", arg));
	EXPECT_TRUE(one_line(e, "dev v0: no such device in netns"));
	EXPECT_EQ(1, ctl(e, "stack", "add", "c", "type=fake", "dev=lo", arg));
	EXPECT_TRUE(one_line(e, "stack b is on it already"));
	/* dmmd itself is where it was. */
	EXPECT_EQ(0, ctl(e, "stack", "add", "d", "type=fake", "dev=v0"));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

TEST_F(life, worker_counters)
{
	struct json_object *o, *stacks, *v;
	const char *text;

	ADD("a");
	ASSERT_EQ(0, system("ip link add v0 type veth peer name v1"));
	ASSERT_EQ(0, ctl(&self->e, "stack", "add", "garbage", "type=fake", "dev=v0"));
	o = ctl_json(&self->e, "stats");
	ASSERT_NE(NULL, o);
	ASSERT_TRUE(json_object_object_get_ex(o, "stacks", &stacks));
	ASSERT_EQ(2, json_object_array_length(stacks));
	text = json_object_to_json_string_ext(json_object_array_get_idx(stacks, 0), 0);
	EXPECT_NE(NULL, strstr(text, "\"worker\":{\"rx_frames\":11,\"tx_frames\":22,"));
	json_object_object_get_ex(json_object_array_get_idx(stacks, 1), "worker", &v);
	EXPECT_EQ(NULL, v);
	json_object_put(o);
	EXPECT_EQ(0, ctl(&self->e, "stats"));
	EXPECT_NE(NULL, strstr(self->e.out, "rx_frames"));
}

static bool xdp_on(const char *dev)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "ip link show dev %s | grep -q prog/xdp", dev);
	return !system(cmd);
}

/*
 * A worker that is killed cannot take its XDP program off the device. What
 * `stack del` finds pinned in the stack's name it removes; of others, nothing.
 */
TEST_F(life, del_cleans_up_after_a_killed_worker)
{
	struct env *e = &self->e;
	char cmd[2048], pins[128];

	ASSERT_EQ(0, system("ip link add v0 type veth peer name v1"));
	ASSERT_EQ(0, ctl(e, "stack", "add", "a", "type=fake", "dev=v0"));
	ASSERT_EQ(0, ctl(e, "stack", "add", "b", "type=fake", "dev=v1"));
	snprintf(pins, sizeof(pins), "%s/stack/a", e->bpf);
	snprintf(cmd, sizeof(cmd),
		 "cd %s && mkdir %s/stack/a %s/stack/b && "
		 "bpftool prog load %s/../lib/dmm/dmm_xdp.bpf.o %s/stack/a/prog type xdp && "
		 "ip link set dev v0 xdp pinned %s/stack/a/prog && "
		 "bpftool prog load %s/../lib/dmm/dmm_xdp.bpf.o %s/stack/b/prog type xdp && "
		 "ip link set dev v1 xdp pinned %s/stack/a/prog",
		 e->sb.dir, e->bpf, e->bpf, e->bin, e->bpf, e->bpf, e->bin, e->bpf, e->bpf);
	ASSERT_EQ(0, system(cmd));
	ASSERT_TRUE(xdp_on("v0"));
	ASSERT_TRUE(xdp_on("v1"));
	EXPECT_EQ(0, ctl(e, "stack", "del", "a"));
	EXPECT_FALSE(xdp_on("v0"));
	EXPECT_NE(0, access(pins, F_OK));
	/* v1 has another program than the one pinned as b's. */
	EXPECT_EQ(0, ctl(e, "stack", "del", "b"));
	EXPECT_TRUE(xdp_on("v1"));
}

/* ------------------------------------------------------------------------- */

#define ADD_WATCHED(name, seconds)					\
	ASSERT_EQ(0, ctl(&self->e, "stack", "add", name, "type=fake", "dev=lo", \
			 "watchdog=" seconds)) TH_LOG("%s", self->e.err)

static bool logged(struct env *e, const char *what)
{
	char *log = slurp(e->log);
	bool found = log && strstr(log, what);

	free(log);
	return found;
}

/* The worker of @name stands still: it is ended, and another serves. */
static void stands_still(struct __test_metadata *_metadata, struct env *e,
			 const char *name, long pid, const char *how)
{
	EXPECT_TRUE(wait_for(MS, stack_number(e, name, "restarts") == 1));
	EXPECT_TRUE(wait_for(MS, !alive(pid)));
	EXPECT_EQ(1, stack_number(e, name, "stalls"));
	EXPECT_TRUE(logged(e, "the worker stood still for"));
	EXPECT_TRUE(logged(e, how));
}

TEST_F(life, stopped_worker_is_ended)
{
	struct env *e = &self->e;
	long pid;

	ADD_WATCHED("a", "2");
	EXPECT_EQ(0, stack_number(e, "a", "stalls"));
	pid = stack_number(e, "a", "pid");
	ASSERT_EQ(0, kill(pid, SIGSTOP));
	/* who asks meanwhile is answered */
	EXPECT_EQ(0, ctl(e, "stats"));
	stands_still(_metadata, e, "a", pid, "stopped");
	EXPECT_TRUE(wait_for(MS, is_up(e, "a")));
	pid = stack_number(e, "a", "pid");
	usleep(3000 * 1000);
	EXPECT_EQ(pid, stack_number(e, "a", "pid"));
}

TEST_F(life, looping_worker_is_ended)
{
	ADD_WATCHED("loop", "2");
	stands_still(_metadata, &self->e, "loop", stack_number(&self->e, "loop", "pid"),
		     "running");
}

TEST_F(life, sleeping_worker_is_ended)
{
	ADD_WATCHED("asleep", "2");
	stands_still(_metadata, &self->e, "asleep",
		     stack_number(&self->e, "asleep", "pid"), "asleep");
}

/* Who watches is told. */
TEST_F(life, watchdog_event)
{
	struct env *e = &self->e;
	static const char sub[] =
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"monitor\"}\n";
	int fd = rpc_connect(e);
	bool told = false;
	char *line;

	ASSERT_LE(0, fd);
	ASSERT_EQ((ssize_t)strlen(sub), write(fd, sub, strlen(sub)));
	ADD_WATCHED("a", "2");
	ASSERT_EQ(0, kill(stack_number(e, "a", "pid"), SIGSTOP));
	while (!told && (line = rpc_line(fd, MS))) {
		told = strstr(line, "\"backoff\"") && strstr(line, "stood still");
		free(line);
	}
	EXPECT_TRUE(told);
	close(fd);
}

/* Off, of a version that does not count its turns, or by default not so soon. */
TEST_F(life, not_watched)
{
	static const char * const names[] = { "a", "old", "b" };
	struct env *e = &self->e;
	long pids[3];
	int i;

	ASSERT_EQ(0, system("ip link add v0 type veth peer name v1"));
	ADD_WATCHED("a", "0");
	ASSERT_EQ(0, ctl(e, "stack", "add", "old", "type=fake", "dev=v0", "watchdog=2"));
	ASSERT_EQ(0, ctl(e, "stack", "add", "b", "type=fake", "dev=v1"));
	EXPECT_EQ(0, stack_number(e, "a", "watchdog"));
	EXPECT_EQ(2, stack_number(e, "old", "watchdog"));
	EXPECT_EQ(5, stack_number(e, "b", "watchdog"));
	for (i = 0; i < 3; i++)
		pids[i] = stack_number(e, names[i], "pid");
	ASSERT_EQ(0, kill(pids[0], SIGSTOP));
	ASSERT_EQ(0, kill(pids[2], SIGSTOP));
	usleep(4000 * 1000);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(pids[i], stack_number(e, names[i], "pid"));
		EXPECT_EQ(0, stack_number(e, names[i], "stalls"));
	}
	for (i = 0; i < 3; i += 2)
		kill(pids[i], SIGCONT);
}

/* A worker that is not let run on a busy machine is no worker that stands still. */
TEST_F(life, starved_worker_is_left_alone)
{
	struct sched_param idle = {};
	struct env *e = &self->e;
	cpu_set_t one;
	pid_t hogs[4];
	char path[64];
	int i, tid;
	long pid;
	struct dirent *t;
	DIR *d;

	ADD_WATCHED("a", "2");
	pid = stack_number(e, "a", "pid");
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	for (i = 0; i < 4; i++) {
		hogs[i] = fork();
		if (!hogs[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sched_setaffinity(0, sizeof(one), &one);
			setpriority(PRIO_PROCESS, 0, -20);
			for (;;)
				;
		}
	}
	snprintf(path, sizeof(path), "/proc/%ld/task", pid);
	d = opendir(path);
	ASSERT_NE(NULL, d);
	while ((t = readdir(d))) {
		tid = atoi(t->d_name);
		if (!tid)
			continue;
		EXPECT_EQ(0, sched_setaffinity(tid, sizeof(one), &one));
		EXPECT_EQ(0, sched_setscheduler(tid, SCHED_IDLE, &idle));
	}
	closedir(d);
	usleep(6000 * 1000);
	EXPECT_EQ(pid, stack_number(e, "a", "pid"));
	EXPECT_EQ(0, stack_number(e, "a", "stalls"));
	for (i = 0; i < 4; i++) {
		kill(hogs[i], SIGKILL);
		waitpid(hogs[i], NULL, 0);
	}
}

/* The next daemon watches as well. */
TEST_F(life, watchdog_is_kept)
{
	struct env *e = &self->e;
	long pid;

	ADD_WATCHED("a", "2");
	pid = stack_number(e, "a", "pid");
	dmmd_end(e, SIGKILL);
	ASSERT_EQ(0, dmmd_start(e));
	ASSERT_TRUE(wait_for(MS, is_up(e, "a")));
	EXPECT_EQ(2, stack_number(e, "a", "watchdog"));
	ASSERT_EQ(pid, stack_number(e, "a", "pid"));
	kill(pid, SIGSTOP);
	stands_still(_metadata, e, "a", pid, "stopped");
}

/* ------------------------------------------------------------------------- */

/* Rules, links and workers stay; the next daemon finds them, by @sig or not. */
static void comes_back(struct __test_metadata *_metadata, struct env *e, int sig)
{
	long pid, hits;

	ASSERT_EQ(0, ctl(e, "stack", "add", "a", "type=fake", "dev=lo"));
	ASSERT_EQ(0, ctl(e, "rule", "add", "cgroup", e->sb.cgroup, "dport", "80-90",
			 "stack", "a"));
	ASSERT_EQ(0, ctl(e, "rule", "add", "dst", "10.0.0.0/8", "stack", "kernel"));
	ASSERT_EQ(0, ctl(e, "rule", "del", "2"));
	ASSERT_EQ(0, ctl(e, "cgroup", "attach", e->sb.cgroup));
	ASSERT_EQ(0, cgroup_enter(e->sb.cgroup));
	EXPECT_TRUE(try_connect("127.0.0.1", 80));
	hits = rule_hits(e, 1);
	EXPECT_EQ(1, hits);
	pid = stack_number(e, "a", "pid");

	dmmd_end(e, sig);
	EXPECT_TRUE(alive(pid));
	EXPECT_TRUE(try_connect("127.0.0.1", 81));	/* counted without it */
	ASSERT_EQ(0, dmmd_start(e));

	EXPECT_TRUE(wait_for(MS, is_up(e, "a")));
	EXPECT_EQ(pid, stack_number(e, "a", "pid"));
	EXPECT_EQ(0, stack_number(e, "a", "restarts"));
	EXPECT_EQ(2, rule_hits(e, 1));
	EXPECT_EQ(-1, rule_hits(e, 2));
	EXPECT_TRUE(try_connect("127.0.0.1", 82));
	EXPECT_EQ(3, rule_hits(e, 1));
	EXPECT_EQ(0, ctl(e, "cgroup", "list"));
	EXPECT_NE(NULL, strstr(e->out, "attached name, rule 1"));
	/* Ids are not used again. */
	ASSERT_EQ(0, ctl(e, "rule", "add", "dport", "1", "stack", "kernel"));
	EXPECT_STREQ("rule 3\n", e->out);

	/* And it is watched, though it is no child of this daemon. */
	kill(pid, SIGKILL);
	EXPECT_TRUE(wait_for(MS, stack_number(e, "a", "restarts") == 1 && is_up(e, "a")));
	EXPECT_NE(pid, stack_number(e, "a", "pid"));
	EXPECT_EQ(0, cgroup_enter(e->sb.old_cgroup));
}

TEST_F(life, dmmd_killed)
{
	comes_back(_metadata, &self->e, SIGKILL);
}

TEST_F(life, dmmd_terminated)
{
	comes_back(_metadata, &self->e, SIGTERM);
}

TEST_F(life, dmmd_hung_up)
{
	comes_back(_metadata, &self->e, SIGHUP);
}

TEST_F(life, worker_died_meanwhile)
{
	struct env *e = &self->e;
	long pid;

	ADD("a");
	pid = stack_number(e, "a", "pid");
	dmmd_end(e, SIGKILL);
	kill(pid, SIGKILL);
	EXPECT_TRUE(wait_for(MS, !alive(pid)));
	ASSERT_EQ(0, dmmd_start(e));
	EXPECT_TRUE(wait_for(MS, is_up(e, "a")));
	EXPECT_NE(pid, stack_number(e, "a", "pid"));
}

/* A worker that lives and does not answer is replaced. */
TEST_F(life, worker_mute_meanwhile)
{
	struct env *e = &self->e;
	long pid;

	ADD("mute");
	pid = stack_number(e, "mute", "pid");
	dmmd_end(e, SIGKILL);
	ASSERT_EQ(0, dmmd_start(e));
	EXPECT_TRUE(wait_for(MS, is_up(e, "mute") &&
			     stack_number(e, "mute", "pid") != pid));
	EXPECT_TRUE(wait_for(MS, !alive(pid)));
}

/* The pid in the state is somebody else's by now: leave that one alone. */
TEST_F(life, pid_of_another_process)
{
	struct env *e = &self->e;
	char cmd[512];
	int status;
	long pid;
	pid_t bystander;

	ADD("a");
	pid = stack_number(e, "a", "pid");
	dmmd_end(e, SIGKILL);
	kill(pid, SIGKILL);
	EXPECT_TRUE(wait_for(MS, !alive(pid)));
	bystander = fork();
	ASSERT_LE(0, bystander);
	if (!bystander) {
		pause();
		_exit(0);
	}
	snprintf(cmd, sizeof(cmd), "sed -i 's/\"pid\":%ld/\"pid\":%d/' %s", pid, bystander,
		 e->state);
	ASSERT_EQ(0, system(cmd));
	ASSERT_EQ(0, dmmd_start(e));
	EXPECT_TRUE(wait_for(MS, is_up(e, "a")));
	EXPECT_NE(bystander, stack_number(e, "a", "pid"));
	EXPECT_EQ(0, waitpid(bystander, &status, WNOHANG));
	kill(bystander, SIGKILL);
	waitpid(bystander, &status, 0);
}

TEST_F(life, shutdown_removes_everything)
{
	struct env *e = &self->e;
	int status;
	long pid;

	ADD("a");
	ASSERT_EQ(0, ctl(e, "rule", "add", "cgroup", e->sb.cgroup, "stack", "a"));
	pid = stack_number(e, "a", "pid");
	EXPECT_EQ(0, ctl(e, "shutdown"));
	ASSERT_EQ(e->dmmd, waitpid(e->dmmd, &status, 0));
	e->dmmd = 0;
	EXPECT_EQ(0, status);
	EXPECT_FALSE(alive(pid));
	EXPECT_NE(0, access(e->bpf, F_OK));
	EXPECT_NE(0, access(e->state, F_OK));
	EXPECT_NE(0, access(e->socket, F_OK));
	/* And from the beginning again. */
	ASSERT_EQ(0, dmmd_start(e));
	EXPECT_EQ(0, ctl(e, "rule", "add", "dport", "1", "stack", "kernel"));
	EXPECT_STREQ("rule 1\n", e->out);
}

TEST_HARNESS_MAIN
