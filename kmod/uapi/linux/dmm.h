/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * DMM: the one header that the kernel module, user space and BPF share.
 *
 * It tells three interfaces:
 *
 *  1. the character device /dev/dmm, by which a worker attaches a stack;
 *  2. the channel, a shared memory ("arena") with two message rings and a pair
 *     of byte rings for each socket;
 *  3. the generic netlink family "dmm", by which stacks, sockets and counters
 *     are listed.
 *
 * Two sides meet in an arena. The *client* side owns sockets: the kernel module,
 * or the LD_PRELOAD shim. The *stack* side owns connections: a worker. Each side
 * may be hostile to the other: whatever the other side can write is loaded once
 * and checked as a copy.
 *
 * DOC: Ioctls of /dev/dmm
 *
 * Every ioctl takes a pointer to a struct that begins with its own size. The
 * kernel checks that any part of the struct beyond what it understands is zero,
 * so older and newer user space and kernels work together. The errno values
 * mean, for each of them:
 *
 *  - ENOTTY: the command is unknown.
 *  - EINVAL: the struct is too short, or a field has an impossible value.
 *  - E2BIG: the struct is longer than the kernel's and its tail is not zero, or
 *    it is longer than a page.
 *  - EOPNOTSUPP: a flag or a reserved field is set that the kernel does not know.
 *  - EFAULT: the pointer cannot be read or written.
 *
 * A file of /dev/dmm serves at most one stack. When the last reference to the
 * file goes, the stack goes down: each of its sockets gets ECONNRESET, at once. A
 * listener goes on natively, and is offered again, by DMM_OP_LISTEN, to the next
 * stack that is attached with the same id, name and namespace.
 *
 * DOC: The arena
 *
 * A memfd, made and sized by the stack side before it attaches. It is sparse: a
 * page is allocated when somebody touches it, and given back some time after its ring
 * became empty. All numbers are of the machine's
 * byte order, all offsets are from the arena's start:
 *
 *	0			struct dmm_arena_hdr, one page
 *	DMM_ARENA_OPS_OFF	nops messages, client -> stack (struct dmm_op)
 *	dmm_arena_events_off()	nevents messages, stack -> client (struct dmm_event)
 *	dmm_arena_slots_off()	nslots of struct dmm_slot, one for each socket
 *	dmm_arena_data_off()	for slot i: its transmit ring, then its receive ring,
 *				at i * (tx_size + rx_size)
 *	dmm_arena_size()	the end; the memfd's size must be exactly this
 *
 * Every index is a free-running __u32 that is reduced by the ring's size (a power
 * of two) on use. An index has one writer. Each line of 64 bytes has one writer.
 *
 * Publication: a producer stores the content, then its index with release
 * semantics; a consumer loads the index with acquire semantics, then reads the
 * content; likewise backwards for the consumer's index and the freed space.
 *
 * Wake-ups, by the rule of virtio's event index: a side writes into xx_event the
 * index past which it wants to hear, orders this with a full barrier, and looks
 * again at the other's index before it sleeps. The other side publishes its
 * index, orders this with a full barrier, loads xx_event and sends the message
 * only if dmm_need_event(event, new, old). Whoever never arms, never hears.
 *
 *	field		written by	message sent when passed by
 *	tx_event	stack		DMM_OP_TX	tx_prod
 *	rx_room_event	stack		DMM_OP_ROOM	rx_cons
 *	rx_event	client		DMM_EV_RX	rx_prod
 *	tx_room_event	client		DMM_EV_ROOM	tx_cons
 *
 * The client starts a slot's life: it clears the whole struct dmm_slot (so every
 * event is armed at index 0), then sends DMM_OP_CONNECT, DMM_OP_LISTEN or
 * DMM_OP_ATTACH with a new generation.
 * The stack ends it: DMM_EV_ERROR, DMM_EV_TIMEWAIT and DMM_EV_GONE are each its
 * last message for a {slot, gen}; it touches neither slot nor rings after that.
 * Messages for another generation are counted and dropped on both sides.
 *
 * The doorbell toward the stack is the eventfd given at attach, rung only while
 * dmm_arena_hdr.sleeping is not zero. The doorbell toward the module is
 * DMM_KICK, one for a whole batch of events; toward the shim it is an eventfd,
 * left alone while dmm_arena_hdr.ev_polling is not zero.
 */
