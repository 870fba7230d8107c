// SPDX-License-Identifier: Apache-2.0
/*
 * The rules of /dev/dmm's ioctls, as linux/dmm.h tells them: each errno, what a
 * stack's life is bound to, and that nothing a worker writes does harm. Every
 * test runs in a network namespace of its own, which goes with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include <linux/dmm.h>

#define LOOPBACK	1	/* ifindex of lo in every namespace */
#define NOBODY		65534
#define STACK_ID	1001
#define OTHER_ID	1002
#define NEVENTS		64

/* What a call failed with, 0 if it did not. */
static int errno_of(int ret)
{
	return ret == -1 ? errno : 0;
}

#define EXPECT_ERRNO(expected, call)	EXPECT_EQ(expected, errno_of(call))

FIXTURE(dmm)
{
	int fd;
	int arena_fd;
	int event_fd;
	size_t arena_size;
	struct dmm_arena_hdr *hdr;	/* the arena, mapped whole */
	struct dmm_attach attach;	/* valid; a test spoils one thing */
};

static const struct dmm_arena_hdr good_hdr = {
	.magic = DMM_ARENA_MAGIC,
	.version = DMM_ABI_VERSION,
	.hdr_size = sizeof(struct dmm_arena_hdr),
	.nslots = 16,
	.nops = 64,
	.nevents = NEVENTS,
	.tx_size = 4096,
	.rx_size = 4096,
};

FIXTURE_SETUP(dmm)
{
	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	self->fd = open("/dev/dmm", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	self->arena_fd = memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ASSERT_LE(0, self->arena_fd);
	self->arena_size = dmm_arena_size(&good_hdr);
	ASSERT_EQ(0, ftruncate(self->arena_fd, self->arena_size));
	self->hdr = mmap(NULL, self->arena_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED, self->arena_fd, 0);
	ASSERT_NE(MAP_FAILED, self->hdr);
	*self->hdr = good_hdr;
	self->event_fd = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, self->event_fd);
	self->attach = (struct dmm_attach) {
		.size = sizeof(self->attach),
		.stack_id = STACK_ID,
		.arena_fd = self->arena_fd,
		.event_fd = self->event_fd,
		.netns_fd = -1,
		.ifindex = LOOPBACK,
		.name = "abi0",
	};
}

FIXTURE_TEARDOWN(dmm)
{
	munmap(self->hdr, self->arena_size);
	close(self->event_fd);
	close(self->arena_fd);
	close(self->fd);
}

static int kick(int fd, __u32 *events, __u32 *bad)
{
	struct dmm_kick cmd = { .size = sizeof(cmd) };
	int ret = ioctl(fd, DMM_KICK, &cmd);

	*events = cmd.out_events;
	*bad = cmd.out_bad;
	return ret;
}

static struct dmm_event *event_ring(struct dmm_arena_hdr *hdr)
{
	return (struct dmm_event *)((char *)hdr + dmm_arena_events_off(&good_hdr));
}

/* ------------------------------------------------ the struct and the command */

TEST_F(dmm, attach_works)
{
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
}

TEST_F(dmm, unknown_command)
{
	static const unsigned int cmds[] = {
		_IO(DMM_IOC_TYPE, 2), _IO(DMM_IOC_TYPE, 0x7f), _IO(DMM_IOC_TYPE, 0xff),
		_IO(DMM_IOC_TYPE - 1, DMM_CMD_ATTACH), _IO(0, DMM_CMD_ATTACH),
		_IOW(DMM_IOC_TYPE, DMM_CMD_ATTACH, struct dmm_attach),
		_IOWR(DMM_IOC_TYPE, DMM_CMD_KICK, struct dmm_kick), 0, UINT32_MAX,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++)
		EXPECT_ERRNO(ENOTTY, ioctl(self->fd, cmds[i], &self->attach)) {
			TH_LOG("command %#x", cmds[i]);
		}
}

