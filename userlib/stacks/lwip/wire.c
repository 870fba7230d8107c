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
#include "lwip/prot/ip6.h"
#include "lwip/prot/tcp.h"

#include "hooks.h"
#include "lwip_stack.h"

#define IP4_MIN		20
#define IP6_LEN		40
#define TCP_MIN		20
/* With fewer mbufs than this left, nothing is kept that can come again. */
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

/* Either family's pseudo header: the sum does not care how they are laid out. */
static uint64_t sum_pseudo(const void *addrs, size_t len, uint16_t l4len)
{
	return sum_bytes(addrs, len, htons(IPPROTO_TCP) + htons(l4len));
}

/*
 * A device without checksum offload of its own (veth) passes on what its sender
 * left unfinished: the field then holds the bare sum of the pseudo header, and
 * there was no wire that could have damaged the segment.
 */
static bool tcp_csum_ok(const struct tcp_hdr *tcp, uint64_t pseudo,
			uint16_t l4len)
{
	return tcp->chksum == fold(pseudo) ||
	       fold(sum_bytes(tcp, l4len, pseudo)) == 0xffff;
}

/*
 * A received segment, checked.
 * @pseudo: the pseudo header's sum
 */
struct segment {
	struct dmm_tuple tuple;
	void *ip;
	struct tcp_hdr *tcp;
	uint16_t iplen;
	uint16_t l4len;
	uint64_t pseudo;
	uint8_t tos;
	uint8_t ttl;
	bool ip_csum_ok;
};

static bool parse_ip4(struct segment *seg, uint16_t len)
{
	const struct ip_hdr *ip = seg->ip;
	uint16_t hlen, tot;

	if (len < IP4_MIN)
		return false;
	hlen = IPH_HL_BYTES(ip);
	tot = ntohs(IPH_LEN(ip));
	if (hlen < IP4_MIN || tot > len || tot < hlen + TCP_MIN ||
	    IPH_PROTO(ip) != IPPROTO_TCP ||
	    IPH_OFFSET(ip) & htons(IP_OFFMASK | IP_MF))
		return false;
	seg->iplen = hlen;
	seg->l4len = tot - hlen;
	seg->tos = IPH_TOS(ip);
	seg->ttl = IPH_TTL(ip);
	seg->tuple.family = AF_INET;
	seg->tuple.raddr[0] = ip->src.addr;
	seg->tuple.laddr[0] = ip->dest.addr;
	seg->pseudo = sum_pseudo(&ip->src, 8, seg->l4len);
	seg->ip_csum_ok = fold(sum_bytes(ip, hlen, 0)) == 0xffff;
	return true;
}

/* Without extension headers: such segments are the kernel's. */
static bool parse_ip6(struct segment *seg, uint16_t len)
{
	const struct ip6_hdr *ip6 = seg->ip;
	uint16_t plen;

	if (len < IP6_LEN)
		return false;
	plen = IP6H_PLEN(ip6);
	if (plen > len - IP6_LEN || plen < TCP_MIN ||
	    IP6H_NEXTH(ip6) != IPPROTO_TCP)
		return false;
	seg->iplen = IP6_LEN;
	seg->l4len = plen;
	seg->tos = IP6H_TC(ip6);
	seg->ttl = IP6H_HOPLIM(ip6);
	seg->tuple.family = AF_INET6;
	memcpy(seg->tuple.raddr, &ip6->src, 16);
	memcpy(seg->tuple.laddr, &ip6->dest, 16);
	seg->pseudo = sum_pseudo(&ip6->src, 32, plen);
	seg->ip_csum_ok = true;
	return true;
}

static bool segment_parse(struct dmm_stack *stack, struct rte_mbuf *m,
			  struct segment *seg)
{
	uint16_t len = m->data_len, hlen;
	bool ok = false;

	memset(&seg->tuple, 0, sizeof(seg->tuple));
	seg->ip = rte_pktmbuf_mtod(m, void *);
	if (m->nb_segs == 1 && len) {
		if (*(uint8_t *)seg->ip >> 4 == 4)
			ok = parse_ip4(seg, len);
		else if (*(uint8_t *)seg->ip >> 4 == 6)
			ok = parse_ip6(seg, len);
	}
	if (ok) {
		seg->tcp = (struct tcp_hdr *)((uint8_t *)seg->ip + seg->iplen);
		hlen = TCPH_HDRLEN_BYTES(seg->tcp);
		ok = hlen >= TCP_MIN && hlen <= seg->l4len;
	}
	if (!ok) {
		count(&stack->stats.bad_segs, 1);
		return false;
	}
	if (!seg->ip_csum_ok ||
	    !tcp_csum_ok(seg->tcp, seg->pseudo, seg->l4len)) {
		count(&stack->stats.bad_csum, 1);
		return false;
	}
	seg->tuple.lport = seg->tcp->dest;
	seg->tuple.rport = seg->tcp->src;
	return true;
}