#ifndef _UAPI_LINUX_DMM_H
#define _UAPI_LINUX_DMM_H

#ifndef __VMLINUX_H__	/* a BPF program has the types from vmlinux.h */
#include <linux/ioctl.h>
#include <linux/types.h>
#elif !defined(__aligned_u64)
#define __aligned_u64 __u64	/* as it always is there */
#endif

#define DMM_ABI_VERSION		1
#define DMM_NAME_MAX		32	/* with the terminating NUL */
#define DMM_STACK_KERNEL	0	/* the kernel's own stack, always there */
#define DMM_STACK_ID_MAX	1023	/* stacks are 1..DMM_STACK_ID_MAX */

/*
 * Why a socket that a rule sent to a stack went to the kernel instead. The
 * number is what bpf_dmm_assign() returns and what counters are indexed by; the
 * word is what people see. Only append.
 */
#define DMM_FALLBACK_REASONS(FN)	\
	FN(NONE, "none")		\
	FN(NO_CLIENT, "no-client")	/* no module, and the socket has no shim */ \
	FN(STACK_DOWN, "stack-down")	/* no worker has the stack attached */ \
	FN(NETNS, "netns")		/* the stack serves another netns */ \
	FN(FAMILY, "family")		/* address family not served */ \
	FN(PROTO, "proto")		/* not plain TCP: MPTCP, SMC, sockmap ... */ \
	FN(KERNEL_SOCK, "kernel-sock")	/* made by the kernel for itself */ \
	FN(STATE, "state")		/* not a fresh, closed socket */ \
	FN(ULP, "ulp")			/* another ULP (kTLS) sits on it */ \
	FN(FILTER, "filter")		/* the program attached a socket filter */ \
	FN(ROUTE, "route")		/* the route leaves by another device */ \
	FN(FASTOPEN, "fastopen")	/* TCP Fast Open is asked for */ \
	FN(SOCKOPT, "sockopt")		/* an option that the stack cannot honour */ \
	FN(NO_SLOT, "no-slot")		/* the arena is full */ \
	FN(NO_MEMORY, "no-memory")	/* the kernel had no memory */ \
	FN(REWRITTEN, "rewritten")	/* a later program changed the address */ \
	FN(IO_URING, "io-uring")	/* the shim's program has a ring */ \
	FN(CGROUP_SKB, "cgroup-skb")	/* its cgroup filters packets */ \
	FN(XFRM, "xfrm")		/* an IPsec policy is set on it */ \
	FN(LABEL, "label")		/* its packets would be labelled */ \
	FN(NETFILTER, "netfilter")	/* strict-filters, and the netns has some */ \
	FN(QUOTA, "quota")		/* its owner has what one may have */

#define DMM_FALLBACK_ENUM(code, word)	DMM_FALLBACK_##code,
enum dmm_fallback {
	DMM_FALLBACK_REASONS(DMM_FALLBACK_ENUM)
	__DMM_FALLBACK_MAX
};

#define DMM_FALLBACK_MAX	(__DMM_FALLBACK_MAX - 1)

/* ------------------------------------------------------------------------- */

#define DMM_IOC_TYPE	0xDC

enum {
	DMM_CMD_ATTACH = 0x00,
	DMM_CMD_KICK = 0x01,
};

enum dmm_attach_flags {
	DMM_ATTACH_F_ROUTE_OWN = 1 << 0,
	__DMM_ATTACH_F_ALL = DMM_ATTACH_F_ROUTE_OWN,
};

