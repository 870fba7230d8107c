// SPDX-License-Identifier: Apache-2.0
/* SipHash-2-4 (Aumasson, Bernstein 2012), for sequence numbers and the hash. */
#include <string.h>

#include "lwip_stack.h"

static uint64_t rotl(uint64_t v, int n)
{
	return v << n | v >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	sip_round(v);
	v[0] ^= word;
}

uint64_t siphash(const uint64_t key[2], const void *data, size_t len)
{
	uint64_t v[4] = {
		key[0] ^ 0x736f6d6570736575ULL, key[1] ^ 0x646f72616e646f6dULL,
		key[0] ^ 0x6c7967656e657261ULL, key[1] ^ 0x7465646279746573ULL,
	};
	const uint8_t *from = data;
	uint64_t word;
	size_t left;

	for (left = len; left >= sizeof(word); left -= sizeof(word)) {
		memcpy(&word, from, sizeof(word));
		sip_word(v, word);
		from += sizeof(word);
	}
	word = (uint64_t)len << 56;
	while (left--)
		word |= (uint64_t)from[left] << (8 * left);
	sip_word(v, word);
	v[2] ^= 0xff;
	for (left = 0; left < 4; left++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
