/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the shim share.
 *
 * A socket that a stack serves is looked up by its number in fd_tab; every other
 * number finds NULL there and goes to libc after that one look. The descriptor itself
 * stays a socket of the kernel's: the very one that the program made, which keeps its
 * port, options and flags, or, once processes share the connection, one end of a
 * socket pair whose other end the worker holds (guard.c): the connection then lives
 * as long as that file, whoever dies without a word.
 *
 * Processes that descend from each other by fork() share a context for each stack: the
 * arena and the state file, a memfd of ours that the worker never sees. What is in it
 * is the truth of a socket; the private half only says where it is.
 *
 * Locks, outermost first:
 *
 *	relisten_lock		listeners whose worker is back; private
 *	ctx_lock		making contexts; private
 *	sh_hdr.ev_lock		reading the event ring
 *	items_lock		who waits for what, by epoll; private
 *	 ep.lock		one epoll's ready list; private
 *	  sh_sock.lock		a socket; a listener before its child
 *	   sh_hdr.alloc_lock	free slots
 *	   sh_hdr.op_lock	writing the op ring
 *	fd_lock			fd_tab; private, together with the first two and
 *				items_lock alone
 *
 * Functions return a negative errno; only ENTRY()s set errno.
 */
#ifndef DMM_SHIM_H
#define DMM_SHIM_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/queue.h>
#include <linux/dmm.h>

#include "calls.h"
#include "lock.h"

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#if defined(__x86_64__) || defined(__i386__)
#define cpu_relax()	__builtin_ia32_pause()
#else
#define cpu_relax()	__asm__ volatile("" ::: "memory")
#endif

#define load_relaxed(p)		__atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_relaxed(p, v)	__atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define full_barrier()		__atomic_thread_fence(__ATOMIC_SEQ_CST)

#define NSEC		1000000000ULL
#define FOREVER		UINT64_MAX

/* ---- shared by a family of processes --------------------------------------- */

#define PROCS		64	/* that hear of their own sockets only */
#define SHARED_MAGIC	0x53444d44U

enum sock_flags {
	SF_NONBLOCK	= 1 << 0,	/* O_NONBLOCK */
	SF_DONE		= 1 << 1,	/* the peer's end was seen; recv() says 0 */
	SF_CONNECTING	= 1 << 2,	/* connect() has not told the outcome */
	SF_FINAL	= 1 << 3,	/* the stack has said its last word */
	SF_CLOSED	= 1 << 4,	/* ours, too: the slot is free after FINAL */
	SF_PASSED	= 1 << 5,	/* in a message once: the guard alone knows */
	SF_QUEUED	= 1 << 6,	/* a child that nobody has accepted yet */
	SF_LISTEN	= 1 << 7,	/* a listener */
	SF_GUARDED	= 1 << 8,	/* the worker holds the other end */
	SF_PORT		= 1 << 9,	/* has its bit in sh_hdr.ports */
};

/**
 * struct sh_sock - a socket, as all who share it see it
 * @lock: for what is written here, unless said otherwise
 * @gen: the slot's generation; 0 while it is free
 * @state: TCP_*
 * @shutdown: SHUT_MASK bits
 * @err: SO_ERROR
 * @tx_prod, @rx_cons: the truth of our indices in the arena
 * @rx_low, @tx_low: the worker's indices never go back behind these
 * @pending: BIT(DMM_EV_*) that came and are not applied; atomic, no lock
 * @pending_err: of DMM_EV_ERROR
 * @seq_in, @seq_out: counted up whenever it may have become readable, writable;
 *	atomic, no lock
 * @procs: who has it, by index; atomic, no lock
 * @ino: of the descriptor's file
 * @nprocs: how many processes have it, as far as they said goodbye
 * @queue, @tail, @next: children not accepted, slot + 1; under the listener's lock
 */
struct sh_sock {
	struct lock lock;
	uint32_t gen;
	uint32_t state;
	uint32_t shutdown;
	uint32_t flags;
	uint32_t err;
	uint32_t tx_prod;
	uint32_t rx_cons;
	uint32_t rx_low;
	uint32_t tx_low;
	uint32_t pending;
	uint32_t pending_err;
	uint32_t seq_in;
	uint32_t seq_out;
	uint32_t rcvlowat;
	int32_t peek_off;