/**
 * struct dmm_attach - ioctl(DMM_ATTACH): bring a stack up on this file
 * @size: sizeof(struct dmm_attach)
 * @flags: DMM_ATTACH_F_ROUTE_OWN: a socket's route is looked up as if bound to
 *	@ifindex, instead of required to leave by it
 * @stack_id: the number rules know the stack by, 1..DMM_STACK_ID_MAX
 * @arena_fd: a memfd with a valid struct dmm_arena_hdr, of the very size that
 *	the header's geometry gives
 * @event_fd: an eventfd, the doorbell toward the stack
 * @netns_fd: the network namespace served, or -1 for the caller's own
 * @ifindex: the device served, in that namespace
 * @share: percent of the slots that one container may have, 1..100, or 0 for
 *	DMM_SHARE_DEFAULT. A container is a cgroup of the hierarchy's second level (a
 *	service, a user's slice) or of the first, with all below it; what is in the root
 *	cgroup has no limit
 * @__reserved: zero
 * @name: NUL-terminated, 1..DMM_NAME_MAX-1 characters of [A-Za-z0-9_-]
 *
 * Needs CAP_NET_ADMIN over the namespace. The kernel keeps its own references;
 * the descriptors may be closed afterwards.
 *
 * @stack_id and @name are from then on the caller's, by its effective user id: when
 * the stack is down, nobody else attaches one of that number or name (EPERM), so that
 * rules and listeners of the one do not become another's. Who has CAP_NET_ADMIN in
 * the initial user namespace may, and has them then; of others each user has
 * DMM_CLAIMS_MAX of them at most (EDQUOT).
 *
 * Also: EPERM; EBUSY, this file has a stack; EEXIST, @stack_id or @name is
 * attached already; EBADF, a descriptor is of the wrong kind; ENODEV, no such
 * device; EPROTO, the header has another magic or version; ENOMEM.
 */
struct dmm_attach {
	__u32 size;
	__u32 flags;
	__u32 stack_id;
	__s32 arena_fd;
	__s32 event_fd;
	__s32 netns_fd;
	__u32 ifindex;
	__u16 share;
	__u16 __reserved;
	char name[DMM_NAME_MAX];
};

#define DMM_SHARE_DEFAULT	75
#define DMM_CLAIMS_MAX		16

#define DMM_ATTACH	_IO(DMM_IOC_TYPE, DMM_CMD_ATTACH)

/**
 * struct dmm_kick - ioctl(DMM_KICK): consume the event ring
 * @size: sizeof(struct dmm_kick)
 * @flags: zero
 * @out_events: events consumed
 * @out_bad: those of them that were dropped: unknown, stale or out of place
 *
 * Consumes at most one ring's worth. Also moves what waited for room in the op
 * ring (dmm_arena_hdr.op_backlog). Never sleeps on a socket's lock.
 *
 * Also: ENOTCONN, this file has no stack; EPROTO, the event ring's producer index
 * is out of range (the index is reset to the consumer's, nothing is consumed).
 */
struct dmm_kick {
	__u32 size;
	__u32 flags;
	__u32 out_events;
	__u32 out_bad;
};

#define DMM_KICK	_IO(DMM_IOC_TYPE, DMM_CMD_KICK)

/* ------------------------------------------------------------------------- */

#define DMM_ARENA_MAGIC		0x414d4d44	/* "DMMA" */
#define DMM_LINE		64
#define DMM_PAGE		4096

#define DMM_SLOTS_MAX		65536
#define DMM_MSGS_MIN		64
#define DMM_MSGS_MAX		65536
#define DMM_RING_MIN		4096
#define DMM_RING_MAX		(4U << 20)

/**
 * struct dmm_arena_hdr - the arena's first page
 * @magic: DMM_ARENA_MAGIC
 * @version: DMM_ABI_VERSION
 * @hdr_size: sizeof(struct dmm_arena_hdr)
 * @features: feature bits of the stack side; none yet, zero
 * @nslots: sockets, a power of two, 1..DMM_SLOTS_MAX
 * @nops: op ring, messages, a power of two, DMM_MSGS_MIN..DMM_MSGS_MAX
 * @nevents: event ring, likewise
 * @tx_size: a socket's transmit ring (client -> stack), bytes, a power of two,
 *	DMM_RING_MIN..DMM_RING_MAX
 * @rx_size: a socket's receive ring (stack -> client), likewise
 * @op_prod: client: ops produced
 * @op_backlog: client: not zero while ops wait in the client for ring space; a
 *	stack that has emptied the ring then kicks
 * @ev_polling: client: not zero while nobody sleeps there and the event ring will
 *	be looked at before somebody does; the doorbell is then not rung. The
 *	module leaves it zero
 * @client_cpu: client: where it last went to sleep, a CPU's number plus one; zero: not
 *	said. A hint, as @stack_cpu: the two of them shall not spin on the same CPU
 * @ev_cons: client: events consumed
 * @op_cons: stack: ops consumed
 * @ev_prod: stack: events produced
 * @sleeping: stack: not zero when it wants the doorbell rung: DMM_SLEEP_*, and a number
 *	that is another one each time, so that ringing once is enough
 * @stack_cpu: stack: where it runs, as @client_cpu
 * @full: stack: not zero while the client's user has as many slots as one may have:
 *	CONNECT, LISTEN and ATTACH would fail with ENOBUFS. Zero for the module
 *
 * The geometry is written by the stack side before it attaches; the client
 * copies it once and never looks again.
 */