TEST_F(dmm, size_rules)
{
	struct {
		struct dmm_attach cmd;
		char tail[64];
	} attach = { .cmd = self->attach };
	struct {
		struct dmm_kick cmd;
		char tail[64];
	} kick = {};
	__u32 size;

	for (size = 0; size < sizeof(attach.cmd); size++) {
		attach.cmd.size = size;
		EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMM_ATTACH, &attach));
	}
	attach.cmd.size = sizeof(attach);
	for (size = 0; size < sizeof(attach.tail); size += 21) {
		attach.tail[size] = 1;
		EXPECT_ERRNO(E2BIG, ioctl(self->fd, DMM_ATTACH, &attach));
		attach.tail[size] = 0;
	}
	attach.cmd.size = UINT32_MAX;
	EXPECT_ERRNO(E2BIG, ioctl(self->fd, DMM_ATTACH, &attach));
	attach.cmd.size = sizeof(attach);
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &attach));

	for (size = 0; size < sizeof(kick.cmd); size++) {
		kick.cmd.size = size;
		EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMM_KICK, &kick));
	}
	kick.cmd.size = sizeof(kick);
	kick.tail[63] = 1;
	EXPECT_ERRNO(E2BIG, ioctl(self->fd, DMM_KICK, &kick));
	kick.tail[63] = 0;
	EXPECT_EQ(0, ioctl(self->fd, DMM_KICK, &kick));
}

/* What is beyond a longer struct of the caller's is not touched. */
TEST_F(dmm, kick_writes_only_its_own)
{
	struct {
		struct dmm_kick cmd;
		__u64 behind;
	} kick = {
		.cmd = { .size = sizeof(kick.cmd), .out_events = 7, .out_bad = 7 },
		.behind = 0x5a5a5a5a5a5a5a5aULL,
	};

	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	ASSERT_EQ(0, ioctl(self->fd, DMM_KICK, &kick));
	EXPECT_EQ(sizeof(kick.cmd), kick.cmd.size);
	EXPECT_EQ(0, kick.cmd.out_events);
	EXPECT_EQ(0, kick.cmd.out_bad);
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aULL, kick.behind);
}

TEST_F(dmm, bad_pointers)
{
	char *page = mmap(NULL, 2 * DMM_PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct dmm_attach *straddling;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, munmap(page + DMM_PAGE, DMM_PAGE));
	EXPECT_ERRNO(EFAULT, ioctl(self->fd, DMM_ATTACH, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->fd, DMM_KICK, NULL));
	EXPECT_ERRNO(EFAULT, ioctl(self->fd, DMM_ATTACH, page + DMM_PAGE));
	EXPECT_ERRNO(EFAULT, ioctl(self->fd, DMM_ATTACH, (void *)-4096L));

	/* the size can be read, the rest cannot */
	straddling = (void *)(page + DMM_PAGE - sizeof(*straddling) / 2);
	straddling->size = sizeof(*straddling);
	EXPECT_ERRNO(EFAULT, ioctl(self->fd, DMM_ATTACH, straddling));

	/* a longer struct whose tail cannot be read */
	straddling = (void *)(page + DMM_PAGE - sizeof(*straddling));
	*straddling = self->attach;
	straddling->size = sizeof(*straddling) + 8;
	EXPECT_ERRNO(EFAULT, ioctl(self->fd, DMM_ATTACH, straddling));
	munmap(page, DMM_PAGE);
}

/* An ioctl that fails has done nothing, also when the answer has no place. */
TEST_F(dmm, attach_from_read_only_memory)
{
	struct dmm_attach *attach = mmap(NULL, DMM_PAGE, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	ASSERT_NE(MAP_FAILED, attach);
	*attach = self->attach;
	ASSERT_EQ(0, mprotect(attach, DMM_PAGE, PROT_READ));
	ret = ioctl(self->fd, DMM_ATTACH, attach);
	if (ret) {
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	}
	munmap(attach, DMM_PAGE);
}

TEST_F(dmm, unknown_flags)
{
	struct dmm_kick kick = { .size = sizeof(kick) };
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		if ((1U << bit) & __DMM_ATTACH_F_ALL)
			continue;
		self->attach.flags = 1U << bit;
		EXPECT_ERRNO(EOPNOTSUPP,
			     ioctl(self->fd, DMM_ATTACH, &self->attach));
	}
	self->attach.flags = UINT32_MAX;
	EXPECT_ERRNO(EOPNOTSUPP, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.flags = 0;
	self->attach.__reserved = 1;
	EXPECT_ERRNO(EOPNOTSUPP, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.__reserved = 0;
	self->attach.flags = DMM_ATTACH_F_ROUTE_OWN;
	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));

	for (bit = 0; bit < 32; bit++) {
		kick.flags = 1U << bit;
		EXPECT_ERRNO(EOPNOTSUPP, ioctl(self->fd, DMM_KICK, &kick));
	}
}