	uint64_t procs;
	uint64_t ino;
	uint64_t rcvtimeo;	/* ns; 0 for none */
	uint64_t sndtimeo;
	uint32_t nprocs;
	uint32_t opt_set;	/* DMM_OPT_* */
	uint32_t keepidle;
	uint32_t keepintvl;
	uint32_t keepcnt;
	uint32_t user_timeout;
	uint32_t linger_on;
	uint32_t linger_s;

	uint16_t domain;	/* the socket's; mapped addresses have AF_INET below */
	uint16_t family;
	uint16_t lport;
	uint16_t rport;
	uint32_t laddr[4];
	uint32_t raddr[4];
	uint32_t scope;
	uint32_t sndlimit;	/* SO_SNDBUF, when the program set it; bytes */
	uint32_t rcvbuf;	/* SO_RCVBUF, likewise, for the stack */
	uint32_t fin_timeout;	/* ms */
	uint32_t opt_seq;	/* of the last DMM_OP_OPTIONS */
	uint8_t dscp, ttl;
	bool told;		/* the stack was told of options */
	bool inq;		/* TCP_INQ */
	bool zerocopy;		/* SO_ZEROCOPY */
	uint32_t zc_next;	/* sends with MSG_ZEROCOPY */
	uint32_t zc_told;	/* of which the program was told that they are done */

	uint32_t queue;
	uint32_t tail;
	uint32_t next;
	uint32_t qlen;
	uint32_t backlog;
	uint32_t opt_changes;	/* how often a listener was set an option */
	uint32_t __pad2[7];
};

struct sh_proc {
	uint32_t pid;
	uint32_t __pad[15];
};

/**
 * struct sh_hdr - the state file's beginning
 * @ev_lock: for @ev_cons
 * @op_lock: for @op_prod
 * @alloc_lock: for @free, @fresh
 * @sleep_lock: for @sleepers and dmm_arena_hdr.ev_polling
 * @sleepers: threads that may be asleep
 * @dead: the worker is gone
 * @free: first free slot + 1, a list by sh_sock.next
 * @fresh: slots from here on were never used
 * @ports: local ports that the stack has of connections, also of closed ones, while
 *	the kernel gives them away again
 *
 * After it: struct sh_sock for each slot, then for each process a bitmap of the
 * slots that changed.
 */
struct sh_hdr {
	uint32_t magic;
	uint32_t nslots;
	uint32_t stack_id;
	uint32_t dead;
	uint32_t gen;
	uint32_t ifindex;
	uint32_t flags;
	uint32_t __pad;
	uint64_t netns;
	uint32_t __pad0[6];
	struct lock ev_lock;
	uint32_t ev_cons;
	uint32_t bad_events;
	uint32_t __pad1[13];
	struct lock op_lock;
	uint32_t op_prod;
	uint32_t __pad2[14];
	struct lock alloc_lock;
	uint32_t free;
	uint32_t fresh;
	uint32_t __pad3[13];
	struct lock sleep_lock;
	uint32_t sleepers;
	uint32_t __pad4[14];
	struct sh_proc procs[PROCS];
	uint64_t ports[65536 / 64];	/* of slots that connected; atomic */
};

/* ---- private ------------------------------------------------------------------ */

#define CTX_MAX		64

/**
 * struct ctx - a stack's worker, as this process reaches it
 * @geo: the arena's geometry, checked
 * @arena: the arena's beginning
 * @sock: to the worker; hangs up when it dies
 * @bell: eventfd toward the worker
 * @event_fd: eventfd toward us; never read, it wakes by its edges
 * @arena_fd, @state_fd: kept to hand them over
 * @rung: the value of its dmm_arena_hdr.sleeping for which @bell was rung; atomic
 * @held_ns, @last_ns: the first and the last op that it was not rung for, 0 for none;
 *	@hasty: sleeps until that is tried again, of @haste in all. Hints: threads may mix
 *	them up
 * @proc: our index in sh_hdr.procs, or PROCS: none was left
 * @by_slot: this process' half of each socket
 * @retry_at, @retry_ns: when dead, its successor is not looked for before, and how long
 *	that is put off
 */