struct dmm_arena_hdr {
	__u32 magic;
	__u32 version;
	__u32 hdr_size;
	__u32 features;
	__u32 nslots;
	__u32 nops;
	__u32 nevents;
	__u32 tx_size;
	__u32 rx_size;
	__u32 __reserved0[7];

	/* written by the client */
	__u32 op_prod;
	__u32 op_backlog;
	__u32 ev_polling;
	__u32 client_cpu;
	__u32 __reserved1[12];
	__u32 ev_cons;
	__u32 __reserved2[15];

	/* written by the stack */
	__u32 op_cons;
	__u32 __reserved3[15];
	__u32 ev_prod;
	__u32 __reserved4[15];
	__u32 sleeping;
	__u32 stack_cpu;
	__u32 full;
	__u32 __reserved5[13];
};

#define DMM_SLEEP_OPS	0x1	/* ring when there are ops */
#define DMM_SLEEP_GAVE	0x2	/* when a client on stack_cpu goes to sleep, and for */
					/* ops that shall not wait until then: the stack left */
					/* that CPU to it, and looks by itself after 5 ms */
#define DMM_SLEEP_SEQ	0x4	/* the number's unit */

/**
 * struct dmm_slot - the shared state of one socket
 * @tx_prod: client: bytes put into the transmit ring
 * @rx_cons: client: bytes taken from the receive ring
 * @rx_event: client: send DMM_EV_RX when rx_prod passes this
 * @tx_room_event: client: send DMM_EV_ROOM when tx_cons passes this
 * @tx_more: client: tx_prod as of the last send with MSG_MORE. While tx_prod is
 *	that, the stack may keep back what does not fill a segment, for 200 ms
 * @opt_seq: client: dmm_op_options.seq of the last DMM_OP_OPTIONS sent, written before
 *	that. Bytes that come after it wait for that op, which may come after them
 * @rx_idle: client: as long as rx_prod is that, it holds no page of the receive ring.
 *	If that is empty, too, the stack may give its memory back (a hole in the memfd)
 *	before it puts anything there again. The transmit ring's is the client's to give
 * @tx_cons: stack: bytes of the transmit ring that the peer has acknowledged
 * @rx_prod: stack: bytes put into the receive ring
 * @tx_event: stack: send DMM_OP_TX when tx_prod passes this
 * @rx_room_event: stack: send DMM_OP_ROOM when rx_cons passes this
 * @tx_sent: stack: bytes of the transmit ring that left at least once
 * @srtt_us: stack, for information only, as all that follow: smoothed round trip
 * @snd_cwnd: congestion window, bytes
 * @snd_mss: segment size, bytes
 * @retrans: segments sent again, in total
 */
struct dmm_slot {
	/* written by the client */
	__u32 tx_prod;
	__u32 rx_cons;
	__u32 rx_event;
	__u32 tx_room_event;
	__u32 tx_more;
	__u32 opt_seq;
	__u32 rx_idle;
	__u32 __reserved0[9];

	/* written by the stack */
	__u32 tx_cons;
	__u32 rx_prod;
	__u32 tx_event;
	__u32 rx_room_event;
	__u32 tx_sent;
	__u32 __reserved1[11];

	/* written by the stack, seldom */
	__u32 srtt_us;
	__u32 snd_cwnd;
	__u32 snd_mss;
	__u32 retrans;
	__u32 __reserved2[12];
};

/*
 * Client -> stack. Numbers may be added; an unknown one is counted and dropped.
 */
enum dmm_op_type {
	DMM_OP_NONE,
	DMM_OP_CONNECT,		/* open; struct dmm_op_connect */
	DMM_OP_LISTEN,		/* listen; again: backlog and defer as they now are;
				 * dmm_op_listen
				 */
	DMM_OP_ATTACH,		/* the slot of an offered child; dmm_op_attach */
	DMM_OP_OPTIONS,		/* the options as they now are; dmm_op_options */
	DMM_OP_TX,		/* tx_prod passed tx_event */
	DMM_OP_ROOM,		/* rx_cons passed rx_room_event */
	DMM_OP_SHUTDOWN,	/* after all of the transmit ring, send a FIN */
	DMM_OP_CLOSE,		/* as SHUTDOWN, and nobody reads any more: data
				 * that arrives from now on is answered by a RST
				 */
	DMM_OP_ABORT,		/* send a RST and forget; answered by GONE. For a
				 * listener: stop listening
				 */
	__DMM_OP_MAX
};

