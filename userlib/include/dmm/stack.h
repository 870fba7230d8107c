/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plug-in ABI: how a worker and a stack type work together.
 *
 * A plug-in is a shared object dmm-stack-TYPE.so that exports one symbol,
 * DMM_STACK_SYMBOL, a struct dmm_stack_ops. The worker loads it with dlopen(3),
 * checks @abi and @size, creates one instance and calls it from one thread, always
 * the same. The plug-in calls back through struct dmm_host_ops, from within those
 * calls only.
 *
 * Who owns what: the worker owns the port, the channel, the neighbours and a
 * struct dmm_conn for each connection; the plug-in owns the protocol and its own
 * state of the connection. Each keeps an opaque pointer of the other's. Addresses
 * and ports are in network order throughout.
 *
 * A connection's life. ->connect() begins it, and the plug-in then reports
 * connected(); or ->attach() does, for one that a peer opened to a listener. The
 * plug-in moves bytes between the rings and the wire. It ends it with
 * exactly one of failed(), timewait() and gone(), after which the worker's struct
 * dmm_conn is no more: the plug-in must not use the pointer, nor touch a ring or
 * a span that it got from it, while its own state may live on (TIME_WAIT). The
 * worker ends it earlier by ->abort(), upon which the plug-in reports nothing
 * more. Every flow that was added is deleted by the plug-in when it no longer
 * wants to see segments for it.
 *
 * A listener's life. ->listen() begins it, ->unlisten() ends it. A connection that
 * a peer opens to it is a child: the plug-in keeps it, with what it received, and
 * reports incoming() until ->attach() gives it a struct dmm_conn. The plug-in
 * offers it again after a second, two, four, eight, and resets it in the end.
 *
 * Growth: new members go to the end, and @size tells which are there. A change
 * that breaks either side changes DMM_STACK_ABI.
 */
#ifndef DMM_STACK_H
#define DMM_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/dmm.h>

#define DMM_STACK_ABI		1
#define DMM_STACK_SYMBOL	"dmm_stack"

struct dmm_conn;		/* the worker's connection */
struct dmm_host;		/* the worker */
struct dmm_stack;		/* the plug-in's instance */
struct dmm_stack_conn;		/* the plug-in's connection */
struct dmm_stack_listener;
struct rte_mbuf;
struct rte_mempool;

/**
 * struct dmm_tuple - a connection's two ends, IPv4 in the first word
 *
 * Of a listener, remote address and port are zero; a local address of zero is any
 * of the network namespace's.
 */
struct dmm_tuple {
	uint32_t laddr[4];
	uint32_t raddr[4];
	uint16_t lport;
	uint16_t rport;
	uint8_t family;
};

/**
 * struct dmm_stack_info - what people want to know of a connection
 * @srtt_us: smoothed round trip, microseconds
 * @cwnd: congestion window, bytes
 * @mss: segment size, bytes
 * @retrans: segments sent again
 */
struct dmm_stack_info {
	uint32_t srtt_us;
	uint32_t cwnd;
	uint32_t mss;
	uint32_t retrans;
};

/**
 * struct dmm_stack_icmp - an ICMP or ICMPv6 error about a segment of ours
 * @tuple: the segment's ends, ours as the local one
 * @seq: its sequence number, host order; to be found under way
 * @error: what Linux would make of it, positive, one of those of struct dmm_event;
 *	EMSGSIZE, the segment is too big
 * @mtu: for EMSGSIZE, what would fit, bytes from the IP header on
 */
struct dmm_stack_icmp {
	struct dmm_tuple tuple;
	uint32_t seq;
	int error;
	uint32_t mtu;
};

