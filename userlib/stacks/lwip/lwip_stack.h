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
#define TICK_MS		TCP_SLOW_INTERVAL

/*
 * One connection. It lives from ->connect() until lwIP has freed the PCB, which
 * for TIME_WAIT is long after the worker heard the last of it.
 * @host: the worker's, NULL once the end is reported
 * @pcb: lwIP's, NULL once freed
 * @error: why it ended, positive; 0 for an orderly end
 * @queued: bytes of the transmit ring given to lwIP and not yet acknowledged
 * @unread: bytes put into the receive ring and not yet seen as taken
 * @dirty: on the instance's list of those to look after
 * @stalled_ms: since when nothing is acknowledged, 0 if all is well
 * @rtt_seq, @rtt_us: the segment being timed and when it left, 0 for none
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
	bool closing;
	bool fin_wait_2;
	bool room_armed;
	bool dirty;
	u32_t queued;
	u32_t unread;
	u32_t user_timeout;
	u32_t stalled_ms;
	u32_t info_tick;
	u32_t rtt_seq;
	uint64_t rtt_us;
	struct dmm_stack_info info;
};

/* All of lwIP's state is global, and so is the instance. */
struct dmm_stack {
	const struct dmm_host_ops *ops;
	struct dmm_host *host;
	struct netif netif;
	u8_t ext_id;
	uint64_t isn_key[2];
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
struct dmm_stack_conn *conn_find(const struct dmm_tuple *tuple);
void conn_set_dirty(struct dmm_stack_conn *sc);
void conn_run_dirty(void);

/* wire.c */
void wire_input(struct dmm_stack *stack, struct rte_mbuf **pkts,
		unsigned int n);
err_t wire_output(struct netif *netif, struct pbuf *p, const ip4_addr_t *dst);

/* siphash.c */
uint64_t siphash(const uint64_t key[2], const void *data, size_t len);

#endif /* DMM_LWIP_STACK_H */