/**
 * struct dmm_op_connect - the connection to open
 * @family: AF_INET, AF_INET6
 * @dscp: the IP type-of-service byte
 * @ttl: the time to live, 0 for the stack's default
 * @sport: local port, network order
 * @dport: remote port, network order
 * @ifindex: the device
 * @saddr: local address, network order, the first 4 bytes for AF_INET
 * @daddr: remote address, likewise
 *
 * Address and port are the kernel's choice and are unique among all its sockets.
 */
struct dmm_op_connect {
	__u16 family;
	__u8 dscp;
	__u8 ttl;
	__be16 sport;
	__be16 dport;
	__u32 ifindex;
	__be32 saddr[4];
	__be32 daddr[4];
};

/**
 * struct dmm_op_listen - the listener to open, or to change
 * @family: AF_INET, AF_INET6
 * @port: local port, network order
 * @flags: DMM_LISTEN_*
 * @backlog: children that may wait for the client at a time
 * @defer: seconds for which a child is not offered until it has received something
 *	(TCP_DEFER_ACCEPT), 0 for none
 * @ifindex: the device
 * @addr: local address, network order; all zero for any address of the namespace
 *
 * The slot has no bytes to send or receive. Several listeners may have the same
 * address and port (SO_REUSEPORT); the stack spreads children over them.
 */
struct dmm_op_listen {
	__u16 family;
	__be16 port;
	__u32 flags;
	__u32 backlog;
	__u32 ifindex;
	__be32 addr[4];
	__u32 defer;
	__u32 __reserved[3];
};

enum dmm_listen_flags {
	DMM_LISTEN_V6ONLY = 1 << 0,	/* AF_INET6 any: not IPv4 as well */
};

/**
 * struct dmm_op_attach - a child is taken; its slot is that of the op
 * @token: the one that DMM_EV_INCOMING brought
 * @listener: the listener's slot
 */
struct dmm_op_attach {
	__aligned_u64 token;
	__u32 listener;
	__u32 __reserved[9];
};

enum dmm_opt {
	DMM_OPT_NODELAY = 1 << 0,	/* TCP_NODELAY is on */
	DMM_OPT_KEEPALIVE = 1 << 1,	/* SO_KEEPALIVE is on */
	DMM_OPT_CORK = 1 << 2,		/* TCP_CORK is on: as tx_more, for all */
	DMM_OPT_QUICKACK = 1 << 3,	/* TCP_QUICKACK was set: delay no ACK */
};

/**
 * struct dmm_op_options - a snapshot of the options that the stack honours
 * @set: DMM_OPT_* bits
 * @keepidle: seconds
 * @keepintvl: seconds
 * @keepcnt: probes
 * @user_timeout: TCP_USER_TIMEOUT, milliseconds, 0 for none
 * @fin_timeout: how long the peer's FIN is waited for after DMM_OP_CLOSE, milliseconds,
 *	0 for the stack's default
 * @rcvbuf: the receive window not to exceed, bytes, 0 for any; a hint
 * @seq: one more than that of the socket's last one, the first being 1; or always 0
 * @dscp: the IP type-of-service byte
 * @ttl: the time to live, 0 for the stack's default
 */
struct dmm_op_options {
	__u32 set;
	__u32 keepidle;
	__u32 keepintvl;
	__u32 keepcnt;
	__u32 user_timeout;
	__u32 fin_timeout;
	__u32 rcvbuf;
	__u32 seq;
	__u8 dscp;
	__u8 ttl;
	__u16 __reserved0;
	__u32 __reserved[3];
};

/**
 * struct dmm_op - a message from client to stack, one line
 * @op: enum dmm_op_type
 * @slot: index into the slot table
 * @gen: the slot's generation, never zero
 * @flags: zero
 * @connect: for DMM_OP_CONNECT
 * @listen: for DMM_OP_LISTEN
 * @attach: for DMM_OP_ATTACH
 * @options: for DMM_OP_OPTIONS
 * @raw: all of it
 */
