/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the lwip plug-in: the instance and its connections. */
#ifndef DMM_LWIP_STACK_H
#define DMM_LWIP_STACK_H

#include <sys/queue.h>

#include <dmm/stack.h>

#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"

#define CONN_HASH_BITS	14
#define LISTEN_HASH	256
#define TOKEN_HASH	1024
#define TICK_MS		TCP_SLOW_INTERVAL
#define SYN_RTO_MS	1000

/*
 * A listener of the client's. lwIP knows none of them: it has one listening PCB,
 * which is shown to it for a SYN that is one of ours.
 * @host: the worker's
 * @local: address (zero for any), port and family
 * @defer_ms: for how long a child is not offered until it has received something
 * @nwaiting: of @children, which nobody has attached yet, in whatever state
 */
struct dmm_stack_listener {
	LIST_ENTRY(dmm_stack_listener) hash;
	struct dmm_conn *host;
	struct dmm_tuple local;
	bool v6only;
	u32_t backlog;
	u32_t defer_ms;
	u32_t nwaiting;
	LIST_HEAD(, dmm_stack_conn) children;
};

/*
 * One connection. It lives from ->connect() or a SYN until lwIP has freed the PCB,
 * which for TIME_WAIT is long after the worker heard the last of it.
 * @host: the worker's, NULL before a child is attached and once the end is reported
 * @pcb: lwIP's, NULL once freed
 * @error: why it ended, positive; 0 for an orderly end
 * @queued: bytes of the transmit ring given to lwIP and not yet acknowledged
 * @unread: bytes put into the receive ring and not yet seen as taken
 * @quickack: no acknowledgement is held back
 * @dirty: on the instance's list of those to look after
 * @stalled_ms: since when nothing is acknowledged, 0 if all is well
 * @rcv_limit: the greatest window that the client wants, bytes, 0 for any
 * @withheld: bytes that it took and that were not added to the window again
 * @held_ms: since when something is kept back because more follows, 0 for nothing
 * @small_end: where the last segment that was not full ended
 * @fin_timeout: how long FIN_WAIT_2 lasts, milliseconds; 0 for the default
 * @fin_wait_ms: since when it does, after ->close()
 * @rtt_seq, @rtt_us: the segment being timed and when it left, 0 for none
 * @rtt_told: the client was told of a round trip
 * @recovering: of a loss; @recover: until this is acknowledged
 * @path_mss: what the path takes, 0 for not limited
 *
 * A child that is not attached, @listener being set:
 * @token: its name toward the client, 0 before the handshake is done
 * @offers, @offered_ms: how often it was offered and when last
 * @early, @early_fin: what came, and whether that was all
 * @syn_tos, @syn_ttl: of its SYN
 */
struct dmm_stack_conn {
	LIST_ENTRY(dmm_stack_conn) hash;
	STAILQ_ENTRY(dmm_stack_conn) next_dirty;
	struct dmm_conn *host;
	struct tcp_pcb *pcb;
	struct dmm_tuple tuple;
	int error;
	bool connected;
	bool fin_wanted;
	bool fin_sent;
	bool fin_acked;
	bool closing;
	bool nodelay;
	bool corked;
	bool quickack;
	bool room_armed;
	bool dirty;
	u32_t queued;
	u32_t unread;
	u32_t user_timeout;
	u32_t stalled_ms;
	u32_t rcv_limit;
	u32_t withheld;
	u32_t held_ms;
	u32_t small_end;
	u32_t fin_timeout;
	u32_t fin_wait_ms;
	u32_t info_tick;
	bool rtt_told;
	u32_t rtt_seq;
	uint64_t rtt_us;
	bool recovering;
	u32_t recover;
	u16_t path_mss;
	struct dmm_stack_info info;

	struct dmm_stack_listener *listener;
	LIST_ENTRY(dmm_stack_conn) sibling;
	LIST_ENTRY(dmm_stack_conn) by_token;
	TAILQ_ENTRY(dmm_stack_conn) next_offered;
	uint64_t token;
	unsigned int offers;
	u32_t offered_ms;
	struct pbuf *early;
	bool early_fin;
	u8_t syn_tos;
	u8_t syn_ttl;
};

/*
 * All of lwIP's state is global, and so is the instance.
 * @key: for sequence numbers and hashes
 * @entered: lwIP's lists of PCBs are in use; see lwip_enter()
 * @lpcb: lwIP's one listening PCB
 * @offered: children that wait for the client
 * @last_token, @first_token: the last one given, and the one before the first
 */