/**
 * struct dmm_host_ops - what the worker offers
 * @abi: DMM_STACK_ABI
 * @size: sizeof(struct dmm_host_ops)
 *
 * Of the connection:
 *
 * @connected: the handshake is done.
 * @rx_put: copy @len in-sequence bytes into the receive ring. Returns how many
 *	fitted (all of them, while the plug-in's window keeps within what
 *	@rx_freed gave back), or -EPROTO when the client broke the ring's rules:
 *	the plug-in then aborts and reports failed().
 * @rx_freed: bytes that the client took from the receive ring since the last
 *	call, or -EPROTO.
 * @rx_arm: ask for ->rx_room() when the client took @bytes more. Returns true if
 *	that is so already.
 * @tx_peek: bytes that wait in the transmit ring at @off from the first that is
 *	not acknowledged, contiguous at *@span; 0 for none; -EPROTO.
 * @tx_acked: the peer has acknowledged the first @len bytes; their space in the
 *	ring goes back to the client.
 * @tx_arm: ask for ->tx_ready() when the client adds to the transmit ring.
 *	Returns true if it has added already.
 * @tx_used: bytes in the transmit ring, those not acknowledged included; -EPROTO.
 *	*@more: the client said that more follows the last of them. -EAGAIN: there
 *	are some for which ->options() must come first, and will.
 * @tx_sent: the first @len bytes of the transmit ring have left; for people.
 * @fin: the peer's FIN; nothing more will be put.
 * @fin_acked: the peer has acknowledged our FIN.
 * @failed: refused, reset, timed out: @error as in struct dmm_event. Ends.
 * @timewait: the connection is in TIME_WAIT. Ends.
 * @gone: closed in any other way. Ends.
 * @info: the numbers for people, now and then.
 *
 * Of the listener:
 *
 * @incoming: a child of it, copied. Returns false when the client has no room to
 *	hear of it now: to be tried again soon.
 *
 * Of the wire:
 *
 * @output: send an IP packet. @m begins with the IP header, is one segment and
 *	has RTE_PKTMBUF_HEADROOM in front; it is the worker's from now on. The next
 *	hop and the link header are the worker's business.
 * @flow_add: have segments of this connection steered to us, before the first
 *	segment leaves; or, of a listener, SYNs to its local address, as long as it
 *	is one. A listener's may be added more than once. -ENOSPC and the like when
 *	the map is full.
 * @flow_del: no more; as often as added.
 *
 * Others:
 *
 * @now_ms, @now_us: a monotonic clock; the first is cheap and as coarse as a tick.
 * @pool: where mbufs come from, with DMM_STACK_MBUF_PRIV bytes of private area
 *	for the plug-in in each.
 * @mtu: of the device, bytes from the IP header on.
 * @log: a line for the log, without a newline.
 */
struct dmm_host_ops {
	uint32_t abi;
	uint32_t size;

	void (*connected)(struct dmm_conn *conn);
	int (*rx_put)(struct dmm_conn *conn, const void *data, uint32_t len);
	int (*rx_freed)(struct dmm_conn *conn);
	bool (*rx_arm)(struct dmm_conn *conn, uint32_t bytes);
	int (*tx_peek)(struct dmm_conn *conn, uint32_t off, const void **span);
	void (*tx_acked)(struct dmm_conn *conn, uint32_t len);
	bool (*tx_arm)(struct dmm_conn *conn);
	int (*tx_used)(struct dmm_conn *conn, bool *more);
	void (*tx_sent)(struct dmm_conn *conn, uint32_t len);
	void (*fin)(struct dmm_conn *conn);
	void (*fin_acked)(struct dmm_conn *conn);
	void (*failed)(struct dmm_conn *conn, int error);
	void (*timewait)(struct dmm_conn *conn);
	void (*gone)(struct dmm_conn *conn);
	void (*info)(struct dmm_conn *conn, const struct dmm_stack_info *info);

	bool (*incoming)(struct dmm_conn *listener,
			 const struct dmm_ev_incoming *incoming);

	void (*output)(struct dmm_host *host, struct rte_mbuf *m,
		       uint8_t family, const void *daddr);
	int (*flow_add)(struct dmm_host *host, const struct dmm_tuple *tuple);
	void (*flow_del)(struct dmm_host *host, const struct dmm_tuple *tuple);

	uint32_t (*now_ms)(struct dmm_host *host);
	uint64_t (*now_us)(struct dmm_host *host);
	struct rte_mempool *(*pool)(struct dmm_host *host);
	uint16_t (*mtu)(struct dmm_host *host);
	void (*log)(struct dmm_host *host, const char *fmt, ...)
		__attribute__((format(printf, 2, 3)));
};

#define DMM_STACK_MBUF_PRIV	128

/**
 * struct dmm_stack_stats - counters of an instance
 * @conns: connections that have state now, TIME_WAIT included
 * @conns_total: connections begun, by us or a peer
 * @children: those of them that peers began
 * @waiting: children now that no client has attached
 * @offers: times that a child was offered
 * @unclaimed: children that no client attached, and that were reset
 * @backlog_drop: SYNs dropped because the listener's backlog was full
 * @no_listener: SYNs for an address and port that nobody listens on any more
 * @icmp_bad: ICMP errors for no segment under way
 * @icmp_soft: ICMP errors that an established connection survived
 * @icmp_mtu: times that a path's MTU was found to be smaller
 * @segs_in: segments taken
 * @segs_out: segments sent
 * @retrans: of which sent again
 * @bad_csum: segments dropped for a wrong checksum
 * @bad_segs: segments dropped as malformed or beyond the window
 * @no_mbuf: segments not sent for lack of an mbuf
 */