struct dmm_op {
	__u32 op;
	__u32 slot;
	__u32 gen;
	__u32 flags;
	union {
		struct dmm_op_connect connect;
		struct dmm_op_listen listen;
		struct dmm_op_attach attach;
		struct dmm_op_options options;
		__u32 raw[12];
	};
};

/*
 * Stack -> client. ERROR, TIMEWAIT and GONE end the slot's life.
 */
enum dmm_event_type {
	DMM_EV_NONE,
	DMM_EV_CONNECTED,	/* the handshake is done; or, the listener is served */
	DMM_EV_INCOMING,	/* a child of this listener; dmm_ev_incoming */
	DMM_EV_RX,		/* rx_prod passed rx_event */
	DMM_EV_ROOM,		/* tx_cons passed tx_room_event */
	DMM_EV_FIN_ACKED,	/* the peer has acknowledged our FIN */
	DMM_EV_FIN,		/* the peer's FIN; rx_prod is final */
	DMM_EV_ERROR,		/* refused, reset or timed out: @error */
	DMM_EV_TIMEWAIT,	/* both FINs are through and we closed first */
	DMM_EV_GONE,		/* closed in every other way */
	__DMM_EV_MAX
};

/**
 * struct dmm_ev_incoming - a connection that a peer opened to a listener
 * @token: the stack's name for it
 * @family: AF_INET, AF_INET6
 * @lport: local port, network order
 * @rport: remote port, network order
 * @dscp: the type-of-service byte of the SYN
 * @ttl: its time to live
 * @laddr: local address, network order, the first 4 bytes for AF_INET
 * @raddr: remote address, likewise
 *
 * A client that takes it answers DMM_OP_ATTACH. One that does not (its queue is
 * full, it has no slot) says nothing: the stack offers it again, after a second,
 * then less often, and resets it in the end.
 */
struct dmm_ev_incoming {
	__aligned_u64 token;
	__u16 family;
	__be16 lport;
	__be16 rport;
	__u8 dscp;
	__u8 ttl;
	__be32 laddr[4];
	__be32 raddr[4];
};

/**
 * struct dmm_event - a message from stack to client, one line
 * @ev: enum dmm_event_type
 * @slot: index into the slot table
 * @gen: the generation that DMM_OP_CONNECT brought
 * @error: for DMM_EV_ERROR, one of ECONNREFUSED, ECONNRESET, ETIMEDOUT,
 *	EHOSTUNREACH, ENETUNREACH, ENOBUFS (positive); any other is taken as
 *	ECONNRESET
 * @incoming: for DMM_EV_INCOMING
 * @raw: all of it; zero otherwise
 */
struct dmm_event {
	__u32 ev;
	__u32 slot;
	__u32 gen;
	__u32 error;
	union {
		struct dmm_ev_incoming incoming;
		__u32 raw[12];
	};
};

#define DMM_ARENA_OPS_OFF	DMM_PAGE

/* Offsets and size of an arena; @h holds a checked geometry. */
static inline __u64 dmm_arena_events_off(const struct dmm_arena_hdr *h)
{
	return DMM_ARENA_OPS_OFF + (__u64)h->nops * sizeof(struct dmm_op);
}

static inline __u64 dmm_arena_slots_off(const struct dmm_arena_hdr *h)
{
	return dmm_arena_events_off(h) +
	       (__u64)h->nevents * sizeof(struct dmm_event);
}

static inline __u64 dmm_arena_data_off(const struct dmm_arena_hdr *h)
{
	return (dmm_arena_slots_off(h) +
		(__u64)h->nslots * sizeof(struct dmm_slot) + DMM_PAGE - 1) &
	       ~(__u64)(DMM_PAGE - 1);
}

static inline __u64 dmm_arena_tx_off(const struct dmm_arena_hdr *h, __u32 slot)
{
	return dmm_arena_data_off(h) +
	       (__u64)slot * ((__u64)h->tx_size + h->rx_size);
}

static inline __u64 dmm_arena_rx_off(const struct dmm_arena_hdr *h, __u32 slot)
{
	return dmm_arena_tx_off(h, slot) + h->tx_size;
}

static inline __u64 dmm_arena_size(const struct dmm_arena_hdr *h)
{
	return dmm_arena_tx_off(h, h->nslots);
}

static inline int dmm_pow2_in(__u32 v, __u32 min, __u32 max)
{
	return v >= min && v <= max && !(v & (v - 1));
}