TEST_F(dmm, share_is_a_percentage)
{
	self->attach.share = 101;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.share = 100;
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
}

/*
 * As another user of group dmm, who may do all in a network namespace of its own:
 * attach by a descriptor that it was given. Returns 0 or the errno.
 */
static int attach_as(uid_t uid, struct dmm_attach attach, __u32 id,
		     const char *name)
{
	int fd = open("/dev/dmm", O_RDWR | O_CLOEXEC), status = 0;
	pid_t pid = fork();

	attach.stack_id = id;
	snprintf(attach.name, sizeof(attach.name), "%s", name);
	if (!pid) {
		if (setresgid(uid, uid, uid) || setresuid(uid, uid, uid) ||
		    unshare(CLONE_NEWUSER | CLONE_NEWNET))
			_exit(255);
		_exit(ioctl(fd, DMM_ATTACH, &attach) ? errno : 0);
	}
	waitpid(pid, &status, 0);
	close(fd);
	return WEXITSTATUS(status);
}

/* What one operator attached is no other's when it is down. */
TEST_F(dmm, id_and_name_stay_their_owners)
{
	char name[16];
	int i;

	EXPECT_EQ(0, attach_as(1001, self->attach, 500, "mine"));
	EXPECT_EQ(EPERM, attach_as(1002, self->attach, 500, "other"));
	EXPECT_EQ(EPERM, attach_as(1002, self->attach, 501, "mine"));
	EXPECT_EQ(0, attach_as(1001, self->attach, 500, "mine"));
	EXPECT_EQ(0, attach_as(1001, self->attach, 502, "mine"));
	EXPECT_EQ(0, attach_as(1002, self->attach, 500, "free"));

	/* An administrator takes both, and has them. */
	self->attach.stack_id = 502;
	snprintf(self->attach.name, sizeof(self->attach.name), "mine");
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	close(self->fd);
	EXPECT_EQ(EPERM, attach_as(1001, self->attach, 502, "mine"));
	self->fd = open("/dev/dmm", O_RDWR | O_CLOEXEC);

	/* Nobody else claims them all. */
	for (i = 0; i < DMM_CLAIMS_MAX; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		EXPECT_EQ(0, attach_as(1003, self->attach, 600 + i, name));
	}
	EXPECT_EQ(EDQUOT, attach_as(1003, self->attach, 700, "more"));
	EXPECT_EQ(0, attach_as(1003, self->attach, 600, "renamed"));
}

/* A 32-bit program's call, by the 32-bit system call gate. */
TEST_F(dmm, compat_ioctl)
{
#ifdef __x86_64__
	struct dmm_kick *kick = mmap(NULL, DMM_PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long ret;

	ASSERT_NE(MAP_FAILED, kick);
	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	*kick = (struct dmm_kick) { .size = sizeof(*kick), .out_bad = 9 };
	__asm__ __volatile__("int $0x80"
			     : "=a" (ret)
			     : "a" (54 /* ioctl */), "b" ((long)self->fd),
			       "c" ((long)DMM_KICK), "d" (kick)
			     : "memory", "r8", "r9", "r10", "r11");
	EXPECT_EQ(0, (int)ret);
	EXPECT_EQ(0, kick->out_bad);
	munmap(kick, DMM_PAGE);
#endif
}

/* ------------------------------------------------------------- attach's fields */

TEST_F(dmm, stack_id_range)
{
	static const __u32 ids[] = { DMM_STACK_KERNEL, DMM_STACK_ID_MAX + 1, UINT32_MAX };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		self->attach.stack_id = ids[i];
		EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMM_ATTACH, &self->attach));
	}
	self->attach.stack_id = DMM_STACK_ID_MAX;
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
}

