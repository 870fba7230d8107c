/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire as the peer's device sees it: a packet socket in the peer's netns. What
 * comes in there left our stack, whichever that is.
 */
#ifndef SOCK_WIRE_H
#define SOCK_WIRE_H

#include "rig.h"

#define SEG_FIN	0x01
#define SEG_SYN	0x02
#define SEG_RST	0x04
#define SEG_PSH	0x08
#define SEG_ACK	0x10
#define SEG_URG	0x20

/**
 * struct seg - a TCP segment
 * @ours: we sent it, the peer otherwise
 * @flags: SEG_*
 * @tos: type of service or traffic class
 * @ttl: time to live or hop limit
 * @sport, @dport: host order
 * @len: bytes of payload
 * @seq, @ack, @win: as in the header
 * @mss: the option, 0 without
 */
struct seg {
	bool ours;
	uint8_t flags;
	uint8_t tos;
	uint8_t ttl;
	uint16_t sport;
	uint16_t dport;
	uint16_t mss;
	uint32_t win;
	uint32_t seq;
	uint32_t ack;
	uint32_t len;
};

/* Begin to watch; the descriptor or -errno. */
int wire_open(const struct rig *r);

/* The next segment of @r's connections; 0, or -ETIME after @ms without one. */
int wire_next(int wire, const struct rig *r, struct seg *seg, int ms);

/* The next of our segments with all of @flags. */
int wire_find(int wire, const struct rig *r, uint8_t flags, struct seg *seg);

/* How many segments with payload we sent so far; @bytes of it. */
int wire_count(int wire, const struct rig *r, size_t *bytes);

#endif /* SOCK_WIRE_H */
