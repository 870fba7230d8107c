// SPDX-License-Identifier: Apache-2.0
/*
 * Contexts: the way to a stack's worker, and the memory that goes with it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <dmm/client.h>

#include "shim.h"

#define NFDS		3
#define HELLO_MS	3000	/* a worker that does not answer is down */
#define RUNTIME_DIR	"/run/dmm"

struct ctx *ctxs[CTX_MAX];
unsigned int nctx;
static struct lock ctx_lock;

/* ---- the worker's socket ------------------------------------------------------ */

/* Where a stack's worker listens; of stack 0, the directory. */
int client_path(char *buf, size_t size, uint32_t stack_id)
{
	const char *dir = secure_getenv("DMM_RUNTIME_DIR");
	int n;

	if (!dir || !*dir)
		dir = RUNTIME_DIR;
	n = stack_id ? snprintf(buf, size, "%s/client/%u.sock", dir, stack_id) :
		       snprintf(buf, size, "%s/client", dir);
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

static int worker_dial(uint32_t stack_id)
{
	struct timeval tv = { .tv_sec = HELLO_MS / 1000 };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, ret;

	ret = client_path(sun.sun_path, sizeof(sun.sun_path), stack_id);
	if (ret)
		return ret;
	fd = real.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* for connect() to a full backlog as well */
	real.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	real.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (real.connect(fd, &sun, sizeof(sun))) {
		ret = -errno;
		real.close(fd);
		return ret;
	}
	return fd;
}

static int hello_receive(int sock, struct dmm_client_hello *hello, int fds[NFDS])
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(NFDS * sizeof(int))];
	} ctl;
	struct iovec iov = { .iov_base = hello, .iov_len = sizeof(*hello) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
	};
	struct cmsghdr *cmsg;
	ssize_t len;
	int n = 0;

	len = real.recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	if (len < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET &&
	    cmsg->cmsg_type == SCM_RIGHTS) {
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(cmsg), n * sizeof(int));
	}
	if (n == NFDS && len == sizeof(*hello) && hello->size == sizeof(*hello) &&
	    hello->version == DMM_ABI_VERSION &&
	    !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return 0;
	if (!n && len == sizeof(*hello) && hello->flags & DMM_CLIENT_F_QUOTA)
		return -EDQUOT;
	while (n)
		real.close(fds[--n]);
	return -EPROTO;
}

/* ---- memory ------------------------------------------------------------------- */