struct dmm_stack {
	const struct dmm_host_ops *ops;
	struct dmm_host *host;
	struct netif netif;
	u8_t ext_id;
	uint64_t key[2];
	unsigned int entered;
	u32_t offer_tick;
	struct tcp_pcb_listen lpcb;
	uint64_t first_token;
	uint64_t last_token;
	TAILQ_HEAD(, dmm_stack_conn) offered;
	LIST_HEAD(, dmm_stack_conn) tokens[TOKEN_HASH];
	LIST_HEAD(, dmm_stack_listener) listeners[LISTEN_HASH];
	LIST_HEAD(, dmm_stack_conn) conns[1 << CONN_HASH_BITS];
	STAILQ_HEAD(, dmm_stack_conn) dirty;
	struct dmm_stack_stats stats;
};

extern struct dmm_stack the_stack;

/* Counters have one writer and are read by other threads. */
static inline void count(uint64_t *counter, int64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/*
 * stack.c
 *
 * lwIP looks PCBs up by walking lists of all of them. We find them by a hash, so
 * the lists are kept empty and lwip_enter() puts there only the connection that
 * lwIP is about to work on (NULL for none); lwip_leave() takes it, and what was
 * made meanwhile, off again. Timers are given all of them. Calls that never touch
 * the lists (tcp_write(), tcp_output(), tcp_recved() ...) need neither.
 */
void lwip_enter(struct dmm_stack_conn *sc);
void lwip_leave(void);

/* conn.c */
int conn_connect(struct dmm_stack *stack, struct dmm_conn *host,
		 const struct dmm_op_connect *op, struct dmm_stack_conn **scp);
void conn_tx_ready(struct dmm_stack_conn *sc);
void conn_rx_room(struct dmm_stack_conn *sc);
void conn_shutdown(struct dmm_stack_conn *sc);
void conn_close(struct dmm_stack_conn *sc);
void conn_abort(struct dmm_stack_conn *sc);
void conn_options(struct dmm_stack_conn *sc, const struct dmm_op_options *opts);
void conn_unreachable(struct dmm_stack *stack, uint8_t family,
		      const void *daddr);
void conn_icmp(struct dmm_stack *stack, const struct dmm_stack_icmp *icmp);
struct dmm_stack_conn *conn_find(const struct dmm_tuple *tuple);
struct dmm_stack_conn *conn_new(const struct dmm_tuple *tuple);
void conn_own_pcb(struct dmm_stack_conn *sc, struct tcp_pcb *pcb);
void conn_abandon(struct dmm_stack_conn *sc, bool reset);
void conn_begin(struct dmm_stack_conn *sc, struct dmm_conn *host);
void conn_free(struct dmm_stack_conn *sc);
void conn_destroyed(u8_t id, void *data);
void conn_set_dirty(struct dmm_stack_conn *sc);
void conn_run_dirty(void);

/* listen.c */
void listen_init(struct dmm_stack *stack);
int listen_open(struct dmm_stack *stack, struct dmm_conn *host,
		const struct dmm_op_listen *op, struct dmm_stack_listener **slp);
void listen_change(struct dmm_stack_listener *sl,
		   const struct dmm_op_listen *op);
void listen_close(struct dmm_stack_listener *sl);
int listen_attach(struct dmm_stack *stack, uint64_t token,
		  struct dmm_conn *listener, struct dmm_conn *host,
		  struct dmm_stack_conn **scp);
struct dmm_stack_listener *listen_find(const struct dmm_tuple *tuple);
void listen_syn(struct dmm_stack_listener *sl, struct pbuf *p, u8_t tos,
		u8_t ttl);
void listen_offer_again(void);
void listen_forget(struct dmm_stack_conn *sc);
err_t listen_keep(struct dmm_stack_conn *sc, struct pbuf *p);

/* wire.c */
void wire_input(struct dmm_stack *stack, struct rte_mbuf **pkts,
		unsigned int n);
err_t wire_output(struct pbuf *p, uint8_t family, const void *src,
		  const void *dst, u8_t ttl, u8_t tos);
bool wire_memory_low(void);
void ip_set(ip_addr_t *ip, uint8_t family, const uint32_t *words);

/* siphash.c */
uint64_t siphash(const uint64_t key[2], const void *data, size_t len);

#endif /* DMM_LWIP_STACK_H */
