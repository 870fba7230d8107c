// SPDX-License-Identifier: Apache-2.0
/*
 * Packets: from mbufs into lwIP's TCP without a copy, and out of it into mbufs.
 *
 * lwIP's IP layer is passed by on input: it knows one local address per netif,
 * and a device may have many. The worker is given only segments of flows that we
 * added, so what is left of it is checks, which are here.
 */
#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "lwip/ip.h"
#include "lwip/prot/tcp.h"

#include "hooks.h"
#include "lwip_stack.h"

#define IP4_MIN		20
#define TCP_MIN		20
/* With fewer mbufs than this left, nothing is kept out of order. */
#define POOL_LOW	2048

/* An mbuf as a pbuf; in the mbuf's private area. */
struct mbuf_pbuf {
	struct pbuf_custom custom;
	struct rte_mbuf *m;
};

static_assert(sizeof(struct mbuf_pbuf) <= DMM_STACK_MBUF_PRIV,
	      "the private area of an mbuf is too small");

static void mbuf_pbuf_free(struct pbuf *p)
{
	struct mbuf_pbuf *mp = (struct mbuf_pbuf *)p;

	rte_pktmbuf_free(mp->m);
}

/*
 * The one's complement sum of @len bytes at any address, not folded. Eight bytes
 * a step, in two sums that do not wait for each other.
 */
static uint64_t sum_bytes(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *p = data;
	uint64_t other = 0, a, b;
	uint32_t w;
	uint16_t h;

	for (; len >= 16; len -= 16, p += 16) {
		memcpy(&a, p, 8);
		memcpy(&b, p + 8, 8);
		sum += (a & 0xffffffff) + (a >> 32);
		other += (b & 0xffffffff) + (b >> 32);
	}
	sum += other;
	for (; len >= 4; len -= 4, p += 4) {
		memcpy(&w, p, 4);
		sum += w;
	}
	if (len >= 2) {
		memcpy(&h, p, 2);
		sum += h;
		len -= 2;
		p += 2;
	}
	if (len) {
		h = 0;
		memcpy(&h, p, 1);
		sum += h;
	}
	return sum;
}

static uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint64_t sum_pseudo(const struct ip_hdr *ip, uint16_t l4len)
{
	return (uint64_t)ip->src.addr + ip->dest.addr + htons(IPPROTO_TCP) +
	       htons(l4len);
}

/*
 * A device without checksum offload of its own (veth) passes on what its sender
 * left unfinished: the field then holds the bare sum of the pseudo header, and
 * there was no wire that could have damaged the segment.
 */
static bool tcp_csum_ok(const struct ip_hdr *ip, const struct tcp_hdr *tcp,
			uint16_t l4len)
{
	uint64_t pseudo = sum_pseudo(ip, l4len);

	return tcp->chksum == fold(pseudo) ||
	       fold(sum_bytes(tcp, l4len, pseudo)) == 0xffff;
}

/* The TCP segment in @m, checked; NULL if it is not a good one. */
static struct tcp_hdr *segment_parse(struct dmm_stack *stack,
				     struct rte_mbuf *m, struct ip_hdr **ipp,
				     uint16_t *l4len)
{
	struct ip_hdr *ip = rte_pktmbuf_mtod(m, struct ip_hdr *);
	uint16_t len = m->data_len, hlen, tot;
	struct tcp_hdr *tcp;

	if (m->nb_segs != 1 || len < IP4_MIN || IPH_V(ip) != 4)
		goto err_bad;
	hlen = IPH_HL_BYTES(ip);
	tot = ntohs(IPH_LEN(ip));
	if (hlen < IP4_MIN || tot > len || tot < hlen + TCP_MIN ||
	    IPH_PROTO(ip) != IPPROTO_TCP ||
	    IPH_OFFSET(ip) & htons(IP_OFFMASK | IP_MF))
		goto err_bad;
	tcp = (struct tcp_hdr *)((uint8_t *)ip + hlen);
	if (TCPH_HDRLEN_BYTES(tcp) < TCP_MIN ||
	    TCPH_HDRLEN_BYTES(tcp) > tot - hlen)
		goto err_bad;
	if (fold(sum_bytes(ip, hlen, 0)) != 0xffff ||
	    !tcp_csum_ok(ip, tcp, tot - hlen)) {
		count(&stack->stats.bad_csum, 1);
		return NULL;
	}
	*ipp = ip;
	*l4len = tot - hlen;
	return tcp;

err_bad:
	count(&stack->stats.bad_segs, 1);
	return NULL;
}