/* Map the arena; the geometry is copied, checked, and never looked at again. */
static int arena_map(struct ctx *c)
{
	struct stat st;
	int seals;
	void *p;

	seals = real.fcntl(c->arena_fd, F_GET_SEALS, 0);
	if (fstat(c->arena_fd, &st) || seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPROTO;
	if (pread(c->arena_fd, &c->geo, sizeof(c->geo), 0) != sizeof(c->geo) ||
	    c->geo.magic != DMM_ARENA_MAGIC || c->geo.version != DMM_ABI_VERSION ||
	    !dmm_arena_geometry_ok(&c->geo) ||
	    (uint64_t)st.st_size != dmm_arena_size(&c->geo))
		return -EPROTO;
	p = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		 c->arena_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	c->arena = p;
	c->ops = (struct dmm_op *)((char *)p + DMM_ARENA_OPS_OFF);
	c->events = (struct dmm_event *)((char *)p + dmm_arena_events_off(&c->geo));
	c->slots = (struct dmm_slot *)((char *)p + dmm_arena_slots_off(&c->geo));
	return 0;
}

static size_t state_size(uint32_t nslots)
{
	size_t words = (nslots + 63) / 64;

	return sizeof(struct sh_hdr) + (size_t)nslots * sizeof(struct sh_sock) +
	       PROCS * words * sizeof(uint64_t);
}

static int state_map(struct ctx *c)
{
	size_t size = state_size(c->geo.nslots);
	struct stat st;
	void *p;

	if (fstat(c->state_fd, &st) || (size_t)st.st_size != size)
		return -EPROTO;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, c->state_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	c->sh = p;
	c->socks = (struct sh_sock *)(c->sh + 1);
	c->dirty = (uint64_t *)(c->socks + c->geo.nslots);
	c->ndirty = (c->geo.nslots + 63) / 64;
	p = mmap(NULL, c->geo.nslots * sizeof(*c->by_slot), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		munmap(c->sh, size);
		return -ENOMEM;
	}
	c->by_slot = p;
	return 0;
}

/* A place among the family; who died without giving his back is found out here. */
static void proc_enter(struct ctx *c)
{
	uint32_t pid = getpid(), was;
	unsigned int i;

	for (i = 0; i < PROCS; i++) {
		was = load_relaxed(&c->sh->procs[i].pid);
		if (was == pid)		/* from before exec() */
			break;
		if (was && (!kill(was, 0) || errno != ESRCH))
			continue;
		if (__atomic_compare_exchange_n(&c->sh->procs[i].pid, &was, pid, false,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			break;
	}
	c->proc = i;
}

static struct ctx *ctx_alloc(void)
{
	struct ctx *c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (c == MAP_FAILED)
		return NULL;
	c->sock = -1;
	c->bell = -1;
	c->event_fd = -1;
	c->arena_fd = -1;
	c->state_fd = -1;
	return c;
}

static void ctx_close_fds(struct ctx *c)
{
	int *const all[] = { &c->sock, &c->bell, &c->event_fd, &c->arena_fd,
			     &c->state_fd };
	unsigned int i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (*all[i] < 0)
			continue;
		fd_unhide(*all[i]);
		real.close(*all[i]);
		*all[i] = -1;
	}
}

static void ctx_drop(struct ctx *c)
{
	if (c->sh)
		munmap(c->sh, state_size(c->geo.nslots));
	if (c->arena)
		munmap(c->arena, dmm_arena_size(&c->geo));
	ctx_close_fds(c);
	munmap(c, sizeof(*c));
}

static int ctx_publish(struct ctx *c)
{
	unsigned int i;

	c->sock = fd_hide(c->sock);
	c->bell = fd_hide(c->bell);
	c->event_fd = fd_hide(c->event_fd);
	c->arena_fd = fd_hide(c->arena_fd);
	c->state_fd = fd_hide(c->state_fd);
	proc_enter(c);
	/* the place of one that is dead and has no socket left */
	for (i = 0; i < nctx; i++)
		if (!ctxs[i])
			break;
	if (i == CTX_MAX)
		return -EMFILE;
	c->index = i;
	store_release(&ctxs[i], c);
	if (i == nctx)
		store_release(&nctx, i + 1);
	return 0;
}

static struct ctx *ctx_open(uint32_t stack_id, int *err)
{
	struct dmm_client_hello hello = { 0 };
	struct ctx *c = ctx_alloc();
	int fds[NFDS];

	*err = -ENOMEM;
	if (!c)
		return NULL;
	*err = worker_dial(stack_id);
	if (*err < 0)
		goto err_drop;
	c->sock = *err;
	*err = hello_receive(c->sock, &hello, fds);
	if (*err)
		goto err_drop;
	c->arena_fd = fds[0];
	c->bell = fds[1];
	c->event_fd = fds[2];
	c->stack_id = stack_id;
	c->ifindex = hello.ifindex;
	c->flags = hello.flags;
	c->netns = hello.netns;
	*err = arena_map(c);
	if (*err)
		goto err_drop;
	*err = -ENOMEM;
	c->state_fd = memfd_create("dmm-shim", MFD_CLOEXEC);
	if (c->state_fd < 0 || ftruncate(c->state_fd, state_size(c->geo.nslots)))
		goto err_drop;
	*err = state_map(c);
	if (*err)
		goto err_drop;
	c->sh->magic = SHARED_MAGIC;
	c->sh->nslots = c->geo.nslots;
	c->sh->stack_id = stack_id;
	c->sh->ifindex = hello.ifindex;
	c->sh->flags = hello.flags;
	c->sh->netns = hello.netns;
	store_relaxed(&c->arena->ev_polling, 1);
	*err = ctx_publish(c);
	if (*err)
		goto err_drop;
	return c;

err_drop:
	ctx_drop(c);
	return NULL;
}

/**
 * ctx_get() - the context of a stack, made at its first use
 * @stack_id: the stack
 * @err: set to a negative errno
 *
 * Return: the context, whose worker was alive a moment ago, or NULL.
 */
struct ctx *ctx_get(uint32_t stack_id, int *err)
{
	struct ctx *c = NULL;
	unsigned int i;

	*err = -EDEADLK;
	if (!lock(&ctx_lock))
		return NULL;
	for (i = 0; i < nctx; i++) {
		c = ctxs[i];
		if (c && c->stack_id == stack_id && !c->dead && !ctx_look(c))
			break;
	}
	if (i == nctx)
		c = ctx_open(stack_id, err);
	unlock(&ctx_lock);
	return c;
}

/* Why ctx_get() gave none. */
enum dmm_fallback ctx_why(int err)
{
	return err == -EDQUOT ? DMM_FALLBACK_QUOTA : DMM_FALLBACK_STACK_DOWN;
}

/* One that was handed over; the descriptors are ours from now on. */
struct ctx *ctx_adopt(int state_fd, int arena_fd, int sock, int bell, int event_fd)
{
	struct ctx *c = ctx_alloc();

	if (!c)
		return NULL;
	c->state_fd = state_fd;
	c->arena_fd = arena_fd;
	c->sock = sock;
	c->bell = bell;
	c->event_fd = event_fd;
	if (arena_map(c) || state_map(c) || c->sh->magic != SHARED_MAGIC ||
	    c->sh->nslots != c->geo.nslots || ctx_publish(c)) {
		ctx_drop(c);
		return NULL;
	}
	c->stack_id = c->sh->stack_id;
	c->ifindex = c->sh->ifindex;
	c->flags = c->sh->flags;
	c->netns = c->sh->netns;
	ctx_look(c);
	return c;
}

/* A child has what its parent had, and is to hear of it; of what was before as well. */
static void proc_inherit(struct ctx *c)
{
	uint32_t slot;

	proc_enter(c);
	for (slot = 0; c->proc < PROCS && slot < c->sh->fresh; slot++) {
		if (!vsock_of(c, slot))
			continue;
		__atomic_fetch_or(&c->socks[slot].procs, 1ULL << c->proc,
				  __ATOMIC_ACQ_REL);
		__atomic_fetch_or(&c->dirty[c->proc * c->ndirty + slot / 64],
				  1ULL << slot % 64, __ATOMIC_RELEASE);
	}
}

/* A child shares all, and is another process. */
void ctx_fork(int step)
{
	unsigned int i;

	fork_lock(&ctx_lock, step);
	for (i = 0; step > 0 && i < nctx; i++)
		proc_inherit(ctxs[i]);
}

/*
 * The worker is gone: all of its sockets hear of it when they look. Under whatever
 * lock, so what needs one is left to the next who waits.
 */
void ctx_dead(struct ctx *c)
{
	if (c->dead)
		return;
	c->dead = true;
	store_release(&c->sh->dead, 1);
	ep_ctx_dead();
	relisten_lost();
	kick(c);
}

/* Has the worker gone? By a system call. */
bool ctx_look(struct ctx *c)
{
	struct pollfd p = { .fd = c->sock, .events = POLLRDHUP };
	int err = errno;

	if (!c->dead && (load_relaxed(&c->sh->dead) ||
			 (real.poll(&p, 1, 0) > 0 && p.revents)))
		ctx_dead(c);
	errno = err;
	return c->dead;
}

/* ---- slots -------------------------------------------------------------------- */

int slot_take(struct ctx *c, uint32_t *slot)
{
	struct sh_hdr *sh = c->sh;
	int ret = 0;

	if (load_relaxed(&c->arena->full))
		return -EDQUOT;
	if (!lock(&sh->alloc_lock))
		return -EDEADLK;
	if (sh->free) {
		*slot = sh->free - 1;
		sh->free = c->socks[*slot].next;
	} else if (sh->fresh < c->geo.nslots) {
		*slot = sh->fresh++;
	} else {
		ret = -ENOSPC;
	}
	unlock(&sh->alloc_lock);
	return ret;
}

/* Why slot_take() gave none. */
enum dmm_fallback slot_why(struct ctx *c)
{
	return load_relaxed(&c->arena->full) ? DMM_FALLBACK_QUOTA :
					       DMM_FALLBACK_NO_SLOT;
}

/* False: the stack has a connection of that port already. */
bool port_take(struct ctx *c, uint16_t port)
{
	uint64_t bit = 1ULL << port % 64;

	return !(__atomic_fetch_or(&c->sh->ports[port / 64], bit, __ATOMIC_RELAXED) & bit);
}

void port_give(struct ctx *c, uint16_t port)
{
	__atomic_fetch_and(&c->sh->ports[port / 64], ~(1ULL << port % 64),
			   __ATOMIC_RELAXED);
}

void slot_free(struct ctx *c, uint32_t slot)
{
	struct sh_hdr *sh = c->sh;

	if (load_relaxed(&c->socks[slot].flags) & SF_PORT)
		port_give(c, c->socks[slot].lport);

	store_relaxed(&c->socks[slot].gen, 0);
	if (!lock(&sh->alloc_lock))
		return;
	c->socks[slot].next = sh->free;
	sh->free = slot + 1;
	unlock(&sh->alloc_lock);
}

/*
 * A socket may be ready that was not: whoever has it finds it when he looks before
 * he sleeps. Without a lock.
 */
void sock_dirty(struct ctx *c, struct sh_sock *s, bool in, bool out)
{
	uint64_t procs = load_relaxed(&s->procs);
	uint32_t slot = s - c->socks;

	if (in)
		__atomic_add_fetch(&s->seq_in, 1, __ATOMIC_RELEASE);
	if (out)
		__atomic_add_fetch(&s->seq_out, 1, __ATOMIC_RELEASE);
	while (procs) {
		unsigned int p = __builtin_ctzll(procs);

		procs &= procs - 1;
		__atomic_fetch_or(&c->dirty[p * c->ndirty + slot / 64],
				  1ULL << slot % 64, __ATOMIC_RELEASE);
	}
}