/* Is the geometry one that both sides accept? Magic and version apart. */
static inline int dmm_arena_geometry_ok(const struct dmm_arena_hdr *h)
{
	return h->hdr_size == sizeof(*h) &&
	       dmm_pow2_in(h->nslots, 1, DMM_SLOTS_MAX) &&
	       dmm_pow2_in(h->nops, DMM_MSGS_MIN, DMM_MSGS_MAX) &&
	       dmm_pow2_in(h->nevents, DMM_MSGS_MIN, DMM_MSGS_MAX) &&
	       dmm_pow2_in(h->tx_size, DMM_RING_MIN, DMM_RING_MAX) &&
	       dmm_pow2_in(h->rx_size, DMM_RING_MIN, DMM_RING_MAX);
}

/* Did an index that went from @old to @new pass @event? (virtio 1.2, 2.7.10) */
static inline int dmm_need_event(__u32 event, __u32 new_idx, __u32 old_idx)
{
	return (__u32)(new_idx - event - 1) < (__u32)(new_idx - old_idx);
}

/* ------------------------------------------------------------------------- */

/*
 * DOC: Generic netlink family "dmm"
 *
 * In the initial network namespace; every command needs CAP_NET_ADMIN.
 *
 *	DMM_NL_CMD_STACK_GET (dump): a message for each attached stack
 *		DMM_NL_A_STACK_ID	u32
 *		DMM_NL_A_NAME		string
 *		DMM_NL_A_IFINDEX	u32
 *		DMM_NL_A_PID		u32, who attached it
 *		DMM_NL_A_SOCKS		u32, sockets it has now
 *		DMM_NL_A_ADOPTED	u64, sockets adopted so far
 *		DMM_NL_A_BAD_EVENTS	u64, events dropped
 *		DMM_NL_A_STALE_EVENTS	u64, of which for a past generation
 *		DMM_NL_A_FALLBACKS	nest of DMM_NL_A_FALLBACK nests:
 *			DMM_NL_A_REASON		u32, enum dmm_fallback
 *			DMM_NL_A_REASON_NAME	string
 *			DMM_NL_A_COUNT		u64
 *	DMM_NL_CMD_SOCK_GET (dump): a message for each adopted socket
 *		DMM_NL_A_STACK_ID	u32
 *		DMM_NL_A_NAME		string, the stack's
 *		DMM_NL_A_SLOT		u32
 *		DMM_NL_A_STATE		u8, TCP_ESTABLISHED ... as in tcp_diag
 *		DMM_NL_A_FAMILY		u16
 *		DMM_NL_A_SADDR		binary, 4 or 16 bytes
 *		DMM_NL_A_DADDR		binary, 4 or 16 bytes
 *		DMM_NL_A_SPORT		u16, network order
 *		DMM_NL_A_DPORT		u16, network order
 *		DMM_NL_A_RXQ		u32, bytes received and not read; of a
 *					listener, children that wait for accept()
 *		DMM_NL_A_TXQ		u32, bytes sent and not acknowledged; of a
 *					listener, its backlog
 *		DMM_NL_A_INODE		u64, 0 when the program closed it
 *		DMM_NL_A_UID		u32
 *	DMM_NL_CMD_STATS_GET (do): counters of the module as a whole
 *		DMM_NL_A_ABI		u32, DMM_ABI_VERSION
 *		DMM_NL_A_ADOPTED	u64
 *		DMM_NL_A_BAD_EVENTS	u64
 *		DMM_NL_A_FALLBACKS	as above, also for ids without a stack
 *
 * A fallback nest is there only for a count that is not zero.
 */
#define DMM_NL_FAMILY		"dmm"
#define DMM_NL_VERSION		1

/* Flags of the kfunc bpf_dmm_assign(). */
enum dmm_assign_flags {
	DMM_ASSIGN_F_LISTEN = 1 << 0,	/* from a bind hook: as a listener */
	DMM_ASSIGN_F_STRICT = 1 << 1,	/* a reason found later is an errno too:
					 * connect() and listen() give ENETDOWN
					 */
	__DMM_ASSIGN_F_ALL = DMM_ASSIGN_F_LISTEN | DMM_ASSIGN_F_STRICT,
};

enum {
	DMM_NL_CMD_UNSPEC,
	DMM_NL_CMD_STACK_GET,
	DMM_NL_CMD_SOCK_GET,
	DMM_NL_CMD_STATS_GET,
	__DMM_NL_CMD_MAX
};