void ip_set(ip_addr_t *ip, uint8_t family, const uint32_t *words)
{
	memset(ip, 0, sizeof(*ip));
	if (family == AF_INET) {
		IP_SET_TYPE(ip, IPADDR_TYPE_V4);
		ip_2_ip4(ip)->addr = words[0];
	} else {
		IP_SET_TYPE(ip, IPADDR_TYPE_V6);
		memcpy(ip_2_ip6(ip)->addr, words, 16);
	}
}

/* The segment as lwIP wants it, who it is from being in lwIP's globals. */
static struct pbuf *segment_pbuf(struct dmm_stack *stack, struct rte_mbuf *m,
				 const struct segment *seg)
{
	struct mbuf_pbuf *mp = rte_mbuf_to_priv(m);
	bool v6 = seg->tuple.family == AF_INET6;

	mp->m = m;
	mp->custom.custom_free_function = mbuf_pbuf_free;
	ip_data.current_netif = &stack->netif;
	ip_data.current_input_netif = &stack->netif;
	ip_data.current_ip4_header = v6 ? NULL : seg->ip;
	ip_data.current_ip6_header = v6 ? seg->ip : NULL;
	ip_data.current_ip_header_tot_len = seg->iplen;
	ip_set(&ip_data.current_iphdr_src, seg->tuple.family, seg->tuple.raddr);
	ip_set(&ip_data.current_iphdr_dest, seg->tuple.family,
	       seg->tuple.laddr);
	return pbuf_alloced_custom(PBUF_RAW, seg->l4len, PBUF_REF, &mp->custom,
				   seg->tcp, seg->l4len);
}

