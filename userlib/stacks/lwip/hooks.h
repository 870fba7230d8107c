/* SPDX-License-Identifier: Apache-2.0 */
/* What lwIP calls out of its middle; LWIP_HOOK_FILENAME. */
#ifndef DMM_LWIP_HOOKS_H
#define DMM_LWIP_HOOKS_H

#include "lwip/arch.h"
#include "lwip/err.h"
#include "lwip/ip_addr.h"

struct pbuf;
struct tcp_hdr;
struct tcp_pcb;

/* An initial sequence number that cannot be guessed (RFC 6528). */
u32_t dmm_lwip_isn(const ip_addr_t *laddr, u16_t lport,
		   const ip_addr_t *raddr, u16_t rport);

/* A segment for @pcb, before lwIP acts on it; not ERR_OK drops it. */
err_t dmm_lwip_inpacket(struct tcp_pcb *pcb, struct tcp_hdr *hdr, u16_t optlen,
			u16_t opt1len, u8_t *opt2, struct pbuf *p);

/* A segment of @pcb (NULL for a RST of no connection) that is about to leave. */
u32_t *dmm_lwip_outpacket(struct pbuf *p, struct tcp_hdr *hdr,
			  const struct tcp_pcb *pcb, u32_t *opts);

#endif /* DMM_LWIP_HOOKS_H */