/* One packet; its mbuf is lwIP's or freed. */
static void segment_input(struct dmm_stack *stack, struct rte_mbuf *m)
{
	struct mbuf_pbuf *mp = rte_mbuf_to_priv(m);
	struct dmm_tuple tuple = { .family = AF_INET };
	struct dmm_stack_conn *sc;
	struct tcp_hdr *tcp;
	struct ip_hdr *ip;
	uint16_t l4len;
	struct pbuf *p;

	tcp = segment_parse(stack, m, &ip, &l4len);
	if (!tcp) {
		rte_pktmbuf_free(m);
		return;
	}
	tuple.laddr[0] = ip->dest.addr;
	tuple.raddr[0] = ip->src.addr;
	tuple.lport = tcp->dest;
	tuple.rport = tcp->src;
	sc = conn_find(&tuple);
	if (!sc || !sc->pcb) {
		/* gone while this was on its way: not ours to answer */
		count(&stack->stats.bad_segs, 1);
		rte_pktmbuf_free(m);
		return;
	}
	count(&stack->stats.segs_in, 1);
	conn_set_dirty(sc);

	mp->m = m;
	mp->custom.custom_free_function = mbuf_pbuf_free;
	p = pbuf_alloced_custom(PBUF_RAW, l4len, PBUF_REF, &mp->custom, tcp,
				l4len);
	if (!p) {
		rte_pktmbuf_free(m);
		return;
	}
	ip_data.current_netif = &stack->netif;
	ip_data.current_input_netif = &stack->netif;
	ip_data.current_ip4_header = ip;
	ip_data.current_ip_header_tot_len = IPH_HL_BYTES(ip);
	ip_data.current_iphdr_src.addr = ip->src.addr;
	ip_data.current_iphdr_dest.addr = ip->dest.addr;
	tcp_input(p, &stack->netif);
}

void wire_input(struct dmm_stack *stack, struct rte_mbuf **pkts, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		segment_input(stack, pkts[i]);
	/* what the whole batch acknowledged is refilled in one go */
	conn_run_dirty();
}

/*
 * lwIP keeps out-of-order segments without looking at the window's end when it
 * puts them before others; what is beyond is dropped here, so that the receive
 * ring always has room for what becomes in-sequence.
 */
err_t dmm_lwip_inpacket(struct tcp_pcb *pcb, struct tcp_hdr *hdr, u16_t optlen,
			u16_t opt1len, u8_t *opt2, struct pbuf *p)
{
	struct dmm_stack *stack = &the_stack;
	u32_t len = p->tot_len + !!(TCPH_FLAGS(hdr) & TCP_FIN);

	if (pcb->state == TIME_WAIT || pcb->state == SYN_SENT || !len ||
	    TCP_SEQ_LEQ(hdr->seqno, pcb->rcv_nxt))
		return ERR_OK;
	if (TCP_SEQ_LEQ(hdr->seqno + len, pcb->rcv_nxt + pcb->rcv_wnd) &&
	    rte_mempool_avail_count(stack->ops->pool(stack->host)) > POOL_LOW)
		return ERR_OK;
	count(&stack->stats.bad_segs, 1);
	tcp_ack_now(pcb);
	tcp_output(pcb);
	return ERR_VAL;
}

u32_t *dmm_lwip_outpacket(struct pbuf *p, struct tcp_hdr *hdr,
			  const struct tcp_pcb *pcb, u32_t *opts)
{
	struct dmm_stack *stack = &the_stack;
	struct dmm_stack_conn *sc;
	u32_t seq = ntohl(hdr->seqno);
	u32_t len = p->tot_len - TCPH_HDRLEN_BYTES(hdr);

	if (TCPH_FLAGS(hdr) & (TCP_SYN | TCP_FIN))
		len++;
	if (!pcb || !len)
		return opts;
	sc = tcp_ext_arg_get(pcb, stack->ext_id);
	if (!sc)
		return opts;
	/* lwIP gives the first SYN the number before snd_nxt */
	if (TCP_SEQ_LT(seq, pcb->snd_nxt) &&
	    (pcb->state != SYN_SENT || pcb->nrtx)) {
		sc->info.retrans++;
		sc->rtt_us = 0;		/* Karn: do not time what is sent twice */
		count(&stack->stats.retrans, 1);
	} else if (!sc->rtt_us) {
		sc->rtt_seq = seq + len;
		sc->rtt_us = stack->ops->now_us(stack->host);
	}
	return opts;
}

/* netif->output: @p begins with the IP header and stays lwIP's. */
err_t wire_output(struct netif *netif, struct pbuf *p, const ip4_addr_t *dst)
{
	struct dmm_stack *stack = &the_stack;
	struct rte_mbuf *m;
	struct tcp_hdr *tcp;
	struct ip_hdr *ip;
	uint16_t l4len;
	char *to;

	m = rte_pktmbuf_alloc(stack->ops->pool(stack->host));
	if (!m) {
		count(&stack->stats.no_mbuf, 1);
		return ERR_MEM;
	}
	to = rte_pktmbuf_append(m, p->tot_len);
	if (!to) {
		rte_pktmbuf_free(m);
		return ERR_BUF;
	}
	ip = (struct ip_hdr *)to;
	for (; p; p = p->next) {
		memcpy(to, p->payload, p->len);
		to += p->len;
		if (p->tot_len == p->len)
			break;
	}

	/* of the copy: a client may change its ring while we read it */
	l4len = m->data_len - IP4_MIN;
	tcp = (struct tcp_hdr *)(ip + 1);
	IPH_OFFSET_SET(ip, htons(IP_DF));
	ip->_chksum = 0;
	ip->_chksum = ~fold(sum_bytes(ip, IP4_MIN, 0));
	tcp->chksum = 0;
	tcp->chksum = ~fold(sum_bytes(tcp, l4len, sum_pseudo(ip, l4len)));
	count(&stack->stats.segs_out, 1);
	stack->ops->output(stack->host, m, AF_INET, &dst->addr);
	return ERR_OK;
}