#define DMM_NL_CMD_MAX	(__DMM_NL_CMD_MAX - 1)

enum {
	DMM_NL_A_UNSPEC,
	DMM_NL_A_PAD,
	DMM_NL_A_STACK_ID,
	DMM_NL_A_NAME,
	DMM_NL_A_IFINDEX,
	DMM_NL_A_PID,
	DMM_NL_A_SOCKS,
	DMM_NL_A_ADOPTED,
	DMM_NL_A_BAD_EVENTS,
	DMM_NL_A_STALE_EVENTS,
	DMM_NL_A_FALLBACKS,
	DMM_NL_A_FALLBACK,
	DMM_NL_A_REASON,
	DMM_NL_A_REASON_NAME,
	DMM_NL_A_COUNT,
	DMM_NL_A_SLOT,
	DMM_NL_A_STATE,
	DMM_NL_A_FAMILY,
	DMM_NL_A_SADDR,
	DMM_NL_A_DADDR,
	DMM_NL_A_SPORT,
	DMM_NL_A_DPORT,
	DMM_NL_A_RXQ,
	DMM_NL_A_TXQ,
	DMM_NL_A_INODE,
	DMM_NL_A_UID,
	DMM_NL_A_ABI,
	__DMM_NL_A_MAX
};

#define DMM_NL_A_MAX	(__DMM_NL_A_MAX - 1)

/* ------------------------------------------------------------------------- */

/*
 * DOC: Socket options, for the shim
 *
 * Answered by the policy programs in cgroups that have them (`dmmctl run`, `dmmctl
 * cgroup attach`), with or without the module; elsewhere the kernel answers
 * ENOPROTOOPT. All values are __u32; another length, or another value than told
 * here, is EINVAL. On other sockets than TCP they do not exist.
 *
 *  - DMM_SO_SHIM, set and get: 1 marks the socket as one that the shim can serve;
 *    0 takes the mark away. A child that accept() gives has no mark. The mark asks
 *    for one verdict, that of the next bind() or connect(). 2, of a socket that this
 *    connect() gave to a stack, says that the shim takes it: one bind(), by which the
 *    shim reserves the port, is then not judged. EINVAL for any other socket.
 *
 *  - DMM_SO_FALLBACK, set: why the shim cannot serve the socket, an enum dmm_fallback
 *    other than NONE. The mark is taken away, and the next bind() or connect() that
 *    the rules give to a stack counts this reason instead of "no-client"; the module,
 *    where there is one, may take the socket all the same.
 *
 *  - DMM_SO_LISTEN, set: likewise at listen() of a marked socket whose bind() gave it
 *    to a stack. The reason is counted at once, for the rule of that bind(); mark and
 *    verdict stay. ENETDOWN: the rule does not let it fall back, and listen() is to
 *    fail.
 *  - DMM_SO_STACK, get: the stack that the rules chose for this socket at its
 *    last bind() or connect(), DMM_STACK_KERNEL when that is the kernel's. Always
 *    so for a socket without a mark.
 *
 *  - DMM_SO_WHY, get: why the socket has to stay native as it is now, an enum
 *    dmm_fallback; NONE if nothing is set on it that only the kernel can honour. The
 *    verdict of bind() and connect() has that in it; what is set later is asked at
 *    listen().
 *
 * connect() of a marked socket that belongs to a user-space stack does nothing and
 * returns DMM_SHIM_TAKE, which is no error: had any other program of the cgroups denied
 * it, that one's errno would stand. The shim then asks for the stack. bind()
 * succeeds, so that the port is the socket's in the kernel as well; the shim asks
 * after it. A shim that cannot serve the socket says why (DMM_SO_FALLBACK) and calls
 * again: then it counts as a fallback, or the module takes it.
 */
#define SOL_DMM		0x444d
#define DMM_SO_SHIM	1
#define DMM_SO_STACK	2
#define DMM_SO_FALLBACK	3
#define DMM_SO_LISTEN	4
#define DMM_SO_WHY	5
#define DMM_SHIM_TAKE	78

/*
 * To inet_diag (`ss -tie`) an adopted socket's ULP is "dmm:" and the stack's name; to
 * getsockopt(TCP_ULP) it is "dmm".
 */

#endif /* _UAPI_LINUX_DMM_H */
