/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The arena as the kernel holds it: a memfd that a worker made, its head (header,
 * message rings, slot table) pinned and mapped at attach, its data pages pinned
 * one by one when a ring first touches them.
 *
 * The worker can write all of it at any time. Whoever reads from here loads once
 * and checks the copy.
 */
#ifndef DMM_KMOD_ARENA_H
#define DMM_KMOD_ARENA_H

#include <linux/dmm.h>
#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/uio.h>

struct sock;

/**
 * struct dmm_arena - a mapped arena
 * @file: the memfd, referenced
 * @geo: the header's geometry, copied once at attach; the only one ever used
 * @folios: what pins the head
 * @nfolios: how many
 * @base: the head, mapped contiguously
 * @hdr: the shared header
 * @ops: the op ring, this side produces
 * @events: the event ring, this side consumes
 * @slots: the slot table
 */
struct dmm_arena {
	struct file *file;
	struct dmm_arena_hdr geo;
	struct folio **folios;
	unsigned long nfolios;
	void *base;
	struct dmm_arena_hdr *hdr;
	struct dmm_op *ops;
	const struct dmm_event *events;
	struct dmm_slot *slots;
};

/**
 * struct dmm_ring - a socket's byte ring
 * @off: its offset in the arena
 * @size: bytes, a power of two
 * @pages: its pages, NULL where not touched yet; under the socket's lock
 * @npages: how many it has; likewise
 * @lock: between what pins a page and what gives the ring's memory back
 * @trim: it was let go and is to be given back, if nobody pins a page of it before;
 *	under @lock
 */
struct dmm_ring {
	u64 off;
	u32 size;
	struct page **pages;
	u32 npages;
	struct mutex lock;	/* pin or give back */
	bool trim;
};

struct dmm_arena *dmm_arena_get(int fd);
void dmm_arena_free(struct dmm_arena *arena);

int dmm_ring_init(struct dmm_ring *ring, u64 off, u32 size, gfp_t gfp);
void dmm_ring_free(struct dmm_ring *ring);
void dmm_ring_let_go(struct dmm_ring *ring);
void dmm_ring_punch(const struct dmm_arena *arena, const struct dmm_ring *ring);
void dmm_ring_trim(const struct dmm_arena *arena, struct dmm_ring *ring);
ssize_t dmm_ring_from_iter(const struct sock *sk, const struct dmm_arena *arena,
			   struct dmm_ring *ring, u32 idx, size_t len,
			   struct iov_iter *from);
ssize_t dmm_ring_to_iter(const struct sock *sk, const struct dmm_arena *arena,
			 struct dmm_ring *ring, u32 idx, size_t len,
			 struct iov_iter *to);

#endif /* DMM_KMOD_ARENA_H */
