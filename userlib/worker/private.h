/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the worker share. */
#ifndef DMM_WORKER_PRIVATE_H
#define DMM_WORKER_PRIVATE_H

#include <net/if.h>
#include <sys/queue.h>

#include <rte_ether.h>

#include <dmm/chan.h>
#include <dmm/stack.h>

#include "worker.h"

#define RX_BURST	64
#define TX_BATCH	256

/* Of what all clients use together an owner (owner.c) has at most its share. */
#define CLIENTS_MAX	1024	/* channels, those that wait for their end included */
#define SLOTS_MAX	131072	/* connections and listeners; half of the flow map */
#define LISTENERS_MAX	4096
#define BACKLOGS_MAX	65536U	/* children that may wait for clients */
#define BACKLOG_MIN	16U	/* which any listener may have */
#define FDS_MAX		262144U
#define RECEIVED_MAX	253	/* descriptors in a message: SCM_MAX_FD */

/*
 * What a turn does for one client at most, in ops, of which those that open or end
 * something count as OP_HEAVY, and in bytes; the rest is done in the next. While
 * several clients are served turns are short, so that none waits long for its own.
 */
#define CLIENT_TURN	256
#define OWNER_TURN	512	/* likewise, for all of an owner's clients */
#define BYTES_TURN	(256U << 10)
#define BYTES_CONTENDED	(64U << 10)
#define EVENTS_TURN	256
#define CONTENDED	16	/* a part of these */
#define MODULE_CONTENDED 4	/* it has many owners */
#define OP_HEAVY	4

/*
 * Counters, as /dmm/stats shows them. The worker's thread alone writes them.
 */
#define DMM_WORKER_STATS(FN)						\
	FN(rx_frames)		/* frames taken from the port */	\
	FN(rx_bytes)							\
	FN(rx_drop)		/* not IP, or too short */		\
	FN(tx_frames)		/* frames given to the port */		\
	FN(tx_bytes)							\
	FN(tx_drop)		/* the port's ring stayed full */	\
	FN(tx_no_neigh)		/* no next hop, or it does not answer */ \
	FN(ops)			/* messages from clients */		\
	FN(bad_ops)		/* malformed or out of place: dropped */ \
	FN(stale_ops)		/* for a past generation: dropped */	\
	FN(events)		/* messages to clients */		\
	FN(bad_events)		/* dropped by the module */		\
	FN(kicks)		/* DMM_KICK, and doorbells to clients */ \
	FN(wakeups)		/* times that the worker slept and woke */ \
	FN(turns)		/* of its loop, at least two a second */ \
	FN(icmp_seen)		/* ICMP errors that the kernel showed us */ \
	FN(bad_tokens)		/* ATTACH of what was never offered */	\
	FN(listeners)		/* listeners that clients have now */	\
	FN(conns)		/* connections that clients have now */	\
	FN(conns_total)		/* connections opened or attached */	\
	FN(conns_failed)	/* of which refused, reset or timed out */ \
	FN(clients)		/* channels now */			\
	FN(bad_clients)		/* a client broke the ring's rules */	\
	FN(clients_filtered)	/* ended, since their cgroup came to filter */ \
	FN(orphans)		/* channels now whose client is gone */	\
	FN(orphans_reset)	/* of which reset: too many, or too long */ \
	FN(clients_refused)	/* its user has its share of clients */	\
	FN(ops_refused)		/* likewise, of connections or listeners */ \
	FN(guards_refused)	/* likewise, of descriptors */		\
	FN(ops_put_off)		/* times that a client's share of a turn was used up */ \
	FN(turn_ops_max)	/* most ops that a turn took from one of several */ \
	FN(flow_errors)		/* the steering map refused a flow */	\
	FN(neigh_asked)		/* neighbours asked of the kernel */	\
	FN(route_asked)		/* routes asked of the kernel */

#define DMM_WORKER_STAT_FIELD(name)	uint64_t name;
struct dmm_worker_stats {
	DMM_WORKER_STATS(DMM_WORKER_STAT_FIELD)
};