struct ctx {
	struct dmm_arena_hdr geo;
	struct dmm_arena_hdr *arena;
	struct dmm_op *ops;
	const struct dmm_event *events;
	struct dmm_slot *slots;
	struct sh_hdr *sh;
	struct sh_sock *socks;
	uint64_t *dirty;
	struct vsock **by_slot;
	uint32_t ndirty;	/* words of a bitmap */
	uint32_t stack_id;
	uint32_t ifindex;
	uint32_t flags;
	uint64_t netns;
	unsigned int index;
	unsigned int proc;
	uint32_t rung;
	uint32_t hasty;
	uint32_t haste;
	uint64_t held_ns;
	uint64_t last_ns;
	int sock, bell, event_fd, arena_fd, state_fd;
	bool dead;
	uint64_t retry_at, retry_ns;
};

enum obj_kind { OBJ_SOCK = 1, OBJ_EPOLL };

/* What a descriptor can stand for. @nfds: numbers that do; under fd_lock. */
struct obj {
	uint32_t kind;
	uint32_t nfds;
};

struct item;
LIST_HEAD(item_list, item);
TAILQ_HEAD(item_ready, item);

/**
 * struct vsock - this process' half of a socket
 * @ctx, @s, @slot, @gen, @tx, @rx, @shm: where it is
 * @users: threads in a call that may sleep; the last of them closes what was closed
 *	under them
 * @kfd: the kernel's own socket, when the descriptor is not it; -1
 * @items: under items_lock
 * @inherit: of a listener: the options that its children get; under opt.c's lock
 *
 * The memory stays a struct vsock for good, so that a call may look at one that
 * another thread closes; under the lock of @s, @gen tells.
 */
struct vsock {
	struct obj o;
	struct ctx *ctx;
	struct sh_sock *s;
	uint8_t *tx;
	uint8_t *rx;
	struct dmm_slot *shm;
	uint32_t slot;
	uint32_t gen;
	uint32_t users;
	int kfd;
	struct item_list items;
	struct inherit *inherit;
	struct vsock *next_free;
};

/* An epoll that has one of our sockets in it, or another such epoll. */
struct ep {
	struct obj o;
	struct lock lock;
	struct item_list all;		/* under items_lock */
	struct item_ready ready;	/* under @lock */
	uint32_t nnested;
	uint32_t nsleep;
	uint32_t turns;
	unsigned int watched;		/* contexts whose eventfds are in it */
	struct ep *next_free;
};

#define FD_MAX		(1 << 17)

/* What is known of a descriptor that is not ours; no lock. */
enum fd_flags {
	FD_INTERNAL	= 1 << 0,	/* the shim's own: hands off */
	FD_EPOLLED	= 1 << 1,	/* was put into an epoll */
	FD_DUPPED	= 1 << 2,	/* another number means the same file */
	FD_NATIVE	= 1 << 3,	/* an option was set that no stack honours */
	FD_OPTIONS	= 1 << 4,	/* an option was set that a stack has to know */
	FD_LISTENED	= 1 << 5,	/* bind() was marked */
	FD_MADE		= 1 << 6,	/* by this process' own socket() */
	FD_TAKING	= 1 << 7,	/* in connect(), on its way to being ours */
	FD_OLD		= 1 << 8,	/* FD_MADE, before this process was forked */
};

extern struct obj *fd_tab[FD_MAX];
extern uint16_t fd_flags[FD_MAX];
extern uint32_t fd_forks;		/* how often this process forked */

static inline struct obj *fd_obj(int fd)
{
	return (unsigned int)fd < FD_MAX ? load_relaxed(&fd_tab[fd]) : NULL;
}

static inline struct vsock *fd_sock(int fd)
{
	struct obj *o = fd_obj(fd);

	return unlikely(o) && o->kind == OBJ_SOCK ? (struct vsock *)o : NULL;
}