static bool is_syn(const struct tcp_hdr *tcp)
{
	return (TCPH_FLAGS(tcp) & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

/*
 * A SYN that opens a connection anew ends our TIME_WAIT, when its number is beyond
 * what the old one had (RFC 1122, 4.2.2.13; as Linux).
 */
static bool syn_ends_timewait(struct dmm_stack_conn *sc,
			      const struct segment *seg)
{
	return sc->pcb->state == TIME_WAIT && is_syn(seg->tcp) &&
	       TCP_SEQ_GT(ntohl(seg->tcp->seqno), sc->pcb->rcv_nxt);
}

/* One packet; its mbuf is lwIP's or freed. */
static void segment_input(struct dmm_stack *stack, struct rte_mbuf *m)
{
	struct dmm_stack_listener *sl = NULL;
	struct dmm_stack_conn *sc;
	struct segment seg;
	struct pbuf *p;

	if (!segment_parse(stack, m, &seg))
		goto drop;
	sc = conn_find(&seg.tuple);
	if (!sc || !sc->pcb || syn_ends_timewait(sc, &seg)) {
		if (is_syn(seg.tcp))
			sl = listen_find(&seg.tuple);
		if (!sl && (!sc || !sc->pcb)) {
			/* gone while this was on its way: not ours to answer */
			count(is_syn(seg.tcp) ? &stack->stats.no_listener :
						&stack->stats.bad_segs, 1);
			goto drop;
		}
	}
	if (sl && sc) {
		if (sc->pcb)
			conn_abandon(sc, false);
		conn_run_dirty();
	}
	count(&stack->stats.segs_in, 1);
	p = segment_pbuf(stack, m, &seg);
	if (!p)
		goto drop;
	if (sl) {
		listen_syn(sl, p, seg.tos, seg.ttl);
		return;
	}
	conn_set_dirty(sc);
	lwip_enter(sc);
	tcp_input(p, &stack->netif);
	lwip_leave();
	return;

drop:
	rte_pktmbuf_free(m);
}

void wire_input(struct dmm_stack *stack, struct rte_mbuf **pkts, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		segment_input(stack, pkts[i]);
	/* what the whole batch acknowledged is refilled in one go */
	conn_run_dirty();
}

bool wire_memory_low(void)
{
	struct dmm_stack *stack = &the_stack;

	return rte_mempool_avail_count(stack->ops->pool(stack->host)) <=
	       POOL_LOW;
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
	struct dmm_stack_conn *sc;

	if (pcb->state != LISTEN && pcb->flags & TF_INFR) {
		sc = tcp_ext_arg_get(pcb, stack->ext_id);
		if (sc && !sc->recovering) {
			sc->recovering = true;
			sc->recover = pcb->snd_nxt;
		}
	}
	if (pcb->state == LISTEN || pcb->state == TIME_WAIT ||
	    pcb->state == SYN_SENT || !len ||
	    TCP_SEQ_LEQ(hdr->seqno, pcb->rcv_nxt))
		return ERR_OK;
	if (TCP_SEQ_LEQ(hdr->seqno + len, pcb->rcv_nxt + pcb->rcv_wnd) &&
	    !wire_memory_low())
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
	bool small;

	small = len && pcb && len < pcb->mss;
	if (TCPH_FLAGS(hdr) & (TCP_SYN | TCP_FIN))
		len++;
	if (!pcb || !len)
		return opts;
	sc = tcp_ext_arg_get(pcb, stack->ext_id);
	if (!sc)
		return opts;
	if (small)
		sc->small_end = seq + len;
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

static void build_ip4(struct ip_hdr *ip, uint16_t len, const uint32_t *src,
		      const uint32_t *dst, u8_t ttl, u8_t tos)
{
	IPH_VHL_SET(ip, 4, IP4_MIN / 4);
	IPH_TOS_SET(ip, tos);
	IPH_LEN_SET(ip, htons(len));
	IPH_ID_SET(ip, 0);	/* never in pieces (RFC 6864) */
	IPH_OFFSET_SET(ip, htons(IP_DF));
	IPH_TTL_SET(ip, ttl);
	IPH_PROTO_SET(ip, IPPROTO_TCP);
	IPH_CHKSUM_SET(ip, 0);
	ip->src.addr = *src;
	ip->dest.addr = *dst;
	IPH_CHKSUM_SET(ip, ~fold(sum_bytes(ip, IP4_MIN, 0)));
}

static void build_ip6(struct ip6_hdr *ip6, uint16_t plen, const void *src,
		      const void *dst, u8_t hl, u8_t tc)
{
	IP6H_VTCFL_SET(ip6, 6, tc, 0);
	IP6H_PLEN_SET(ip6, plen);
	IP6H_NEXTH_SET(ip6, IPPROTO_TCP);
	IP6H_HOPLIM_SET(ip6, hl);
	memcpy(&ip6->src, src, 16);
	memcpy(&ip6->dest, dst, 16);
}

/* Send a segment: @p begins with the TCP header and stays lwIP's. */
err_t wire_output(struct pbuf *p, uint8_t family, const void *src,
		  const void *dst, u8_t ttl, u8_t tos)
{
	uint16_t iplen = family == AF_INET ? IP4_MIN : IP6_LEN;
	struct dmm_stack *stack = &the_stack;
	uint16_t l4len = p->tot_len;
	struct tcp_hdr *tcp;
	struct rte_mbuf *m;
	uint64_t pseudo;
	char *ip, *to;

	m = rte_pktmbuf_alloc(stack->ops->pool(stack->host));
	if (!m) {
		count(&stack->stats.no_mbuf, 1);
		return ERR_MEM;
	}
	ip = rte_pktmbuf_append(m, iplen + l4len);
	if (!ip) {
		rte_pktmbuf_free(m);
		return ERR_BUF;
	}
	tcp = (struct tcp_hdr *)(ip + iplen);
	for (to = (char *)tcp; p; p = p->next) {
		memcpy(to, p->payload, p->len);
		to += p->len;
		if (p->tot_len == p->len)
			break;
	}
	if (family == AF_INET) {
		build_ip4((struct ip_hdr *)ip, iplen + l4len, src, dst, ttl,
			  tos);
		pseudo = sum_pseudo(&((struct ip_hdr *)ip)->src, 8, l4len);
	} else {
		build_ip6((struct ip6_hdr *)ip, l4len, src, dst, ttl, tos);
		pseudo = sum_pseudo(&((struct ip6_hdr *)ip)->src, 32, l4len);
	}
	/* of the copy: a client may change its ring while we read it */
	tcp->chksum = 0;
	tcp->chksum = ~fold(sum_bytes(tcp, l4len, pseudo));
	count(&stack->stats.segs_out, 1);
	stack->ops->output(stack->host, m, family, dst);
	return ERR_OK;
}