TEST_F(dmm, names)
{
	static const char *const bad[] = {
		"", " ", "a b", "a/b", "../x", "a\nb", "a\tb", "abc\x7f", "caf\xc3\xa9",
		"a:b", "a*", "\xff", "a\\", "a'b", "a;b",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(self->attach.name, 0, DMM_NAME_MAX);
		strcpy(self->attach.name, bad[i]);
		EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMM_ATTACH, &self->attach)) {
			TH_LOG("name \"%s\"", bad[i]);
		}
	}
	memset(self->attach.name, 'a', DMM_NAME_MAX);
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMM_ATTACH, &self->attach));
	strcpy(self->attach.name, "Az09_-");
	memset(self->attach.name + 7, 'z', DMM_NAME_MAX - 8);
	self->attach.name[DMM_NAME_MAX - 1] = 0;
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
}

TEST_F(dmm, absent_device)
{
	static const __u32 absent[] = { 0, 99999, INT32_MAX };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(absent); i++) {
		self->attach.ifindex = absent[i];
		EXPECT_ERRNO(ENODEV, ioctl(self->fd, DMM_ATTACH, &self->attach));
	}
	/* no index can be this large */
	self->attach.ifindex = UINT32_MAX;
	EXPECT_EQ(-1, ioctl(self->fd, DMM_ATTACH, &self->attach));
	EXPECT_TRUE(errno == EINVAL || errno == ENODEV);
}