static inline struct ep *fd_ep(int fd)
{
	struct obj *o = fd_obj(fd);

	return unlikely(o) && o->kind == OBJ_EPOLL ? (struct ep *)o : NULL;
}

/* A socket whose bytes the stack carries; a listener's own calls are the kernel's. */
static inline struct vsock *fd_stream(int fd)
{
	struct vsock *v = fd_sock(fd);

	return unlikely(v) && !(load_relaxed(&v->s->flags) & SF_LISTEN) ? v : NULL;
}

/* fd.c */
void fd_install(int fd, struct obj *o);
bool fd_replace(struct obj *old, struct obj *new);
int fd_hide(int fd);
void fd_unhide(int fd);
void fd_dupped(int from, int to);
void fd_gone(int fd);
bool fd_is_strange(void);
int fd_close(int fd);
void fd_fork(int step);
void sock_fork(int step);
int fd_each(bool (*visit)(int fd, struct vsock *v, void *arg), void *arg);
int fd_same(int fd, int *list, int max);
static inline int kernel_fd(const struct vsock *v, int fd)
{
	int kfd = load_relaxed(&v->kfd);

	return kfd >= 0 ? kfd : fd;
}

/* ctx.c */
extern struct ctx *ctxs[CTX_MAX];
extern unsigned int nctx;
struct ctx *ctx_get(uint32_t stack_id, int *err);
enum dmm_fallback ctx_why(int err);
int client_path(char *buf, size_t size, uint32_t stack_id);
struct ctx *ctx_adopt(int state_fd, int arena_fd, int sock, int bell, int event_fd);
void ctx_fork(int step);
void ctx_dead(struct ctx *c);
bool ctx_look(struct ctx *c);
int slot_take(struct ctx *c, uint32_t *slot);
enum dmm_fallback slot_why(struct ctx *c);
void slot_free(struct ctx *c, uint32_t slot);
bool port_take(struct ctx *c, uint16_t port);
void port_give(struct ctx *c, uint16_t port);
void sock_dirty(struct ctx *c, struct sh_sock *s, bool in, bool out);

/* chan.c */
#define OP(type)	{ .op = DMM_OP_##type }
int op_send(struct ctx *c, const struct dmm_op *op, unsigned int n);
void op_fill_options(struct ctx *c, struct sh_sock *s, struct dmm_op *op);
void op_post(struct ctx *c, struct sh_sock *s, uint32_t type);
void op_post_options(struct ctx *c, struct sh_sock *s);
void op_settle(struct ctx *c);
bool events_take(struct ctx *c, bool wait);
void events_take_all(bool wait);
static inline bool events_waiting(const struct ctx *c)
{
	return load_acquire(&c->arena->ev_prod) != load_relaxed(&c->sh->ev_cons);
}

/* wait.c */
uint64_t now_ns(void);
uint64_t deadline_in(uint64_t ns);
uint32_t my_cpu(void);
bool spin_until(bool (*cond)(void *arg), void *arg, uint64_t deadline);
unsigned int sleep_begin(void);
void sleep_end(unsigned int n);
int watch(int epfd, unsigned int *watched);
void unwatch(int epfd, unsigned int *watched);
bool watch_event(const struct epoll_event *ev);
int thread_epoll(void);
void thread_epoll_read(void);
int sleep_for(int epfd, struct epoll_event *evs, int max, uint64_t deadline,
	      const sigset_t *mask);
int poll_for(struct pollfd *p, nfds_t n, uint64_t deadline, const sigset_t *mask);
bool signals_restart(void);
void kick(struct ctx *c);
void ops_release(struct ctx *c);

/* sock.c */
struct vsock *vsock_new(struct ctx *c, uint32_t slot);
struct vsock *vsock_of(struct ctx *c, uint32_t slot);
void vsock_free(struct vsock *v);
bool sock_lock(struct vsock *v, int *err);
uint32_t sock_mask(struct vsock *v, bool arm);
int sock_wait(struct vsock *v, uint32_t want, uint64_t deadline, int fd);
void sock_user(struct vsock *v);
void sock_unuser(struct vsock *v);
void sock_let_go(struct vsock *v);
void sock_reset(struct sh_sock *s, uint32_t err);
void sock_apply(struct ctx *c, struct sh_sock *s);
void sock_slot_open(struct ctx *c, uint32_t slot);
int sock_shutdown(int fd, struct vsock *v, int how);
void sock_forget(struct ctx *c, uint32_t slot, bool abort_it);
bool sock_rx_broken(struct vsock *v);

