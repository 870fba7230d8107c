/* SPDX-License-Identifier: Apache-2.0 */
/* lwIP's configuration: TCP alone, raw API, one thread; IP is ip.c's. */
#ifndef DMM_LWIPOPTS_H
#define DMM_LWIPOPTS_H

#include "rings.h"

#define NO_SYS				1
#define SYS_LIGHTWEIGHT_PROT		0
#define LWIP_TIMERS			1

#define LWIP_IPV4			1
#define LWIP_IPV6			1
#define LWIP_IPV6_SCOPES		0	/* one device: ip.c says which */
#define LWIP_IPV6_MLD			0
#define LWIP_IPV6_REASS			0
#define LWIP_IPV6_FRAG			0
#define LWIP_IPV6_AUTOCONFIG		0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT	0
#define LWIP_IPV6_NUM_ADDRESSES		1
#define LWIP_ICMP6			0
#define LWIP_ND6_TCP_REACHABILITY_HINTS	0
#define LWIP_ND6_ALLOW_RA_UPDATES	0
#define LWIP_ND6_QUEUEING		0
#define IP_DEFAULT_TTL			64
#define LWIP_TCP			1
#define LWIP_UDP			0
#define LWIP_RAW			0
#define LWIP_ICMP			0
#define LWIP_ARP			0
#define LWIP_ETHERNET			0
#define LWIP_DHCP			0
#define LWIP_DNS			0
#define LWIP_NETCONN			0
#define LWIP_SOCKET			0
#define LWIP_NETIF_API			0
#define LWIP_HAVE_LOOPIF		0
#define LWIP_NETIF_LOOPBACK		0
#define LWIP_SINGLE_NETIF		1
#define IP_REASSEMBLY			0	/* fragments never get here */
#define IP_FRAG				0	/* segments fit the MTU */
#define LWIP_STATS			0

/*
 * libc's allocator instead of pools: their sizes are 16 bits wide, which is too
 * few segments for thousands of connections.
 */
#define MEM_LIBC_MALLOC			1
#define MEMP_MEM_MALLOC			1
#define MEM_ALIGNMENT			8
#define PBUF_POOL_SIZE			0
#define LWIP_SUPPORT_CUSTOM_PBUF	1	/* an mbuf is one */

/*
 * Room for the link header in front of what is built here is in the mbuf, not
 * in the pbuf.
 */
#define PBUF_LINK_HLEN			0
#define PBUF_LINK_ENCAPSULATION_HLEN	0

#define TCP_MSS				1460
#define LWIP_WND_SCALE			1
#define TCP_RCV_SCALE			3
#define TCP_WND				DMM_LWIP_RX_SIZE
#define TCP_SND_BUF			DMM_LWIP_TX_SIZE
/* two pbufs a segment, and small writes make small segments */
#define TCP_SND_QUEUELEN		16384
#define TCP_SNDLOWAT			(TCP_SND_BUF / 2)
#define TCP_OVERSIZE			0	/* nothing is copied */
#define TCP_QUEUE_OOSEQ			1
#define TCP_OOSEQ_MAX_PBUFS		512
#define LWIP_TCP_SACK_OUT		1
#define LWIP_TCP_TIMESTAMPS		0	/* 12 bytes a segment, no use here */
#define LWIP_TCP_KEEPALIVE		1
#define TCP_LISTEN_BACKLOG		0	/* of 8 bits: listen.c does it */
#define LWIP_TCP_PCB_NUM_EXT_ARGS	1	/* a PCB's birth and its end */

/*
 * A finer clock than lwIP's usual 250 ms: acknowledgements are delayed by 50 ms
 * (Linux: 40) and the retransmission timer counts in 100 ms.
 */
#define TCP_TMR_INTERVAL		50
#define TCP_MSL				30000UL	/* TIME_WAIT is twice that */
#define TCP_SYNMAXRTX			7
#define TCP_MAXRTX			12

/* Checksums are the glue's, in the same pass as the copy. */
#define LWIP_CHECKSUM_CTRL_PER_NETIF	1
#define CHECKSUM_GEN_IP			0
#define CHECKSUM_GEN_TCP		0
#define CHECKSUM_CHECK_IP		0
#define CHECKSUM_CHECK_TCP		0

#define LWIP_HOOK_FILENAME		"hooks.h"
#define LWIP_HOOK_TCP_ISN		dmm_lwip_isn
#define LWIP_HOOK_TCP_INPACKET_PCB	dmm_lwip_inpacket
#define LWIP_HOOK_TCP_OUT_ADD_TCPOPTS	dmm_lwip_outpacket

/* Where lwIP checks its pools' sizes: we have none. */
#define LWIP_DISABLE_TCP_SANITY_CHECKS	1

#endif /* DMM_LWIPOPTS_H */