TEST_F(dmm, another_netns)
{
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	self->attach.netns_fd = pipes[0];
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.netns_fd = self->arena_fd;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.netns_fd = 9999;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.netns_fd = -2;	/* only -1 means something */
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.netns_fd = open("/proc/self/ns/uts", O_RDONLY);
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	close(self->attach.netns_fd);

	self->attach.netns_fd = open("/proc/self/ns/net", O_RDONLY);
	ASSERT_LE(0, self->attach.netns_fd);
	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	close(self->attach.netns_fd);
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F(dmm, wrong_kind_of_event_fd)
{
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	self->attach.event_fd = pipes[1];
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.event_fd = self->arena_fd;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.event_fd = self->fd;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.event_fd = -1;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F(dmm, wrong_kind_of_arena_fd)
{
	char path[] = "/var/tmp/dmm-ioctl-abi-XXXXXX";
	char self_path[64];
	int pipes[2], file;

	ASSERT_EQ(0, pipe(pipes));
	self->attach.arena_fd = pipes[0];
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.arena_fd = self->event_fd;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.arena_fd = self->fd;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.arena_fd = -1;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	close(pipes[0]);
	close(pipes[1]);

	/* an ordinary file with the right content and size */
	file = mkstemp(path);
	ASSERT_LE(0, file);
	unlink(path);
	ASSERT_EQ((ssize_t)sizeof(good_hdr),
		  write(file, &good_hdr, sizeof(good_hdr)));
	ASSERT_EQ(0, ftruncate(file, self->arena_size));
	self->attach.arena_fd = file;
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	close(file);

	/* a memfd that may only be read */
	snprintf(self_path, sizeof(self_path), "/proc/self/fd/%d", self->arena_fd);
	self->attach.arena_fd = open(self_path, O_RDONLY);
	ASSERT_LE(0, self->attach.arena_fd);
	EXPECT_ERRNO(EBADF, ioctl(self->fd, DMM_ATTACH, &self->attach));
	close(self->attach.arena_fd);
}

TEST_F(dmm, arena_sealed_against_writing)
{
	munmap(self->hdr, self->arena_size);
	ASSERT_EQ(0, fcntl(self->arena_fd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_ERRNO(EPERM, ioctl(self->fd, DMM_ATTACH, &self->attach));
}

TEST_F(dmm, arena_size_is_exact)
{
	const off_t size = self->arena_size;
	const off_t wrong[] = {
		0, 1, sizeof(good_hdr), DMM_PAGE - 1, DMM_PAGE, size - DMM_PAGE,
		size - 1, size + 1, size + DMM_PAGE, 2 * size, 1LL << 40,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		ASSERT_EQ(0, ftruncate(self->arena_fd, 0));
		ASSERT_EQ(0, ftruncate(self->arena_fd, wrong[i]));
		if (wrong[i] >= (off_t)sizeof(good_hdr))
			ASSERT_EQ((ssize_t)sizeof(good_hdr),
				  pwrite(self->arena_fd, &good_hdr,
					 sizeof(good_hdr), 0));
		EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMM_ATTACH, &self->attach)) {
			TH_LOG("size %lld", (long long)wrong[i]);
		}
	}
	ASSERT_EQ(0, ftruncate(self->arena_fd, size));
	*self->hdr = good_hdr;
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
}

TEST_F(dmm, arena_of_another_kind)
{
	self->hdr->magic = 0;
	EXPECT_ERRNO(EPROTO, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->hdr->magic = __builtin_bswap32(DMM_ARENA_MAGIC);
	EXPECT_ERRNO(EPROTO, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->hdr->magic = DMM_ARENA_MAGIC;
	self->hdr->version = 0;
	EXPECT_ERRNO(EPROTO, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->hdr->version = DMM_ABI_VERSION + 1;
	EXPECT_ERRNO(EPROTO, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->hdr->version = DMM_ABI_VERSION;
	self->hdr->features = 1;
	EXPECT_ERRNO(EOPNOTSUPP, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->hdr->features = 0;
	EXPECT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
}

TEST_F(dmm, bad_geometry)
{
	static const struct {
		size_t off;
		__u32 values[6];
	} bad[] = {
		{ offsetof(struct dmm_arena_hdr, hdr_size), { 0, 383, 385, UINT32_MAX } },
		{ offsetof(struct dmm_arena_hdr, nslots),
		  { 0, 3, 2 * DMM_SLOTS_MAX, 1U << 31, UINT32_MAX } },
		{ offsetof(struct dmm_arena_hdr, nops),
		  { 0, 1, 32, 65, 2 * DMM_MSGS_MAX, UINT32_MAX } },
		{ offsetof(struct dmm_arena_hdr, nevents),
		  { 0, 1, 32, 65, 2 * DMM_MSGS_MAX, UINT32_MAX } },
		{ offsetof(struct dmm_arena_hdr, tx_size),
		  { 0, 2048, 4097, 12288, 2 * DMM_RING_MAX, 1U << 31 } },
		{ offsetof(struct dmm_arena_hdr, rx_size),
		  { 0, 2048, 4097, 12288, 2 * DMM_RING_MAX, 1U << 31 } },
	};
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		for (j = 0; j < ARRAY_SIZE(bad[i].values); j++) {
			__u64 size;

			*self->hdr = good_hdr;
			*(__u32 *)((char *)self->hdr + bad[i].off) = bad[i].values[j];
			/* of the size that it claims, where that can be had */
			size = dmm_arena_size(self->hdr);
			if (size < DMM_PAGE ||
			    ftruncate(self->arena_fd, size))
				ASSERT_EQ(0, ftruncate(self->arena_fd,
						       self->arena_size));
			EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMM_ATTACH,
						   &self->attach)) {
				TH_LOG("field at %zu: %u", bad[i].off,
				       bad[i].values[j]);
			}
			ASSERT_EQ(0, ftruncate(self->arena_fd, self->arena_size));
		}
}

/* ----------------------------------------------------------- a stack's life */

TEST_F(dmm, one_stack_for_a_file)
{
	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	EXPECT_ERRNO(EBUSY, ioctl(self->fd, DMM_ATTACH, &self->attach));
	self->attach.stack_id = OTHER_ID;
	strcpy(self->attach.name, "abi1");
	EXPECT_ERRNO(EBUSY, ioctl(self->fd, DMM_ATTACH, &self->attach));
}

TEST_F(dmm, same_id_or_name)
{
	struct dmm_attach other = self->attach;
	int fd = open("/dev/dmm", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	EXPECT_ERRNO(EEXIST, ioctl(fd, DMM_ATTACH, &other));
	strcpy(other.name, "abi1");
	EXPECT_ERRNO(EEXIST, ioctl(fd, DMM_ATTACH, &other));
	strcpy(other.name, "abi0");
	other.stack_id = OTHER_ID;
	EXPECT_ERRNO(EEXIST, ioctl(fd, DMM_ATTACH, &other));

	/* refused attaches leave the file as good as new, and the first alone */
	EXPECT_ERRNO(ENOTCONN, ioctl(fd, DMM_KICK,
				     &(struct dmm_kick){ .size = 16 }));
	EXPECT_EQ(0, ioctl(self->fd, DMM_KICK, &(struct dmm_kick){ .size = 16 }));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, ioctl(fd, DMM_ATTACH, &other));
	close(fd);
}

TEST_F(dmm, close_detaches)
{
	int fd, i;

	for (i = 0; i < 20; i++) {
		fd = open("/dev/dmm", O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ioctl(fd, DMM_ATTACH, &self->attach));
		ASSERT_EQ(0, close(fd));
	}
}

TEST_F(dmm, descriptors_may_be_closed)
{
	__u32 events, bad;

	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	close(self->arena_fd);
	close(self->event_fd);
	self->hdr->ev_prod = 1;
	EXPECT_EQ(0, kick(self->fd, &events, &bad));
	EXPECT_EQ(1, events);
	EXPECT_EQ(1, bad);
	self->arena_fd = -1;
	self->event_fd = -1;
}

TEST_F(dmm, lives_as_long_as_any_copy)
{
	int other = open("/dev/dmm", O_RDWR | O_CLOEXEC);
	int copy, go[2], status;
	pid_t child;
	char c;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	copy = dup(self->fd);
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	}
	close(go[0]);
	close(self->fd);
	self->fd = -1;
	EXPECT_ERRNO(EEXIST, ioctl(other, DMM_ATTACH, &self->attach));
	close(copy);
	EXPECT_ERRNO(EEXIST, ioctl(other, DMM_ATTACH, &self->attach));
	close(go[1]);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, ioctl(other, DMM_ATTACH, &self->attach));
	close(other);
}

/* The child of a fork serves the same stack as its parent. */
TEST_F(dmm, child_may_kick)
{
	__u32 events, bad;
	int status;
	pid_t child;

	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(kick(self->fd, &events, &bad) ? errno : 0);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

static long vmstat(const char *key)
{
	char line[128];
	long value = -1;
	FILE *f;
	int fd;

	/* fold what each CPU keeps to itself */
	fd = open("/proc/sys/vm/stat_refresh", O_RDONLY);
	if (fd < 0 || read(fd, line, sizeof(line)) < 0)
		return -1;
	close(fd);
	f = fopen("/proc/vmstat", "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ' ')
			value = atol(line + strlen(key));
	fclose(f);
	return value;
}

static long pinned_pages(void)
{
	return vmstat("nr_foll_pin_acquired") - vmstat("nr_foll_pin_released");
}

/*
 * Stacks are freed by a work item: wait until the pins are gone, then the memory
 * of the kernel must not have grown by anything like a stack for each round.
 */
TEST_F_TIMEOUT(dmm, thousand_rounds_leak_nothing, 240)
{
	long pins = 0, slab = 0;
	int fd, i, tries;

	pins = pinned_pages();
	for (i = 0; i < 1050; i++) {
		if (i == 50) {	/* caches are warm */
			slab = vmstat("nr_slab_unreclaimable");
		}
		fd = open("/dev/dmm", O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ioctl(fd, DMM_ATTACH, &self->attach));
		ASSERT_EQ(0, close(fd));
	}
	for (tries = 0; tries < 500 && pinned_pages() > pins; tries++)
		usleep(10000);
	EXPECT_EQ(pins, pinned_pages());
	/* KASAN keeps what is freed; where it is, kmemleak looks for leaks */
	if (!access("/sys/kernel/debug/kmemleak", F_OK))
		return;
	/* a page for each round would be 1000; what RCU frees comes later */
	for (tries = 0; tries < 1000; tries++) {
		if (vmstat("nr_slab_unreclaimable") - slab < 200)
			break;
		usleep(10000);
	}
	EXPECT_GT(200, vmstat("nr_slab_unreclaimable") - slab);
}

/* A refused attach gives everything back as well. */
TEST_F_TIMEOUT(dmm, refused_rounds_leak_nothing, 120)
{
	int fd = open("/dev/dmm", O_RDWR | O_CLOEXEC), i, tries;
	long pins;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, DMM_ATTACH, &self->attach));
	pins = pinned_pages();
	for (i = 0; i < 300; i++)
		EXPECT_ERRNO(EEXIST, ioctl(self->fd, DMM_ATTACH, &self->attach));
	for (tries = 0; tries < 500 && pinned_pages() > pins; tries++)
		usleep(10000);
	EXPECT_EQ(pins, pinned_pages());
	close(fd);
}

TEST_F(dmm, needs_net_admin)
{
	__u32 events, bad;
	int status;
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child) {
		if (setresgid(NOBODY, NOBODY, NOBODY) ||
		    setresuid(NOBODY, NOBODY, NOBODY))
			_exit(1);
		_exit(ioctl(self->fd, DMM_ATTACH, &self->attach) == -1 ?
		      errno : 0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(EPERM, WEXITSTATUS(status));
	EXPECT_ERRNO(ENOTCONN, kick(self->fd, &events, &bad));
}

TEST(device_is_for_root_and_group)
{
	struct stat st;

	ASSERT_EQ(0, stat("/dev/dmm", &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0, st.st_uid);
	EXPECT_EQ(0, st.st_mode & 0007);
	EXPECT_EQ(0600, st.st_mode & 0600);
}

/* ---------------------------------------------------------------------- kick */

TEST_F(dmm, kick_without_stack)
{
	__u32 events, bad;

	EXPECT_ERRNO(ENOTCONN, kick(self->fd, &events, &bad));
}

TEST_F(dmm, producer_out_of_range)
{
	static const __u32 beyond[] = { NEVENTS + 1, 1U << 31, UINT32_MAX };
	__u32 events, bad, cons = 0;
	unsigned int i;

	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	for (i = 0; i < ARRAY_SIZE(beyond); i++) {
		self->hdr->ev_prod = cons + beyond[i];
		EXPECT_ERRNO(EPROTO, kick(self->fd, &events, &bad));
		/* reset, so that the ring goes on */
		EXPECT_EQ(cons, self->hdr->ev_prod);
		EXPECT_EQ(cons, self->hdr->ev_cons);
		self->hdr->ev_prod = ++cons;
		EXPECT_EQ(0, kick(self->fd, &events, &bad));
		EXPECT_EQ(1, events);
		EXPECT_EQ(cons, self->hdr->ev_cons);
	}
}

TEST_F(dmm, garbage_events_are_counted)
{
	static const struct dmm_event garbage[] = {
		{ .ev = DMM_EV_NONE },
		{ .ev = __DMM_EV_MAX },
		{ .ev = UINT32_MAX },
		{ .ev = DMM_EV_RX, .slot = 0, .gen = 1 },	/* nobody's slot */
		{ .ev = DMM_EV_RX, .slot = 16, .gen = 1 },	/* no such slot */
		{ .ev = DMM_EV_ERROR, .slot = UINT32_MAX, .gen = UINT32_MAX,
		  .error = UINT32_MAX },
		{ .ev = DMM_EV_GONE, .slot = 1U << 31 },
		{ .ev = DMM_EV_TIMEWAIT, .slot = 3, .gen = 0 },
	};
	struct dmm_event *ring = event_ring(self->hdr);
	__u32 events, bad, prod = 0;
	unsigned int i;

	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	for (i = 0; i < ARRAY_SIZE(garbage); i++)
		ring[prod++ % NEVENTS] = garbage[i];
	__atomic_store_n(&self->hdr->ev_prod, prod, __ATOMIC_RELEASE);
	EXPECT_EQ(0, kick(self->fd, &events, &bad));
	EXPECT_EQ(ARRAY_SIZE(garbage), events);
	EXPECT_EQ(ARRAY_SIZE(garbage), bad);
	EXPECT_EQ(prod, self->hdr->ev_cons);

	/* nothing new, nothing consumed */
	EXPECT_EQ(0, kick(self->fd, &events, &bad));
	EXPECT_EQ(0, events);
	EXPECT_EQ(0, bad);

	/* whole rings, over the ring's end */
	for (i = 0; i < 5; i++) {
		prod += NEVENTS;
		__atomic_store_n(&self->hdr->ev_prod, prod, __ATOMIC_RELEASE);
		EXPECT_EQ(0, kick(self->fd, &events, &bad));
		EXPECT_EQ(NEVENTS, events);
		EXPECT_EQ(NEVENTS, bad);
	}
}

/* The geometry was copied at attach; what the header says later is nothing. */
TEST_F(dmm, header_changed_after_attach)
{
	__u32 events, bad;

	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	memset(self->hdr, 0xff, offsetof(struct dmm_arena_hdr, op_prod));
	self->hdr->ev_prod = NEVENTS;
	EXPECT_EQ(0, kick(self->fd, &events, &bad));
	EXPECT_EQ(NEVENTS, events);
	self->hdr->nevents = 1U << 31;
	self->hdr->ev_prod += NEVENTS + 1;
	EXPECT_ERRNO(EPROTO, kick(self->fd, &events, &bad));
}

TEST_F(dmm, arena_cut_after_attach)
{
	__u32 events, bad;

	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	ASSERT_EQ(0, ftruncate(self->arena_fd, 0));
	/* the module's view is pinned: whatever it says, it does not crash */
	kick(self->fd, &events, &bad);
	EXPECT_EQ(0, close(self->fd));
	self->fd = -1;
}

struct scribbler {
	struct dmm_arena_hdr *hdr;
	size_t len;
	int stop;
};

static void *scribble(void *arg)
{
	struct scribbler *s = arg;
	__u32 state = 12345, *words = (__u32 *)s->hdr;
	size_t nwords = s->len / sizeof(*words);

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		state ^= state << 13;
		state ^= state >> 17;
		state ^= state << 5;
		__atomic_store_n(&words[state % nwords], state >> (state & 31),
				 __ATOMIC_RELAXED);
		/* an index near enough to be believed */
		if (!(state & 7))
			__atomic_store_n(&s->hdr->ev_prod,
					 s->hdr->ev_cons + (state >> 8) % NEVENTS,
					 __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Random content under a running consumer, all of the head of the arena. */
TEST_F_TIMEOUT(dmm, scribbling_worker, 120)
{
	struct scribbler s = {
		.hdr = self->hdr,
		.len = dmm_arena_data_off(&good_hdr),
	};
	__u32 events, bad, consumed = 0;
	pthread_t thread;
	int i;

	ASSERT_EQ(0, ioctl(self->fd, DMM_ATTACH, &self->attach));
	ASSERT_EQ(0, pthread_create(&thread, NULL, scribble, &s));
	/* on one busy CPU the scribbler may come late */
	for (i = 0; i < 20000 || consumed < 1000; i++) {
		if (kick(self->fd, &events, &bad)) {
			ASSERT_EQ(EPROTO, errno);
			continue;
		}
		ASSERT_LE(events, NEVENTS);
		ASSERT_EQ(events, bad);
		consumed += events;
	}
	__atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

/* Random structs of random sizes: an errno of the list, and no stack. */
TEST_F(dmm, random_calls)
{
	static const int allowed[] = {
		EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENOTTY, EBADF, ENODEV, ENOTCONN,
	};
	__u32 state = 99, words[64];
	unsigned int i, j;

	for (i = 0; i < 20000; i++) {
		for (j = 0; j < ARRAY_SIZE(words); j++) {
			state ^= state << 13;
			state ^= state >> 17;
			state ^= state << 5;
			words[j] = state & 0x30 ? state : 0;
		}
		words[0] %= sizeof(words) + 1;
		ASSERT_EQ(-1, ioctl(self->fd, _IO(DMM_IOC_TYPE, state % 3), words));
		for (j = 0; j < ARRAY_SIZE(allowed); j++)
			if (errno == allowed[j])
				break;
		ASSERT_LT(j, ARRAY_SIZE(allowed)) {
			TH_LOG("errno %d", errno);
		}
	}
}

/* Nothing but ioctl() is served. */
TEST_F(dmm, no_other_file_operation)
{
	char c = 0;

	EXPECT_EQ(-1, read(self->fd, &c, 1));
	EXPECT_EQ(-1, write(self->fd, &c, 1));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, DMM_PAGE, PROT_READ, MAP_SHARED,
				   self->fd, 0));
	EXPECT_ERRNO(ESPIPE, lseek(self->fd, 0, SEEK_CUR));
}

TEST_HARNESS_MAIN