static inline void stat_add(uint64_t *counter, int64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

struct aio_ring;
struct closer;
struct dmm_client_guard;
struct listen_table;
struct neigh_table;
struct nlmsghdr;
struct rte_mbuf;
struct rte_mempool;

/* What of a connection waits to be told, in this order. */
#define PEND_CONNECTED	(1U << 0)
#define PEND_RX		(1U << 1)
#define PEND_ROOM	(1U << 2)
#define PEND_FIN_ACKED	(1U << 3)
#define PEND_FIN	(1U << 4)
#define PEND_FINAL	(1U << 5)

/*
 * A slot of a channel, as the worker sees it.
 * @sc: the plug-in's; NULL when the connection has ended or is none
 * @sl: likewise, of a listener, which has neither rings nor @sc
 * @live: between CONNECT, LISTEN or ATTACH and the final event
 * @pend: PEND_*, on the channel's list while not zero
 * @opt_seq: of the client's options that the plug-in has heard of
 * @rx_due, @room_due: the client waits for it; found when the ring was full
 * @final: the final event and its error
 * @listener: what it is, or was
 * @backlog: of a listener, what its owner is charged with
 * @guard_fd: the connection is closed when this hangs up; -1 for none
 * @hung: it has hung up; the ops up to @hung_at come first
 * @starved: has bytes to send, for which there was no room in the turn
 * @sent: what the client was last told to have left, as an index
 */
struct dmm_conn {
	struct channel *ch;
	struct dmm_stack_conn *sc;
	struct dmm_stack_listener *sl;
	struct dmm_ring *tx;
	struct dmm_ring *rx;
	STAILQ_ENTRY(dmm_conn) next_pend;
	TAILQ_ENTRY(dmm_conn) next_hung;
	TAILQ_ENTRY(dmm_conn) next_starved;
	uint32_t gen;
	uint32_t pend;
	uint32_t final;
	uint32_t error;
	uint32_t opt_seq;
	uint32_t backlog;
	uint32_t hung_at;
	uint32_t sent;
	bool rx_due;
	bool room_due;
	bool listener;
	bool live;
	bool hung;
	bool starved;
	int guard_fd;
};

/*
 * A user whose processes are clients.
 * @epoll_fd: its clients' sockets and guards, so that it only delays its own
 * @nchannels: orphans included; likewise all that follow
 * @nfds: descriptors held for it
 * @nbacklog: children that may wait for its listeners
 * @full: its clients are told that it has its share of slots
 * @turn, @left: in which turn, and what it may still spend there
 */
struct owner {
	LIST_ENTRY(owner) next;
	struct dmm_worker *w;
	struct closer *closer;
	uid_t uid;
	int epoll_fd;
	uint32_t nchannels;
	uint32_t norphans;
	uint32_t nfds;
	uint32_t nslots;
	uint32_t nlisteners;
	uint32_t nbacklog;
	bool full;
	bool logged;
	uint32_t turn;
	uint32_t left;
};

/*
 * One client: the module or a process.
 * @id: never used again, so that what is late is for nobody
 * @owner: NULL for the module
 * @cgroup: of the process, when it came, or NULL
 * @cgroup_ms: when that was looked at last
 * @bell_fd: eventfd toward us
 * @device_fd: /dev/dmm, or -1
 * @client_fd: eventfd toward a process, or -1
 * @sock_fd: its connection, or -1
 * @conns: one for each slot
 * @broken: the client broke the rules of the message rings
 * @orphan: the client is gone; what it left is being closed
 * @orphan_ms: since when
 * @abort: not in peace
 * @sweep: an orphan's slots below it have been seen to
 * @trim: the slot that conn_trim() looked at last
 * @nlive: slots in use
 * @taken: ops taken so far
 * @due: its socket has something, to be read when @taken is @due_at
 * @bytes: sent in this turn
 * @active: tsc: when it last had ops or reports
 * @pend: connections that have something to tell
 * @hung: whose guard hung up, in order
 * @starved: which @bytes did not suffice for
 */
struct channel {
	TAILQ_ENTRY(channel) next;
	struct dmm_worker *w;
	struct owner *owner;
	struct dmm_chan *chan;
	char *cgroup;
	uint32_t cgroup_ms;
	uint32_t id;
	int bell_fd;
	int device_fd;
	int client_fd;
	int sock_fd;
	bool broken;
	bool orphan;
	bool abort;
	bool due;
	uint32_t orphan_ms;
	uint32_t sweep;
	uint32_t trim;
	uint32_t nlive;
	uint32_t taken;
	uint32_t due_at;
	uint32_t bytes;
	uint64_t active;
	struct dmm_conn *conns;
	STAILQ_HEAD(, dmm_conn) pend;
	TAILQ_HEAD(, dmm_conn) hung;
	TAILQ_HEAD(, dmm_conn) starved;
};

/* The port and what steers packets to it. */
struct port {
	uint16_t id;
	int xsk_fd;
	int prog_fd;
	int flows_fd;
	struct rte_ether_addr mac;
	uint16_t mtu;
	struct rte_mempool *pool;
	struct rte_mbuf *tx[TX_BATCH];
	unsigned int ntx;
	bool started;
	bool eal;
	bool pinned;
};

/* dmm_host: what the plug-in knows the worker by. */
struct dmm_worker {
	const struct dmm_worker_opts *opts;
	int ifindex;
	void *plugin;
	const struct dmm_stack_ops *ops;
	struct dmm_stack *stack;
	struct port port;
	struct neigh_table *neighs;
	struct listen_table *listens;
	int icmp4_fd;
	int icmp6_fd;
	TAILQ_HEAD(, channel) channels;
	uint32_t last_id;	/* of a channel */
	LIST_HEAD(, owner) owners;
	uint32_t nfds;		/* that owners have, of @fds_max */
	uint32_t fds_max;
	int spare_fd;		/* to be given up, so that a client can be told off */
	struct aio_ring *aio;	/* for doorbells */
	uint32_t turn;
	bool contended;		/* several clients are being served */
	int listen_fd;
	bool deaf;		/* we do not listen, until @deaf_ms */
	uint32_t deaf_ms;
	uint64_t netns;		/* its SO_NETNS_COOKIE */
	bool listening;		/* the client socket's path is ours */
	int epoll_fd;		/* the fast ones, and @slow_fd */
	int slow_fd;		/* epoll of netlink and sockets */
	uint64_t slow_at;	/* tsc: when to look there next */
	uint64_t tsc_hz;
	uint32_t now_ms;
	uint32_t polled_ms;
	uint32_t timeout_ms;	/* of the plug-in's timers */
	uint32_t cpu;		/* that we run on, plus one */
	int stop_fd;		/* eventfd: wake up and look at @stop */
	bool stop;
	int fatal;		/* negative errno: cannot go on */
	struct dmm_worker_stats stats;
};

/*
 * Whoever can be woken by an epoll descriptor has one of these. An address would
 * outlive what it is of: a client may keep a file open that we have closed.
 */
enum waker {
	WAKE_FAST = 1,		/* XSK, doorbells: nothing but waking up */
	WAKE_SLOW,
	WAKE_NEIGH,
	WAKE_ICMP,
	WAKE_LISTEN,
	WAKE_OWNER,		/* an owner's epoll descriptor: its uid << 32 */
};

/* In an owner's: the channel's id << 32, and a slot or this. */
#define WAKE_SOCK	UINT32_MAX

/* worker.c */
void worker_log(struct dmm_host *host, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int worker_epoll_add(int epoll_fd, int fd, uint32_t events, uint64_t data);
void worker_epoll_del(int epoll_fd, int fd);
uint32_t worker_now_ms(void);

/* host.c: what the plug-in calls, and the connections */
extern const struct dmm_host_ops worker_host_ops;
bool conn_ops_run(struct channel *ch);
bool conn_events_run(struct channel *ch);
void conn_abort_all(struct channel *ch);
void conn_trim(struct channel *ch, uint32_t ms);
bool conn_sweep(struct channel *ch);
void conn_guard(struct channel *ch, const struct dmm_client_guard *guard, int fd);
void conn_guard_event(struct dmm_conn *conn);
void conn_hung_run(struct channel *ch);
bool conn_starved_run(struct channel *ch);
void conn_unreachable(struct dmm_worker *w, uint8_t family, const void *daddr);

/* channel.c */
int channel_attach(struct dmm_worker *w, char *err, size_t err_len);
int channel_listen(struct dmm_worker *w, char *err, size_t err_len);
void channel_accept(struct dmm_worker *w);
void channel_listen_again(struct dmm_worker *w);
void channel_destroy(struct channel *ch);
void channel_event(struct dmm_worker *w, uint64_t data);
void channel_orphan(struct channel *ch);
bool channel_orphan_run(struct channel *ch);
void channel_due_run(struct channel *ch);
int channel_notify(struct channel *ch);
bool channel_backlog(struct channel *ch);

/* owner.c */
void owners_init(struct dmm_worker *w);
void owners_tidy(struct dmm_worker *w, bool all);
int owner_get(struct dmm_worker *w, uid_t uid, struct owner **op);
struct owner *owner_find(struct dmm_worker *w, uid_t uid);
bool owner_has_share(const struct owner *o, uint32_t used, uint32_t total);
bool owner_may_receive(struct owner *o);
bool owner_fds_full(const struct owner *o);
uint32_t owner_backlog(const struct owner *o, uint32_t backlog);
void owner_count_fds(struct owner *o, int n);
void owner_count_slots(struct owner *o, int n);
bool owner_may_spend(struct owner *o, uint32_t cost);
void owner_spend(struct owner *o, uint32_t cost);
void owner_close(struct owner *o, int fd);

/* bell.c */
int bells_create(struct dmm_worker *w, char *err, size_t err_len);
void bells_destroy(struct dmm_worker *w);
int bell_ring(struct dmm_worker *w, int fd);

/* cgroup.c: what filters a client's packets natively */
char *cgroup_of(pid_t pid);
bool cgroup_forbids(struct channel *ch);

/* port.c: EAL and the ethdev */
int port_create(struct dmm_worker *w, char *err, size_t err_len);
void port_destroy(struct dmm_worker *w);
void port_flush(struct dmm_worker *w);
void port_send(struct dmm_worker *w, struct rte_mbuf *m);
unsigned int port_receive(struct dmm_worker *w, struct rte_mbuf **pkts);

/* xdp.c: the steering program, its maps and their pins */
int xdp_prepare(struct dmm_worker *w, char *err, size_t err_len);
int xdp_adopt(struct dmm_worker *w, char *err, size_t err_len);
void xdp_release(struct dmm_worker *w);
int xdp_flow_add(struct dmm_worker *w, const struct dmm_tuple *tuple);
void xdp_flow_del(struct dmm_worker *w, const struct dmm_tuple *tuple);
void xdp_flow_del_quietly(struct dmm_worker *w, const struct dmm_tuple *tuple);

/* listen.c: local addresses, and listeners' flows */
int listen_create(struct dmm_worker *w, char *err, size_t err_len);
void listen_destroy(struct dmm_worker *w);
int listen_flow_add(struct dmm_worker *w, const struct dmm_tuple *local);
void listen_flow_del(struct dmm_worker *w, const struct dmm_tuple *local);
void listen_addr_event(struct dmm_worker *w, struct nlmsghdr *nlh);
void listen_dump_begin(struct dmm_worker *w);
void listen_dump_end(struct dmm_worker *w);

/* icmp.c */
int icmp_create(struct dmm_worker *w, char *err, size_t err_len);
void icmp_destroy(struct dmm_worker *w);
void icmp_read(struct dmm_worker *w);

/* neigh.c: next hops, from the kernel's tables */
int neigh_create(struct dmm_worker *w, char *err, size_t err_len);
void neigh_destroy(struct dmm_worker *w);
int neigh_fd(const struct dmm_worker *w);
void neigh_read(struct dmm_worker *w);
void neigh_output(struct dmm_worker *w, struct rte_mbuf *m, uint8_t family,
		  const void *daddr);

/* plugin.c */
int plugin_load(struct dmm_worker *w, char *err, size_t err_len);
void plugin_unload(struct dmm_worker *w);

/* telemetry.c */
bool telemetry_alive(const char *name);
int telemetry_register(struct dmm_worker *w);

/* Fill in the one sentence and hand the error on. */
#define fail(err, len, code, ...)					\
	(snprintf(err, len, __VA_ARGS__), (code))

#endif /* DMM_WORKER_PRIVATE_H */
