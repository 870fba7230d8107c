// SPDX-License-Identifier: Apache-2.0
/*
 * What lwIP's TCP wants of IP, in place of lwIP's own ip4.c, ip6.c and nd6.c.
 *
 * Addresses, routes and neighbours are the kernel's and the worker's: there is
 * one netif that everything leaves by, it has no address of its own, and TCP gives
 * each segment's both ends. Input does not come this way: wire_input() goes to TCP
 * directly.
 */
#include <netinet/in.h>

#include "lwip/ip.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"
#include "lwip/nd6.h"

#include "lwip_stack.h"

struct netif *ip4_route(const ip4_addr_t *dst)
{
	return &the_stack.netif;
}

struct netif *ip6_route(const ip6_addr_t *src, const ip6_addr_t *dst)
{
	return &the_stack.netif;
}

/* Never asked: a PCB has its local address from the start. */
const ip_addr_t *ip6_select_source_address(struct netif *netif,
					   const ip6_addr_t *dst)
{
	return NULL;
}

err_t ip4_output_if(struct pbuf *p, const ip4_addr_t *src,
		    const ip4_addr_t *dst, u8_t ttl, u8_t tos, u8_t proto,
		    struct netif *netif)
{
	return wire_output(p, AF_INET, src, dst, ttl, tos);
}

err_t ip6_output_if(struct pbuf *p, const ip6_addr_t *src,
		    const ip6_addr_t *dst, u8_t hl, u8_t tc, u8_t nexth,
		    struct netif *netif)
{
	return wire_output(p, AF_INET6, src->addr, dst->addr, hl, tc);
}

err_t ip4_input(struct pbuf *p, struct netif *netif)
{
	pbuf_free(p);
	return ERR_OK;
}

err_t ip6_input(struct pbuf *p, struct netif *netif)
{
	pbuf_free(p);
	return ERR_OK;
}

u16_t nd6_get_destination_mtu(const ip6_addr_t *dst, struct netif *netif)
{
	return the_stack.netif.mtu;
}

void nd6_tmr(void)
{
}

void nd6_restart_netif(struct netif *netif)
{
}

void nd6_cleanup_netif(struct netif *netif)
{
}
