// SPDX-License-Identifier: Apache-2.0
/*
 * lwIP as a stack of a DMM worker: the instance, its timers, and what lwIP calls
 * out of its middle. Connections are in conn.c, packets in wire.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "lwip/init.h"
#include "lwip/sys.h"
#include "lwip/timeouts.h"

#include "hooks.h"
#include "lwip_stack.h"
#include "rings.h"

struct dmm_stack the_stack;

void dmm_lwip_panic(const char *msg, const char *file, int line)
{
	fprintf(stderr, "lwip: broken invariant: %s (%s:%d)\n", msg, file, line);
	abort();
}

u32_t sys_now(void)
{
	return the_stack.ops->now_ms(the_stack.host);
}

u32_t dmm_lwip_isn(const ip_addr_t *laddr, u16_t lport,
		   const ip_addr_t *raddr, u16_t rport)
{
	struct {
		ip_addr_t laddr, raddr;
		u16_t lport, rport;
	} tuple;

	memset(&tuple, 0, sizeof(tuple));	/* and what is between */
	ip_addr_copy(tuple.laddr, *laddr);
	ip_addr_copy(tuple.raddr, *raddr);
	tuple.lport = lport;
	tuple.rport = rport;
	/* a clock that ticks every 4 us, as RFC 6528 has it */
	return (u32_t)siphash(the_stack.key, &tuple, sizeof(tuple)) +
	       (u32_t)(the_stack.ops->now_us(the_stack.host) / 4);
}

/* ------------------------------------------------------------------------- */

static void pcb_link(struct tcp_pcb *pcb)
{
	struct tcp_pcb **list = pcb->state == TIME_WAIT ? &tcp_tw_pcbs :
							  &tcp_active_pcbs;

	pcb->next = *list;
	*list = pcb;
}

static void pcbs_unlink(struct tcp_pcb **list)
{
	struct tcp_pcb *pcb;

	while ((pcb = *list)) {
		*list = pcb->next;
		pcb->next = NULL;
	}
}

void lwip_enter(struct dmm_stack_conn *sc)
{
	if (!the_stack.entered++ && sc && sc->pcb)
		pcb_link(sc->pcb);
}

void lwip_leave(void)
{
	if (!--the_stack.entered) {
		pcbs_unlink(&tcp_active_pcbs);
		pcbs_unlink(&tcp_tw_pcbs);
	}
}

/* For timers: all connections. */
static void lwip_enter_all(void)
{
	struct dmm_stack_conn *sc;
	unsigned int i;

	lwip_enter(NULL);
	for (i = 0; i < 1U << CONN_HASH_BITS; i++)
		LIST_FOREACH(sc, &the_stack.conns[i], hash)
			if (sc->pcb)
				pcb_link(sc->pcb);
}

static err_t netif_init_cb(struct netif *netif)
{
	netif->name[0] = 'd';
	netif->name[1] = 'm';
	netif->mtu = the_stack.ops->mtu(the_stack.host);
	NETIF_SET_CHECKSUM_CTRL(netif, NETIF_CHECKSUM_DISABLE_ALL);
	return ERR_OK;
}

/* Packets do not come this way: wire_input() goes to TCP directly. */
static err_t netif_input_cb(struct pbuf *p, struct netif *netif)
{
	pbuf_free(p);
	return ERR_OK;
}

static int stack_create(struct dmm_stack **stackp,
			const struct dmm_host_ops *ops, struct dmm_host *host)
{
	struct dmm_stack *stack = &the_stack;

	if (ops->abi != DMM_STACK_ABI || ops->size < sizeof(*ops))
		return -EPROTO;
	if (stack->ops)
		return -EBUSY;
	if (getrandom(stack->key, sizeof(stack->key), 0) !=
	    sizeof(stack->key))
		return -EIO;
	stack->ops = ops;
	stack->host = host;
	STAILQ_INIT(&stack->dirty);

	lwip_init();
	stack->ext_id = tcp_ext_arg_alloc_id();
	listen_init(stack);
	if (!netif_add(&stack->netif, NULL, NULL, NULL, NULL, netif_init_cb,
		       netif_input_cb)) {
		stack->ops = NULL;
		return -ENOMEM;
	}
	netif_set_link_up(&stack->netif);
	netif_set_up(&stack->netif);
	*stackp = stack;
	return 0;
}

/* What is left are TIME_WAITs, which end with us. */
static void stack_destroy(struct dmm_stack *stack)
{
	lwip_enter_all();
	while (tcp_active_pcbs)
		tcp_abandon(tcp_active_pcbs, 0);
	while (tcp_tw_pcbs)
		tcp_abandon(tcp_tw_pcbs, 0);
	lwip_leave();
	conn_run_dirty();
	netif_remove(&stack->netif);
	stack->ops = NULL;
}

static uint32_t stack_poll(struct dmm_stack *stack)
{
	if (!sys_timeouts_sleeptime()) {
		lwip_enter_all();
		sys_check_timeouts();
		lwip_leave();
		conn_run_dirty();
		if (stack->offer_tick != tcp_ticks) {
			stack->offer_tick = tcp_ticks;
			listen_offer_again();
		}
	}
	return sys_timeouts_sleeptime();
}

static void stack_stats(const struct dmm_stack *stack,
			struct dmm_stack_stats *stats)
{
	const uint64_t *from = (const uint64_t *)&stack->stats;
	uint64_t *to = (uint64_t *)stats;
	size_t i;

	for (i = 0; i < sizeof(*stats) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

__attribute__((visibility("default")))
const struct dmm_stack_ops dmm_stack = {
	.abi = DMM_STACK_ABI,
	.size = sizeof(struct dmm_stack_ops),
	.type = "lwip",
	.tx_size = DMM_LWIP_TX_SIZE,
	.rx_size = DMM_LWIP_RX_SIZE,
	.create = stack_create,
	.destroy = stack_destroy,
	.connect = conn_connect,
	.listen = listen_open,
	.relisten = listen_change,
	.unlisten = listen_close,
	.attach = listen_attach,
	.tx_ready = conn_tx_ready,
	.rx_room = conn_rx_room,
	.shutdown = conn_shutdown,
	.close = conn_close,
	.abort = conn_abort,
	.options = conn_options,
	.unreachable = conn_unreachable,
	.icmp = conn_icmp,
	.input = wire_input,
	.poll = stack_poll,
	.stats = stack_stats,
};