/* connect.c */
int sock_connect(int fd, const void *addr, socklen_t len);
int sock_reconnect(int fd, struct vsock *v, const void *addr, socklen_t len);
void addr_out(const struct sh_sock *s, bool remote, void *addr, socklen_t *len);
void note(int fd, const char *what, const char *why);
const char *reason_name(enum dmm_fallback why);
void tell_why(int fd, enum dmm_fallback why);
void tell_native(int fd);
extern bool shim_log;
extern int shim_spin_us;
extern bool shim_off;

/* io.c */
ssize_t sock_send(struct vsock *v, const struct iovec *iov, size_t n, int flags);
ssize_t sock_recv(struct vsock *v, const struct iovec *iov, size_t n, int flags);
ssize_t sock_recv_from_file(struct vsock *v, int in, off_t *off, size_t len);
ssize_t sock_send_to_file(struct vsock *v, int out, size_t len, bool nonblock);
uint32_t sock_inq(struct vsock *v);
uint32_t sock_outq(struct vsock *v);
uint32_t sock_unsent(struct vsock *v);
uint32_t sock_tx_limit(const struct vsock *v);

/* listen.c */
int sock_bind_mark(int fd, const void *addr, socklen_t len);
int sock_listen(int fd, int backlog);
int listen_op(int fd, struct ctx *c, struct sh_sock *s);
enum dmm_fallback listen_prepare(int fd, struct ctx *c, uint32_t backlog,
				 struct vsock **vp);
void listen_go(int fd, struct vsock *v);
int listen_fell_back(int fd, enum dmm_fallback why);
bool listen_incoming(struct ctx *c, uint32_t slot, const struct dmm_event *ev);
int sock_accept(int fd, struct vsock *v, void *addr, socklen_t *len, int flags);
void listen_drain(struct ctx *c, struct sh_sock *s);

/* opt.c */
bool opt_set(int fd, struct vsock *v, int level, int opt, const void *val,
	     socklen_t len, int *ret);
bool opt_get(int fd, struct vsock *v, int level, int opt, void *val, socklen_t *len,
	     int *ret);
void opt_native(int fd, int level, int opt);
void opt_import(int fd, struct sh_sock *s);
void opt_inherit(int fd, struct vsock *lv, int kfd);

/* epoll.c */
void ep_collect(bool wait);
void ep_forget_sock(struct vsock *v);
void ep_forget(struct ep *ep);
void ep_migrate(int fd, struct vsock *v, bool keep);
bool ep_pollable(struct ep *ep);
bool ep_native_ready(struct ep *ep, int epfd);
void ep_fork(int step);
void ep_ctx_dead(void);
bool ep_replace(int fd, struct vsock *old, struct vsock *new);
void ep_restore(int fd, struct vsock *v);

/* relisten.c */
extern bool relisten_due;
void relisten_one(int fd, struct vsock *v);
void relisten_all(void);
bool relisten_wanted(const struct vsock *v);
void relisten_lost(void);
int relisten_fd(void);
void relisten_woken(void);
void relisten_fork(int step);

/* guard.c */
void guard_all(void);
bool guard_adopt(int fd);
uint64_t file_ino(int fd);
int guard_passed(int fd, const struct msghdr *msg);
void guard_received(const struct msghdr *msg);
void guard_fork(void);

/* exec.c */
struct handover {
	char **envp;
	int fd;
};
bool handover_begin(struct handover *h, char *const *envp, bool spawn, bool dups);
void handover_end(struct handover *h);
void handover_take(void);
#define HANDOVER_ENV	"DMM_SHIM_EXEC"

/* Both are evaluated twice, maybe. */
#define min(a, b)	((a) < (b) ? (a) : (b))
#define max(a, b)	((a) > (b) ? (a) : (b))

#endif /* DMM_SHIM_H */