struct dmm_stack_stats {
	uint64_t conns;
	uint64_t conns_total;
	uint64_t children;
	uint64_t waiting;
	uint64_t offers;
	uint64_t unclaimed;
	uint64_t backlog_drop;
	uint64_t no_listener;
	uint64_t icmp_bad;
	uint64_t icmp_soft;
	uint64_t icmp_mtu;
	uint64_t segs_in;
	uint64_t segs_out;
	uint64_t retrans;
	uint64_t bad_csum;
	uint64_t bad_segs;
	uint64_t no_mbuf;
};

/**
 * struct dmm_stack_ops - what the plug-in offers
 * @abi: DMM_STACK_ABI
 * @size: sizeof(struct dmm_stack_ops)
 * @type: its name, as in the file's
 * @tx_size, @rx_size: the rings' sizes that it is made for, bytes; the receive
 *	window is @rx_size, so no smaller ring is given
 *
 * @create: make the instance. @ops and @host outlive it. Only one instance is
 *	made in a process.
 * @destroy: end it; the worker has aborted all connections.
 * @connect: open a connection. @op is checked: the family known, ports and
 *	addresses not zero. The local end is the client's choice and unique, but for a TIME_WAIT
 *	of our own, which gives way. The result comes by connected() or failed(),
 *	possibly from within. Returns 0; or an error of struct dmm_event, negative,
 *	and nothing has begun.
 * @listen: begin a listener. @op is checked likewise. Several may have the same
 *	local end; children are spread over them. Returns 0 or a negative errno.
 *	NULL, as the next three, for a stack that only connects.
 * @relisten: its @backlog and @defer are as @op has them now. @backlog + 1 children
 *	may wait for the client.
 * @unlisten: end a listener; its children that are not attached are reset.
 * @attach: give a child to the client. @token is the one of incoming(), @listener
 *	its listener's. Returns 0; -ECONNRESET, there was such a child and it is
 *	gone; -EINVAL, there never was one, or it is another listener's.
 * @tx_ready: the client added to the transmit ring.
 * @rx_room: the client took from the receive ring.
 * @shutdown: send a FIN after all that is in the transmit ring.
 * @close: as @shutdown, and answer data that comes from now on by a RST.
 * @abort: send a RST and forget. Nothing is reported.
 * @options: the options as they now are.
 * @unreachable: the next hop toward @daddr does not answer: connections that are
 *	being opened to it fail with EHOSTUNREACH.
 * @icmp: an ICMP error; not trusted, to be checked against what is under way.
 * @input: packets that were steered to us, each beginning with the IP header; the
 *	plug-in owns and frees them.
 * @poll: run the timers that are due. Returns milliseconds until it wants to be
 *	called again, UINT32_MAX for never.
 * @stats: fill in the counters; may be called from another thread.
 */
struct dmm_stack_ops {
	uint32_t abi;
	uint32_t size;
	const char *type;
	uint32_t tx_size;
	uint32_t rx_size;

	int (*create)(struct dmm_stack **stackp, const struct dmm_host_ops *ops,
		      struct dmm_host *host);
	void (*destroy)(struct dmm_stack *stack);

	int (*connect)(struct dmm_stack *stack, struct dmm_conn *conn,
		       const struct dmm_op_connect *op,
		       struct dmm_stack_conn **scp);
	int (*listen)(struct dmm_stack *stack, struct dmm_conn *listener,
		      const struct dmm_op_listen *op,
		      struct dmm_stack_listener **slp);
	void (*relisten)(struct dmm_stack_listener *sl,
			 const struct dmm_op_listen *op);
	void (*unlisten)(struct dmm_stack_listener *sl);
	int (*attach)(struct dmm_stack *stack, uint64_t token,
		      struct dmm_conn *listener, struct dmm_conn *conn,
		      struct dmm_stack_conn **scp);

	void (*tx_ready)(struct dmm_stack_conn *sc);
	void (*rx_room)(struct dmm_stack_conn *sc);
	void (*shutdown)(struct dmm_stack_conn *sc);
	void (*close)(struct dmm_stack_conn *sc);
	void (*abort)(struct dmm_stack_conn *sc);
	void (*options)(struct dmm_stack_conn *sc,
			const struct dmm_op_options *opts);

	void (*unreachable)(struct dmm_stack *stack, uint8_t family,
			    const void *daddr);
	void (*icmp)(struct dmm_stack *stack,
		     const struct dmm_stack_icmp *icmp);
	void (*input)(struct dmm_stack *stack, struct rte_mbuf **pkts,
		      unsigned int n);
	uint32_t (*poll)(struct dmm_stack *stack);
	void (*stats)(const struct dmm_stack *stack,
		      struct dmm_stack_stats *stats);
};

#endif /* DMM_STACK_H */
